//! Users across hosts (`user:<id>`): how many connections, on which hosts, last seen when.
//!
//! Each host writes its own field and renews it; what a host has not renewed in time does not count
//! from the next change on, and the whole goes with its TTL. So a dead host's connections are
//! counted for up to [`USER_TTL`].

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::renewals::Renewals;

/// How long a user is kept without being renewed.
pub(super) const USER_TTL: Duration = Duration::from_secs(600);

/// A user's connections to each shard that has some.
type Shards = Vec<(u16, u32)>;

/// See the module.
pub(super) struct Users {
    /// Those who are here.
    here: RefCell<HashMap<Arc<str>, Shards>>,
    /// Those of whom Redis does not know.
    pub(super) waiting: RefCell<HashSet<Arc<str>>>,
    pub(super) renewals: RefCell<Renewals<Arc<str>>>,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            here: RefCell::default(),
            waiting: RefCell::default(),
            renewals: RefCell::new(Renewals::new(USER_TTL / 2)),
        }
    }
}

impl Users {
    /// A user has so many connections to a shard.
    pub(super) fn note(&self, id: &str, shard: u16, connections: u32) {
        let mut here = self.here.borrow_mut();
        let id = here.get_key_value(id).map_or_else(|| id.into(), |(id, _)| Arc::clone(id));
        let shards = here.entry(Arc::clone(&id)).or_default();
        shards.retain(|(it, _)| *it != shard);
        if connections > 0 {
            shards.push((shard, connections));
        }
        if shards.is_empty() {
            here.remove(&id);
            self.renewals.borrow_mut().remove(&id);
        } else {
            self.renewals.borrow_mut().insert(Arc::clone(&id));
        }
        self.waiting.borrow_mut().insert(id);
    }

    /// There is no link. Who is gone ends by the TTL; who is here is told when it is back.
    pub(super) fn drop_waiting(&self) {
        let here = self.here.borrow();
        self.waiting.borrow_mut().retain(|id| here.contains_key(id));
    }

    pub(super) fn connections(&self, id: &str) -> u32 {
        self.here.borrow().get(id).map_or(0, |shards| shards.iter().map(|(_, count)| count).sum())
    }
}
