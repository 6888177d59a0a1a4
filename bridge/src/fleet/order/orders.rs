//! What a host knows of its rooms' order, and how its shards are told.
//!
//! Whatever acts on it stands in a file of its own, and is run by [`super::serve`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;

use super::echo::Echo;
use super::outbox::Outbox;
use super::reads::Reads;
use super::rooms::Rooms;
use super::script::Scripts;
use super::settings::{Change, Configuring};
use crate::fleet::line::{FromFleet, ShardEnd};
use crate::fleet::link::{Link, LinkError, Refusal};
use crate::fleet::office::Office;
use crate::fleet::stats::FleetStats;
use crate::fleet::words::{Order, Ordered};

/// Told of a room, and whether it is open.
type OnRoom = Box<dyn Fn(&str, bool)>;

/// What is known of the rooms that are open here, and what waits to be published.
pub(in crate::fleet) struct Orders {
    pub(super) office: Rc<Office>,
    pub(super) orders: RefCell<UnboundedReceiver<(u16, Order)>>,
    pub(super) scripts: Scripts,
    pub(super) outbox: RefCell<Outbox>,
    pub(super) rooms: RefCell<Rooms>,
    /// Some room stands in [`Rooms`]'s queue.
    pub(super) rooms_due: Notify,
    pub(super) rosters_due: Notify,
    pub(super) reads: RefCell<Reads>,
    pub(super) reads_due: Notify,
    /// The newest settings of rooms that Redis must be told.
    pub(super) configured: RefCell<HashMap<Arc<str>, Change>>,
    pub(super) configuring: RefCell<Vec<Configuring>>,
    pub(super) configured_due: Notify,
    pub(super) echo: Echo,
    /// What the nodes' processes called themselves.
    pub(super) runs: RefCell<Vec<String>>,
    /// Who else is told which rooms are open here.
    pub(super) on_room: OnRoom,
}

impl Orders {
    /// `on_room` is told of each room that is opened or closed here.
    pub(in crate::fleet) fn new(
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
            echo: Echo::new(&office),
            runs: RefCell::default(),
            on_room: Box::new(on_room),
            office,
        }
    }

    /// Whether everything that was to be published is, or is refused.
    pub(in crate::fleet) fn is_idle(&self) -> bool {
        self.outbox.borrow().is_empty() && self.orders.borrow().is_empty()
    }

    /// The room of an events channel.
    pub(in crate::fleet) fn room_of<'a>(&self, channel: &'a str) -> Option<&'a str> {
        self.office.keys.room_of_events(channel)
    }

    /// Something came on a channel that is no room's; false if it is not ours.
    pub(in crate::fleet) fn on_push(&self, channel: &str, payload: &[u8]) -> bool {
        self.echo.on_push(channel, payload)
    }

    pub(super) fn stats(&self) -> &FleetStats {
        &self.office.stats
    }

    /// How channels of rooms are published to.
    pub(super) fn verb(&self, link: &Link) -> &'static str {
        if link.is_cluster() { "SPUBLISH" } else { "PUBLISH" }
    }

    pub(super) fn give_up(&self, link: &Link, why: &str) -> LinkError {
        link.give_up(why);
        LinkError(why.to_owned())
    }

    pub(super) fn tell(&self, shard: u16, ordered: Ordered) {
        self.queue(shard, FromFleet::Ordered(ordered));
    }

    pub(super) fn queue(&self, shard: u16, it: FromFleet) {
        if let Some(end) = self.office.shards.get(usize::from(shard)) {
            end.queue(it);
        }
    }

    /// Whether a shard is too far behind to be told more unasked.
    pub(super) fn is_full(&self, shard: u16) -> bool {
        self.office.shards.get(usize::from(shard)).is_some_and(ShardEnd::is_full)
    }

    /// Wakes every shard that something was queued for.
    pub(in crate::fleet) fn wake(&self) {
        self.office.shards.iter().for_each(ShardEnd::wake);
    }

    /// Loads the scripts at a node.
    pub(super) async fn load_scripts(&self, link: &Link, node: usize) -> Result<(), LinkError> {
        for answer in link.send(node, &self.scripts.loading()).await? {
            if let Some(refused) = Refusal::of(&answer) {
                return Err(self.give_up(link, &format!("scripts are refused: {refused:?}")));
            }
        }
        Ok(())
    }
}
