//! What happens when all clients lose their connections and come back at once?

use std::io;
use std::time::Duration;

use super::{Ascent, CONNECT, Run, cpu_each, generator, latencies, verdicts};
use crate::cli::{Common, duration, some_time};
use crate::outcome::{Bound, Figure, Outcome};
use crate::procfs;
use crate::worker::Order;

/// Its options.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// What all workloads have in common.
    #[command(flatten)]
    pub common: Common,
    /// How often all are cut
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub waves: u32,
    /// Rest between two waves
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub rest: Duration,
    /// A connection that fails is tried again after about this time
    #[arg(long, default_value = "1s", value_parser = some_time)]
    pub retry: Duration,
}

/// Cuts all and brings them back, wave by wave. Nobody waits for anybody: all dial at once.
///
/// # Errors
/// When a worker has ended, or the settings are wrong.
pub fn run(options: &Options) -> io::Result<bool> {
    let mut run = Run::start(&options.common, 1000)?;
    run.bring_up("connecting", Ascent::default())?;
    let overflows = procfs::listen_overflows().unwrap_or(0);
    let all = Ascent { window: Some(u32::MAX), retry: Some(options.retry), presence: false };
    let (mut slowest_s, mut last) = (0.0f64, None);
    for _ in 0..options.waves {
        run.pass("resting", options.rest)?;
        run.crew.order(|_| Order::Drop)?;
        let back = run.bring_up("storm", all)?;
        slowest_s = slowest_s.max(back.seconds);
        last = Some(back);
        if run.crew.is_stopped() {
            break;
        }
    }
    let Some(back) = last else { return Ok(false) };
    let totals = run.crew.totals();
    let reached = back.totals.reached;
    let ready =
        Figure::new("ready", "connections in their rooms at the end", totals.ready as f64, "");
    let overflows = procfs::listen_overflows().unwrap_or(0).saturating_sub(overflows);
    let mut figures = vec![
        ready.must_be(Bound::Exactly(run.connections as f64)),
        Figure::new("seconds", "time until all were back, slowest wave", slowest_s, "s"),
        Figure::new(
            "connects_per_s",
            "connections per second, last wave",
            reached as f64 / back.seconds,
            "/s",
        ),
        Figure::maybe(
            "server_cpu_us_per_connection",
            "server's CPU for each",
            cpu_each(&back, reached),
            "µs",
        ),
        Figure::new(
            "refused",
            "attempts that failed and were made again",
            totals.refused as f64,
            "",
        ),
        Figure::new(
            "listen_overflows",
            "connections that a full backlog dropped on this host",
            overflows as f64,
            "",
        ),
    ];
    figures.extend(latencies(CONNECT, "time to come back", back.connect));
    figures.extend(verdicts(&totals));
    figures.extend(generator(&back));
    let outcome = Outcome {
        workload: "storm",
        what: run.what(&format!(", {} wave(s)", options.waves)),
        figures,
        bottleneck: back.bottleneck,
        notes: vec![
            "the kernel tries a connection that a full backlog drops again after 1 s, 3 s, 7 s"
                .into(),
        ],
    };
    run.finish(outcome)
}
