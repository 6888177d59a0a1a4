//! Answers of many clients to one event, gathered until all are there or time is over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;

use super::App;

/// What clients answered to [`super::Cast::collect`].
#[derive(Clone, Default, Debug)]
pub struct Collected {
    /// The first argument of each answer, JSON (`null` for none), in the order they came.
    pub answers: Vec<Box<str>>,
    /// How many clients were asked. With fewer answers, time was over.
    pub asked: usize,
}

struct Collection<A: App> {
    ticket: A::Ticket,
    /// Shards that have not told yet how many they asked.
    shards_left: u16,
    collected: Collected,
}

/// What one shard's applications wait for.
pub struct Collections<A: App> {
    numbers: u64,
    open: HashMap<u64, Collection<A>>,
    due: BinaryHeap<Reverse<(u64, u64)>>,
}

impl<A: App> Default for Collections<A> {
    fn default() -> Self {
        Self { numbers: 0, open: HashMap::new(), due: BinaryHeap::new() }
    }
}

impl<A: App> Collections<A> {
    /// Begins one that ends by itself at `due_ms`; its number.
    pub fn open(&mut self, ticket: A::Ticket, shards: u16, due_ms: u64) -> u64 {
        self.numbers += 1;
        let collected = Collected::default();
        self.open.insert(self.numbers, Collection { ticket, shards_left: shards, collected });
        self.due.push(Reverse((due_ms, self.numbers)));
        self.numbers
    }

    /// A shard has asked so many clients. The whole, if that completes it.
    pub fn on_asked(&mut self, id: u64, count: usize) -> Option<(A::Ticket, Collected)> {
        let collection = self.open.get_mut(&id)?;
        collection.shards_left = collection.shards_left.saturating_sub(1);
        collection.collected.asked += count;
        self.complete(id)
    }

    /// A client has answered. The whole, if that completes it.
    pub fn on_answer(&mut self, id: u64, args: Box<str>) -> Option<(A::Ticket, Collected)> {
        self.open.get_mut(&id)?.collected.answers.push(args);
        self.complete(id)
    }

    /// One whose time is over, as far as it has come.
    pub fn poll_expired(&mut self, now_ms: u64) -> Option<(A::Ticket, Collected)> {
        while let Some(&Reverse((due_ms, id))) = self.due.peek() {
            if due_ms > now_ms {
                return None;
            }
            self.due.pop();
            if let Some(expired) = self.close(id) {
                return Some(expired);
            }
        }
        None
    }

    /// When [`Collections::poll_expired`] is to be asked next.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    fn complete(&mut self, id: u64) -> Option<(A::Ticket, Collected)> {
        let Collection { shards_left, collected, .. } = self.open.get(&id)?;
        if *shards_left > 0 || collected.answers.len() < collected.asked {
            return None;
        }
        self.close(id)
    }

    fn close(&mut self, id: u64) -> Option<(A::Ticket, Collected)> {
        self.open.remove(&id).map(|it| (it.ticket, it.collected))
    }
}
