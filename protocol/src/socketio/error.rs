//! What a peer can do wrong in Socket.IO.

use std::fmt;

/// A packet that breaks the grammar, a kind's rules or a limit. Always the peer's fault; the
/// connection is to be closed with reason `parse error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first character is not `0` to `6`, or there is none.
    UnknownKind,
    /// The attachment count is missing, no number, zero or over the limit.
    Attachments,
    /// The namespace is over the limit.
    NamespaceTooLong,
    /// The ack id does not fit 64 bits.
    Id,
    /// The payload nests too deep.
    TooDeep,
    /// The payload is not JSON.
    Json,
    /// The payload is JSON of a shape its kind does not allow.
    Payload,
    /// An event's name is missing, or neither a string nor a number.
    EventName,
    /// An event's name is one that the protocol keeps for itself.
    EventNameReserved,
    /// An event's name is over the limit.
    EventNameTooLong,
    /// A placeholder that points at no attachment, or that clients would read differently.
    Placeholder,
    /// A text message while attachments are owed.
    AttachmentsOwed,
    /// A binary message while none is owed.
    StrayBinary,
    /// A packet with attachments over the limit.
    PacketTooBig,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecodeError::UnknownKind => "unknown packet type",
            DecodeError::Attachments => "invalid number of attachments",
            DecodeError::NamespaceTooLong => "namespace too long",
            DecodeError::Id => "invalid ack id",
            DecodeError::TooDeep => "payload nests too deep",
            DecodeError::Json => "payload is not JSON",
            DecodeError::Payload => "payload does not fit the packet type",
            DecodeError::EventName => "invalid event name",
            DecodeError::EventNameReserved => "reserved event name",
            DecodeError::EventNameTooLong => "event name too long",
            DecodeError::Placeholder => "invalid placeholder",
            DecodeError::AttachmentsOwed => "text while attachments are owed",
            DecodeError::StrayBinary => "binary without a packet",
            DecodeError::PacketTooBig => "packet too big",
        })
    }
}

impl std::error::Error for DecodeError {}
