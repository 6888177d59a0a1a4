//! The time as a turn sees it: read once, passed on as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Nanoseconds since the host's shards started, the same clock on all of them.
    pub ns: u64,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

impl Now {
    /// Milliseconds since the shards started; wraps after 49 days.
    pub fn ms(self) -> u32 {
        (self.ns / 1_000_000) as u32
    }
}

/// Milliseconds since 1970, for threads that have no turns.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Where moments are read from.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now; shards share copies of one.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    pub fn ns(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    /// The present moment.
    pub fn now(self) -> Now {
        Now { ns: self.ns(), wall_ms: wall_ms() }
    }
}

/// Whether `at_ms` has come by `now_ms`; both wrap, and lie less than 24 days apart.
pub fn has_come(at_ms: u32, now_ms: u32) -> bool {
    (now_ms.wrapping_sub(at_ms) as i32) >= 0
}
