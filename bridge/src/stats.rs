//! What the bridge's thread counts, for `/metrics`, `/health` and `/alerts`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

/// The bridge's counters and gauges. Its own thread writes them, anyone may read.
#[derive(Debug)]
pub struct Stats {
    /// Since when the store has not answered, in milliseconds since 1970; 0: it does.
    pub down_since_ms: AtomicU64,
    /// Messages that wait for their commit.
    pub queued_messages: AtomicU64,
    /// Their bytes.
    pub queued_bytes: AtomicU64,
    /// Messages committed.
    pub kept: AtomicU64,
    /// Batches committed.
    pub batches: AtomicU64,
    /// Messages in the last batch.
    pub last_batch: AtomicU64,
    /// Batches that had to be tried again.
    pub retries: AtomicU64,
    /// Messages the store has refused, which lie parked.
    pub parked: AtomicU64,
    /// Messages not even parked: their content is in the log alone.
    pub unparked: AtomicU64,
    /// Messages of other hosts not kept here, since too much waited.
    pub skipped: AtomicU64,
    /// Reads asked of the store.
    pub reads: AtomicU64,
    /// Reads that were the same as one under way.
    pub reads_merged: AtomicU64,
    /// Reads that failed or took too long.
    pub reads_failed: AtomicU64,
    /// Messages whose `clientId` could not be looked up in time.
    pub lookups_failed: AtomicU64,
    /// Users noted.
    pub users_noted: AtomicU64,
    /// Users not noted: too many waited.
    pub users_dropped: AtomicU64,
    /// Messages deleted by retention.
    pub swept_messages: AtomicU64,
    /// Users deleted by retention.
    pub swept_users: AtomicU64,
    /// When retention has last been through everything, in milliseconds since 1970; 0: not yet.
    pub swept_at_ms: AtomicU64,
    /// How long the store's answers to appends took lately, in microseconds.
    pub append_us: Mutex<Histogram<u64>>,
    /// The same for reads.
    pub read_us: Mutex<Histogram<u64>>,
    /// How long the last answer took, whatever was asked, in microseconds.
    pub last_answer_us: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        let histogram = || {
            // A microsecond to an hour, two digits: these bounds are valid.
            let made = Histogram::new_with_bounds(1, 3_600_000_000, 2);
            Mutex::new(made.unwrap_or_else(|_| unreachable!("the bounds are valid")))
        };
        Self {
            down_since_ms: AtomicU64::default(),
            queued_messages: AtomicU64::default(),
            queued_bytes: AtomicU64::default(),
            kept: AtomicU64::default(),
            batches: AtomicU64::default(),
            last_batch: AtomicU64::default(),
            retries: AtomicU64::default(),
            parked: AtomicU64::default(),
            unparked: AtomicU64::default(),
            skipped: AtomicU64::default(),
            reads: AtomicU64::default(),
            reads_merged: AtomicU64::default(),
            reads_failed: AtomicU64::default(),
            lookups_failed: AtomicU64::default(),
            users_noted: AtomicU64::default(),
            users_dropped: AtomicU64::default(),
            swept_messages: AtomicU64::default(),
            swept_users: AtomicU64::default(),
            swept_at_ms: AtomicU64::default(),
            append_us: histogram(),
            read_us: histogram(),
            last_answer_us: AtomicU64::default(),
        }
    }
}

impl Stats {
    /// Whether the store has answered last time.
    pub fn is_up(&self) -> bool {
        self.down_since_ms.load(Ordering::Relaxed) == 0
    }

    /// Notes how long an append took.
    pub(crate) fn note_append(&self, time: Duration) {
        note(&self.append_us, time);
    }

    /// Notes how long a read took.
    pub(crate) fn note_read(&self, time: Duration) {
        note(&self.read_us, time);
    }

    /// What took long a while ago is no news.
    pub(crate) fn forget_latencies(&self) {
        for histogram in [&self.append_us, &self.read_us] {
            if let Ok(mut histogram) = histogram.lock() {
                histogram.reset();
            }
        }
    }
}

fn note(histogram: &Mutex<Histogram<u64>>, time: Duration) {
    if let Ok(mut histogram) = histogram.lock() {
        histogram.saturating_record(time.as_micros() as u64);
    }
}
