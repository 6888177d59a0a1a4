//! The connections and sessions of one shard: a row each, by slot, and what they owe.
//!
//! A slot of the ring is the row of its connection. Sessions that have no connection of their own
//! (polling, away) have rows above the ring's slots. A socket's id says in which row it began; one
//! that has moved to another is found by a map that only such sockets need.

use std::collections::VecDeque;

use hashbrown::HashMap;
use throng_protocol::engineio::{Beat, Heartbeat, Timing};
use throng_protocol::http::Body;
use throng_protocol::{socketio, ws};
use throng_ring::{BySlot, Conn, Frame};

use crate::app::{Adopted, App, Begun, Connect, Place, Protocol};
use crate::clock::has_come;
use crate::close::Reason;
use crate::codec::Dialect;
use crate::config::SlowConsumer;
use crate::ids::{SessionKey, Sid};
use crate::limiter::IpKey;
use crate::outbox::{Arena, Class, Queue};
use crate::recovery::Past;
use crate::request::Meta;
use crate::room::Membership;
use crate::spaces::Namespace;

/// A Socket.IO socket: a client that has sent CONNECT to a namespace.
pub struct Socket<A: App> {
    /// Its id.
    pub sid: Sid,
    /// Came back within the recovery window.
    pub recovered: bool,
    /// Joins that its rooms' homes have not answered yet.
    pub joining: u16,
    /// Its namespace.
    pub namespace: Namespace,
    /// The rooms it is in; most sockets are in one.
    pub memberships: Box<[Membership]>,
    /// What the application keeps for it.
    pub session: A::Session,
}

impl<A: App> Socket<A> {
    /// It is in another room.
    pub fn add(&mut self, membership: Membership) {
        let mut memberships = std::mem::take(&mut self.memberships).into_vec();
        memberships.reserve_exact(1);
        memberships.push(membership);
        self.memberships = memberships.into();
    }

    /// It is no longer in one.
    pub fn remove(&mut self, index: usize) -> Membership {
        let mut memberships = std::mem::take(&mut self.memberships).into_vec();
        let membership = memberships.swap_remove(index);
        self.memberships = memberships.into();
        membership
    }
}

/// What few links need.
pub struct Extra<A: App> {
    /// Sockets beside the first.
    pub sockets: Vec<Socket<A>>,
    /// What it takes to recover its sockets, where recovery is on.
    pub pasts: Vec<(Sid, Past)>,
    /// Namespaces it has left, and until when packets for them are ignored.
    pub left: Vec<(Box<str>, u32)>,
    /// The polling session it was.
    pub stub: Option<SessionKey>,
    /// It has moved to this shard, and moves no further.
    pub has_moved: bool,
    /// A socket has been recovered: the client is one that takes any number of packets at once.
    pub takes_many: bool,
}

impl<A: App> Default for Extra<A> {
    fn default() -> Self {
        Self {
            sockets: Vec::new(),
            pasts: Vec::new(),
            left: Vec::new(),
            stub: None,
            has_moved: false,
            takes_many: false,
        }
    }
}

/// What a session keeps whatever its transport.
pub struct Link<A: App> {
    /// Joins packets with their attachments.
    pub assembler: socketio::Assembler,
    /// Pings and pongs, of Engine.IO or of WebSocket.
    pub heartbeat: Heartbeat,
    /// By when CONNECT must have come, in milliseconds since the shard started.
    pub connect_by_ms: u32,
    /// What it speaks.
    pub protocol: Protocol,
    /// Need not connect any more: it has been in a namespace, or there are none.
    pub connected: bool,
    /// The first socket.
    pub socket: Option<Socket<A>>,
    /// What few need.
    pub extra: Option<Box<Extra<A>>>,
}

/// What time asks of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// A ping of Engine.IO.
    EnginePing,
    /// A ping of WebSocket's own.
    WebSocketPing,
    /// Its end.
    End(Reason),
}

impl<A: App> Link<A> {
    /// A link that has just begun.
    pub fn new(protocol: Protocol, heartbeat: Heartbeat, connect_by_ms: u32) -> Self {
        Self {
            assembler: socketio::Assembler::default(),
            heartbeat,
            connect_by_ms,
            protocol,
            connected: !protocol.has_sockets(),
            socket: None,
            extra: None,
        }
    }

    /// What of it moves to another shard.
    pub fn into_begun(self) -> Begun {
        let Self { assembler, heartbeat, connect_by_ms, protocol, connected, extra, .. } = self;
        let left = extra.map(|extra| extra.left).unwrap_or_default();
        Begun { assembler, heartbeat, connect_by_ms, protocol, connected, left }
    }

    /// A link that has moved here.
    pub fn from_begun(begun: Begun) -> Self {
        let mut link = Self::new(begun.protocol, begun.heartbeat, begun.connect_by_ms);
        (link.assembler, link.connected) = (begun.assembler, begun.connected);
        let extra = link.extra();
        (extra.left, extra.has_moved) = (begun.left, true);
        link
    }

    /// All its sockets.
    pub fn sockets(&mut self) -> impl Iterator<Item = &mut Socket<A>> {
        let others = self.extra.iter_mut().flat_map(|extra| extra.sockets.iter_mut());
        self.socket.iter_mut().chain(others)
    }

    /// Its socket in a namespace.
    pub fn socket_in(&mut self, namespace: Namespace) -> Option<&mut Socket<A>> {
        self.sockets().find(|socket| socket.namespace == namespace)
    }

    /// Places a new socket.
    pub fn add(&mut self, socket: Socket<A>) {
        self.connected = true;
        match self.socket {
            None => self.socket = Some(socket),
            Some(_) => self.extra().sockets.push(socket),
        }
    }

    /// What it takes to recover a socket.
    pub fn past(&mut self, sid: Sid) -> Option<&mut Past> {
        let pasts = &mut self.extra.as_mut()?.pasts;
        pasts.iter_mut().find(|(it, _)| *it == sid).map(|(_, past)| past)
    }

    /// Takes that out.
    pub fn take_past(&mut self, sid: Sid) -> Option<Past> {
        let pasts = &mut self.extra.as_mut()?.pasts;
        let index = pasts.iter().position(|(it, _)| *it == sid)?;
        Some(pasts.swap_remove(index).1)
    }

    /// Takes a socket out.
    pub fn take(&mut self, is: impl Fn(&Socket<A>) -> bool) -> Option<Socket<A>> {
        if self.socket.as_ref().is_some_and(&is) {
            return self.socket.take();
        }
        let others = &mut self.extra.as_mut()?.sockets;
        let index = others.iter().position(is)?;
        Some(others.swap_remove(index))
    }

    /// Whether it may move to another shard: nothing ties it to this one.
    pub fn may_move(&mut self) -> bool {
        let has_moved = self.extra.as_ref().is_some_and(|extra| extra.has_moved);
        !has_moved && self.sockets().next().is_none()
    }

    /// Whether the client takes any number of packets at once.
    pub fn takes_many(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.takes_many)
    }

    /// What few links need, made if need be.
    pub fn extra(&mut self) -> &mut Extra<A> {
        self.extra.get_or_insert_default()
    }

    /// What is due now.
    pub fn on_deadline(&mut self, now_ms: u32, timing: &Timing) -> Due {
        let late = has_come(self.connect_by_ms, now_ms);
        if !self.connected && late {
            return Due::End(Reason::ConnectTimeout);
        }
        match self.heartbeat.on_deadline(now_ms, timing) {
            Beat::TimedOut => Due::End(Reason::PingTimeout),
            Beat::NotYet => Due::Nothing,
            Beat::SendPing if self.protocol.is_engine_io() => Due::EnginePing,
            Beat::SendPing => Due::WebSocketPing,
        }
    }

    /// When something is due: a ping, a pong that has not come, a CONNECT that has not.
    pub fn deadline_ms(&self) -> u32 {
        let beat_ms = self.heartbeat.deadline_ms();
        let connect_first = !has_come(beat_ms, self.connect_by_ms);
        if !self.connected && connect_first { self.connect_by_ms } else { beat_ms }
    }

    /// The polling session that it was.
    pub fn stub(&self) -> Option<SessionKey> {
        self.extra.as_ref()?.stub
    }
}

/// A connection that has switched to WebSocket.
pub struct Live<A: App> {
    /// Joins frames; 8 bytes while nothing is half received.
    pub reader: ws::Reader,
    /// The rest; apart, since handling a message borrows it while the reader is borrowed too.
    pub link: Link<A>,
}

/// A session whose client polls.
pub struct Polling<A: App> {
    /// The session itself.
    pub link: Link<A>,
    /// Its id's parts.
    pub key: SessionKey,
    /// The GET that waits for something to say.
    pub get: Option<Place>,
    /// The POST that has begun.
    pub post: Option<Place>,
    /// The WebSocket that takes over.
    pub probe: Option<Conn>,
    /// The probe has been answered: GETs are let go, so that the client comes over.
    pub upgrading: bool,
    /// When a GET may next be let go for nothing.
    pub noop_at_ms: Option<u32>,
    /// It has ended; a GET may still fetch what is said last, until then.
    pub ended_until_ms: Option<u32>,
    /// The POST that asked for the end; answered when a GET of the same moment has been.
    pub last_post: Option<Place>,
    /// A CONNECT that waits until the transport is settled.
    pub held: Option<Connect>,
}

impl<A: App> Polling<A> {
    /// Whether a poll that waits is to be let go now.
    pub fn is_noop_due(&self, now_ms: u32) -> bool {
        let due = self.noop_at_ms.is_some_and(|at_ms| has_come(at_ms, now_ms));
        self.upgrading && due && self.get.is_some()
    }

    /// When something is due: its end, a poll that is let go, or what its link waits for.
    pub fn deadline_ms(&self) -> u32 {
        let noop_ms = self.noop_at_ms.filter(|_| self.get.is_some());
        if let Some(until_ms) = self.ended_until_ms {
            return until_ms;
        }
        let link_ms = self.link.deadline_ms();
        match noop_ms {
            Some(noop_ms) if !has_come(link_ms, noop_ms) => noop_ms,
            _ => link_ms,
        }
    }
}

/// A WebSocket that wants to take a polling session over.
pub struct Probe {
    /// Joins frames.
    pub reader: ws::Reader,
    /// The session's row.
    pub session: u32,
    /// How it wants its packets.
    pub dialect: Dialect,
    /// `2probe` has come.
    pub probed: bool,
}

/// An HTTP request that a session answers.
pub struct Exchange {
    /// Tells the shard's exchanges apart.
    pub number: u32,
    /// How the answer is to look.
    pub meta: Meta,
    /// Which session.
    pub session: SessionKey,
    /// The body that is still coming.
    pub body: Option<Body>,
    /// The session has been told that it comes.
    pub begun: bool,
    /// What the client sent behind the request.
    pub behind: Vec<u8>,
}

/// A connection on its way to another shard.
pub struct Moving {
    /// Where to.
    pub shard: u16,
    /// Under which it arrives there, once it leaves.
    pub token: Option<u64>,
    /// What it is there.
    pub state: Adopted,
}

/// A socket whose connection has ended and that may come back.
pub struct Away<A: App> {
    /// The socket.
    pub socket: Socket<A>,
    /// What it takes to recover it.
    pub past: Past,
    /// Until when.
    pub until_ms: u32,
}

/// Where a connection or session is in its life.
pub enum Phase<A: App> {
    /// None is here; or it is out, being handled.
    Vacant,
    /// A request is incomplete; the bytes so far.
    Request(Box<[u8]>),
    /// A request waits for its session's answer.
    Exchange(Box<Exchange>),
    /// On its way to the control thread; the bytes so far.
    HandingOver(Box<[u8]>),
    /// On its way to another shard.
    Moving(Box<Moving>),
    /// Come from another shard; what it is follows. The bytes so far.
    Arriving(Vec<u8>),
    /// WebSocket.
    Live(Box<Live<A>>),
    /// WebSocket that is to take a session over.
    Probe(Box<Probe>),
    /// A session without a connection of its own.
    Polling(Box<Polling<A>>),
    /// A polling session that has become the WebSocket in this row.
    Upgraded(u32),
    /// A polling session that lives on another shard now.
    Elsewhere(u16),
    /// A socket that may come back.
    Away(Box<Away<A>>),
    /// Sends its last bytes and waits for the peer to close.
    Closing {
        /// The peer has closed its side: nothing to wait for after the last byte.
        peer_done: bool,
        /// FIN has been sent.
        finished: bool,
        /// Bytes that came in meanwhile, and were ignored.
        ignored_bytes: u32,
    },
}

/// A connection or session. 64 bytes.
pub struct Row<A: App> {
    /// Tells the slot's connections apart; `u32::MAX` for none.
    pub generation: u32,
    /// Bytes of the send in flight; 0 for none.
    pub sending_bytes: u32,
    /// Events among its frames.
    pub sending_events: u16,
    /// How it wants its packets.
    pub dialect: Dialect,
    /// Whether it stands in the list of those to flush.
    dirty: bool,
    /// Whether limits count it here; not while it is on its way between two shards.
    pub counted: bool,
    /// What waits to be sent.
    pub queue: Queue,
    /// The peer, as limits count it.
    pub ip: IpKey,
    /// Where it is in its life.
    pub phase: Phase<A>,
}

impl<A: App> Default for Row<A> {
    fn default() -> Self {
        Self {
            generation: u32::MAX,
            sending_bytes: 0,
            sending_events: 0,
            dialect: Dialect::default(),
            dirty: false,
            counted: false,
            queue: Queue::default(),
            ip: IpKey::default(),
            phase: Phase::Vacant,
        }
    }
}

impl<A: App> Row<A> {
    /// The session, whatever its transport.
    pub fn link(&mut self) -> Option<&mut Link<A>> {
        match &mut self.phase {
            Phase::Live(live) => Some(&mut live.link),
            Phase::Polling(polling) => Some(&mut polling.link),
            _ => None,
        }
    }

    /// The socket of this id, be it away.
    pub fn socket(&mut self, sid: Sid) -> Option<&mut Socket<A>> {
        self.sockets().find(|socket| socket.sid == sid)
    }

    /// What it takes to recover a socket, be it away.
    pub fn past(&mut self, sid: Sid) -> Option<&mut Past> {
        match &mut self.phase {
            Phase::Away(away) => (away.socket.sid == sid).then_some(&mut away.past),
            Phase::Live(live) => live.link.past(sid),
            Phase::Polling(polling) => polling.link.past(sid),
            _ => None,
        }
    }

    /// All its sockets, be they away.
    pub fn sockets(&mut self) -> impl Iterator<Item = &mut Socket<A>> {
        let (away, link) = match &mut self.phase {
            Phase::Away(away) => (Some(&mut away.socket), None),
            Phase::Live(live) => (None, Some(&mut live.link)),
            Phase::Polling(polling) => (None, Some(&mut polling.link)),
            _ => (None, None),
        };
        away.into_iter().chain(link.into_iter().flat_map(Link::sockets))
    }

    /// Whether it is behind with what it is sent: not to be burdened with what may be dropped.
    pub fn is_behind(&self) -> bool {
        match &self.phase {
            Phase::Polling(polling) => polling.get.is_none(),
            _ => self.sending_bytes > 0,
        }
    }
}

/// What became of a frame for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queued {
    /// It waits.
    Yes,
    /// It waits in place of so many older events.
    InsteadOf(u32),
    /// It exceeds what the connection may owe: it must be closed.
    Exceeds,
}

/// All connections and sessions of a shard.
pub struct Table<A: App> {
    rows: BySlot<Row<A>>,
    arena: Arena,
    /// Connections to flush, in the order in which something was queued for them.
    dirty: VecDeque<u32>,
    /// Sockets that are not in the row that their id names.
    moved: HashMap<Sid, u32>,
    /// Rows from here on are not of the ring's slots.
    session_base: u32,
    session_rows: u32,
    free_sessions: Vec<u32>,
    serials: u32,
    owed_bytes_max: usize,
    policy: SlowConsumer,
}

/// Slots have 24 bits in socket ids and seats.
const SLOTS_MAX: u32 = 1 << 24;

impl<A: App> Table<A> {
    /// An empty table over a ring of `ring_slots`, whose connections may owe so many bytes before
    /// the policy acts.
    pub fn new(ring_slots: u32, owed_bytes_max: usize, policy: SlowConsumer) -> Self {
        Self {
            rows: BySlot::default(),
            arena: Arena::default(),
            dirty: VecDeque::new(),
            moved: HashMap::new(),
            session_base: ring_slots,
            session_rows: 0,
            free_sessions: Vec::new(),
            serials: 0,
            owed_bytes_max,
            policy,
        }
    }

    /// Places a new connection.
    pub fn open(&mut self, conn: Conn, ip: IpKey) {
        let row = self.rows.obtain(conn.slot);
        let (generation, dirty) = (conn.generation, row.dirty);
        *row = Row { generation, ip, dirty, counted: true, ..Row::default() };
        row.phase = Phase::Request(Box::default());
    }

    /// Places a connection that comes from another shard, where it was counted.
    pub fn open_arriving(&mut self, conn: Conn) {
        self.open(conn, IpKey::default());
        if let Some(row) = self.get(conn) {
            row.counted = false;
            row.phase = Phase::Arriving(Vec::new());
        }
    }

    /// Removes a connection; whether there was one, and the limits' key it is counted under.
    pub fn close(&mut self, conn: Conn) -> (bool, Option<IpKey>) {
        let Some(row) = self.get(conn) else { return (false, None) };
        row.phase = Phase::Vacant;
        row.generation = u32::MAX;
        (true, row.counted.then_some(row.ip))
    }

    /// A row for a session without a connection, and what tells it from the row's others; `None`
    /// when there is no more room for one.
    pub fn open_session(&mut self, ip: IpKey) -> Option<(u32, u32)> {
        let slot = match self.free_sessions.pop() {
            Some(slot) => slot,
            None if self.session_base + self.session_rows < SLOTS_MAX => {
                self.session_rows += 1;
                self.session_base + self.session_rows - 1
            }
            None => return None,
        };
        self.serials = (self.serials + 1) % u32::MAX;
        let serial = self.serials;
        let row = self.rows.obtain(slot);
        *row = Row { generation: serial, ip, dirty: row.dirty, ..Row::default() };
        Some((slot, serial))
    }

    /// Whether a row is such a session's.
    pub fn is_session(&self, slot: u32) -> bool {
        slot >= self.session_base
    }

    /// Removes such a session.
    pub fn close_session(&mut self, slot: u32) {
        debug_assert!(slot >= self.session_base, "a slot of the ring");
        let Self { rows, arena, .. } = self;
        let row = rows.obtain(slot);
        arena.clear(&mut row.queue);
        *row = Row { dirty: row.dirty, ..Row::default() };
        self.free_sessions.push(slot);
    }

    /// The row of a connection; `None` if the handle is stale.
    pub fn get(&mut self, conn: Conn) -> Option<&mut Row<A>> {
        let row = self.rows.get_mut(conn.slot)?;
        (row.generation == conn.generation).then_some(row)
    }

    /// The row of a slot that is known to be in use.
    pub fn row(&mut self, slot: u32) -> Option<&mut Row<A>> {
        self.rows.get_mut(slot)
    }

    /// The handle of a row.
    pub fn conn(&self, slot: u32) -> Conn {
        let generation = self.rows.get(slot).map_or(u32::MAX, |row| row.generation);
        Conn { slot, generation }
    }

    /// The row of a socket, be it away.
    pub fn find(&mut self, sid: Sid) -> Option<u32> {
        let slot = match self.moved.is_empty() {
            true => sid.slot(),
            false => self.moved.get(&sid).copied().unwrap_or(sid.slot()),
        };
        self.rows.get_mut(slot)?.socket(sid)?;
        Some(slot)
    }

    /// Notes the row that a socket is in from now on.
    pub fn note_moved(&mut self, sid: Sid, slot: u32) {
        if slot == sid.slot() {
            self.moved.remove(&sid);
        } else {
            self.moved.insert(sid, slot);
        }
    }

    /// Notes that a socket is in no row any more.
    pub fn note_gone(&mut self, sid: Sid) {
        self.moved.remove(&sid);
    }

    /// Moves what waits for one row behind what waits for another.
    pub fn move_queue(&mut self, from: u32, to: u32) {
        let queue = std::mem::take(&mut self.rows.obtain(from).queue);
        let Self { rows, arena, .. } = self;
        arena.append(&mut rows.obtain(to).queue, queue);
        self.mark(to);
    }

    /// One more than the highest slot that may be in use.
    pub fn end(&self) -> u32 {
        self.rows.end()
    }

    /// Frames waiting, over all connections.
    pub fn waiting_frames(&self) -> usize {
        self.arena.used()
    }

    /// Gives back rows that nobody is in.
    pub fn release_unused(&mut self) {
        self.rows.release(|row| row.generation == u32::MAX && !row.dirty);
        self.dirty.shrink_to_fit();
        self.moved.shrink_to_fit();
        if self.free_sessions.len() as u32 == self.session_rows {
            (self.free_sessions, self.session_rows) = (Vec::new(), 0);
        }
    }

    /// Queues a frame for a connection; it leaves at the end of the turn.
    pub fn queue(&mut self, slot: u32, frame: Frame, class: Class) -> Queued {
        let Some(row) = self.rows.get_mut(slot) else { return Queued::Yes };
        let mut dropped = 0;
        if class != Class::Control {
            // A frame larger than the quota passes when nothing else is owed.
            let owed = |row: &Row<A>| row.queue.bytes() + row.sending_bytes as usize;
            while owed(row) > 0 && owed(row) + frame.len() > self.owed_bytes_max {
                let may_drop = class == Class::Event && self.policy == SlowConsumer::DropOldest;
                if !may_drop {
                    return Queued::Exceeds;
                }
                if self.arena.drop_oldest_event(&mut row.queue).is_none() {
                    return Queued::Exceeds;
                }
                dropped += 1;
            }
        }
        self.arena.push(&mut row.queue, frame, class);
        self.mark(slot);
        if dropped > 0 { Queued::InsteadOf(dropped) } else { Queued::Yes }
    }

    /// Puts a connection on the list of those to flush.
    pub fn mark(&mut self, slot: u32) {
        let row = self.rows.obtain(slot);
        if !row.dirty {
            row.dirty = true;
            self.dirty.push_back(slot);
        }
    }

    /// Whether any connection is to be flushed.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The next connection to flush, taken off the list.
    pub fn next_dirty(&mut self) -> Option<u32> {
        let slot = self.dirty.pop_front()?;
        self.rows.obtain(slot).dirty = false;
        Some(slot)
    }

    /// Takes waiting frames, oldest first, as far as the caller pulls them, and counts them in as
    /// being sent.
    pub fn take_frames(&mut self, slot: u32) -> impl Iterator<Item = Frame> {
        let row = self.rows.obtain(slot);
        let arena = &mut self.arena;
        std::iter::from_fn(move || {
            let (frame, class) = arena.pop(&mut row.queue)?;
            row.sending_bytes += frame.len() as u32;
            row.sending_events += u16::from(class == Class::Event);
            Some(frame)
        })
    }

    /// The oldest waiting frame.
    pub fn first_frame(&self, slot: u32) -> Option<&Frame> {
        self.arena.first(&self.rows.get(slot)?.queue)
    }

    /// Takes the oldest waiting frame, for another way than the connection's own.
    pub fn pop_frame(&mut self, slot: u32) -> Option<Frame> {
        let row = self.rows.obtain(slot);
        self.arena.pop(&mut row.queue).map(|(frame, _)| frame)
    }

    /// Drops everything that waits for a connection, and gives up what is in flight; returns how
    /// many events that were.
    pub fn drop_waiting(&mut self, slot: u32) -> usize {
        let row = self.rows.obtain(slot);
        let in_flight = std::mem::take(&mut row.sending_events);
        usize::from(in_flight) + self.arena.clear(&mut row.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Chat;

    #[test]
    fn what_an_idle_connection_needs_is_small() {
        // The allocator has pieces of 112; the next are of 128.
        assert_eq!((size_of::<Row<Chat>>(), size_of::<Live<Chat>>()), (64, 104));
    }
}
