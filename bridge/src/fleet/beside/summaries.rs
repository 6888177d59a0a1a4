//! Rooms as people and tools see them (`room:<id>`).
//!
//! A summary lives elsewhere than its room, so that no script has both. When the last member of a
//! room leaves, its summary gets a short life; then, if somebody is in the room after all, a long
//! one again. Whoever shows a room has entered it before: so no summary of a room with members is
//! lost, whichever host does what first.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{Batch, read};
use super::desk::Desk;
use super::renewals::Renewals;
use crate::fleet::link::{Link, LinkError};

/// How long a summary is kept without being renewed.
const SUMMARY_TTL: Duration = Duration::from_secs(3600);

/// How long that of an empty room is: longer than it takes to find out that it is not empty.
const EMPTY_TTL: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Summaries {
    /// The newest of each room that is not in Redis yet.
    waiting: RefCell<HashMap<Arc<str>, Box<str>>>,
    /// Rooms that were empty and whose summary has not got its short life yet.
    ending: RefCell<HashSet<Arc<str>>>,
    renewals: RefCell<Renewals<Arc<str>>>,
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

impl Desk {
    /// Writes summaries, and ends those of empty rooms.
    pub(super) async fn flush_summaries(&self, link: &Link) -> Result<(), LinkError> {
        let mut batch = Batch::default();
        for (room, summary) in self.summaries.waiting.take() {
            if !self.members.has_room(&room) {
                continue; // It has no member here any more: those who have one show it.
            }
            let key = self.office.keys.summary(&room);
            let mut set = redis::cmd("SET");
            set.arg(&key).arg(&*summary).arg("EX").arg(SUMMARY_TTL.as_secs());
            batch.push(link, &key, set);
            self.summaries.renewals.borrow_mut().insert(room);
        }
        if !batch.is_empty() {
            batch.send(link, &self.scripts).await?;
        }
        self.end_summaries(link).await
    }

    async fn end_summaries(&self, link: &Link) -> Result<(), LinkError> {
        let rooms: Vec<_> = self.summaries.ending.borrow().iter().cloned().collect();
        if rooms.is_empty() {
            return Ok(());
        }
        self.expire_summaries(link, &rooms, EMPTY_TTL).await?;
        let mut batch = Batch::default();
        for room in &rooms {
            let key = self.office.keys.members(room);
            batch.push(link, &key, redis::cmd("HLEN").arg(&key).take());
        }
        let lengths = batch.send(link, &self.scripts).await?;
        let lives = |it: &(&Arc<str>, &redis::Value)| read::<u64>(it.1) != Some(0);
        let full = rooms.iter().zip(&lengths).filter(lives).map(|(room, _)| Arc::clone(room));
        self.expire_summaries(link, &full.collect::<Vec<_>>(), SUMMARY_TTL).await?;
        let mut ending = self.summaries.ending.borrow_mut();
        rooms.iter().for_each(|room| {
            ending.remove(room);
        });
        Ok(())
    }

    /// Renews summaries that are due.
    pub(super) async fn renew_summaries(&self, link: &Link, now: Instant) -> Result<(), LinkError> {
        loop {
            let due = self.summaries.renewals.borrow_mut().poll_due(now);
            let Some(rooms) = due else { return Ok(()) };
            self.expire_summaries(link, &rooms, SUMMARY_TTL).await?;
        }
    }

    async fn expire_summaries(
        &self,
        link: &Link,
        rooms: &[Arc<str>],
        ttl: Duration,
    ) -> Result<(), LinkError> {
        let mut batch = Batch::default();
        for room in rooms {
            let key = self.office.keys.summary(room);
            batch.push(link, &key, redis::cmd("EXPIRE").arg(&key).arg(ttl.as_secs()).take());
        }
        if batch.is_empty() {
            return Ok(());
        }
        batch.send(link, &self.scripts).await.map(drop)
    }
}
