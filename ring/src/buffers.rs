//! The provided-buffer ring: where the kernel puts what connections receive.
//!
//! One group of equal buffers per shard. The kernel takes a buffer when bytes arrive and names it
//! in the completion; [`Buffers::recycle`] gives it back. Invariant: a buffer belongs either to the
//! kernel or to the one completion that names it, so its slice is exclusive while it is lent out.

use std::io;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, Submitter};

/// The only buffer group of a ring.
pub(crate) const GROUP: u16 = 0;

/// Anonymous memory, page aligned, zeroed, and backed from the start: the kernel writes into it all
/// the time, and a page fault has no place there.
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: needs `mmap` for page-aligned memory that the kernel registers. An anonymous
        // private mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `new` mapped; nothing borrows from a dropped mapping.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// The buffers of one ring and the queue through which they return to the kernel.
pub(crate) struct Buffers {
    queue: Mapping,
    memory: Mapping,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
}

impl Buffers {
    /// Registers `count` (a power of two, at most 32,768) buffers of `buffer_bytes` each.
    pub(crate) fn register(io: &IoUring, count: u16, buffer_bytes: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15, "buffer count {count}");
        let queue = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(count) * buffer_bytes)?;
        // SAFETY: the kernel needs the queue's address for as long as it is registered: `Ring`
        // unregisters it before this struct drops. It is page aligned, zeroed and large enough.
        unsafe {
            let address = queue.base.as_ptr() as u64;
            io.submitter().register_buf_ring_with_flags(address, count, GROUP, 0)?;
        }
        let mut buffers = Self { queue, memory, count, buffer_bytes, tail: 0 };
        for id in 0..count {
            buffers.recycle(id);
        }
        Ok(buffers)
    }

    /// Ends the registration; the memory may be unmapped afterwards.
    pub(crate) fn unregister(&self, submitter: &Submitter<'_>) {
        let _ = submitter.unregister_buf_ring(GROUP);
    }

    /// The first `len` bytes of buffer `id`, which the kernel has just filled.
    pub(crate) fn filled(&mut self, id: u16, len: usize) -> &mut [u8] {
        assert!(id < self.count && len <= self.buffer_bytes, "buffer {id} with {len} bytes");
        // SAFETY: the kernel wrote through a raw address, so the slice is made from one. The
        // range lies in the mapping (checked above); the kernel gave the buffer up with the
        // completion and gets it back only by `recycle`, which the borrow of `self` excludes.
        unsafe {
            let start = self.memory.base.as_ptr().add(usize::from(id) * self.buffer_bytes);
            slice::from_raw_parts_mut(start, len)
        }
    }

    /// Gives buffer `id` back to the kernel.
    pub(crate) fn recycle(&mut self, id: u16) {
        assert!(id < self.count, "buffer {id}");
        let index = self.tail & (self.count - 1);
        self.tail = self.tail.wrapping_add(1);
        let entries = self.queue.base.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the queue is memory shared with the kernel, reached through raw pointers only.
        // `index` is below `count`, so the entry lies in the mapping; the kernel reads entries
        // only below the published tail, which is stored (release) after the entry is written.
        // The tail's two bytes are the first entry's reserved field and are aligned.
        unsafe {
            let entry = &mut *entries.add(usize::from(index));
            entry.set_addr(
                self.memory
                    .base
                    .as_ptr()
                    .add(usize::from(id) * self.buffer_bytes) as u64,
            );
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(id);
            let tail = BufRingEntry::tail(entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}
