//! What time brings: pings, timeouts, rooms that are due, the sweep, commands.

use std::io;

use throng_ring::{Ring, memory};

use super::{Command, Core};
use crate::app::App;
use crate::clock::has_come;
use crate::close::Reason;
use crate::codec;
use crate::limits::{RELEASE_AFTER_CHURN, SWEEP_INTERVAL_MS};
use crate::outbox::Class;
use crate::table::{Due, Phase};

impl<A: App> Core<A> {
    /// Handles everything that is due.
    pub(super) fn on_time(&mut self, ring: &mut Ring) -> io::Result<()> {
        while let Some(slot) = self.wheel.poll_expired(self.now.ms()) {
            self.on_deadline(slot);
        }
        self.homes.on_time(&mut self.app, &mut self.out, self.now);
        self.route();
        while let Some(expired) = self.collections.poll_expired(self.now.ns / 1_000_000) {
            self.on_collected(Some(expired));
            self.route();
        }
        while let Ok(command) = self.commands.try_recv() {
            self.on_command(ring, command)?;
        }
        self.drain_some();
        Ok(())
    }

    fn on_deadline(&mut self, slot: u32) {
        let now_ms = self.now.ms();
        let conn = self.table.conn(slot);
        let Some(row) = self.table.row(slot) else { return };
        let reason = match &mut row.phase {
            Phase::Request(held) if held.is_empty() => Reason::Answered,
            Phase::Request(_) | Phase::Exchange(_) | Phase::Moving(_) | Phase::Arriving(_) => {
                Reason::HandshakeTimeout
            }
            Phase::Probe(_) => Reason::PingTimeout,
            Phase::Closing { .. } => return self.closes.push(conn),
            Phase::Away(_) => return self.on_away_expired(slot),
            Phase::Vacant | Phase::HandingOver(_) | Phase::Upgraded(_) | Phase::Elsewhere(_) => {
                return;
            }
            Phase::Polling(polling) if polling.ended_until_ms.is_some() => {
                return self.remove_session(slot);
            }
            Phase::Polling(polling) if polling.is_noop_due(now_ms) => {
                self.answer_noop(slot);
                return self.arm(slot);
            }
            Phase::Polling(polling) => {
                match polling.link.on_deadline(now_ms, &self.bounds.timing) {
                    Due::End(reason) => reason,
                    due => return self.beat(slot, due),
                }
            }
            Phase::Live(live) => match live.link.on_deadline(now_ms, &self.bounds.timing) {
                Due::End(reason) => reason,
                due => return self.beat(slot, due),
            },
        };
        self.close(slot, reason);
        self.route();
    }

    fn beat(&mut self, slot: u32, due: Due) {
        let frame = match due {
            Due::EnginePing => self.ping.clone(),
            Due::WebSocketPing => codec::ws_ping_frame(),
            Due::Nothing | Due::End(_) => return self.arm(slot),
        };
        self.cells.pings_sent.add(1);
        self.queue(slot, frame, Class::Control);
        self.arm(slot);
    }

    pub(super) fn on_command(&mut self, ring: &mut Ring, command: Command<A>) -> io::Result<()> {
        match command {
            Command::Look(look) => look(&self.app, &mut self.homes, self.now),
            Command::Latency(look) => look(&self.latency_us),
            Command::Drain { spread_ms } => {
                ring.stop_accepting()?;
                self.start_drain(spread_ms);
            }
            Command::Stop => self.stop = true,
        }
        Ok(())
    }

    /// After many connections have come or gone, gives back what they needed; once they are quiet,
    /// and again a while later, since the allocator lets go of some pages only then.
    fn release_memory(&mut self, ring: &mut Ring) {
        let connections = 2 * self.cells.accepted.read() + self.cells.moved_in.read();
        let churn = connections.saturating_sub(self.cells.connections.read()) + self.sessions_churn;
        // One that is on its way here may be counted open before it is counted in.
        if churn.saturating_sub(self.churn_released) >= RELEASE_AFTER_CHURN {
            self.churn_released = churn;
            self.releases_due = 3;
        } else if self.releases_due > 0 {
            self.releases_due -= 1;
            ring.release_unused();
            self.table.release_unused();
            self.wheel.release_unused();
            self.inbox.shrink_to_fit();
            self.out.shrink_to_fit();
            memory::release_unused();
        }
    }

    /// Once a second, at the end of a turn: what need not be exact.
    pub(super) fn sweep(&mut self, ring: &mut Ring) -> io::Result<()> {
        if !has_come(self.next_sweep_ms, self.now.ms()) {
            return Ok(());
        }
        self.next_sweep_ms = self.now.ms().wrapping_add(SWEEP_INTERVAL_MS);
        self.homes.expire(self.now);
        self.forget();
        self.sweep_owed();
        self.sweep_abroad();
        self.sweep_gate();
        self.sweep_arrivals();
        let cells = &self.cells;
        cells.rooms.set(self.homes.count() as u64);
        cells.history_bytes.set(self.homes.held_bytes() as u64);
        cells.outbox_frames.set(self.table.waiting_frames() as u64);
        cells.mesh_held_back.set(self.mesh.held_back_count());
        let counters = ring.counters();
        cells.ring_buffers_exhausted.set(counters.buffers_exhausted);
        cells.ring_receives_rearmed.set(counters.receives_rearmed);
        cells.ring_sends_resumed.set(counters.sends_resumed);
        cells.ring_accepts_failed.set(counters.accepts_failed);
        self.release_memory(ring);
        ring.resume_accepts()
    }
}
