//! Sends in flight: keeps frames and vectors alive and in place until the kernel is done.
//!
//! Invariant: what an entry's submission points into is not moved or freed between
//! [`Sends::start`] and [`Sends::finish`]. Frames live on the heap behind their count; the
//! message header and its vector are boxed.

use std::{mem, ptr};

use io_uring::{opcode, squeue, types};

use crate::frame::Frame;

/// Frames per vectored send (the kernel's `UIO_MAXIOV` is 1,024). What queued up beyond it goes
/// out with the next send.
pub const FRAMES_PER_SEND_MAX: usize = 64;

/// Vectored entries kept for reuse, so that a steady state allocates nothing.
const SPARE_VECTORS_MAX: usize = 1024;

struct Vectored {
    header: libc::msghdr,
    parts: Vec<libc::iovec>,
    frames: Vec<Frame>,
    first: usize,
}

enum Entry {
    Free { next: u32 },
    One { frame: Frame, sent: usize },
    Many(Box<Vectored>),
}

const NONE: u32 = u32::MAX;

/// The sends of one ring.
pub(crate) struct Sends {
    entries: Vec<Entry>,
    free: u32,
    in_flight: u32,
    wait_all: bool,
    #[expect(clippy::vec_box, reason = "the header's address is given to the kernel")]
    spare: Vec<Box<Vectored>>,
}

impl Sends {
    pub(crate) fn new(wait_all: bool) -> Self {
        Self { entries: Vec::new(), free: NONE, in_flight: 0, wait_all, spare: Vec::new() }
    }

    /// Takes the frames of one send; `None` if there are none.
    pub(crate) fn start(&mut self, frames: impl IntoIterator<Item = Frame>) -> Option<u32> {
        let mut frames = frames.into_iter();
        let first = frames.next()?;
        let entry = match frames.next() {
            None => Entry::One { frame: first, sent: 0 },
            Some(second) => {
                let mut many = self.spare.pop().unwrap_or_else(Vectored::boxed);
                many.frames.extend([first, second]);
                many.frames.extend(frames.take(FRAMES_PER_SEND_MAX - 2));
                many.prepare();
                Entry::Many(many)
            }
        };
        self.in_flight += 1;
        if self.free == NONE {
            self.entries.push(entry);
            return Some(self.entries.len() as u32 - 1);
        }
        let index = self.free;
        let slot = &mut self.entries[index as usize];
        if let Entry::Free { next } = mem::replace(slot, entry) {
            self.free = next;
        }
        Some(index)
    }

    /// The submission of what is still unsent of `index`.
    pub(crate) fn submission(&self, index: u32, target: types::Fixed) -> squeue::Entry {
        let wait_all = if self.wait_all { libc::MSG_WAITALL } else { 0 };
        let flags = libc::MSG_NOSIGNAL | wait_all;
        match &self.entries[index as usize] {
            Entry::One { frame, sent } => {
                let rest = &frame[*sent..];
                opcode::Send::new(target, rest.as_ptr(), rest.len() as u32).flags(flags).build()
            }
            Entry::Many(many) => {
                opcode::SendMsg::new(target, &raw const many.header).flags(flags as u32).build()
            }
            Entry::Free { .. } => unreachable!("send {index} is free"),
        }
    }

    /// Counts `bytes` as sent. True when nothing is left; otherwise submit again.
    pub(crate) fn advance(&mut self, index: u32, bytes: usize) -> bool {
        match &mut self.entries[index as usize] {
            Entry::One { frame, sent } => {
                *sent += bytes;
                *sent >= frame.len()
            }
            Entry::Many(many) => many.advance(bytes),
            Entry::Free { .. } => unreachable!("send {index} is free"),
        }
    }

    /// Lets go of the frames.
    pub(crate) fn finish(&mut self, index: u32) {
        let next = self.free;
        let slot = &mut self.entries[index as usize];
        let done = mem::replace(slot, Entry::Free { next });
        self.free = index;
        self.in_flight -= 1;
        if let Entry::Many(mut many) = done
            && self.spare.len() < SPARE_VECTORS_MAX
        {
            many.frames.clear();
            self.spare.push(many);
        }
        if self.in_flight == 0 && self.entries.len() > SPARE_VECTORS_MAX {
            self.entries = Vec::new();
            self.free = NONE;
        }
    }
}

impl Vectored {
    fn boxed() -> Box<Self> {
        // SAFETY: `msghdr` has private padding on some targets, so it can't be written as a
        // literal. All-zero is its documented empty value: null pointers with zero lengths.
        let header = unsafe { mem::zeroed() };
        Box::new(Self { header, parts: Vec::new(), frames: Vec::new(), first: 0 })
    }

    fn prepare(&mut self) {
        self.parts.clear();
        let part =
            |f: &Frame| libc::iovec { iov_base: f.as_ptr().cast_mut().cast(), iov_len: f.len() };
        self.parts.extend(self.frames.iter().map(part));
        self.first = 0;
        self.point();
    }

    fn point(&mut self) {
        let parts = &mut self.parts[self.first..];
        self.header.msg_iov = if parts.is_empty() { ptr::null_mut() } else { parts.as_mut_ptr() };
        self.header.msg_iovlen = parts.len();
    }

    fn advance(&mut self, mut bytes: usize) -> bool {
        while let Some(part) = self.parts.get_mut(self.first) {
            if bytes < part.iov_len {
                part.iov_base = part.iov_base.wrapping_byte_add(bytes);
                part.iov_len -= bytes;
                break;
            }
            bytes -= part.iov_len;
            self.first += 1;
        }
        self.point();
        self.first == self.parts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(sizes: &[usize]) -> Vec<Frame> {
        sizes.iter().map(|&size| Frame::from(vec![7; size])).collect()
    }

    #[test]
    fn a_partial_send_resumes_where_it_stopped() {
        for cut in 0..=12 {
            let mut sends = Sends::new(true);
            let index = sends.start(frames(&[3, 4, 5])).expect("frames");
            assert_eq!(sends.advance(index, cut), cut == 12);
            assert!(sends.advance(index, 12 - cut), "cut at {cut}");
            sends.finish(index);
        }
    }

    #[test]
    fn entries_and_vectors_are_reused() {
        let mut sends = Sends::new(true);
        let one = sends.start(frames(&[1])).expect("one frame");
        let many = sends.start(frames(&[1, 2])).expect("two frames");
        sends.finish(many);
        sends.finish(one);
        assert_eq!(sends.start(frames(&[9])), Some(one));
        assert_eq!(sends.start(frames(&[9, 9])), Some(many));
        assert!(sends.spare.is_empty());
    }

    #[test]
    fn nothing_to_send_starts_nothing() {
        assert_eq!(Sends::new(true).start(frames(&[])), None);
    }
}
