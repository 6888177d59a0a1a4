//! What shards ask for, put where it waits for Redis.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::orders::Orders;
use super::outbox::Item;
use super::reads::{Wanted, What};
use super::settings::{Change, Configuring};
use super::wire;
use crate::fleet::words::{Order, Ordered};
use crate::store::RoomSettings;

impl Orders {
    pub(super) fn take_orders(&self, orders: &mut Vec<(u16, Order)>) {
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

    /// Puts a message into the outbox.
    fn post(&self, mut item: Item) {
        let keys = &self.office.keys;
        item.record = wire::record(item.at_ms, &item.draft);
        item.sent = match &item.draft.client_id {
            Some(id) => keys.sent(&item.room, &format!("c:{id}")),
            None => keys.sent(&item.room, &format!("m:{}", item.id)),
        };
        if wire::is_plain(&item.id) && item.floor < wire::SEQ_MAX {
            self.outbox.borrow_mut().push(item);
        } else {
            self.refuse(&item);
        }
    }

    pub(super) fn refuse(&self, item: &Item) {
        self.stats().refused.fetch_add(1, Relaxed);
        self.tell(item.shard, Ordered::Refused { ticket: item.ticket });
    }

    fn want(&self, wanted: Wanted) {
        self.reads.borrow_mut().push(wanted);
        self.reads_due.notify_one();
    }

    fn configure(&self, (before, settings): (RoomSettings, RoomSettings), who: Configuring) {
        let mut configured = self.configured.borrow_mut();
        match configured.get_mut(&who.room) {
            // What has not been told yet is told with it, and outlasts what changes nothing.
            Some(waiting) if before != settings => waiting.settings = settings,
            Some(_) => {}
            None => {
                configured.insert(Arc::clone(&who.room), Change { before, settings });
            }
        }
        self.configuring.borrow_mut().push(who);
        self.configured_due.notify_one();
    }
}
