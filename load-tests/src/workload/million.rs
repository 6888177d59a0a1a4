//! Does one host hold a million connections?
//!
//! Each is in a room of 100, all hold still for one ping interval, then messages are sent for two
//! more, and all leave.

use std::io;
use std::time::Duration;

use super::connect::{KERNEL_NOTE, leave};
use super::fanout::open_pace;
use super::{Ascent, CONNECT, LATENCY, Memory, Run, cpu_each, generator, latencies, server_cores};
use super::{Body, verdicts};
use crate::cli::{Common, positive, some_time};
use crate::crew::Phase;
use crate::outcome::{Bound, Figure, Outcome};
use crate::server::Reading;
use crate::stats::Totals;
use crate::worker::{Load, Order};

/// What the server may cost, for each connection: 600 MB of user memory and 4.8 GB of kernel memory
/// for a million.
const USER_BYTES_MAX: f64 = 600.0;
const KERNEL_BYTES_MAX: f64 = 4800.0;
/// What each shard may cost beside its connections; counts where there are fewer than a million.
const SHARD_BYTES: f64 = 5e6;
/// What the program itself may cost, its drivers of stores with it; likewise.
const PROGRAM_BYTES: f64 = 5e6;
/// CPU of a ping and its answer, in µs.
const PING_US_MAX: f64 = 15.0;
/// Latency of a message, in µs.
const LATENCY_US_MAX: f64 = 50_000.0;
/// Share of the server's growth that it may keep after all have left.
const KEPT_MAX: f64 = 0.1;

/// Its options.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// What all workloads have in common.
    #[command(flatten)]
    pub common: Common,
    /// Bodies.
    #[command(flatten)]
    pub body: Body,
    /// Deliveries per second while they are held
    #[arg(long, default_value_t = 10_000.0, value_parser = positive)]
    pub rate: f64,
    /// Show CPU, latency and kernel memory without asking anything of them: on a host that does
    /// other things beside
    #[arg(long)]
    pub busy_host: bool,
    /// The server's ping interval
    #[arg(long, default_value = "25s", value_parser = some_time)]
    pub ping_interval: Duration,
}

/// Brings them up, holds them, sends messages, lets them go.
///
/// # Errors
/// When a worker has ended, or the settings are wrong.
pub fn run(options: &Options) -> io::Result<bool> {
    let mut run = Run::start(&options.common, 1_000_000)?;
    let before = run.crew.look_at_server();
    let up = run.bring_up("connecting", Ascent::default())?;
    run.pass("settling", Duration::from_secs(3))?;
    let rest = run.pass("at rest", options.ping_interval)?;
    let with = run.crew.look_at_server();
    let begin = run.crew.totals();
    let body_bytes = options.body.bytes as usize;
    let loads: Vec<_> = (0..run.crew.workers())
        .map(|index| Load { pace: open_pace(&run, options.rate, index), body_bytes, answers: true })
        .collect();
    run.crew.order(|index| Order::Load(loads[index as usize].clone()))?;
    let sending = run.pass("sending", options.ping_interval * 2 + Duration::from_secs(5))?;
    run.drain(&begin)?;
    run.crew.order(|_| Order::CheckTails)?;
    let totals = run.crew.totals();
    let end = run.crew.look_at_server();
    let kept = leave(&mut run, &before)?;
    let seen = Seen { before, with, end, up, rest, sending, begin, totals, kept };
    let mut figures = figures(&run, options, &seen);
    if options.busy_host {
        let disturbed = ["ping_us", "latency_p99_us", "kernel_bytes", "user_share_kept"];
        let asked = figures.iter_mut().filter(|figure| disturbed.contains(&figure.key));
        asked.for_each(|figure| figure.bound = None);
    }
    let outcome = Outcome {
        workload: "million",
        what: run.what(&format!(", {} deliveries/s", options.rate)),
        figures,
        bottleneck: None,
        notes: notes(&seen),
    };
    run.finish(outcome)
}

/// What was seen on the way.
struct Seen {
    before: Reading,
    with: Reading,
    end: Reading,
    up: Phase,
    rest: Phase,
    sending: Phase,
    begin: Totals,
    totals: Totals,
    kept: Option<f64>,
}

fn notes(seen: &Seen) -> Vec<String> {
    let limits = [("connecting", &seen.up), ("sending", &seen.sending)];
    let mut notes: Vec<_> = limits
        .into_iter()
        .filter_map(|(name, phase)| Some(format!("{name}: {}", phase.bottleneck.as_ref()?)))
        .collect();
    if seen.with.pss_bytes.is_some() {
        notes.push(KERNEL_NOTE.into());
    } else {
        notes.push("the server's cost was not measured: give --server-pid".into());
    }
    notes
}

fn figures(run: &Run, options: &Options, seen: &Seen) -> Vec<Figure> {
    let (totals, connections) = (&seen.totals, run.connections as f64);
    let ready = Figure::new("ready", "connections in their rooms", seen.up.totals.ready as f64, "");
    let refused = Figure::new("refused", "connections refused", totals.refused as f64, "");
    let mut figures =
        vec![ready.must_be(Bound::Exactly(connections)), refused.must_be(Bound::Exactly(0.0))];
    figures.extend(verdicts(totals));
    figures.extend([
        Figure::new("seconds", "time until all were connected", seen.up.seconds, "s"),
        Figure::new(
            "connects_per_s",
            "connections per second",
            seen.up.totals.ready as f64 / seen.up.seconds,
            "/s",
        ),
        Figure::maybe(
            "server_cpu_us_per_connection",
            "server's CPU for each",
            cpu_each(&seen.up, seen.up.totals.ready),
            "µs",
        ),
        Figure::maybe(
            "connecting_server_cores",
            "cores of the server meanwhile",
            server_cores(&seen.up),
            "cores",
        ),
        Figure::new(
            "connecting_load_cores",
            "cores of the generator meanwhile",
            seen.up.load_cores,
            "cores",
        ),
    ]);
    figures.extend(latencies(CONNECT, "time to come up", seen.up.connect));
    figures.extend(memory(run, seen));
    figures.extend(pings(options, seen));
    figures.extend(messages(seen));
    figures.extend(generator(&seen.sending));
    figures
}

/// User and kernel memory, and whether it comes back.
fn memory(run: &Run, seen: &Seen) -> Vec<Figure> {
    let memory = Memory::between(&seen.before, &seen.with);
    let connections = run.connections as f64;
    let shards =
        seen.end.metrics.as_ref().and_then(|it| it.get("shards")?.as_array().map(Vec::len));
    // A million pays for program and shards out of its 600 MB; fewer connections could not.
    let fixed = PROGRAM_BYTES + shards.unwrap_or(1) as f64 * SHARD_BYTES;
    let spare = if run.connections < 1_000_000 { fixed } else { 0.0 };
    let each = |bytes: Option<f64>| bytes.map(|bytes| bytes / connections);
    let kept = seen.kept.zip(memory.user_grown).map(|(kept, grown)| kept / grown);
    vec![
        Figure::maybe("user_bytes", "the server's user memory", memory.user_bytes, "bytes")
            .must_be(Bound::AtMost(USER_BYTES_MAX * connections + spare)),
        Figure::maybe(
            "user_bytes_at_start",
            "of it before they came",
            seen.before.pss_bytes.map(|it| it as f64),
            "bytes",
        ),
        Figure::maybe(
            "user_bytes_per_connection",
            "growth for each",
            each(memory.user_grown),
            "bytes",
        ),
        Figure::maybe("kernel_bytes", "the server's kernel memory", memory.kernel_grown, "bytes")
            .must_be(Bound::AtMost(KERNEL_BYTES_MAX * connections)),
        Figure::maybe(
            "kernel_bytes_per_connection",
            "of it for each",
            each(memory.kernel_grown),
            "bytes",
        ),
        Figure::maybe("user_share_kept", "share of the growth kept after all left", kept, "")
            .must_be(Bound::AtMost(KEPT_MAX)),
    ]
}

/// Heartbeats: answered, and what one costs at rest.
fn pings(options: &Options, seen: &Seen) -> Vec<Figure> {
    let counted =
        |pointer| Some(seen.end.metric(pointer)? - seen.before.metric(pointer).unwrap_or(0.0));
    let sent = counted("/total/pings_sent");
    let unanswered = counted("/total/closed_ping_timeout");
    let timings = seen.rest.seconds + seen.sending.seconds;
    let wanted = seen.totals.ready as f64 * (timings / options.ping_interval.as_secs_f64()).floor();
    vec![
        Figure::new("pings", "pings answered", seen.totals.pings as f64, "")
            .must_be(Bound::AtLeast(wanted)),
        Figure::maybe("pings_sent", "pings that the server sent", sent, ""),
        Figure::maybe("pings_unanswered", "connections closed for want of a pong", unanswered, "")
            .must_be(Bound::Exactly(0.0)),
        Figure::maybe(
            "ping_us",
            "server's CPU at rest for each ping",
            cpu_each(&seen.rest, seen.rest.totals.pings),
            "µs",
        )
        .must_be(Bound::AtMost(PING_US_MAX)),
        Figure::maybe(
            "rest_server_cores",
            "cores of the server at rest",
            server_cores(&seen.rest),
            "cores",
        ),
    ]
}

/// The messages sent while all were held.
fn messages(seen: &Seen) -> Vec<Figure> {
    let since = seen.totals - seen.begin;
    let arrived = since.delivered.saturating_sub(since.duplicates);
    let missing = since.expected.saturating_sub(arrived) as f64;
    let delivered = seen.sending.totals.delivered;
    let rate = delivered as f64 / seen.sending.seconds;
    let mut figures = vec![
        Figure::new("sent", "messages sent", since.sent as f64, ""),
        Figure::new("deliveries_per_s", "deliveries per second", rate, "/s"),
        Figure::new("missing", "deliveries missing", missing, "").must_be(Bound::Exactly(0.0)),
        Figure::maybe(
            "sending_server_cores",
            "cores of the server meanwhile",
            server_cores(&seen.sending),
            "cores",
        ),
    ];
    figures.extend(latencies(LATENCY, "latency", seen.sending.latency).into_iter().map(|figure| {
        match figure.key {
            "latency_p99_us" => figure.must_be(Bound::AtMost(LATENCY_US_MAX)),
            _ => figure,
        }
    }));
    figures
}
