//! What leaves a shard: frames, closes, hand-overs, batches.

use std::io;
use std::mem;
use std::sync::OnceLock;

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
        let mut link = match &mut row.phase {
            Phase::Polling(polling) if polling.ended_until_ms.is_some() => return,
            Phase::Polling(_) => return self.close_polling(slot, reason),
            Phase::Vacant
            | Phase::Closing { .. }
            | Phase::HandingOver(_)
            | Phase::Upgraded(_)
            | Phase::Elsewhere(_)
            | Phase::Away(_) => return,
            Phase::Exchange(_) => {
                self.abort_exchange(slot);
                None
            }
            Phase::Live(_) => match mem::replace(&mut row.phase, Phase::Vacant) {
                Phase::Live(live) => Some(live),
                _ => None,
            },
            _ => None,
        };
        let stub = link.as_ref().and_then(|live| live.link.stub());
        if let Some(live) = &mut link {
            self.detach(&mut live.link, reason);
        }
        if let Some(key) = stub {
            self.release_stub(key);
        }
        reason.cell(&self.cells).add(1);
        let mut manner = reason.manner();
        let Some(row) = self.table.row(slot) else { return };
        let speaks_frames = link.is_some() || matches!(row.phase, Phase::Probe(_));
        let answered = matches!(reason, Reason::Refused | Reason::Answered);
        if !speaks_frames && !answered {
            // It has not been told that this is a WebSocket: a close frame would be noise.
            manner = Manner::Cut;
        }
        let peer_done = reason == Reason::Peer;
        let closing = Phase::Closing { peer_done, finished: false, ignored_bytes: 0 };
        if let Phase::Probe(probe) = mem::replace(&mut row.phase, closing) {
            self.probe_ended(probe.session, conn);
        }
        match manner {
            Manner::Cut => {
                self.drop_waiting(slot, reason);
                self.closes.push(conn);
            }
            Manner::Finish => self.table.mark(slot),
            Manner::CloseFrame(code) => {
                self.queue(slot, codec::close_frame(code), Class::Control);
            }
        }
        self.arm(slot);
    }

    /// Ends a session that has no connection of its own.
    fn close_polling(&mut self, slot: u32, reason: Reason) {
        let Some(row) = self.table.row(slot) else { return };
        let Phase::Polling(mut polling) = mem::replace(&mut row.phase, Phase::Vacant) else {
            return;
        };
        self.detach(&mut polling.link, reason);
        if let Some(row) = self.table.row(slot) {
            row.phase = Phase::Polling(polling);
        }
        reason.cell(&self.cells).add(1);
        self.end_polling(slot, reason);
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
        let waits =
            matches!(row.phase, Phase::Closing { .. } | Phase::Moving(_) | Phase::HandingOver(_));
        if waits || !row.queue.is_empty() {
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
        self.flush_mesh();
        self.record_latency();
        Ok(())
    }

    fn flush_connection(&mut self, ring: &mut Ring, slot: u32) -> io::Result<()> {
        let conn = self.table.conn(slot);
        let Some(row) = self.table.get(conn) else { return Ok(()) };
        if matches!(row.phase, Phase::Polling(_)) {
            self.flush_polling(slot);
            self.route();
            return Ok(());
        }
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
        match &mut row.phase {
            Phase::Closing { peer_done: true, .. } => self.closes.push(conn),
            Phase::Closing { finished, .. } if !*finished => {
                *finished = true;
                self.shutdowns.push(conn);
            }
            Phase::HandingOver(_) => ring.hand_over(conn)?,
            Phase::Moving(_) => self.start_transfer(ring, conn)?,
            _ => {}
        }
        Ok(())
    }

    /// What a moving connection owed has been sent: its socket goes to the other ring.
    fn start_transfer(&mut self, ring: &mut Ring, conn: Conn) -> io::Result<()> {
        let Some(row) = self.table.get(conn) else { return Ok(()) };
        let Phase::Moving(moving) = &mut row.phase else { return Ok(()) };
        if moving.token.is_some() {
            return Ok(());
        }
        let Some(address) = self.rings.get(usize::from(moving.shard)).and_then(OnceLock::get)
        else {
            let gone = io::Error::from(io::ErrorKind::NotFound);
            self.on_transferred(conn, Err(gone));
            return Ok(());
        };
        self.tokens = self.tokens.wrapping_add(1);
        let token = u64::from(self.mesh.index()) << 32 | u64::from(self.tokens);
        moving.token = Some(token);
        ring.transfer(conn, address, token)
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
