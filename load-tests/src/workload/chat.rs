//! How does it do with people: joins, messages, typing, leaves, reconnects?

use std::io;
use std::time::Duration;

use super::{Ascent, Body, CONNECT, LATENCY, Run, generator, latencies, server_cores, verdicts};
use crate::cli::{Common, rate, some_time};
use crate::crew::Phase;
use crate::outcome::{Bound, Figure, Outcome};
use crate::stats::Totals;
use crate::worker::{Load, Mix, Order, Pace};

/// Its options.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// What all workloads have in common.
    #[command(flatten)]
    pub common: Common,
    /// What people do.
    #[command(flatten)]
    pub people: People,
    /// How long
    #[arg(long, default_value = "60s", value_parser = some_time)]
    pub seconds: Duration,
}

/// What people do, each of them; times are random, with these means.
#[derive(clap::Args, Clone, Debug)]
pub struct People {
    /// Bodies.
    #[command(flatten)]
    pub body: Body,
    /// Messages of each client: N/s, N/m, N/h
    #[arg(long, default_value = "2/m", value_parser = rate)]
    pub messages: f64,
    /// Times each begins to type
    #[arg(long, default_value = "4/m", value_parser = rate)]
    pub typing: f64,
    /// Times each leaves its room, to come back after 2 s
    #[arg(long, default_value = "10/h", value_parser = rate)]
    pub leaves: f64,
    /// Times each loses its connection, to come back after about 1 s, asking for what it missed
    #[arg(long, default_value = "10/h", value_parser = rate)]
    pub reconnects: f64,
    /// Clients join without presence
    #[arg(long)]
    pub no_presence: bool,
}

impl People {
    /// How they come up: who fails tries again.
    pub fn ascent(&self) -> Ascent {
        let retry = Some(Duration::from_secs(1));
        Ascent { window: None, retry, presence: !self.no_presence }
    }

    /// Sets them going.
    ///
    /// # Errors
    /// When a worker has ended.
    pub fn start(&self, run: &mut Run) -> io::Result<()> {
        let Self { messages, typing, leaves, reconnects, .. } = *self;
        let load = Load {
            pace: Pace::Mix(Mix { messages, typing, leaves, reconnects }),
            body_bytes: self.body.bytes as usize,
            answers: true,
        };
        run.crew.order(|_| Order::Load(load.clone()))
    }
}

/// Lets people do what they do for a while.
///
/// # Errors
/// When a worker has ended, or the settings are wrong.
pub fn run(options: &Options) -> io::Result<bool> {
    let mut run = Run::start(&options.common, 1000)?;
    run.bring_up("connecting", options.people.ascent())?;
    options.people.start(&mut run)?;
    let measured = run.pass("chatting", options.seconds)?;
    settle(&mut run)?;
    let figures = figures(&run.crew.totals(), &measured, run.connections);
    let outcome = Outcome {
        workload: "chat",
        what: run.what(&format!(", {:?}", options.seconds)),
        figures,
        bottleneck: measured.bottleneck,
        notes: Vec::new(),
    };
    run.finish(outcome)
}

/// Stops, waits until everybody is back, and checks that all have their rooms' last messages.
pub fn settle(run: &mut Run) -> io::Result<()> {
    run.crew.order(|_| Order::Quiet)?;
    run.pass("draining", Duration::from_secs(5))?;
    run.crew.order(|_| Order::CheckTails)
}

/// The figures of people.
pub fn figures(totals: &Totals, measured: &Phase, connections: u64) -> Vec<Figure> {
    let per_s = |count: u64| count as f64 / measured.seconds;
    let counted = &measured.totals;
    let ready =
        Figure::new("ready", "connections in their rooms at the end", totals.ready as f64, "");
    let mut figures = vec![
        ready.must_be(Bound::Exactly(connections as f64)),
        Figure::new("messages_per_s", "messages per second", per_s(counted.sent), "/s"),
        Figure::new("deliveries_per_s", "deliveries per second", per_s(counted.delivered), "/s"),
        Figure::new("presence_per_s", "presence events per second", per_s(counted.presence), "/s"),
        Figure::new("typing_per_s", "typing events per second", per_s(counted.typing), "/s"),
        Figure::new("joins", "joins while measured", counted.reached as f64, ""),
        Figure::new("reconnects", "connections dropped by clients", counted.left as f64, ""),
        Figure::new("refused", "connections refused", totals.refused as f64, ""),
        Figure::new("limited", "messages over a rate limit", totals.limited as f64, ""),
        Figure::new(
            "announced",
            "messages that the server said it no longer has",
            totals.announced as f64,
            "",
        ),
        Figure::maybe(
            "server_cores",
            "cores that the server kept busy",
            server_cores(measured),
            "cores",
        ),
    ];
    figures.extend(latencies(LATENCY, "latency", measured.latency));
    figures.extend(latencies(CONNECT, "time to come back", measured.connect));
    figures.extend(verdicts(totals));
    figures.extend(generator(measured));
    figures
}
