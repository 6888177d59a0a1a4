//! `/metrics` in the text format of OpenMetrics.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text::encode};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::fleet::FLEET_METRICS;
use super::store::STORE_METRICS;
use super::{Control, FleetView, StoreView, stats};
use crate::app::App;
use crate::clock::wall_ms;
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
        fleet: control.fleet.clone(),
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
    fleet: Option<FleetView>,
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
        if let Some(fleet) = &self.fleet {
            encode_fleet(fleet, &mut encoder)?;
        }
        self.encode_gauges(encoder)
    }
}

/// All labels are from this file and the table: none comes from outside.
fn encode_store(store: &StoreView, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    for metric in STORE_METRICS {
        let value = (metric.read)(&store.stats);
        encode_one(encoder, metric.kind, (metric.name, metric.help), value)?;
    }
    encode_gauge(encoder, "store_up", "1: the store answers", store.stats.is_up().into())?;
    if let Some(age) = store.backup_age_s() {
        let help = "time since the newest backup was written";
        encode_gauge(encoder, "store_backup_age_seconds", help, age)?;
    }
    let help = "how long the store's answers took lately, in microseconds";
    let all = store.latencies();
    encode_latencies(encoder, ("store_latency_us", help), "operation", all)
}

/// As [`encode_store`].
fn encode_fleet(fleet: &FleetView, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    for metric in FLEET_METRICS {
        let value = (metric.read)(&fleet.stats);
        encode_one(encoder, metric.kind, (metric.name, metric.help), value)?;
    }
    let now_ms = wall_ms();
    let (stats, down) = (&fleet.stats, fleet.down_seconds(now_ms));
    encode_gauge(encoder, "redis_up", "1: Redis answers", stats.is_up().into())?;
    let help = "1: what is published here comes back";
    encode_gauge(encoder, "redis_ready", help, stats.is_ready().into())?;
    encode_gauge(encoder, "redis_down_seconds", "since when Redis does not answer", down)?;
    if let Some(age_ms) = fleet.echo_age_ms(now_ms) {
        let help = "time since something published here last came back, in milliseconds";
        encode_gauge(encoder, "redis_echo_age_ms", help, age_ms)?;
    }
    let help = "how long things took lately, in microseconds";
    let all = fleet.latencies().map(|(operation, _, times)| (operation, times));
    encode_latencies(encoder, ("redis_latency_us", help), "operation", all)?;
    let help = "how long pipelines took lately by their first command, in microseconds";
    let commands = fleet.commands();
    let all = commands.iter().map(|(command, times)| (&**command, *times));
    encode_latencies(encoder, ("redis_command_latency_us", help), "command", all)
}

/// Times by what took them: p50, p99 and the longest.
fn encode_latencies<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    label: &str,
    all: impl IntoIterator<Item = (&'a str, [u64; 3])>,
) -> Result<(), fmt::Error> {
    let kind = ConstGauge::new(0i64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (what, [p50, p99, max]) in all {
        for (quantile, value) in [("0.5", p50), ("0.99", p99), ("1", max)] {
            let labels = [(label, what), ("quantile", quantile)];
            ConstGauge::new(value as i64).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_one(
    encoder: &mut DescriptorEncoder<'_>,
    kind: Kind,
    (name, help): (&str, &str),
    value: u64,
) -> Result<(), fmt::Error> {
    if kind == Kind::Gauge {
        return encode_gauge(encoder, name, help, value);
    }
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
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
    use crate::control::fleet::tests::view;
    use crate::control::stats::locked;

    fn written(store: Option<StoreView>, fleet: Option<FleetView>) -> String {
        let (user_bytes, uptime_seconds) = (1, 2);
        let (shards, latency_us) = (Vec::new(), None);
        let snapshot = Snapshot { shards, latency_us, user_bytes, uptime_seconds, store, fleet };
        let mut registry = Registry::with_prefix("throng");
        registry.register_collector(Box::new(snapshot));
        let mut out = String::new();
        encode(&mut out, &registry).expect("text");
        out
    }

    fn has(out: &str, lines: &[&str]) {
        for line in lines {
            assert!(out.lines().any(|it| it == *line), "{line} is not in\n{out}");
        }
        let series = |line: &&str| !line.starts_with('#');
        let mut names: Vec<_> =
            out.lines().filter(series).filter_map(|line| line.rsplit_once(' ')).collect();
        let count = names.len();
        names.sort_unstable_by_key(|(name, _)| *name);
        names.dedup_by_key(|(name, _)| *name);
        assert_eq!(names.len(), count, "{out}");
    }

    #[test]
    fn the_store_has_its_series_each_once() {
        let stats = Arc::new(Stats::default());
        stats.kept.store(5, Ordering::Relaxed);
        stats.queued_bytes.store(6, Ordering::Relaxed);
        locked(&stats.read_us).record(1000).expect("within bounds");
        let out = written(Some(StoreView { kind: "sqlite", stats, backups: None }), None);
        let lines = [
            "throng_store_kept_total 5",
            "throng_store_queued_bytes 6",
            "throng_store_up 1",
            "# TYPE throng_store_retries counter",
            "throng_store_latency_us{operation=\"append\",quantile=\"0.99\"} 0",
            "throng_store_latency_us{operation=\"read\",quantile=\"0.5\"} 1003",
        ];
        has(&out, &lines);
        assert!(!out.contains("throng_redis"), "{out}");
    }

    #[test]
    fn the_fleet_has_its_series_each_once() {
        let (fleet, _thread) = view();
        fleet.stats.published.store(5, Ordering::Relaxed);
        fleet.stats.hosts.store(3, Ordering::Relaxed);
        fleet.stats.down_since_ms.store(0, Ordering::Relaxed);
        let mut taken = locked(&fleet.stats.publish_us);
        taken.record(1000).expect("within bounds");
        locked(&fleet.stats.commands_us).insert("evalsha".into(), taken.clone());
        drop(taken);
        let lines = [
            "throng_redis_published_total 5",
            "throng_redis_hosts 3",
            "throng_redis_up 1",
            "throng_redis_ready 0",
            "throng_redis_down_seconds 0",
            "# TYPE throng_redis_repairs counter",
            "throng_redis_latency_us{operation=\"publish\",quantile=\"0.5\"} 1003",
            "throng_redis_latency_us{operation=\"round_trip\",quantile=\"1\"} 0",
            "throng_redis_command_latency_us{command=\"evalsha\",quantile=\"0.5\"} 1003",
        ];
        let out = written(None, Some(fleet));
        has(&out, &lines);
        assert!(!out.contains("echo_age"), "nothing has come back yet: {out}");
    }
}
