//! A worker: one thread with one ring, and the clients that are its own.
//!
//! The ring yields events; `hearing` says what they mean, `opening` brings clients up, `loading`
//! decides what is sent when. What they decide is queued and leaves at the end of the turn. Workers
//! share nothing but counters.

mod hearing;
mod loading;
mod opening;
mod order;
mod row;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Receiver as Inbox;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use throng_ring::{BySlot, Conn, Event, Frame, Ring};

use crate::addresses::Addresses;
use crate::board::Board;
use crate::clock::{Clock, MS, SECOND};
use crate::dialect::{self, Dialect};
use crate::random::Random;
use crate::stats::{Cells, Times};
use loading::Loading;
use opening::Ascent;
pub use order::{Load, Mix, Opening, Order, Pace};
use row::{Client, Row, Stage};

/// Longest wait in the ring.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// How often connections that make no progress are looked for.
const SWEEP_NS: u64 = SECOND;
/// Different reasons for failures that are told apart, and how much is kept of each.
const REASONS_MAX: usize = 16;
const REASON_BYTES_MAX: usize = 120;

/// What all workers of a run share.
#[derive(Debug)]
pub struct Shared {
    /// The time.
    pub clock: Clock,
    /// Where connections go.
    pub addresses: Addresses,
    /// How the server is spoken to.
    pub dialect: Dialect,
    /// The rooms.
    pub board: Board,
    /// Workers.
    pub workers: u32,
    /// Clients of all workers.
    pub clients: u64,
    /// A connection that takes longer to come up is given up.
    pub timeout: Duration,
    /// Poll without sleeping.
    pub spin: bool,
    /// Of everything random.
    pub seed: u64,
}

/// Times that one worker has measured since they were last taken.
#[derive(Default, Debug)]
pub struct WorkerTimes {
    /// Due to arrival.
    pub latency: Times,
    /// Begun to in its room.
    pub connect: Times,
    /// Due to sent.
    pub lag: Times,
}

impl WorkerTimes {
    /// Adds these to others and starts afresh.
    pub fn move_to(&mut self, other: &mut Self) {
        self.latency.move_to(&mut other.latency);
        self.connect.move_to(&mut other.connect);
        self.lag.move_to(&mut other.lag);
    }
}

/// What others see of a worker.
#[derive(Default, Debug)]
pub struct Visible {
    /// Its counters.
    pub cells: Cells,
    /// Its times.
    pub times: Mutex<WorkerTimes>,
    /// Clients on their way up.
    pub opening: AtomicU32,
    /// Time spent in turns without an event.
    pub idle_ns: AtomicU64,
    /// Why connections and requests failed, and how often.
    pub reasons: Mutex<BTreeMap<String, u64>>,
    /// Orders that it has followed.
    pub followed: AtomicU32,
}

/// A worker.
pub struct Worker {
    ring: Ring,
    core: Core,
}

/// Everything of a worker but its ring.
struct Core {
    shared: Arc<Shared>,
    index: u32,
    visible: Arc<Visible>,
    orders: Inbox<Order>,
    rows: BySlot<Row>,
    clients: Box<[Client]>,
    ascent: Ascent,
    loading: Loading,
    random: Random,
    /// Of this turn, written back to `visible` at its end.
    times: Box<WorkerTimes>,
    /// What leaves at the end of the turn.
    out: Vec<(u32, Frame)>,
    closes: Vec<Conn>,
    pong: Frame,
    now_ns: u64,
    swept_ns: u64,
    is_done: bool,
}

impl Worker {
    /// Worker `index` with its share of the clients.
    pub fn new(
        ring: Ring,
        shared: Arc<Shared>,
        index: u32,
        visible: Arc<Visible>,
        orders: Inbox<Order>,
    ) -> Self {
        let workers = u64::from(shared.workers);
        let share = (shared.clients + workers - 1 - u64::from(index)) / workers;
        let core = Core {
            random: Random::new(shared.seed ^ u64::from(index) << 32),
            clients: vec![Client::default(); share as usize].into(),
            rows: BySlot::default(),
            ascent: Ascent::default(),
            loading: Loading::default(),
            times: Box::default(),
            out: Vec::new(),
            closes: Vec::new(),
            pong: dialect::text_frame("3").into(),
            now_ns: shared.clock.now(),
            swept_ns: 0,
            is_done: false,
            shared,
            index,
            visible,
            orders,
        };
        Self { ring, core }
    }

    /// Runs until told to finish.
    ///
    /// # Errors
    /// When the ring itself fails.
    pub fn run(mut self) -> io::Result<()> {
        while !self.core.is_done {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let Self { ring, core } = self;
        let wait = core.wait();
        let before = core.now_ns;
        let events = if core.shared.spin || wait.is_zero() {
            ring.drive(|event| core.on_event(event))?
        } else {
            ring.park(wait, |event| core.on_event(event))?
        };
        core.now_ns = core.shared.clock.now();
        if events == 0 {
            core.visible.idle_ns.fetch_add(core.now_ns - before, Relaxed);
        }
        while let Ok(order) = core.orders.try_recv() {
            core.follow(order);
            core.visible.followed.fetch_add(1, Relaxed);
        }
        core.sweep();
        core.open_some(ring)?;
        core.load();
        core.flush(ring)?;
        core.publish_times();
        Ok(())
    }
}

impl Core {
    /// How long the turn may wait.
    fn wait(&self) -> Duration {
        let next = [self.loading.due_ns(), self.ascent.due_ns()].into_iter().flatten().min();
        match next {
            Some(due_ns) => Duration::from_nanos(due_ns.saturating_sub(self.shared.clock.now())),
            None => WAIT_MAX,
        }
        .min(WAIT_MAX)
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Open(opening) => self.open_all(opening),
            Order::Load(load) => self.begin_load(load),
            Order::Quiet => self.loading.quiet(),
            Order::Drop => self.drop_all(),
            Order::CheckTails => self.check_tails(),
            Order::Finish => self.is_done = true,
        }
    }

    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Connected { conn, tag } => self.on_connected(conn, tag as u32),
            Event::ConnectFailed { tag, error } => {
                self.blame(&error.to_string());
                self.on_connect_failed(tag as u32);
            }
            Event::Received { conn, bytes } => self.on_received(conn, bytes),
            Event::Sent { conn } => self.on_sent(conn),
            Event::Ended { conn, error: None } => self.on_ended(conn),
            Event::Ended { conn, error: Some(error) } | Event::SendFailed { conn, error } => {
                if self.row(conn).is_some_and(|row| row.stage != Stage::Closing) {
                    self.blame(&error.to_string());
                }
                self.on_ended(conn);
            }
            Event::Closed { conn } => self.on_closed(conn),
            _ => {}
        }
    }

    /// Notes why something went wrong.
    fn blame(&self, why: &str) {
        let mut reasons = self.visible.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let why = &why[..why.floor_char_boundary(REASON_BYTES_MAX)];
        if reasons.contains_key(why) || reasons.len() < REASONS_MAX {
            *reasons.entry(why.to_owned()).or_default() += 1;
        }
    }

    /// Queues a frame for a client's connection.
    fn say(&mut self, slot: u32, frame: Frame) {
        self.out.push((slot, frame));
    }

    fn say_text(&mut self, slot: u32, payload: &str) {
        self.say(slot, dialect::text_frame(payload).into());
    }

    fn on_sent(&mut self, conn: Conn) {
        let Some(row) = self.row(conn) else { return };
        row.is_sending = false;
        if let Some(next) = row.queue.pop_front() {
            self.say(conn.slot, next);
        }
    }

    /// Lets everything queued leave.
    fn flush(&mut self, ring: &mut Ring) -> io::Result<()> {
        for (slot, frame) in self.out.drain(..) {
            let Some(row) = self.rows.get_mut(slot) else { continue };
            if row.is_sending {
                row.queue.push_back(frame);
            } else {
                let conn = Conn { slot, generation: row.generation };
                row.is_sending = ring.send(conn, [frame])?;
            }
        }
        for conn in self.closes.drain(..) {
            ring.close(conn)?;
        }
        Ok(())
    }

    /// The row of a connection, unless it has become another's.
    fn row(&mut self, conn: Conn) -> Option<&mut Row> {
        self.rows.get_mut(conn.slot).filter(|row| row.generation == conn.generation)
    }

    /// Which client of all this is.
    fn global(&self, client: u32) -> u64 {
        u64::from(client) * u64::from(self.shared.workers) + u64::from(self.index)
    }

    /// The client's room.
    fn room_of(&self, client: u32) -> u32 {
        (self.global(client) % u64::from(self.shared.board.rooms())) as u32
    }

    /// Closes what has been coming up for too long.
    fn sweep(&mut self) {
        if self.now_ns < self.swept_ns + SWEEP_NS {
            return;
        }
        self.swept_ns = self.now_ns;
        let late_ns = self.shared.timeout.as_nanos() as u64;
        for slot in 0..self.rows.end() {
            let Some(row) = self.rows.get(slot) else { continue };
            if row.stage.is_opening() && self.now_ns.saturating_sub(row.began_ns) > late_ns {
                let conn = Conn { slot, generation: row.generation };
                self.blame("took too long to come up (--timeout)");
                self.on_ended(conn);
            }
        }
    }

    fn publish_times(&mut self) {
        let times = &mut *self.times;
        let ours = [&times.latency, &times.connect, &times.lag];
        if ours.iter().all(|times| times.0.is_empty()) || self.now_ns < self.loading.published_ns {
            return;
        }
        self.loading.published_ns = self.now_ns + 100 * MS;
        let mut seen = self.visible.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.move_to(&mut seen);
    }
}
