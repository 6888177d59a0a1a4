//! What is said to sockets: to a room's, to one, to those that a cast chooses.
//!
//! The fan-out: a packet becomes one shared frame per dialect, queued once per member.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use serde_json::value::RawValue;
use throng_bridge::fleet::CastAnswer;
use throng_protocol::socketio::Args;
use throng_ring::Frame;

use super::Core;
use crate::app::split_key;
use crate::app::{App, Ask, Audience, Collected, Collector, Deed, Envelope, Facts, Io};
use crate::app::{RoomRef, Spread};
use crate::clock::has_come;
use crate::close::Reason;
use crate::codec::{Frames, Heading, Packet};
use crate::ids::{RoomId, Sid, home_of};
use crate::limits::ANSWERS_PER_CAST_MAX;
use crate::outbox::Class;
use crate::recovery::Reach;
use crate::spaces::Namespace;
use crate::table::{Phase, Queued};

/// Every one with every other.
fn each<'a, A, B>(these: &'a [A], those: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    these.iter().flat_map(move |one| those.iter().map(move |other| (one, other)))
}

/// Answers that clients of this shard owe to one event.
pub(super) struct Owed {
    collector: Collector,
    sids: HashSet<Sid>,
    until_ms: u32,
}

/// Sockets that a cast reaches, with their rows.
type Reached = Vec<(u32, Sid)>;

/// The answers owed, by the ack id that clients were given.
pub(super) type OwedAnswers = HashMap<u64, Owed>;

/// How long an answer is still passed on; whoever collects has its own, shorter time.
const OWED_MS: u32 = 300_000;

impl<A: App> Core<A> {
    /// The offset of the next event, where recovery is on.
    fn next_offset(&self, logged: bool) -> Option<String> {
        let on = self.bounds.recovery_window_ms > 0;
        on.then(|| self.log.offset_at(self.log.position() + u64::from(logged)))
    }

    /// A room's event, to its members on this shard.
    pub(super) fn on_deliver(
        &mut self,
        room: RoomId,
        audience: Audience,
        (packet, seq): (Packet, u64),
        since_ns: u64,
    ) {
        let (except, listeners) = match audience {
            Audience::All => (None, false),
            Audience::Except(sid) => (Some(sid), false),
            Audience::Listeners(except) => (except, true),
        };
        let except = except.filter(|sid| sid.shard() == self.mesh.index());
        let except = except.and_then(|sid| self.table.find(sid));
        let Some(index) = self.local.index_of(room) else { return };
        let Some((_, key)) = self.local.room(index) else { return };
        let key = Arc::clone(key);
        let offset = match seq {
            1.. if self.bounds.recovery_window_ms > 0 => {
                Some(self.log.offset_of(self.log.position() + 1, (&key, seq)))
            }
            _ => self.next_offset(true),
        };
        let offset = offset.as_deref();
        let heading = Heading { namespace: split_key(&key).0, ack: None, offset };
        let mut made = Frames::default();
        let (mut delivered, mut away) = (0, 0);
        let mut slow = Vec::new();
        for seat in self.local.seats(room) {
            if Some(seat.slot()) == except || (listeners && !seat.listens()) {
                continue;
            }
            let Some(row) = self.table.row(seat.slot()) else { continue };
            if matches!(row.phase, Phase::Away(_)) {
                away += 1;
                continue;
            }
            delivered += 1;
            let frame = self.encoder.shared(&mut made, (&packet, &heading), row.dialect);
            match self.table.queue(seat.slot(), frame, Class::Event) {
                Queued::Yes => {}
                Queued::InsteadOf(events) => self.cells.undelivered_dropped.add(events.into()),
                Queued::Exceeds => slow.push(seat.slot()),
            }
        }
        if offset.is_some() && delivered + away > 0 {
            if seq > 0 && self.remembers_abroad() {
                self.trail.push((self.log.position() + 1, Arc::clone(&key), seq));
            }
            self.remember(Reach::Room(room, key, audience), packet);
            self.local.note_said(index, audience, self.log.position());
        }
        self.close_slow(&slow);
        self.count_deliveries(delivered - slow.len() as u64, since_ns);
    }

    fn close_slow(&mut self, slots: &[u32]) {
        for &slot in slots {
            self.cells.undelivered_slow_consumer.add(1);
            self.close(slot, Reason::SlowConsumer);
        }
    }

    fn count_deliveries(&mut self, count: u64, since_ns: u64) {
        self.cells.deliveries.add(count);
        if count > 0 {
            self.fanouts.push((since_ns, count));
        }
    }

    /// Says something to one socket; false if its connection must be closed.
    pub(super) fn say(
        &mut self,
        slot: u32,
        sid: Sid,
        (namespace, ack): (&str, Option<u64>),
        packet: Packet,
    ) -> bool {
        let logged = packet.is_event() && ack.is_none();
        let offset = if logged { self.next_offset(true) } else { None };
        let heading = Heading { namespace, ack, offset: offset.as_deref() };
        let Some(row) = self.table.row(slot) else { return true };
        let said = if matches!(row.phase, Phase::Away(_)) {
            true
        } else {
            let dialect = row.dialect;
            let frame = self.encoder.frame(&packet, &heading, dialect);
            self.queue(slot, frame, Class::Reply)
        };
        if offset.is_some() {
            self.remember(Reach::Socket(sid), packet);
        }
        said
    }

    /// Says something to a socket that may be gone.
    pub(super) fn say_to(&mut self, sid: Sid, packet: Packet) {
        let Some(slot) = self.table.find(sid) else { return };
        let Some(socket) = self.table.row(slot).and_then(|row| row.socket(sid)) else { return };
        let namespace = Arc::clone(self.spaces.name(socket.namespace));
        if !self.say(slot, sid, (&namespace, None), packet) {
            self.close(slot, Reason::SlowConsumer);
        }
    }

    /// Passes a cast to every shard.
    pub(super) fn on_spread(&mut self, spread: &Arc<Spread>) {
        self.cast_abroad(spread);
        for shard in 0..self.mesh.shards() {
            self.out.push((shard, Envelope::Cast(Arc::clone(spread))));
        }
    }

    /// Does what a cast says to the sockets of this shard that it reaches.
    pub(super) fn on_cast(&mut self, spread: &Spread) {
        let all = self.reached(spread);
        let (reached, _) = &all;
        match &spread.deed {
            Deed::Emit { packet, volatile, answers } => {
                let collector = answers.map(|(collector, _)| collector);
                self.emit_to(&all, spread, (packet, *volatile, collector));
            }
            Deed::Fetch(collector) => {
                let sockets = reached.iter().filter_map(|&(slot, sid)| self.facts_of(slot, sid));
                let sockets = CastAnswer::Sockets(sockets.collect());
                self.answer_collector(*collector, sockets);
            }
            Deed::Join(rooms) => {
                for (&(slot, sid), room) in each(reached, rooms) {
                    self.cast_join(slot, sid, room);
                }
            }
            Deed::Leave(rooms) => {
                for (&(slot, sid), room) in each(reached, rooms) {
                    if self.is_member(slot, sid, room) {
                        self.await_move(sid, room);
                    }
                    self.ask_room(sid, room, Ask::Leave(None));
                }
            }
            Deed::Disconnect(close) => {
                for &(_, to) in reached {
                    let close = *close;
                    self.out.push((to.shard(), Envelope::Disconnect { to, close }));
                }
            }
        }
    }

    /// A socket as servers describe them to each other (`fetchSockets`).
    fn facts_of(&mut self, slot: u32, sid: Sid) -> Option<Box<str>> {
        let row = self.table.row(slot)?;
        let address = row.ip.to_string();
        let socket = row.sockets().find(|socket| socket.sid == sid)?;
        let data = A::session_data(&socket.session);
        let memberships = socket.memberships.clone();
        let rooms = memberships.iter().filter_map(|it| self.local.room(it.room));
        let mut names: Vec<&str> = rooms.map(|(_, key)| split_key(key).1).collect();
        let sid = sid.encode();
        names.insert(0, sid.as_str());
        let data = RawValue::from_string(data).ok()?;
        let facts = serde_json::json!({
            "id": sid.as_str(),
            "handshake": {
                "headers": {}, "time": "", "address": address, "xdomain": false, "secure": false,
                "issued": 0, "url": "/socket.io/", "query": {}, "auth": {},
            },
            "rooms": names,
        });
        let mut text = facts.to_string();
        text.pop();
        text.push_str(",\"data\":");
        text.push_str(data.get());
        text.push('}');
        Some(text.into())
    }

    fn cast_join(&mut self, slot: u32, sid: Sid, room: &Arc<str>) {
        let Some(row) = self.table.row(slot) else { return };
        let Some(socket) = row.socket(sid) else { return };
        let rooms = socket.memberships.len() + usize::from(socket.joining);
        if rooms >= self.config.rooms_per_socket_max {
            return;
        }
        socket.joining += 1;
        let member = self.app.member(sid, &socket.session);
        self.await_move(sid, room);
        self.ask_room(sid, room, Ask::Join(member, None));
    }

    fn is_member(&mut self, slot: u32, sid: Sid, room: &str) -> bool {
        let Some((index, _)) = self.local.find(room) else { return false };
        let socket = self.table.row(slot).and_then(|row| row.socket(sid));
        socket.is_some_and(|socket| socket.memberships.iter().any(|it| it.room == index))
    }

    fn ask_room(&mut self, from: Sid, key: &Arc<str>, ask: Ask<A>) {
        // By name: the room may have closed, and has to be opened again.
        let (home, room) = (home_of(key, self.mesh.shards()), RoomRef::Name(Arc::clone(key)));
        self.out.push((home, Envelope::Ask { room, from, ask, since_ns: self.now.ns }));
    }

    /// The sockets of this shard in the cast's rooms, each once, without those in others; then
    /// those of them that are away.
    fn reached(&mut self, spread: &Spread) -> (Reached, Reached) {
        let Some(namespace) = self.spaces.find(&spread.namespace) else {
            return Default::default();
        };
        let except = self.rows_of(namespace, &spread.except);
        let mut slots: Vec<u32> = match &spread.rooms[..] {
            [] => (0..self.table.end()).collect(),
            rooms => self.rows_of(namespace, rooms).into_iter().collect(),
        };
        slots.retain(|slot| !except.contains(slot));
        slots.sort_unstable();
        let (mut reached, mut away) = (Vec::new(), Vec::new());
        for slot in slots {
            let Some(row) = self.table.row(slot) else { continue };
            let is_away = matches!(row.phase, Phase::Away(_));
            let list = if is_away { &mut away } else { &mut reached };
            list.extend(
                row.sockets().find(|it| it.namespace == namespace).map(|it| (slot, it.sid)),
            );
        }
        (reached, away)
    }

    /// The rows with a member in any of these rooms. A socket's own id is a room of its namespace.
    fn rows_of(&mut self, namespace: Namespace, rooms: &[Arc<str>]) -> HashSet<u32> {
        let mut slots = HashSet::new();
        for key in rooms {
            let own = Sid::parse(key).filter(|sid| sid.shard() == self.mesh.index());
            let own = own.and_then(|sid| Some((sid, self.table.find(sid)?)));
            if let Some((sid, slot)) = own {
                let socket = self.table.row(slot).and_then(|row| row.socket(sid));
                if socket.is_some_and(|socket| socket.namespace == namespace) {
                    slots.insert(slot);
                }
            } else if let Some((_, id)) = self.local.find(key) {
                slots.extend(self.local.seats(id).iter().map(|seat| seat.slot()));
            }
        }
        slots
    }

    fn emit_to(
        &mut self,
        (reached, away): &(Reached, Reached),
        spread: &Spread,
        (packet, volatile, answers): (&Packet, bool, Option<Collector>),
    ) {
        let heard: Reached = match volatile {
            true => reached.iter().copied().filter(|(slot, _)| !self.is_behind(*slot)).collect(),
            false => reached.clone(),
        };
        self.cells.undelivered_volatile.add((reached.len() - heard.len()) as u64);
        let ack = answers.map(|at| self.owe(&heard, at));
        let logged = !volatile && ack.is_none();
        let offset = if ack.is_none() { self.next_offset(logged) } else { None };
        let heading = Heading { namespace: &spread.namespace, ack, offset: offset.as_deref() };
        let mut made = Frames::default();
        let mut slow = Vec::new();
        let mut delivered = 0;
        for &(slot, _) in &heard {
            let Some(row) = self.table.row(slot) else { continue };
            let frame: Frame = self.encoder.shared(&mut made, (packet, &heading), row.dialect);
            delivered += 1;
            if !self.queue(slot, frame, Class::Event) {
                slow.push(slot);
            }
        }
        if logged && offset.is_some() && reached.len() + away.len() > 0 {
            let Spread { namespace, rooms, except, .. } = spread;
            let reach = Reach::Spread(Arc::clone(namespace), rooms.clone(), except.clone());
            self.remember(reach, packet.clone());
            let end = self.log.position();
            for &(slot, sid) in reached.iter().chain(away) {
                if let Some(past) = self.table.row(slot).and_then(|row| row.past(sid)) {
                    past.reach(end);
                }
            }
        }
        let slow_count = slow.len() as u64;
        for slot in slow {
            self.close(slot, Reason::SlowConsumer);
        }
        self.count_deliveries(delivered - slow_count, spread.since_ns);
    }

    fn is_behind(&mut self, slot: u32) -> bool {
        self.table.row(slot).is_some_and(|row| row.is_behind())
    }

    /// Notes that these clients owe an answer; the id to answer under.
    fn owe(&mut self, reached: &[(u32, Sid)], collector: Collector) -> u64 {
        let count = reached.len().min(ANSWERS_PER_CAST_MAX);
        self.ack_id += 1;
        let sids = reached[..count].iter().map(|(_, sid)| *sid).collect();
        let until_ms = self.now.ms().wrapping_add(OWED_MS);
        if count > 0 {
            self.owed.insert(self.ack_id, Owed { collector, sids, until_ms });
        }
        match collector {
            Collector::Shard(shard, id) => {
                self.out.push((shard, Envelope::Asked { id, count }));
            }
            Collector::Fleet(request) => {
                self.answer_fleet(Some(request), CastAnswer::Asked(count));
            }
        }
        self.ack_id
    }

    /// Passes an answer on to where it is collected; false if nobody does.
    pub(super) fn on_collected_answer(
        &mut self,
        from: Sid,
        (ack, args): (u64, &str),
        attachments: &[Box<[u8]>],
    ) -> bool {
        let Some(owed) = self.owed.get_mut(&ack) else { return false };
        if owed.sids.remove(&from) {
            let answer: Box<str> = Args::new(args).next().map_or("null", RawValue::get).into();
            let answer = CastAnswer::Acked(answer, attachments.to_vec());
            let collector = owed.collector;
            if owed.sids.is_empty() {
                self.owed.remove(&ack);
            }
            self.answer_collector(collector, answer);
        }
        true
    }

    /// Where this shard is.
    pub(super) fn facts(&self) -> Facts {
        let (shard, shards) = (self.mesh.index(), self.mesh.shards());
        Facts { shard, shards, host: self.host, shared: self.homes.is_shared() }
    }

    /// Tells the application what has been collected.
    pub(super) fn on_collected(&mut self, whole: Option<(A::Ticket, Collected)>) {
        let Some((ticket, collected)) = whole else { return };
        let facts = self.facts();
        let mut io = Io {
            namespace: crate::codec::MAIN,
            facts,
            now: self.now,
            out: &mut self.out,
            collections: &mut self.collections,
        };
        self.app.collected(&mut io, ticket, collected);
    }

    /// Drops what nobody waits for any more.
    pub(super) fn sweep_owed(&mut self) {
        let now_ms = self.now.ms();
        self.owed.retain(|_, owed| !has_come(owed.until_ms, now_ms));
    }
}
