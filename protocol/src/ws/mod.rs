//! WebSocket (RFC 6455) with permessage-deflate (RFC 7692) as its one extension: frames in,
//! messages out, and frames for sending.
//!
//! Owns the frame header's rules, masking, reassembly of fragments, UTF-8, close codes and
//! compression.
//! Never owns a receive buffer or an outbox: [`Reader`] works in the slice it is given and keeps
//! only what has to outlive it. Never answers by itself: pongs and close replies are the
//! caller's decision.
//!
//! Invariants:
//! * A plain message that lies whole and unfragmented in the input is neither copied nor allocated.
//! * A message longer than the limit is refused by its frame header, before a byte is kept; a
//!   compressed one as well while it is inflated, before more than the limit comes out.
//! * Plain text is refused at the first byte that cannot be UTF-8, also in the middle of a frame;
//!   compressed text when it is complete.
//! * No connection holds a compression window.

mod close;
mod deflate;
mod frames;
pub mod handshake;
mod head;
mod mask;
mod message;
mod partial;
mod reader;
mod terms;
#[cfg(test)]
mod tests;
mod violation;
mod write;

pub use close::CloseFrame;
pub use deflate::{Deflater, Inflater, Negotiated, negotiate};
pub use frames::server_frames;
pub use reader::Reader;
pub use violation::Violation;
pub use write::{
    frame_header_len, write_close, write_frame, write_frame_header, write_masked_frame,
};

/// Which end of the connection reads, which decides how peer frames must be masked
/// (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The peer is a client: each of its frames must be masked.
    Server,
    /// The peer is a server: none of its frames may be masked.
    Client,
}

/// Bounds on what a peer may send. Control frames have RFC 6455's own bound of 125 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message in bytes, summed over its fragments; for a compressed one both as it comes
    /// and inflated.
    pub message_bytes_max: usize,
    /// Most frames of one message, empty ones counted. A message of one frame always passes.
    pub fragments_max: u32,
}

/// One message or control frame of the peer, borrowed for the duration of the callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A whole text message, valid UTF-8.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping with at most 125 bytes, to be answered by a pong with the same bytes.
    Ping(&'a [u8]),
    /// A pong with at most 125 bytes, asked for or not.
    Pong(&'a [u8]),
    /// A close frame; `None` if it carried no code. Nothing the peer sends later counts.
    Close(Option<CloseFrame<'a>>),
}

/// The defined frame opcodes (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// 0x1: a text message or its first fragment.
    Text,
    /// 0x2: a binary message or its first fragment.
    Binary,
    /// 0x8: close.
    Close,
    /// 0x9: ping.
    Ping,
    /// 0xA: pong.
    Pong,
    /// 0x0: a further fragment.
    Continuation,
}

impl Opcode {
    /// Whether this is a control frame: at most 125 bytes and never fragmented (§5.5).
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}
