//! How many messages reach everybody in their rooms, how late, at which cost?

use std::io;
use std::time::Duration;

use super::{Ascent, Body, LATENCY, Run, cpu_each, generator, latencies, server_cores, verdicts};
use crate::board::IN_FLIGHT_MAX;
use crate::cli::{Common, duration, positive, some_time};
use crate::outcome::{Bound, Figure, Outcome};
use crate::worker::{Load, Order, Pace};

/// Its options.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// What all workloads have in common.
    #[command(flatten)]
    pub common: Common,
    /// Bodies.
    #[command(flatten)]
    pub body: Body,
    /// Deliveries per second, on a constant schedule whatever the server does (open loop)
    #[arg(long, default_value_t = 60_000.0, value_parser = positive)]
    pub rate: f64,
    /// Send a room's next message once everybody has the last instead (closed loop)
    #[arg(long, conflicts_with = "rate")]
    pub closed: bool,
    /// Messages in flight per room in the closed loop
    #[arg(long, default_value_t = 1, requires = "closed",
          value_parser = clap::value_parser!(u32).range(1..=IN_FLIGHT_MAX as i64))]
    pub in_flight: u32,
    /// Measured time
    #[arg(long, default_value = "10s", value_parser = some_time)]
    pub seconds: Duration,
    /// The same load before it
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub warmup: Duration,
    /// Ask for an answer to every message
    #[arg(long)]
    pub answers: bool,
}

/// Warms up, measures, drains.
///
/// # Errors
/// When a worker has ended, or the settings are wrong.
pub fn run(options: &Options) -> io::Result<bool> {
    let mut run = Run::start(&options.common, 1000)?;
    run.bring_up("connecting", Ascent::default())?;
    let before = run.crew.totals();
    start_load(&mut run, options)?;
    run.pass("warming up", options.warmup)?;
    if !options.closed {
        // A new schedule: what the warm-up left behind must not count as lag.
        start_load(&mut run, options)?;
    }
    let measured = run.pass("measuring", options.seconds)?;
    run.drain(&before)?;
    let totals = run.crew.totals();
    let since = totals - before;
    let arrived = since.delivered.saturating_sub(since.duplicates);
    let missing = since.expected.saturating_sub(arrived) as f64;
    let delivered = measured.totals.delivered;
    let rate = delivered as f64 / measured.seconds;
    let ready = Figure::new("ready", "connections in their rooms", totals.ready as f64, "");
    let mut figures = vec![
        ready.must_be(Bound::Exactly(run.connections as f64)),
        Figure::new("deliveries_per_s", "deliveries per second", rate, "/s"),
        Figure::maybe(
            "server_cpu_us_per_delivery",
            "server's CPU for each",
            cpu_each(&measured, delivered),
            "µs",
        ),
        Figure::maybe(
            "server_cores",
            "cores that the server kept busy",
            server_cores(&measured),
            "cores",
        ),
    ];
    figures.extend(latencies(LATENCY, "latency", measured.latency));
    figures.push(Figure::new("sent", "messages sent", since.sent as f64, ""));
    figures.push(
        Figure::new("missing", "deliveries missing", missing, "").must_be(Bound::Exactly(0.0)),
    );
    figures.extend(verdicts(&totals));
    figures.extend(generator(&measured));
    let how = match options.closed {
        true => format!(", {} message(s) in flight per room", options.in_flight),
        false => format!(", {} deliveries/s", options.rate),
    };
    let outcome = Outcome {
        workload: "fanout",
        what: run.what(&how),
        figures,
        bottleneck: measured.bottleneck,
        notes: Vec::new(),
    };
    run.finish(outcome)
}

fn start_load(run: &mut Run, options: &Options) -> io::Result<()> {
    let in_flight = options.in_flight;
    let pace = |run: &Run, index| match options.closed {
        true => Pace::Closed { in_flight },
        false => open_pace(run, options.rate, index),
    };
    let loads: Vec<_> = (0..run.crew.workers())
        .map(|index| Load {
            pace: pace(run, index),
            body_bytes: options.body.bytes as usize,
            answers: options.answers,
        })
        .collect();
    run.crew.order(|index| Order::Load(loads[index as usize].clone()))
}

/// A worker's part of a schedule of so many deliveries per second: workers take turns.
pub fn open_pace(run: &Run, deliveries_per_s: f64, index: u32) -> Pace {
    let members = run.connections as f64 / f64::from(run.rooms);
    let messages_per_s = deliveries_per_s / members;
    let workers = f64::from(run.crew.workers());
    Pace::Open {
        per_s: messages_per_s / workers,
        after: Duration::from_secs_f64(f64::from(index) / messages_per_s),
    }
}
