//! What a peer can do wrong on a WebSocket, and the close code each case is answered with.

use std::fmt;

/// A breach of RFC 6455 or of the limits. Always the peer's fault and never worth a retry: the
/// connection is to be closed with [`Violation::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// An RSV bit is set where no negotiated extension gives it a meaning (§5.2).
    ReservedBits,
    /// Opcode 0x3–0x7 or 0xB–0xF (§5.2).
    ReservedOpcode,
    /// A client's frame is not masked (§5.1).
    MaskMissing,
    /// A server's frame is masked (§5.1).
    MaskUnexpected,
    /// A 64-bit length with its top bit set (§5.2).
    LengthTopBit,
    /// A length in more bytes than it needs (§5.2).
    LengthNotMinimal,
    /// A control frame of more than 125 bytes (§5.5).
    ControlTooLong,
    /// A control frame without FIN (§5.5).
    ControlFragmented,
    /// A continuation while no message is open (§5.4).
    ContinuationWithoutStart,
    /// A new message while another is still open (§5.4).
    MessageInterleaved,
    /// A close frame of exactly one byte (§5.5.1).
    CloseTruncated,
    /// A close code that must not be on the wire (§7.4).
    CloseCode(u16),
    /// Text or a close reason that is not UTF-8 (§8.1).
    Utf8,
    /// A compressed message that is not DEFLATE data, or stops inside a block (RFC 7692 §7.2.2).
    Deflate,
    /// A message over [`Limits::message_bytes_max`](super::Limits::message_bytes_max), as it came
    /// or inflated.
    MessageTooBig,
    /// A message over [`Limits::fragments_max`](super::Limits::fragments_max).
    TooManyFragments,
}

impl Violation {
    /// The close code that tells the peer why (§7.4.1): 1007 for bad UTF-8 and bad DEFLATE data,
    /// 1009 for a message too big, 1008 for too many fragments, 1002 for everything else.
    pub fn close_code(&self) -> u16 {
        match self {
            Violation::Utf8 | Violation::Deflate => 1007,
            Violation::TooManyFragments => 1008,
            Violation::MessageTooBig => 1009,
            _ => 1002,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Violation::ReservedBits => "reserved bits set",
            Violation::ReservedOpcode => "reserved opcode",
            Violation::MaskMissing => "frame is not masked",
            Violation::MaskUnexpected => "frame is masked",
            Violation::LengthTopBit => "length has its top bit set",
            Violation::LengthNotMinimal => "length is not minimally encoded",
            Violation::ControlTooLong => "control frame over 125 bytes",
            Violation::ControlFragmented => "control frame is fragmented",
            Violation::ContinuationWithoutStart => "continuation without a message",
            Violation::MessageInterleaved => "message inside another message",
            Violation::CloseTruncated => "close frame of one byte",
            Violation::CloseCode(code) => return write!(f, "invalid close code {code}"),
            Violation::Utf8 => "invalid UTF-8",
            Violation::Deflate => "invalid compressed data",
            Violation::MessageTooBig => "message too big",
            Violation::TooManyFragments => "too many fragments",
        };
        f.write_str(text)
    }
}

impl std::error::Error for Violation {}
