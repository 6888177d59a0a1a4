//! `/metrics` in the text format of OpenMetrics.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text::encode};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{Control, stats};
use crate::app::App;
use crate::metrics::{Kind, METRICS};

/// What [`text`] returns.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All counters per shard, and the latency over all of them.
pub(super) async fn text<A: App>(control: &Control<A>) -> Result<String, fmt::Error> {
    let shards = control.lines.iter().map(|line| METRICS.iter().map(|it| (it.read)(&line.cells)));
    let snapshot = Snapshot {
        shards: shards.map(Iterator::collect).collect(),
        latency_us: control.latency_us().await.map(|histogram| {
            [0.5, 0.99, 0.999].map(|quantile| (quantile, histogram.value_at_quantile(quantile)))
        }),
        user_bytes: stats::user_bytes(),
        uptime_seconds: control.started.elapsed().as_secs(),
    };
    let mut registry = Registry::with_prefix("throng");
    registry.register_collector(Box::new(snapshot));
    let mut out = String::new();
    encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Snapshot {
    /// By shard, in the order of [`METRICS`].
    shards: Vec<Vec<u64>>,
    latency_us: Option<[(f64, u64); 3]>,
    user_bytes: u64,
    uptime_seconds: u64,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (column, metric) in METRICS.iter().enumerate() {
            let counter = ConstCounter::new(0u64);
            let gauge = ConstGauge::new(0i64);
            let kind = match metric.kind {
                Kind::Counter => counter.metric_type(),
                Kind::Gauge => gauge.metric_type(),
            };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for (shard, values) in self.shards.iter().enumerate() {
                let labels = [("shard", shard.to_string())];
                let sample = family.encode_family(&labels)?;
                match metric.kind {
                    Kind::Counter => ConstCounter::new(values[column]).encode(sample)?,
                    Kind::Gauge => ConstGauge::new(values[column] as i64).encode(sample)?,
                }
            }
        }
        self.encode_gauges(encoder)
    }
}

impl Snapshot {
    fn encode_gauges(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let singles = [
            ("memory_user_bytes", "resident memory", self.user_bytes),
            ("uptime_seconds", "time since the start", self.uptime_seconds),
        ];
        for (name, help, value) in singles {
            let gauge = ConstGauge::new(value as i64);
            let sample = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(sample)?;
        }
        let help = "delivery latency in microseconds";
        let kind = ConstGauge::new(0i64).metric_type();
        let mut family = encoder.encode_descriptor("delivery_latency_us", help, None, kind)?;
        for (quantile, value) in self.latency_us.into_iter().flatten() {
            let labels = [("quantile", quantile.to_string())];
            ConstGauge::new(value as i64).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
