//! Completions: each becomes at most one event, and the next step of its operation.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::cqueue;

use crate::done::Done;
use crate::event::Event;
use crate::ring::Ring;
use crate::slots::{Conn, Flags};
use crate::tag::{Op, Tag};

/// Completions copied out of the queue at a time: it is free again while they are handled.
const BATCH: usize = 256;

impl Ring {
    /// Handles every completion that is there.
    pub(crate) fn reap(&mut self, mut handler: impl FnMut(Event<'_>)) -> io::Result<usize> {
        let mut reaped = 0;
        let mut batch = Vec::new();
        std::mem::swap(&mut batch, &mut self.reaped);
        loop {
            batch.extend(self.io.completion().take(BATCH).map(Done::from));
            if batch.is_empty() {
                break;
            }
            reaped += batch.len();
            for done in batch.drain(..) {
                self.complete(done, &mut handler)?;
            }
        }
        std::mem::swap(&mut batch, &mut self.reaped);
        Ok(reaped)
    }

    fn complete(&mut self, done: Done, handler: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        match done.tag.op {
            Op::Recv => self.on_receive(done, handler),
            Op::Send => self.on_send(done, handler),
            Op::Accept => self.on_accept(done, handler),
            Op::Cancel => self.on_cancel(done),
            Op::Close => self.on_close(done, handler),
            Op::Install => self.on_install(done, handler),
            Op::Shutdown => self.settle(done.tag.conn(), Flags::OTHER),
            Op::Wake => {
                handler(Event::Woken);
                self.arm_wake()
            }
            Op::Timeout => {
                self.timeout_until = None;
                Ok(())
            }
            Op::TimeoutUpdate => Ok(()),
            Op::Socket => self.on_socket(done, handler),
            Op::Bind => self.on_bind(done, handler),
            Op::Connect => self.on_connect(done, handler),
            Op::Transfer => self.on_transfer(done, handler),
            Op::Adopt => self.on_adopt(done, handler),
        }
    }

    fn on_receive(&mut self, done: Done, handler: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        let conn = done.tag.conn();
        let flags = self.slots.row(conn.slot).flags;
        let closing = flags.has(Flags::CLOSING);
        // The ring that has the connection after a transfer meets the end again, and tells it.
        let silent = closing || flags.has(Flags::TRANSFERRING);
        if let Some(buffer) = cqueue::buffer_select(done.flags) {
            if done.result > 0 && !closing {
                let bytes = self.buffers.filled(buffer, done.result as usize);
                handler(Event::Received { conn, bytes });
            }
            self.buffers.recycle(buffer);
        }
        if cqueue::more(done.flags) {
            return Ok(());
        }
        // The arm has ended: for good, for want of buffers, or by overflow of completions.
        match done.value() {
            Ok(0) if silent => {}
            Ok(0) => handler(Event::Ended { conn, error: None }),
            Ok(_) => {
                self.counters.receives_rearmed += 1;
                self.unarmed.push(conn);
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOBUFS) => {
                    self.counters.buffers_exhausted += 1;
                    self.unarmed.push(conn);
                }
                Some(libc::ECANCELED) => {}
                _ if silent => {}
                _ => handler(Event::Ended { conn, error: Some(error) }),
            },
        }
        self.settle(conn, Flags::RECV)
    }

    fn on_send(&mut self, done: Done, handler: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        let conn = done.tag.conn();
        let row = *self.slots.row(conn.slot);
        let closing = row.flags.has(Flags::CLOSING);
        match done.value() {
            Ok(bytes) => {
                let whole = self.sends.advance(row.send, bytes as usize);
                if !whole && !closing {
                    self.counters.sends_resumed += 1;
                    return self.submit_send(conn, row.send);
                }
                self.sends.finish(row.send);
                self.settle(conn, Flags::SEND)?;
                if !closing {
                    handler(Event::Sent { conn });
                }
            }
            Err(error) => {
                self.sends.finish(row.send);
                self.settle(conn, Flags::SEND)?;
                if !closing {
                    handler(Event::SendFailed { conn, error });
                }
            }
        }
        Ok(())
    }

    fn on_accept(&mut self, done: Done, handler: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        let index = done.tag.index;
        match done.value() {
            Ok(slot) => {
                let conn = self.slots.open(slot, Flags::default());
                self.arm_receive(conn)?;
                match self.accepts.as_mut().and_then(|accepts| accepts.peer(index)) {
                    Some(peer) => handler(Event::Accepted { conn, peer }),
                    None => self.close(conn)?,
                }
                self.rearm_accept(index)
            }
            Err(error) => {
                let transient = matches!(error.raw_os_error(), Some(libc::ECONNABORTED));
                if error.raw_os_error() != Some(libc::ECANCELED) {
                    self.counters.accepts_failed += 1;
                    handler(Event::AcceptFailed(error));
                }
                if transient { self.rearm_accept(index) } else { self.pause_accept(index) }
            }
        }
    }

    fn rearm_accept(&mut self, index: u32) -> io::Result<()> {
        match &self.accepts {
            Some(accepts) if !accepts.is_stopped() => self.arm_accept(index),
            _ => self.pause_accept(index),
        }
    }

    fn pause_accept(&mut self, index: u32) -> io::Result<()> {
        if let Some(accepts) = &mut self.accepts {
            accepts.pause(index);
            if accepts.is_stopped() && accepts.is_quiet() {
                self.accepts = None;
            }
        }
        Ok(())
    }

    /// A cancel that came too early or raced a completion is tried again until nothing is left. One
    /// that took is not: its operation ends by itself, though perhaps many turns later. The kernel
    /// runs only some twenty deferred completions in a turn, so that cancelling again all that had
    /// not ended yet made n connections take n² steps to close.
    fn on_cancel(&mut self, done: Done) -> io::Result<()> {
        let conn = done.tag.conn();
        let Some(row) = self.slots.live(conn) else {
            return Ok(());
        };
        let left = row.flags.to_cancel();
        // A cancel by descriptor gives a count instead, so 0 says nothing about the rest.
        let took = done.result == 0 && !left.has(Flags::OTHER);
        if took || left == Flags::default() { Ok(()) } else { self.cancel(conn) }
    }

    fn on_close(&mut self, done: Done, handler: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        let conn = done.tag.conn();
        self.slots.close(conn.slot);
        handler(Event::Closed { conn });
        self.resume_accepts()
    }

    fn on_install(&mut self, done: Done, handler: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        let conn = done.tag.conn();
        let fd = done.value().map(|fd| {
            // SAFETY: the kernel has just installed this descriptor for us; nothing else owns it.
            unsafe { OwnedFd::from_raw_fd(fd as i32) }
        });
        handler(Event::HandedOver { conn, fd });
        let row = self.slots.row(conn.slot);
        row.flags.clear(Flags::OTHER);
        row.flags.set(Flags::CLOSING);
        self.queue_close(conn)
    }

    /// An operation of `conn` is over; does what waited for the last one.
    fn settle(&mut self, conn: Conn, over: Flags) -> io::Result<()> {
        let row = self.slots.row(conn.slot);
        row.flags.clear(over);
        if row.flags.is_busy() {
            return Ok(());
        }
        if row.flags.has(Flags::CLOSING) {
            self.queue_close(conn)
        } else if row.flags.has(Flags::HANDING_OVER) {
            self.queue_install(conn)
        } else if row.flags.has(Flags::TRANSFERRING) {
            self.queue_transfer(conn)
        } else {
            Ok(())
        }
    }

    fn on_socket(&mut self, done: Done, handler: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        let index = done.tag.index;
        let slot = match done.value() {
            Ok(slot) => slot,
            Err(error) => return self.fail_dial(index, error, handler),
        };
        let conn = self.slots.open(slot, Flags::CONNECTING);
        let dial = self.dials.dial(index);
        dial.conn = Some(conn);
        match dial.bind(slot) {
            Some(bind) => {
                self.slots.row(slot).flags.set(Flags::OTHER);
                self.push(bind, Tag::of(Op::Bind, index, 0))
            }
            None => self.queue_connect(index, conn),
        }
    }

    fn on_bind(&mut self, done: Done, handler: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        let index = done.tag.index;
        let conn = self.dials.dial(index).conn;
        match (done.value(), conn) {
            (Ok(_), Some(conn)) => self.queue_connect(index, conn),
            (Ok(_), None) => Ok(()),
            (Err(error), _) => self.fail_dial(index, error, handler),
        }
    }

    fn queue_connect(&mut self, index: u32, conn: Conn) -> io::Result<()> {
        self.slots.row(conn.slot).flags.set(Flags::OTHER);
        let connect = self.dials.dial(index).connect(conn.slot);
        self.push(connect, Tag::of(Op::Connect, index, 0))
    }

    fn on_connect(&mut self, done: Done, handler: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        let index = done.tag.index;
        if let Err(error) = done.value() {
            return self.fail_dial(index, error, handler);
        }
        let dial = self.dials.finish(index);
        let Some(conn) = dial.conn else { return Ok(()) };
        self.settle(conn, Flags::OTHER)?;
        self.slots.row(conn.slot).flags.clear(Flags::CONNECTING);
        self.arm_receive(conn)?;
        handler(Event::Connected { conn, tag: dial.tag });
        Ok(())
    }

    fn fail_dial(
        &mut self,
        index: u32,
        error: io::Error,
        handler: &mut impl FnMut(Event<'_>),
    ) -> io::Result<()> {
        let dial = self.dials.finish(index);
        handler(Event::ConnectFailed { tag: dial.tag, error });
        let Some(conn) = dial.conn else { return Ok(()) };
        self.settle(conn, Flags::OTHER)?;
        self.close(conn)
    }
}
