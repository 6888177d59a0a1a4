//! The store as the control thread sees it, for `/health` and both forms of `/metrics`.
//!
//! One table names every number of it; both forms follow from that.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use throng_bridge::Stats;

use super::alerts::{backup_age_s, down_seconds};
use super::stats::locked;
use crate::clock::wall_ms;
use crate::config::Config;
use crate::metrics::Kind;

/// The host's store.
#[derive(Clone, Debug)]
pub struct StoreView {
    /// What it is: `sqlite`, `mongodb`, `memory`.
    pub kind: &'static str,
    /// What the bridge counts of it.
    pub stats: Arc<Stats>,
    /// The folder that backups are written to, where the engine writes some.
    pub backups: Option<PathBuf>,
}

/// A number of the store.
pub(super) struct StoreMetric {
    /// In the `store` object of the JSON form.
    json: &'static str,
    /// In Prometheus, which prefixes it with `throng_store_`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) read: fn(&Stats) -> u64,
}

macro_rules! numbers {
    ($($kind:ident $field:ident $json:literal $help:literal)*) => {
        /// Every number, in the order they are shown.
        pub(super) const STORE_METRICS: &[StoreMetric] = &[
            $(StoreMetric {
                json: $json,
                name: concat!("store_", stringify!($field)),
                kind: Kind::$kind,
                help: $help,
                read: |stats| stats.$field.load(Ordering::Relaxed),
            },)*
        ];
    };
}

numbers! {
    Gauge queued_messages "queuedMessages" "messages that wait for their commit"
    Gauge queued_bytes "queuedBytes" "their bytes"
    Counter kept "kept" "messages committed"
    Counter batches "batches" "batches committed"
    Gauge last_batch "lastBatch" "messages in the last batch"
    Counter retries "retries" "batches that had to be tried again"
    Counter parked "parked" "messages refused by the store, which lie parked"
    Counter unparked "unparked" "messages not even parked: they are in the log alone"
    Counter skipped "skipped" "messages of other hosts not kept here: too much waited"
    Counter reads "reads" "reads asked of the store"
    Counter reads_merged "readsMerged" "reads that were the same as one under way"
    Counter reads_failed "readsFailed" "reads that failed or took too long"
    Counter lookups_failed "lookupsFailed" "messages whose clientId was not looked up in time"
    Counter users_noted "usersNoted" "users noted"
    Counter users_dropped "usersDropped" "users not noted: too many waited"
    Counter swept_messages "sweptMessages" "messages deleted by retention"
    Counter swept_users "sweptUsers" "users deleted by retention"
    Gauge swept_at_ms "sweptAt" "when retention was last through, ms since 1970; 0: never"
    Gauge last_answer_us "lastAnswerUs" "how long the store's last answer took"
}

/// How long the store's answers took lately: p50, p99 and the longest, in microseconds.
pub(super) fn latency(histogram: &Histogram<u64>) -> [u64; 3] {
    [histogram.value_at_quantile(0.5), histogram.value_at_quantile(0.99), histogram.max()]
}

impl StoreView {
    /// As `/health` says it.
    pub(super) fn state(&self) -> &'static str {
        if self.stats.is_up() { "ok" } else { "down" }
    }

    /// Appends and reads by their names, with how long they took.
    pub(super) fn latencies(&self) -> [(&'static str, [u64; 3]); 2] {
        [("append", &self.stats.append_us), ("read", &self.stats.read_us)]
            .map(|(name, histogram)| (name, latency(&locked(histogram))))
    }

    /// Seconds since the newest backup was written.
    pub(super) fn backup_age_s(&self) -> Option<u64> {
        backup_age_s(self.backups.as_deref()?)
    }

    /// The `store` object of `/metrics`.
    pub(super) fn report(&self, config: &Config) -> Value {
        let ms = |time: Option<Duration>| time.map(|it| it.as_millis() as u64);
        let mut out = Map::new();
        out.insert("kind".to_owned(), self.kind.into());
        out.insert("up".to_owned(), self.stats.is_up().into());
        out.insert("downSeconds".to_owned(), down_seconds(&self.stats, wall_ms()).into());
        for metric in STORE_METRICS {
            out.insert(metric.json.to_owned(), (metric.read)(&self.stats).into());
        }
        for (name, [p50, p99, max]) in self.latencies() {
            let latency = json!({"unit": "us", "p50": p50, "p99": p99, "max": max});
            out.insert(format!("{name}Latency"), latency);
        }
        let retention = json!({
            "messagesMs": ms(config.message_retention),
            "usersMs": ms(config.user_retention),
        });
        out.insert("retention".to_owned(), retention);
        out.insert("backupAgeSeconds".to_owned(), self.backup_age_s().into());
        Value::Object(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_what_was_counted() {
        let stats = Arc::new(Stats::default());
        let store = StoreView { kind: "sqlite", stats: Arc::clone(&stats), backups: None };
        stats.queued_messages.store(7, Ordering::Relaxed);
        stats.reads_merged.store(3, Ordering::Relaxed);
        locked(&stats.append_us).record_n(2000, 9).expect("within bounds");
        let report = store.report(&Config::default());
        assert_eq!((&report["kind"], &report["up"]), (&json!("sqlite"), &json!(true)));
        assert_eq!((&report["queuedMessages"], &report["readsMerged"]), (&json!(7), &json!(3)));
        let p99 = report["appendLatency"]["p99"].as_u64().expect("a number");
        assert!((1980..=2020).contains(&p99), "{p99}");
        assert_eq!(report["readLatency"]["max"], json!(0));
        assert_eq!(report["backupAgeSeconds"], Value::Null);
        stats.down_since_ms.store(1, Ordering::Relaxed);
        assert_eq!(
            (store.state(), &store.report(&Config::default())["up"]),
            ("down", &json!(false))
        );
    }

    #[test]
    fn each_number_has_one_name_in_each_form() {
        for names in [STORE_METRICS.iter().map(|it| it.json).collect::<Vec<_>>(), {
            STORE_METRICS.iter().map(|it| it.name).collect()
        }] {
            let mut unique = names.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), names.len());
        }
    }
}
