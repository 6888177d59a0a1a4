//! What shards tell each other, and themselves.

use std::sync::Arc;

use throng_ring::Frame;

use super::Core;
use crate::app::{App, Ask, Audience, Envelope, Relay, RoomRef};
use crate::close::Reason;
use crate::codec;
use crate::ids::{RoomId, Sid};
use crate::limits::MESH_BACKLOG_MAX;
use crate::outbox::Class;
use crate::room::Membership;
use crate::table::{Phase, Queued, Socket};

/// Envelopes held back for a shard above which even deliveries are dropped, and counted: what was
/// published before the backlog was noticed is far less.
const DELIVERIES_BACKLOG_MAX: usize = 4 * MESH_BACKLOG_MAX;

impl<A: App> Core<A> {
    /// Takes everything that other shards have sent. True if there was anything.
    pub(super) fn receive(&mut self) -> bool {
        let mut received = false;
        while let Some(batch) = self.mesh.receive() {
            received = true;
            for envelope in batch {
                self.on_envelope(envelope);
                self.route();
            }
        }
        received
    }

    /// Sends the envelopes on their way that have been written meanwhile.
    pub(super) fn route(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let mut out = std::mem::take(&mut self.out);
        for (to, envelope) in out.drain(..) {
            let full = || self.mesh.backlog(to) > DELIVERIES_BACKLOG_MAX;
            if matches!(envelope, Envelope::Deliver { .. }) && full() {
                self.cells.undelivered_mesh.add(1);
            } else if let Err(envelope) = self.mesh.send(to, envelope) {
                self.inbox.push_back(envelope);
            }
        }
        self.out = out;
    }

    /// Handles what this shard has told itself, and what the bridge answers, until all is quiet.
    pub(super) fn settle(&mut self) {
        loop {
            self.homes.on_outcomes(&mut self.app, &mut self.out, self.now);
            self.route();
            let Some(envelope) = self.inbox.pop_front() else { break };
            self.on_envelope(envelope);
            self.route();
        }
    }

    fn on_envelope(&mut self, envelope: Envelope<A>) {
        match envelope {
            Envelope::Ask { room, from, ask, since_ns } => {
                let asked = (room, from, ask, since_ns);
                self.homes.on_ask(&mut self.app, &mut self.out, self.now, asked);
            }
            Envelope::Deliver { room, audience, frame, since_ns } => {
                self.on_deliver(room, audience, Frame::new(frame), since_ns);
            }
            Envelope::Send { to, frame } => {
                if let Some(slot) = self.table.find(to) {
                    self.queue_or_close(slot, Frame::new(frame), Class::Reply);
                }
            }
            Envelope::Admit { room, name, member, listens } => {
                self.on_admit(room, &name, member, listens);
            }
            Envelope::Decline { member } => {
                if let Some(socket) = self.socket(member) {
                    socket.joining = socket.joining.saturating_sub(1);
                }
            }
            Envelope::Dismiss { room, member } => self.on_dismiss(room, member),
            Envelope::Relay(relay) => self.on_relay(*relay),
            Envelope::Disconnect { to } => {
                if let Some(slot) = self.table.find(to) {
                    let frame = Frame::new(codec::disconnect_frame());
                    self.queue(slot, frame, Class::Control);
                    self.close(slot, Reason::Application);
                }
            }
        }
    }

    fn socket(&mut self, sid: Sid) -> Option<&mut Socket<A>> {
        let slot = self.table.find(sid)?;
        self.table.row(slot)?.socket()
    }

    fn on_admit(&mut self, room: RoomId, name: &Arc<str>, member: Sid, listens: bool) {
        let Some(slot) = self.table.find(member) else {
            // It was gone before it was in.
            return self.tell_gone(room, member);
        };
        let index = self.local.index_of(room);
        let Some(socket) = self.table.row(slot).and_then(|row| row.socket()) else { return };
        socket.joining = socket.joining.saturating_sub(1);
        match socket.memberships.iter().find(|it| Some(it.room) == index) {
            Some(&membership) => self.local.set_listens(membership, listens),
            None => {
                if socket.memberships.len() == socket.memberships.capacity() {
                    // Most sockets are in one room.
                    socket.memberships.reserve_exact(socket.memberships.len().max(1));
                }
                socket.memberships.push(self.local.add(room, name, slot, listens));
                self.cells.memberships.add(1);
            }
        }
    }

    fn on_dismiss(&mut self, room: RoomId, member: Sid) {
        let index = self.local.index_of(room);
        let Some(socket) = self.socket(member) else { return };
        let Some(at) = socket.memberships.iter().position(|it| Some(it.room) == index) else {
            return;
        };
        let membership = socket.memberships.swap_remove(at);
        self.unseat(membership);
    }

    fn unseat(&mut self, membership: Membership) {
        self.cells.memberships.sub(1);
        if let Some(moved) = self.local.remove(membership)
            && let Some(socket) = self.table.row(moved.slot()).and_then(|row| row.socket())
        {
            moved.mend(&mut socket.memberships);
        }
    }

    /// Takes a socket out of its rooms and tells the application.
    pub(super) fn detach(&mut self, slot: u32, socket: Socket<A>, reason: &'static str) {
        debug_assert_eq!(slot, socket.sid.slot());
        self.cells.sockets.sub(1);
        for &membership in &socket.memberships {
            if let Some((id, _)) = self.local.room(membership.room) {
                self.tell_gone(id, socket.sid);
            }
            self.unseat(membership);
        }
        self.app.disconnect(socket.sid, socket.session, reason);
    }

    fn tell_gone(&mut self, room: RoomId, from: Sid) {
        let since_ns = self.now.ns;
        let gone = Envelope::Ask { room: RoomRef::Id(room), from, ask: Ask::Gone, since_ns };
        self.out.push((room.home(), gone));
    }

    /// The fan-out: one shared frame, queued once per member.
    fn on_deliver(&mut self, room: RoomId, audience: Audience, frame: Frame, since_ns: u64) {
        let (except, listeners) = match audience {
            Audience::All => (None, false),
            Audience::Except(sid) => (Some(sid), false),
            Audience::Listeners(except) => (except, true),
        };
        let except = except.filter(|sid| sid.shard() == self.mesh.index()).map(|sid| sid.slot());
        let mut delivered = 0;
        let mut slow = Vec::new();
        for seat in self.local.seats(room) {
            if Some(seat.slot()) == except || (listeners && !seat.listens()) {
                continue;
            }
            delivered += 1;
            match self.table.queue(seat.slot(), frame.clone(), Class::Event) {
                Queued::Yes => {}
                Queued::InsteadOf(events) => self.cells.undelivered_dropped.add(events.into()),
                Queued::Exceeds => slow.push(seat.slot()),
            }
        }
        delivered -= slow.len() as u64;
        for slot in slow {
            self.cells.undelivered_slow_consumer.add(1);
            self.close(slot, Reason::SlowConsumer);
        }
        self.cells.deliveries.add(delivered);
        if delivered > 0 {
            self.fanouts.push((since_ns, delivered));
        }
    }

    fn on_relay(&mut self, relay: Relay) {
        let Relay { to, frame, from, delivered, missing } = relay;
        let answer = match self.table.find(to) {
            Some(slot) => {
                self.queue_or_close(slot, Frame::new(frame), Class::Event);
                delivered
            }
            None => missing,
        };
        if let Some(frame) = answer {
            self.out.push((from.shard(), Envelope::Send { to: from, frame }));
        }
    }

    /// Queues a frame for a connection that is not being handled; closes it if it owes too much.
    fn queue_or_close(&mut self, slot: u32, frame: Frame, class: Class) {
        if !self.queue(slot, frame, class) {
            self.close(slot, Reason::SlowConsumer);
        }
    }

    /// The socket of a live connection that is ending.
    pub(super) fn take_socket(&mut self, slot: u32) -> Option<Socket<A>> {
        match &mut self.table.row(slot)?.phase {
            Phase::Live(live) => live.link.socket.take(),
            _ => None,
        }
    }
}
