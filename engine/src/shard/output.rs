//! What leaves a shard: frames, closes, hand-overs, batches.

use std::io;

use throng_ring::{Conn, Frame, Ring};

use super::Core;
use crate::app::App;
use crate::close::{Manner, Reason};
use crate::codec;
use crate::limits::MESH_BACKLOG_MAX;
use crate::outbox::Class;
use crate::table::{Phase, Queued};

impl<A: App> Core<A> {
    /// Queues a frame. False if the connection owes too much and must be closed.
    pub(super) fn queue(&mut self, slot: u32, frame: Frame, class: Class) -> bool {
        match self.table.queue(slot, frame, class) {
            Queued::Yes => true,
            Queued::InsteadOf(events) => {
                self.cells.undelivered_dropped.add(events.into());
                true
            }
            Queued::Exceeds => {
                if class == Class::Event {
                    self.cells.undelivered_slow_consumer.add(1);
                }
                false
            }
        }
    }

    /// Ends a connection. The one way to: takes its socket out of everything, counts the reason,
    /// and takes the transport down in the reason's manner.
    pub(super) fn close(&mut self, slot: u32, reason: Reason) {
        let conn = self.table.conn(slot);
        let Some(row) = self.table.row(slot) else { return };
        if matches!(row.phase, Phase::Vacant | Phase::Closing { .. } | Phase::HandingOver(_)) {
            return;
        }
        if let Some(socket) = self.take_socket(slot) {
            self.detach(slot, socket, reason.text());
        }
        reason.cell(&self.cells).add(1);
        let mut manner = reason.manner();
        if let Some(row) = self.table.row(slot) {
            if matches!(row.phase, Phase::Request(_)) && reason != Reason::Refused {
                // It has not been told that this is a WebSocket: a close frame would be noise.
                manner = Manner::Cut;
            }
            let peer_done = reason == Reason::Peer;
            row.phase = Phase::Closing { peer_done, finished: false, ignored_bytes: 0 };
        }
        match manner {
            Manner::Cut => {
                self.drop_waiting(slot, reason);
                self.closes.push(conn);
            }
            Manner::Finish => self.table.mark(slot),
            Manner::CloseFrame(code) => {
                self.queue(slot, Frame::new(codec::close_frame(code)), Class::Control);
            }
        }
        self.arm(slot);
    }

    /// Counts what will not be delivered.
    fn drop_waiting(&mut self, slot: u32, reason: Reason) {
        let events = self.table.drop_waiting(slot) as u64;
        match reason {
            Reason::SlowConsumer => self.cells.undelivered_slow_consumer.add(events),
            _ => self.cells.undelivered_closed.add(events),
        }
    }

    /// The send in flight is over.
    pub(super) fn on_sent(&mut self, conn: Conn) {
        let Some(row) = self.table.get(conn) else { return };
        self.cells.bytes_sent.add(row.sending_bytes.into());
        row.sending_bytes = 0;
        row.sending_events = 0;
        if !row.queue.is_empty() || matches!(row.phase, Phase::Closing { .. }) {
            self.table.mark(conn.slot);
        }
    }

    /// Lets everything go that this turn has queued.
    pub(super) fn flush(&mut self, ring: &mut Ring) -> io::Result<()> {
        if self.table.is_dirty() && self.now.ns >= self.next_flush_ns {
            self.next_flush_ns = self.now.ns + self.config.flush_interval.as_nanos() as u64;
            while let Some(slot) = self.table.next_dirty() {
                self.flush_connection(ring, slot)?;
            }
        }
        while let Some(conn) = self.shutdowns.pop() {
            ring.shutdown(conn)?;
        }
        while let Some(conn) = self.closes.pop() {
            if self.table.get(conn).is_some() {
                self.drop_waiting(conn.slot, Reason::Peer);
            }
            ring.close(conn)?;
        }
        while let Some(conn) = self.hand_overs.pop() {
            ring.hand_over(conn)?;
        }
        self.flush_mesh();
        self.record_latency();
        Ok(())
    }

    fn flush_connection(&mut self, ring: &mut Ring, slot: u32) -> io::Result<()> {
        let conn = self.table.conn(slot);
        let Some(row) = self.table.get(conn) else { return Ok(()) };
        if row.sending_bytes > 0 {
            return Ok(());
        }
        let waiting = row.queue.frames();
        if waiting > 0 {
            ring.send(conn, self.table.take_frames(slot))?;
            let left = self.table.row(slot).map_or(0, |row| row.queue.frames());
            self.cells.frames_sent.add((waiting - left) as u64);
            return Ok(());
        }
        if let Phase::Closing { peer_done, finished, .. } = &mut row.phase {
            if *peer_done {
                self.closes.push(conn);
            } else if !*finished {
                *finished = true;
                self.shutdowns.push(conn);
            }
        }
        Ok(())
    }

    fn flush_mesh(&mut self) {
        let held_back = self.mesh.flush();
        if held_back || self.cells.mesh_backlog.read() > 0 {
            let mut backlog = 0;
            for shard in 0..self.mesh.shards() {
                let waiting = self.mesh.backlog(shard);
                self.homes.set_congested(shard, waiting > MESH_BACKLOG_MAX);
                backlog += waiting as u64;
            }
            self.cells.mesh_backlog.set(backlog);
        }
    }

    /// From the arrival of a broadcast's cause to its hand-over to the kernel.
    fn record_latency(&mut self) {
        if self.fanouts.is_empty() {
            return;
        }
        let now_ns = self.clock.ns();
        for (since_ns, count) in self.fanouts.drain(..) {
            let us = now_ns.saturating_sub(since_ns) / 1000;
            self.latency_us.saturating_record_n(us, count);
        }
    }
}
