//! The fleet as the control thread sees it, for `/health`, `/ready` and both forms of `/metrics`,
//! and what it asks of rooms that live on other hosts.
//!
//! One table names every number of it; both forms follow from that.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use throng_bridge::fleet::{FleetStats, Inquiries};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stats::locked;
use super::store::latency;
use crate::limits::{FLEET_ANSWER_MS, SUMMARIES_AT_ONCE_MAX};
use crate::metrics::Kind;

/// The fleet this host is one of.
#[derive(Clone, Debug)]
pub struct FleetView {
    /// What Redis is: `standalone`, `sentinel`, `cluster`.
    pub kind: &'static str,
    /// What the fleet's thread counts.
    pub stats: Arc<FleetStats>,
    /// The way to ask it.
    pub inquiries: Inquiries,
}

/// A number of the fleet.
pub(super) struct FleetMetric {
    /// In the `redis` object of the JSON form.
    json: &'static str,
    /// In Prometheus, which prefixes it with `throng_`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) read: fn(&FleetStats) -> u64,
}

macro_rules! numbers {
    ($($kind:ident $field:ident $json:literal $help:literal)*) => {
        /// Every number, in the order they are shown.
        pub(super) const FLEET_METRICS: &[FleetMetric] = &[
            $(FleetMetric {
                json: $json,
                name: concat!("redis_", stringify!($field)),
                kind: Kind::$kind,
                help: $help,
                read: |stats| stats.$field.load(Ordering::Relaxed),
            },)*
        ];
    };
}

numbers! {
    Gauge last_echo_us "echoUs" "how long the last echo was under way, in microseconds"
    Gauge outbox_messages "outboxMessages" "messages that wait for Redis"
    Gauge outbox_bytes "outboxBytes" "their bytes"
    Counter published "published" "messages that Redis has numbered for this host"
    Counter refused "refused" "messages refused: Redis away for too long, or it refused them"
    Counter duplicates "duplicates" "publishes that were repetitions"
    Counter delivered "delivered" "messages delivered from the order of Redis"
    Counter dropped_twice "droppedTwice" "messages that came twice and were dropped"
    Counter connects "connects" "connections to Redis that were made"
    Counter breaks "breaks" "connections that broke"
    Counter repairs "repairs" "rooms repaired"
    Counter broken "broken" "rooms whose repair found that something is missing"
    Counter forks "forks" "rooms whose numbers had been given twice, or begun anew"
    Counter swept_behind "sweptBehind" "rooms that only a sweep found behind: each is a bug"
    Gauge rooms "rooms" "rooms subscribed to"
    Gauge hosts "hosts" "hosts of the fleet that live, this one included"
    Counter reaped "reaped" "members of dead hosts that this one has removed"
    Counter recovered "recovered" "sessions of other hosts recovered here"
    Counter unrecovered "unrecovered" "sessions that could not be"
    Counter adapter_received "adapterReceived" "packets from Node servers"
    Counter adapter_sent "adapterSent" "packets to Node servers"
    Counter adapter_malformed "adapterMalformed" "packets from Node servers that made no sense"
}

impl FleetView {
    /// As `/health` says it.
    pub(super) fn state(&self) -> &'static str {
        if self.stats.is_up() { "ok" } else { "down" }
    }

    /// Whole seconds since Redis was there, or since the start: what is over within one is no
    /// outage, it is counted as a break.
    pub(super) fn down_seconds(&self, now_ms: u64) -> u64 {
        match self.stats.down_since_ms.load(Ordering::Relaxed) {
            0 => 0,
            since_ms => now_ms.saturating_sub(since_ms) / 1000,
        }
    }

    /// How long ago something published here last came back; `None`: nothing has yet.
    pub(super) fn echo_age_ms(&self, now_ms: u64) -> Option<u64> {
        let echoed_at_ms = self.stats.echoed_at_ms.load(Ordering::Relaxed);
        (echoed_at_ms > 0).then(|| now_ms.saturating_sub(echoed_at_ms))
    }

    /// What takes time, by name in Prometheus and in JSON: p50, p99 and the longest, lately.
    pub(super) fn latencies(&self) -> [(&'static str, &'static str, [u64; 3]); 4] {
        let stats = &self.stats;
        [
            ("publish", "publishLatency", &stats.publish_us),
            ("delivery", "deliveryLatency", &stats.delivery_us),
            ("round_trip", "roundTripLatency", &stats.round_trip_us),
            ("repair", "repairLatency", &stats.repair_us),
        ]
        .map(|(name, json, histogram)| (name, json, latency(&locked(histogram))))
    }

    /// How long pipelines took lately by their first command: p50, p99 and the longest.
    pub(super) fn commands(&self) -> Vec<(Box<str>, [u64; 3])> {
        let commands = locked(&self.stats.commands_us);
        commands.iter().map(|(command, histogram)| (command.clone(), latency(histogram))).collect()
    }

    /// The `redis` object of `/metrics`.
    pub(super) fn report(&self, now_ms: u64) -> Value {
        let mut out = Map::new();
        out.insert("kind".to_owned(), self.kind.into());
        out.insert("up".to_owned(), self.stats.is_up().into());
        out.insert("ready".to_owned(), self.stats.is_ready().into());
        out.insert("downSeconds".to_owned(), self.down_seconds(now_ms).into());
        out.insert("echoAgeMs".to_owned(), self.echo_age_ms(now_ms).into());
        for metric in FLEET_METRICS {
            out.insert(metric.json.to_owned(), (metric.read)(&self.stats).into());
        }
        for (_, name, [p50, p99, max]) in self.latencies() {
            let latency = json!({"unit": "us", "p50": p50, "p99": p99, "max": max});
            out.insert(name.to_owned(), latency);
        }
        let commands = self.commands().into_iter().map(|(command, [p50, p99, max])| {
            (command.into(), json!({"unit": "us", "p50": p50, "p99": p99, "max": max}))
        });
        out.insert("commandLatency".to_owned(), Value::Object(commands.collect()));
        Value::Object(out)
    }

    /// The keys of rooms that have members on any host; `None`: Redis does not answer.
    pub(super) async fn rooms(&self, after: &str, limit: usize) -> Option<Vec<Box<str>>> {
        in_time(self.inquiries.rooms(Some(after).filter(|it| !it.is_empty()), limit)).await
    }

    /// A room of another host, if there is one; the outer `None`: Redis does not answer.
    pub(super) async fn room(&self, key: &str) -> Option<Option<Elsewhere>> {
        let found = in_time(self.inquiries.summary(key)).await?;
        Some(found.and_then(|json| Elsewhere::parse(&json)))
    }

    /// Lines of a list for rooms of other hosts, in the order of `keys`; with `private` all of
    /// them. A room that is not known is left out: nothing says whether it may be shown. `None`:
    /// Redis does not answer.
    pub(super) async fn lines(
        &self,
        keys: &[Box<str>],
        private: bool,
    ) -> Option<Vec<(Box<str>, Value)>> {
        let mut lines = Vec::with_capacity(keys.len());
        // A summary may be as long as a list of participants: few at once.
        for keys in keys.chunks(SUMMARIES_AT_ONCE_MAX) {
            let mut asked = JoinSet::new();
            for (index, key) in keys.iter().cloned().enumerate() {
                let fleet = self.clone();
                asked.spawn(async move { (index, fleet.room(&key).await) });
            }
            let mut found = vec![None; keys.len()];
            while let Some(answer) = asked.join_next().await {
                let (index, room) = answer.ok()?;
                let room = room?.filter(|room| private || !room.is_private);
                found[index] = room.and_then(|room| room.line());
            }
            let known = keys.iter().zip(found).filter_map(|(key, line)| Some((key.clone(), line?)));
            lines.extend(known);
        }
        Some(lines)
    }
}

async fn in_time<T>(answer: impl Future<Output = Option<T>>) -> Option<T> {
    timeout(Duration::from_millis(FLEET_ANSWER_MS), answer).await.ok().flatten()
}

/// A room as another host has shown it in Redis.
#[derive(Debug)]
pub(super) struct Elsewhere {
    pub(super) is_private: bool,
    json: Box<str>,
}

/// What all hosts must know of a shown room before anybody sees it.
#[derive(Deserialize)]
struct Hidden {
    #[serde(default)]
    private: bool,
}

/// A shown room as a line of a list; its participants are not looked at where they are counted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Brief<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    participants: &'a RawValue,
    count: Option<u64>,
    #[serde(borrow)]
    sharing: Option<&'a RawValue>,
    last_seq: Option<u64>,
    created_at: Option<u64>,
}

impl Elsewhere {
    /// Anyone who writes to Redis may have written it: what makes no sense is no room.
    fn parse(json: &str) -> Option<Self> {
        // As a sequence its values would be taken in the order of the keys.
        let json = json.trim_start();
        let Hidden { private } =
            serde_json::from_str(json).ok().filter(|_| json.starts_with('{'))?;
        Some(Self { is_private: private, json: json.into() })
    }

    fn line(&self) -> Option<Value> {
        let brief: Brief<'_> = serde_json::from_str(&self.json).ok()?;
        let count = brief.count.or_else(|| brief.participants.get().parse().ok());
        Some(json!({
            "id": brief.id,
            "participants": count,
            "sharing": brief.sharing.map_or_else(|| json!([]), |ids| json!(ids)),
            "lastSeq": brief.last_seq,
            "createdAt": brief.created_at,
        }))
    }

    /// The whole of it, as `GET /api/rooms/{id}` shows a room.
    pub(super) fn whole(&self) -> Value {
        let mut room: Map<String, Value> = serde_json::from_str(&self.json).unwrap_or_default();
        room.remove("private");
        Value::Object(room)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use throng_bridge::fleet::{Adapter, Fleet, FleetPlan, Target};

    use super::*;

    /// A fleet whose Redis is not there; its thread ends with what comes second.
    pub(in crate::control) fn view() -> (FleetView, Fleet) {
        let plan = FleetPlan {
            target: Target::from_parts("127.0.0.1", 1, None),
            prefix: "".into(),
            host: 7,
            pool_size: 1,
            history_size: 1,
            history_ttl_ms: 1000,
            recovery_window_ms: 0,
            adapter: Adapter::Off,
        };
        let (fleet, _lines) = Fleet::start(plan, 1).expect("a thread");
        let (stats, inquiries) = (Arc::default(), fleet.inquiries());
        (FleetView { kind: "standalone", stats, inquiries }, fleet)
    }

    #[test]
    fn the_report_says_what_was_counted() {
        let (fleet, _thread) = view();
        let stats = &fleet.stats;
        stats.down_since_ms.store(5000, Ordering::Relaxed);
        assert_eq!((fleet.state(), fleet.down_seconds(5999)), ("down", 0));
        let report = fleet.report(65_000);
        assert_eq!((&report["up"], &report["downSeconds"]), (&json!(false), &json!(60)));
        assert_eq!(report["echoAgeMs"], Value::Null, "nothing has come back yet");

        stats.down_since_ms.store(0, Ordering::Relaxed);
        stats.is_fresh.store(true, Ordering::Relaxed);
        stats.echoed_at_ms.store(4000, Ordering::Relaxed);
        stats.outbox_messages.store(7, Ordering::Relaxed);
        stats.swept_behind.store(2, Ordering::Relaxed);
        locked(&stats.round_trip_us).record_n(2000, 9).expect("within bounds");
        let report = fleet.report(5000);
        assert_eq!((&report["up"], &report["ready"]), (&json!(true), &json!(true)));
        assert_eq!((&report["downSeconds"], &report["echoAgeMs"]), (&json!(0), &json!(1000)));
        assert_eq!((&report["outboxMessages"], &report["sweptBehind"]), (&json!(7), &json!(2)));
        let p99 = report["roundTripLatency"]["p99"].as_u64().expect("a number");
        assert!((1980..=2020).contains(&p99), "{p99}");
        assert_eq!(report["publishLatency"]["max"], json!(0));
        assert_eq!(fleet.state(), "ok");
    }

    #[test]
    fn each_number_has_one_name_in_each_form() {
        for names in [FLEET_METRICS.iter().map(|it| it.json).collect::<Vec<_>>(), {
            FLEET_METRICS.iter().map(|it| it.name).collect()
        }] {
            let mut unique = names.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), names.len());
        }
    }

    #[test]
    fn a_room_of_another_host_is_shown_as_one_of_this() {
        let json = r#"{"id":"lobby","participants":[{"id":"x"}],"count":5000,
            "sharing":["x"],"lastSeq":7,"createdAt":8,"private":true}"#;
        let room = Elsewhere::parse(json).expect("a room");
        assert!(room.is_private);
        let line = json!({
            "id": "lobby", "participants": 5000, "sharing": ["x"], "lastSeq": 7, "createdAt": 8,
        });
        assert_eq!(room.line(), Some(line));
        let whole = json!({
            "id": "lobby", "participants": [{"id": "x"}], "count": 5000, "sharing": ["x"],
            "lastSeq": 7, "createdAt": 8,
        });
        assert_eq!(room.whole(), whole, "and nobody is told that it could be private");
    }

    #[test]
    fn a_room_may_be_any_applications_and_what_is_none_is_left_out() {
        let room = Elsewhere::parse(r#"{"id":"a","participants":3}"#).expect("a room");
        assert!(!room.is_private);
        let line = room.line().expect("a line");
        assert_eq!((&line["id"], &line["participants"]), (&json!("a"), &json!(3)));
        assert_eq!((&line["sharing"], &line["lastSeq"]), (&json!([]), &Value::Null));
        for json in ["", "{", "null", "7", "[true]", r#"{"private":1}"#, r#"{"id":"a"} x"#] {
            assert!(Elsewhere::parse(json).is_none(), "{json}");
        }
    }
}
