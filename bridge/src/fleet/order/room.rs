//! One room of this host: where it is on its way, and what is held for it.
//!
//! Knows its own state alone; which room is read when is the business of [`super::rooms`].

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::course::{Course, Step};
use super::wire;
use crate::fleet::words::Ordered;

/// How often a room is compared, by half more or less; a test has less time.
const INTERVAL: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 60 });

/// Where a room is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// It must be subscribed to and read, before its shard may be told of anything.
    Opening,
    /// What arrives is delivered.
    Live,
    /// It must be read from where it stands.
    Mending,
    /// Its continuity is lost: its newest messages must be read.
    Restarting,
    /// Nobody is in it.
    Closed,
}

/// A room of this host.
pub(super) struct Room {
    pub(super) shard: u16,
    pub(super) phase: Phase,
    pub(super) course: Course,
    /// What was known of it when it was opened.
    pub(super) floor: u64,
    pub(super) subscribed: bool,
    /// Whether it stands among those that must be read.
    pub(super) queued: bool,
    /// Whether it stands among those whose shard must catch up first.
    pub(super) is_behind: bool,
    /// Messages' events that came while it was being read.
    pub(super) held: Vec<Box<[u8]>>,
    /// Whether some had to be forgotten.
    pub(super) overflown: bool,
    /// Other events are held until its roster is known, which is asked for under this number.
    pub(super) roster_due: bool,
    pub(super) roster_asked: u64,
    pub(super) others: Vec<Box<[u8]>>,
    /// Whether some of those had to be forgotten.
    pub(super) others_overflown: bool,
    /// Settings have come since it was asked for: what the answer has may be older.
    pub(super) is_configured: bool,
    /// How often in a row Redis has refused to read it.
    pub(super) refusals: u32,
    /// Which read it waits for; the answer to another is void.
    pub(super) asked: u64,
    /// Since when it is in its phase.
    pub(super) since: Instant,
    /// When something arrived for it.
    pub(super) active: Instant,
    /// When it is compared with Redis, and what the comparison before has found.
    pub(super) sweep_at: Instant,
    pub(super) suspected: Option<u64>,
}

/// What an event amounts to.
pub(super) enum Verdict {
    Deliver(Ordered, u64),
    Twice,
    Mend,
}

/// When a room that was found right is compared next.
pub(super) fn next_sweep(now: Instant) -> Instant {
    let jitter = wire::random_epoch() % INTERVAL.as_millis() as u64;
    now + INTERVAL / 2 + Duration::from_millis(jitter)
}

impl Room {
    pub(super) fn new(shard: u16, floor: u64, now: Instant) -> Self {
        Self {
            shard,
            phase: Phase::Opening,
            course: Course::default(),
            floor,
            subscribed: false,
            queued: false,
            is_behind: false,
            held: Vec::new(),
            overflown: false,
            roster_due: true,
            roster_asked: 0,
            others: Vec::new(),
            others_overflown: false,
            is_configured: false,
            refusals: 0,
            asked: 0,
            since: now,
            active: now,
            sweep_at: now,
            suspected: None,
        }
    }

    /// It has been read.
    pub(super) fn go_live(&mut self, now: Instant) {
        (self.phase, self.since, self.suspected) = (Phase::Live, now, None);
        (self.sweep_at, self.refusals) = (next_sweep(now), 0);
    }

    pub(super) fn on_message(&mut self, key: &Arc<str>, payload: &[u8]) -> Verdict {
        let Some(event) = wire::event(payload) else { return Verdict::Mend };
        let message = wire::message(event.id, event.seq, event.record);
        let Some(message) = message.map(Arc::new) else { return Verdict::Mend };
        match self.course.step(event.epoch, event.seq, event.prev, event.id) {
            Step::Next => {
                let room = Arc::clone(key);
                Verdict::Deliver(Ordered::Delivered { room, message }, event.at_us)
            }
            Step::Known => Verdict::Twice,
            Step::Unsure => Verdict::Mend,
        }
    }
}
