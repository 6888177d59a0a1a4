//! What a shard and the fleet tell each other. Typed here, so that the engine never sees Redis and
//! Redis never sees a shard.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::message::{Draft, Message, Page, Range};
use crate::store::RoomSettings;
use crate::ticket::Ticket;

/// A host's number, which its sockets' ids carry.
pub type HostId = u32;

/// What a shard tells the fleet, beside what its port makes of requests. Nothing of it is
/// acknowledged but [`Word::Recover`]; while Redis is away all but [`Word::Recover`] is dropped,
/// and what is state is mended by the rooms' repair ([`News::Roster`]).
#[derive(Debug)]
pub enum Word {
    /// A member of this host came, or changed what is known of it.
    Enter {
        /// The room's key.
        room: Arc<str>,
        /// The member's socket id.
        id: Box<str>,
        /// What other hosts need to know of it: a JSON object.
        member: Box<str>,
    },
    /// A member of this host is gone.
    Leave {
        /// The room's key.
        room: Arc<str>,
        /// The member's socket id.
        id: Box<str>,
    },
    /// To the room's members on other hosts; kept nowhere.
    Say {
        /// The room's key.
        room: Arc<str>,
        /// The engine's own words.
        words: Arc<[u8]>,
    },
    /// The room as people and tools see it in Redis (`room:<id>`): a JSON object.
    Show {
        /// The room's key.
        room: Arc<str>,
        /// The object.
        summary: Box<str>,
    },
    /// To another host. Where nobody hears it, [`News::Untold`] comes back.
    Tell {
        /// Which.
        host: HostId,
        /// Its shard; one that it does not have means its first.
        shard: u16,
        /// The engine's own words.
        words: Arc<[u8]>,
    },
    /// To sockets of all other servers that a cast reaches.
    Cast {
        /// Whom, and what.
        cast: Arc<Cast>,
        /// Whether Throng hosts hear it.
        to_hosts: bool,
        /// Whether Node servers hear it, if there are any (`SOCKETIO_ADAPTER`).
        to_nodes: bool,
    },
    /// The answer of one shard to a [`News::Cast`] that wants some.
    Answer {
        /// The cast's.
        request: u64,
        /// What this shard has to say.
        answer: CastAnswer,
    },
    /// A socket has come, or is gone: told only where [`Adapter`](super::Adapter) hears of sockets,
    /// and then also while Redis is away.
    Socket {
        /// In which namespace.
        namespace: Arc<str>,
        /// Its id.
        id: Box<str>,
        /// Whether it has come.
        is_open: bool,
    },
    /// What it takes to bring a socket back on any host; `None`: whichever socket of this host has
    /// it, it has ended for good ([`Word::Forget`] spares a newer one). Not heeded of a socket
    /// whose session this host has recovered for a newer one.
    Remember {
        /// The private id its client knows.
        pid: Box<str>,
        /// Its session.
        session: Option<Box<Session>>,
    },
    /// A socket has ended for good: its session goes, unless it is a newer socket's of this host,
    /// which a client may have under the same private id.
    Forget {
        /// The private id its client knows.
        pid: Box<str>,
        /// The socket's id ([`Session::sid`]).
        sid: Box<str>,
    },
    /// A session that was recovered, but whose client is gone: others may have it, as it was. Once
    /// the session has been remembered here, or changed by the host that it was on, this does
    /// nothing.
    Release {
        /// The private id that its client presented.
        pid: Box<str>,
        /// The session as [`News::Recovered`] has told it.
        session: Box<Session>,
    },
    /// Which of a room's messages this shard has passed to its members, in order.
    Trail {
        /// The shard.
        shard: u16,
        /// The position after each in the shard's log, the room's key, the message's `seq`; by
        /// rising position. With an empty key: nothing, but what was passed up to this position is
        /// in this or an earlier trail. The more often that is said, the fewer sessions are given
        /// up because their client may have read what no trail tells of.
        steps: Vec<(u64, Arc<str>, u64)>,
    },
    /// Bring back a session of another host. Answered with [`News::Recovered`].
    Recover {
        /// Comes back.
        ticket: Ticket,
        /// The private id that the client presents.
        pid: Box<str>,
        /// Up to which place it has read; `None`: it has read nothing.
        offset: Option<Offset>,
    },
    /// A user has a connection more or less here.
    User {
        /// The user id.
        id: Box<str>,
        /// Connections of it on this shard, now.
        connections: u32,
        /// The shard.
        shard: u16,
    },
}

/// A place in the log of one shard of one host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offset {
    /// The host.
    pub host: HostId,
    /// Its shard.
    pub shard: u16,
    /// The position in the shard's log.
    pub position: u64,
    /// Of an event that was a room's message: the room's [`room_tag`] and the message's `seq`. The
    /// client has all of the room up to it, whatever the shard has told of its log.
    pub message: Option<(u32, u64)>,
}

/// Tells rooms apart well enough within one session.
pub fn room_tag(room: &str) -> u32 {
    hash(room) as u32
}

/// FNV-1a (64 bits), folded: the same on every host and version.
pub(crate) fn hash(text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^ hash >> 32
}

/// What the fleet tells a shard.
#[derive(Debug)]
pub enum News {
    /// All members of a room as Redis has them, this host's too: after opening, and after every
    /// repair. The home mends both sides: its own that are missing are entered again, those of
    /// this host that it does not have are left. May come at any time, and late: for a room that
    /// is closed here nothing has to be done.
    Roster {
        /// The room's key.
        room: Arc<str>,
        /// Socket id and JSON object of each.
        members: Vec<(Box<str>, Box<str>)>,
    },
    /// A member of another host came, or changed.
    Entered {
        /// The room's key.
        room: Arc<str>,
        /// Its socket id.
        id: Box<str>,
        /// What is known of it: a JSON object.
        member: Box<str>,
    },
    /// A member of another host is gone.
    Left {
        /// The room's key.
        room: Arc<str>,
        /// Its socket id.
        id: Box<str>,
    },
    /// A host is dead that had members in the room, and this one has removed them. What it had
    /// published may not be in the store yet. To one shard, whichever it is; may come twice, and
    /// not at all if there are very many.
    Orphaned {
        /// The room's key.
        room: Arc<str>,
    },
    /// Members of a dead host are out of a room, by this host, so that nobody else tells of them:
    /// for Node servers, whose clients may be in it, whoever has it open. Only where they are
    /// spoken to. To one shard, whichever it is; of each member once, unless the link ends amid
    /// it: then not at all.
    Reaped {
        /// The room's key.
        room: Arc<str>,
        /// Who.
        gone: Gone,
    },
    /// Another host's [`Word::Say`].
    Said {
        /// The room's key.
        room: Arc<str>,
        /// The engine's own words.
        words: Box<[u8]>,
    },
    /// Another host's [`Word::Tell`].
    Told {
        /// Which host's.
        from: HostId,
        /// The engine's own words.
        words: Box<[u8]>,
    },
    /// A [`Word::Tell`] that nobody has heard, to the shard that sent it.
    Untold {
        /// For whom it was.
        host: HostId,
        /// The engine's own words.
        words: Arc<[u8]>,
    },
    /// Another server's cast. To one shard, which passes it to all.
    Cast {
        /// Whom, and what.
        cast: Arc<Cast>,
        /// Where it wants answers: each shard answers with [`Word::Answer`] under this number,
        /// also with nothing to say.
        request: Option<u64>,
    },
    /// An answer to this host's own cast, under the number it gave ([`Deed::Emit::answers`]).
    Answered {
        /// That number.
        id: u64,
        /// Of one server or client.
        answer: CastAnswer,
    },
    /// To [`Word::Recover`].
    Recovered {
        /// The request's.
        ticket: Ticket,
        /// `None`: nobody knows this session, or some of what it missed is gone.
        found: Option<Box<Recovered>>,
    },
}

/// A dead host's members of a room.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Gone {
    /// Socket id and JSON object of each; no object where they have too many bytes together.
    pub members: Vec<(Box<str>, Box<str>)>,
    /// How many more there were: the room is so large that nobody is told who they are.
    pub unnamed: u64,
    /// How many members the room has now, on all hosts.
    pub left: u64,
}

/// Sockets that a cast reaches: of a namespace, in any of the rooms (none: all), in none of those
/// left out. A socket's id is a room with only it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reach {
    /// The namespace, with its slash.
    pub namespace: Box<str>,
    /// Names of rooms.
    pub rooms: Vec<Box<str>>,
    /// Names of rooms.
    pub except: Vec<Box<str>>,
}

/// What one server asks of all others' sockets.
#[derive(Clone, PartialEq, Debug)]
pub struct Cast {
    /// Whom it reaches.
    pub reach: Reach,
    /// What happens to them.
    pub deed: Deed,
}

/// What happens to each socket that a [`Cast`] reaches.
#[derive(Clone, PartialEq, Debug)]
pub enum Deed {
    /// It is sent an event.
    Emit {
        /// The event's name and arguments: valid JSON, separated by commas; binary parts are
        /// placeholders (`{"_placeholder":true,"num":i}`) into `attachments`.
        args: Box<str>,
        /// Binary parts.
        attachments: Vec<Box<[u8]>>,
        /// Not to connections that are behind.
        volatile: bool,
        /// Each client shall answer within so many milliseconds; in an own cast with the number
        /// that [`News::Answered`] gives back.
        answers: Option<(u64, u32)>,
    },
    /// It joins these rooms.
    Join(Vec<Box<str>>),
    /// It leaves these rooms.
    Leave(Vec<Box<str>>),
    /// It is disconnected; its connection too if so.
    Disconnect(bool),
    /// It is described to whoever asks ([`CastAnswer::Sockets`]).
    Fetch(u64),
    /// The names of all rooms are told ([`CastAnswer::Rooms`]).
    Rooms(u64),
    /// Nothing: the servers themselves are told. With a number, they may answer.
    ServerSide {
        /// As in [`Deed::Emit`].
        args: Box<str>,
        /// See there.
        answer: Option<u64>,
    },
}

/// What is answered to a [`Cast`].
#[derive(Clone, PartialEq, Debug)]
pub enum CastAnswer {
    /// So many clients have been asked.
    Asked(usize),
    /// One client's answer: its first argument's JSON, `null` for none, and its binary parts, to
    /// which placeholders in it refer.
    Acked(Box<str>, Vec<Box<[u8]>>),
    /// Sockets: JSON objects `{"id","handshake","rooms","data"}`.
    Sockets(Vec<Box<str>>),
    /// Names of rooms.
    Rooms(Vec<Box<str>>),
    /// A server's own answer to [`Deed::ServerSide`]: its first argument's JSON.
    ServerSide(Box<str>),
}

/// What it takes to bring a socket back on any host.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Session {
    /// The host it was on.
    pub host: HostId,
    /// And its shard, whose log the client's offset is a position of.
    pub shard: u16,
    /// Where in that log it began.
    pub since: u64,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its id there.
    pub sid: Box<str>,
    /// What the application keeps for it: JSON.
    pub data: Box<str>,
    /// The rooms it is in.
    pub rooms: Vec<Stay>,
}

/// A room that a session is in.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Stay {
    /// The room's key.
    pub room: Arc<str>,
    /// Its member there: JSON.
    pub member: Box<str>,
    /// Whether it hears of presence.
    pub listens: bool,
    /// The last message before it came in; of one that came back, the last it had then.
    pub seq: u64,
    /// Messages that it was told alone since, since it had missed them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replays: Vec<Replay>,
}

/// Messages of a room that one socket was told alone, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Replay {
    /// The offset of the first, a position of its shard's log.
    pub position: u64,
    /// The first's `seq`.
    pub seq: u64,
    /// How many.
    pub count: u64,
}

/// A session of another host, and what its client has not read.
#[derive(Clone, PartialEq, Debug)]
pub struct Recovered {
    /// The session as it was remembered last.
    pub session: Session,
    /// Of each of its rooms, in its order: the messages it missed, by rising `seq`, and the last
    /// one it has now.
    pub missed: Vec<(Vec<Arc<Message>>, u64)>,
}

/// What a port asks of the fleet: the order of messages.
#[derive(Debug)]
pub(crate) enum Order {
    /// A local member is in the room. `floor`: the last `seq` that anybody here knows of, so that
    /// numbers go on above it if Redis has lost them. Answered with [`Ordered::Opened`].
    Open { room: Arc<str>, floor: u64 },
    /// No local member is.
    Close { room: Arc<str> },
    /// Number a message. Answered with [`Ordered::Published`] or [`Ordered::Refused`].
    Publish { ticket: Ticket, room: Arc<str>, id: Box<str>, at_ms: u64, draft: Draft, floor: u64 },
    /// Recent messages of a room that is not open here. Answered with [`Ordered::Read`].
    Read { ticket: Ticket, room: Arc<str>, range: Range },
    /// The settings of a room that is not open here. Answered with [`Ordered::Settings`].
    Settings { ticket: Ticket, room: Arc<str> },
    /// Change a room's settings from the first to the second. Answered with [`Ordered::Settings`],
    /// which has what others have changed as well.
    Configure { ticket: Ticket, room: Arc<str>, change: Box<(RoomSettings, RoomSettings)> },
}

/// What Redis has of a room that is opened.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The newest, by rising `seq` without a gap up to the last.
    pub(crate) messages: Vec<Arc<Message>>,
    pub(crate) last_seq: u64,
    /// If it has any.
    pub(crate) settings: Option<RoomSettings>,
}

/// What the fleet answers, and what it delivers.
#[derive(Debug)]
pub(crate) enum Ordered {
    /// The room is subscribed: what follows is delivered. `None`: Redis does not answer.
    Opened { room: Arc<str>, found: Option<Joined> },
    /// The message has its number, in Redis. It is delivered by [`Ordered::Delivered`], which may
    /// come before or after.
    Published { ticket: Ticket, room: Arc<str>, message: Arc<Message>, duplicate: bool },
    /// Redis does not take it, or has not answered in time.
    Refused { ticket: Ticket },
    /// The next message of an open room, of any host: each once, by rising `seq`, without a gap.
    Delivered { room: Arc<str>, message: Arc<Message> },
    /// Continuity is lost: messages are missing, or numbers have been given twice. What can be had
    /// begins anew: its newest messages, up to `last_seq`.
    Broken { room: Arc<str>, messages: Vec<Arc<Message>>, last_seq: u64 },
    /// To [`Order::Read`]; `None`: Redis does not answer.
    Read { ticket: Ticket, page: Option<Page> },
    /// To [`Order::Settings`] and [`Order::Configure`]: the settings, if Redis has any; the outer
    /// `None`: it does not answer.
    Settings { ticket: Ticket, found: Option<Option<RoomSettings>> },
    /// Another host has changed the settings of an open room.
    Configured { room: Arc<str>, settings: RoomSettings },
}
