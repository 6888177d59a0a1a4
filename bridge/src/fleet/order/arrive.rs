//! What arrives for the rooms that are open here.
//!
//! A live room's message is delivered at once, or raises a doubt that a read settles; what comes
//! while its room is being read is held for that. Waits for nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::orders::Orders;
use super::room::{Phase, Verdict};
use super::settings;
use crate::fleet::beside::Beside;
use crate::fleet::clock::now_us;
use crate::fleet::stats::note;
use crate::fleet::words::Ordered;

impl Orders {
    /// Something came on a room's channel. Its first byte says what: `M` and `C` are handled here,
    /// the rest by [`Beside::on_event`] with the room's shard.
    pub(in crate::fleet) fn on_event(&self, beside: &Beside, name: &str, payload: &[u8]) {
        let mut rooms = self.rooms.borrow_mut();
        let Some((key, room)) = rooms.map.get_key_value_mut(name) else { return };
        room.active = Instant::now();
        let (key, shard, phase) = (Arc::clone(key), room.shard, room.phase);
        let is_message = payload.first() == Some(&b'M');
        let is_held = if is_message { phase != Phase::Live } else { room.roster_due };
        if phase == Phase::Closed {
            return;
        }
        let is_full = self.is_full(shard);
        if is_full {
            rooms.fall_behind(&key, Instant::now());
        }
        if is_held || is_full {
            let fits = !is_full && rooms.hold(name, payload, is_message);
            if let Some(room) = rooms.map.get_mut(name)
                && !fits
            {
                *(if is_message { &mut room.overflown } else { &mut room.others_overflown }) = true;
            }
            return;
        }
        drop(rooms);
        if is_message {
            self.on_message(&key, payload);
        } else {
            self.on_other(beside, shard, &key, payload);
        }
    }

    /// A message's event in a live room.
    pub(super) fn on_message(&self, key: &Arc<str>, payload: &[u8]) {
        let mut rooms = self.rooms.borrow_mut();
        let Some(room) = rooms.map.get_mut(key) else { return };
        let shard = room.shard;
        match room.on_message(key, payload) {
            Verdict::Deliver(ordered, at_us) => {
                self.stats().delivered.fetch_add(1, Relaxed);
                note(
                    &self.stats().delivery_us,
                    Duration::from_micros(now_us().saturating_sub(at_us)),
                );
                self.tell(shard, ordered);
            }
            Verdict::Twice => {
                self.stats().dropped_twice.fetch_add(1, Relaxed);
            }
            Verdict::Mend => {
                rooms.doubt(key, Phase::Mending, Instant::now());
                self.rooms_due.notify_one();
            }
        }
    }

    /// Anything else in a room whose roster is known.
    pub(super) fn on_other(&self, beside: &Beside, shard: u16, key: &Arc<str>, payload: &[u8]) {
        if payload.first() != Some(&b'C') {
            return beside.on_event(shard, key, payload);
        }
        if let Some(settings) = settings::read_event(key, payload) {
            self.rooms.borrow_mut().note_configured(key);
            self.tell(shard, Ordered::Configured { room: Arc::clone(key), settings });
        }
    }
}
