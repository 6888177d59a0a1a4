//! What an application is, and what it can do.
//!
//! An application decides on two seats. On the shard of a socket's connection it meets clients
//! ([`App::connect`], [`App::event`], [`App::disconnect`]) with a [`Socket`] to answer through. On
//! a room's home shard it keeps what must be single ([`App::request`], [`App::left`], …) with a
//! [`Room`]. What it asks for is queued as envelopes and carried by the shard; an application never
//! waits, and sees neither connections nor the mesh.

use std::sync::Arc;

use serde_json::Value;

use crate::clock::Now;
use crate::codec;
use crate::ids::{RoomId, Sid};
use crate::limits::ROOM_NAME_BYTES_MAX;
pub use crate::room::{Answer, Room, Unavailable};

/// Why a CONNECT is refused; becomes CONNECT_ERROR with `data.code`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Machine-readable, one of the documented codes.
    pub code: &'static str,
    /// For people.
    pub message: String,
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
    /// What it needs to go on when a [`Room::publish`] or [`Room::read`] is answered.
    type Ticket: 'static;

    /// A client connects to the namespace; `auth` is its CONNECT payload, a JSON object.
    ///
    /// # Errors
    /// The refusal the client is told; its connection stays.
    fn connect(&mut self, now: Now, sid: Sid, auth: &str) -> Result<Self::Session, Refusal>;

    /// A client sent an event.
    fn event(&mut self, socket: &mut Socket<'_, Self>, event: Event<'_>);

    /// A client answered [`Socket::emit_with_ack`]; `args` as in [`Event::args`].
    fn acknowledged(&mut self, _socket: &mut Socket<'_, Self>, _id: u64, _args: &str) {}

    /// The socket is gone; its rooms are told by [`App::left`].
    fn disconnect(&mut self, _sid: Sid, _session: Self::Session, _reason: &'static str) {}

    /// A message on a plain WebSocket (a path of [`App::speaks_plain`]). Answers go to `out`.
    fn plain(&mut self, _message: Plain<'_>, _out: &mut Vec<Box<[u8]>>) {}

    /// Whether WebSockets on this path speak no Socket.IO; asked before anything else.
    fn speaks_plain(_path: &str) -> bool {
        false
    }

    /// A socket asks something of a room, which may be new and may not have it as a member.
    fn request(&mut self, room: &mut Room<'_, Self>, from: Sid, request: Self::Request);

    /// A member is gone: it left, was dismissed, or its connection ended.
    fn left(&mut self, _room: &mut Room<'_, Self>, _sid: Sid, _member: Self::Member) {}

    /// What [`Room::publish`] or [`Room::read`] asked for is there.
    fn answered(&mut self, _room: &mut Room<'_, Self>, _ticket: Self::Ticket, _answer: Answer) {}

    /// The time asked for by [`Room::wake_at_ms`] has come.
    fn due(&mut self, _room: &mut Room<'_, Self>) {}

    /// The room as the HTTP API shows it.
    fn describe(&self, room: &Room<'_, Self>, _detail: Detail) -> Value {
        serde_json::json!({"id": room.name(), "participants": room.member_count()})
    }
}

/// A message of a plain WebSocket.
#[derive(Clone, Copy, Debug)]
pub enum Plain<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
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

/// A room as a request names it.
#[derive(Clone, Debug)]
pub enum RoomRef {
    /// One that the socket is in.
    Id(RoomId),
    /// Any.
    Name(Arc<str>),
}

/// What a socket's shard asks of a room's home.
pub enum Ask<A: App> {
    /// Become a member; `ack` is answered with an empty ack.
    Join(A::Member, Option<u64>),
    /// No longer be one; answered likewise.
    Leave(Option<u64>),
    /// Send the frame to the members, but perhaps the sender.
    Broadcast(Box<[u8]>, Audience),
    /// The connection is gone.
    Gone,
    /// The application's own.
    App(A::Request),
}

/// What travels between shards, or from a shard to itself.
pub enum Envelope<A: App> {
    /// To a room's home.
    Ask {
        /// Which room.
        room: RoomRef,
        /// Who asks.
        from: Sid,
        /// What.
        ask: Ask<A>,
        /// When the client's request arrived ([`Now::ns`]).
        since_ns: u64,
    },
    /// To a member's shard: it is in.
    Admit {
        /// The room.
        room: RoomId,
        /// Its name.
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
        /// The frame.
        frame: Box<[u8]>,
        /// When the cause arrived ([`Now::ns`]).
        since_ns: u64,
    },
    /// To one socket.
    Send {
        /// Whom.
        to: Sid,
        /// The frame.
        frame: Box<[u8]>,
    },
    /// To one socket, with an answer to the sender.
    Relay(Box<Relay>),
    /// End a socket.
    Disconnect {
        /// Whom.
        to: Sid,
    },
}

/// A frame for a socket that may be gone.
pub struct Relay {
    /// Whom.
    pub to: Sid,
    /// The frame.
    pub frame: Box<[u8]>,
    /// Who sent it.
    pub from: Sid,
    /// What the sender is answered when it has been passed on, if anything.
    pub delivered: Option<Box<[u8]>>,
    /// And when there is no such socket.
    pub missing: Option<Box<[u8]>>,
}

/// What an application asked for, until the shard carries it out: envelopes by shard.
pub type Outgoing<A> = Vec<(u16, Envelope<A>)>;

/// The socket that an event came from, on its own shard.
pub struct Socket<'a, A: App> {
    pub(crate) sid: Sid,
    pub(crate) session: &'a mut A::Session,
    pub(crate) rooms: &'a mut dyn Rooms,
    pub(crate) out: &'a mut Outgoing<A>,
    /// Frames for this very socket.
    pub(crate) frames: &'a mut Vec<Box<[u8]>>,
    pub(crate) ack_id: &'a mut u64,
    pub(crate) now: Now,
}

/// What a socket knows of its rooms.
pub trait Rooms {
    /// The id of a room that it is in.
    fn find(&self, name: &str) -> Option<RoomId>;
    /// The names of all its rooms.
    fn names(&self) -> Vec<Arc<str>>;
    /// Notes that it is about to join; false if it may not join any more.
    fn note_join(&mut self) -> bool;
    /// The shard that is home to a room.
    fn home_of(&self, name: &str) -> u16;
    /// Whether an id can be one of this host's sockets.
    fn reaches(&self, sid: Sid) -> bool;
}

/// Whether a room may be called so: 1 to 128 bytes without control characters.
pub fn is_room_name(name: &str) -> bool {
    (1..=ROOM_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// The socket is in as many rooms as it may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyRooms;

impl<A: App> Socket<'_, A> {
    /// Its id, which is also its address.
    pub fn sid(&self) -> Sid {
        self.sid
    }

    /// What the application keeps for it.
    pub fn session(&self) -> &A::Session {
        self.session
    }

    /// What the application keeps for it, to be changed.
    pub fn session_mut(&mut self) -> &mut A::Session {
        self.session
    }

    /// The time of this turn.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Whether it is a member of the room, as far as its shard knows.
    pub fn is_in(&self, room: &str) -> bool {
        self.rooms.find(room).is_some()
    }

    /// The names of the rooms it is in.
    pub fn rooms(&self) -> Vec<Arc<str>> {
        self.rooms.names()
    }

    /// Answers an event; `args` is JSON, separated by commas.
    pub fn ack(&mut self, id: u64, args: &str) {
        self.frames.push(codec::ack_frame(id, args, &[]));
    }

    /// Sends an event to this socket.
    pub fn emit(&mut self, name: &str, args: &str) {
        self.frames.push(codec::event_frame(name, args, &[], None));
    }

    /// Sends an event that the client shall answer; see [`App::acknowledged`].
    pub fn emit_with_ack(&mut self, name: &str, args: &str) -> u64 {
        let id = *self.ack_id;
        *self.ack_id += 1;
        self.frames.push(codec::event_frame(name, args, &[], Some(id)));
        id
    }

    /// Joins a room; with `ack`, the client gets an empty ack once it is in.
    ///
    /// # Errors
    /// When it is in as many rooms as it may be.
    pub fn join(
        &mut self,
        room: &str,
        member: A::Member,
        ack: Option<u64>,
    ) -> Result<(), TooManyRooms> {
        if !self.rooms.note_join() {
            return Err(TooManyRooms);
        }
        self.ask(room, Ask::Join(member, ack));
        Ok(())
    }

    /// Leaves a room; with `ack`, the client gets an empty ack once it is out.
    pub fn leave(&mut self, room: &str, ack: Option<u64>) {
        self.ask(room, Ask::Leave(ack));
    }

    /// Sends an event to the members of a room, in the room's order; a room without members
    /// receives nothing. Anyone may broadcast: whether a member must be is for the application.
    pub fn broadcast(&mut self, room: &str, name: &str, args: &str, audience: Audience) {
        let frame = codec::event_frame(name, args, &[], None);
        self.ask(room, Ask::Broadcast(frame, audience));
    }

    /// Asks the room's home something of the application's own.
    pub fn request(&mut self, room: &str, request: A::Request) {
        self.ask(room, Ask::App(request));
    }

    /// Like [`Socket::request`], for requests that may end in [`Room::admit`] or [`Room::decline`],
    /// one of which must follow.
    ///
    /// # Errors
    /// When it is in as many rooms as it may be.
    pub fn request_to_join(&mut self, room: &str, request: A::Request) -> Result<(), TooManyRooms> {
        if !self.rooms.note_join() {
            return Err(TooManyRooms);
        }
        self.ask(room, Ask::App(request));
        Ok(())
    }

    /// Passes a frame on to any socket of the host.
    pub fn relay(&mut self, relay: Relay) {
        if self.rooms.reaches(relay.to) {
            self.out.push((relay.to.shard(), Envelope::Relay(Box::new(relay))));
        } else {
            self.frames.extend(relay.missing);
        }
    }

    /// Ends this socket: DISCONNECT, then close.
    pub fn disconnect(&mut self) {
        self.out.push((self.sid.shard(), Envelope::Disconnect { to: self.sid }));
    }

    fn ask(&mut self, name: &str, ask: Ask<A>) {
        let (home, room) = match self.rooms.find(name) {
            Some(id) => (id.home(), RoomRef::Id(id)),
            None => (self.rooms.home_of(name), RoomRef::Name(name.into())),
        };
        let since_ns = self.now.ns;
        self.out.push((home, Envelope::Ask { room, from: self.sid, ask, since_ns }));
    }
}
