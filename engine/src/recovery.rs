//! What a shard has said lately, so that a client whose connection broke misses nothing.
//!
//! One log per shard: an entry per event, however many received it, by position. The position is
//! the offset that clients bring back. A socket that comes back gets what was said after its offset
//! to it, to rooms while it was in them, and to its namespace; or it is told that it is new, if any
//! of that may have been forgotten. A quiet socket is not: each room knows how far it has been
//! forgotten, and nothing said since means nothing missed.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use throng_bridge::fleet::{HostId, Offset, Session, room_tag};

use crate::app::Audience;
use crate::codec::Packet;
use crate::ids::{RoomId, Sid};

/// Whom an event went to.
#[derive(Clone, Debug)]
pub enum Reach {
    /// One socket.
    Socket(Sid),
    /// A room's members.
    Room(RoomId, Arc<str>, Audience),
    /// Rooms without rooms of a namespace, by their keys; no rooms: all of it.
    Spread(Arc<str>, Vec<Arc<str>>, Vec<Arc<str>>),
}

struct Entry {
    reach: Reach,
    packet: Packet,
    at_ms: u32,
}

impl Entry {
    fn held_bytes(&self) -> usize {
        let keys = match &self.reach {
            Reach::Spread(_, rooms, except) => {
                rooms.iter().chain(except).map(|it| it.len() + 32).sum()
            }
            _ => 0,
        };
        size_of::<Self>() + self.packet.held_bytes() + keys
    }
}

/// The events of one shard, the latest ones.
#[derive(Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    /// Position of the first entry.
    start: u64,
    held_bytes: usize,
    /// In a fleet: whose log it is, which stands in each offset.
    place: Option<(HostId, u16)>,
}

/// What a client says it has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// Everything before a position of this log; as in [`Offset::message`].
    Here(u64, Option<(u32, u64)>),
    /// Before one of another.
    Elsewhere(Offset),
}

/// A stay of a socket in a room: positions from which, and to which.
#[derive(Clone, Copy, Debug)]
struct Stay {
    from: u64,
    to: Option<u64>,
    /// Whether it listened when it left.
    listened: bool,
}

/// What of a socket's past it takes to recover it.
#[derive(Clone, Debug)]
pub struct Past {
    /// Where it began.
    since: u64,
    stays: HashMap<Arc<str>, Vec<Stay>>,
    /// Stays that have ended.
    ended: usize,
    /// Where the last forgotten event ends that went to it alone.
    forgotten_to: u64,
    /// Where the last cast ends that reached it.
    cast_to: u64,
    /// Stays that had to be given up end here at the latest.
    stays_from: u64,
    /// In a fleet: the private id that the client knows, and what stands under it in Redis.
    pub remembered: Option<Box<(Box<str>, Session)>>,
}

/// Stays that have ended and that a past remembers.
const ENDED_STAYS_MAX: usize = 128;

impl Past {
    /// That of a socket which connects at this position.
    pub fn new(position: u64) -> Self {
        Self {
            since: position,
            stays: HashMap::new(),
            ended: 0,
            forgotten_to: 0,
            cast_to: 0,
            stays_from: 0,
            remembered: None,
        }
    }

    /// It is in a room from here on.
    pub fn enter(&mut self, key: &Arc<str>, position: u64) {
        let stays = self.stays.entry(Arc::clone(key)).or_default();
        if stays.iter().all(|stay| stay.to.is_some()) {
            stays.push(Stay { from: position, to: None, listened: false });
        }
    }

    /// It is no longer in a room, whose last event for it ended at `said_to`.
    pub fn leave(&mut self, key: &str, said_to: u64, listened: bool) {
        let Some(stays) = self.stays.get_mut(key) else { return };
        let Some(open) = stays.iter().position(|stay| stay.to.is_none()) else { return };
        if said_to <= stays[open].from {
            // Nothing was said while it was there.
            stays.swap_remove(open);
            if stays.is_empty() {
                self.stays.remove(key);
            }
            return;
        }
        (stays[open].to, stays[open].listened) = (Some(said_to), listened);
        self.ended += 1;
        if self.ended > ENDED_STAYS_MAX {
            self.give_up_ended(said_to);
        }
    }

    /// A cast that ends here reached it.
    pub fn reach(&mut self, end: u64) {
        self.cast_to = end;
    }

    /// An event that went to it alone is forgotten.
    pub fn forget(&mut self, position: u64) {
        self.forgotten_to = self.forgotten_to.max(position + 1);
    }

    /// Gives up stays that have ended: what was said in them cannot be recovered.
    fn give_up_ended(&mut self, said_to: u64) {
        self.stays_from = self.stays_from.max(said_to);
        self.ended = 0;
        self.stays.retain(|_, stays| {
            stays.retain(|stay| stay.to.is_none());
            !stays.is_empty()
        });
    }

    /// The stay in a room that an event at `position` fell into.
    fn stay(&self, key: &str, position: u64) -> Option<Stay> {
        let stays = self.stays.get(key)?.iter();
        let falls = |stay: &&Stay| stay.from <= position && stay.to.is_none_or(|to| position < to);
        stays.copied().find(|stay| falls(&stay))
    }

    /// Whether some of what was said after `offset` may be forgotten. `forgotten_to` says how far a
    /// room that the socket is in has been.
    fn misses(&self, log: &Log, offset: u64, forgotten_to: impl Fn(&str) -> u64) -> bool {
        let lost = |to: u64| to > offset;
        let stays =
            self.stays.iter().flat_map(|(key, stays)| stays.iter().map(move |it| (key, it)));
        let in_rooms = stays.into_iter().any(|(key, stay)| match stay.to {
            None => lost(forgotten_to(key)) && forgotten_to(key) > stay.from,
            // Of a room it has left nobody knows how far it has been forgotten.
            Some(to) => to > offset && log.start > offset.max(stay.from),
        });
        // One that it knows of, and perhaps others before.
        let in_casts = lost(self.cast_to) && log.start > offset;
        in_rooms || in_casts || lost(self.forgotten_to) || lost(self.stays_from)
    }
}

impl Log {
    /// The log of a shard that is one of many hosts'.
    pub fn of_fleet(host: HostId, shard: u16) -> Self {
        Self { place: Some((host, shard)), ..Self::default() }
    }

    /// The offset of a client that has read everything before `position`.
    pub fn offset_at(&self, position: u64) -> String {
        match self.place {
            Some((host, shard)) => format!("{position:x}.{host:x}.{shard:x}"),
            None => format!("{position:x}"),
        }
    }

    /// The same, where the last event read is a message of a room.
    pub fn offset_of(&self, position: u64, (room, seq): (&str, u64)) -> String {
        match self.place {
            Some(_) => format!("{}.{seq:x}.{:x}", self.offset_at(position), room_tag(room)),
            None => self.offset_at(position),
        }
    }

    /// Reads an offset; `None` if it is none.
    pub fn read_offset(&self, text: &str) -> Option<Read> {
        let mut parts = text.split('.').map(|part| u64::from_str_radix(part, 16).ok());
        let position = parts.next()??;
        let Some(host) = parts.next() else {
            return self.place.is_none().then_some(Read::Here(position, None));
        };
        let (host, shard) = (host?.try_into().ok()?, parts.next()??.try_into().ok()?);
        let message = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => None,
            (Some(seq), Some(tag), None) => Some((tag?.try_into().ok()?, seq?)),
            _ => return None,
        };
        Some(match self.place == Some((host, shard)) {
            true => Read::Here(position, message),
            false => Read::Elsewhere(Offset { host, shard, position, message }),
        })
    }

    /// Where the next entry goes.
    pub fn position(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    /// Bytes held.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Keeps an event.
    pub fn push(&mut self, reach: Reach, packet: Packet, now_ms: u32) {
        let entry = Entry { reach, packet, at_ms: now_ms };
        self.held_bytes += entry.held_bytes();
        self.entries.push_back(entry);
    }

    /// Forgets the oldest event if it is older than the window or more is held than may be: its
    /// position and whom it went to.
    pub fn poll_forgotten(
        &mut self,
        now_ms: u32,
        (window_ms, bytes_max): (u32, usize),
    ) -> Option<(u64, Reach)> {
        let first = self.entries.front()?;
        if self.held_bytes <= bytes_max && now_ms.wrapping_sub(first.at_ms) <= window_ms {
            return None;
        }
        let entry = self.entries.pop_front()?;
        self.held_bytes -= entry.held_bytes();
        self.start += 1;
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
        Some((self.start - 1, entry.reach))
    }

    /// What a socket has missed since the offset its client has, with positions; `None` if that is
    /// not all known any more. Without an offset: since it connected.
    pub fn missed<'a>(
        &'a self,
        (sid, past, namespace): (Sid, &'a Past, &'a str),
        offset: Option<&str>,
        forgotten_to: impl Fn(&str) -> u64,
        listens: impl Fn(&str) -> bool + 'a,
    ) -> Option<impl Iterator<Item = (u64, &'a Packet)>> {
        let offset = match offset {
            Some(text) => match self.read_offset(text)? {
                Read::Here(position, _) => position,
                // What it has been told there says nothing of what it has been told here.
                Read::Elsewhere(_) => return None,
            },
            None => past.since,
        };
        if offset > self.position() || offset < past.since {
            return None;
        }
        if past.misses(self, offset, forgotten_to) {
            return None;
        }
        let skip = offset.saturating_sub(self.start) as usize;
        let numbered = (self.start + skip as u64..).zip(self.entries.iter().skip(skip));
        Some(numbered.filter_map(move |(position, entry)| {
            let reaches = match &entry.reach {
                Reach::Socket(to) => *to == sid,
                Reach::Room(_, key, audience) => past.stay(key, position).is_some_and(|stay| {
                    let listened = || match stay.to {
                        Some(_) => stay.listened,
                        None => listens(key),
                    };
                    is_among(*audience, sid, listened)
                }),
                Reach::Spread(space, rooms, except) => {
                    let is_in = |key: &Arc<str>| {
                        Sid::parse(key) == Some(sid) || past.stay(key, position).is_some()
                    };
                    **space == *namespace
                        && (rooms.is_empty() || rooms.iter().any(is_in))
                        && !except.iter().any(is_in)
                }
            };
            reaches.then_some((position, &entry.packet))
        }))
    }
}

fn is_among(audience: Audience, sid: Sid, listens: impl FnOnce() -> bool) -> bool {
    match audience {
        Audience::All => true,
        Audience::Except(other) => other != sid,
        Audience::Listeners(except) => except != Some(sid) && listens(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: (u32, usize) = (1000, 1 << 20);

    fn sid(number: u64) -> Sid {
        Sid::new(1, 0, number as u32, number)
    }

    fn room(key: &str) -> Reach {
        Reach::Room(RoomId::new(0, 1), key.into(), Audience::Except(sid(9)))
    }

    fn event(name: &str) -> Packet {
        Packet::event(name, "")
    }

    fn names(log: &Log, past: &Past, offset: Option<u64>, gone: u64) -> Option<Vec<u64>> {
        let offset = offset.map(|position| log.offset_at(position + 1));
        let missed = log.missed((sid(1), past, "/"), offset.as_deref(), |_| gone, |_| true)?;
        Some(missed.map(|(position, _)| position).collect())
    }

    #[test]
    fn a_socket_gets_what_its_rooms_said_while_it_was_in_them() {
        let mut log = Log::default();
        let mut past = Past::new(log.position());
        log.push(room("lobby"), event("0 before it came"), 0);
        past.enter(&"lobby".into(), log.position());
        log.push(room("lobby"), event("1"), 0);
        log.push(room("other"), event("2 elsewhere"), 0);
        log.push(Reach::Socket(sid(1)), event("3"), 0);
        log.push(Reach::Socket(sid(2)), event("4 to another"), 0);
        log.push(Reach::Spread("/".into(), vec![], vec![]), event("5"), 0);
        log.push(Reach::Spread("/".into(), vec![], vec!["lobby".into()]), event("6 not"), 0);
        log.push(Reach::Spread("/x".into(), vec![], vec![]), event("7 not"), 0);
        past.leave("lobby", log.position(), true);
        log.push(room("lobby"), event("8 after it left"), 0);
        assert_eq!(names(&log, &past, None, 0), Some(vec![1, 3, 5]));
        assert_eq!(names(&log, &past, Some(3), 0), Some(vec![5]));
        assert_eq!(names(&log, &past, Some(8), 0), Some(vec![]));
        assert_eq!(names(&log, &past, Some(9), 0), None, "from the future");
    }

    #[test]
    fn what_is_forgotten_is_told_unless_it_was_not_for_the_socket() {
        let mut log = Log::default();
        let mut past = Past::new(0);
        past.enter(&"quiet".into(), 0);
        log.push(room("quiet"), event("0"), 0);
        for _ in 0..10 {
            log.push(room("busy"), event("x"), 0);
        }
        let mut forgotten = 0;
        while log.poll_forgotten(2000, WINDOW).is_some() {
            forgotten += 1;
        }
        assert_eq!((forgotten, log.held_bytes()), (11, 0));
        assert_eq!(names(&log, &past, Some(0), 1), Some(vec![]), "it had seen all of its room");
        assert_eq!(names(&log, &past, None, 1), None, "it had not");
        let mut left = past.clone();
        left.leave("quiet", 1, true);
        assert_eq!(names(&log, &left, Some(0), 1), Some(vec![]), "it had seen all of the room");
        past.leave("quiet", 2, true);
        assert_eq!(names(&log, &past, Some(0), 1), None, "it had not, and nobody knows more");
    }

    #[test]
    fn memory_is_bounded() {
        let mut log = Log::default();
        for _ in 0..100 {
            log.push(room("a"), event(&"x".repeat(1000)), 0);
            while log.poll_forgotten(0, (1000, 20_000)).is_some() {}
            assert!(log.held_bytes() <= 20_000);
        }
        assert!(log.entries.len() > 10);
    }

    #[test]
    fn a_place_in_another_log_is_none_in_this_one() {
        let mut log = Log::of_fleet(7, 1);
        let mut past = Past::new(log.position());
        past.enter(&"lobby".into(), log.position());
        log.push(room("lobby"), event("0"), 0);
        assert_eq!(names(&log, &past, Some(0), 0), Some(vec![]));
        let elsewhere = Log::of_fleet(7, 2).offset_at(9);
        let missed = log.missed((sid(1), &past, "/"), Some(&elsewhere), |_| 0, |_| true);
        assert!(missed.is_none());
        for offset in
            ["", "1", "1.7", "1.7.x", "1.7.1.1", "1.7.1.1.1.1", "1.700000000.1", "1.7.10000"]
        {
            assert_eq!(log.read_offset(offset), None, "{offset}");
        }
    }

    #[test]
    fn offsets_are_not_made_up() {
        let (log, past) = (Log::default(), Past::new(0));
        for offset in ["", "x", "-1", "1", "99999999999999999999999"] {
            let missed = log.missed((sid(1), &past, "/"), Some(offset), |_| 0, |_| true);
            assert!(missed.is_none(), "{offset}");
        }
    }
}
