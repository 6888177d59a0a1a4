//! A shard: one core's connections and rooms, and the loop that drives them.
//!
//! A turn submits and reaps the ring, takes what other shards and the control thread have sent,
//! looks at the timers, and lets everything queued leave in one go. What happens is decided in the
//! children, in the order of a message's way: `input` and `http`, `polling` and `upgrade`,
//! `packets` and `json`, `envelopes`, `gate`, `delivery`, `away`, `abroad`, `returns`, `timers`,
//! `output`; the loop only keeps their order.
//! Everything a shard owns is its own; only envelopes, counters and limits are seen by others.

mod abroad;
mod away;
mod delivery;
mod drain;
mod envelopes;
mod gate;
mod http;
mod input;
mod json;
mod output;
mod packets;
mod polling;
mod returns;
mod timers;
mod upgrade;

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hashbrown::HashMap;
use hdrhistogram::Histogram;
use throng_bridge::Port;
use throng_bridge::fleet::{Adapter, Recovered};
use throng_protocol::engineio::Timing;
use throng_protocol::{socketio, ws};
use throng_ring::{Address, Bed, Conn, Frame, Ring};

use crate::app::{App, Collections, Envelope, Namespaces, Outgoing, Reply};
use crate::clock::{Clock, Now};
use crate::codec::{self, Encoder, Packet};
use crate::config::Config;
use crate::handover::HttpDoor;
use crate::ids::{Entropy, Seal, SessionKey, Sid};
use crate::limiter::Limiter;
use crate::limits::{BEATS_GATHER_MS_MAX, IDLE_MS, LATE_PART, PARK_MS_MAX, SWEEP_INTERVAL_MS};
use crate::mesh::Mesh;
use crate::metrics::Cells;
use crate::recovery::Log;
use crate::room::{Homes, LocalRooms, Moved};
use crate::spaces::Spaces;
use crate::table::Table;
use crate::wheel::{TICK_MS_MAX, Ticks, Wheel};
use abroad::Abroad;
use delivery::OwedAnswers;
use drain::Drain;
use gate::Gate;
use upgrade::Arrival;

/// What is run on a shard to look at the rooms whose home it is.
pub type Look<A> = Box<dyn FnOnce(&A, &mut Homes<A>, Now) + Send>;

/// What is run on a shard to look at its latencies, in microseconds.
pub type LookAtLatency = Box<dyn FnOnce(&Histogram<u64>) + Send>;

/// What the control thread may ask of a shard.
pub enum Command<A: App> {
    /// Look at rooms.
    Look(Look<A>),
    /// Look at latencies.
    Latency(LookAtLatency),
    /// Stop accepting and close all connections over so many milliseconds.
    Drain {
        /// 0 for at once.
        spread_ms: u32,
    },
    /// Leave the loop.
    Stop,
}

/// What a shard is made of.
pub struct Parts<A: App> {
    /// The application; each shard has its own.
    pub app: A,
    /// The settings.
    pub config: Arc<Config>,
    /// Its end of the mesh, which knows its number.
    pub mesh: Mesh<Envelope<A>>,
    /// Its end of the bridge.
    pub port: Box<dyn Port>,
    /// Its counters.
    pub cells: Arc<Cells>,
    /// The limits over all shards.
    pub limiter: Arc<Limiter>,
    /// The way to the control thread.
    pub http: HttpDoor,
    /// The way back.
    pub commands: Receiver<Command<A>>,
    /// The host's clock.
    pub clock: Clock,
    /// The host's number in socket ids.
    pub host: u32,
    /// What ids that only their owners may know are signed with.
    pub seal: Seal,
    /// All shards' rings, to hand connections to.
    pub rings: Arc<[OnceLock<Address>]>,
    /// Slots of its ring.
    pub slots: u32,
}

/// The limits of a connection's input, in the codecs' words.
#[derive(Clone, Copy)]
struct Bounds {
    frames: ws::Limits,
    packets: socketio::Limits,
    timing: Timing,
    connect_timeout_ms: u32,
    handshake_timeout_ms: u32,
    recovery_window_ms: u32,
}

/// Everything a shard owns but its ring.
struct Core<A: App> {
    app: A,
    config: Arc<Config>,
    bounds: Bounds,
    /// When heartbeats are looked at: together, so that the pongs come together as well and a
    /// wake-up serves many.
    beats: Ticks,
    clock: Clock,
    now: Now,
    host: u32,
    table: Table<A>,
    wheel: Wheel,
    local: LocalRooms,
    homes: Homes<A>,
    namespaces: Namespaces,
    spaces: Spaces,
    encoder: Encoder,
    inflater: Option<Box<ws::Inflater>>,
    /// What has been said lately, where recovery is on.
    log: Log,
    collections: Collections<A>,
    owed: OwedAnswers,
    abroad: Abroad,
    gate: Gate,
    /// What another host's client has come back to; while its CONNECT is handled.
    recovered_abroad: Option<Option<Box<Recovered>>>,
    /// Messages of rooms passed on in this turn, with their places in the log.
    trail: Vec<(u64, Arc<str>, u64)>,
    /// Sockets whose sessions are to be told to the fleet.
    sessions_changed: Vec<Sid>,
    /// The position of the log up to which that has been told.
    trail_told: u64,
    /// Seats that moved while their connection was in hand.
    unmended: Vec<Moved>,
    seal: Seal,
    /// Polling sessions that began on other shards, and their rows here.
    guests: HashMap<SessionKey, u32>,
    rings: Arc<[OnceLock<Address>]>,
    /// Connections that move here, of which one half has come, and until when it waits.
    arrivals: HashMap<u64, (Arrival, u32)>,
    tokens: u32,
    exchanges: u32,
    mesh: Mesh<Envelope<A>>,
    /// Envelopes being written; routed after each input.
    out: Outgoing<A>,
    /// Envelopes for this shard.
    inbox: VecDeque<Envelope<A>>,
    /// Packets that an application writes for the socket it is handling.
    packets: Vec<(Packet, Option<u64>)>,
    /// Answers that it writes to a message.
    replies: Vec<Reply>,
    /// Connections to close or finish at the end of the turn.
    closes: Vec<Conn>,
    shutdowns: Vec<Conn>,
    /// Broadcasts of this turn: when their cause arrived, and to how many.
    fanouts: Vec<(u64, u64)>,
    latency_us: Histogram<u64>,
    cells: Arc<Cells>,
    limiter: Arc<Limiter>,
    http: HttpDoor,
    commands: Receiver<Command<A>>,
    entropy: Entropy,
    ping: Frame,
    ack_id: u64,
    next_sweep_ms: u32,
    next_flush_ns: u64,
    /// Sessions without a connection that have come or gone.
    sessions_churn: u64,
    /// Connections and sessions come and gone that memory has been given back for, or will be.
    churn_released: u64,
    /// How many more times memory is to be given back.
    releases_due: u8,
    drain: Option<Drain>,
    stop: bool,
}

/// One core's part of the engine.
pub struct Shard<A: App> {
    ring: Ring,
    bed: Bed,
    core: Core<A>,
    /// When something last happened.
    active_ms: u32,
}

impl<A: App> Shard<A> {
    /// Puts a shard together; on its own thread, inside its executor.
    ///
    /// # Errors
    /// When the executor cannot sleep on the ring (no file descriptor left).
    pub fn new(ring: Ring, parts: Parts<A>) -> io::Result<Self> {
        parts.mesh.door().install(ring.waker());
        if let Some(place) = parts.rings.get(usize::from(parts.mesh.index())) {
            let _ = place.set(ring.address()?);
        }
        let core = Core::new(parts);
        Ok(Self { ring, bed: Bed::new()?, active_ms: core.now.ms(), core })
    }

    /// Runs until the control thread says stop.
    ///
    /// # Errors
    /// When the ring itself fails, which nothing can mend.
    pub async fn run(mut self) -> io::Result<()> {
        while !self.core.stop {
            let busy = self.turn()?;
            let now_ms = self.core.now.ms();
            if busy {
                self.active_ms = now_ms;
            } else if now_ms.wrapping_sub(self.active_ms) > IDLE_MS {
                self.sleep().await?;
            }
            glommio::executor().yield_if_needed().await;
        }
        self.bed.close().await;
        Ok(())
    }

    /// One turn; true if anything happened.
    fn turn(&mut self) -> io::Result<bool> {
        let Self { ring, core, .. } = self;
        core.cells.turns.add(1);
        let wait_ms = core.wait_ms();
        let before = core.now;
        core.now = core.clock.now();
        let mut events = if wait_ms > 0 && core.mesh.lie_down() {
            let mut slept = true;
            let events = ring.park(Duration::from_millis(wait_ms.into()), |event| {
                if std::mem::take(&mut slept) {
                    core.now = core.clock.now();
                }
                core.on_event(event);
            })?;
            core.mesh.get_up();
            core.now = core.clock.now();
            events
        } else {
            ring.drive(|event| core.on_event(event))?
        };
        // After a stall, input that waited must be seen before timeouts are.
        while events > 0 && core.now.ms().wrapping_sub(before.ms()) > 1000 {
            if ring.drive(|event| core.on_event(event))? == 0 {
                break;
            }
            events += 1;
        }
        let received = core.receive();
        core.on_time(ring)?;
        core.settle();
        core.tell_trail();
        core.tell_sessions();
        core.flush(ring)?;
        core.sweep(ring)?;
        Ok(events > 0 || received || core.homes.is_behind())
    }

    /// Sleeps in the executor until something arrives or is due.
    async fn sleep(&mut self) -> io::Result<()> {
        if self.core.mesh.is_holding_back() || !self.core.mesh.lie_down() {
            return Ok(());
        }
        // A command sent before the door said "asleep" has woken nobody.
        if let Ok(command) = self.core.commands.try_recv() {
            self.core.mesh.get_up();
            return self.core.on_command(&mut self.ring, command);
        }
        self.core.cells.sleeps.add(1);
        let time = Duration::from_millis(self.core.sleep_ms().into());
        self.bed.sleep(&mut self.ring, time).await?;
        self.core.mesh.get_up();
        self.core.now = self.core.clock.now();
        Ok(())
    }
}

impl<A: App> Core<A> {
    fn new(parts: Parts<A>) -> Self {
        let Parts { app, config, mesh, port, cells, limiter, http, commands, .. } = parts;
        let Parts { clock, host, seal, rings, slots, .. } = parts;
        let now = clock.now();
        let bounds = Bounds::new(&config);
        // A client that is pinged late gives up as much earlier, by its own reckoning.
        let Timing { ping_interval_ms, ping_timeout_ms } = bounds.timing;
        let late_ms_max = ping_interval_ms.min(ping_timeout_ms) / LATE_PART;
        let log = match port.is_shared() {
            true => Log::of_fleet(host, mesh.index()),
            false => Log::default(),
        };
        let speaks = config.socketio_adapter != Adapter::Off;
        let ticks = |ms: u32| Ticks::new(ms.min(late_ms_max), mesh.index(), mesh.shards());
        Self {
            app,
            beats: ticks(BEATS_GATHER_MS_MAX),
            bounds,
            clock,
            now,
            host,
            table: Table::new(slots, config.outbox_bytes_max, config.slow_consumer),
            wheel: Wheel::new(now.ms(), ticks(TICK_MS_MAX)),
            local: LocalRooms::default(),
            homes: Homes::new((mesh.index(), mesh.shards(), host), port, speaks),
            namespaces: A::namespaces(),
            spaces: Spaces::default(),
            encoder: Encoder::new(config.compression_bytes_min),
            inflater: None,
            log,
            collections: Collections::default(),
            owed: OwedAnswers::default(),
            abroad: Abroad::default(),
            gate: Gate::default(),
            recovered_abroad: None,
            trail: Vec::new(),
            sessions_changed: Vec::new(),
            trail_told: 0,
            unmended: Vec::new(),
            seal,
            guests: HashMap::new(),
            rings,
            arrivals: HashMap::new(),
            tokens: 0,
            exchanges: 0,
            mesh,
            out: Vec::new(),
            inbox: VecDeque::new(),
            packets: Vec::new(),
            replies: Vec::new(),
            closes: Vec::new(),
            shutdowns: Vec::new(),
            fanouts: Vec::new(),
            latency_us: Histogram::new(2).expect("two digits are a valid precision"),
            cells,
            limiter,
            http,
            commands,
            entropy: Entropy::default(),
            ping: codec::ping_frame(),
            ack_id: 0,
            next_sweep_ms: now.ms(),
            next_flush_ns: 0,
            sessions_churn: 0,
            churn_released: 0,
            releases_due: 0,
            drain: None,
            stop: false,
            config,
        }
    }

    /// How long the next turn may wait in the ring.
    fn wait_ms(&self) -> u32 {
        if !self.inbox.is_empty() || self.homes.is_behind() {
            return 0;
        }
        // Frames that wait for the flush interval, connections for their turn to be drained,
        // batches for room in another shard's queue.
        if self.table.is_dirty() || self.drain.is_some() || self.mesh.is_holding_back() {
            return 1;
        }
        self.due_within_ms(PARK_MS_MAX)
    }

    /// How long until something is due, at most `limit_ms`.
    fn due_within_ms(&self, limit_ms: u32) -> u32 {
        let now_ms = self.now.ms();
        let mut wait_ms = self.wheel.due_within_ms(now_ms, limit_ms);
        let others = [self.homes.next_due_ms(), self.collections.next_due_ms()];
        for due_ms in others.into_iter().flatten() {
            let left_ms = due_ms.saturating_sub(self.now.ns / 1_000_000);
            wait_ms = wait_ms.min(left_ms.min(limit_ms.into()) as u32);
        }
        wait_ms
    }

    /// How long the shard may sleep in the executor.
    fn sleep_ms(&self) -> u32 {
        let sweeps = if self.releases_due > 0 { 1 } else { 10 };
        self.due_within_ms(SWEEP_INTERVAL_MS * sweeps).max(1)
    }
}

impl Bounds {
    fn new(config: &Config) -> Self {
        let ms = |time: Duration| time.as_millis().min(i32::MAX as u128) as u32;
        Self {
            frames: ws::Limits {
                message_bytes_max: config.payload_bytes_max,
                fragments_max: config.fragments_max,
            },
            packets: socketio::Limits {
                packet_bytes_max: config.payload_bytes_max,
                // Answered as `invalid` and `unknown_event`: Socket.IO keeps such connections.
                depth_max: usize::MAX,
                event_name_bytes_max: usize::MAX,
                ..socketio::Limits::default()
            },
            timing: Timing {
                ping_interval_ms: ms(config.ping_interval),
                ping_timeout_ms: ms(config.ping_timeout),
            },
            connect_timeout_ms: ms(config.connect_timeout),
            handshake_timeout_ms: ms(config.handshake_timeout),
            recovery_window_ms: ms(config.recovery_window),
        }
    }
}
