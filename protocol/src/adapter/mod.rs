//! What Socket.IO servers tell each other by Redis: the packets of `@socket.io/redis-adapter`, of
//! its [classic] and its [sharded] adapter, and of `@socket.io/redis-emitter`.
//!
//! Packets are JSON or MessagePack as `notepack.io` reads and writes it. Values stay JSON text
//! here: what comes as MessagePack becomes the text that Node would send on to a client (dates are
//! ISO strings, what is undefined is `null` or left out, integers are doubles), with placeholders
//! for binary parts; what goes out becomes, byte for byte, what Node would have sent.
//!
//! Node relays an object that merely looks like a placeholder as it is, and a client that gets it
//! in a packet with attachments takes it for one, or breaks. Here the `_placeholder` of such an
//! object becomes `false` whenever it is received. On the way out, text without attachments is
//! sent as it is.
//!
//! Owns no channel subscription, no request that waits, no time.
//!
//! Invariants: no input panics; nesting is bounded by [`DEPTH_MAX`] and memory by the input's
//! size, never by what a length announces; every placeholder in an [`Event`] points at one of its
//! attachments, and each attachment has one.

pub mod classic;
mod error;
mod fields;
mod number;
mod read;
pub mod sharded;
mod write;

pub use error::Malformed;

/// Deepest nesting of a packet, in either direction.
pub const DEPTH_MAX: usize = 128;

/// An event: its name and arguments, JSON separated by commas, and what its placeholders mean.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Event {
    /// `"name",argument,…`
    pub args: Box<str>,
    /// Binary parts.
    pub attachments: Vec<Box<[u8]>>,
}

/// Which sockets, and how.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Opts {
    /// In any of these rooms; none: all. Node's numeric rooms are their digits.
    pub rooms: Vec<Box<str>>,
    /// In none of these.
    pub except: Vec<Box<str>>,
    /// Not to connections that are behind.
    pub volatile: bool,
    /// How long answers are waited for.
    pub timeout_ms: Option<u32>,
}

/// What a server tells or asks the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// An event for sockets. With a request's id, each shall answer.
    Emit(Opts, Event),
    /// They join rooms.
    Join(Opts, Vec<Box<str>>),
    /// They leave rooms.
    Leave(Opts, Vec<Box<str>>),
    /// They are disconnected; their connections too if so.
    Disconnect(Opts, bool),
    /// They are described.
    Fetch(Opts),
    /// All rooms are named (classic only).
    Rooms,
    /// An event for the servers themselves, `"name",argument,…`. With a request's id, they may
    /// answer.
    ServerSide(Box<str>),
}

/// How an [`Ask`] was put, which decides how it is answered. Only the classic adapter has others
/// than the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Form {
    /// As servers of today do.
    #[default]
    Modern,
    /// [`Ask::Fetch`] of version 7 and before: only ids are asked for.
    Ids,
    /// [`Ask::Join`], [`Ask::Leave`], [`Ask::Disconnect`] of version 6 and before: of one socket,
    /// whose server alone answers.
    One,
}

/// A packet from a server to all others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Which server's; the emitter's requests have none.
    pub uid: Option<Box<str>>,
    /// The namespace it names; `None`: that of its channel.
    pub namespace: Option<Box<str>>,
    /// What an answer must name, if one is wanted.
    pub request: Option<Box<str>>,
    /// What it is about.
    pub ask: Ask,
    /// How it was put.
    pub form: Form,
}

/// An answer to an [`Ask`]. Values are JSON; binary parts that were read are what `JSON.stringify`
/// makes of a `Buffer`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// So many clients have been asked.
    Count(usize),
    /// One client's answer; binary parts to be written are placeholders into the second.
    Acked(Box<str>, Vec<Box<[u8]>>),
    /// Sockets, `{"id","handshake","rooms","data"}`; in the form [`Form::Ids`] their ids, JSON
    /// strings.
    Sockets(Vec<Box<str>>),
    /// Names of rooms.
    Rooms(Vec<Box<str>>),
    /// A server's own answer to [`Ask::ServerSide`].
    ServerSide(Box<str>),
    /// It is done ([`Form::One`]).
    Done,
}
