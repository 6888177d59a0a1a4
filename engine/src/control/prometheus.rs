//! `/metrics` in the text format of OpenMetrics.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text::encode};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::store::STORE_METRICS;
use super::{Control, StoreView, stats};
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
        store: control.store.clone(),
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
    store: Option<StoreView>,
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
        if let Some(store) = &self.store {
            encode_store(store, &mut encoder)?;
        }
        self.encode_gauges(encoder)
    }
}

/// All labels are from this file and the table: none comes from outside.
fn encode_store(store: &StoreView, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    for metric in STORE_METRICS {
        let value = (metric.read)(&store.stats);
        match metric.kind {
            Kind::Counter => {
                let counter = ConstCounter::new(value);
                let kind = counter.metric_type();
                let sample = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
                counter.encode(sample)?;
            }
            Kind::Gauge => encode_gauge(encoder, metric.name, metric.help, value)?,
        }
    }
    encode_gauge(encoder, "store_up", "1: the store answers", store.stats.is_up().into())?;
    if let Some(age) = store.backup_age_s() {
        let help = "time since the newest backup was written";
        encode_gauge(encoder, "store_backup_age_seconds", help, age)?;
    }
    let help = "how long the store's answers took lately, in microseconds";
    let kind = ConstGauge::new(0i64).metric_type();
    let mut family = encoder.encode_descriptor("store_latency_us", help, None, kind)?;
    for (operation, [p50, p99, max]) in store.latencies() {
        for (quantile, value) in [("0.5", p50), ("0.99", p99), ("1", max)] {
            let labels = [("operation", operation), ("quantile", quantile)];
            ConstGauge::new(value as i64).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value as i64);
    let sample = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(sample)
}

impl Snapshot {
    fn encode_gauges(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let singles = [
            ("memory_user_bytes", "resident memory", self.user_bytes),
            ("uptime_seconds", "time since the start", self.uptime_seconds),
        ];
        for (name, help, value) in singles {
            encode_gauge(&mut encoder, name, help, value)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use throng_bridge::Stats;

    use super::*;
    use crate::control::stats::locked;

    #[test]
    fn the_store_has_its_series_each_once() {
        let stats = Arc::new(Stats::default());
        stats.kept.store(5, Ordering::Relaxed);
        stats.queued_bytes.store(6, Ordering::Relaxed);
        locked(&stats.read_us).record(1000).expect("within bounds");
        let store = Some(StoreView { kind: "sqlite", stats, backups: None });
        let (user_bytes, uptime_seconds) = (1, 2);
        let snapshot =
            Snapshot { shards: Vec::new(), latency_us: None, user_bytes, uptime_seconds, store };
        let mut registry = Registry::with_prefix("throng");
        registry.register_collector(Box::new(snapshot));
        let mut out = String::new();
        encode(&mut out, &registry).expect("text");
        for line in [
            "throng_store_kept_total 5",
            "throng_store_queued_bytes 6",
            "throng_store_up 1",
            "# TYPE throng_store_retries counter",
            "throng_store_latency_us{operation=\"append\",quantile=\"0.99\"} 0",
            "throng_store_latency_us{operation=\"read\",quantile=\"0.5\"} 1003",
        ] {
            assert!(out.lines().any(|it| it == line), "{line} is not in\n{out}");
        }
        let series = |line: &&str| !line.starts_with('#');
        let mut names: Vec<_> =
            out.lines().filter(series).filter_map(|line| line.rsplit_once(' ')).collect();
        let count = names.len();
        names.sort_unstable_by_key(|(name, _)| *name);
        names.dedup_by_key(|(name, _)| *name);
        assert_eq!(names.len(), count, "{out}");
    }
}
