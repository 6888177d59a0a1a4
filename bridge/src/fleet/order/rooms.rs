//! The rooms that are open here, and what arrives for them.
//!
//! While a room is being read, what arrives is held and looked at afterwards: messages until the
//! room's order is known again, the rest until its roster is, so that no older roster overwrites
//! what came later. Bounded: what is too much to be held is forgotten, and the read repeated.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::time::Instant;
use tracing::warn;

use super::room::{Course, Step};
use super::{Beside, Ordered, Orders, settings, wire};
use crate::fleet::now_us;
use crate::fleet::stats::note;

/// Events held for one room, and their bytes for all.
const HELD_MAX: usize = 1024;
const HELD_BYTES_MAX: usize = 64 << 20;

/// How long a room waits that Redis refuses to read; twice as long after each time, so often.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
const REFUSALS_MAX: u32 = 5;

/// How long a room stays subscribed that nobody is in: members come back.
pub(super) const GRACE: Duration = Duration::from_secs(3);

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
    /// Whether it stands in [`Rooms::due`].
    queued: bool,
    /// Whether it stands in [`Rooms::behind`].
    is_behind: bool,
    /// Messages' events that came while it was being read.
    pub(super) held: Vec<Box<[u8]>>,
    /// Whether some had to be forgotten.
    pub(super) overflown: bool,
    /// Other events are held until its roster is known, which is asked for under this number.
    pub(super) roster_due: bool,
    roster_asked: u64,
    others: Vec<Box<[u8]>>,
    /// Whether some of those had to be forgotten.
    others_overflown: bool,
    /// Settings have come since it was asked for: what the answer has may be older.
    pub(super) is_configured: bool,
    /// How often in a row Redis has refused to read it.
    refusals: u32,
    /// Which read it waits for; the answer to another is void.
    pub(super) asked: u64,
    /// Since when it is in its phase.
    pub(super) since: Instant,
    /// When something arrived for it.
    active: Instant,
    /// When it is compared with Redis, and what the comparison before has found.
    pub(super) sweep_at: Instant,
    pub(super) suspected: Option<u64>,
}

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

/// What an event amounts to.
enum Verdict {
    Deliver(Ordered, u64),
    Twice,
    Mend,
}

impl Room {
    fn new(shard: u16, floor: u64, now: Instant) -> Self {
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
        (self.sweep_at, self.refusals) = (super::sweep::next(now), 0);
    }

    fn on_message(&mut self, key: &Arc<str>, payload: &[u8]) -> Verdict {
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
    fn hold(&mut self, key: &str, payload: &[u8], is_message: bool) -> bool {
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
    fn fall_behind(&mut self, key: &Arc<str>, now: Instant) {
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

impl Orders {
    /// Something came on a room's channel. Its first byte says what: `M` and `C` are handled here,
    /// the rest by [`Beside::on_event`] with the room's shard.
    pub(in crate::fleet) fn on_event(&self, beside: &Beside, name: &str, payload: &[u8]) {
        let mut rooms = self.rooms.borrow_mut();
        let Some((key, room)) = rooms.map.get_key_value_mut(name) else { return };
        room.active = Instant::now();
        let (key, shard, phase) = (Arc::clone(key), room.shard, room.phase);
        let is_message = payload.first() == Some(&b'M');
        let is_held = if is_message { phase != Phase::Live } else { room.roster_due };
        if phase == Phase::Closed {
            return;
        }
        let is_full = self.is_full(shard);
        if is_full {
            rooms.fall_behind(&key, Instant::now());
        }
        if is_held || is_full {
            let fits = !is_full && rooms.hold(name, payload, is_message);
            if let Some(room) = rooms.map.get_mut(name)
                && !fits
            {
                *(if is_message { &mut room.overflown } else { &mut room.others_overflown }) = true;
            }
            return;
        }
        drop(rooms);
        if is_message {
            self.on_message(&key, payload);
        } else {
            self.on_other(beside, shard, &key, payload);
        }
    }

    /// A message's event in a live room.
    pub(super) fn on_message(&self, key: &Arc<str>, payload: &[u8]) {
        let mut rooms = self.rooms.borrow_mut();
        let Some(room) = rooms.map.get_mut(key) else { return };
        let shard = room.shard;
        match room.on_message(key, payload) {
            Verdict::Deliver(ordered, at_us) => {
                self.stats().delivered.fetch_add(1, Relaxed);
                note(
                    &self.stats().delivery_us,
                    Duration::from_micros(now_us().saturating_sub(at_us)),
                );
                self.tell(shard, ordered);
            }
            Verdict::Twice => {
                self.stats().dropped_twice.fetch_add(1, Relaxed);
            }
            Verdict::Mend => {
                rooms.doubt(key, Phase::Mending, Instant::now());
                self.rooms_due.notify_one();
            }
        }
    }

    /// Anything else in a room whose roster is known.
    pub(super) fn on_other(&self, beside: &Beside, shard: u16, key: &Arc<str>, payload: &[u8]) {
        if payload.first() != Some(&b'C') {
            return beside.on_event(shard, key, payload);
        }
        if let Some(settings) = settings::read_event(key, payload) {
            self.rooms.borrow_mut().note_configured(key);
            self.tell(shard, Ordered::Configured { room: Arc::clone(key), settings });
        }
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
