//! The connections of one shard: a row each, by slot, and what they owe.

use std::collections::VecDeque;

use throng_protocol::engineio::Heartbeat;
use throng_protocol::{socketio, ws};
use throng_ring::{BySlot, Conn, Frame};

use crate::app::App;
use crate::config::SlowConsumer;
use crate::ids::Sid;
use crate::limiter::IpKey;
use crate::outbox::{Arena, Class, Queue};
use crate::room::Membership;

/// A Socket.IO socket: a client that has sent CONNECT.
pub struct Socket<A: App> {
    /// Its id.
    pub sid: Sid,
    /// Joins that its rooms' homes have not answered yet.
    pub joining: u16,
    /// The rooms it is in.
    pub memberships: Vec<Membership>,
    /// What the application keeps for it.
    pub session: A::Session,
}

/// What a live connection keeps beside its frame reader.
pub struct Link<A: App> {
    /// Joins packets with their attachments.
    pub assembler: socketio::Assembler,
    /// Pings and pongs of Engine.IO; plain WebSockets have none.
    pub heartbeat: Heartbeat,
    /// By when CONNECT must have come, in milliseconds since the shard started.
    pub connect_by_ms: u32,
    /// Speaks no Socket.IO.
    pub plain: bool,
    /// The socket, after CONNECT.
    pub socket: Option<Socket<A>>,
}

/// A connection that has switched to WebSocket.
pub struct Live<A: App> {
    /// Joins frames; 8 bytes while nothing is half received.
    pub reader: ws::Reader,
    /// The rest; apart, since handling a message borrows it while the reader is borrowed too.
    pub link: Link<A>,
}

/// Where a connection is in its life.
pub enum Phase<A: App> {
    /// None is here; or its `Live` part is out, being handled.
    Vacant,
    /// Its first request is incomplete; the bytes so far.
    Request(Box<[u8]>),
    /// On its way to the control thread; the bytes so far.
    HandingOver(Box<[u8]>),
    /// WebSocket.
    Live(Box<Live<A>>),
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

/// A connection. 64 bytes.
pub struct Row<A: App> {
    /// Tells the slot's connections apart; `u32::MAX` for none.
    pub generation: u32,
    /// Bytes of the send in flight; 0 for none.
    pub sending_bytes: u32,
    /// Events among its frames.
    pub sending_events: u16,
    /// What waits to be sent.
    pub queue: Queue,
    /// The peer, as limits count it.
    pub ip: IpKey,
    /// Whether it stands in the list of those to flush.
    dirty: bool,
    /// Where it is in its life.
    pub phase: Phase<A>,
}

impl<A: App> Default for Row<A> {
    fn default() -> Self {
        Self {
            generation: u32::MAX,
            sending_bytes: 0,
            sending_events: 0,
            queue: Queue::default(),
            ip: IpKey::default(),
            dirty: false,
            phase: Phase::Vacant,
        }
    }
}

impl<A: App> Row<A> {
    /// The socket, if there is one.
    pub fn socket(&mut self) -> Option<&mut Socket<A>> {
        match &mut self.phase {
            Phase::Live(live) => live.link.socket.as_mut(),
            _ => None,
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

/// All connections of a shard.
pub struct Table<A: App> {
    rows: BySlot<Row<A>>,
    arena: Arena,
    /// Connections to flush, in the order in which something was queued for them.
    dirty: VecDeque<u32>,
    owed_bytes_max: usize,
    policy: SlowConsumer,
}

impl<A: App> Table<A> {
    /// An empty table, whose connections may owe so many bytes before the policy acts.
    pub fn new(owed_bytes_max: usize, policy: SlowConsumer) -> Self {
        let rows = BySlot::default();
        Self { rows, arena: Arena::default(), dirty: VecDeque::new(), owed_bytes_max, policy }
    }

    /// Places a new connection.
    pub fn open(&mut self, conn: Conn, ip: IpKey) {
        let row = self.rows.obtain(conn.slot);
        *row = Row { generation: conn.generation, ip, dirty: row.dirty, ..Row::default() };
        row.phase = Phase::Request(Box::default());
    }

    /// Removes a connection; the limits' key it counted under.
    pub fn close(&mut self, conn: Conn) -> Option<IpKey> {
        let row = self.get(conn)?;
        row.phase = Phase::Vacant;
        row.generation = u32::MAX;
        Some(row.ip)
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

    /// The handle of the connection in a slot.
    pub fn conn(&self, slot: u32) -> Conn {
        let generation = self.rows.get(slot).map_or(u32::MAX, |row| row.generation);
        Conn { slot, generation }
    }

    /// The slot of a socket, if it is still there.
    pub fn find(&mut self, sid: Sid) -> Option<u32> {
        let slot = sid.slot();
        let socket = self.row(slot)?.socket()?;
        (socket.sid == sid).then_some(slot)
    }

    /// Gives back the memory of rows that are not in use.
    pub fn release_unused(&mut self) {
        self.rows.release(|row| row.generation == u32::MAX && !row.dirty);
    }

    /// One more than the highest slot that may be in use.
    pub fn end(&self) -> u32 {
        self.rows.end()
    }

    /// Frames waiting, over all connections.
    pub fn waiting_frames(&self) -> usize {
        self.arena.used()
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

    /// Drops everything that waits for a connection, and gives up what is in flight; returns how
    /// many events that were.
    pub fn drop_waiting(&mut self, slot: u32) -> usize {
        let row = self.rows.obtain(slot);
        let in_flight = std::mem::take(&mut row.sending_events);
        usize::from(in_flight) + self.arena.clear(&mut row.queue)
    }
}
