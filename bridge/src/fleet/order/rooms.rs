//! The book of the rooms that are open here: which must be read, and what is held for them.
//!
//! While a room is being read, what arrives is held and looked at afterwards: messages until the
//! room's order is known again, the rest until its roster is, so that no older roster overwrites
//! what came later. Bounded: what is too much to be held is forgotten, and the read repeated.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::time::Instant;
use tracing::warn;

use super::room::{Phase, Room};

/// Events held for one room, and their bytes for all.
const HELD_MAX: usize = 1024;
const HELD_BYTES_MAX: usize = 64 << 20;

/// How long a room waits that Redis refuses to read; twice as long after each time, so often.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
const REFUSALS_MAX: u32 = 5;

/// How long a room stays subscribed that nobody is in: members come back.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// All rooms.
#[derive(Default)]
pub(super) struct Rooms {
    pub(super) map: HashMap<Arc<str>, Room>,
    /// Those that must be read.
    due: VecDeque<Arc<str>>,
    /// Those whose roster must be read, and the number of that read.
    rosters: VecDeque<(Arc<str>, u64)>,
    /// Those that Redis has refused to read, and when they are tried again.
    refused: Vec<(Instant, Arc<str>, What)>,
    /// Opened ones, some of which may still wait for Redis, and closed ones; the oldest first.
    opened: VecDeque<(Instant, Arc<str>)>,
    closed: VecDeque<(Instant, Arc<str>)>,
    /// Those that must be read once their shards have caught up.
    behind: Vec<Arc<str>>,
    reads: u64,
    held_bytes: usize,
    /// Whether there is a link.
    is_linked: bool,
}

/// What has been refused.
#[derive(Clone, Copy)]
pub(super) enum What {
    Room,
    Roster(u64),
}

impl Rooms {
    /// A member is here. The room is read anew even where it is subscribed to still.
    pub(super) fn open(&mut self, shard: u16, key: Arc<str>, floor: u64, now: Instant) {
        self.take_held(&key);
        self.take_others(&key);
        self.opened.push_back((now, Arc::clone(&key)));
        let room = self.map.entry(Arc::clone(&key)).or_insert_with(|| Room::new(shard, floor, now));
        let subscribed = room.subscribed;
        let (queued, is_behind) = (room.queued, room.is_behind);
        *room = Room { subscribed, queued, is_behind, ..Room::new(shard, floor, now) };
        self.queue(&key, true);
    }

    pub(super) fn close(&mut self, key: Arc<str>, now: Instant) {
        let Some(room) = self.map.get_mut(&key) else { return };
        (room.phase, room.since, room.roster_asked) = (Phase::Closed, now, 0);
        self.take_held(&key);
        self.take_others(&key);
        if !self.is_linked {
            self.map.remove(&key);
            return;
        }
        self.closed.push_back((now, key));
    }

    /// Takes the messages that are held for a room.
    pub(super) fn take_held(&mut self, key: &str) -> Vec<Box<[u8]>> {
        let held = self.map.get_mut(key).map(|room| mem::take(&mut room.held)).unwrap_or_default();
        self.held_bytes -= held.iter().map(|it| it.len()).sum::<usize>();
        held
    }

    /// Takes what else is held for a room.
    pub(super) fn take_others(&mut self, key: &str) -> Vec<Box<[u8]>> {
        let room = self.map.get_mut(key);
        let others = room.map(|room| mem::take(&mut room.others)).unwrap_or_default();
        self.held_bytes -= others.iter().map(|it| it.len()).sum::<usize>();
        others
    }

    /// Holds an event back; false if there is too much already.
    pub(super) fn hold(&mut self, key: &str, payload: &[u8], is_message: bool) -> bool {
        let full = self.held_bytes + payload.len() > HELD_BYTES_MAX;
        let Some(room) = self.map.get_mut(key) else { return true };
        let list = if is_message { &mut room.held } else { &mut room.others };
        if full || list.len() >= HELD_MAX {
            let freed = list.drain(..).map(|it| it.len()).sum::<usize>();
            self.held_bytes -= freed;
            return false;
        }
        list.push(payload.into());
        self.held_bytes += payload.len();
        true
    }

    /// The room must be read; without a link that is known of all.
    pub(super) fn queue(&mut self, key: &Arc<str>, first: bool) {
        if !self.is_linked {
            return;
        }
        let Some(room) = self.map.get_mut(key) else { return };
        if !mem::replace(&mut room.queued, true) {
            let key = Arc::clone(key);
            if first { self.due.push_front(key) } else { self.due.push_back(key) }
        }
    }

    /// Puts a live room into a phase in which it is read.
    pub(super) fn doubt(&mut self, key: &Arc<str>, phase: Phase, now: Instant) {
        let Some(room) = self.map.get_mut(key) else { return };
        if room.phase == Phase::Live {
            room.since = now;
        }
        room.phase = phase;
        self.queue(key, false);
    }

    /// Its shard is too far behind to be told what has come: the room is read when it no longer is.
    pub(super) fn fall_behind(&mut self, key: &Arc<str>, now: Instant) {
        let Some(room) = self.map.get_mut(key) else { return };
        if room.phase == Phase::Live {
            (room.phase, room.since) = (Phase::Mending, now);
        }
        room.roster_due = true;
        self.set_behind(key);
    }

    fn set_behind(&mut self, key: &Arc<str>) {
        let Some(room) = self.map.get_mut(key) else { return };
        if !mem::replace(&mut room.is_behind, true) {
            if self.behind.is_empty() {
                warn!(shard = room.shard, "a shard is far behind; its rooms will be repaired");
            }
            self.behind.push(Arc::clone(key));
        }
    }

    /// Queues the rooms of shards that have caught up.
    pub(super) fn retry_behind(&mut self, has_room: impl Fn(u16) -> bool) {
        let mut still = Vec::new();
        for key in mem::take(&mut self.behind) {
            let Some(room) = self.map.get_mut(&key) else { continue };
            room.is_behind = !has_room(room.shard);
            if room.is_behind {
                still.push(key);
            } else {
                self.queue(&key, false);
            }
        }
        self.behind = still;
    }

    /// The next rooms to be read. Those of shards that are too far behind wait.
    pub(super) fn take_due(
        &mut self,
        count: usize,
        is_full: impl Fn(u16) -> bool,
    ) -> Vec<Arc<str>> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(key) = self.due.pop_front()
        {
            let Some(room) = self.map.get_mut(&key) else { continue };
            room.queued = false;
            if matches!(room.phase, Phase::Live | Phase::Closed) {
                continue;
            }
            if is_full(room.shard) {
                self.set_behind(&key);
            } else {
                taken.push(key);
            }
        }
        taken
    }

    /// Forgets rooms that have been closed for long enough; returns those to be unsubscribed from.
    pub(super) fn take_closed(&mut self, count: usize, now: Instant) -> Vec<Arc<str>> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some((since, _)) = self.closed.front()
            && *since + GRACE <= now
            && let Some((since, key)) = self.closed.pop_front()
        {
            let is_still = |room: &Room| room.phase == Phase::Closed && room.since == since;
            if self.map.get(&key).is_some_and(is_still)
                && self.map.remove(&key).is_some_and(|room| room.subscribed)
            {
                taken.push(key);
            }
        }
        taken
    }

    /// There is no link: nothing is subscribed to, what is closed is left, and what is held is old.
    pub(super) fn lose(&mut self) {
        self.map.retain(|_, room| room.phase != Phase::Closed);
        for room in self.map.values_mut() {
            (room.subscribed, room.queued) = (false, false);
            (room.held, room.others) = (Vec::new(), Vec::new());
        }
        self.held_bytes = 0;
        self.closed.clear();
        self.due.clear();
        self.is_linked = false;
    }

    /// A new link: everything may have been missed. `is_other`: not the process that the link
    /// before led to.
    pub(super) fn restart(&mut self, now: Instant, is_other: bool) {
        self.lose();
        self.is_linked = true;
        self.rosters.clear();
        self.refused.clear();
        self.behind.clear();
        let mut keys: Vec<_> = Vec::with_capacity(self.map.len());
        for (key, room) in &mut self.map {
            (room.queued, room.is_behind) = (true, false);
            (room.roster_due, room.roster_asked) = (true, 0);
            if is_other {
                room.course.note_loss();
            }
            if room.phase == Phase::Live {
                (room.phase, room.since) = (Phase::Mending, now);
            }
            keys.push((room.phase != Phase::Opening, room.active, Arc::clone(key)));
        }
        // Those whose members wait, then the liveliest.
        keys.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        self.due = keys.into_iter().map(|(.., key)| key).collect();
    }

    /// The room's roster must be read, if that is due and not asked for yet.
    pub(super) fn ask_roster(&mut self, key: &Arc<str>) {
        let Some(room) = self.map.get_mut(key) else { return };
        if room.roster_due && room.roster_asked == 0 {
            self.reads += 1;
            room.roster_asked = self.reads;
            self.rosters.push_back((Arc::clone(key), self.reads));
        }
    }

    /// The next roster to be read.
    pub(super) fn take_roster(&mut self) -> Option<(Arc<str>, u64)> {
        while let Some((key, number)) = self.rosters.pop_front() {
            if self.map.get(&key).is_some_and(|room| room.roster_asked == number) {
                return Some((key, number));
            }
        }
        None
    }

    /// A roster has been read: the room's shard, and what has come since it was asked for. `None`:
    /// it is wanted no longer.
    pub(super) fn on_roster(
        &mut self,
        key: &Arc<str>,
        number: u64,
    ) -> Option<(u16, Vec<Box<[u8]>>)> {
        let room = self.map.get_mut(key).filter(|room| room.roster_asked == number)?;
        let shard = room.shard;
        (room.roster_asked, room.refusals) = (0, 0);
        room.roster_due = mem::take(&mut room.others_overflown);
        if room.roster_due && room.phase == Phase::Live {
            // Settings may be among what was forgotten; the roster is asked for after the read.
            self.doubt(key, Phase::Mending, Instant::now());
        }
        Some((shard, self.take_others(key)))
    }

    /// A roster has been read that its shard is too far behind to be told: it is read again when
    /// it no longer is.
    pub(super) fn postpone_roster(&mut self, key: &Arc<str>, number: u64) {
        let Some(room) = self.map.get_mut(key).filter(|room| room.roster_asked == number) else {
            return;
        };
        (room.roster_asked, room.refusals, room.others_overflown) = (0, 0, false);
        self.take_others(key);
        self.fall_behind(key, Instant::now());
    }

    /// A room's settings have been told.
    pub(super) fn note_configured(&mut self, key: &str) {
        if let Some(room) = self.map.get_mut(key) {
            room.is_configured = true;
        }
    }

    /// Redis refuses to read something of a room, which is tried again after a pause that grows.
    pub(super) fn refuse(&mut self, key: &Arc<str>, what: What, now: Instant) {
        let Some(room) = self.map.get_mut(key) else { return };
        let pause = REFUSED_PAUSE * (1 << room.refusals.min(REFUSALS_MAX));
        room.refusals += 1;
        self.refused.push((now + pause, Arc::clone(key), what));
    }

    /// Queues again what was refused a while ago.
    pub(super) fn retry_refused(&mut self, now: Instant) {
        let due: Vec<_> = self.refused.extract_if(.., |it| it.0 <= now).collect();
        for (_, key, what) in due {
            match what {
                What::Room => self.queue(&key, false),
                What::Roster(number) => self.rosters.push_back((key, number)),
            }
        }
    }

    /// Rooms opened before `before` that still wait for Redis; they count as closed.
    pub(super) fn take_stuck(&mut self, before: Instant, now: Instant) -> Vec<(u16, Arc<str>)> {
        let mut stuck = Vec::new();
        while let Some((since, _)) = self.opened.front()
            && *since <= before
            && let Some((since, key)) = self.opened.pop_front()
        {
            let Some(room) = self.map.get(&key) else { continue };
            if room.phase == Phase::Opening && room.since == since {
                stuck.push((room.shard, Arc::clone(&key)));
                self.close(key, now);
            }
        }
        stuck
    }

    /// The room is about to be read: messages that have come before will be in the answer.
    pub(super) fn begin_read(&mut self, key: &str) -> u64 {
        self.reads += 1;
        let number = self.reads;
        self.take_held(key);
        if let Some(room) = self.map.get_mut(key) {
            room.asked = number;
            (room.overflown, room.is_configured) = (false, false);
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_forgotten_with_its_link() {
        let (now, key) = (Instant::now(), Arc::<str>::from("a"));
        let mut rooms = Rooms::default();
        rooms.restart(now, false);
        rooms.open(0, Arc::clone(&key), 0, now);
        for is_message in [true, false] {
            assert!(rooms.hold(&key, b"old", is_message));
        }
        rooms.lose();
        rooms.restart(now, false);
        assert!(rooms.take_others(&key).is_empty(), "an old word would follow a newer roster");
        assert!(rooms.take_held(&key).is_empty());
        assert_eq!(rooms.held_bytes, 0);
    }

    #[test]
    fn rooms_that_nobody_could_open_are_left_at_once() {
        let now = Instant::now();
        let mut rooms = Rooms::default();
        for number in 0..100 {
            rooms.open(0, format!("r{number}").into(), 0, now);
        }
        assert_eq!(rooms.take_stuck(now, now).len(), 100);
        let left = (rooms.map.len(), rooms.due.len(), rooms.closed.len(), rooms.opened.len());
        assert_eq!(left, (0, 0, 0, 0));
    }
}
