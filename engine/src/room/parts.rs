//! What a home keeps: of each room, and of all of them together. Only data, which the home and the
//! handle of a room work on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};
use indexmap::IndexMap;
use throng_bridge::store::{RoomRecord, RoomSettings};
use throng_bridge::{Page, Port, Ticket};

use crate::app::App;
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
    pub(super) members: IndexMap<Sid, A::Member, DefaultHashBuilder>,
    /// Members whose connection has ended and who may come back. Their shards get what the room
    /// says; to everybody else they are gone.
    pub(super) away: HashMap<Sid, A::Member>,
    pub(super) shares: Vec<Share>,
    /// The last message that has been delivered; what the bridge numbers meanwhile is on its way.
    pub(super) last_seq: u64,
    pub(super) settings: RoomSettings,
    /// Answers that it waits for.
    pub(super) awaited: u32,
    pub(super) state: A::Room,
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
}

impl<A: App> Desk<A> {
    pub(super) fn new(shards: u16, port: Box<dyn Port>) -> Self {
        Self {
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
}
