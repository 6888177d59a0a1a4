//! Messages to rooms: at a constant rate (open loop), or as fast as they arrive (closed loop).

use std::io;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::body::Stamp;
use super::swarm::Swarm;
use super::tally::Tally;
use super::{SECOND, Target, report};
use crate::{procfs, wire};

/// Time for late deliveries after the last message.
const DRAIN: u64 = 3 * SECOND;
const SETTLE: u64 = SECOND / 2;
/// Share of a core, and lag behind the schedule, above which the client is what was measured.
const BUSY_MAX: f64 = 0.95;
const LAG_US_MAX: u64 = 1000;

/// What to send.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Deliveries per second (open loop, constant schedule).
    #[arg(long, default_value_t = 60_000)]
    pub rate: u64,
    /// Closed loop instead: a message is followed by the next once everybody has it.
    #[arg(long)]
    pub closed: bool,
    /// Messages in flight per room in the closed loop.
    #[arg(long, default_value_t = 1)]
    pub window: usize,
    /// Measured seconds.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Seconds of the same load before.
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Bytes of a body.
    #[arg(long, default_value_t = 100)]
    pub body: usize,
    /// Ask for an acknowledgement of every message.
    #[arg(long)]
    pub ack: bool,
}

/// Called between batches, for what runs beside the load.
pub type Side<'a> = &'a mut dyn FnMut(u64) -> io::Result<()>;

/// Sends messages and follows them.
pub struct Driver {
    /// The connections, all in their rooms.
    pub swarm: Swarm,
    tally: Tally,
    options: Options,
    server_pid: Option<u32>,
    spin: bool,
    /// By room: connections that send, in turn.
    senders: Vec<Vec<usize>>,
    turns: Vec<usize>,
    next_room: usize,
    interval: f64,
    origin: u64,
    scheduled: u64,
    lag: Histogram<u64>,
    json: Vec<u8>,
    frame: Vec<u8>,
}

impl Driver {
    /// A driver over a swarm that is up.
    ///
    /// # Errors
    /// When a connection is missing: the result would not be comparable.
    pub fn new(swarm: Swarm, target: &Target, options: &Options) -> io::Result<Self> {
        if swarm.joined != target.connections {
            let message = format!("only {} of {} joined", swarm.joined, target.connections);
            return Err(io::Error::other(message));
        }
        if !(1..=target.connections.min(usize::from(u16::MAX))).contains(&target.rooms) {
            return Err(io::Error::other("needs at least one connection per room, 65535 at most"));
        }
        let mut senders = vec![Vec::new(); target.rooms];
        let room_of: Vec<usize> = swarm.conns.iter().map(|conn| conn.room).collect();
        for (index, &room) in room_of.iter().enumerate() {
            senders[room].push(index);
        }
        let members = target.connections as f64 / target.rooms as f64;
        Ok(Self {
            swarm,
            tally: Tally::new(room_of, target.rooms)?,
            options: options.clone(),
            server_pid: target.server_pid,
            spin: target.spin,
            senders,
            turns: vec![0; target.rooms],
            next_room: 0,
            interval: members * SECOND as f64 / options.rate as f64,
            origin: 0,
            scheduled: 0,
            lag: report::histogram()?,
            json: Vec::new(),
            frame: Vec::new(),
        })
    }

    /// Warm-up, measured period, drain; the result as JSON.
    ///
    /// # Errors
    /// When epoll fails or the server process is gone.
    pub fn measure(&mut self, side: Side<'_>) -> io::Result<Value> {
        self.drain(SETTLE, side)?;
        let nanos = |seconds: f64| (seconds * SECOND as f64) as u64;
        let start = self.swarm.clock.now();
        let from = start + nanos(self.options.warmup);
        let to = from + nanos(self.options.seconds);
        self.tally.begin(from, to);
        self.begin_load(start);
        self.run_until(from, side)?;
        self.lag.clear();
        let before = Reading::take(self)?;
        self.run_until(to, side)?;
        let after = Reading::take(self)?;
        self.tally.finished.clear();
        let end = self.swarm.clock.now() + DRAIN;
        while self.tally.outstanding() > 0 && self.swarm.clock.now() < end {
            self.swarm.poll(SECOND / 100, &mut self.tally)?;
        }
        Ok(self.result(&before, &after))
    }

    fn begin_load(&mut self, now: u64) {
        (self.origin, self.scheduled) = (now, 0);
        self.tally.finished.clear();
        if self.options.closed {
            let rooms = 0..self.senders.len();
            let window = self.options.window;
            self.tally.finished.extend(rooms.flat_map(|room| std::iter::repeat_n(room, window)));
        }
    }

    fn drain(&mut self, ns: u64, side: Side<'_>) -> io::Result<()> {
        let end = self.swarm.clock.now() + ns;
        while self.swarm.clock.now() < end {
            side(self.swarm.clock.now())?;
            self.swarm.poll(SECOND / 100, &mut self.tally)?;
        }
        Ok(())
    }

    fn run_until(&mut self, end: u64, side: Side<'_>) -> io::Result<()> {
        loop {
            let now = self.swarm.clock.now();
            if now >= end {
                return Ok(());
            }
            let due = if self.options.closed { self.send_next() } else { self.send_due(now) };
            side(now)?;
            self.swarm.poll(due.min(end).saturating_sub(now).min(SECOND / 100), &mut self.tally)?;
        }
    }

    /// Closed loop: one message for each that has reached everybody.
    fn send_next(&mut self) -> u64 {
        while let Some(room) = self.tally.finished.pop() {
            let now = self.swarm.clock.now();
            self.send(room, now);
        }
        u64::MAX
    }

    /// Open loop: the messages that are due, and when the next will be.
    fn send_due(&mut self, now: u64) -> u64 {
        self.tally.finished.clear();
        loop {
            let due = self.origin + (self.scheduled as f64 * self.interval) as u64;
            if due > now {
                return due;
            }
            self.scheduled += 1;
            let room = self.next_room;
            self.next_room = (room + 1) % self.senders.len();
            self.lag.saturating_record((now - due) / 1000);
            self.send(room, due);
        }
    }

    fn send(&mut self, room: usize, due: u64) {
        let turn = &mut self.turns[room];
        let sender = self.senders[room][*turn % self.senders[room].len()];
        *turn += 1;
        let number = self.tally.register(room);
        self.json.clear();
        let ack = if self.options.ack { "1" } else { "" };
        let head = format!(r#"42{ack}["message",{{"room":"r{room}","body":""#);
        self.json.extend_from_slice(head.as_bytes());
        Stamp { due, room: room as u16, number }.push(&mut self.json, self.options.body);
        self.json.extend_from_slice(br#""}]"#);
        self.frame.clear();
        wire::push_client(&mut self.frame, wire::TEXT, &self.json);
        // A sender that is gone shows as a message that nobody got.
        let _ = self.swarm.conns[sender].send(&self.frame);
    }

    fn result(&self, before: &Reading, after: &Reading) -> Value {
        let wall = after.at - before.at;
        let counts = &self.tally.counts;
        let client_cpu = after.client.since(before.client);
        let busy_ns = match self.spin {
            true => wall.saturating_sub(after.idle - before.idle),
            false => client_cpu.total_ns,
        };
        let late = !self.options.closed && self.lag.value_at_quantile(0.99) > LAG_US_MAX;
        let server = before.server.zip(after.server).map(|(b, a)| a.since(b));
        let server_ns = server.map_or(0, |cpu| cpu.total_ns);
        let others_ns = (after.host - before.host).saturating_sub(server_ns + client_cpu.total_ns);
        let cores = |ns: u64| report::round(ns as f64 / wall as f64, 3);
        json!({
            "mode": if self.options.closed { "closed" } else { "open" },
            "seconds": report::round(wall as f64 / 1e9, 3),
            "sent": counts.sent,
            "expected": counts.expected,
            "delivered": counts.delivered,
            "missing": self.tally.outstanding(),
            "duplicates": counts.duplicates,
            "has_seq": self.tally.has_seq,
            "reordered": counts.reordered,
            "gaps": counts.gaps,
            "foreign": counts.foreign,
            "acks": counts.acks,
            "errors": counts.errors,
            "lost_connections": self.swarm.lost,
            "deliveries_per_s": (counts.in_period as f64 * 1e9 / wall as f64).round(),
            "latency": report::percentiles(&self.tally.latency),
            "server_cpu": server.map(|cpu| report::server_cpu(cpu, counts.in_period)),
            "server_busy": server.map(|cpu| cores(cpu.total_ns)),
            "others_busy": cores(others_ns),
            "client": {
                "cpu_seconds": report::round(client_cpu.total_ns as f64 / 1e9, 3),
                "busy": cores(busy_ns),
                "us_per_delivery": report::per(busy_ns, counts.in_period),
                "lag_p99_us": self.lag.value_at_quantile(0.99),
                "lag_max_us": self.lag.max(),
                "bottleneck": cores(busy_ns) > BUSY_MAX || late,
            },
        })
    }
}

/// The clocks at one end of the measured period.
struct Reading {
    at: u64,
    idle: u64,
    client: procfs::Cpu,
    server: Option<procfs::Cpu>,
    host: u64,
}

impl Reading {
    fn take(driver: &Driver) -> io::Result<Self> {
        Ok(Self {
            server: driver.server_pid.map(procfs::cpu).transpose()?,
            client: procfs::cpu(std::process::id())?,
            host: procfs::host_busy_ns()?,
            at: driver.swarm.clock.now(),
            idle: driver.swarm.idle_ns,
        })
    }
}

/// Brings up the connections and measures once.
///
/// # Errors
/// When not all connections come up, or as [`Driver::measure`].
pub fn run(target: &Target, options: &Options) -> io::Result<Value> {
    let mut swarm = Swarm::new(target)?;
    swarm.bring_up(0)?;
    Driver::new(swarm, target, options)?.measure(&mut |_| Ok(()))
}
