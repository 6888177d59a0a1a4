//! The outbox: messages that wait for Redis, or are under way to it, in their order.
//!
//! What a broken link leaves unanswered goes back to the front, in the same order. Knows what a
//! pipeline may hold, and nothing of links.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::time::Instant;

use crate::message::Draft;
use crate::ticket::Ticket;

/// Bytes of the messages in one pipeline.
const PIPELINE_BYTES_MAX: usize = 4 << 20;

/// How long a message waits for Redis.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A message to be published.
pub(super) struct Item {
    pub(super) shard: u16,
    pub(super) ticket: Ticket,
    pub(super) room: Arc<str>,
    pub(super) id: Box<str>,
    pub(super) at_ms: u64,
    pub(super) draft: Draft,
    pub(super) floor: u64,
    pub(super) record: Vec<u8>,
    /// The key under which its repetition is recognised.
    pub(super) sent: String,
    pub(super) since: Instant,
    /// How many were sent before it, over this link.
    pub(super) number: u64,
}

/// Messages of a room that are under way.
#[derive(Default)]
pub(super) struct Flying {
    pub(super) count: usize,
    /// The last one's [`Item::sent`].
    pub(super) last: String,
    pub(super) number: u64,
    /// One was refused: those behind it, up to this one, will be found to lack it.
    pub(super) refused_to: u64,
}

/// What waits for Redis.
#[derive(Default)]
pub(super) struct Outbox {
    /// Not sent yet.
    pub(super) waiting: VecDeque<Item>,
    /// Pipelines under way, the first first.
    pub(super) flight: VecDeque<Vec<Item>>,
    /// Answered so that they must be sent again, once nothing is under way.
    pub(super) returned: VecDeque<Item>,
    pub(super) flying: HashMap<Arc<str>, Flying>,
    pub(super) bytes: usize,
    pub(super) count: usize,
    pub(super) sent: u64,
}

impl Item {
    /// A message as it comes from a shard.
    pub(super) fn new(
        from: (u16, Ticket),
        room: Arc<str>,
        named: (Box<str>, u64),
        draft: Draft,
        floor: u64,
    ) -> Self {
        let ((shard, ticket), (id, at_ms)) = (from, named);
        let (record, sent, since) = (Vec::new(), String::new(), Instant::now());
        Self { shard, ticket, room, id, at_ms, draft, floor, record, sent, since, number: 0 }
    }

    fn weight(&self) -> usize {
        self.record.len() + self.sent.len() + self.id.len()
    }
}

impl Outbox {
    pub(super) fn push(&mut self, item: Item) {
        self.bytes += item.weight();
        self.count += 1;
        self.waiting.push_back(item);
    }

    pub(super) fn forget(&mut self, item: &Item) {
        self.bytes -= item.weight();
        self.count -= 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Nothing is under way any more: what was, is sent again first.
    pub(super) fn rewind(&mut self) {
        let unanswered = mem::take(&mut self.flight).into_iter().flatten();
        let mut again: VecDeque<Item> = mem::take(&mut self.returned);
        again.extend(unanswered);
        again.append(&mut self.waiting);
        self.waiting = again;
        self.flying.clear();
    }

    /// Takes out what has waited for too long.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Vec<Item> {
        let mut overdue = Vec::new();
        while self.waiting.front().is_some_and(|item| item.since + PATIENCE <= now)
            && let Some(item) = self.waiting.pop_front()
        {
            self.forget(&item);
            overdue.push(item);
        }
        overdue
    }

    /// Starts the next pipeline: its messages now stand at the end of `flight`.
    pub(super) fn take_pipeline(&mut self, messages_max: usize) {
        let (mut count, mut bytes) = (0, 0);
        while count < self.waiting.len().min(messages_max)
            && (count == 0 || bytes + self.waiting[count].weight() <= PIPELINE_BYTES_MAX)
        {
            bytes += self.waiting[count].weight();
            count += 1;
        }
        let items = self.waiting.drain(..count).collect();
        self.flight.push_back(items);
    }
}
