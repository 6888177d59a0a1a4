//! One timer per slot, in a hashed wheel of buckets of a tick each.
//!
//! A deadline is met at the next tick, never early: with ticks of 16 ms a shard with 20,000
//! connections wakes for a dozen pings at a time, 60 times a second, and not 800 times for one.
//! Buckets are lists threaded through one array, so arming, moving and disarming a timer cost a
//! few stores and never allocate. Time is an argument: milliseconds since the shard started, which
//! wrap after 49 days; deadlines further away than the wheel are armed again when it comes round.

use throng_ring::BySlot;

use crate::clock::has_come;

/// The longest tick, in milliseconds.
pub const TICK_MS_MAX: u32 = 16;
/// Buckets; more than a minute of long ticks, so a usual deadline is met the first time round.
const BUCKETS: usize = 1 << 12;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    previous: u32,
    /// A whole number of ticks.
    deadline_ms: u32,
    /// The list it is in, or `NONE`: a deadline that had passed is not in its own bucket.
    bucket: u32,
}

impl Default for Link {
    fn default() -> Self {
        UNLINKED
    }
}

const UNLINKED: Link = Link { next: NONE, previous: NONE, deadline_ms: 0, bucket: NONE };

/// The timers of one shard.
pub struct Wheel {
    heads: Box<[u32]>,
    /// A bit per bucket that is not empty, for [`Wheel::due_within_ms`].
    occupied: Box<[u64]>,
    links: BySlot<Link>,
    /// The next tick whose bucket has not been looked at.
    cursor_ms: u32,
    ticks: Ticks,
    armed: u32,
}

impl Wheel {
    /// An empty wheel at `now_ms`.
    pub fn new(now_ms: u32, ticks: Ticks) -> Self {
        Self {
            heads: vec![NONE; BUCKETS].into(),
            occupied: vec![0; BUCKETS / 64].into(),
            links: BySlot::default(),
            cursor_ms: ticks.from(now_ms),
            ticks,
            armed: 0,
        }
    }

    /// Sets the slot's timer, which replaces the one it had. A deadline that has passed fires at
    /// the next tick.
    pub fn arm(&mut self, slot: u32, deadline_ms: u32) {
        self.disarm(slot);
        let deadline_ms = self.ticks.from(deadline_ms);
        let late = !has_come(self.cursor_ms, deadline_ms);
        let bucket = self.ticks.bucket_of(if late { self.cursor_ms } else { deadline_ms });
        let next = self.heads[bucket];
        *self.links.obtain(slot) =
            Link { next, previous: NONE, deadline_ms, bucket: bucket as u32 };
        if next != NONE {
            self.links.obtain(next).previous = slot;
        }
        self.heads[bucket] = slot;
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
        self.armed += 1;
    }

    /// Clears the slot's timer, if it has one.
    pub fn disarm(&mut self, slot: u32) {
        let Some(&link) = self.links.get(slot) else { return };
        if link.bucket == NONE {
            return;
        }
        *self.links.obtain(slot) = UNLINKED;
        self.armed -= 1;
        if link.next != NONE {
            self.links.obtain(link.next).previous = link.previous;
        }
        if link.previous != NONE {
            self.links.obtain(link.previous).next = link.next;
            return;
        }
        let bucket = link.bucket as usize;
        self.heads[bucket] = link.next;
        if link.next == NONE {
            self.occupied[bucket / 64] &= !(1 << (bucket % 64));
        }
    }

    /// A slot whose deadline is not after `now_ms`, disarmed; `None` when there is no more.
    pub fn poll_expired(&mut self, now_ms: u32) -> Option<u32> {
        while has_come(self.cursor_ms, now_ms) {
            let bucket = self.ticks.bucket_of(self.cursor_ms);
            let mut slot = self.heads[bucket];
            while slot != NONE {
                let link = *self.links.obtain(slot);
                if has_come(link.deadline_ms, now_ms) {
                    self.disarm(slot);
                    return Some(slot);
                }
                slot = link.next;
            }
            if self.armed == 0 {
                self.cursor_ms = self.ticks.from(now_ms.wrapping_add(1));
                return None;
            }
            self.cursor_ms = self.cursor_ms.wrapping_add(self.ticks.every_ms);
        }
        None
    }

    /// Gives back the memory of slots without a timer.
    pub fn release_unused(&mut self) {
        self.links.release(|link| link.bucket == NONE);
    }

    /// How long from `now_ms` until the next deadline, at most `limit_ms`; 0 if one has passed.
    pub fn due_within_ms(&self, now_ms: u32, limit_ms: u32) -> u32 {
        if self.armed == 0 {
            return limit_ms;
        }
        let mut at_ms = self.cursor_ms;
        for _ in 0..=BUCKETS / 64 {
            let ahead_ms = at_ms.wrapping_sub(now_ms) as i32;
            if ahead_ms >= limit_ms as i32 {
                break;
            }
            let bucket = self.ticks.bucket_of(at_ms);
            let word = self.occupied[bucket / 64] >> (bucket % 64);
            if word != 0 {
                let ahead_ms = ahead_ms + (word.trailing_zeros() * self.ticks.every_ms) as i32;
                return (ahead_ms.max(0) as u32).min(limit_ms);
            }
            at_ms = at_ms.wrapping_add((64 - (bucket % 64) as u32) * self.ticks.every_ms);
        }
        limit_ms
    }
}

/// When something regular happens: every so many milliseconds, at a moment of its own on each
/// shard, so that shards do not all wake at once.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    /// A power of two, so that time may wrap.
    every_ms: u32,
    /// Less than `every_ms`.
    phase_ms: u32,
}

impl Ticks {
    /// About every `wanted_ms`, rounded down to a power of two, for one of `shards`.
    pub fn new(wanted_ms: u32, shard: u16, shards: u16) -> Self {
        let every_ms = 1 << wanted_ms.max(1).ilog2();
        Self { every_ms, phase_ms: every_ms * u32::from(shard) / u32::from(shards) }
    }

    /// The first tick that is not before this time.
    pub fn from(self, time_ms: u32) -> u32 {
        let late_ms = time_ms.wrapping_sub(self.phase_ms).wrapping_add(self.every_ms - 1);
        (late_ms & !(self.every_ms - 1)).wrapping_add(self.phase_ms)
    }

    fn bucket_of(self, tick_ms: u32) -> usize {
        (tick_ms.wrapping_sub(self.phase_ms) / self.every_ms) as usize % BUCKETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn ticks_come_a_little_later_and_never_earlier() {
        for (wanted_ms, every_ms) in [(0, 1), (1, 1), (78, 64), (16, 16)] {
            for shard in 0..7 {
                let ticks = Ticks::new(wanted_ms, shard, 7);
                assert_eq!(ticks.every_ms, every_ms);
                for due_ms in [0, 1, 63, 1000, u32::MAX - 3, u32::MAX] {
                    let late_ms = ticks.from(due_ms).wrapping_sub(due_ms);
                    assert!(late_ms < every_ms, "{due_ms} is {late_ms} late");
                }
            }
        }
        let phases = (0..4).map(|shard| Ticks::new(64, shard, 4).phase_ms);
        assert_eq!(phases.collect::<Vec<_>>(), [0, 16, 32, 48]);
    }

    fn drain(wheel: &mut Wheel, now_ms: u32) -> Vec<u32> {
        let mut slots: Vec<_> = std::iter::from_fn(|| wheel.poll_expired(now_ms)).collect();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn fires_at_the_tick_after_its_deadline_and_not_before() {
        let mut wheel = Wheel::new(100, Ticks::new(16, 0, 1));
        wheel.arm(3, 150);
        assert_eq!((wheel.due_within_ms(100, 500), wheel.due_within_ms(110, 20)), (60, 20));
        assert!(drain(&mut wheel, 159).is_empty());
        assert_eq!(drain(&mut wheel, 160), [3]);
        assert_eq!((drain(&mut wheel, 9999), wheel.due_within_ms(9999, 70)), (vec![], 70));
    }

    #[test]
    fn deadlines_beyond_one_turn_wait_for_theirs() {
        let mut wheel = Wheel::new(0, Ticks::new(16, 0, 1));
        wheel.arm(0, 200_000);
        assert!(drain(&mut wheel, 199_999).is_empty());
        assert_eq!(drain(&mut wheel, 200_000), [0]);
    }

    #[test]
    fn time_may_wrap() {
        let mut wheel = Wheel::new(u32::MAX - 25, Ticks::new(16, 0, 1));
        wheel.arm(0, u32::MAX - 20);
        wheel.arm(1, 10);
        assert_eq!(drain(&mut wheel, u32::MAX), [0]);
        assert_eq!(wheel.due_within_ms(u32::MAX, 500), 17);
        assert_eq!(drain(&mut wheel, 16), [1]);
    }

    #[test]
    fn a_passed_deadline_fires_at_the_next_tick_and_can_be_disarmed() {
        let mut wheel = Wheel::new(1000, Ticks::new(16, 0, 1));
        wheel.arm(0, 1);
        wheel.arm(1, 2);
        wheel.disarm(1);
        assert_eq!(drain(&mut wheel, 1008), [0]);
    }

    proptest! {
        /// Against a model: a map from slot to deadline.
        #[test]
        fn agrees_with_a_sorted_map(
            shard in 0u16..5,
            tick_ms in 1u32..20,
            steps in prop::collection::vec((0u32..40, 0u32..150_000, 0u32..3, 0u32..9000), 1..200),
        ) {
            let mut now = u32::MAX - 300_000;
            let mut wheel = Wheel::new(now, Ticks::new(tick_ms, shard, 5));
            let mut model = BTreeMap::new();
            let start = now;
            for (slot, delay, action, pass) in steps {
                match action {
                    0 => {
                        wheel.disarm(slot);
                        model.remove(&slot);
                    }
                    _ => {
                        wheel.arm(slot, now.wrapping_add(delay));
                        let deadline = wheel.ticks.from(now.wrapping_add(delay));
                        model.insert(slot, deadline.wrapping_sub(start));
                    }
                }
                now = now.wrapping_add(pass);
                let elapsed = now.wrapping_sub(start);
                let due: Vec<u32> =
                    model.iter().filter(|(_, at)| **at <= elapsed).map(|(slot, _)| *slot).collect();
                model.retain(|_, at| *at > elapsed);
                prop_assert_eq!(drain(&mut wheel, now), due);
                let next = model.values().map(|at| at - elapsed).min().unwrap_or(u32::MAX);
                let turn_ms = BUCKETS as u32 * wheel.ticks.every_ms;
                let all_within_a_turn = model.values().all(|at| at - elapsed < turn_ms);
                // Early is harmless (for a deadline more than a turn away), late is not.
                let told = wheel.due_within_ms(now, 60_000);
                prop_assert!(told <= next.min(60_000), "{} after {}", told, next);
                prop_assert!(!all_within_a_turn || told == next.min(60_000));
            }
        }
    }
}
