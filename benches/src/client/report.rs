//! Shapes of the results: latency percentiles and CPU, as JSON.

use std::io;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::procfs::Cpu;

/// Longest latency told apart, µs.
const LATENCY_US_MAX: u64 = 120_000_000;

/// An empty histogram of microseconds, three digits.
///
/// # Errors
/// Never for these bounds.
pub fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).map_err(io::Error::other)
}

/// Percentiles in µs.
#[must_use]
pub fn percentiles(latency: &Histogram<u64>) -> Value {
    json!({
        "p50_us": latency.value_at_quantile(0.5),
        "p90_us": latency.value_at_quantile(0.9),
        "p99_us": latency.value_at_quantile(0.99),
        "p999_us": latency.value_at_quantile(0.999),
        "max_us": latency.max(),
        "count": latency.len(),
    })
}

/// CPU of the server, in all and per `unit` (deliveries, connections).
#[must_use]
pub fn server_cpu(cpu: Cpu, count: u64) -> Value {
    json!({
        "seconds": round(cpu.total_ns as f64 / 1e9, 3),
        "user_seconds": cpu.user_ns as f64 / 1e9,
        "system_seconds": cpu.system_ns as f64 / 1e9,
        "us_each": per(cpu.total_ns, count),
    })
}

/// Microseconds each, three decimals.
#[must_use]
pub fn per(ns: u64, count: u64) -> f64 {
    round(ns as f64 / 1000.0 / count.max(1) as f64, 3)
}

/// Rounds to so many decimals.
#[must_use]
pub fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}
