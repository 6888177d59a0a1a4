//! Sleeping in glommio: a ring that has been idle a while costs nothing, and the executor's other
//! tasks run.
//!
//! The ring signals an eventfd for each completion, and glommio reads that eventfd as a file. It
//! is registered only for the time of the sleep: a busy ring would signal it for every completion.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use glommio::io::BufferedFile;
use io_uring::{opcode, types};

use crate::ring::Ring;
use crate::tag::{Op, Tag};
use crate::wake::eventfd;

/// What an executor sleeps on while its ring is idle. Made and used on the executor's thread.
pub struct Bed {
    signal: OwnedFd,
    file: BufferedFile,
}

impl Bed {
    /// Makes the eventfd; must run inside a glommio executor.
    ///
    /// # Errors
    /// The system's error when no file descriptor is left.
    pub fn new() -> io::Result<Self> {
        let signal = eventfd()?;
        let copy = signal.try_clone()?.into_raw_fd();
        // SAFETY: glommio has no safe way to read a descriptor it has not opened. The copy is
        // open, owned by nobody else, and an eventfd is readable like a file of 8 bytes.
        let file = unsafe { BufferedFile::from_raw_fd(copy) };
        Ok(Self { signal, file })
    }

    /// Sleeps until `ring` has a completion, or `time` has passed. Other tasks run meanwhile.
    ///
    /// # Errors
    /// The system's error of the ring or of the read.
    pub async fn sleep(&self, ring: &mut Ring, time: Duration) -> io::Result<()> {
        ring.arm_timeout(time)?;
        ring.io.submitter().register_eventfd(self.signal.as_raw_fd())?;
        // What completed before the registration has signalled nothing: look once more.
        ring.enter(None)?;
        if ring.io.completion().is_empty() {
            let read = self.file.read_at(0, 8).await;
            read.map_err(|error| io::Error::other(error.to_string()))?;
        }
        ring.io.submitter().unregister_eventfd()
    }

    /// Ends the use of the file in glommio's own way.
    pub async fn close(self) {
        let _ = self.file.close().await;
    }
}

impl Ring {
    /// Makes the ring complete something within `time`. A timer that fires earlier than asked for
    /// wakes the shard once for nothing; one that would fire later is moved.
    fn arm_timeout(&mut self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        let armed = self.timeout_until;
        if armed.is_some_and(|armed| armed <= until) {
            return Ok(());
        }
        self.timeout_until = Some(until);
        *self.timeout = types::Timespec::from(time);
        let timespec = &raw const *self.timeout;
        let tag = Tag::of(Op::Timeout, 0, 0);
        if armed.is_none() {
            return self.push(opcode::Timeout::new(timespec).build(), tag);
        }
        let update = opcode::TimeoutUpdate::new(tag.into(), timespec).build();
        self.push(update, Tag::of(Op::TimeoutUpdate, 0, 0))
    }
}
