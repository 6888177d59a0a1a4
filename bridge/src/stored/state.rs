//! What a shard's end knows: its rooms, what waits in them, and what it has asked of whom.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::membership::Membership;
use super::waiting::{Busy, Reading};
use crate::fleet::FleetLine;
use crate::keep::{Line, Question};
use crate::log::{Logs, MemoryLimits};
use crate::port::{Full, Outcome};
use crate::store::{RoomRecord, RoomSettings};
use crate::ticket::Ticket;

/// What a [`Stored`] promises and how much of it may be under way.
#[derive(Clone, Copy, Debug)]
pub struct StoredLimits {
    /// What is held in memory.
    pub memory: MemoryLimits,
    /// A message is settled when the store has committed it, not when it has its number.
    pub settles_at_commit: bool,
    /// Messages that may wait for their commit.
    pub queued_messages_max: usize,
    /// Their bytes.
    pub queued_bytes_max: usize,
    /// Reads, look-ups and other questions that may wait for an answer.
    pub questions_max: usize,
    /// Older messages are not shown even where they still exist, in milliseconds.
    pub retention_ms: Option<u64>,
}

impl StoredLimits {
    /// How long a message waits to be recognised as a repetition: where everybody gets it anyway,
    /// not so long that they would notice.
    pub(super) fn look_up(&self) -> Duration {
        Duration::from_millis(if self.settles_at_commit { 5_000 } else { 250 })
    }
}

/// A [`Port`](crate::port::Port) with a store behind it.
pub struct Stored {
    pub(super) limits: StoredLimits,
    pub(super) logs: Logs,
    pub(super) line: Option<Line>,
    pub(super) fleet: Option<Membership>,
    pub(super) busy: HashMap<Arc<str>, Busy>,
    pub(super) readings: HashMap<Ticket, Reading>,
    /// Rooms that are being opened, and the settings they have been given meanwhile.
    pub(super) opening: HashMap<Arc<str>, Option<RoomSettings>>,
    pub(super) held_count: usize,
    pub(super) queued_messages: usize,
    pub(super) queued_bytes: usize,
    pub(super) questions: usize,
    pub(super) verifying: usize,
    /// The store has not answered for a while.
    pub(super) failing: bool,
    pub(super) outcomes: VecDeque<Outcome>,
}

impl Stored {
    /// `line` leads to the bridge's thread; `id_prefix` starts every message id and must differ
    /// between shards and between starts.
    pub fn new(limits: StoredLimits, line: Line, id_prefix: &str) -> Self {
        Self::with(limits, Some(line), None, id_prefix)
    }

    /// The same in a fleet, with or without a store. `keeps_all`: the store is this host's own, so
    /// that what other hosts publish is kept here, too.
    pub fn in_fleet(
        limits: StoredLimits,
        line: Option<Line>,
        (fleet, keeps_all): (FleetLine, bool),
        id_prefix: &str,
    ) -> Self {
        Self::with(limits, line, Some(Membership::new(fleet, keeps_all)), id_prefix)
    }

    fn with(
        limits: StoredLimits,
        line: Option<Line>,
        fleet: Option<Membership>,
        id_prefix: &str,
    ) -> Self {
        Self {
            limits,
            logs: Logs::new(limits.memory, line.is_some(), id_prefix),
            line,
            fleet,
            busy: HashMap::new(),
            readings: HashMap::new(),
            opening: HashMap::new(),
            held_count: 0,
            queued_messages: 0,
            queued_bytes: 0,
            questions: 0,
            verifying: 0,
            failing: false,
            outcomes: VecDeque::new(),
        }
    }

    pub(super) fn try_question(&mut self) -> Result<(), Full> {
        if self.questions >= self.limits.questions_max {
            return Err(Full);
        }
        self.questions += 1;
        Ok(())
    }

    /// Asks the store, if there is one.
    pub(super) fn ask(&self, question: Question) {
        if let Some(line) = &self.line {
            line.ask(question);
        }
    }

    /// What memory has of a room, or the default.
    pub(super) fn record_or_default(&self, room: &str) -> RoomRecord {
        self.logs.find(room).map(|log| log.record.clone()).unwrap_or_default()
    }
}
