//! The bridge of a host that stands alone: order and recent messages in the shard's memory.
//!
//! Bounded three ways: messages per room, age, and bytes over all rooms of the shard. The oldest
//! messages go first; a read says so. A room that nobody is in and that holds no message is
//! forgotten, its numbering with it.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::message::{Draft, Message};
use crate::port::{Full, Outcome, Page, Port, Range, Request, Ticket};

/// Bounds of [`Memory`].
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimits {
    /// Messages kept per room; 0 keeps none.
    pub messages_per_room: usize,
    /// How long a message is kept, in milliseconds.
    pub ttl_ms: u64,
    /// Bytes of messages kept over all rooms.
    pub bytes_max: usize,
}

/// One room's order and recent messages.
#[derive(Default)]
struct Log {
    last_seq: u64,
    messages: VecDeque<Arc<Message>>,
    /// `client_id` to position, for the messages held.
    seq_by_client_id: HashMap<Box<str>, u64>,
    open: bool,
}

/// Where a message is and how old it is.
struct Aged {
    room: Arc<str>,
    seq: u64,
    at_ms: u64,
}

/// A [`Port`] without a network or a disk.
pub struct Memory {
    limits: MemoryLimits,
    logs: HashMap<Arc<str>, Log>,
    /// Every message held, oldest first; those that left their room's window are skipped.
    by_age: VecDeque<Aged>,
    held_count: usize,
    held_bytes: usize,
    outcomes: VecDeque<Outcome>,
    /// Makes message ids unique between shards and starts.
    id_prefix: Box<str>,
    published: u64,
}

impl Memory {
    /// `id_prefix` starts every message id and must differ between shards and between starts.
    pub fn new(limits: MemoryLimits, id_prefix: &str) -> Self {
        Self {
            limits,
            logs: HashMap::new(),
            by_age: VecDeque::new(),
            held_count: 0,
            held_bytes: 0,
            outcomes: VecDeque::new(),
            id_prefix: id_prefix.into(),
            published: 0,
        }
    }

    fn publish(&mut self, ticket: Ticket, room: Arc<str>, draft: Draft, now_ms: u64) {
        let log = self.logs.entry(Arc::clone(&room)).or_default();
        if let Some(first) = log.find_repeated(&draft) {
            self.outcomes.push_back(Outcome::Published { ticket, message: first, duplicate: true });
            return;
        }
        self.published += 1;
        log.last_seq += 1;
        let id = format!("{}{:x}", self.id_prefix, self.published).into();
        let message = Arc::new(Message { id, seq: log.last_seq, at_ms: now_ms, draft });
        let outcome =
            Outcome::Published { ticket, message: Arc::clone(&message), duplicate: false };
        self.outcomes.push_back(outcome);
        if self.limits.messages_per_room > 0 {
            self.keep(room, message);
        }
    }

    fn keep(&mut self, room: Arc<str>, message: Arc<Message>) {
        let Some(log) = self.logs.get_mut(&room) else { return };
        self.held_count += 1;
        self.held_bytes += message.held_bytes();
        if let Some(id) = &message.draft.client_id {
            log.seq_by_client_id.insert(id.clone(), message.seq);
        }
        self.by_age.push_back(Aged {
            room: Arc::clone(&room),
            seq: message.seq,
            at_ms: message.at_ms,
        });
        log.messages.push_back(message);
        if log.messages.len() > self.limits.messages_per_room {
            self.held_bytes -= log.drop_oldest();
            self.held_count -= 1;
        }
        while self.held_bytes > self.limits.bytes_max {
            self.drop_oldest();
        }
        // Entries whose message has left its room's window stay behind; bound them.
        if self.by_age.len() > 2 * self.held_count + 1024 {
            let logs = &self.logs;
            self.by_age.retain(|aged| logs.get(&aged.room).is_some_and(|log| log.holds(aged.seq)));
        }
    }

    fn drop_oldest(&mut self) {
        let Some(Aged { room, seq, .. }) = self.by_age.pop_front() else { return };
        let Some(log) = self.logs.get_mut(&room) else { return };
        while log.messages.front().is_some_and(|first| first.seq <= seq) {
            self.held_bytes -= log.drop_oldest();
            self.held_count -= 1;
        }
        self.forget_unused(&room);
    }

    fn forget_unused(&mut self, room: &Arc<str>) {
        if self.logs.get(room).is_some_and(|log| !log.open && log.messages.is_empty()) {
            self.logs.remove(room);
        }
    }
}

impl Port for Memory {
    fn try_submit(&mut self, request: Request, now_ms: u64) -> Result<(), Full> {
        match request {
            Request::Open { room } => self.logs.entry(room).or_default().open = true,
            Request::Close { room } => {
                if let Some(log) = self.logs.get_mut(&room) {
                    log.open = false;
                }
                self.forget_unused(&room);
            }
            Request::Publish { ticket, room, draft } => self.publish(ticket, room, draft, now_ms),
            Request::Read { ticket, room, range } => {
                let page = self
                    .logs
                    .get(&room)
                    .map_or_else(|| Log::default().read(range), |log| log.read(range));
                self.outcomes.push_back(Outcome::Read { ticket, page });
            }
        }
        Ok(())
    }

    fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    fn expire(&mut self, now_ms: u64) {
        let oldest_ms = now_ms.saturating_sub(self.limits.ttl_ms);
        while self.by_age.front().is_some_and(|aged| aged.at_ms < oldest_ms) {
            self.drop_oldest();
        }
    }

    fn last_seq(&self, room: &str) -> u64 {
        self.logs.get(room).map_or(0, |log| log.last_seq)
    }

    fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

impl Log {
    fn first_seq(&self) -> u64 {
        self.messages.front().map_or(self.last_seq + 1, |message| message.seq)
    }

    fn holds(&self, seq: u64) -> bool {
        (self.first_seq()..=self.last_seq).contains(&seq)
    }

    fn find_repeated(&self, draft: &Draft) -> Option<Arc<Message>> {
        let seq = *self.seq_by_client_id.get(draft.client_id.as_ref()?)?;
        self.messages.get((seq - self.first_seq()) as usize).cloned()
    }

    /// Returns the bytes that became free.
    fn drop_oldest(&mut self) -> usize {
        let Some(message) = self.messages.pop_front() else {
            return 0;
        };
        if let Some(id) = &message.draft.client_id {
            self.seq_by_client_id.remove(id);
        }
        message.held_bytes()
    }

    fn read(&self, range: Range) -> Page {
        let first = self.first_seq();
        let end = range.before.unwrap_or(u64::MAX).clamp(first, self.last_seq + 1);
        let from = end.saturating_sub(range.limit as u64).max(first);
        let (from, complete) = match range.after {
            None => (from, true),
            Some(after) => {
                let wanted = after.saturating_add(1);
                // A position beyond the end was given by an order that is gone.
                (from.max(wanted.min(end)), from <= wanted && after <= self.last_seq)
            }
        };
        let index = |seq: u64| (seq - first) as usize;
        let messages = self.messages.range(index(from)..index(end)).cloned().collect();
        Page { messages, last_seq: self.last_seq, complete, more: from > first }
    }
}
