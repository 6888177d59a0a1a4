//! The workloads, one file per question. Each leads a [`Crew`] through phases and puts its figures
//! together.

pub mod chat;
pub mod connect;
pub mod fanout;
pub mod million;
pub mod soak;
pub mod storm;

use std::io;
use std::time::Duration;

use crate::cli::Common;
use crate::crew::{Crew, Phase};
use crate::outcome::{Bound, Figure, Outcome};
use crate::server::Reading;
use crate::stamp::BODY_BYTES_MIN;
use crate::stats::{Percentiles, Totals};
use crate::view::Progress;
use crate::worker::{Opening, Order};

/// Members of a room where nothing else is said.
const ROOM_MEMBERS: u64 = 100;
/// Nothing comes up for so long: the server takes no more.
const STALL_S: f64 = 20.0;
/// How long deliveries may take after the last message, in seconds.
const DRAIN_S: f64 = 5.0;

/// A run under way.
pub struct Run {
    /// Its workers.
    pub crew: Crew,
    /// Connections.
    pub connections: u64,
    /// Rooms.
    pub rooms: u32,
    common: Common,
}

impl Run {
    /// Starts the workers.
    ///
    /// # Errors
    /// What is wrong with the settings or the host.
    pub fn start(common: &Common, connections_default: u64) -> io::Result<Self> {
        let connections = common.connections.unwrap_or(connections_default);
        let rooms = common.rooms.unwrap_or(connections.div_ceil(ROOM_MEMBERS) as u32);
        if connections == 0 || rooms == 0 || u64::from(rooms) > connections {
            return Err(io::Error::other(format!(
                "{connections} connections in {rooms} rooms: at least one each, and no empty room"
            )));
        }
        let crew = Crew::start(common, connections, rooms)?;
        Ok(Self { crew, connections, rooms, common: common.clone() })
    }

    /// One line that says what is done.
    pub fn what(&self, rest: &str) -> String {
        let (connections, rooms, url) = (self.connections, self.rooms, &self.common.url);
        let rooms = if rooms == 1 { "1 room".into() } else { format!("{rooms} rooms") };
        format!("{connections} connections in {rooms} at {url}{rest}")
    }

    /// Brings all up. Ends when all are, or when nothing has come up for a while.
    ///
    /// # Errors
    /// When a worker has ended.
    pub fn bring_up(&mut self, name: &'static str, how: Ascent) -> io::Result<Phase> {
        let (workers, wanted) = (self.crew.workers(), self.connections);
        let window = how.window.unwrap_or(self.common.window).div_ceil(workers);
        let per_s = self.common.connect_rate.map(|rate| rate / f64::from(workers));
        let Ascent { retry, presence, .. } = how;
        self.crew.announce(name);
        self.crew.order(|_| Order::Open(Opening { window, per_s, retry, presence }))?;
        let (mut last, mut last_s) = (0, 0.0);
        let phase = self.crew.phase(
            name,
            |totals, _| Progress {
                label: "connections".into(),
                goal: wanted,
                fraction: totals.ready as f64 / wanted as f64,
            },
            |totals, seconds| {
                let failed = if retry.is_some() { 0 } else { totals.refused + totals.lost };
                // Trying again is no progress.
                let moved = totals.reached + failed;
                if moved != last {
                    (last, last_s) = (moved, seconds);
                }
                totals.ready + failed >= wanted || seconds - last_s > STALL_S
            },
        )?;
        if phase.totals.ready == 0 {
            let why = self.crew.reasons().join("; ");
            let why = if why.is_empty() { "no answer".to_owned() } else { why };
            return Err(io::Error::other(format!("no connection came up: {why}")));
        }
        Ok(phase)
    }

    /// Lets a time pass.
    ///
    /// # Errors
    /// When a worker has ended.
    pub fn pass(&mut self, name: &'static str, time: Duration) -> io::Result<Phase> {
        let goal_s = time.as_secs_f64();
        self.crew.phase(
            name,
            |_, seconds| Progress {
                label: "seconds".into(),
                goal: goal_s.ceil() as u64,
                fraction: (seconds / goal_s).min(1.0),
            },
            |_, seconds| seconds >= goal_s,
        )
    }

    /// Stops sending and waits for what is still to come, since `before` was counted.
    ///
    /// # Errors
    /// When a worker has ended.
    pub fn drain(&mut self, before: &Totals) -> io::Result<()> {
        self.crew.order(|_| Order::Quiet)?;
        let already = self.crew.totals() - *before;
        self.crew.phase(
            "draining",
            |_, seconds| Progress {
                label: "seconds".into(),
                goal: DRAIN_S as u64,
                fraction: seconds / DRAIN_S,
            },
            |totals, seconds| {
                let all = already.delivered + totals.delivered - already.duplicates;
                let outstanding = (already.expected + totals.expected).saturating_sub(all);
                outstanding == 0 && seconds > 0.2 || seconds > DRAIN_S
            },
        )?;
        Ok(())
    }

    /// Ends the run: shows the outcome, writes the report. False if something was wrong.
    ///
    /// # Errors
    /// When a worker has ended, or the report cannot be written.
    pub fn finish(self, mut outcome: Outcome) -> io::Result<bool> {
        outcome.notes.extend(self.crew.reasons().into_iter().map(|why| format!("failed: {why}")));
        let outcome = &outcome;
        let (samples, mut view) = self.crew.finish()?;
        view.finish(outcome);
        if let Some(path) = &self.common.report {
            let settings = serde_json::to_value(&self.common).map_err(io::Error::other)?;
            crate::report::write(path, outcome, &samples, &settings)?;
        }
        Ok(outcome.is_met())
    }
}

/// How all come up.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ascent {
    /// On their way at one time, instead of what the command line says.
    pub window: Option<u32>,
    /// Failed ones try again after about this time.
    pub retry: Option<Duration>,
    /// Joiners want presence.
    pub presence: bool,
}

/// What must be zero in every run.
pub fn verdicts(totals: &Totals) -> Vec<Figure> {
    let zero = |key, label, value: u64| {
        Figure::new(key, label, value as f64, "").must_be(Bound::Exactly(0.0))
    };
    vec![
        zero("lost", "connections lost", totals.lost),
        zero("gaps", "messages missing in a sequence", totals.gaps),
        zero("duplicates", "messages that came twice", totals.duplicates),
        zero("reordered", "messages in the wrong order", totals.reordered),
        zero("foreign", "messages of other rooms", totals.foreign),
        zero("errors", "answers that say no", totals.errors),
    ]
}

/// The percentiles of a latency, in µs.
pub fn latencies(what: [&'static str; 5], label: &str, it: Option<Percentiles>) -> Vec<Figure> {
    let value = |of: fn(&Percentiles) -> u64| it.as_ref().map(|it| of(it) as f64);
    let [p50, p90, p99, p999, max] = what;
    vec![
        Figure::maybe(p50, format!("{label}, median"), value(|it| it.p50_us), "µs"),
        Figure::maybe(p90, format!("{label}, p90"), value(|it| it.p90_us), "µs"),
        Figure::maybe(p99, format!("{label}, p99"), value(|it| it.p99_us), "µs"),
        Figure::maybe(p999, format!("{label}, p99.9"), value(|it| it.p999_us), "µs"),
        Figure::maybe(max, format!("{label}, longest"), value(|it| it.max_us), "µs"),
    ]
}

/// The keys of a message's latency.
pub const LATENCY: [&str; 5] =
    ["latency_p50_us", "latency_p90_us", "latency_p99_us", "latency_p999_us", "latency_max_us"];

/// The keys of a connection's time to come up.
pub const CONNECT: [&str; 5] =
    ["connect_p50_us", "connect_p90_us", "connect_p99_us", "connect_p999_us", "connect_max_us"];

/// CPU of the server per unit, in µs.
pub fn cpu_each(phase: &Phase, count: u64) -> Option<f64> {
    let cpu = phase.server_cpu?;
    (count > 0).then(|| cpu.total_ns as f64 / 1000.0 / count as f64)
}

/// Cores that the server kept busy.
pub fn server_cores(phase: &Phase) -> Option<f64> {
    Some(phase.server_cpu?.total_ns as f64 / 1e9 / phase.seconds)
}

/// Figures of the generator itself.
pub fn generator(phase: &Phase) -> Vec<Figure> {
    let lag = phase.lag.map(|lag| lag.p99_us as f64);
    vec![
        Figure::new("load_cores", "cores that the generator kept busy", phase.load_cores, "cores"),
        Figure::maybe("lag_p99_us", "messages left behind schedule, p99", lag, "µs"),
    ]
}

/// What memory each connection costs, between two readings of the server.
pub struct Memory {
    /// User memory in all, of the server's process.
    pub user_bytes: Option<f64>,
    /// Growth of that.
    pub user_grown: Option<f64>,
    /// The server's share of the growth of kernel memory.
    pub kernel_grown: Option<f64>,
}

impl Memory {
    /// Both ends are on this host and alike: a TCP socket in a ring's table with a receive armed.
    /// So half of what the host's slabs have grown by is the server's.
    pub fn between(before: &Reading, after: &Reading) -> Self {
        let bytes = |it: Option<u64>| it.map(|bytes| bytes as f64);
        let grown = |before, after| Some(bytes(after)? - bytes(before)?);
        Self {
            user_bytes: bytes(after.pss_bytes),
            user_grown: grown(before.pss_bytes, after.pss_bytes),
            kernel_grown: grown(before.slab_bytes, after.slab_bytes).map(|both| both / 2.0),
        }
    }
}

/// A body's length, as an option of several workloads.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Body {
    /// Bytes of a message's body; at least 33
    #[arg(long = "body", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(BODY_BYTES_MIN as i64..=60_000))]
    pub bytes: u32,
}
