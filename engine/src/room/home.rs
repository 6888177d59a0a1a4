//! A room's home: the one place that knows all its members and gives its messages their order.
//!
//! Invariants: a room exists as long as it has a member, be it one whose connection has ended but
//! may come back; a member's shard is told in order, so that
//! what was broadcast before it came in never reaches it and everything after does; numbers of
//! rooms are never used again, so a late envelope cannot meet another room.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};
use indexmap::IndexMap;
use throng_bridge::{Draft, Message, Outcome, Page, Port, Range, Request, Ticket};

use crate::app::{App, Ask, Audience, Envelope, Outgoing, RoomRef, split_key};
use crate::clock::Now;
use crate::codec::Packet;
use crate::ids::{RoomId, Sid};
use crate::limits::ROOM_MEMBERS_MAX;

/// What [`Room::publish`] and [`Room::read`] are answered with.
#[derive(Debug)]
pub enum Answer {
    /// The message has its number. A duplicate must not be delivered again.
    Published(Arc<Message>, bool),
    /// The messages asked for.
    Read(Page),
}

/// The bridge, or a shard that must be told, cannot take more now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unavailable;

/// How many members a shard has of a room, those that are away included.
#[derive(Clone, Copy, Debug)]
struct Share {
    shard: u16,
    /// One of them has asked for presence, perhaps one that has left. Where none has, the shard is
    /// not woken for what only listeners get.
    listens: bool,
    members: u32,
}

/// A room as its home keeps it.
pub struct HomeRoom<A: App> {
    id: RoomId,
    name: Arc<str>,
    created_at_ms: u64,
    members: IndexMap<Sid, A::Member, DefaultHashBuilder>,
    /// Members whose connection has ended and who may come back. Their shards get what the room
    /// says; to everybody else they are gone.
    away: HashMap<Sid, A::Member>,
    shares: Vec<Share>,
    /// The last message that has been delivered; what the bridge numbers meanwhile is on its way.
    last_seq: u64,
    state: A::Room,
}

/// What of a home is not one room's.
struct Desk<A: App> {
    port: Box<dyn Port>,
    waiting: HashMap<Ticket, (RoomId, u64, A::Ticket)>,
    tickets: u64,
    due: BinaryHeap<Reverse<(u64, RoomId)>>,
    /// By shard: its queue is so full that nothing should be published to it.
    congested: Box<[bool]>,
}

/// The rooms that have their home on one shard.
pub struct Homes<A: App> {
    shard: u16,
    rooms: HashMap<RoomId, HomeRoom<A>>,
    by_name: HashMap<Arc<str>, RoomId>,
    numbers: u64,
    desk: Desk<A>,
}

/// A room in the hands of the application; see [`App::request`].
pub struct Room<'a, A: App> {
    room: &'a mut HomeRoom<A>,
    desk: &'a mut Desk<A>,
    out: &'a mut Outgoing<A>,
    now: Now,
    since_ns: u64,
}

impl<A: App> Homes<A> {
    /// The homes of `shard` of `shards`, with the bridge's end that orders their messages.
    pub fn new(shard: u16, shards: u16, port: Box<dyn Port>) -> Self {
        let desk = Desk {
            port,
            waiting: HashMap::new(),
            tickets: 0,
            due: BinaryHeap::new(),
            congested: vec![false; usize::from(shards)].into(),
        };
        Self { shard, rooms: HashMap::new(), by_name: HashMap::new(), numbers: 0, desk }
    }

    /// Handles what a socket asks of a room.
    pub fn on_ask(
        &mut self,
        app: &mut A,
        out: &mut Outgoing<A>,
        now: Now,
        asked: (RoomRef, Sid, Ask<A>, u64),
    ) {
        let (room, from, ask, since_ns) = asked;
        let Some(id) = self.resolve(room, now) else { return };
        self.with_room(id, app, out, (now, since_ns), |app, room| match ask {
            Ask::App(request) => app.request(room, from, request),
            Ask::Join(member, ack) => room.on_join(from, member, ack),
            Ask::Leave(ack) => room.on_leave(app, from, ack),
            Ask::Gone => room.remove(app, from),
            Ask::Away => room.on_away(app, from),
            Ask::Back => room.on_back(app, from),
            Ask::Broadcast(packet, audience) => room.deliver(audience, packet),
        });
    }

    /// Handles what the bridge has answered.
    pub fn on_outcomes(&mut self, app: &mut A, out: &mut Outgoing<A>, now: Now) {
        while let Some(outcome) = self.desk.port.poll_outcome() {
            let (ticket, answer) = match outcome {
                Outcome::Published { ticket, message, duplicate } => {
                    (ticket, Answer::Published(message, duplicate))
                }
                Outcome::Read { ticket, page } => (ticket, Answer::Read(page)),
            };
            let Some((id, since_ns, ticket)) = self.desk.waiting.remove(&ticket) else { continue };
            self.with_room(id, app, out, (now, since_ns), |app, room| {
                if let Answer::Published(message, false) = &answer {
                    room.room.last_seq = message.seq;
                }
                app.answered(room, ticket, answer);
            });
        }
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
    }

    /// When [`Homes::on_time`] is to be called next ([`Now::ns`] in milliseconds).
    pub fn next_due_ms(&self) -> Option<u64> {
        self.desk.due.peek().map(|Reverse((due_ms, _))| *due_ms)
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

    /// The room asked for; one that does not exist is opened, for as long as the request takes.
    fn resolve(&mut self, room: RoomRef, now: Now) -> Option<RoomId> {
        let name = match room {
            RoomRef::Id(id) => return Some(id),
            RoomRef::Name(name) => name,
        };
        if let Some(&id) = self.by_name.get(&name) {
            return Some(id);
        }
        self.numbers += 1;
        let id = RoomId::new(self.shard, self.numbers);
        let room = HomeRoom {
            id,
            name: Arc::clone(&name),
            created_at_ms: now.wall_ms,
            members: IndexMap::default(),
            away: HashMap::new(),
            shares: Vec::new(),
            last_seq: self.desk.port.last_seq(&name),
            state: A::Room::default(),
        };
        self.rooms.insert(id, room);
        self.by_name.insert(name, id);
        Some(id)
    }

    /// Lets `act` handle a room, and closes the room if nobody is in it afterwards.
    fn with_room(
        &mut self,
        id: RoomId,
        app: &mut A,
        out: &mut Outgoing<A>,
        (now, since_ns): (Now, u64),
        act: impl FnOnce(&mut A, &mut Room<'_, A>),
    ) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        act(app, &mut Room { room, desk: &mut self.desk, out, now, since_ns });
        if room.members.is_empty()
            && room.away.is_empty()
            && let Some(room) = self.rooms.remove(&id)
        {
            self.by_name.remove(&room.name);
            let _ = self.desk.port.try_submit(Request::Close { room: room.name }, now.wall_ms);
        }
    }
}

impl<A: App> Room<'_, A> {
    /// Its name within its namespace.
    pub fn name(&self) -> &str {
        split_key(&self.room.name).1
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        split_key(&self.room.name).0
    }

    /// The time of this turn.
    pub fn now(&self) -> Now {
        self.now
    }

    /// When it was opened: milliseconds since 1970.
    pub fn created_at_ms(&self) -> u64 {
        self.room.created_at_ms
    }

    /// What the application keeps for it.
    pub fn state(&self) -> &A::Room {
        &self.room.state
    }

    /// What the application keeps for it, to be changed.
    pub fn state_mut(&mut self) -> &mut A::Room {
        &mut self.room.state
    }

    /// How many members it has.
    pub fn member_count(&self) -> usize {
        self.room.members.len()
    }

    /// A member.
    pub fn member(&self, sid: Sid) -> Option<&A::Member> {
        self.room.members.get(&sid)
    }

    /// A member, to be changed.
    pub fn member_mut(&mut self, sid: Sid) -> Option<&mut A::Member> {
        self.room.members.get_mut(&sid)
    }

    /// All members; by age, as long as nobody has left.
    pub fn members(&self) -> impl Iterator<Item = (&Sid, &A::Member)> {
        self.room.members.iter()
    }

    /// The number of the last message that was delivered; 0 for none.
    pub fn last_seq(&self) -> u64 {
        self.room.last_seq
    }

    /// Whether no other member fits.
    pub fn is_full(&self) -> bool {
        self.room.members.len() >= ROOM_MEMBERS_MAX
    }

    /// Makes `sid` a member, or replaces what is kept for it; tells its shard.
    pub fn admit(&mut self, sid: Sid, member: A::Member, listens: bool) {
        if self.room.members.is_empty() && self.room.away.is_empty() {
            let room = Arc::clone(&self.room.name);
            let _ = self.desk.port.try_submit(Request::Open { room }, self.now.wall_ms);
        }
        let was_away = self.room.away.remove(&sid).is_some();
        let is_new = self.room.members.insert(sid, member).is_none() && !was_away;
        let shard = sid.shard();
        match self.room.shares.iter_mut().find(|share| share.shard == shard) {
            Some(share) => {
                share.members += u32::from(is_new);
                share.listens |= listens;
            }
            None => self.room.shares.push(Share { shard, listens, members: 1 }),
        }
        let name = Arc::clone(&self.room.name);
        let admit = Envelope::Admit { room: self.room.id, name, member: sid, listens };
        self.out.push((sid.shard(), admit));
    }

    /// Tells the shard of one that asked to join that it is not in.
    pub fn decline(&mut self, sid: Sid) {
        self.out.push((sid.shard(), Envelope::Decline { member: sid }));
    }

    /// Ends a membership and tells the member's shard. Nothing happens without one.
    pub fn dismiss(&mut self, app: &mut A, sid: Sid) {
        if self.room.members.contains_key(&sid) || self.room.away.contains_key(&sid) {
            let dismiss = Envelope::Dismiss { room: self.room.id, member: sid };
            self.out.push((sid.shard(), dismiss));
            self.remove(app, sid);
        }
    }

    /// Sends a packet to one socket, in order with what the room delivers to it.
    pub fn send(&mut self, to: Sid, packet: Packet) {
        self.out.push((to.shard(), Envelope::Send { to, packet }));
    }

    /// Sends an event to members.
    pub fn broadcast(&mut self, audience: Audience, name: &str, args: &str) {
        self.deliver(audience, Packet::event(name, args));
    }

    /// Whether anybody may have asked for presence.
    pub fn has_listeners(&self) -> bool {
        self.room.shares.iter().any(|share| share.listens)
    }

    /// Sends a packet to members: one envelope for each shard that has some.
    pub fn deliver(&mut self, audience: Audience, packet: Packet) {
        let (room, since_ns) = (self.room.id, self.since_ns);
        let for_all = !matches!(audience, Audience::Listeners(_));
        let mut shares = self.room.shares.iter().filter(|share| for_all || share.listens);
        let Some(last) = shares.next_back() else { return };
        for share in shares {
            let packet = packet.clone();
            self.out.push((share.shard, Envelope::Deliver { room, audience, packet, since_ns }));
        }
        self.out.push((last.shard, Envelope::Deliver { room, audience, packet, since_ns }));
    }

    /// Asks for a message's number; [`App::answered`] follows.
    ///
    /// # Errors
    /// When a shard with members or the bridge cannot take it; nothing has happened then.
    pub fn publish(&mut self, draft: Draft, ticket: A::Ticket) -> Result<(), Unavailable> {
        let congested = |share: &Share| self.desk.congested[usize::from(share.shard)];
        if self.room.shares.iter().any(congested) {
            return Err(Unavailable);
        }
        let room = Arc::clone(&self.room.name);
        self.submit(ticket, |ticket| Request::Publish { ticket, room, draft })
    }

    /// Asks for messages; [`App::answered`] follows.
    ///
    /// # Errors
    /// When the bridge cannot take the request.
    pub fn read(&mut self, range: Range, ticket: A::Ticket) -> Result<(), Unavailable> {
        let room = Arc::clone(&self.room.name);
        self.submit(ticket, |ticket| Request::Read { ticket, room, range })
    }

    /// Asks for [`App::due`] at this time ([`Now::ns`] in milliseconds). Times add up.
    pub fn wake_at_ms(&mut self, due_ms: u64) {
        self.desk.due.push(Reverse((due_ms, self.room.id)));
    }

    fn submit(
        &mut self,
        ticket: A::Ticket,
        request: impl FnOnce(Ticket) -> Request,
    ) -> Result<(), Unavailable> {
        self.desk.tickets += 1;
        let key = Ticket(self.desk.tickets);
        self.desk.port.try_submit(request(key), self.now.wall_ms).map_err(|_| Unavailable)?;
        self.desk.waiting.insert(key, (self.room.id, self.since_ns, ticket));
        Ok(())
    }

    fn on_join(&mut self, from: Sid, member: A::Member, ack: Option<u64>) {
        if self.is_full() {
            return self.decline(from);
        }
        self.admit(from, member, true);
        if let Some(id) = ack {
            self.send(from, Packet::ack(id, ""));
        }
    }

    fn on_leave(&mut self, app: &mut A, from: Sid, ack: Option<u64>) {
        self.dismiss(app, from);
        if let Some(id) = ack {
            self.send(from, Packet::ack(id, ""));
        }
    }

    /// The member's connection has ended; what the room says is kept for it on its shard.
    fn on_away(&mut self, app: &mut A, sid: Sid) {
        let Some(member) = self.room.members.swap_remove(&sid) else { return };
        app.left(self, sid, &member);
        self.room.away.insert(sid, member);
    }

    /// It came back, if there is still a place for it.
    fn on_back(&mut self, app: &mut A, sid: Sid) {
        if self.is_full() {
            self.out.push((sid.shard(), Envelope::Dismiss { room: self.room.id, member: sid }));
            return self.remove(app, sid);
        }
        if let Some(member) = self.room.away.remove(&sid) {
            self.room.members.insert(sid, member);
            app.returned(self, sid);
        }
    }

    fn remove(&mut self, app: &mut A, sid: Sid) {
        let here = self.room.members.swap_remove(&sid);
        if here.is_none() && self.room.away.remove(&sid).is_none() {
            return;
        }
        if self.room.members.len() * 4 < self.room.members.capacity() {
            self.room.members.shrink_to(self.room.members.len() * 2);
        }
        let shares = &mut self.room.shares;
        if let Some(index) = shares.iter().position(|share| share.shard == sid.shard()) {
            shares[index].members -= 1;
            if shares[index].members == 0 {
                shares.swap_remove(index);
            }
        }
        if let Some(member) = here {
            app.left(self, sid, &member);
        }
    }
}
