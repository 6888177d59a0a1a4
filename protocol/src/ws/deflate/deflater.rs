//! The sending half: a message becomes a compressed frame.

use std::fmt;

use flate2::{Compress, Compression, FlushCompress};

use super::{TAIL, trim};
use crate::ws::Opcode;
use crate::ws::write::write_any_frame;

/// Level 1 has no Huffman codes of its own and leaves JSON at half its size; from level 3 on a
/// message of 1 KB gets no smaller and one of 16 KB hardly.
const LEVEL: u32 = 2;

/// Compresses messages, each on its own. One serves any number of connections.
pub struct Deflater {
    stream: Compress,
    /// Where a message is compressed to before its length is known.
    scratch: Vec<u8>,
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}

impl Deflater {
    /// Allocates the tables, about 370 KiB, that all messages share.
    pub fn new() -> Self {
        let stream = Compress::new(Compression::new(LEVEL), false);
        Deflater { stream, scratch: Vec::new() }
    }

    /// User memory held between messages besides the tables, in bytes: at most 64 KiB.
    pub fn held_bytes(&self) -> usize {
        self.scratch.capacity()
    }

    /// Appends a whole unmasked frame with RSV1 that holds `payload` compressed (RFC 7692
    /// §7.2.1). Appends nothing and returns false if that would not be shorter, as with an empty
    /// payload, or if `opcode` is not that of a message.
    pub fn write_compressed(&mut self, out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) -> bool {
        self.write(out, opcode, None, payload)
    }

    /// The same as clients send it, masked. The mask should be unpredictable to whoever chose the
    /// payload (RFC 6455 §10.3); load generators may not care.
    pub fn write_masked_compressed(
        &mut self,
        out: &mut Vec<u8>,
        opcode: Opcode,
        mask: [u8; 4],
        payload: &[u8],
    ) -> bool {
        self.write(out, opcode, Some(mask), payload)
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        opcode: Opcode,
        mask: Option<[u8; 4]>,
        payload: &[u8],
    ) -> bool {
        if !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return false;
        }
        let compressed = self.compress(payload);
        if let Some(compressed) = compressed {
            write_any_frame(out, opcode, true, mask, compressed);
        }
        let is_written = compressed.is_some();
        trim(&mut self.scratch);
        is_written
    }

    /// `payload` as raw DEFLATE without the tail; `None` if that is not shorter.
    ///
    /// There is room for one byte less than would be too long, and the tail. A flush that leaves
    /// room is complete; one that fills it is given up.
    fn compress(&mut self, payload: &[u8]) -> Option<&[u8]> {
        let room = payload.len() + TAIL.len();
        if self.scratch.len() < room {
            self.scratch.resize(room, 0);
        }
        let to = self.scratch.get_mut(..room)?;
        self.stream.reset();
        self.stream.compress(payload, to, FlushCompress::Sync).ok()?;
        let written = usize::try_from(self.stream.total_out()).ok()?;
        if written >= room || self.stream.total_in() != payload.len() as u64 {
            return None;
        }
        self.scratch.get(..written)?.strip_suffix(&TAIL)
    }
}
