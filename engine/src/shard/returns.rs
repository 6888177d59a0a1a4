//! Clients that come back to another host than they were on.
//!
//! What it takes to bring a socket back stands in Redis from its first moment on, since a host that
//! is killed says nothing any more: its session and rooms, and how far each shard has passed on
//! each room's messages. The CONNECT of a client that presents a private id of another host is
//! answered when that has been read; it gets what it missed, or is told that it is new.
//! Across hosts messages are recovered and members are as they are now; typing is not recovered.

use std::sync::Arc;

use throng_bridge::fleet::{HostId, Offset, Recovered, Replay, Session, Stay, Word};
use throng_bridge::{Message, Ticket};

use super::Core;
use super::packets::{Halt, pid_of};
use crate::app::{App, Ask, Connect, Envelope, Notice, RoomRef, split_key};
use crate::clock::has_come;
use crate::close::Reason;
use crate::codec::Packet;
use crate::ids::{Sid, home_of};
use crate::limits::{RETURN_LATE_MS, RETURN_MS, RETURNS_MAX};
use crate::recovery::{Past, Read};
use crate::table::{Link, Phase, Socket};

/// A client that waits for what is known of it.
pub(super) struct Returning {
    slot: u32,
    generation: u32,
    connect: Connect,
    until_ms: u32,
}

impl<A: App> Core<A> {
    /// Whether sockets are to be brought back on any host.
    pub(super) fn remembers_abroad(&self) -> bool {
        A::returns() && self.homes.is_shared() && self.bounds.recovery_window_ms > 0
    }

    /// A client presents a private id that is not of this host; true if its CONNECT waits.
    pub(super) fn ask_for_session(
        &mut self,
        slot: u32,
        (namespace, auth): (&str, &str),
        (pid, offset): (&str, Option<&str>),
    ) -> bool {
        let offset = match offset.map(|text| self.log.read_offset(text)) {
            None => None,
            Some(Some(Read::Elsewhere(offset))) => Some(offset),
            Some(Some(Read::Here(position, message))) => {
                let (host, shard) = (self.host, self.mesh.index());
                Some(Offset { host, shard, position, message })
            }
            Some(None) => return false,
        };
        if !self.remembers_abroad() || self.abroad.returning.len() >= RETURNS_MAX {
            return false;
        }
        let ticket = Ticket(self.abroad.number());
        let generation = self.table.conn(slot).generation;
        let connect =
            Connect { namespace: namespace.into(), auth: auth.into(), records: Vec::new() };
        let until_ms = self.now.ms().wrapping_add(RETURN_MS);
        let returning = Returning { slot, generation, connect, until_ms };
        self.abroad.returning.insert(ticket, returning);
        self.homes.tell(Word::Recover { ticket, pid: pid.into(), offset });
        true
    }

    /// Whether a CONNECT of this connection waits: to a namespace, or any.
    pub(super) fn is_returning(&self, slot: u32, namespace: Option<&str>) -> bool {
        let generation = self.table.conn(slot).generation;
        let is_it = |it: &Returning| {
            let is_meant = namespace.is_none_or(|name| *it.connect.namespace == *name);
            (it.slot, it.generation) == (slot, generation) && is_meant
        };
        self.abroad.returning.values().any(is_it)
    }

    /// What is known of a session has come.
    pub(super) fn on_recovered(&mut self, ticket: Ticket, found: Option<Box<Recovered>>) {
        let Some(returning) = self.abroad.returning.remove(&ticket) else {
            // Its client has been told that it is new.
            let late = self.abroad.late.remove(&ticket);
            return self.give_back(late.map(|(pid, _)| pid), found);
        };
        let Returning { slot, generation, connect, .. } = returning;
        let pid = found.as_ref().and_then(|_| pid_of(&connect.auth));
        if !self.is_served(slot, generation) {
            return self.give_back(pid, found);
        }
        self.recovered_abroad = Some(found);
        self.connect_held(slot, connect);
        let unused = self.recovered_abroad.take().flatten();
        self.give_back(pid, unused);
        self.route();
    }

    /// Whether a connection is still there to be connected. A polling session that has ended keeps
    /// its row for a while: a socket in it would be nobody's, and later another client's.
    fn is_served(&mut self, slot: u32, generation: u32) -> bool {
        let Some(row) = self.table.row(slot) else { return false };
        let is_there = match &row.phase {
            Phase::Live(_) => true,
            Phase::Polling(polling) => polling.ended_until_ms.is_none(),
            _ => false,
        };
        is_there && row.generation == generation
    }

    /// Whose session has been found is gone: it may come back elsewhere.
    fn give_back(&mut self, pid: Option<Box<str>>, found: Option<Box<Recovered>>) {
        if let (Some(found), Some(pid)) = (found, pid) {
            let session = Box::new(found.session);
            self.homes.tell(Word::Release { pid, session });
        }
    }

    pub(super) fn sweep_returning(&mut self) {
        let now_ms = self.now.ms();
        self.abroad.late.retain(|_, (_, until_ms)| !has_come(*until_ms, now_ms));
        let returning = self.abroad.returning.iter();
        let late = returning.filter(|(_, it)| has_come(it.until_ms, now_ms)).map(|(key, _)| *key);
        for ticket in late.collect::<Vec<_>>() {
            let Some(returning) = self.abroad.returning.get(&ticket) else { continue };
            let pid = pid_of(&returning.connect.auth);
            self.on_recovered(ticket, None);
            // What comes later is given back.
            if let Some(pid) = pid.filter(|_| self.abroad.late.len() < RETURNS_MAX) {
                self.abroad.late.insert(ticket, (pid, now_ms.wrapping_add(RETURN_LATE_MS)));
            }
        }
    }

    /// Connects a client as what it was on another host; `None` if it cannot be that.
    pub(super) fn connect_recovered(
        &mut self,
        slot: u32,
        link: &mut Link<A>,
        (name, auth): (&str, &str),
        found: Recovered,
    ) -> Option<Option<Halt>> {
        let Recovered { mut session, missed } = found;
        if *session.namespace != *name {
            let found = Box::new(Recovered { session, missed });
            self.give_back(pid_of(auth), Some(found));
            return None;
        }
        let bytes: usize = missed.iter().flat_map(|(list, _)| list).map(|it| it.held_bytes()).sum();
        if bytes > self.config.outbox_bytes_max / 2 {
            return None;
        }
        let members: Option<Vec<_>> =
            session.rooms.iter().map(|stay| A::import(&stay.member)).collect();
        let members = members?;
        let pid = pid_of(auth)?;
        let sid = self.new_sid(slot);
        let handshake = self.handshake(slot, sid, (name, auth));
        let data = self.app.restore(&handshake, &session.data).ok()?;
        let namespace = self.enter_space(name)?;
        let old = Sid::parse(&session.sid);
        let told = Box::new(session.clone());
        let old_host = std::mem::replace(&mut session.host, self.host);
        session.shard = self.mesh.index();
        session.since = self.log.position();
        session.sid = sid.encode().as_str().into();
        let (recovered, joining) = (true, session.rooms.len() as u16);
        let memberships = Box::default();
        self.note_user(&data, true);
        self.tell_socket(sid, namespace, true);
        link.add(Socket { sid, recovered, joining, namespace, memberships, session: data });
        self.cells.sockets.add(1);
        let mut past = Past::new(self.log.position());
        self.table.note_moved(sid, slot);
        if !self.send_missed(slot, (sid, name), &mut session.rooms, &missed) {
            self.homes.tell(Word::Release { pid, session: told });
            return Some(Some(Halt::Close(Reason::SlowConsumer)));
        }
        let stays: Vec<_> =
            session.rooms.iter().map(|stay| (Arc::clone(&stay.room), stay.listens)).collect();
        past.remembered = Some(Box::new((pid, session)));
        self.sessions_changed.push(sid);
        let extra = link.extra();
        extra.pasts.push((sid, past));
        extra.takes_many = true;
        self.cells.recovered.add(1);
        if let Some(old) = old {
            self.tell_moved(old_host, old);
        }
        for (((room, listens), member), (_, seq)) in stays.into_iter().zip(members).zip(missed) {
            let home = home_of(&room, self.mesh.shards());
            let ask = Ask::Return { member, listens, seq, old };
            let (room, since_ns) = (RoomRef::Name(room), self.now.ns);
            self.out.push((home, Envelope::Ask { room, from: sid, ask, since_ns }));
        }
        Some(self.greet(slot, link, sid, name))
    }

    /// Says what was missed to one alone, and notes where in the log that stands.
    fn send_missed(
        &mut self,
        slot: u32,
        (sid, namespace): (Sid, &str),
        stays: &mut [Stay],
        missed: &[(Vec<Arc<Message>>, u64)],
    ) -> bool {
        for (stay, (messages, last_seq)) in stays.iter_mut().zip(missed) {
            let Some(first) = messages.first() else {
                (stay.seq, stay.replays) = (*last_seq, Vec::new());
                continue;
            };
            let (position, seq) = (self.log.position() + 1, first.seq);
            for message in messages {
                // One that cannot be shown has its place all the same.
                let packet = self.app.replay(split_key(&stay.room).1, message);
                let packet = packet.unwrap_or_else(|| Packet::event("message", ""));
                if !self.say(slot, sid, (namespace, None), packet) {
                    return false;
                }
            }
            stay.seq = seq - 1;
            stay.replays = vec![Replay { position, seq, count: messages.len() as u64 }];
        }
        true
    }

    /// A room's home says what one that came back has missed beside.
    pub(super) fn on_replay(&mut self, to: Sid, room: &Arc<str>, messages: Vec<(u64, Packet)>) {
        let Some(&(seq, _)) = messages.first() else { return };
        let replay =
            Replay { position: self.log.position() + 1, seq, count: messages.len() as u64 };
        for (_, packet) in messages {
            self.say_to(to, packet);
        }
        let Some(slot) = self.table.find(to) else { return };
        let Some(past) = self.table.row(slot).and_then(|row| row.past(to)) else { return };
        let Some(remembered) = &mut past.remembered else { return };
        if let Some(stay) = remembered.1.rooms.iter_mut().find(|stay| stay.room == *room) {
            stay.replays.push(replay);
            self.sessions_changed.push(to);
        }
    }

    /// A session has gone from one row to another.
    pub(super) fn move_returning(&mut self, from: u32, to: u32) {
        let (old, new) = (self.table.conn(from).generation, self.table.conn(to).generation);
        for returning in self.abroad.returning.values_mut() {
            if returning.slot == from && returning.generation == old {
                (returning.slot, returning.generation) = (to, new);
            }
        }
    }

    /// What is known of a member of this shard has changed at its room's home.
    pub(super) fn on_stay(&mut self, member: Sid, mut stay: Stay) {
        let Some(slot) = self.table.find(member) else { return };
        let Some(row) = self.table.row(slot) else { return };
        if let Some((index, _)) = self.local.find(&stay.room)
            && let Some(socket) = row.socket(member)
            && let Some(it) = socket.memberships.iter().find(|it| it.room == index)
        {
            stay.listens = self.local.listens(*it);
        }
        let Some(past) = row.past(member) else { return };
        let Some(remembered) = &mut past.remembered else { return };
        let rooms = &mut remembered.1.rooms;
        match rooms.iter_mut().find(|it| it.room == stay.room) {
            Some(known) => {
                let replays = std::mem::take(&mut known.replays);
                *known = Stay { seq: known.seq, replays, ..stay };
            }
            None => rooms.push(stay),
        }
        self.sessions_changed.push(member);
    }

    /// A socket is no longer in a room.
    pub(super) fn forget_stay(&mut self, member: Sid, key: &str) {
        let Some(slot) = self.table.find(member) else { return };
        let Some(past) = self.table.row(slot).and_then(|row| row.past(member)) else { return };
        let Some(remembered) = &mut past.remembered else { return };
        remembered.1.rooms.retain(|stay| *stay.room != *key);
        self.sessions_changed.push(member);
    }

    /// A socket that came back for a room is not in it.
    pub(super) fn on_refused_return(&mut self, member: Sid, key: &str) {
        if let Some(slot) = self.table.find(member)
            && let Some(socket) = self.table.row(slot).and_then(|row| row.socket(member))
        {
            socket.joining = socket.joining.saturating_sub(1);
        }
        self.forget_stay(member, key);
    }

    /// A socket that has just connected, as other hosts would have to know it.
    pub(super) fn begin_session(
        &mut self,
        sid: Sid,
        namespace: &str,
        session: &A::Session,
        past: &mut Past,
    ) {
        if !self.remembers_abroad() {
            return;
        }
        let session = Session {
            host: self.host,
            shard: self.mesh.index(),
            since: self.log.position(),
            namespace: namespace.into(),
            sid: sid.encode().as_str().into(),
            data: A::session_data(session).into(),
            rooms: Vec::new(),
        };
        past.remembered = Some(Box::new((self.seal.private_id(sid).into(), session)));
        self.sessions_changed.push(sid);
    }

    /// Tells what has become of sessions, once per turn.
    pub(super) fn tell_sessions(&mut self) {
        let mut changed = std::mem::take(&mut self.sessions_changed);
        changed.sort_unstable();
        changed.dedup();
        for sid in changed.drain(..) {
            let Some(slot) = self.table.find(sid) else { continue };
            let Some(past) = self.table.row(slot).and_then(|row| row.past(sid)) else { continue };
            if let Some(remembered) = &past.remembered {
                let (pid, session) = (**remembered).clone();
                self.homes.tell(Word::Remember { pid, session: Some(Box::new(session)) });
            }
        }
        self.sessions_changed = changed;
    }

    /// A socket's client is here now: whoever has the socket lets go of it.
    pub(super) fn tell_moved(&mut self, host: HostId, sid: Sid) {
        let moved = Notice::Moved { sid };
        match host == self.host && sid.shard() < self.mesh.shards() {
            true => self.out.push((sid.shard(), Envelope::Notice(host, Box::new(moved)))),
            false => self.tell_host(host, sid.shard(), &moved),
        }
    }

    /// A socket has ended for good.
    pub(super) fn forget_abroad(&mut self, past: Option<Past>) {
        if let Some((pid, session)) = past.and_then(|past| past.remembered).map(|it| *it) {
            self.homes.tell(Word::Forget { pid, sid: session.sid });
        }
    }

    /// A socket's client is on another host now.
    pub(super) fn on_moved_abroad(&mut self, sid: Sid) {
        let Some(slot) = self.table.find(sid) else { return };
        let Some(row) = self.table.row(slot) else { return };
        // Its session is the other host's.
        if let Some(past) = row.past(sid) {
            past.remembered = None;
        }
        if !matches!(row.phase, Phase::Away(_)) {
            // The connection's other sockets may come back as well.
            self.close(slot, Reason::Replaced);
            self.route();
        }
        if let Some(away) = self.table.find(sid) {
            self.on_away_expired(away);
        }
    }

    /// Tells which messages of rooms have been passed on, and how far the log has come, once per
    /// turn.
    pub(super) fn tell_trail(&mut self) {
        let position = self.log.position();
        if !self.remembers_abroad() || position == self.trail_told {
            return;
        }
        self.trail_told = position;
        let (shard, mut steps) = (self.mesh.index(), std::mem::take(&mut self.trail));
        steps.push((position, "".into(), 0));
        self.homes.tell(Word::Trail { shard, steps });
    }
}
