//! What each shard has passed to its members, so that another host can tell from a client's offset
//! which messages it has.
//!
//! In Redis there are two things of each shard. `passed` is a hash: of each room the last message
//! passed, as `<position>:<seq>`, and under [`WHOLE`] the position up to which the hash tells all.
//! `trail` is a stream of what was passed lately, its entries' ids being `<position>-0`: `f`, the
//! position from which the entry tells all, and `s`, JSON: of each room in it `[room, the seq
//! passed before, [position, seq, position, seq, …]]`. The seq before is 0 where the shard has
//! passed none.
//!
//! Invariant: an entry's `f` is the id of the entry before; so whoever reads finds out that one is
//! missing, whatever has lost it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::batch::Batch;
use super::desk::Desk;
use super::sessions;
use super::steps::WHOLE;
use super::trails::{STEPS_MAX, ShardTrail};
use crate::fleet::link::{Link, LinkError};

/// How long steps are gathered.
const GATHER: Duration = Duration::from_millis(20);

/// Entries, and rooms of `passed`, that are written at once.
const ENTRIES_AT_ONCE: usize = 8;
const ROOMS_AT_ONCE: usize = 4096;

/// How much longer than a session can be recovered its shard's entries are kept.
const MARGIN: Duration = Duration::from_secs(60);

impl Desk {
    /// Writes trails until the link ends.
    pub(super) async fn serve_trails(&self, link: &Link) -> LinkError {
        let shards: Vec<u16> = self.trails.shards.borrow().keys().copied().collect();
        for shard in shards {
            // Until all is told again, it is not whole.
            let key = self.office.keys.passed(self.office.plan.host, shard);
            let mut batch = Batch::default();
            batch.push(link, &key, redis::cmd("HDEL").arg(&key).arg(WHOLE).take());
            if let Err(error) = batch.send(link, &self.scripts).await {
                return error;
            }
        }
        self.trails.tell_all_again();
        loop {
            self.trails.notify.notified().await;
            tokio::time::sleep(GATHER).await;
            if let Err(error) = self.flush_trails(link).await {
                return error;
            }
        }
    }

    /// Writes all that waits.
    pub(super) async fn flush_trails(&self, link: &Link) -> Result<(), LinkError> {
        let shards: Vec<u16> = self.trails.shards.borrow().keys().copied().collect();
        for shard in shards {
            while self.flush_trail(link, shard).await? {}
        }
        Ok(())
    }

    /// Writes some of a shard's trail; whether there is more.
    async fn flush_trail(&self, link: &Link, shard: u16) -> Result<bool, LinkError> {
        let host = self.office.plan.host;
        let [trail_key, passed_key] =
            [self.office.keys.trail(host, shard), self.office.keys.passed(host, shard)];
        let ttl = sessions::ttl(self.office.plan.recovery_window_ms);
        let mut batch = Batch::default();
        let (entries, rooms, whole) = {
            let mut shards = self.trails.shards.borrow_mut();
            let Some(trail) = shards.get_mut(&shard).filter(|it| it.has_news()) else {
                return Ok(false);
            };
            let kept = Duration::from_millis(self.office.plan.recovery_window_ms) + MARGIN;
            let entries = push_entries(link, &mut batch, &trail_key, trail, kept);
            let rooms: Vec<_> = trail.changed.iter().take(ROOMS_AT_ONCE).cloned().collect();
            push_passed(link, &mut batch, &passed_key, trail, &rooms);
            let is_last = rooms.len() == trail.changed.len()
                && entries.len() * STEPS_MAX >= trail.waiting.len();
            let whole = is_last.then_some(trail.known);
            if let Some(known) = whole {
                let mut set = redis::cmd("HSET");
                set.arg(&passed_key).arg(WHOLE).arg(known);
                batch.push(link, &passed_key, set);
            }
            (entries, rooms, whole)
        };
        for key in [&trail_key, &passed_key] {
            let mut expire = redis::cmd("PEXPIRE");
            batch.push(link, key, expire.arg(key).arg(ttl.as_millis() as u64).take());
        }
        // What is noted meanwhile goes to the end of what waits.
        let seqs: Vec<_> = {
            let shards = self.trails.shards.borrow();
            let passed = shards.get(&shard).map(|trail| &trail.passed);
            rooms.iter().map(|room| passed.and_then(|it| it.get(room)).copied()).collect()
        };
        let answers = batch.send(link, &self.scripts).await?;
        let refusal = answers.iter().find(|it| is_refusal(it));
        let was_refusing = self.trails.is_refusing.replace(refusal.is_some());
        if let Some(refusal) = refusal.filter(|_| !was_refusing) {
            warn!(?refusal, "Redis refuses a trail; some sessions cannot be recovered elsewhere");
        }
        if let Some(trail) = self.trails.shards.borrow_mut().get_mut(&shard) {
            trail.on_written(&entries, rooms.iter().zip(seqs), whole);
        }
        Ok(whole.is_none())
    }

    /// Keeps what is in Redis of each shard alive, and lets go of rooms that nobody can come back
    /// to.
    pub(super) async fn renew_trails(&self, link: &Link, now: Instant) -> Result<(), LinkError> {
        let ttl = sessions::ttl(self.office.plan.recovery_window_ms);
        let host = self.office.plan.host;
        let mut batch = Batch::default();
        for shard in self.trails.shards.borrow().keys() {
            let passed_key = self.office.keys.passed(host, *shard);
            for key in [&passed_key, &self.office.keys.trail(host, *shard)] {
                let mut expire = redis::cmd("PEXPIRE");
                batch.push(link, key, expire.arg(key).arg(ttl.as_millis() as u64).take());
            }
        }
        while !batch.is_empty() {
            batch.send(link, &self.scripts).await?;
            batch = self.closed_batch(link, now, ttl * 2);
        }
        Ok(())
    }

    /// Ends rooms that have been closed for so long, some at a time.
    fn closed_batch(&self, link: &Link, now: Instant, time: Duration) -> Batch {
        let mut batch = Batch::default();
        for (shard, trail) in self.trails.shards.borrow_mut().iter_mut() {
            let key = self.office.keys.passed(self.office.plan.host, *shard);
            while batch.len() < ROOMS_AT_ONCE
                && let Some(room) = trail.poll_over(now, time, |it| self.members.has_room(it))
            {
                batch.push(link, &key, redis::cmd("HDEL").arg(&key).arg(&*room).take());
            }
        }
        batch
    }

    #[cfg(test)]
    pub(super) fn passed_count(&self) -> usize {
        let shards = self.trails.shards.borrow();
        shards.values().map(|it| it.passed.len() + it.closed.len() + it.changed.len()).sum()
    }
}

/// The entries that wait, some at a time; their ids.
fn push_entries(
    link: &Link,
    batch: &mut Batch,
    key: &str,
    trail: &mut ShardTrail,
    window: Duration,
) -> Vec<u64> {
    let oldest = trail.trim(Instant::now(), window);
    let (mut from, mut ends) = (trail.told, Vec::new());
    while ends.len() < ENTRIES_AT_ONCE
        && let Some((end, text)) = trail.entry(ends.len() * STEPS_MAX)
    {
        let mut add = redis::cmd("XADD");
        add.arg(key).arg("MINID").arg(format!("{oldest}-0")).arg(format!("{end}-0"));
        batch.push(link, key, add.arg("f").arg(from).arg("s").arg(text).take());
        from = end;
        ends.push(end);
    }
    ends
}

fn push_passed(link: &Link, batch: &mut Batch, key: &str, trail: &ShardTrail, rooms: &[Arc<str>]) {
    for some in rooms.chunks(STEPS_MAX) {
        let mut set = redis::cmd("HSET");
        set.arg(key);
        for room in some {
            let (position, seq) = trail.passed.get(room).copied().unwrap_or_default();
            set.arg(&**room).arg(format!("{position}:{seq}"));
        }
        batch.push(link, key, set);
    }
}

/// Whether an answer is an error, but for that of an entry which is there already: the link broke
/// before its answer came.
fn is_refusal(answer: &redis::Value) -> bool {
    let redis::Value::ServerError(error) = answer else { return false };
    !error.details().is_some_and(|it| it.contains("equal or smaller"))
}
