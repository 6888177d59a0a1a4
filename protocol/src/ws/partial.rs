//! What a connection holds while a header, a frame or a message is half received.
//!
//! Lives in a `Box` of [`Reader`](super::Reader) from the first byte that cannot be used at once
//! until the message it belongs to is delivered. Control frames pass between fragments without
//! disturbing the open message.

use std::ops::ControlFlow;

use super::head::{HEAD_BYTES_MAX, Head};
use super::message::Message;
use super::terms::{Terms, incoming};
use super::{Incoming, Opcode, Violation};

/// A frame whose header is known and whose payload is still arriving.
#[derive(Clone, Copy, Debug)]
struct Frame {
    head: Head,
    /// Payload bytes taken so far; at most `head.payload_len`.
    taken: usize,
}

impl Frame {
    /// Payload bytes to come. Fits `usize`: the length passed the limits, which are `usize`.
    fn left(&self) -> usize {
        self.head.payload_len as usize - self.taken
    }
}

/// The half-received part of the stream.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// The first `head_len` bytes of a header that is not whole yet.
    head: [u8; HEAD_BYTES_MAX],
    head_len: u8,
    frame: Option<Frame>,
    message: Option<Message>,
    /// Payload of the control frame in `frame`, if that came in pieces; at most 125 bytes.
    control: Vec<u8>,
}

impl Partial {
    /// Whether everything has been delivered, so that nothing needs to be kept.
    pub(super) fn is_done(&self) -> bool {
        self.head_len == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// User memory of this value and its buffers, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        let message = self.message.as_ref().map_or(0, Message::capacity);
        size_of::<Self>() + message + self.control.capacity()
    }

    /// Takes what it can of one frame from `input` (not empty). Returns how many bytes that was,
    /// at least 1, and whether to go on.
    pub(super) fn read(
        &mut self,
        terms: &mut Terms<'_>,
        input: &mut [u8],
        on: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<(usize, ControlFlow<()>), Violation> {
        let (frame, used) = match self.frame.take() {
            Some(frame) => (frame, 0),
            None => match self.take_head(terms, input)? {
                (Some(frame), used) => (frame, used),
                (None, used) => return Ok((used, ControlFlow::Continue(()))),
            },
        };
        let rest = input.get_mut(used..).unwrap_or_default();
        let taken = frame.left().min(rest.len());
        let piece = rest.get_mut(..taken).unwrap_or_default();
        frame.head.unmask(frame.taken, piece);
        let flow = if frame.head.opcode.is_control() {
            self.take_control(frame, piece, on)?
        } else {
            self.take_data(frame, piece, terms, on)?
        };
        Ok((used + taken, flow))
    }

    /// Completes the header from `input` if it can: the frame it opens, and the bytes used.
    fn take_head(
        &mut self,
        terms: &Terms<'_>,
        input: &[u8],
    ) -> Result<(Option<Frame>, usize), Violation> {
        let before = usize::from(self.head_len);
        let free = self.head.get_mut(before..).unwrap_or_default();
        let added = free.len().min(input.len());
        for (to, from) in free.iter_mut().zip(input) {
            *to = *from;
        }
        let known = self.head.get(..before + added).unwrap_or_default();
        let Some((head, head_len)) = terms.parse_head(known)? else {
            self.head_len = (before + added) as u8; // below HEAD_BYTES_MAX, or it had parsed
            return Ok((None, added));
        };
        self.head_len = 0;
        head.check_after(self.message.as_ref(), terms.limits)?;
        self.open(&head);
        // What was kept was not a whole header, so this one ends behind it.
        Ok((Some(Frame { head, taken: 0 }), head_len.saturating_sub(before)))
    }

    fn open(&mut self, head: &Head) {
        match (head.opcode, &mut self.message) {
            (Opcode::Continuation, Some(message)) => message.begin_fragment(),
            (opcode @ (Opcode::Text | Opcode::Binary), _) => {
                self.message = Some(Message::new(opcode, head.compressed));
            }
            _ => {}
        }
    }

    fn take_control(
        &mut self,
        mut frame: Frame,
        piece: &[u8],
        on: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        let in_one_piece = frame.taken == 0;
        frame.taken += piece.len();
        if frame.left() == 0 && in_one_piece {
            return Ok(on(incoming(frame.head.opcode, piece)?));
        }
        self.control.extend_from_slice(piece);
        if frame.left() > 0 {
            self.frame = Some(frame);
            return Ok(ControlFlow::Continue(()));
        }
        let payload = std::mem::take(&mut self.control);
        Ok(on(incoming(frame.head.opcode, &payload)?))
    }

    fn take_data(
        &mut self,
        mut frame: Frame,
        piece: &[u8],
        terms: &mut Terms<'_>,
        on: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        // Set when the header was taken; a frame of data never stands without its message.
        let message = self.message.as_mut().ok_or(Violation::ContinuationWithoutStart)?;
        let len_max = match frame.head.fin {
            true => message.len() + frame.left(),
            false => terms.limits.message_bytes_max,
        };
        message.push(piece, len_max)?;
        frame.taken += piece.len();
        if frame.left() > 0 {
            self.frame = Some(frame);
            return Ok(ControlFlow::Continue(()));
        }
        if !frame.head.fin {
            return Ok(ControlFlow::Continue(()));
        }
        let flow = message.deliver(terms, on)?;
        self.message = None;
        Ok(flow)
    }
}
