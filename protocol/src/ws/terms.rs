//! What was agreed with a peer, and what its payloads mean under it.

use std::ops::ControlFlow;

use super::{CloseFrame, Incoming, Inflater, Limits, Opcode, Role, Violation};

/// What was agreed with the peer, lent for one read.
pub(super) struct Terms<'a> {
    pub(super) role: Role,
    pub(super) limits: &'a Limits,
    /// Given if messages may be compressed.
    pub(super) inflater: Option<&'a mut Inflater>,
}

/// Hands a whole message or control frame to `on`, inflated if it is compressed.
pub(super) fn deliver(
    terms: &mut Terms<'_>,
    opcode: Opcode,
    compressed: bool,
    payload: &[u8],
    on: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Violation> {
    if !compressed {
        return incoming(opcode, payload).map(on);
    }
    // Missing only if the caller took it away in the middle of a message.
    let inflater = terms.inflater.as_deref_mut().ok_or(Violation::ReservedBits)?;
    inflater.deliver(opcode, payload, terms.limits.message_bytes_max, on)
}

/// What a frame with its whole payload in one piece means.
pub(super) fn incoming(opcode: Opcode, payload: &[u8]) -> Result<Incoming<'_>, Violation> {
    match opcode {
        Opcode::Text => {
            std::str::from_utf8(payload).map(Incoming::Text).map_err(|_| Violation::Utf8)
        }
        Opcode::Binary => Ok(Incoming::Binary(payload)),
        Opcode::Ping => Ok(Incoming::Ping(payload)),
        Opcode::Pong => Ok(Incoming::Pong(payload)),
        Opcode::Close => CloseFrame::parse(payload).map(Incoming::Close),
        Opcode::Continuation => Err(Violation::ContinuationWithoutStart),
    }
}
