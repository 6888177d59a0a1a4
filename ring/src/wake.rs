//! Waking a shard from another thread: an eventfd whose read is armed in the shard's ring.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Wakes the ring that it was taken from; may be cloned and sent to any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<File>);

impl Waker {
    /// Creates the eventfd.
    ///
    /// # Errors
    /// The system's error when no file descriptor is left (operator: raise `RLIMIT_NOFILE`).
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(File::from(eventfd()?))))
    }

    /// Makes the ring's next wait return with [`crate::Event::Woken`]. Wakes coalesce.
    pub fn wake(&self) {
        // An eventfd write fails only when its counter is at its maximum; the reader is awake then.
        let _ = (&*self.0).write(&1u64.to_ne_bytes());
    }

    /// The descriptor whose read the ring arms.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A close-on-exec eventfd with count 0. It blocks: a read of a non-blocking one would complete
/// with `EAGAIN` at once instead of waiting in the ring.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: std has no eventfd. The call takes no pointers; a non-negative result is a new
    // descriptor that nothing else owns.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
