//! The bridge of a host that keeps nothing: order and recent messages in the shard's memory.
//!
//! Answers within the call. Knows no passwords: whoever needs one is told that it is unavailable.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::log::{Logs, MemoryLimits};
use crate::message::Draft;
use crate::port::{Full, Outcome, Port, Request};
use crate::store::RoomRecord;
use crate::ticket::Ticket;

/// A [`Port`] without a network or a disk. The numbering of a room that nobody is in and that holds
/// no message is forgotten with it.
pub struct Memory {
    logs: Logs,
    outcomes: VecDeque<Outcome>,
}

impl Memory {
    /// `id_prefix` starts every message id and must differ between shards and between starts.
    pub fn new(limits: MemoryLimits, id_prefix: &str) -> Self {
        Self { logs: Logs::new(limits, false, id_prefix), outcomes: VecDeque::new() }
    }

    fn open(&mut self, room: Arc<str>, now_ms: u64) {
        let record = match self.logs.open(&room) {
            Some(log) => log.record.clone(),
            None => self.logs.restore(&room, RoomRecord::default(), vec![], now_ms).record.clone(),
        };
        self.outcomes.push_back(Outcome::Opened { room, record: Some(record) });
    }

    fn show(&mut self, ticket: Ticket, room: &str) {
        let record = self.logs.find(room).map(|log| log.record.clone()).unwrap_or_default();
        self.outcomes.push_back(Outcome::Record { ticket, record: Some(record) });
    }

    fn publish(&mut self, ticket: Ticket, room: &Arc<str>, draft: Draft, now_ms: u64) {
        let repeated = self.logs.find(room).and_then(|log| log.find_repeated(&draft)).cloned();
        let duplicate = repeated.is_some();
        let message = repeated.unwrap_or_else(|| self.logs.number(room, draft, now_ms));
        let (delivers, settled) = (!duplicate, true);
        let published = Outcome::Published { ticket, message, duplicate, delivers, settled };
        self.outcomes.push_back(published);
    }
}

impl Port for Memory {
    fn try_submit(&mut self, request: Request, now_ms: u64) -> Result<(), Full> {
        match request {
            Request::Open { room } => self.open(room, now_ms),
            Request::Close { room } => self.logs.close(&room),
            Request::Publish { ticket, room, draft } => self.publish(ticket, &room, draft, now_ms),
            Request::Read { ticket, room, range } => {
                let page = self.logs.read(&room, range, None, now_ms);
                self.outcomes.push_back(Outcome::Read { ticket, page });
            }
            Request::Record { ticket, room } => self.show(ticket, &room),
            Request::Configure { ticket, room, settings, .. } => {
                if self.logs.find(&room).is_none() {
                    let record = RoomRecord { settings, ..RoomRecord::default() };
                    self.logs.restore(&room, record, vec![], now_ms);
                    self.logs.close(&room);
                } else {
                    self.logs.configure(&room, settings);
                }
                self.show(ticket, &room);
            }
            // Hashing is slow on purpose, and a shard has no other thread to leave it to.
            Request::Verify { ticket, .. } => {
                self.outcomes.push_back(Outcome::Verified { ticket, right: None });
            }
            // There is nobody to tell.
            Request::Tell(_) => {}
        }
        Ok(())
    }

    fn poll_outcome(&mut self, _now_ms: u64) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    fn expire(&mut self, now_ms: u64) {
        self.logs.expire(now_ms);
    }

    fn held_bytes(&self) -> usize {
        self.logs.held_bytes()
    }
}
