//! Shutting down: connections are closed at a pace, so that clients do not come back all at once.
//!
//! Never a Socket.IO DISCONNECT, after which official clients would not come back at all.

use std::mem;

use super::Core;
use crate::app::App;
use crate::clock::has_come;
use crate::close::Reason;
use crate::limits::{DRAIN_PER_SECOND_MIN, DRAIN_REQUESTS_MS};
use crate::table::Phase;

/// How far a shard has come.
pub(super) struct Drain {
    started_ns: u64,
    /// Connections to close per second.
    per_second: u64,
    closed: u64,
    next_slot: u32,
    /// Whether this pass over the table has closed a session.
    found: bool,
    /// Whether it is the turn of connections that carry requests: a polling client fetches the
    /// end of its session with its next one, and nobody accepts another connection of it.
    requests_too: bool,
    /// Before this, in milliseconds of the shard's clock, it never is.
    requests_at_ms: u32,
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
        let grace_ms = if spread_ms == 0 { 0 } else { DRAIN_REQUESTS_MS };
        let requests_at_ms = self.now.ms().wrapping_add(grace_ms);
        self.drain = Some(Drain {
            started_ns,
            per_second,
            closed: 0,
            next_slot: 0,
            found: false,
            requests_too: spread_ms == 0,
            requests_at_ms,
        });
    }

    /// Closes as many connections as it is time for.
    pub(super) fn drain_some(&mut self) {
        let Some(mut drain) = self.drain.take() else { return };
        let elapsed_ms = (self.now.ns - drain.started_ns) / 1_000_000 + 1;
        let due = drain.per_second.saturating_mul(elapsed_ms) / 1000 + 1;
        while drain.closed < due && drain.next_slot < self.table.end() {
            let slot = drain.next_slot;
            drain.next_slot += 1;
            let ends = match self.table.row(slot).map(|row| &row.phase) {
                Some(Phase::Live(_)) => true,
                Some(Phase::Polling(polling)) => polling.ended_until_ms.is_none(),
                Some(Phase::Request(_)) => drain.requests_too,
                _ => continue,
            };
            if ends {
                drain.closed += 1;
                drain.found = true;
                self.close(slot, Reason::Draining);
                self.route();
            }
        }
        // Connections accepted while the listener was closing have low slots again.
        if drain.next_slot >= self.table.end() {
            drain.next_slot = 0;
            let late = has_come(drain.requests_at_ms, self.now.ms());
            drain.requests_too |= late && !mem::take(&mut drain.found);
        }
        self.drain = Some(drain);
    }
}
