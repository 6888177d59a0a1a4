//! The receiving half of a WebSocket connection.

use std::ops::ControlFlow;

use super::partial::Partial;
use super::terms::{Terms, deliver};
use super::{Incoming, Inflater, Limits, Role, Violation};

/// Turns received bytes into messages. One pointer, null while nothing is half received.
#[derive(Debug, Default)]
pub struct Reader {
    partial: Option<Box<Partial>>,
}

impl Reader {
    /// Consumes `input`, unmasking it in place, and calls `on` for each message and control frame
    /// that is complete by then, in the order the peer sent them. Returns how many bytes of
    /// `input` it consumed: all of them unless `on` breaks.
    ///
    /// An `inflater` is given if permessage-deflate was negotiated, at every call of that
    /// connection or at none; without one a compressed message is a violation. A complete,
    /// unfragmented, uncompressed frame that lies whole in `input` is handed out without copying
    /// or allocating.
    ///
    /// `on` returns `Break` to stop, as it must after [`Incoming::Close`]. The bytes behind the
    /// returned count are untouched, still masked, and the reader holds nothing. After `Break` at
    /// a message it may go on with them, since messages never overlap; after `Break` at a control
    /// frame it may not, unless no fragmented message was open: what had come of that is lost.
    ///
    /// After an error the reader holds nothing and has lost its place in the stream: it must not
    /// be given more bytes of that connection.
    pub fn read(
        &mut self,
        role: Role,
        limits: &Limits,
        inflater: Option<&mut Inflater>,
        input: &mut [u8],
        mut on: impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<usize, Violation> {
        let mut terms = Terms { role, limits, inflater };
        let mut at = 0;
        while let Some(rest) = input.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let (used, flow) = self.read_frame(&mut terms, rest, &mut on)?;
            at += used;
            if flow.is_break() {
                self.partial = None;
                break;
            }
        }
        Ok(at)
    }

    /// Takes one frame, or what there is of it. Leaves `partial` empty on an error.
    fn read_frame(
        &mut self,
        terms: &mut Terms<'_>,
        rest: &mut [u8],
        on: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<(usize, ControlFlow<()>), Violation> {
        let mut partial = match self.partial.take() {
            Some(partial) => partial,
            None => match read_whole(terms, rest, on)? {
                Some(read) => return Ok(read),
                None => Box::default(),
            },
        };
        let read = partial.read(terms, rest, on)?;
        if !partial.is_done() {
            self.partial = Some(partial);
        }
        Ok(read)
    }

    /// Whether nothing is half received, so that the peer may fall silent without being late.
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// User memory held for the half-received part, in bytes, capacity counted; 0 when idle.
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.held_bytes())
    }
}

/// The path of nearly every frame: it lies whole in `rest` and is a message of its own. `None`
/// if it is not, with `rest` untouched.
fn read_whole(
    terms: &mut Terms<'_>,
    rest: &mut [u8],
    on: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
) -> Result<Option<(usize, ControlFlow<()>)>, Violation> {
    let Some((head, head_len)) = terms.parse_head(rest)? else {
        return Ok(None);
    };
    head.check_after(None, terms.limits)?;
    let available = rest.get_mut(head_len..).unwrap_or_default();
    if !head.fin || head.payload_len > available.len() as u64 {
        return Ok(None);
    }
    let payload_len = head.payload_len as usize; // at most available.len()
    let payload = available.get_mut(..payload_len).unwrap_or_default();
    head.unmask(0, payload);
    let flow = deliver(terms, head.opcode, head.compressed, payload, on)?;
    Ok(Some((head_len + payload_len, flow)))
}
