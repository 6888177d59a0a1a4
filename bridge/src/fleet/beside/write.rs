//! What is coalesced is written, and renewed before it ends: summaries, sessions, users.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Cmd;
use serde::Serialize;

use super::batch::{Batch, read};
use super::desk::Desk;
use super::sessions::{BATCH_MAX, Write, beginning, taken};
use super::summaries::SUMMARY_TTL;
use super::users::USER_TTL;
use crate::fleet::link::{Link, LinkError};

/// How long that of an empty room is: longer than it takes to find out that it is not empty.
const EMPTY_TTL: Duration = Duration::from_secs(2);

/// Users written at once.
const USERS_MAX: usize = 512;

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

    /// Writes sessions that Redis does not have.
    pub(super) async fn flush_sessions(&self, link: &Link) -> Result<(), LinkError> {
        // What comes meanwhile has its turn later: other things wait too.
        for _ in 0..=self.sessions.waiting_count() / BATCH_MAX {
            let written = self.sessions.take_some();
            if written.is_empty() {
                break;
            }
            let mut batch = Batch::default();
            for (pid, write) in &written {
                if matches!(write, Write::Keep(_)) {
                    // From now on it may be there, whatever becomes of the link.
                    self.sessions.renewals.borrow_mut().insert(pid.clone());
                }
                let key = self.office.keys.session(pid);
                let call = self.session_call(&key, write);
                batch.call(link, &key, call);
            }
            let answers = batch.send(link, &self.scripts).await?;
            for ((pid, write), answer) in written.into_iter().zip(answers) {
                self.sessions.on_written(pid, write, &answer);
            }
        }
        Ok(())
    }

    fn session_call(&self, key: &str, write: &Write) -> Cmd {
        let (host, ttl_ms) = (self.office.plan.host, self.sessions.ttl.as_millis() as u64);
        if let Write::Release(session) = write {
            let mut call = self.scripts.claim.call(&[key]);
            return call.arg(taken(host)).arg(json(session)).arg(ttl_ms).take();
        }
        let text = if let Write::Keep(session) = write { json(session) } else { String::new() };
        let mut call = self.scripts.remember.call(&[key]);
        call.arg(beginning(host)).arg(text).arg(ttl_ms);
        if let Write::Forget(sids) = write {
            sids.iter().for_each(|sid| {
                call.arg(json(sid));
            });
        }
        call
    }

    /// Renews sessions that are due.
    pub(super) async fn renew_sessions(&self, link: &Link, now: Instant) -> Result<(), LinkError> {
        loop {
            let due = self.sessions.renewals.borrow_mut().poll_due(now);
            let Some(pids) = due else { return Ok(()) };
            let mut batch = Batch::default();
            for pid in &pids {
                let key = self.office.keys.session(pid);
                let mut renew = redis::cmd("PEXPIRE");
                renew.arg(&key).arg(self.sessions.ttl.as_millis() as u64);
                batch.push(link, &key, renew);
            }
            if batch.is_empty() {
                continue;
            }
            let answers = batch.send(link, &self.scripts).await?;
            for (pid, answer) in pids.iter().zip(answers) {
                if read::<i64>(&answer) == Some(0) {
                    self.sessions.renewals.borrow_mut().remove(pid);
                }
            }
        }
    }

    /// Writes the users of whom Redis does not know.
    pub(super) async fn flush_users(&self, link: &Link) -> Result<(), LinkError> {
        loop {
            let some = self.users.waiting.borrow().iter().take(USERS_MAX).cloned().collect();
            let some: Vec<Arc<str>> = some;
            if some.is_empty() {
                return Ok(());
            }
            let before: Vec<u32> = some.iter().map(|id| self.users.connections(id)).collect();
            self.write_users(link, &some).await?;
            let mut waiting = self.users.waiting.borrow_mut();
            for (id, before) in some.iter().zip(before) {
                // What has changed while it was written is written again.
                if self.users.connections(id) == before {
                    waiting.remove(id);
                }
            }
        }
    }

    /// Renews users that are due.
    pub(super) async fn renew_users(&self, link: &Link, now: Instant) -> Result<(), LinkError> {
        loop {
            let due = self.users.renewals.borrow_mut().poll_due(now);
            let Some(some) = due else { return Ok(()) };
            self.write_users(link, &some).await?;
        }
    }

    async fn write_users(&self, link: &Link, ids: &[Arc<str>]) -> Result<(), LinkError> {
        let mut batch = Batch::default();
        for id in ids {
            let key = self.office.keys.user(id);
            let mut call = self.scripts.user.call(&[&key]);
            call.arg(format!("{:08x}", self.office.plan.host)).arg(self.users.connections(id));
            call.arg(USER_TTL.as_millis() as u64);
            batch.call(link, &key, call);
        }
        if batch.is_empty() {
            return Ok(());
        }
        batch.send(link, &self.scripts).await.map(drop)
    }
}

fn json(it: &impl Serialize) -> String {
    serde_json::to_string(it).unwrap_or_default()
}
