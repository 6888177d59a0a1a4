//! Socket.IO protocol 5: packets in, events out, and packets for sending.
//!
//! Owns the grammar `<type>[<attachments>-][<namespace>,][<id>][<json>]`, the rules for each
//! kind's payload, and the wait for binary attachments. Never owns namespaces, acks or sockets,
//! and never turns payloads into values: they stay JSON text, validated once.
//!
//! Invariants:
//! * A [`Packet`] that comes out holds valid JSON no deeper than the limit, shaped as its kind
//!   demands, with every placeholder pointing at one of its attachments.
//! * Any error is the peer's and final: the reference server closes the connection on it.
//! * What is written here decodes here to the same packet.

mod assembler;
mod error;
mod event;
mod head;
mod placeholder;
#[cfg(test)]
mod tests;
mod write;

pub use assembler::Assembler;
pub use error::DecodeError;
pub use event::{Args, Event};
pub(crate) use placeholder::token_end;
pub use placeholder::{check_placeholders, renumber_placeholders};
pub use write::{
    write_ack, write_connect, write_connect_error, write_disconnect, write_event, write_packet,
};

/// What a packet is for; the wire digit is its place in this list, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Joins a namespace, or confirms it.
    Connect = 0,
    /// Leaves a namespace.
    Disconnect = 1,
    /// An event: an array of a name and arguments.
    Event = 2,
    /// The answer to an event with an id: an array of arguments.
    Ack = 3,
    /// Refuses a namespace.
    ConnectError = 4,
    /// An event with attachments.
    BinaryEvent = 5,
    /// An ack with attachments.
    BinaryAck = 6,
}

impl Kind {
    /// Whether binary attachments follow.
    pub fn is_binary(self) -> bool {
        matches!(self, Kind::BinaryEvent | Kind::BinaryAck)
    }
}

/// Bounds on one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most attachments of a packet.
    pub attachments_max: u32,
    /// Deepest nesting of arrays and objects, the event's own array counted.
    pub depth_max: usize,
    /// Longest namespace in bytes, its slash counted.
    pub namespace_bytes_max: usize,
    /// Longest event name in bytes, unescaped.
    pub event_name_bytes_max: usize,
    /// Most bytes of a packet with attachments, its text and all of them together: what a
    /// connection can be made to hold. Packets without are bounded by the transport.
    pub packet_bytes_max: usize,
}

impl Default for Limits {
    /// 10 attachments as in the reference parser; the rest is Throng's choice.
    fn default() -> Self {
        Limits {
            attachments_max: 10,
            depth_max: 32,
            namespace_bytes_max: 128,
            event_name_bytes_max: 128,
            packet_bytes_max: 1_000_000,
        }
    }
}

/// One whole packet, borrowed from the message it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is for.
    pub kind: Kind,
    /// With its leading slash; `/` when the wire names none. A `?query` is not split off.
    pub namespace: &'a str,
    /// The ack id, if there is one.
    pub id: Option<u64>,
    /// JSON text without whitespace around it; empty when absent.
    pub data: &'a str,
    /// What the placeholders in `data` point at, in order of arrival.
    pub attachments: &'a [Box<[u8]>],
}
