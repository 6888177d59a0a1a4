//! Engine.IO protocol 4: packets over WebSocket and in polling payloads, the handshake's answer
//! and refusals, and the heartbeat.
//!
//! Owns the wire form of packets and the heartbeat's states. Never owns a session, a transport
//! or a clock: times are milliseconds that the caller passes in.
//!
//! Over WebSocket one message is one packet: text starts with the type's digit, binary has no
//! type byte and is always a message. Over polling one body is a payload: the same texts joined
//! by 0x1e, binary as `b` and base64.

mod error;
mod heartbeat;
mod packet;
mod payload;

pub use error::ErrorCode;
pub use heartbeat::{Beat, Heartbeat, Timing};
pub use packet::{
    CLOSE, DecodeError, NOOP, OpenPacket, PROBE_ANSWER, PacketType, decode_text, is_probe,
    write_open,
};
pub use payload::{
    PayloadError, PayloadLimits, Record, Records, SEPARATOR, decode_payload, write_binary_packet,
    write_separator, write_text_packet,
};
