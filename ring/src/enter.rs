//! The one system call of a turn: submit, run deferred work, perhaps wait.
//!
//! Made here and not by the `io-uring` crate for two reasons: its `submit` leaves out `GETEVENTS`
//! where nothing is waited for, so deferred completions would not run, and it forgets a registered
//! ring descriptor between calls.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const REGISTER_RING_FDS: libc::c_uint = 20;

#[repr(C)]
struct RsrcUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

/// `struct io_uring_getevents_arg` (io_uring_enter(2)).
#[repr(C)]
struct GetEvents {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_usec: u32,
    timeout: u64,
}

/// How this thread names its ring to the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Entrance {
    ring: i32,
    flags: u32,
}

impl Entrance {
    /// Registers the ring's descriptor with this thread, which saves a table look-up per call;
    /// falls back to the plain descriptor.
    pub(crate) fn new(fd: RawFd) -> Self {
        let mut update = RsrcUpdate { offset: u32::MAX, reserved: 0, data: fd as u64 };
        // SAFETY: raw system call since libc wraps none of io_uring. `update` is one element of
        // the layout the kernel expects and outlives the call.
        let registered = unsafe {
            libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_RING_FDS, &raw mut update, 1)
        };
        if registered == 1 {
            return Self { ring: update.offset as i32, flags: ENTER_REGISTERED_RING };
        }
        Self { ring: fd, flags: 0 }
    }

    /// Submits `to_submit` entries and runs deferred work; with `wait`, sleeps until a completion
    /// is there or the time is over. Returns how many entries were submitted.
    pub(crate) fn enter(self, to_submit: u32, wait: Option<Duration>) -> io::Result<u32> {
        let wait_time = wait.unwrap_or_default();
        let timeout = Timespec {
            seconds: wait_time.as_secs() as i64,
            nanoseconds: i64::from(wait_time.subsec_nanos()),
        };
        let arg = GetEvents {
            sigmask: 0,
            sigmask_size: 8,
            min_wait_usec: 0,
            timeout: &raw const timeout as u64,
        };
        let flags = self.flags | ENTER_GETEVENTS | ENTER_EXT_ARG;
        let wanted = u32::from(wait.is_some());
        // SAFETY: raw system call since the crate's wrapper leaves flags out (module docs). `arg`
        // and the timespec it points to have the kernel's layout and outlive the call; the
        // entries submitted were built by this crate under the invariants of their modules.
        let submitted = unsafe {
            let size = size_of::<GetEvents>();
            let arg = &raw const arg;
            libc::syscall(libc::SYS_io_uring_enter, self.ring, to_submit, wanted, flags, arg, size)
        };
        if submitted >= 0 {
            return Ok(submitted as u32);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // Timed out, interrupted, or completions must be reaped before more is submitted.
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(0),
            _ => Err(error),
        }
    }
}
