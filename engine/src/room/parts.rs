//! What a home keeps: of each room, and of all of them together. Only data, which the home and the
//! handle of a room work on.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};
use indexmap::IndexMap;
use throng_bridge::fleet::{News, Word};
use throng_bridge::store::{RoomRecord, RoomSettings};
use throng_bridge::{Page, Port, Request, Ticket};

use crate::app::App;
use crate::clock::Now;
use crate::ids::{RoomId, Sid};

/// How many members a shard has of a room, those that are away included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) shard: u16,
    /// One of them has asked for presence, perhaps one that has left. Where none has, the shard is
    /// not woken for what only listeners get.
    pub(super) listens: bool,
    pub(super) members: u32,
}

/// A room as its home keeps it.
pub struct HomeRoom<A: App> {
    pub(super) id: RoomId,
    pub(super) name: Arc<str>,
    /// Whether the bridge has opened it; otherwise nobody can be admitted.
    pub(super) is_open: bool,
    pub(super) created_at_ms: u64,
    /// Of all hosts.
    pub(super) members: IndexMap<Sid, A::Member, DefaultHashBuilder>,
    /// Members of this host whose connection has ended and who may come back. Their shards get what
    /// the room says; to everybody else they are gone.
    pub(super) away: HashMap<Sid, A::Member>,
    pub(super) shares: Vec<Share>,
    /// The last message that has been delivered; what the bridge numbers meanwhile is on its way.
    pub(super) last_seq: u64,
    pub(super) settings: RoomSettings,
    /// Answers that it waits for.
    pub(super) awaited: u32,
    /// In a fleet: who comes back and is not in yet.
    pub(super) comers: HashMap<Sid, Comer<A>>,
    /// In a fleet: it is to be shown to people, which is due.
    pub(super) show_due: bool,
    pub(super) state: A::Room,
}

/// A member that comes back from another host.
pub(super) struct Comer<A: App> {
    pub(super) member: A::Member,
    pub(super) listens: bool,
    /// The last message it has.
    pub(super) seq: u64,
    /// Its id there, which may be a member still: its host may be dead, or not have heard.
    pub(super) old: Option<Sid>,
    /// How often the room has gone on while it was brought up to date.
    pub(super) tries: u32,
    /// Until when it waits ([`Now::ns`] in milliseconds); 0 before it does.
    pub(super) until_ms: u64,
    /// Messages up to this one are being read for it; `None`: it waits for the room to come as far
    /// as it has.
    pub(super) page: Option<(Ticket, u64)>,
    /// What it asks for meanwhile.
    pub(super) held: Vec<A::Request>,
}

impl<A: App> Comer<A> {
    pub(super) fn new(member: A::Member, listens: bool, seq: u64, old: Option<Sid>) -> Self {
        Self { member, listens, seq, old, tries: 0, until_ms: 0, page: None, held: Vec::new() }
    }
}

/// A room that the bridge has opened, and of whose members not all is known yet.
pub(super) struct Arriving {
    pub(super) record: RoomRecord,
    /// Until when it waits ([`Now::ns`] in milliseconds).
    pub(super) until_ms: u64,
}

/// Whom the bridge's answer is for.
pub(super) enum Waiter<A: App> {
    Room {
        id: RoomId,
        since_ns: u64,
        ticket: A::Ticket,
        /// Its message had been published before.
        repeated: bool,
    },
    Page(Box<dyn FnOnce(Option<Page>) + Send>),
    /// One that comes back from another host misses messages.
    Return {
        id: RoomId,
        sid: Sid,
    },
    Record(Box<dyn FnOnce(Option<RoomRecord>) + Send>),
    /// The settings of this room are replaced.
    Configured(Arc<str>, Box<dyn FnOnce(Option<RoomRecord>) + Send>),
}

/// What of a home is not one room's.
pub(super) struct Desk<A: App> {
    pub(super) port: Box<dyn Port>,
    pub(super) waiting: HashMap<Ticket, Waiter<A>>,
    tickets: u64,
    pub(super) due: BinaryHeap<Reverse<(u64, RoomId)>>,
    /// By shard: its queue is so full that nothing should be published to it.
    pub(super) congested: Box<[bool]>,
    /// This host, among others.
    pub(super) host: u32,
    /// Rooms may have members on other hosts.
    pub(super) shared: bool,
    /// Node servers are spoken to.
    pub(super) speaks: bool,
    /// By when, first to last, rooms that are open must have their members on other hosts.
    pub(super) arrivals_due: VecDeque<(u64, Arc<str>)>,
    /// By when, first to last, who comes back to which room must be in.
    pub(super) comers_due: VecDeque<(u64, RoomId)>,
    /// When which room is to be shown to people.
    pub(super) shows: BinaryHeap<Reverse<(u64, RoomId)>>,
    /// The turn ([`Now::ns`]), and how many members rosters have told in it.
    pub(super) rosters: (u64, usize),
    /// What the fleet has told that is no room's.
    pub(super) news: VecDeque<News>,
}

impl<A: App> Desk<A> {
    pub(super) fn new(shards: u16, host: u32, port: Box<dyn Port>, speaks: bool) -> Self {
        Self {
            host,
            shared: port.is_shared(),
            speaks: speaks && port.is_shared(),
            arrivals_due: VecDeque::new(),
            comers_due: VecDeque::new(),
            shows: BinaryHeap::new(),
            rosters: (0, 0),
            news: VecDeque::new(),
            port,
            waiting: HashMap::new(),
            tickets: 0,
            due: BinaryHeap::new(),
            congested: vec![false; usize::from(shards)].into(),
        }
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    pub(super) fn begin_turn(&mut self, now: Now) {
        if self.rosters.0 != now.ns {
            self.rosters = (now.ns, 0);
        }
    }

    /// Tells the fleet, if there is one.
    pub(super) fn tell(&mut self, word: Word) {
        // Words are always taken: what they say is mended by repairs.
        let _ = self.port.try_submit(Request::Tell(word), 0);
    }
}
