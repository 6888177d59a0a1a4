//! The receiving half: a compressed message becomes the message it stands for.

use std::fmt;
use std::ops::ControlFlow;

use flate2::{Decompress, FlushDecompress, Status};

use super::{TAIL, trim};
use crate::ws::terms::incoming;
use crate::ws::{Incoming, Opcode, Violation};

/// Least space asked for, in bytes.
const BUFFER_BYTES_MIN: usize = 4096;

/// Most blocks marked as the last that one message may go on behind. Each of them, of two bytes,
/// makes the decompressor start anew; a sender that uses them has one per flush, so per message.
const FINAL_BLOCKS_MAX: u32 = 16;

/// An empty stored block marked as the last. Fed behind a message it must end the stream at once,
/// or else the message stopped in the middle of a block.
const END: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];

/// Inflates compressed messages, each on its own. One serves any number of connections.
pub struct Inflater {
    stream: Decompress,
    /// The plain message, its first `len` bytes. All of it is initialised.
    buffer: Vec<u8>,
    len: usize,
}

/// Where the decompressor stands when it has used up its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Exactly behind a block marked as the last.
    End,
    /// In front of a block or in the middle of one.
    Between,
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl Inflater {
    /// Allocates the window and tables, about 50 KiB, that all messages share.
    pub fn new() -> Self {
        Inflater { stream: Decompress::new(false), buffer: Vec::new(), len: 0 }
    }

    /// User memory held between messages besides the tables, in bytes: at most 64 KiB.
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Hands a whole compressed message to `on`, inflated. Its text is checked only now.
    pub(in crate::ws) fn deliver(
        &mut self,
        opcode: Opcode,
        compressed: &[u8],
        bytes_max: usize,
        on: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        let plain = self.inflate(compressed, bytes_max);
        let flow = plain.and_then(|plain| incoming(opcode, plain)).map(on);
        trim(&mut self.buffer);
        flow
    }

    /// The message that `compressed` stands for, at most `bytes_max` bytes. Allocates as much as
    /// comes out and at most `bytes_max` + 1 bytes, however much would come out.
    pub(super) fn inflate(
        &mut self,
        compressed: &[u8],
        bytes_max: usize,
    ) -> Result<&[u8], Violation> {
        self.stream.reset(false);
        self.len = 0;
        // A flush that had nothing to flush: not what §7.2.3.6 asks for, yet of one meaning only.
        let is_empty = compressed.is_empty();
        // Behind a last block nothing is missing; some senders then spare the byte of §7.2.3.4.
        if !is_empty && self.feed(compressed, bytes_max)? == At::Between {
            self.feed_tail(bytes_max)?;
        }
        Ok(self.buffer.get(..self.len).unwrap_or_default())
    }

    /// Inflates `input` up to its end. Behind a block marked as the last the next one follows at
    /// the next byte (§7.2.1), with no window behind it.
    fn feed(&mut self, input: &[u8], bytes_max: usize) -> Result<At, Violation> {
        let mut rest = input;
        let mut finals = 0;
        loop {
            let before = self.len;
            let (used, status) = self.step(rest, bytes_max)?;
            rest = rest.get(used..).unwrap_or_default();
            match status {
                Status::StreamEnd if rest.is_empty() => return Ok(At::End),
                Status::StreamEnd if finals == FINAL_BLOCKS_MAX => return Err(Violation::Deflate),
                Status::StreamEnd => {
                    finals += 1;
                    self.stream.reset(false);
                }
                _ if rest.is_empty() && self.len < self.space(bytes_max) => {
                    return Ok(At::Between);
                }
                // With input and space there is always progress; this only rules out a hang.
                _ if used == 0 && self.len == before => return Err(Violation::Deflate),
                _ => {}
            }
        }
    }

    /// Feeds what the sender left out, and makes sure that the message ended between blocks: a
    /// cut one would otherwise pass for a shorter one.
    fn feed_tail(&mut self, bytes_max: usize) -> Result<(), Violation> {
        let len = self.len;
        let [a, b, c, d] = TAIL;
        let [e, f, g, h, i] = END;
        let at = self.feed(&[a, b, c, d, e, f, g, h, i], bytes_max)?;
        if at == At::End && self.len == len { Ok(()) } else { Err(Violation::Deflate) }
    }

    /// One call of the decompressor, with space to write to. Returns how much of `input` it used.
    fn step(&mut self, input: &[u8], bytes_max: usize) -> Result<(usize, Status), Violation> {
        if self.len == self.space(bytes_max) {
            self.grow(bytes_max);
        }
        let space = self.space(bytes_max);
        let to = self.buffer.get_mut(self.len..space).unwrap_or_default();
        let (total_in, total_out) = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.decompress(input, to, FlushDecompress::None);
        let status = status.map_err(|_| Violation::Deflate)?;
        // Neither is more than the slices that were passed in.
        self.len += (self.stream.total_out() - total_out) as usize;
        let used = (self.stream.total_in() - total_in) as usize;
        if self.len > bytes_max { Err(Violation::MessageTooBig) } else { Ok((used, status)) }
    }

    /// How much of the buffer may be filled: one byte more than allowed shows what is too long.
    fn space(&self, bytes_max: usize) -> usize {
        self.buffer.len().min(bytes_max.saturating_add(1))
    }

    /// Doubles the buffer, but not past what [`Inflater::space`] lets be used.
    fn grow(&mut self, bytes_max: usize) {
        let wanted = self.buffer.len().saturating_mul(2).max(BUFFER_BYTES_MIN);
        let target = wanted.min(bytes_max.saturating_add(1));
        self.buffer.reserve_exact(target.saturating_sub(self.buffer.len()));
        self.buffer.resize(target, 0);
    }
}
