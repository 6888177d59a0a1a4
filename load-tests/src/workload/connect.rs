//! How fast do connections come up, how many, and what does each cost?

use std::io;
use std::time::Duration;

use super::{Ascent, CONNECT, Memory, Run, cpu_each, generator, latencies, verdicts};
use crate::cli::{Common, duration};
use crate::outcome::{Bound, Figure, Outcome};
use crate::server::Reading;
use crate::worker::Order;

/// How long memory may take to come back after all have left, so much more for each 10,000, and how
/// often it is looked at.
const RETURNS_WITHIN: Duration = Duration::from_secs(10);
const RETURNS_PER_10_000: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_secs(5);
/// Share of the growth that may stay for the wait to end.
const KEPT_SHARE: f64 = 0.08;
/// How long connections rest before their memory is measured.
const SETTLE: Duration = Duration::from_secs(3);

/// Its options.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// What all workloads have in common.
    #[command(flatten)]
    pub common: Common,
    /// Hold the connections for so long, answering pings
    #[arg(long, default_value = "0", value_parser = duration)]
    pub hold: Duration,
    /// Close them all at the end, and see whether the server's memory comes back
    #[arg(long)]
    pub leave: bool,
}

/// Brings connections up, holds them, lets them go.
///
/// # Errors
/// When a worker has ended, or the settings are wrong.
pub fn run(options: &Options) -> io::Result<bool> {
    let mut run = Run::start(&options.common, 1000)?;
    let before = run.crew.look_at_server();
    let up = run.bring_up("connecting", Ascent::default())?;
    let ready = up.totals.ready;
    let watched = options.common.server_pid.is_some();
    if watched {
        run.pass("settling", SETTLE)?;
    }
    let with = run.crew.look_at_server();
    if !options.hold.is_zero() {
        run.pass("holding", options.hold)?;
    }
    let totals = run.crew.totals();
    let memory = Memory::between(&before, &with);
    let each = |bytes: Option<f64>| bytes.filter(|_| ready > 0).map(|bytes| bytes / ready as f64);
    let refused = Figure::new("refused", "connections refused", totals.refused as f64, "");
    let ready_figure = Figure::new("ready", "connections in their rooms", ready as f64, "");
    let mut figures = vec![
        ready_figure.must_be(Bound::Exactly(run.connections as f64)),
        refused.must_be(Bound::Exactly(0.0)),
        Figure::new("seconds", "time until all were", up.seconds, "s"),
        Figure::new("connects_per_s", "connections per second", ready as f64 / up.seconds, "/s"),
        Figure::maybe(
            "server_cpu_us_per_connection",
            "server's CPU for each",
            cpu_each(&up, ready),
            "µs",
        ),
        Figure::maybe(
            "user_bytes_per_connection",
            "user memory of each",
            each(memory.user_grown),
            "bytes",
        ),
        Figure::maybe(
            "kernel_bytes_per_connection",
            "kernel memory of each",
            each(memory.kernel_grown),
            "bytes",
        ),
    ];
    figures.extend(latencies(CONNECT, "time to come up", up.connect));
    figures.push(Figure::new("pings", "pings answered", totals.pings as f64, ""));
    if options.leave {
        let kept = leave(&mut run, &before)?;
        figures.push(Figure::maybe(
            "user_bytes_kept_per_connection",
            "user memory kept after they left, each",
            each(kept),
            "bytes",
        ));
    }
    figures.extend(verdicts(&totals));
    figures.extend(generator(&up));
    let outcome = Outcome {
        workload: "connect",
        what: run.what(""),
        figures,
        bottleneck: up.bottleneck,
        notes: if watched { vec![KERNEL_NOTE.into()] } else { Vec::new() },
    };
    run.finish(outcome)
}

/// How the server's kernel memory is known.
pub const KERNEL_NOTE: &str = "kernel memory is half of what the host's slabs grew by: both ends \
    are here and alike";

/// Closes all; how much more user memory the server has then than `before`.
///
/// # Errors
/// When a worker has ended.
pub fn leave(run: &mut Run, before: &Reading) -> io::Result<Option<f64>> {
    let grown = |now: &Reading| Some(now.pss_bytes? as f64 - before.pss_bytes? as f64);
    let most = grown(&run.crew.look_at_server()).unwrap_or(0.0);
    run.crew.announce("leaving");
    run.crew.order(|_| Order::Drop)?;
    let within = RETURNS_WITHIN + RETURNS_PER_10_000 * (run.connections / 10_000) as u32;
    let mut left = Duration::ZERO;
    loop {
        run.pass("leaving", LOOK)?;
        left += LOOK;
        let kept = grown(&run.crew.look_at_server());
        let returned = kept.is_none_or(|kept| kept < KEPT_SHARE * most);
        if returned || left >= within || run.crew.is_stopped() {
            return Ok(kept);
        }
    }
}
