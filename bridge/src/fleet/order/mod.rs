//! The order of messages across hosts: publishing, rooms, repair.
//!
//! Redis gives the numbers, in one script; this host publishes into it ([`publish`]), reads what
//! comes back from it ([`rooms`]), and proves of each room that nothing is missing ([`room`]) or
//! reads what is ([`repair`]). Never delivers what has not come back from Redis, and never
//! acknowledges what Redis has not answered. All state outlives the link it was used over; whatever
//! runs may be dropped at any await.

mod flight;
mod probe;
mod publish;
mod read;
mod repair;
mod room;
mod rooms;
mod rosters;
mod script;
mod settings;
mod sweep;
mod wire;

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

use super::beside::Beside;
use super::line::{FromFleet, ShardEnd};
use super::link::{Link, LinkError};
use super::words::{Joined, News, Order, Ordered};
use super::{FleetStats, Office};
use probe::Probe;
use publish::{Item, Outbox};
use read::{Reads, Wanted, What};
use rooms::Rooms;
use script::Scripts;
use settings::{Change, Configuring};

pub(super) use read::read_page;

/// How long a room that is opened, or a read, waits for Redis.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often is looked for what has waited too long.
const TICK: Duration = Duration::from_millis(250);

/// Told of a room, and whether it is open.
type OnRoom = Box<dyn Fn(&str, bool)>;

/// What is known of the rooms that are open here, and what waits to be published.
pub(super) struct Orders {
    office: Rc<Office>,
    orders: RefCell<UnboundedReceiver<(u16, Order)>>,
    scripts: Scripts,
    outbox: RefCell<Outbox>,
    rooms: RefCell<Rooms>,
    /// Some room stands in [`Rooms`]'s queue.
    rooms_due: Notify,
    rosters_due: Notify,
    reads: RefCell<Reads>,
    reads_due: Notify,
    /// The newest settings of rooms that Redis must be told.
    configured: RefCell<HashMap<Arc<str>, Change>>,
    configuring: RefCell<Vec<Configuring>>,
    configured_due: Notify,
    probe: Probe,
    /// What the nodes' processes called themselves.
    runs: RefCell<Vec<String>>,
    /// Who else is told which rooms are open here.
    on_room: OnRoom,
}

/// By half more or less, so that not all hosts do the same at the same time.
pub(super) fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + (wire::random_epoch() % 1024) as f64 / 1024.0)
}

/// What a Redis calls its process, from its answer to INFO.
fn run_id(info: &Value) -> Option<String> {
    let text = match info {
        Value::VerbatimString { text, .. } => text,
        other => wire::text(other)?,
    };
    text.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::to_owned)
}

impl Orders {
    /// `on_room` is told of each room that is opened or closed here.
    pub(super) fn new(
        office: Rc<Office>,
        orders: UnboundedReceiver<(u16, Order)>,
        on_room: impl Fn(&str, bool) + 'static,
    ) -> Self {
        Self {
            orders: RefCell::new(orders),
            scripts: Scripts::new(),
            outbox: RefCell::default(),
            rooms: RefCell::default(),
            rooms_due: Notify::new(),
            rosters_due: Notify::new(),
            reads: RefCell::default(),
            reads_due: Notify::new(),
            configured: RefCell::default(),
            configuring: RefCell::default(),
            configured_due: Notify::new(),
            probe: Probe::new(&office),
            runs: RefCell::default(),
            on_room: Box::new(on_room),
            office,
        }
    }

    /// Publishes, subscribes and repairs until the link ends.
    pub(super) async fn serve(&self, link: &Rc<Link>, beside: &Beside) -> LinkError {
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
    pub(super) async fn wait(&self) {
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

    /// Whether everything that was to be published is, or is refused.
    pub(super) fn is_idle(&self) -> bool {
        self.outbox.borrow().is_empty() && self.orders.borrow().is_empty()
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

    fn take_orders(&self, orders: &mut Vec<(u16, Order)>) {
        for (shard, order) in orders.drain(..) {
            self.take_order(shard, order);
        }
    }

    fn take_order(&self, shard: u16, order: Order) {
        let now = Instant::now();
        match order {
            Order::Open { room, floor } => {
                (self.on_room)(&room, true);
                self.rooms.borrow_mut().open(shard, room, floor, now);
                self.rooms_due.notify_one();
            }
            Order::Close { room } => {
                (self.on_room)(&room, false);
                self.rooms.borrow_mut().close(room, now);
            }
            Order::Publish { ticket, room, id, at_ms, draft, floor } => {
                self.post(Item::new((shard, ticket), room, (id, at_ms), draft, floor));
            }
            Order::Read { ticket, room, range } => {
                self.want(Wanted { shard, ticket, room, what: What::Messages(range), since: now });
            }
            Order::Settings { ticket, room } => {
                self.want(Wanted { shard, ticket, room, what: What::Settings, since: now });
            }
            Order::Configure { ticket, room, change } => {
                self.configure(*change, Configuring { shard, ticket, room, since: now });
            }
        }
    }

    /// The room of an events channel.
    pub(super) fn room_of<'a>(&self, channel: &'a str) -> Option<&'a str> {
        self.office.keys.room_of_events(channel)
    }

    /// Something came on a channel that is no room's; false if it is not ours.
    pub(super) fn on_push(&self, channel: &str, payload: &[u8]) -> bool {
        self.probe.on_push(channel, payload)
    }

    fn stats(&self) -> &FleetStats {
        &self.office.stats
    }

    /// How channels of rooms are published to.
    fn verb(&self, link: &Link) -> &'static str {
        if link.is_cluster() { "SPUBLISH" } else { "PUBLISH" }
    }

    fn give_up(&self, link: &Link, why: &str) -> LinkError {
        link.give_up(why);
        LinkError(why.to_owned())
    }

    fn tell(&self, shard: u16, ordered: Ordered) {
        self.queue(shard, FromFleet::Ordered(ordered));
    }

    fn queue(&self, shard: u16, it: FromFleet) {
        if let Some(end) = self.office.shards.get(usize::from(shard)) {
            end.queue(it);
        }
    }

    /// Whether a shard is too far behind to be told more unasked.
    fn is_full(&self, shard: u16) -> bool {
        self.office.shards.get(usize::from(shard)).is_some_and(ShardEnd::is_full)
    }

    /// Wakes every shard that something was queued for.
    pub(super) fn wake(&self) {
        self.office.shards.iter().for_each(ShardEnd::wake);
    }
}

#[cfg(test)]
mod tests;
