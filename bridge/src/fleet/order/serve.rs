//! All that acts on the order, side by side over one link, and what is done while there is none.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, sleep};

use super::orders::Orders;
use super::wire;
use crate::fleet::beside::Beside;
use crate::fleet::link::{Link, LinkError};
use crate::fleet::words::Ordered;

/// How long a room that is opened, or a read, waits for Redis.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often is looked for what has waited too long.
const TICK: Duration = Duration::from_millis(250);

/// What a Redis calls its process, from its answer to INFO.
fn run_id(info: &Value) -> Option<String> {
    let text = match info {
        Value::VerbatimString { text, .. } => text,
        other => wire::text(other)?,
    };
    text.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::to_owned)
}

impl Orders {
    /// Publishes, subscribes and repairs until the link ends.
    pub(in crate::fleet) async fn serve(&self, link: &Rc<Link>, beside: &Beside) -> LinkError {
        self.rewind();
        let is_other = match self.greet(link).await {
            Ok(is_other) => is_other,
            Err(why) => return why,
        };
        self.rooms.borrow_mut().restart(Instant::now(), is_other);
        let ended = tokio::select! {
            ended = self.publish(link) => ended,
            ended = self.tend(link) => ended,
            ended = self.tend_rosters(link, beside) => ended,
            ended = self.retry() => ended,
            ended = self.read_wanted(link) => ended,
            ended = self.tell_settings(link) => ended,
            ended = self.probe(link) => ended,
            ended = self.sweep(link) => ended,
            ended = self.refuse_late() => ended,
        };
        ended.err().unwrap_or_else(|| self.give_up(link, "a task has ended"))
    }

    /// Nothing is under way any more.
    fn rewind(&self) {
        self.outbox.borrow_mut().rewind();
        self.reads.borrow_mut().rewind();
    }

    /// Prepares the nodes; whether one is not the process it was.
    async fn greet(&self, link: &Link) -> Result<bool, LinkError> {
        let mut runs = Vec::new();
        for node in 0..link.nodes_count() {
            self.load_scripts(link, node).await?;
            let mut info = redis::cmd("INFO");
            let answers = link.send(node, &[info.arg("server").take()]).await?;
            runs.extend(answers.first().and_then(run_id));
        }
        let before = self.runs.replace(runs.clone());
        Ok(runs.len() < link.nodes_count() || !runs.iter().all(|run| before.contains(run)))
    }

    /// Keeps what can wait while there is no link, and refuses what has waited too long. Endless.
    pub(in crate::fleet) async fn wait(&self) {
        self.rewind();
        self.rooms.borrow_mut().lose();
        let mut orders = Vec::new();
        let take = async {
            loop {
                poll_fn(|context| {
                    let mut receiver = self.orders.borrow_mut();
                    match receiver.poll_recv_many(context, &mut orders, 1024) {
                        Poll::Ready(count) if count > 0 => Poll::Ready(()),
                        _ => Poll::Pending,
                    }
                })
                .await;
                self.take_orders(&mut orders);
                self.count_outbox();
                self.wake();
            }
        };
        tokio::select! {
            () = take => {}
            _ = self.refuse_late() => {}
        }
    }

    /// Refuses what has waited for too long. Never ends.
    async fn refuse_late(&self) -> Result<(), LinkError> {
        loop {
            self.refuse_overdue();
            self.count_rooms();
            let now = Instant::now();
            if let Some(before) = now.checked_sub(PATIENCE) {
                for (shard, room) in self.rooms.borrow_mut().take_stuck(before, now) {
                    self.tell(shard, Ordered::Opened { room, found: None });
                }
                self.refuse_wanted(before);
                self.refuse_configured(before);
            }
            self.wake();
            sleep(TICK).await;
        }
    }
}
