//! Reads that wait for Redis, or are under way.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use tokio::time::Instant;

use crate::fleet::words::Ordered;
use crate::message::Range;
use crate::ticket::Ticket;

/// Reads under way at a time.
const SIDE_BY_SIDE: usize = 32;

/// Reads that are not answered yet.
#[derive(Default)]
pub(super) struct Reads {
    pub(super) waiting: VecDeque<Wanted>,
    /// Asked over the link there is.
    pub(super) under_way: Vec<Wanted>,
}

impl Reads {
    pub(super) fn push(&mut self, it: Wanted) {
        self.waiting.push_back(it);
    }

    /// Nothing is under way any more: what was, is asked again first.
    pub(super) fn rewind(&mut self) {
        let mut again: VecDeque<_> = mem::take(&mut self.under_way).into();
        again.append(&mut self.waiting);
        self.waiting = again;
    }

    /// Puts the next ones under way.
    pub(super) fn take(&mut self) -> Vec<Wanted> {
        let count = self.waiting.len().min(SIDE_BY_SIDE);
        self.under_way.extend(self.waiting.drain(..count));
        self.under_way.clone()
    }
}

/// A read that waits.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) shard: u16,
    pub(super) ticket: Ticket,
    pub(super) room: Arc<str>,
    pub(super) what: What,
    pub(super) since: Instant,
}

/// What is wanted of a room.
#[derive(Clone, Copy)]
pub(super) enum What {
    Messages(Range),
    Settings,
}

impl Wanted {
    /// The answer that there is none.
    pub(super) fn refusal(&self) -> Ordered {
        let ticket = self.ticket;
        match self.what {
            What::Messages(_) => Ordered::Read { ticket, page: None },
            What::Settings => Ordered::Settings { ticket, found: None },
        }
    }
}
