//! A room's home: the one place that knows all its members and gives its messages their order.
//!
//! Invariants: a room exists as long as it has a member, be it one whose connection has ended but
//! may come back, or waits for an answer, or for one that is on its way into it; what is asked of a
//! room that the bridge has not opened yet waits in order; a member's shard is told in order, so
//! that what was broadcast before it came in never reaches it and everything after does; numbers of
//! rooms are never used again, so a late envelope cannot meet another room.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use hashbrown::HashMap;
use indexmap::IndexMap;
use throng_bridge::store::{RoomRecord, RoomSettings};
use throng_bridge::{Message, Outcome, Page, Port, Range, Request, Ticket};

use super::handle::{Answer, Room};
use super::parts::{Arriving, Comer, Desk, HomeRoom, Waiter};
use crate::app::{App, Ask, Outgoing, RoomRef};
use crate::clock::Now;
use crate::ids::{RoomId, Sid};
use crate::limits::{OPENING_ASKS_MAX, OPENING_ROOMS_MAX, ROSTER_MEMBERS_PER_TURN};

/// A socket's request, and when it came.
type Asked<A> = (Sid, Ask<A>, u64);

/// The rooms that have their home on one shard.
pub struct Homes<A: App> {
    shard: u16,
    pub(super) rooms: HashMap<RoomId, HomeRoom<A>>,
    pub(super) by_name: HashMap<Arc<str>, RoomId>,
    /// What has been asked of rooms that the bridge is about to open.
    pub(super) opening: HashMap<Arc<str>, Vec<Asked<A>>>,
    /// Of those, what is known already.
    pub(super) arriving: HashMap<Arc<str>, Arriving>,
    numbers: u64,
    pub(super) desk: Desk<A>,
}

impl<A: App> Homes<A> {
    /// The homes of `shard` of `shards`, on a host of this number, with the bridge's end that
    /// orders their messages. `speaks`: what is said in them is said to Node servers, too.
    pub fn new((shard, shards, host): (u16, u16, u32), port: Box<dyn Port>, speaks: bool) -> Self {
        Self {
            shard,
            rooms: HashMap::new(),
            by_name: HashMap::new(),
            opening: HashMap::new(),
            arriving: HashMap::new(),
            numbers: 0,
            desk: Desk::new(shards, host, port, speaks),
        }
    }

    /// Handles what a socket asks of a room.
    pub fn on_ask(
        &mut self,
        app: &mut A,
        out: &mut Outgoing<A>,
        now: Now,
        (room, from, ask, since_ns): (RoomRef, Sid, Ask<A>, u64),
    ) {
        let name = match room {
            RoomRef::Id(id) => return self.act(id, app, out, now, (from, ask, since_ns)),
            RoomRef::Name(name) => name,
        };
        if self.by_name.contains_key(&name) {
            // Who comes in now is told by its answer of what has a number already, not before it.
            self.on_outcomes(app, out, now);
        }
        if let Some(&id) = self.by_name.get(&name) {
            return self.act(id, app, out, now, (from, ask, since_ns));
        }
        if let Some(asked) = self.opening.get_mut(&name)
            && asked.len() < OPENING_ASKS_MAX
        {
            return asked.push((from, ask, since_ns));
        }
        let may_open = self.opening.len() < OPENING_ROOMS_MAX && !self.opening.contains_key(&name);
        let opens = match &ask {
            Ask::App(request) => A::opens(request),
            Ask::Join(..) | Ask::Return { .. } => true,
            _ => false,
        };
        if opens && may_open {
            self.opening.insert(Arc::clone(&name), vec![(from, ask, since_ns)]);
            let _ = self.desk.port.try_submit(Request::Open { room: name }, now.wall_ms);
        } else {
            // Nobody is in it, and nobody will be for now: it exists while it is answered.
            let id = self.begin(name, None, now);
            self.act(id, app, out, now, (from, ask, since_ns));
        }
    }

    fn act(
        &mut self,
        id: RoomId,
        app: &mut A,
        out: &mut Outgoing<A>,
        now: Now,
        (from, ask, since_ns): Asked<A>,
    ) {
        self.with_room(id, app, out, (now, since_ns), |app, room| match ask {
            Ask::App(request) => {
                if let Some(request) = room.hold(app, from, request) {
                    app.request(room, from, request);
                }
            }
            Ask::Join(member, ack) => room.on_join(app, from, member, ack),
            Ask::Leave(ack) => room.on_leave(app, from, ack),
            Ask::Gone => {
                room.forget_comer(from);
                room.remove(app, from);
            }
            Ask::Away => room.on_away(app, from),
            Ask::Back => room.on_back(app, from),
            Ask::Return { member, listens, seq, old } => {
                room.on_return(app, from, Comer::new(member, listens, seq, old));
            }
            Ask::Broadcast(packet, audience) => room.spread(audience, packet),
        });
    }

    /// Handles what the bridge has answered. What would keep the shard from everything else for
    /// too long is left for the next turn ([`Homes::is_behind`]).
    pub fn on_outcomes(&mut self, app: &mut A, out: &mut Outgoing<A>, now: Now) {
        self.desk.begin_turn(now);
        while !self.is_behind()
            && let Some(outcome) = self.desk.port.poll_outcome(now.wall_ms)
        {
            let (ticket, answer) = match outcome {
                Outcome::Opened { room, record: Some(record) } if self.desk.shared => {
                    self.await_roster(room, record, now);
                    continue;
                }
                Outcome::Opened { room, record } => {
                    self.on_opened(app, out, now, (room, record), vec![]);
                    continue;
                }
                Outcome::Delivered { room, message } => {
                    self.on_delivered(app, out, now, &room, &message);
                    continue;
                }
                Outcome::Broken { room, last_seq } => {
                    self.on_broken(app, out, now, &room, last_seq);
                    continue;
                }
                Outcome::Configured { room, settings } => {
                    self.on_configured(&room, settings);
                    continue;
                }
                Outcome::News(news) => {
                    self.on_news(app, out, now, news);
                    continue;
                }
                Outcome::Record { ticket, record } => {
                    self.on_record(ticket, record);
                    continue;
                }
                Outcome::Published { ticket, message, duplicate, delivers, settled } => {
                    let place = self.place(ticket, duplicate);
                    // Before an answer, which may close the room.
                    if let Some((id, _)) = place.filter(|_| !delivers && !duplicate) {
                        self.tell_nodes_of(app, id, &message);
                    }
                    // Its sender is answered before others have it, where that can be done at once.
                    if settled {
                        let answer = Answer::Published(Arc::clone(&message), duplicate);
                        self.answer(app, out, now, ticket, answer);
                    }
                    if let Some(place) = place.filter(|_| delivers) {
                        self.publish(app, out, now, place, &message);
                    }
                    continue;
                }
                Outcome::Settled { ticket, message, kept } => {
                    match self.desk.waiting.get(&ticket) {
                        Some(Waiter::Room { repeated, .. }) if kept => {
                            (ticket, Answer::Published(message, *repeated))
                        }
                        _ => (ticket, Answer::Unsettled),
                    }
                }
                Outcome::Refused { ticket } => (ticket, Answer::Unsettled),
                Outcome::Read { ticket, page } => (ticket, Answer::Read(page)),
                Outcome::Verified { ticket, right } => (ticket, Answer::Verified(right)),
            };
            self.answer(app, out, now, ticket, answer);
        }
    }

    /// Whether more has been answered than has been handled in this turn.
    pub fn is_behind(&self) -> bool {
        self.desk.rosters.1 >= ROSTER_MEMBERS_PER_TURN
    }

    /// Which room waits under a ticket, and since when; notes that its message is a repetition.
    fn place(&mut self, ticket: Ticket, duplicate: bool) -> Option<(RoomId, u64)> {
        match self.desk.waiting.get_mut(&ticket)? {
            Waiter::Room { id, since_ns, repeated, .. } => {
                *repeated = duplicate;
                Some((*id, *since_ns))
            }
            _ => None,
        }
    }

    pub(super) fn publish(
        &mut self,
        app: &mut A,
        out: &mut Outgoing<A>,
        now: Now,
        (id, since_ns): (RoomId, u64),
        message: &Message,
    ) {
        self.with_room(id, app, out, (now, since_ns), |app, room| {
            room.room.last_seq = message.seq;
            room.show_soon();
            app.published(room, message);
            if !room.room.comers.is_empty() {
                room.admit_waiting(app);
            }
        });
    }

    fn on_record(&mut self, ticket: Ticket, record: Option<RoomRecord>) {
        match self.desk.waiting.remove(&ticket) {
            Some(Waiter::Record(reply)) => reply(record),
            Some(Waiter::Configured(name, reply)) => {
                // In a fleet they come in Redis's order, this host's own as well.
                if let Some(record) = record.as_ref().filter(|_| !self.desk.shared) {
                    self.set_settings(&name, record.settings.clone());
                }
                reply(record);
            }
            _ => {}
        }
    }

    /// Answers who waits under a ticket.
    fn answer(
        &mut self,
        app: &mut A,
        out: &mut Outgoing<A>,
        now: Now,
        ticket: Ticket,
        answer: Answer,
    ) {
        match (self.desk.waiting.remove(&ticket), answer) {
            (Some(Waiter::Room { id, since_ns, ticket, .. }), answer) => {
                self.with_room(id, app, out, (now, since_ns), |app, room| {
                    room.room.awaited -= 1;
                    app.answered(room, ticket, answer);
                });
            }
            (Some(Waiter::Page(reply)), Answer::Read(page)) => reply(Some(page)),
            (Some(Waiter::Return { id, sid }), Answer::Read(page)) => {
                self.with_room(id, app, out, (now, now.ns), |app, room| {
                    room.on_missed(app, sid, ticket, &page);
                });
            }
            _ => {}
        }
    }

    /// The bridge knows the room now, or cannot: what has been asked meanwhile is handled. `others`
    /// are its members on other hosts.
    pub(super) fn on_opened(
        &mut self,
        app: &mut A,
        out: &mut Outgoing<A>,
        now: Now,
        (name, record): (Arc<str>, Option<RoomRecord>),
        others: Vec<(Sid, A::Member)>,
    ) {
        let Some(asked) = self.opening.remove(&name) else { return };
        let id = self.begin(name, record, now);
        // It stays until all have been heard, though the first may have left again.
        if let Some(room) = self.rooms.get_mut(&id) {
            room.awaited += 1;
        }
        self.meet(app, out, now, id, others);
        for asked in asked {
            self.act(id, app, out, now, asked);
        }
        self.with_room(id, app, out, (now, now.ns), |_, room| room.room.awaited -= 1);
    }

    /// Wakes the rooms whose time has come.
    pub fn on_time(&mut self, app: &mut A, out: &mut Outgoing<A>, now: Now) {
        let now_ms = now.ns / 1_000_000;
        while let Some(&Reverse((due_ms, id))) = self.desk.due.peek() {
            if due_ms > now_ms {
                break;
            }
            self.desk.due.pop();
            self.with_room(id, app, out, (now, now.ns), |app, room| app.due(room));
        }
        self.give_up_comers(app, out, now);
        self.give_up_arriving(app, out, now);
        while let Some(&Reverse((due_ms, id))) = self.desk.shows.peek() {
            if due_ms > now_ms {
                break;
            }
            self.desk.shows.pop();
            self.with_room(id, app, out, (now, now.ns), |app, room| room.show(app));
        }
    }

    /// When [`Homes::on_time`] is to be called next ([`Now::ns`] in milliseconds).
    pub fn next_due_ms(&self) -> Option<u64> {
        let first = |heap: &BinaryHeap<_>| heap.peek().map(|Reverse((due_ms, _))| *due_ms);
        let comers_due_ms = self.desk.comers_due.front().map(|(due_ms, _)| *due_ms);
        let heaps = [&self.desk.due, &self.desk.shows].into_iter().filter_map(first);
        let arrivals_due_ms = self.desk.arrivals_due.front().map(|(due_ms, _)| *due_ms);
        heaps.chain(comers_due_ms).chain(arrivals_due_ms).min()
    }

    /// Lets the bridge drop what has expired.
    pub fn expire(&mut self, now: Now) {
        self.desk.port.expire(now.wall_ms);
    }

    /// Says whether a shard's queue is too full to be published to.
    pub fn set_congested(&mut self, shard: u16, congested: bool) {
        self.desk.congested[usize::from(shard)] = congested;
    }

    /// Rooms with a member.
    pub fn count(&self) -> usize {
        self.rooms.len()
    }

    /// Bytes of recent messages held.
    pub fn held_bytes(&self) -> usize {
        self.desk.port.held_bytes()
    }

    /// The names of the rooms, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(AsRef::as_ref)
    }

    /// Shows a room to `look`.
    pub fn inspect<R>(
        &mut self,
        name: &str,
        now: Now,
        look: impl FnOnce(&Room<'_, A>) -> R,
    ) -> Option<R> {
        let id = self.by_name.get(name)?;
        let room = self.rooms.get_mut(id)?;
        let out = &mut Vec::new();
        Some(look(&Room { room, desk: &mut self.desk, out, now, since_ns: now.ns }))
    }

    /// Reads messages of a room for someone outside it, whether it has members or not. `reply` is
    /// called on this shard, later; with `None` where that is not possible now.
    pub fn read_for(
        &mut self,
        name: &str,
        range: Range,
        now: Now,
        reply: impl FnOnce(Option<Page>) + Send + 'static,
    ) {
        let ticket = self.desk.ticket();
        let request = Request::Read { ticket, room: name.into(), range };
        match self.desk.port.try_submit(request, now.wall_ms) {
            Ok(()) => drop(self.desk.waiting.insert(ticket, Waiter::Page(Box::new(reply)))),
            Err(_) => reply(None),
        }
    }

    /// A room's settings, whether it has members or not; those of a room that was never configured
    /// restrict nothing. `reply` as with [`Homes::read_for`].
    pub fn settings_for(
        &mut self,
        name: &str,
        now: Now,
        reply: impl FnOnce(Option<RoomSettings>) + Send + 'static,
    ) {
        let ticket = self.desk.ticket();
        let request = Request::Record { ticket, room: name.into() };
        match self.desk.port.try_submit(request, now.wall_ms) {
            Ok(()) => {
                let reply = |record: Option<RoomRecord>| reply(record.map(|it| it.settings));
                self.desk.waiting.insert(ticket, Waiter::Record(Box::new(reply)));
            }
            Err(_) => reply(None),
        }
    }

    /// Replaces a room's settings, in the store and here. `reply` as with [`Homes::read_for`].
    pub fn configure(
        &mut self,
        name: &str,
        (before, settings): (RoomSettings, RoomSettings),
        now: Now,
        reply: impl FnOnce(Option<RoomRecord>) + Send + 'static,
    ) {
        let (ticket, room) = (self.desk.ticket(), Arc::<str>::from(name));
        let request = Request::Configure { ticket, room: Arc::clone(&room), before, settings };
        match self.desk.port.try_submit(request, now.wall_ms) {
            Ok(()) => {
                self.desk.waiting.insert(ticket, Waiter::Configured(room, Box::new(reply)));
            }
            Err(_) => reply(None),
        }
    }

    /// A room begins, with what is known of it; `None`: it is not open.
    fn begin(&mut self, name: Arc<str>, record: Option<RoomRecord>, now: Now) -> RoomId {
        self.numbers += 1;
        let id = RoomId::new(self.shard, self.numbers);
        let is_open = record.is_some();
        let RoomRecord { created_at_ms, last_seq, settings } = record.unwrap_or_default();
        let room = HomeRoom {
            id,
            name: Arc::clone(&name),
            is_open,
            created_at_ms: if created_at_ms == 0 { now.wall_ms } else { created_at_ms },
            members: IndexMap::default(),
            away: HashMap::new(),
            shares: Vec::new(),
            last_seq,
            settings,
            awaited: 0,
            comers: HashMap::new(),
            show_due: false,
            state: A::Room::default(),
        };
        self.rooms.insert(id, room);
        self.by_name.insert(name, id);
        id
    }

    /// Lets `act` handle a room, and closes the room if nobody is in it afterwards.
    pub(super) fn with_room(
        &mut self,
        id: RoomId,
        app: &mut A,
        out: &mut Outgoing<A>,
        (now, since_ns): (Now, u64),
        act: impl FnOnce(&mut A, &mut Room<'_, A>),
    ) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let mut handle = Room { room, desk: &mut self.desk, out, now, since_ns };
        act(app, &mut handle);
        // Who is away has a share, too.
        let HomeRoom { shares, awaited, comers, .. } = &*handle.room;
        let closes = shares.is_empty() && *awaited == 0 && comers.is_empty();
        if closes {
            app.closing(&mut handle);
        }
        if closes && let Some(room) = self.rooms.remove(&id) {
            self.by_name.remove(&room.name);
            if room.is_open {
                let _ = self.desk.port.try_submit(Request::Close { room: room.name }, now.wall_ms);
            }
        }
    }
}
