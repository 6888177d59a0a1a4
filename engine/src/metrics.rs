//! What is counted, per shard, without a lock: plain cells that their shard alone writes and the
//! control thread reads.
//!
//! One table names every cell with its meaning; `/metrics` in both its forms follows from it.
//! Labels come only from closed lists: never a room, a user or anything a client sent.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread writes and any may read: a plain load and store, no locked operation.
#[derive(Default, Debug)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds to it. Only its shard may.
    pub fn add(&self, count: u64) {
        self.set(self.read().wrapping_add(count));
    }

    /// Subtracts from it. Only its shard may.
    pub fn sub(&self, count: u64) {
        self.set(self.read().wrapping_sub(count));
    }

    /// Sets it. Only its shard may.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Its value.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether a cell only rises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// A cell's name and meaning, and how to read it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// In snake case; Prometheus prefixes it with `throng_`.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// What it counts.
    pub help: &'static str,
    /// Reads it.
    pub read: fn(&Cells) -> u64,
}

macro_rules! cells {
    ($($kind:ident $name:ident $help:literal)*) => {
        /// The cells of one shard.
        #[derive(Default, Debug)]
        pub struct Cells {
            $(#[doc = $help] pub $name: Cell,)*
        }

        /// Every cell, in the order they are shown.
        pub const METRICS: &[Metric] = &[
            $(Metric {
                name: stringify!($name),
                kind: Kind::$kind,
                help: $help,
                read: |cells| cells.$name.read(),
            },)*
        ];
    };
}

cells! {
    Gauge connections "open connections"
    Gauge sockets "connected Socket.IO sockets"
    Gauge sessions_polling "sessions whose client polls"
    Gauge sockets_away "sockets whose connection broke and that may come back"
    Gauge recovery_bytes "bytes of events held for recovery"
    Gauge rooms "rooms whose home this shard is"
    Gauge memberships "memberships of this shard's sockets"
    Gauge history_bytes "bytes of recent messages held"
    Gauge outbox_frames "frames waiting to be sent"
    Gauge mesh_backlog "envelopes held back for other shards"
    Counter accepted "connections accepted"
    Counter refused_full "connections refused: MAX_CONNECTIONS reached"
    Counter refused_ip "connections refused: MAX_CONNECTIONS_PER_IP reached"
    Counter refused_slots "connections refused: the ring's table was full"
    Counter refused_request "requests refused before the upgrade: malformed, unsupported or foreign"
    Counter http_requests "connections handed to the control thread"
    Counter http_refused "connections not handed over: the control thread serves its limit"
    Counter bytes_received "bytes received"
    Counter packets_received "Engine.IO packets and plain messages received"
    Counter events_received "Socket.IO events received"
    Counter messages_published "messages numbered"
    Counter messages_repeated "messages that had been numbered before (clientId)"
    Counter deliveries "events queued for members of rooms"
    Counter frames_sent "frames handed to the kernel"
    Counter bytes_sent "bytes handed to the kernel"
    Counter polls_answered "requests of polling clients answered"
    Counter upgraded "sessions that went from polling to WebSocket"
    Counter moved_out "connections and sessions that went to another shard"
    Counter moved_in "connections and sessions that came from another shard"
    Counter move_failed "connections that could not go to another shard"
    Counter recovered "sockets that came back and missed nothing"
    Counter recovery_refused "sockets that came back too late, or to too much forgotten"
    Counter pings_sent "Engine.IO pings sent"
    Counter pongs_received "Engine.IO pongs received"
    Counter undelivered_slow_consumer "events not delivered: connection closed as a slow consumer"
    Counter undelivered_dropped "events not delivered: dropped from a slow consumer's outbox"
    Counter undelivered_volatile "volatile events not sent to connections that were behind"
    Counter undelivered_closed "events not delivered: connection closed with events waiting"
    Counter undelivered_mesh "deliveries to a shard not made: its queue was full"
    Counter refused_rate "requests refused: rate limit"
    Counter refused_typing "typing events dropped: rate limit"
    Counter refused_unavailable "messages refused: a shard or the bridge could not take them"
    Counter refused_connect "CONNECT requests refused by the application"
    Counter closed_peer "connections closed by the peer"
    Counter closed_answered "connections closed after an answer, as the client wished"
    Counter closed_replaced "connections closed: their client came back on another"
    Counter closed_error "connections closed: transport error"
    Counter closed_ping_timeout "connections closed: no pong in time"
    Counter closed_handshake_timeout "connections closed: no complete request in time"
    Counter closed_connect_timeout "connections closed: no CONNECT in time"
    Counter closed_violation "connections closed: WebSocket protocol violation"
    Counter closed_bad_packet "connections closed: Engine.IO or Socket.IO parse error"
    Counter closed_slow_consumer "connections closed: slow consumer"
    Counter closed_application "connections closed by the application"
    Counter closed_draining "connections closed: the host is draining"
    Counter closed_refused "connections closed after an error answer"
    Counter mesh_held_back "batches that found another shard's queue full"
    Counter ring_buffers_exhausted "receives that found no free buffer"
    Counter ring_receives_rearmed "receives armed again after a completion overflow"
    Counter ring_sends_resumed "sends that the kernel took in parts"
    Counter ring_accepts_failed "accepts that failed"
    Counter turns "turns of the shard's loop"
    Counter sleeps "sleeps in the executor, after a second without an event"
}
