//! Bringing clients up, closing them, and what happens when a connection ends.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use throng_ring::{Conn, Ring};

use super::{Core, Opening, Row, Stage};
use crate::clock::SECOND;

/// Who is to come up, and how fast.
#[derive(Default)]
pub(super) struct Ascent {
    opening: Option<Opening>,
    /// Clients to begin, in order.
    waiting: VecDeque<u32>,
    /// Clients to begin later: when, and which.
    later: BinaryHeap<Reverse<(u64, u32)>>,
    /// Clients on their way.
    pub(super) under_way: u32,
    /// When the next may begin, where there is a rate.
    next_ns: f64,
}

impl Ascent {
    /// When something is to be begun, if nothing else happens.
    pub(super) fn due_ns(&self) -> Option<u64> {
        let opening = self.opening.as_ref()?;
        let later = self.later.peek().map(|Reverse((due_ns, _))| *due_ns);
        let paced = !self.waiting.is_empty() && self.under_way < opening.window;
        let next = paced.then_some(self.next_ns as u64);
        [later, next].into_iter().flatten().min()
    }

    /// Whether joiners want presence.
    pub(super) fn wants_presence(&self) -> bool {
        self.opening.as_ref().is_some_and(|opening| opening.presence)
    }
}

impl Core {
    /// Brings up every client that is down.
    pub(super) fn open_all(&mut self, opening: Opening) {
        let down = (0..).zip(&self.clients).filter(|(_, client)| client.slot.is_none());
        self.ascent.waiting = down.map(|(index, _)| index).collect();
        self.ascent.later.clear();
        self.ascent.next_ns = self.now_ns as f64;
        self.ascent.opening = Some(opening);
    }

    /// Begins as many as the window and the rate allow.
    pub(super) fn open_some(&mut self, ring: &mut Ring) -> io::Result<()> {
        let Some(opening) = self.ascent.opening.clone() else { return Ok(()) };
        while let Some(Reverse((due_ns, client))) = self.ascent.later.peek().copied() {
            if due_ns > self.now_ns {
                break;
            }
            self.ascent.later.pop();
            self.ascent.waiting.push_back(client);
        }
        while self.ascent.under_way < opening.window {
            if opening.per_s.is_some() && self.ascent.next_ns > self.now_ns as f64 {
                break;
            }
            let Some(client) = self.ascent.waiting.pop_front() else { break };
            if let Some(per_s) = opening.per_s {
                self.ascent.next_ns += SECOND as f64 / per_s;
            }
            let (to, from) = self.shared.addresses.pair(self.global(client));
            ring.connect(to, from, client.into())?;
            self.clients[client as usize].began_ns = self.shared.clock.now();
            self.ascent.under_way += 1;
            self.visible.cells.begun.add(1);
        }
        self.visible.opening.store(self.ascent.under_way, Relaxed);
        Ok(())
    }

    pub(super) fn on_connected(&mut self, conn: Conn, client: u32) {
        let began_ns = self.clients[client as usize].began_ns;
        *self.rows.obtain(conn.slot) = Row {
            generation: conn.generation,
            client,
            stage: Stage::Upgrading,
            began_ns,
            ..Row::default()
        };
        self.clients[client as usize].slot = Some(conn.slot);
        let request = self.shared.dialect.request(self.room_of(client));
        self.say(conn.slot, request.into());
    }

    pub(super) fn on_connect_failed(&mut self, client: u32) {
        self.ascent.under_way -= 1;
        self.visible.cells.refused.add(1);
        self.try_again(client);
    }

    /// The client is in its room.
    pub(super) fn on_ready(&mut self, slot: u32) {
        let Some(row) = self.rows.get_mut(slot) else { return };
        row.stage = Stage::Ready;
        let (client, began_ns) = (row.client, row.began_ns);
        let now_ns = self.shared.clock.now();
        self.times.connect.note_ns(now_ns.saturating_sub(began_ns));
        self.ascent.under_way -= 1;
        self.come_in(client);
    }

    /// Counts the client into its room.
    pub(super) fn come_in(&mut self, client: u32) {
        self.visible.cells.ready.add(1);
        self.visible.cells.reached.add(1);
        self.shared.board.enter(self.room_of(client));
    }

    /// Counts it out.
    pub(super) fn go_out(&mut self, client: u32) {
        self.visible.cells.ready.take_one();
        self.shared.board.leave(self.room_of(client));
    }

    /// The connection is of no more use: the server ended it, refused it, or is too slow.
    pub(super) fn on_ended(&mut self, conn: Conn) {
        let Some(row) = self.row(conn) else { return };
        let stage = std::mem::replace(&mut row.stage, Stage::Closing);
        let client = row.client;
        match stage {
            Stage::Vacant | Stage::Closing => return,
            Stage::Ready => {
                self.visible.cells.lost.add(1);
                self.go_out(client);
            }
            Stage::Resting => self.visible.cells.lost.add(1),
            _ => {
                self.visible.cells.refused.add(1);
                self.ascent.under_way -= 1;
            }
        }
        self.clients[client as usize].slot = None;
        self.closes.push(conn);
        self.try_again(client);
    }

    /// Closes a client's connection from this side.
    pub(super) fn hang_up(&mut self, client: u32) {
        let Some(slot) = self.clients[client as usize].slot.take() else { return };
        let Some(row) = self.rows.get_mut(slot) else { return };
        let conn = Conn { slot, generation: row.generation };
        match std::mem::replace(&mut row.stage, Stage::Closing) {
            Stage::Vacant | Stage::Closing => return,
            Stage::Ready => self.go_out(client),
            Stage::Resting => {}
            _ => self.ascent.under_way -= 1,
        }
        self.visible.cells.left.add(1);
        self.closes.push(conn);
    }

    pub(super) fn on_closed(&mut self, conn: Conn) {
        if let Some(row) = self.row(conn) {
            *row = Row::default();
        }
    }

    /// Closes every connection.
    pub(super) fn drop_all(&mut self) {
        self.ascent.opening = None;
        self.ascent.waiting.clear();
        self.ascent.later.clear();
        for client in 0..self.clients.len() as u32 {
            self.hang_up(client);
        }
    }

    /// A client that is down comes again, if that is wanted.
    fn try_again(&mut self, client: u32) {
        let retry = self.ascent.opening.as_ref().and_then(|opening| opening.retry);
        if let Some(around) = retry {
            self.begin_later(client, around);
        }
    }

    /// Begins a client after half to one and a half of this time, as Socket.IO's clients do.
    pub(super) fn begin_later(&mut self, client: u32, around: Duration) {
        let wait_s = around.as_secs_f64() * (0.5 + self.random.fraction());
        let due_ns = self.now_ns + (wait_s * SECOND as f64) as u64;
        self.ascent.later.push(Reverse((due_ns, client)));
    }
}
