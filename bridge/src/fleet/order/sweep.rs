//! Compares every open room with Redis now and then. Whatever loses a message ends the link or
//! shows in the next message, so a room that is found behind here is counted as a bug.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::orders::Orders;
use super::room::{Phase, Room, next_sweep};
use super::script::meta_ttl_ms;
use super::wire;
use crate::fleet::link::{Link, LinkError};

/// When a room that seems behind is compared again: its message may be under way.
const DOUBT: Duration = Duration::from_secs(3);

/// How often is looked for rooms whose turn it is.
const TURN: Duration = Duration::from_secs(1);

/// Rooms compared in one go.
const BATCH: usize = 512;

impl Orders {
    /// Compares rooms until the link ends.
    pub(super) async fn sweep(&self, link: &Rc<Link>) -> Result<(), LinkError> {
        loop {
            sleep(TURN).await;
            let due = self.take_sweep(Instant::now());
            let mut nodes = vec![Vec::new(); link.nodes_count()];
            for key in due {
                let meta = self.office.keys.meta(&key);
                if let Some(its) = nodes.get_mut(link.node_of(&meta)) {
                    its.push((key, meta));
                }
            }
            for (node, its) in nodes.iter().enumerate() {
                for some in its.chunks(BATCH) {
                    self.compare(link, node, some).await?;
                }
            }
        }
    }

    fn take_sweep(&self, now: Instant) -> Vec<Arc<str>> {
        let mut rooms = self.rooms.borrow_mut();
        let is_due = |room: &Room| room.phase == Phase::Live && room.sweep_at <= now;
        let due = rooms.map.iter_mut().filter(|(_, room)| is_due(room));
        due.map(|(key, room)| {
            room.sweep_at = next_sweep(now);
            Arc::clone(key)
        })
        .collect()
    }

    async fn compare(
        &self,
        link: &Link,
        node: usize,
        rooms: &[(Arc<str>, String)],
    ) -> Result<(), LinkError> {
        let ttl_ms = meta_ttl_ms(self.office.plan.history_ttl_ms);
        let commands = rooms.iter().flat_map(|(_, meta)| {
            let mut read = redis::cmd("HMGET");
            read.arg(meta).arg(&["e", "s", "i"]);
            // While a room is open its numbers do not end.
            let mut keep = redis::cmd("PEXPIRE");
            keep.arg(meta).arg(ttl_ms);
            [read, keep]
        });
        let commands: Vec<_> = commands.collect();
        let answers = link.send(node, &commands).await?;
        for ((key, _), answer) in rooms.iter().zip(answers.iter().step_by(2)) {
            if let Value::Array(values) = answer
                && let Some(top) = wire::top(values)
            {
                self.on_compared(key, &top);
            }
        }
        Ok(())
    }

    fn on_compared(&self, key: &Arc<str>, top: &wire::Top) {
        let mut rooms = self.rooms.borrow_mut();
        let Some(room) = rooms.map.get_mut(key) else { return };
        if room.phase != Phase::Live {
            return;
        }
        let now = Instant::now();
        let (is_behind, same) = room.course.is_behind(top);
        let suspected = room.suspected.take();
        if !is_behind || (same && top.seq < room.course.last()) {
            return;
        }
        // What was seen the last time must have come by now.
        if suspected.is_none_or(|seq| same && room.course.last() >= seq) {
            room.suspected = Some(top.seq);
            room.sweep_at = now + DOUBT;
            return;
        }
        if same {
            self.stats().swept_behind.fetch_add(1, Relaxed);
            warn!(room = &**key, "a room was behind without a sign");
        }
        // Words about members may be missing, too.
        room.roster_due = true;
        rooms.doubt(key, Phase::Mending, now);
        self.rooms_due.notify_one();
    }
}
