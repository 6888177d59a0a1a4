//! What a run counts and how long things took.

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest time told apart, in microseconds.
const TIME_US_MAX: u64 = 600_000_000;

macro_rules! counters {
    ($($name:ident $meaning:literal)*) => {
        /// The counters of one worker: it alone writes them, anybody may read.
        #[derive(Default, Debug)]
        pub struct Cells { $(#[doc = $meaning] pub $name: Cell,)* }

        /// Counters, summed over workers.
        #[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
        pub struct Totals { $(#[doc = $meaning] pub $name: u64,)* }

        impl Cells {
            /// Adds what they say to `totals`.
            pub fn add_to(&self, totals: &mut Totals) {
                $(totals.$name += self.$name.0.load(Relaxed);)*
            }
        }

        impl Sub for Totals {
            type Output = Self;
            fn sub(self, earlier: Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }
        }
    };
}

counters! {
    begun "Connections begun."
    ready "Connections that are in their rooms now."
    reached "Times a connection came into its room."
    refused "Connections that failed on their way up, or were refused."
    lost "Connections that were in their rooms and were ended by the other side."
    left "Connections closed by this side."
    sent "Messages sent."
    expected "Deliveries these must come to."
    delivered "Messages received."
    acks "Answers received."
    errors "Answers that say no, other than by a rate limit."
    limited "Answers that say `rate_limited`."
    presence "Presence events received."
    typing "Typing events received."
    gaps "Messages that a receiver's sequence numbers left out."
    duplicates "Messages that a receiver had already."
    reordered "Messages that came behind a later one."
    announced "Messages that the server said are missing (`complete:false`)."
    foreign "Messages that are not ours, or of a room the receiver is not in."
    pings "Pings answered."
    bytes_in "Bytes received."
}

/// One counter.
#[derive(Default, Debug)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Counts `count` more.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Counts one less.
    pub fn take_one(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(1), Relaxed);
    }
}

impl Totals {
    /// What must be zero in a run that is right: gaps, duplicates, reordered, foreign, and answers
    /// that say no.
    pub fn wrong(&self) -> u64 {
        self.gaps + self.duplicates + self.reordered + self.foreign + self.errors
    }
}

/// Times of one period, in microseconds, three digits.
#[derive(Clone, Debug)]
pub struct Times(pub Histogram<u32>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, TIME_US_MAX, 3).expect("the bounds are valid"))
    }
}

impl Times {
    /// Notes one, given in nanoseconds.
    pub fn note_ns(&mut self, ns: u64) {
        self.0.saturating_record(ns / 1000);
    }

    /// Adds these to another period's and starts afresh.
    pub fn move_to(&mut self, other: &mut Self) {
        if !self.0.is_empty() {
            other.0 += &self.0; // equal bounds
            self.0.clear();
        }
    }

    /// Its percentiles; `None` without a value.
    pub fn percentiles(&self) -> Option<Percentiles> {
        (!self.0.is_empty()).then(|| Percentiles {
            p50_us: self.0.value_at_quantile(0.5),
            p90_us: self.0.value_at_quantile(0.9),
            p99_us: self.0.value_at_quantile(0.99),
            p999_us: self.0.value_at_quantile(0.999),
            max_us: self.0.max(),
            count: self.0.len(),
        })
    }
}

/// How long things took, in microseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Percentiles {
    /// Half took no longer.
    pub p50_us: u64,
    /// Nine in ten.
    pub p90_us: u64,
    /// 99 in 100.
    pub p99_us: u64,
    /// 999 in 1,000.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
    /// How many there were.
    pub count: u64,
}
