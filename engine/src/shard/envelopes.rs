//! What shards tell each other, and themselves.

use std::sync::Arc;

use super::Core;
use crate::app::{App, Ask, Envelope, Relay};
use crate::close::Reason;
use crate::codec;
use crate::ids::{RoomId, Sid};
use crate::limits::MESH_BACKLOG_MAX;
use crate::outbox::Class;
use crate::room::Membership;
use crate::table::{Phase, Socket};

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
            while let Some(news) = self.homes.poll_news() {
                self.on_news(news);
            }
            self.let_casts_through();
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
            Envelope::Deliver { room, audience, packet, seq, since_ns } => {
                self.on_deliver(room, audience, (packet, seq), since_ns);
            }
            Envelope::Send { to, packet } => self.say_to(to, packet),
            Envelope::Admit { room, name, member, listens } => {
                self.on_admit(room, &name, member, listens);
                self.note_moved(member, Some(&name));
            }
            Envelope::Decline { member } => {
                if let Some(socket) = self.socket(member) {
                    socket.joining = socket.joining.saturating_sub(1);
                }
                self.note_moved(member, None);
            }
            Envelope::Dismiss { room, member } => self.on_dismiss(room, member),
            Envelope::Relay(relay) => self.on_relay(*relay),
            Envelope::Disconnect { to, close } => self.on_disconnect(to, close),
            Envelope::Spread(spread) => self.on_spread(&spread),
            Envelope::Cast(spread) => self.on_cast_in_turn(spread),
            Envelope::Asked { id, count } => {
                let whole = self.collections.on_asked(id, count);
                self.on_collected(whole);
            }
            Envelope::Answered { id, answer } => {
                let whole = self.collections.on_answer(id, answer);
                self.on_collected(whole);
            }
            Envelope::Notice(from, notice) => self.on_notice(from, *notice),
            Envelope::Stay(member, stay) => self.on_stay(member, *stay),
            Envelope::RefuseReturn(member, room) => self.on_refused_return(member, &room),
            Envelope::Replay(to, room, messages) => self.on_replay(to, &room, messages),
            Envelope::TellRooms(namespace, by) => self.on_tell_rooms(&namespace, by),
            Envelope::Tell(word) => self.homes.tell(word),
            Envelope::Poll(poll) => self.on_poll(poll),
            Envelope::Polled(polled) => self.on_polled(*polled),
            Envelope::Adopt(adopt) => self.on_adopt(adopt),
            Envelope::Rehome(ghost) => self.on_rehome(*ghost),
            Envelope::Forget(key) => self.on_forget(key),
        }
    }

    fn socket(&mut self, sid: Sid) -> Option<&mut Socket<A>> {
        let slot = self.table.find(sid)?;
        self.table.row(slot)?.socket(sid)
    }

    fn on_admit(&mut self, room: RoomId, name: &Arc<str>, member: Sid, listens: bool) {
        let Some(slot) = self.table.find(member) else {
            // It was gone before it was in.
            return self.tell_home(room, member, Ask::Gone);
        };
        let index = self.local.index_of(room);
        let Some(row) = self.table.row(slot) else { return };
        let away = matches!(row.phase, Phase::Away(_));
        let Some(socket) = row.socket(member) else { return };
        socket.joining = socket.joining.saturating_sub(1);
        match socket.memberships.iter().find(|it| Some(it.room) == index) {
            Some(&membership) => self.local.set_listens(membership, listens),
            None => {
                socket.add(self.local.add(room, name, slot, listens));
                self.cells.memberships.add(1);
                if let Some(past) = row.past(member) {
                    past.enter(name, self.log.position());
                }
            }
        }
        if away {
            self.tell_home(room, member, Ask::Away);
        }
    }

    fn on_dismiss(&mut self, room: RoomId, member: Sid) {
        let Some(index) = self.local.index_of(room) else { return };
        let key = self.local.room(index).map(|(_, key)| Arc::clone(key));
        let Some(slot) = self.table.find(member) else { return };
        let Some(row) = self.table.row(slot) else { return };
        let Some(socket) = row.socket(member) else { return };
        let Some(at) = socket.memberships.iter().position(|it| it.room == index) else { return };
        let membership = socket.remove(at);
        if let Some(past) = row.past(member)
            && let Some((_, key)) = self.local.room(index)
        {
            let listened = self.local.listens(membership);
            past.leave(key, self.local.said_to(membership, member), listened);
            let key = Arc::clone(key);
            self.forget_stay(member, &key);
        }
        self.unseat(membership);
        self.note_moved(member, key.as_ref());
    }

    pub(super) fn unseat(&mut self, membership: Membership) {
        self.cells.memberships.sub(1);
        let Some(moved) = self.local.remove(membership) else { return };
        let Some(row) = self.table.row(moved.slot()) else { return };
        let mut mended = false;
        for socket in row.sockets() {
            mended |= moved.mend(&mut socket.memberships);
        }
        if !mended {
            // Its connection is in hand.
            self.unmended.push(moved);
        }
    }

    fn on_relay(&mut self, relay: Relay) {
        if relay.to.host() != self.host {
            return self.relay_abroad(relay);
        }
        let Relay { to, packet, from, delivered, missing } = relay;
        // One that is away may never come back: whoever asks had better ask again.
        let answer = if self.is_connected(to) {
            self.say_to(to, packet);
            delivered
        } else {
            missing
        };
        if let Some(packet) = answer {
            self.out.push((from.shard(), Envelope::Send { to: from, packet }));
        }
    }

    /// Ends a socket; with `close`, all of its connection's and the connection.
    fn on_disconnect(&mut self, to: Sid, close: bool) {
        let Some(slot) = self.table.find(to) else { return };
        let Some(row) = self.table.row(slot) else { return };
        let dialect = row.dialect;
        if matches!(row.phase, Phase::Away(_)) {
            return self.on_away_expired(slot);
        }
        let Some(link) = row.link() else { return };
        let sids: Vec<_> = match close {
            true => link.sockets().map(|socket| socket.sid).collect(),
            false => vec![to],
        };
        for sid in sids {
            let Some(link) = self.table.row(slot).and_then(|row| row.link()) else { return };
            let Some(socket) = link.sockets().find(|it| it.sid == sid) else { continue };
            let name = Arc::clone(self.spaces.name(socket.namespace));
            self.queue(slot, codec::disconnect_frame(&name, dialect), Class::Control);
            let Some(row) = self.table.row(slot) else { return };
            let phase = std::mem::replace(&mut row.phase, Phase::Vacant);
            let phase = self.leave_in(phase, sid);
            if let Some(row) = self.table.row(slot) {
                row.phase = phase;
            }
        }
        if close || dialect.is_json() {
            self.close(slot, Reason::Application);
        }
    }

    fn leave_in(&mut self, mut phase: Phase<A>, sid: Sid) -> Phase<A> {
        let reason = Reason::Application.text();
        match &mut phase {
            Phase::Live(live) => self.leave_namespace(&mut live.link, sid, reason),
            Phase::Polling(polling) => self.leave_namespace(&mut polling.link, sid, reason),
            _ => {}
        }
        phase
    }
}
