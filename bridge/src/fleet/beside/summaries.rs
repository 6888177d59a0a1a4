//! Rooms as people and tools see them (`room:<id>`).
//!
//! A summary lives elsewhere than its room, so that no script has both. When the last member of a
//! room leaves, its summary gets a short life; then, if somebody is in the room after all, a long
//! one again. Whoever shows a room has entered it before: so no summary of a room with members is
//! lost, whichever host does what first.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::renewals::Renewals;

/// How long a summary is kept without being renewed.
pub(super) const SUMMARY_TTL: Duration = Duration::from_secs(3600);

/// See the module.
pub(super) struct Summaries {
    /// The newest of each room that is not in Redis yet.
    pub(super) waiting: RefCell<HashMap<Arc<str>, Box<str>>>,
    /// Rooms that were empty and whose summary has not got its short life yet.
    pub(super) ending: RefCell<HashSet<Arc<str>>>,
    pub(super) renewals: RefCell<Renewals<Arc<str>>>,
}

impl Default for Summaries {
    fn default() -> Self {
        Self {
            waiting: RefCell::default(),
            ending: RefCell::default(),
            renewals: RefCell::new(Renewals::new(SUMMARY_TTL / 2)),
        }
    }
}

impl Summaries {
    pub(super) fn show(&self, room: Arc<str>, summary: Box<str>) {
        self.waiting.borrow_mut().insert(room, summary);
    }

    /// There is no link: what is shown later is newer.
    pub(super) fn drop_waiting(&self) {
        self.waiting.borrow_mut().clear();
    }

    /// No member of this host is in the room: it is another host's to renew it.
    pub(super) fn forget(&self, room: &str) {
        self.renewals.borrow_mut().remove(room);
    }

    /// Nobody is in the room.
    pub(super) fn end(&self, room: Arc<str>) {
        self.ending.borrow_mut().insert(room);
    }
}
