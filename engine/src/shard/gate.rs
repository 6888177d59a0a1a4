//! Casts in their order: whoever is made to join a room hears what is said to it next.
//!
//! A join or leave goes by way of the room's home, and a cast that follows it would overtake it. So
//! casts to the same rooms wait until the sockets that earlier ones have sent to them, or out of
//! them, are there; for a bounded time, and a bounded number of casts.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashSet;

use super::Core;
use crate::app::{App, Spread};
use crate::clock::has_come;
use crate::ids::Sid;
use crate::limits::{CAST_HELD_MS, CASTS_HELD_MAX};

/// What casts wait for, and those that wait.
#[derive(Default)]
pub(super) struct Gate {
    awaited: HashSet<(Sid, Arc<str>)>,
    held: VecDeque<Arc<Spread>>,
    until_ms: u32,
}

impl<A: App> Core<A> {
    /// A cast, when its turn has come.
    pub(super) fn on_cast_in_turn(&mut self, spread: Arc<Spread>) {
        if !self.gate.concerns(&spread) {
            return self.on_cast(&spread);
        }
        self.gate.held.push_back(spread);
        if self.gate.held.len() > CASTS_HELD_MAX {
            self.gate.awaited.clear();
        }
    }

    /// A socket is on its way into a room, or out of it.
    pub(super) fn await_move(&mut self, sid: Sid, room: &Arc<str>) {
        if self.gate.awaited.is_empty() {
            self.gate.until_ms = self.now.ms().wrapping_add(CAST_HELD_MS);
        }
        self.gate.awaited.insert((sid, Arc::clone(room)));
    }

    /// It is there; without a room it will never be.
    pub(super) fn note_moved(&mut self, sid: Sid, room: Option<&Arc<str>>) {
        if self.gate.awaited.is_empty() {
            return;
        }
        match room {
            Some(room) => _ = self.gate.awaited.remove(&(sid, Arc::clone(room))),
            None => self.gate.awaited.retain(|(other, _)| *other != sid),
        }
    }

    /// Lets casts through that have waited too long.
    pub(super) fn sweep_gate(&mut self) {
        if !self.gate.awaited.is_empty() && has_come(self.gate.until_ms, self.now.ms()) {
            self.gate.awaited.clear();
        }
    }

    /// Casts that need wait no longer; when no connection is in hand.
    pub(super) fn let_casts_through(&mut self) {
        while self.gate.awaited.is_empty()
            && let Some(spread) = self.gate.held.pop_front()
        {
            self.on_cast(&spread);
            self.route();
        }
    }
}

impl Gate {
    /// Whether a cast may be about sockets that are on their way, or stands behind one that is.
    fn concerns(&self, spread: &Spread) -> bool {
        let names = || spread.rooms.iter().chain(&spread.except);
        let is_awaited = |name: &Arc<str>| {
            let sid = Sid::parse(name);
            self.awaited.iter().any(|(other, room)| room == name || Some(*other) == sid)
        };
        let is_behind = |held: &Arc<Spread>| {
            held.rooms.is_empty() || held.rooms.iter().any(|room| spread.rooms.contains(room))
        };
        let waits = !self.awaited.is_empty() || !self.held.is_empty();
        waits
            && (spread.rooms.is_empty()
                || names().any(is_awaited)
                || self.held.iter().any(is_behind))
    }
}
