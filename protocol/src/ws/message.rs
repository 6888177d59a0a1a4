//! The message under assembly: bytes that came in several pieces, and what is known about them.

use std::ops::ControlFlow;

use super::terms::{Terms, deliver};
use super::{Incoming, Opcode, Violation};

/// Smallest buffer worth asking the allocator for.
const BYTES_MIN: usize = 64;

/// A data message of which some frames, or part of one, have arrived.
#[derive(Debug)]
pub(super) struct Message {
    opcode: Opcode,
    /// Whether `bytes` are DEFLATE data, which is inflated and looked at when all of it is there.
    compressed: bool,
    bytes: Vec<u8>,
    /// Length of the prefix of `bytes` known to be UTF-8; for plain text at most 3 bytes short of
    /// all.
    valid_len: usize,
    /// Frames begun so far, at least 1.
    fragments: u32,
}

impl Message {
    /// A message whose first frame has begun: `Text` or `Binary`.
    pub(super) fn new(opcode: Opcode, compressed: bool) -> Self {
        Message { opcode, compressed, bytes: Vec::new(), valid_len: 0, fragments: 1 }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn fragments(&self) -> u32 {
        self.fragments
    }

    /// Notes that a continuation frame has begun.
    pub(super) fn begin_fragment(&mut self) {
        self.fragments = self.fragments.saturating_add(1);
    }

    /// Appends unmasked bytes; `len_max` is what the message can still become. Fails as soon as
    /// plain text cannot be UTF-8 any more.
    pub(super) fn push(&mut self, piece: &[u8], len_max: usize) -> Result<(), Violation> {
        self.grow(piece.len(), len_max);
        self.bytes.extend_from_slice(piece);
        if self.compressed || self.opcode != Opcode::Text {
            return Ok(());
        }
        let unknown = self.bytes.get(self.valid_len..).unwrap_or_default();
        match std::str::from_utf8(unknown) {
            Ok(_) => self.valid_len = self.bytes.len(),
            // A character that may be completed by the next piece.
            Err(error) if error.error_len().is_none() => self.valid_len += error.valid_up_to(),
            Err(_) => return Err(Violation::Utf8),
        }
        Ok(())
    }

    /// Doubles the buffer, so that copying stays linear, but not past `len_max`, so that it
    /// never holds more than the limit.
    fn grow(&mut self, added: usize, len_max: usize) {
        let needed = self.bytes.len() + added;
        if needed > self.bytes.capacity() {
            let wanted = self.bytes.capacity().saturating_mul(2).max(BYTES_MIN);
            let target = wanted.min(len_max).max(needed);
            self.bytes.reserve_exact(target - self.bytes.len());
        }
    }

    /// Hands the finished message to `on`. Fails if text ends inside a character.
    pub(super) fn deliver(
        &self,
        terms: &mut Terms<'_>,
        on: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        deliver(terms, self.opcode, self.compressed, &self.bytes, on)
    }
}
