//! What is seen once a second: the points of the plots, and the live view's figures.

use serde::Serialize;

use crate::stats::{Percentiles, Totals};

/// One second of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub at_s: f64,
    /// What the run was doing: `connecting`, `sending`, `holding`, …
    pub phase: &'static str,
    /// Seconds since the sample before.
    pub period_s: f64,
    /// Counters since the run began.
    pub totals: Totals,
    /// Counters of this period; gauges (`ready`) are meaningless here.
    pub period: Totals,
    /// Connections on their way up.
    pub opening: u64,
    /// Due time to arrival, of the messages that came in this period.
    pub latency: Option<Percentiles>,
    /// Begun to in its room, of the connections that came up in this period.
    pub connect: Option<Percentiles>,
    /// How far behind their schedule messages left the generator in this period.
    pub lag: Option<Percentiles>,
    /// Cores that the generator kept busy.
    pub load_cores: f64,
    /// How busy each of this host's cores was, 0 to 1.
    pub cores: Vec<f64>,
    /// The server as seen from outside, where it could be seen.
    pub server: Option<ServerSample>,
}

/// The server in one period. What could not be read is `None`.
#[derive(Clone, Default, Debug, Serialize)]
pub struct ServerSample {
    /// Cores its process kept busy (from `/proc`, on the same host).
    pub cores: Option<f64>,
    /// Resident memory of its process, in bytes (from `/proc`, or `/metrics`).
    pub user_bytes: Option<u64>,
    /// Growth of the host's slabs since the run began, in bytes: both ends where both are here.
    pub kernel_bytes: Option<u64>,
    /// Connections it has (`/metrics`).
    pub connections: Option<u64>,
    /// Messages it delivered per second (`/metrics`).
    pub delivered_per_s: Option<f64>,
    /// The 99th percentile of its own delivery latency since it started, in microseconds
    /// (`/metrics`).
    pub latency_p99_us: Option<u64>,
    /// Connections it refused or ended so far, by cause (`/metrics`); causes with none left out.
    pub troubles: Vec<(String, u64)>,
}
