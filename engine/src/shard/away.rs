//! Sockets whose connection broke: kept for the recovery window, and brought back complete.
//!
//! An away socket keeps its seats, so its rooms' events still come to this shard, into its log; to
//! everybody else it is gone. Memory for it is bounded: as many sockets as there may be
//! connections, and so many bytes of events per shard.

use std::mem;

use throng_ring::Frame;

use super::Core;
use super::packets::Halt;
use crate::app::{App, Ask, Envelope, RoomRef};
use crate::close::Reason;
use crate::codec::{Heading, Packet};
use crate::ids::{RoomId, Sid};
use crate::limits::RECOVERY_BYTES_PER_SHARD_MAX;
use crate::outbox::Class;
use crate::recovery::{Past, Reach};
use crate::room::Membership;
use crate::table::{Away, Link, Phase, Socket};

impl<A: App> Core<A> {
    /// Takes the sockets out of a session that ends.
    pub(super) fn detach(&mut self, link: &mut Link<A>, reason: Reason) {
        let sids: Vec<_> = link.sockets().map(|socket| socket.sid).collect();
        for sid in sids {
            let past = link.take_past(sid);
            let Some(socket) = link.take(|socket| socket.sid == sid) else { continue };
            match past {
                Some(past) if reason.is_recoverable() => self.go_away(socket, past, reason.text()),
                past => {
                    // Whom this host's end sends away may come back to another.
                    if reason != Reason::Draining {
                        self.forget_abroad(past);
                    }
                    self.dismiss_socket(socket, reason.text());
                }
            }
        }
    }

    /// A socket ends for good.
    pub(super) fn dismiss_socket(&mut self, mut socket: Socket<A>, reason: &'static str) {
        self.cells.sockets.sub(1);
        self.note_user(&socket.session, false);
        self.app.disconnect(socket.sid, &mut socket.session, reason);
        self.dispose(socket);
    }

    /// Takes a socket out of its rooms, of which the application has been told.
    fn dispose(&mut self, socket: Socket<A>) {
        for &membership in &socket.memberships {
            if let Some((id, _)) = self.local.room(membership.room) {
                self.tell_home(id, socket.sid, Ask::Gone);
            }
            self.unseat(membership);
        }
        self.tell_socket(socket.sid, socket.namespace, false);
        self.spaces.leave(socket.namespace);
        self.table.note_gone(socket.sid);
        self.note_moved(socket.sid, None);
    }

    pub(super) fn tell_home(&mut self, room: RoomId, from: Sid, ask: Ask<A>) {
        let since_ns = self.now.ns;
        self.out
            .push((room.home(), Envelope::Ask { room: RoomRef::Id(room), from, ask, since_ns }));
    }

    /// A socket's connection broke; it may come back.
    fn go_away(&mut self, mut socket: Socket<A>, past: Past, reason: &'static str) {
        let full = self.cells.sockets_away.read() >= u64::from(self.config.connections_max);
        let row = if full { None } else { self.table.open_session(Default::default()) };
        let Some((slot, _)) = row else {
            self.forget_abroad(Some(past));
            return self.dismiss_socket(socket, reason);
        };
        self.cells.sockets.sub(1);
        self.cells.sockets_away.add(1);
        self.note_user(&socket.session, false);
        self.app.disconnect(socket.sid, &mut socket.session, reason);
        for &membership in &socket.memberships {
            if let Some((id, _)) = self.local.room(membership.room) {
                self.tell_home(id, socket.sid, Ask::Away);
            }
        }
        self.reseat([&mut socket], slot);
        let until_ms = self.now.ms().wrapping_add(self.bounds.recovery_window_ms);
        if let Some(row) = self.table.row(slot) {
            row.phase = Phase::Away(Box::new(Away { socket, past, until_ms }));
        }
        self.wheel.arm(slot, until_ms);
    }

    /// Sockets are in another row from now on.
    pub(super) fn reseat<'a>(
        &mut self,
        sockets: impl IntoIterator<Item = &'a mut Socket<A>>,
        slot: u32,
    ) {
        for socket in sockets {
            for &membership in &socket.memberships {
                self.local.move_seat(membership, slot);
            }
            self.table.note_moved(socket.sid, slot);
        }
    }

    /// Takes an away socket out of its row.
    fn take_away(&mut self, slot: u32) -> Option<(Socket<A>, Past)> {
        let row = self.table.row(slot)?;
        if !matches!(row.phase, Phase::Away(_)) {
            return None;
        }
        let Phase::Away(away) = mem::replace(&mut row.phase, Phase::Vacant) else { return None };
        self.wheel.disarm(slot);
        self.table.close_session(slot);
        self.sessions_churn += 2;
        self.cells.sockets_away.sub(1);
        Some((away.socket, away.past))
    }

    /// An away socket has not come back in time.
    pub(super) fn on_away_expired(&mut self, slot: u32) {
        if let Some((socket, past)) = self.take_away(slot) {
            self.forget_abroad(Some(past));
            self.dispose(socket);
            self.route();
        }
    }

    /// A client says that it had this socket and has read up to `offset`. `None` if it cannot have
    /// it back; else the socket is the link's, with everything missed before the answer.
    pub(super) fn recover(
        &mut self,
        slot: u32,
        link: &mut Link<A>,
        (sid, offset): (Sid, Option<&str>),
        (name, auth): (&str, &str),
    ) -> Option<Option<Halt>> {
        let found = self.table.find(sid)?;
        let row = self.table.row(found)?;
        let away = matches!(row.phase, Phase::Away(_));
        let namespace = row.socket(sid)?.namespace;
        if **self.spaces.name(namespace) != *name {
            return None;
        }
        if !away {
            // Its connection broke, and the engine has not noticed yet.
            self.close(found, Reason::Replaced);
            self.mend(slot, link);
            self.route();
        }
        let away = self.table.find(sid)?;
        let Some(frames) = self.missed(away, sid, offset, name) else {
            return self.give_up(sid);
        };
        let handshake = self.handshake(slot, sid, (name, auth));
        let Some(Phase::Away(returning)) = self.table.row(away).map(|row| &mut row.phase) else {
            return None;
        };
        if self.app.resume(&handshake, &mut returning.socket.session).is_err() {
            return self.give_up(sid);
        }
        let (mut socket, past) = self.take_away(away)?;
        socket.recovered = true;
        self.note_user(&socket.session, true);
        for &membership in &socket.memberships {
            if let Some((id, _)) = self.local.room(membership.room) {
                self.tell_home(id, sid, Ask::Back);
            }
        }
        self.reseat([&mut socket], slot);
        link.add(socket);
        let extra = link.extra();
        extra.pasts.push((sid, past));
        extra.takes_many = true;
        self.cells.sockets.add(1);
        self.cells.recovered.add(1);
        for frame in frames {
            if !self.queue(slot, frame, Class::Reply) {
                return Some(Some(Halt::Close(Reason::SlowConsumer)));
            }
        }
        Some(self.greet(slot, link, sid, name))
    }

    /// An away socket cannot be had back. It ends when the connection that asked is not in hand:
    /// taking it out of its rooms moves the seats of others.
    fn give_up(&mut self, to: Sid) -> Option<Option<Halt>> {
        self.out.push((to.shard(), Envelope::Disconnect { to, close: false }));
        None
    }

    /// Mends memberships of a link in hand whose seats have been moved meanwhile.
    fn mend(&mut self, slot: u32, link: &mut Link<A>) {
        for moved in self.unmended.drain(..).filter(|moved| moved.slot() == slot) {
            for socket in link.sockets() {
                moved.mend(&mut socket.memberships);
            }
        }
    }

    /// What an away socket has missed, as frames; `None` if not all is known, or more than a
    /// connection may owe.
    fn missed(
        &mut self,
        away: u32,
        sid: Sid,
        offset: Option<&str>,
        name: &str,
    ) -> Option<Vec<Frame>> {
        let Self { table, local, log, encoder, .. } = self;
        let row = table.row(away)?;
        let Phase::Away(away) = &row.phase else { return None };
        let (past, memberships) = (&away.past, &away.socket.memberships);
        let membership = |key: &str| -> Option<Membership> {
            let (index, _) = local.find(key)?;
            memberships.iter().find(|it| it.room == index).copied()
        };
        let forgotten_to = |key: &str| match membership(key) {
            Some(membership) => local.forgotten_to(membership, sid),
            None => u64::MAX,
        };
        let listens = |key: &str| membership(key).is_some_and(|it| local.listens(it));
        let missed = log.missed((sid, past, name), offset, forgotten_to, listens)?;
        let (mut frames, mut bytes) = (Vec::new(), 0);
        for (position, packet) in missed {
            let offset = log.offset_at(position + 1);
            let heading = Heading { namespace: name, ack: None, offset: Some(&offset) };
            let frame = encoder.frame(packet, &heading, Default::default());
            bytes += frame.len();
            if bytes > self.config.outbox_bytes_max / 2 {
                return None;
            }
            frames.push(frame);
        }
        Some(frames)
    }

    /// Keeps an event for those that may come back.
    pub(super) fn remember(&mut self, reach: Reach, packet: Packet) {
        self.log.push(reach, packet, self.now.ms());
        if self.log.held_bytes() > RECOVERY_BYTES_PER_SHARD_MAX {
            self.forget();
        }
    }

    /// Forgets events that are too old, or too many.
    pub(super) fn forget(&mut self) {
        let bounds = (self.bounds.recovery_window_ms, RECOVERY_BYTES_PER_SHARD_MAX);
        while let Some((position, reach)) = self.log.poll_forgotten(self.now.ms(), bounds) {
            match reach {
                Reach::Room(room, _, audience) => {
                    self.local.note_forgotten(room, audience, position + 1);
                }
                Reach::Socket(sid) => {
                    if let Some(slot) = self.table.find(sid)
                        && let Some(past) = self.table.row(slot).and_then(|row| row.past(sid))
                    {
                        past.forget(position);
                    }
                }
                Reach::Spread(..) => {}
            }
        }
        self.cells.recovery_bytes.set(self.log.held_bytes() as u64);
    }
}
