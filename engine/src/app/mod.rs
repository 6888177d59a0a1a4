//! What an application is, and what it can do.
//!
//! An application decides on two seats. On the shard of a socket's connection it meets clients
//! ([`App::connect`], [`App::event`], [`App::disconnect`]) with a [`Socket`] to answer through. On
//! a room's home shard it keeps what must be single ([`App::request`], [`App::left`], …) with a
//! [`Room`]. What it asks for is queued as envelopes and carried by the shard; an application never
//! waits, and sees neither connections nor the mesh.

mod cast;
mod collect;
mod envelope;
mod handlers;
mod namespace;
mod socket;
mod words;

use serde_json::Value;
use throng_protocol::http::Head;

use crate::clock::Now;
use crate::codec::Packet;
use crate::ids::Sid;
use crate::limiter::IpKey;
use crate::limits::ROOM_NAME_BYTES_MAX;
pub use crate::room::{Answer, Room, Unavailable};
pub use cast::{Cast, Facts, Io};
pub use collect::{Collected, Collections};
pub use envelope::{
    Adopt, Adopted, Ask, Begun, Collector, Connect, Deed, Envelope, Ghost, Outcome, Outgoing,
    Place, Poll, Polled,
};
pub use envelope::{Relay, RoomRef, Spread, Told, Traveller};
pub use handlers::{Call, Handlers};
pub use namespace::{Namespaces, room_key, split_key};
pub use socket::{Rooms, Socket, SocketParts, TooManyRooms};
pub use words::{Notice, Said};

/// Why a CONNECT is refused; becomes CONNECT_ERROR.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// For people.
    pub message: String,
    /// For programs: the error's `data`, if it has any.
    pub data: Option<Value>,
}

impl Refusal {
    /// A refusal that only says why.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None }
    }

    /// One with a machine-readable code, as `data.code`.
    pub fn coded(code: &str, message: impl Into<String>) -> Self {
        Self { data: Some(serde_json::json!({ "code": code })), ..Self::new(message) }
    }
}

/// A client that wants to be in a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    /// The time of this turn.
    pub now: Now,
    /// The id its socket has, or will have.
    pub sid: Sid,
    /// The namespace, with its slash.
    pub namespace: &'a str,
    /// The CONNECT payload, a JSON object.
    pub auth: &'a str,
    /// The peer, as limits count it.
    pub peer: IpKey,
}

/// An event of a client.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its arguments: valid JSON, separated by commas.
    pub args: &'a str,
    /// Binary parts, which placeholders in `args` refer to.
    pub attachments: &'a [Box<[u8]>],
    /// The client wants an answer under this id.
    pub ack: Option<u64>,
}

/// How much of a room [`App::describe`] is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// A line of a list.
    Summary,
    /// Everything, its members too.
    Full,
}

/// What is spoken on a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Socket.IO over Engine.IO.
    SocketIo,
    /// Engine.IO alone; its messages are [`App::message`]'s.
    EngineIo,
    /// The same events as with Socket.IO, as JSON over WebSocket.
    Json,
    /// WebSocket alone; its messages are [`App::message`]'s.
    WebSocket,
}

impl Protocol {
    /// Whether sessions are Engine.IO's, with its transports and heartbeat.
    pub fn is_engine_io(self) -> bool {
        matches!(self, Self::SocketIo | Self::EngineIo)
    }

    /// Whether clients have sockets in namespaces.
    pub fn has_sockets(self) -> bool {
        matches!(self, Self::SocketIo | Self::Json)
    }
}

/// An application. See the module for the two seats of its methods.
pub trait App: Sized + 'static {
    /// What it keeps for a socket, on the socket's shard.
    type Session: 'static;
    /// What it keeps for a member of a room, on the room's home shard.
    type Member: Send + 'static;
    /// What it keeps for a room, on the room's home shard.
    type Room: Default + 'static;
    /// What a socket's shard asks of a room's home.
    type Request: Send + 'static;
    /// What it needs to go on when a [`Room::publish`], [`Room::read`] or [`Cast::collect`] is
    /// answered.
    type Ticket: 'static;

    /// What is spoken on a path; nothing: HTTP that is not the engine's hot path.
    fn speaks(path: &str) -> Option<Protocol> {
        if path.starts_with("/socket.io/") {
            return Some(Protocol::SocketIo);
        }
        (path == "/ws").then_some(Protocol::Json)
    }

    /// The namespaces it has; `/` alone if it does not say.
    fn namespaces() -> Namespaces {
        Namespaces::default()
    }

    /// Whether a client may begin a session at all, by its first request.
    ///
    /// # Errors
    /// What the client is told, with 403.
    fn allow(&mut self, _request: &Head<'_>) -> Result<(), String> {
        Ok(())
    }

    /// A client connects to a namespace.
    ///
    /// # Errors
    /// The refusal the client is told; its connection stays.
    fn connect(&mut self, handshake: &Handshake<'_>) -> Result<Self::Session, Refusal>;

    /// A client comes back within the recovery window. Unlike in Socket.IO it is checked again, as
    /// if it connected anew, unless an application says otherwise.
    ///
    /// # Errors
    /// Any refusal makes it a new connection instead.
    fn resume(
        &mut self,
        handshake: &Handshake<'_>,
        _session: &mut Self::Session,
    ) -> Result<(), Refusal> {
        self.connect(handshake).map(drop)
    }

    /// It has been told that it is connected; [`Socket::is_recovered`] says whether it was before.
    fn connected(&mut self, _socket: &mut Socket<'_, Self>) {}

    /// A client sent an event.
    fn event(&mut self, socket: &mut Socket<'_, Self>, event: Event<'_>);

    /// A client answered [`Socket::emit_with_ack`]; `args` as in [`Event::args`].
    fn acknowledged(&mut self, _socket: &mut Socket<'_, Self>, _id: u64, _args: &str) {}

    /// All that [`Cast::collect`] asked have answered, or its time is over.
    fn collected(&mut self, _io: &mut Io<'_, Self>, _ticket: Self::Ticket, _answers: Collected) {}

    /// The socket's connection is gone; its rooms are told by [`App::left`]. Where recovery is on
    /// it may come back, with this session.
    fn disconnect(&mut self, _sid: Sid, _session: &mut Self::Session, _reason: &'static str) {}

    /// What to keep for a socket that [`Cast::join`] takes into a room.
    fn member(&mut self, sid: Sid, session: &Self::Session) -> Self::Member;

    /// A message on a path without sockets ([`Protocol`]). Answers go to `out`.
    fn message(&mut self, _message: Message<'_>, _out: &mut Vec<Reply>) {}

    /// A socket asks something of a room, which may be new and may not have it as a member.
    fn request(&mut self, room: &mut Room<'_, Self>, from: Sid, request: Self::Request);

    /// Whether a request is worth opening a room for, which may take a look into the store; others
    /// meet a room without members.
    fn opens(_request: &Self::Request) -> bool {
        true
    }

    /// A member has come by [`Socket::join`] or [`Cast::join`].
    fn joined(&mut self, _room: &mut Room<'_, Self>, _sid: Sid) {}

    /// A member is gone: it left, was dismissed, or its connection ended; on whichever host.
    fn left(&mut self, _room: &mut Room<'_, Self>, _sid: Sid, _member: &Self::Member) {}

    /// Whether sockets may come back on other hosts than they were on. That takes
    /// [`App::session_data`], [`App::restore`], [`App::export`], [`App::import`] and
    /// [`App::replay`].
    fn returns() -> bool {
        false
    }

    /// A client was on another host, and shall go on here as what it was: `data` is what
    /// [`App::session_data`] gave there. Checked as if it connected anew.
    ///
    /// # Errors
    /// Any refusal makes it a new connection instead.
    fn restore(
        &mut self,
        handshake: &Handshake<'_>,
        _data: &str,
    ) -> Result<Self::Session, Refusal> {
        self.connect(handshake)
    }

    /// What is to be known of a session on other hosts, where it may come back, and to servers that
    /// ask for sockets: JSON.
    fn session_data(_session: &Self::Session) -> String {
        "{}".to_owned()
    }

    /// Whose session it is, where users are counted over the fleet.
    fn user(_session: &Self::Session) -> Option<&str> {
        None
    }

    /// Another server tells all servers something: an event's name and arguments, JSON separated by
    /// commas. To a `request` it wants an answer ([`Io::answer_server`]).
    fn told(&mut self, _io: &mut Io<'_, Self>, _text: &str, _request: Option<u64>) {}

    /// A member of another host is about to come back as one of this host: what must not come
    /// with it is to be taken off.
    fn moving(_member: &mut Self::Member) {}

    /// It has come back.
    fn moved_in(&mut self, _room: &mut Room<'_, Self>, _sid: Sid) {}

    /// A member that has come back from another host misses messages, or is not in the room any
    /// more: it has to be told.
    fn lost(&mut self, _room: &mut Room<'_, Self>, _sid: Sid) {}

    /// What other hosts need to know of a member: a JSON object. Without it nobody elsewhere knows
    /// of it. After a change [`Room::share`] tells them.
    fn export(_sid: Sid, _member: &Self::Member) -> Option<String> {
        None
    }

    /// A member of another host, from its JSON; `None` if it is none.
    fn import(_json: &str) -> Option<Self::Member> {
        None
    }

    /// A member of another host was in the room before it was opened here.
    fn met(&mut self, _room: &mut Room<'_, Self>, _sid: Sid) {}

    /// A member of another host came, or has changed from what was `known`.
    fn entered(&mut self, _room: &mut Room<'_, Self>, _sid: Sid, _known: Option<Self::Member>) {}

    /// Members of a host that died are gone from a room, which may not be open here: what Node
    /// servers are told. This host alone tells them.
    fn reaped(&self, _room: &str, _gone: &Reaped<Self::Member>) -> Vec<Packet> {
        Vec::new()
    }

    /// Redis did not have these members of this host, and is told of them again: what Node servers
    /// were told of them may be that they are gone, or nothing.
    fn restored(&mut self, _room: &mut Room<'_, Self>, _sids: &[Sid]) {}

    /// The room's order could not be kept: messages are missing. It goes on after
    /// [`Room::last_seq`].
    fn broken(&mut self, _room: &mut Room<'_, Self>) {}

    /// A message as the event its receivers get, for one who missed it, and for Node servers.
    fn replay(&self, _room: &str, _message: &throng_bridge::Message) -> Option<Packet> {
        None
    }

    /// A member whose connection had ended is back, as what it was.
    fn returned(&mut self, _room: &mut Room<'_, Self>, _sid: Sid) {}

    /// A message has its place in the room's order: members may have it.
    fn published(&mut self, _room: &mut Room<'_, Self>, _message: &throng_bridge::Message) {}

    /// What [`Room::publish`], [`Room::read`] or [`Room::verify`] asked for is there.
    fn answered(&mut self, _room: &mut Room<'_, Self>, _ticket: Self::Ticket, _answer: Answer) {}

    /// The last member of this host is gone, and the room with it.
    fn closing(&mut self, _room: &mut Room<'_, Self>) {}

    /// The time asked for by [`Room::wake_at_ms`] has come.
    fn due(&mut self, _room: &mut Room<'_, Self>) {}

    /// The room as the HTTP API shows it.
    fn describe(&self, room: &Room<'_, Self>, _detail: Detail) -> Value {
        serde_json::json!({"id": room.name(), "participants": room.member_count()})
    }
}

/// Those who went with a host that died, in a room that had them.
#[derive(Clone, Debug)]
pub struct Reaped<M> {
    /// Who, and what each was where that is known.
    pub members: Vec<(Sid, Option<M>)>,
    /// How many there were, if more than those.
    pub count: usize,
    /// How many are in the room now, on all hosts.
    pub left: usize,
}

/// A message without events in it.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

/// An answer to a [`Message`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

impl From<Message<'_>> for Reply {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_owned()),
            Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
        }
    }
}

/// Who of a room receives a broadcast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audience {
    /// Every member.
    All,
    /// Every member but one.
    Except(Sid),
    /// Members admitted as listeners, but perhaps one.
    Listeners(Option<Sid>),
}

/// Whether a room may be called so: 1 to 128 bytes without control characters.
pub fn is_room_name(name: &str) -> bool {
    (1..=ROOM_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}
