//! What shards have passed that Redis does not have yet, and what it has of it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::steps::Steps;

/// Steps in one entry.
pub(super) const STEPS_MAX: usize = 512;

/// Steps that wait for Redis; if there are more they are given up, and with them the recovery of
/// those who have read less.
const WAITING_MAX: usize = 1 << 16;

/// Entries kept of a shard: five minutes' worth at 50 a second.
const ENTRIES_MAX: usize = 1 << 14;

/// See the module.
#[derive(Default)]
pub(super) struct Trails {
    pub(super) shards: RefCell<HashMap<u16, ShardTrail>>,
    pub(super) notify: Notify,
    pub(super) is_refusing: Cell<bool>,
}

pub(super) struct Step {
    position: u64,
    room: Arc<str>,
    seq: u64,
    before: u64,
}

#[derive(Default)]
pub(super) struct ShardTrail {
    /// What Redis does not have, by rising position.
    pub(super) waiting: VecDeque<Step>,
    /// The position up to which the trail tells all, or where it begins anew.
    pub(super) told: u64,
    /// The position up to which everything passed is known here.
    pub(super) known: u64,
    /// Of each room, the last message passed: position and `seq`.
    pub(super) passed: HashMap<Arc<str>, (u64, u64)>,
    /// Rooms of which Redis does not have that.
    pub(super) changed: HashSet<Arc<str>>,
    /// Entries in Redis: when they were written, and their ids.
    entries: VecDeque<(Instant, u64)>,
    /// Rooms that may have no members here any more: when, which, and the last position then. Each
    /// room of `passed` is here, or has members here.
    pub(super) closed: VecDeque<(Instant, Arc<str>, u64)>,
    /// Whether Redis has the [`WHOLE`] that belongs to `known`.
    is_told: bool,
}

impl ShardTrail {
    fn note(&mut self, steps: Vec<(u64, Arc<str>, u64)>) {
        for (position, room, seq) in steps {
            self.known = self.known.max(position);
            if room.is_empty() {
                continue;
            }
            let before = self.passed.insert(Arc::clone(&room), (position, seq));
            if before.is_none() {
                // It may have been closed before this was told.
                self.closed.push_back((Instant::now(), Arc::clone(&room), position));
            }
            self.changed.insert(Arc::clone(&room));
            let before = before.map_or(0, |(_, seq)| seq);
            let last = self.waiting.back().map_or(self.told, |step| step.position);
            if position > last {
                self.waiting.push_back(Step { position, room, seq, before });
            }
        }
        if self.waiting.len() > WAITING_MAX {
            // A gap in the trail: who reads it sees where it begins anew.
            self.told = self.waiting.back().map_or(self.told, |step| step.position);
            self.waiting.clear();
        }
        self.is_told = false;
    }

    pub(super) fn has_news(&self) -> bool {
        !self.is_told
    }

    /// The next entry of at most [`STEPS_MAX`] steps from `skip` on: its end, and its text.
    pub(super) fn entry(&self, skip: usize) -> Option<(u64, String)> {
        let mut rooms: BTreeMap<&str, (u64, Vec<u64>)> = BTreeMap::new();
        let mut end = None;
        for step in self.waiting.iter().skip(skip).take(STEPS_MAX) {
            let (_, pairs) = rooms.entry(&step.room).or_insert((step.before, Vec::new()));
            pairs.extend([step.position, step.seq]);
            end = Some(step.position);
        }
        let steps: Vec<Steps> =
            rooms.into_iter().map(|(room, (before, it))| Steps(room.into(), before, it)).collect();
        Some((end?, serde_json::to_string(&steps).ok()?))
    }

    /// Redis has these entries and, unless they have changed since, these rooms.
    pub(super) fn on_written<'a>(
        &mut self,
        entries: &[u64],
        rooms: impl Iterator<Item = (&'a Arc<str>, Option<(u64, u64)>)>,
        whole: Option<u64>,
    ) {
        for end in entries {
            let count = self.waiting.iter().take_while(|step| step.position <= *end).count();
            self.waiting.drain(..count);
            self.told = self.told.max(*end);
            self.entries.push_back((Instant::now(), *end));
        }
        for (room, last) in rooms {
            if self.passed.get(room).copied() == last {
                self.changed.remove(room);
            }
        }
        self.is_told = whole == Some(self.known) && self.changed.is_empty();
    }

    /// The next room that has been closed for so long, with nothing passed since; it is let go of.
    pub(super) fn poll_over(
        &mut self,
        now: Instant,
        time: Duration,
        is_open: impl Fn(&str) -> bool,
    ) -> Option<Arc<str>> {
        while self.closed.front().is_some_and(|it| now.duration_since(it.0) > time) {
            let (_, room, position) = self.closed.pop_front()?;
            let Some((last, _)) = self.passed.get(&room).copied().filter(|_| !is_open(&room))
            else {
                continue;
            };
            if last == position {
                self.passed.remove(&room);
                self.changed.remove(&room);
                return Some(room);
            }
            self.closed.push_back((now, room, last));
        }
        None
    }

    /// Entries that are too old are let go of; the id of the first that stays.
    pub(super) fn trim(&mut self, now: Instant, window: Duration) -> u64 {
        while self.entries.len() > ENTRIES_MAX
            || self.entries.front().is_some_and(|(at, _)| now.duration_since(*at) > window)
        {
            self.entries.pop_front();
        }
        self.entries.front().map_or(0, |(_, id)| *id)
    }
}

impl Trails {
    /// Takes in what a shard has passed on.
    pub(super) fn note(&self, shard: u16, steps: Vec<(u64, Arc<str>, u64)>) {
        self.shards.borrow_mut().entry(shard).or_default().note(steps);
        self.notify.notify_one();
    }

    /// A new link: Redis may have lost the last of what it had.
    pub(super) fn tell_all_again(&self) {
        for trail in self.shards.borrow_mut().values_mut() {
            trail.changed = trail.passed.keys().cloned().collect();
            trail.is_told = false;
        }
        self.notify.notify_one();
    }

    /// A room has no members on this host any more.
    pub(super) fn close(&self, room: &Arc<str>, now: Instant) {
        for trail in self.shards.borrow_mut().values_mut() {
            if let Some((position, _)) = trail.passed.get(room).copied() {
                trail.closed.push_back((now, Arc::clone(room), position));
            }
        }
    }
}
