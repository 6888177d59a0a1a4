//! Reaching many sockets at once: rooms together, rooms without other rooms, a whole namespace.

use std::sync::Arc;
use std::time::Duration;

use throng_bridge::fleet::{Cast as FleetCast, CastAnswer, Deed as FleetDeed, Reach, Word};

use super::collect::Collections;
use super::envelope::{Ask, Collector, Deed, Envelope, Outgoing, RoomRef, Spread};
use super::namespace::room_key;
use super::{App, Audience};
use crate::clock::Now;
use crate::codec::Packet;
use crate::ids::{Sid, home_of};

/// What everything on a shard knows of where it is.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The shard.
    pub shard: u16,
    /// How many there are.
    pub shards: u16,
    /// The host's number in socket ids.
    pub host: u32,
    /// Whether there may be other hosts.
    pub shared: bool,
}

/// The whole namespace in an application's hands.
pub struct Io<'a, A: App> {
    /// Its name.
    pub namespace: &'a str,
    /// Where this is.
    pub facts: Facts,
    /// The time of this turn.
    pub now: Now,
    /// Envelopes being written.
    pub out: &'a mut Outgoing<A>,
    /// What the shard's applications collect.
    pub collections: &'a mut Collections<A>,
}

/// Sockets being chosen, and what is done to them. A socket's own id is a room with only it.
///
/// Each socket is reached at most once. Casts of one shard that name the same first room arrive in
/// order, with what [`super::Socket::broadcast`] sends there too.
#[must_use = "nothing is sent until a verb ends it"]
pub struct Cast<'a, A: App> {
    io: Io<'a, A>,
    rooms: Vec<Arc<str>>,
    except: Vec<Arc<str>>,
    volatile: bool,
    is_local: bool,
}

impl<'a, A: App> Io<'a, A> {
    /// Everyone in the namespace.
    pub fn all(&mut self) -> Cast<'_, A> {
        let Self { namespace, facts, now, .. } = *self;
        Cast::begin(Io { namespace, facts, now, out: self.out, collections: self.collections })
    }

    /// Answers an event of a socket of this host, later than in its handler.
    pub fn answer(&mut self, to: Sid, id: u64, args: &str) {
        if to.host() == self.facts.host && to.shard() < self.facts.shards {
            self.out.push((to.shard(), Envelope::Send { to, packet: Packet::ack(id, args) }));
        }
    }

    /// Tells all other servers something, on which each may act; `text` is an event's name and
    /// arguments, JSON separated by commas.
    pub fn tell_servers(&mut self, text: &str) {
        self.tell_all(FleetDeed::ServerSide { args: text.into(), answer: None });
    }

    fn tell_all(&mut self, deed: FleetDeed) {
        let reach = Reach { namespace: self.namespace.into(), ..Reach::default() };
        let cast = Arc::new(FleetCast { reach, deed });
        let word = Word::Cast { cast, to_hosts: true, to_nodes: true };
        self.out.push((self.facts.shard, Envelope::Tell(word)));
    }

    /// The same, with the servers' answers: [`App::collected`] follows. Where there are none, at
    /// once.
    pub fn ask_servers(self, text: &str, timeout: Duration, ticket: A::Ticket) {
        let (mut io, collector) = self.open(ticket, timeout, true);
        let Collector::Shard(shard, id) = collector else { return };
        // Of this host's own shards none is asked.
        for _ in 1..io.facts.shards {
            io.out.push((shard, Envelope::Asked { id, count: 0 }));
        }
        if !io.facts.shared {
            return io.out.push((shard, Envelope::Asked { id, count: 0 }));
        }
        io.tell_all(FleetDeed::ServerSide { args: text.into(), answer: collector.number() });
    }

    /// Asks for the names of all rooms, sockets' own included; [`App::collected`] follows with a
    /// JSON string of each, some perhaps twice.
    pub fn fetch_rooms(self, timeout: Duration, ticket: A::Ticket) {
        let (mut io, collector) = self.open(ticket, timeout, false);
        let namespace: Arc<str> = io.namespace.into();
        for shard in 0..io.facts.shards {
            io.out.push((shard, Envelope::TellRooms(Arc::clone(&namespace), collector)));
        }
        if let (true, Some(number)) = (io.facts.shared, collector.number()) {
            io.tell_all(FleetDeed::Rooms(number));
        }
    }

    /// Begins to collect, of all shards and, unless `is_local`, of all other servers together.
    fn open(self, ticket: A::Ticket, timeout: Duration, is_local: bool) -> (Self, Collector) {
        let Facts { shard, shards, shared, .. } = self.facts;
        let due_ms = self.now.ns / 1_000_000 + timeout.as_millis() as u64;
        let parts = shards + u16::from(shared && !is_local);
        let id = self.collections.open(ticket, parts, due_ms);
        (self, Collector::Shard(shard, id))
    }

    /// Answers a server that has told something ([`App::told`]); `answer` is JSON.
    pub fn answer_server(&mut self, request: u64, answer: &str) {
        let answer = CastAnswer::ServerSide(answer.into());
        self.out.push((self.facts.shard, Envelope::Tell(Word::Answer { request, answer })));
    }

    /// Those in a room.
    pub fn to(&mut self, room: &str) -> Cast<'_, A> {
        self.all().to(room)
    }

    /// Those not in a room.
    pub fn except(&mut self, room: &str) -> Cast<'_, A> {
        self.all().except(room)
    }
}

impl<'a, A: App> Cast<'a, A> {
    pub(super) fn begin(io: Io<'a, A>) -> Self {
        let (rooms, except) = (Vec::new(), Vec::new());
        Self { io, rooms, except, volatile: false, is_local: false }
    }

    /// Also those in this room.
    pub fn to(mut self, room: &str) -> Self {
        self.rooms.push(self.key(room));
        self
    }

    /// But not those in this room.
    pub fn except(mut self, room: &str) -> Self {
        self.except.push(self.key(room));
        self
    }

    /// Events may be dropped for connections that are behind.
    pub fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    /// Only sockets of this host.
    pub fn local(mut self) -> Self {
        self.is_local = true;
        self
    }

    /// Sends them an event; `args` is its arguments' JSON, separated by commas.
    pub fn emit(self, name: &str, args: &str) {
        self.emit_binary(name, args, &[]);
    }

    /// The same with binary parts, which placeholders in `args` refer to.
    pub fn emit_binary(self, name: &str, args: &str, attachments: &[Box<[u8]>]) {
        let (packet, volatile) = (Packet::event_with(name, args, attachments), self.volatile);
        match self.single_room() {
            Some((room, audience)) => self.broadcast(room, audience, packet),
            None => self.spread(Deed::Emit { packet, volatile, answers: None }),
        }
    }

    /// Sends them an event that each shall answer within `timeout`; [`App::collected`] follows with
    /// the ticket.
    pub fn collect(self, name: &str, args: &str, timeout: Duration, ticket: A::Ticket) {
        let (packet, volatile) = (Packet::event(name, args), self.volatile);
        let timeout_ms = timeout.as_millis() as u32;
        let (io, is_local) = (self.io, self.is_local);
        let (io, collector) = io.open(ticket, timeout, is_local);
        let answers = Some((collector, timeout_ms));
        Self { io, ..self }.spread(Deed::Emit { packet, volatile, answers });
    }

    /// Asks what they are; [`App::collected`] follows with a JSON object of each, as Socket.IO's
    /// `fetchSockets` has them: `{"id","handshake","rooms","data"}`.
    pub fn fetch(self, timeout: Duration, ticket: A::Ticket) {
        let (io, is_local) = (self.io, self.is_local);
        let (io, collector) = io.open(ticket, timeout, is_local);
        Self { io, ..self }.spread(Deed::Fetch(collector));
    }

    /// Takes them into a room.
    pub fn join(self, room: &str) {
        let room = self.key(room);
        self.spread(Deed::Join(vec![room]));
    }

    /// Takes them out of a room.
    pub fn leave(self, room: &str) {
        let room = self.key(room);
        self.spread(Deed::Leave(vec![room]));
    }

    /// Disconnects them from the namespace; with `close`, from all of them, and their connections.
    pub fn disconnect(self, close: bool) {
        self.spread(Deed::Disconnect(close));
    }

    fn key(&self, room: &str) -> Arc<str> {
        match self.socket(room) {
            Some(_) => room.into(),
            None => room_key(self.io.namespace, room).into(),
        }
    }

    /// The socket whose own room this is.
    fn socket(&self, room: &str) -> Option<Sid> {
        Sid::parse(room).filter(|sid| sid.host() == self.io.facts.host)
    }

    /// One room but perhaps one socket: its home knows where its members are.
    fn single_room(&self) -> Option<(Arc<str>, Audience)> {
        let only_here = self.volatile || self.is_local;
        let ([room], false) = (&self.rooms[..], only_here) else { return None };
        let Facts { host, shared, .. } = self.io.facts;
        // A room of one socket: of this host, or perhaps of another.
        if Sid::parse(room).is_some_and(|sid| sid.host() == host || shared) {
            return None;
        }
        let audience = match &self.except[..] {
            [] => Audience::All,
            [only] => Audience::Except(self.socket(only)?),
            _ => return None,
        };
        Some((Arc::clone(room), audience))
    }

    fn broadcast(self, room: Arc<str>, audience: Audience, packet: Packet) {
        let Facts { shard, shards, host, .. } = self.io.facts;
        let (home, since_ns) = (home_of(&room, shards), self.io.now.ns);
        let (ask, room) = (Ask::Broadcast(packet, audience), RoomRef::Name(room));
        // Nobody in particular asks.
        let from = Sid::new(host, shard, 0, 0);
        self.io.out.push((home, Envelope::Ask { room, from, ask, since_ns }));
    }

    /// By way of the first room's home, so that what is said to a room stays in order.
    fn spread(self, deed: Deed) {
        let Self { io, rooms, except, is_local, .. } = self;
        let via = rooms.first().map_or(io.namespace, |room| room);
        let home = home_of(via, io.facts.shards);
        let (namespace, since_ns) = (io.namespace.into(), io.now.ns);
        let spread = Arc::new(Spread { namespace, rooms, except, deed, is_local, since_ns });
        io.out.push((home, Envelope::Spread(spread)));
    }
}
