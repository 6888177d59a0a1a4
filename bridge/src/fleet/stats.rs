//! What the fleet's thread counts, for `/metrics`, `/health`, `/ready` and `/alerts`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::clock::now_ms;

/// Counters and gauges. The fleet's own thread writes them, anyone may read.
#[derive(Debug)]
pub struct FleetStats {
    /// Since when Redis is away, in milliseconds since 1970; 0: it is there. Away from the start.
    pub down_since_ms: AtomicU64,
    /// When the last self-echo came back, in milliseconds since 1970; 0: none yet.
    pub echoed_at_ms: AtomicU64,
    /// Whether the echo is fresh: what is published here comes back.
    pub is_fresh: AtomicBool,
    /// Messages that wait for Redis.
    pub outbox_messages: AtomicU64,
    /// Their bytes.
    pub outbox_bytes: AtomicU64,
    /// Messages Redis has numbered for this host.
    pub published: AtomicU64,
    /// Messages that were refused: Redis away for too long, or it refused them.
    pub refused: AtomicU64,
    /// Publishes that were repetitions: of a client, or of the outbox after a break.
    pub duplicates: AtomicU64,
    /// Messages delivered from Redis's order.
    pub delivered: AtomicU64,
    /// Messages that came twice and were dropped.
    pub dropped_twice: AtomicU64,
    /// Connections to Redis that were made.
    pub connects: AtomicU64,
    /// Connections that broke.
    pub breaks: AtomicU64,
    /// Rooms repaired.
    pub repairs: AtomicU64,
    /// Rooms whose repair found that something is missing.
    pub broken: AtomicU64,
    /// Rooms whose numbers had been given twice, or whose epoch was new.
    pub forks: AtomicU64,
    /// Rooms that a sweep, not an event, found behind: each is a bug.
    pub swept_behind: AtomicU64,
    /// Rooms subscribed to.
    pub rooms: AtomicU64,
    /// Hosts of the fleet that live, this one included.
    pub hosts: AtomicU64,
    /// Members of dead hosts that this one has removed.
    pub reaped: AtomicU64,
    /// Sessions of other hosts recovered here.
    pub recovered: AtomicU64,
    /// Sessions that could not be.
    pub unrecovered: AtomicU64,
    /// Packets from and to Node servers.
    pub adapter_received: AtomicU64,
    /// See [`FleetStats::adapter_received`].
    pub adapter_sent: AtomicU64,
    /// Packets from Node servers that could not be read.
    pub adapter_malformed: AtomicU64,
    /// How long publishes took, from hand-over to Redis's answer, lately; microseconds.
    pub publish_us: Mutex<Histogram<u64>>,
    /// From a message's publishing on any host to its arrival here, by both hosts' clocks.
    pub delivery_us: Mutex<Histogram<u64>>,
    /// How long Redis took for a pipeline, whatever was in it.
    pub round_trip_us: Mutex<Histogram<u64>>,
    /// The same by the pipeline's first command, in lower case.
    pub commands_us: Mutex<BTreeMap<Box<str>, Histogram<u64>>>,
    /// The same for repairs of a room.
    pub repair_us: Mutex<Histogram<u64>>,
    /// How long the last echo was under way, in microseconds.
    pub last_echo_us: AtomicU64,
}

impl Default for FleetStats {
    fn default() -> Self {
        let histogram = || Mutex::new(histogram());
        Self {
            down_since_ms: AtomicU64::new(now_ms()),
            echoed_at_ms: AtomicU64::default(),
            is_fresh: AtomicBool::default(),
            outbox_messages: AtomicU64::default(),
            outbox_bytes: AtomicU64::default(),
            published: AtomicU64::default(),
            refused: AtomicU64::default(),
            duplicates: AtomicU64::default(),
            delivered: AtomicU64::default(),
            dropped_twice: AtomicU64::default(),
            connects: AtomicU64::default(),
            breaks: AtomicU64::default(),
            repairs: AtomicU64::default(),
            broken: AtomicU64::default(),
            forks: AtomicU64::default(),
            swept_behind: AtomicU64::default(),
            rooms: AtomicU64::default(),
            hosts: AtomicU64::default(),
            reaped: AtomicU64::default(),
            recovered: AtomicU64::default(),
            unrecovered: AtomicU64::default(),
            adapter_received: AtomicU64::default(),
            adapter_sent: AtomicU64::default(),
            adapter_malformed: AtomicU64::default(),
            publish_us: histogram(),
            delivery_us: histogram(),
            round_trip_us: histogram(),
            commands_us: Mutex::default(),
            repair_us: histogram(),
            last_echo_us: AtomicU64::default(),
        }
    }
}

impl FleetStats {
    /// Whether the connection to Redis stands.
    pub fn is_up(&self) -> bool {
        self.down_since_ms.load(Ordering::Relaxed) == 0
    }

    /// Whether what is published here is known to come back: a load balancer may send clients.
    pub fn is_ready(&self) -> bool {
        self.is_up() && self.is_fresh.load(Ordering::Relaxed)
    }

    /// Notes how long a pipeline took that began with this command.
    pub(crate) fn note_round_trip(&self, command: &str, time: Duration) {
        note(&self.round_trip_us, time);
        let Ok(mut commands) = self.commands_us.lock() else { return };
        if let Some(known) = commands.get_mut(command) {
            known.saturating_record(time.as_micros() as u64);
        } else {
            let mut new = histogram();
            new.saturating_record(time.as_micros() as u64);
            commands.insert(command.into(), new);
        }
    }

    /// What took long a while ago is no news.
    pub(crate) fn forget_latencies(&self) {
        let all = [&self.publish_us, &self.delivery_us, &self.round_trip_us, &self.repair_us];
        for histogram in all {
            if let Ok(mut histogram) = histogram.lock() {
                histogram.reset();
            }
        }
        if let Ok(mut commands) = self.commands_us.lock() {
            commands.values_mut().for_each(Histogram::reset);
        }
    }
}

/// A microsecond to an hour, two digits.
fn histogram() -> Histogram<u64> {
    let made = Histogram::new_with_bounds(1, 3_600_000_000, 2);
    made.unwrap_or_else(|_| unreachable!("the bounds are valid"))
}

/// Notes a time.
pub(crate) fn note(histogram: &Mutex<Histogram<u64>>, time: Duration) {
    if let Ok(mut histogram) = histogram.lock() {
        histogram.saturating_record(time.as_micros() as u64);
    }
}
