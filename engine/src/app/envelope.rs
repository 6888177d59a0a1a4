//! What travels between shards, or from a shard to itself.

use std::sync::Arc;

use throng_bridge::fleet::{HostId, Stay, Word};
use throng_protocol::socketio::Assembler;
use throng_protocol::{engineio::Heartbeat, ws};
use throng_ring::Conn;

use super::{App, Audience, Notice, Protocol};
use crate::codec::{Dialect, Packet};
use crate::ids::{RoomId, SessionKey, Sid};
use crate::limiter::IpKey;

/// A room as a request names it.
#[derive(Clone, Debug)]
pub enum RoomRef {
    /// One that the socket is in.
    Id(RoomId),
    /// Any, by its key.
    Name(Arc<str>),
}

/// What a socket's shard asks of a room's home.
pub enum Ask<A: App> {
    /// Become a member; `ack` is answered with an empty ack.
    Join(A::Member, Option<u64>),
    /// No longer be one; answered likewise.
    Leave(Option<u64>),
    /// Send the packet to the members, but perhaps the sender.
    Broadcast(Packet, Audience),
    /// The connection is gone, for good.
    Gone,
    /// The connection is gone, but may come back.
    Away,
    /// It came back.
    Back,
    /// It was a member on another host, and has come back to this one.
    Return {
        /// What it was there.
        member: A::Member,
        /// Whether it is among [`Audience::Listeners`].
        listens: bool,
        /// The last message it has.
        seq: u64,
        /// Its id there.
        old: Option<Sid>,
    },
    /// The application's own.
    App(A::Request),
}

/// What happens to each socket that a cast reaches.
#[derive(Debug)]
pub enum Deed {
    /// It is sent an event.
    Emit {
        /// The event.
        packet: Packet,
        /// Not to connections that are behind.
        volatile: bool,
        /// Who collects the answers, and for how long, in milliseconds.
        answers: Option<(Collector, u32)>,
    },
    /// It joins these rooms.
    Join(Vec<Arc<str>>),
    /// It leaves these rooms.
    Leave(Vec<Arc<str>>),
    /// It is disconnected; its connection too if so.
    Disconnect(bool),
    /// It is described to whoever collects that.
    Fetch(Collector),
}

/// Who gathers what clients answer to a cast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Collector {
    /// A shard of this host: one of its collections.
    Shard(u16, u64),
    /// Another server, whose request has this number.
    Fleet(u64),
}

impl Collector {
    /// This host's own by a number that is unique on it.
    pub fn number(self) -> Option<u64> {
        match self {
            Self::Shard(shard, id) => Some(u64::from(shard) << 48 | (id & ((1 << 48) - 1))),
            Self::Fleet(_) => None,
        }
    }

    /// The shard and the collection that have this number.
    pub fn of_number(number: u64) -> (u16, u64) {
        ((number >> 48) as u16, number & ((1 << 48) - 1))
    }
}

/// A cast on its way to every shard.
#[derive(Debug)]
pub struct Spread {
    /// The namespace.
    pub namespace: Arc<str>,
    /// Keys of rooms, or sockets' ids; none: everyone.
    pub rooms: Vec<Arc<str>>,
    /// The same for those that are left out.
    pub except: Vec<Arc<str>>,
    /// What happens to them.
    pub deed: Deed,
    /// Only those of this host.
    pub is_local: bool,
    /// When the cause arrived ([`crate::clock::Now::ns`]).
    pub since_ns: u64,
}

/// One of these.
pub enum Envelope<A: App> {
    /// To a room's home.
    Ask {
        /// Which room.
        room: RoomRef,
        /// Who asks.
        from: Sid,
        /// What.
        ask: Ask<A>,
        /// When the client's request arrived ([`crate::clock::Now::ns`]).
        since_ns: u64,
    },
    /// To a member's shard: it is in.
    Admit {
        /// The room.
        room: RoomId,
        /// Its key.
        name: Arc<str>,
        /// The member.
        member: Sid,
        /// Whether it is among [`Audience::Listeners`].
        listens: bool,
    },
    /// To the shard of one that asked to join: it is not in.
    Decline {
        /// Who asked.
        member: Sid,
    },
    /// To a member's shard: it is out.
    Dismiss {
        /// The room.
        room: RoomId,
        /// The member.
        member: Sid,
    },
    /// To a shard with members.
    Deliver {
        /// The room.
        room: RoomId,
        /// Who of it.
        audience: Audience,
        /// What.
        packet: Packet,
        /// Of a message its number in the room; else 0.
        seq: u64,
        /// When the cause arrived ([`crate::clock::Now::ns`]).
        since_ns: u64,
    },
    /// To one socket.
    Send {
        /// Whom.
        to: Sid,
        /// What.
        packet: Packet,
    },
    /// To one socket, with an answer to the sender.
    Relay(Box<Relay>),
    /// End a socket; with `close`, its connection too.
    Disconnect {
        /// Whom.
        to: Sid,
        /// Its connection too.
        close: bool,
    },
    /// To a room's home, which passes it to every shard.
    Spread(Arc<Spread>),
    /// To every shard: what it does to the sockets it reaches.
    Cast(Arc<Spread>),
    /// To the shard that collects: so many have been asked.
    Asked {
        /// Its collection.
        id: u64,
        /// Clients asked on one shard.
        count: usize,
    },
    /// To the shard that collects: one has answered.
    Answered {
        /// Its collection.
        id: u64,
        /// Its first argument.
        answer: Box<str>,
    },
    /// To the shard that a socket is on: another host has something to say of it.
    Notice(HostId, Box<Notice>),
    /// To a member's shard: what other hosts would have to know of it.
    Stay(Sid, Box<Stay>),
    /// To the shard of one that came back for a room: it is not in it.
    RefuseReturn(Sid, Arc<str>),
    /// To a member's shard: messages of its room that it missed, with their `seq`.
    Replay(Sid, Arc<str>, Vec<(u64, Packet)>),
    /// To every shard: somebody collects the names of a namespace's rooms.
    TellRooms(Arc<str>, Collector),
    /// To the own shard: to be told to the fleet.
    Tell(Word),
    /// To a polling session's shard.
    Poll(Box<Poll>),
    /// To the shard of the connection that asked.
    Polled(Box<Polled>),
    /// To a shard that a connection moves to: what it is.
    Adopt(Box<Adopt>),
    /// To a shard that a polling session moves to, so that a socket there can be recovered.
    Rehome(Box<Ghost>),
    /// To the shard that a session moved away from: it has ended.
    Forget(SessionKey),
}

/// A packet for a socket that may be gone.
pub struct Relay {
    /// Whom.
    pub to: Sid,
    /// What.
    pub packet: Packet,
    /// Who sent it.
    pub from: Sid,
    /// What the sender is answered when it has been passed on, if anything.
    pub delivered: Option<Packet>,
    /// And when there is no such socket.
    pub missing: Option<Packet>,
}

/// A request that waits for an answer: the connection's shard and handle, and which of its
/// requests it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its shard.
    pub shard: u16,
    /// Its handle there.
    pub conn: Conn,
    /// Tells its requests apart.
    pub exchange: u32,
}

/// What a polling client's request asks of its session.
#[derive(Debug)]
pub enum Told {
    /// Whatever there is to say, when there is something.
    Get,
    /// A POST's head has come, its body has not.
    PostBegins,
    /// A POST whole; `None` for one that is not text.
    Post(Option<Box<[u8]>>),
    /// A POST that is of no more interest, though its connection lives.
    PostRefused,
    /// The connection ended before its request was answered.
    Aborted,
    /// A method that sessions do not know.
    Other,
}

/// A polling client's request, on its way to the session.
#[derive(Debug)]
pub struct Poll {
    /// Whose.
    pub session: SessionKey,
    /// The connection it came on.
    pub from: Place,
    /// What.
    pub told: Told,
}

/// What becomes of a polling client's request.
#[derive(Debug)]
pub enum Outcome {
    /// 200 with packets.
    Packets(Vec<u8>),
    /// 200 `ok`.
    Taken,
    /// 400 without a body.
    Refused,
    /// 400 with Engine.IO's code 1.
    Unknown,
    /// 400 with Engine.IO's code 3.
    Mismatch,
    /// 500 without a body.
    Failed,
    /// The connection is to be closed.
    Cut,
}

/// The answer to a polling client's request.
#[derive(Debug)]
pub struct Polled {
    /// The request that waits.
    pub to: Place,
    /// What becomes of its request.
    pub outcome: Outcome,
}

/// A connection that moves to another shard, whose ring is handed the socket itself.
pub struct Adopt {
    /// Under which the socket arrives there.
    pub token: u64,
    /// The peer, as limits count it.
    pub ip: IpKey,
    /// What it is.
    pub state: Adopted,
}

/// What a moving connection is.
pub enum Adopted {
    /// A request, from its first byte.
    Request(Vec<u8>),
    /// A WebSocket without sockets yet.
    Live(Box<Traveller>),
}

/// A CONNECT packet that is dealt with later.
#[derive(Debug)]
pub struct Connect {
    /// The namespace.
    pub namespace: Box<str>,
    /// The payload.
    pub auth: Box<str>,
    /// What a polling client has sent behind it: a payload.
    pub records: Vec<u8>,
}

/// What of a link without sockets moves with it.
pub struct Begun {
    /// Joins packets with their attachments.
    pub assembler: Assembler,
    /// Its pings and pongs.
    pub heartbeat: Heartbeat,
    /// By when CONNECT must have come.
    pub connect_by_ms: u32,
    /// What it speaks.
    pub protocol: Protocol,
    /// It has been in a namespace.
    pub connected: bool,
    /// Namespaces it has left, and until when packets for them are ignored.
    pub left: Vec<(Box<str>, u32)>,
}

/// A WebSocket on its way to the shard where one of its sockets can be recovered.
pub struct Traveller {
    /// Joins frames.
    pub reader: ws::Reader,
    /// Its session.
    pub begun: Begun,
    /// How it wants its packets.
    pub dialect: Dialect,
    /// The CONNECT packet that asked for recovery.
    pub connect: Connect,
    /// Bytes received behind it.
    pub rest: Vec<u8>,
}

/// A polling session on its way to the shard where one of its sockets can be recovered.
pub struct Ghost {
    /// Its id's parts.
    pub key: SessionKey,
    /// The peer, as limits count it.
    pub ip: IpKey,
    /// The session itself.
    pub begun: Begun,
    /// The GET that waits.
    pub get: Option<Place>,
    /// The POST that has begun.
    pub post: Option<Place>,
    /// Frames that wait for the client.
    pub frames: Vec<Box<[u8]>>,
    /// The CONNECT packet that asked for recovery.
    pub connect: Connect,
}

/// What an application asked for, until the shard carries it out: envelopes by shard.
pub type Outgoing<A> = Vec<(u16, Envelope<A>)>;
