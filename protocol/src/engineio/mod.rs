//! Engine.IO protocol 4: packets over WebSocket, the handshake's answer and refusals, and the
//! heartbeat.
//!
//! Owns the wire form of packets and the heartbeat's states. Never owns a session, a transport
//! or a clock: times are milliseconds that the caller passes in.
//!
//! Over WebSocket one message is one packet: text starts with the type's digit, binary has no
//! type byte and is always a message.

mod error;
mod heartbeat;
mod packet;

pub use error::ErrorCode;
pub use heartbeat::{Beat, Heartbeat, Timing};
pub use packet::{DecodeError, OpenPacket, PacketType, decode_text, write_open};
