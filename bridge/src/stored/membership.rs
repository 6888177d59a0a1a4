//! What a shard knows of its part in the fleet: what it has asked there, and for whom.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::waiting::Reading;
use crate::fleet::{FleetLine, FromFleet, Order};
use crate::message::Range;
use crate::store::{RoomRecord, RoomSettings};
use crate::ticket::Ticket;

/// Rooms of dead hosts that are read at a time: what clients ask for stands behind them.
const ORPHANS_AT_ONCE: usize = 8;

/// Messages of a dead host's room that are kept again, in case they were not.
const ORPHAN_MESSAGES_MAX: usize = 100;

/// A shard's part in the fleet.
pub(super) struct Membership {
    pub(super) line: FleetLine,
    /// What other hosts publish is kept here, too.
    pub(super) keeps_all: bool,
    /// Messages that have no number yet.
    pub(super) publishing: HashMap<Ticket, Publishing>,
    /// Ids of messages whose writers have been told that their fate is unknown.
    pub(super) unknown: HashSet<Box<str>>,
    /// Tickets given by [`Membership::ticket`].
    pub(super) own_count: u64,
    /// Rooms of dead hosts that are being read, and those that wait.
    pub(super) orphans: HashMap<Ticket, Arc<str>>,
    pub(super) orphans_waiting: VecDeque<Arc<str>>,
    /// Reads of rooms that are not open here.
    pub(super) readings: HashMap<Ticket, (Arc<str>, Reading)>,
    /// Questions about rooms that are not open here.
    pub(super) questions: HashMap<Ticket, Asked>,
}

/// A message that has no number yet.
pub(super) struct Publishing {
    pub(super) room: Arc<str>,
    pub(super) id: Box<str>,
    pub(super) bytes: usize,
}

/// What is being found out about a room that is not open here.
pub(super) enum Asked {
    /// Redis is asked for its settings.
    Settings(Arc<str>),
    /// The store is asked; Redis has these settings.
    Record(Option<RoomSettings>),
    /// Redis is told settings; then the store.
    Change(Arc<str>),
    /// Redis, or this host's own store, is told settings; nobody waits.
    Heard,
}

impl Membership {
    pub(super) fn new(line: FleetLine, keeps_all: bool) -> Self {
        Self {
            line,
            keeps_all,
            publishing: HashMap::new(),
            unknown: HashSet::new(),
            own_count: 0,
            orphans: HashMap::new(),
            orphans_waiting: VecDeque::new(),
            readings: HashMap::new(),
            questions: HashMap::new(),
        }
    }

    pub(super) fn publishing_count(&self) -> usize {
        self.publishing.len()
    }

    pub(super) fn poll(&self) -> Option<FromFleet> {
        self.line.poll()
    }

    /// Reads what Redis has of a room; [`Ordered::Read`] follows.
    pub(super) fn read(&mut self, room: Arc<str>, reading: Reading) {
        let (ticket, range) = (reading.ticket, reading.range);
        self.readings.insert(ticket, (Arc::clone(&room), reading));
        self.line.order(Order::Read { ticket, room, range });
    }

    /// For what nobody asked for: the shard counts its own tickets from below.
    pub(super) fn ticket(&mut self) -> Ticket {
        self.own_count += 1;
        Ticket(u64::MAX - self.own_count)
    }

    pub(super) fn read_orphans(&mut self) {
        while self.orphans.len() < ORPHANS_AT_ONCE
            && let Some(room) = self.orphans_waiting.pop_front()
        {
            let ticket = self.ticket();
            self.orphans.insert(ticket, Arc::clone(&room));
            let range = Range { after: None, before: None, limit: ORPHAN_MESSAGES_MAX };
            self.line.order(Order::Read { ticket, room, range });
        }
    }

    /// Asks for the settings of a room that is not open here: others may have changed them.
    pub(super) fn ask_settings(&mut self, ticket: Ticket, room: Arc<str>) {
        self.questions.insert(ticket, Asked::Settings(Arc::clone(&room)));
        self.line.order(Order::Settings { ticket, room });
    }

    /// Changes a room's settings in Redis, which counts.
    pub(super) fn configure(
        &mut self,
        ticket: Ticket,
        room: Arc<str>,
        change: (RoomSettings, RoomSettings),
    ) {
        self.questions.insert(ticket, Asked::Change(Arc::clone(&room)));
        self.line.order(Order::Configure { ticket, room, change: Box::new(change) });
    }

    /// Whether nobody waits for what a store says to this.
    pub(super) fn is_heard(&mut self, ticket: Ticket) -> bool {
        let is_it = matches!(self.questions.get(&ticket), Some(Asked::Heard));
        is_it && self.questions.remove(&ticket).is_some()
    }

    /// What the store knows of such a room, with the settings that Redis has.
    pub(super) fn completed(
        &mut self,
        ticket: Ticket,
        record: Option<RoomRecord>,
    ) -> Option<RoomRecord> {
        match (self.questions.remove(&ticket), record) {
            (Some(Asked::Record(Some(settings))), Some(record)) => {
                Some(RoomRecord { settings, ..record })
            }
            (_, record) => record,
        }
    }
}
