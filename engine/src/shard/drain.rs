//! Shutting down: connections are closed at a pace, so that clients do not come back all at once.
//!
//! Never a Socket.IO DISCONNECT, after which official clients would not come back at all.

use super::Core;
use crate::app::App;
use crate::close::Reason;
use crate::limits::DRAIN_PER_SECOND_MIN;
use crate::table::Phase;

/// How far a shard has come.
pub(super) struct Drain {
    started_ns: u64,
    /// Connections to close per second.
    per_second: u64,
    closed: u64,
    next_slot: u32,
}

impl<A: App> Core<A> {
    /// Begins; a later call may only hurry it.
    pub(super) fn start_drain(&mut self, spread_ms: u32) {
        let connections = self.cells.connections.read();
        let per_second = match spread_ms {
            0 => u64::MAX,
            ms => (connections * 1000 / u64::from(ms)).max(DRAIN_PER_SECOND_MIN),
        };
        let started_ns = self.now.ns;
        self.drain = Some(Drain { started_ns, per_second, closed: 0, next_slot: 0 });
    }

    /// Closes as many connections as it is time for.
    pub(super) fn drain_some(&mut self) {
        let Some(mut drain) = self.drain.take() else { return };
        let elapsed_ms = (self.now.ns - drain.started_ns) / 1_000_000 + 1;
        let due = drain.per_second.saturating_mul(elapsed_ms) / 1000 + 1;
        while drain.closed < due && drain.next_slot < self.table.end() {
            let slot = drain.next_slot;
            drain.next_slot += 1;
            let phase = self.table.row(slot).map(|row| &row.phase);
            if matches!(phase, Some(Phase::Live(_) | Phase::Request(_) | Phase::Polling(_))) {
                drain.closed += 1;
                self.close(slot, Reason::Draining);
                self.route();
            }
        }
        // Connections accepted while the listener was closing have low slots again.
        if drain.next_slot >= self.table.end() {
            drain.next_slot = 0;
        }
        self.drain = Some(drain);
    }
}
