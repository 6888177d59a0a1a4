//! The connection ring: one io_uring, its table of sockets, and the operations on them.
//!
//! It moves bytes and says what happened; it knows neither what the bytes mean nor what to do about
//! an event. Invariants: a slot is closed only after its last operation completed, so a completion
//! never meets a recycled slot; at most one send per connection is in flight; whatever a submission
//! points into stays in place until its completion (see the modules that own it).

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};

use crate::accepts::Accepts;
use crate::buffers::{self, Buffers};
use crate::dials::Dials;
use crate::done::Done;
use crate::enter::Entrance;
use crate::event::Event;
use crate::frame::Frame;
use crate::listen::Listener;
use crate::sends::Sends;
use crate::slots::{Conn, Flags, Slots};
use crate::tag::{Op, Tag};
use crate::transfers::Transfers;
use crate::wake::Waker;

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Sockets the table can hold; at most 2^20 and `RLIMIT_NOFILE`.
    pub slots: u32,
    /// Receive buffers, a power of two up to 32,768.
    pub buffers: u16,
    /// Bytes per receive buffer.
    pub buffer_bytes: usize,
    /// Submission entries; a full queue is submitted early, so this bounds nothing but batches.
    pub submissions: u32,
    /// Completion entries; an overflow costs time and re-arming, never a completion.
    pub completions: u32,
    /// Accepts outstanding on the listener.
    pub accepts: u32,
    /// Let the kernel finish partial sends (`MSG_WAITALL`); off only to test resuming them.
    pub wait_all: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            slots: 16_384,
            buffers: 512,
            buffer_bytes: 2048,
            submissions: 1024,
            completions: 8192,
            accepts: 128,
            wait_all: true,
        }
    }
}

/// Counters of what went differently than the fast path; never reset.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counters {
    /// Receives that found no free buffer and were armed again.
    pub buffers_exhausted: u64,
    /// Receives whose arm ended for another reason (completion overflow) and were armed again.
    pub receives_rearmed: u64,
    /// Sends that the kernel took in more than one part.
    pub sends_resumed: u64,
    /// Accepts that failed.
    pub accepts_failed: u64,
}

/// One core's connections. See the module's invariants.
pub struct Ring {
    pub(crate) io: IoUring,
    entrance: Entrance,
    pub(crate) slots: Slots,
    pub(crate) sends: Sends,
    pub(crate) buffers: Buffers,
    pub(crate) accepts: Option<Accepts>,
    pub(crate) dials: Dials,
    pub(crate) transfers: Transfers,
    /// Connections whose receive is armed again before the next submission.
    pub(crate) unarmed: Vec<Conn>,
    waker: Waker,
    wake_count: Box<[u8; 8]>,
    pub(crate) timeout: Box<types::Timespec>,
    /// When the armed timeout fires.
    pub(crate) timeout_until: Option<Instant>,
    /// Scratch space of `reap`.
    pub(crate) reaped: Vec<Done>,
    pub(crate) counters: Counters,
}

impl Ring {
    /// Makes the ring for the calling thread, which alone may drive it.
    ///
    /// # Errors
    /// What the kernel refused, with the limit to raise; [`crate::preflight`] tells in advance.
    pub fn new(config: Config) -> io::Result<Self> {
        let io = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(config.completions)
            .build(config.submissions)
            .map_err(|error| context(error, "io_uring_setup"))?;
        io.submitter()
            .register_files_sparse(config.slots)
            .map_err(|error| context(error, "registering the table of direct descriptors"))?;
        let buffers = Buffers::register(&io, config.buffers, config.buffer_bytes)
            .map_err(|error| context(error, "registering the receive buffers"))?;
        let mut ring = Self {
            entrance: Entrance::new(io.as_raw_fd()),
            slots: Slots::new(),
            sends: Sends::new(config.wait_all),
            buffers,
            accepts: None,
            dials: Dials::default(),
            transfers: Transfers::default(),
            unarmed: Vec::new(),
            waker: Waker::new()?,
            wake_count: Box::new([0; 8]),
            timeout: Box::default(),
            timeout_until: None,
            reaped: Vec::new(),
            counters: Counters::default(),
            io,
        };
        ring.arm_wake()?;
        Ok(ring)
    }

    /// Starts accepting with `count` accepts outstanding.
    ///
    /// # Errors
    /// The system's error of a submission.
    pub fn listen(&mut self, listener: Listener, count: u32) -> io::Result<()> {
        self.accepts = Some(Accepts::new(listener, count));
        self.resume_accepts()
    }

    /// Ends accepting; outstanding accepts are cancelled and the listener closes with the last.
    ///
    /// # Errors
    /// The system's error of a submission.
    pub fn stop_accepting(&mut self) -> io::Result<()> {
        let Some(accepts) = &mut self.accepts else {
            return Ok(());
        };
        accepts.stop();
        let all = types::CancelBuilder::fd(types::Fd(accepts.listener().raw_fd())).all();
        self.push(opcode::AsyncCancel2::new(all).build(), Tag::of(Op::Cancel, 0, 0))
    }

    /// Submits accepts that had failed for lack of room.
    ///
    /// # Errors
    /// The system's error of a submission.
    pub fn resume_accepts(&mut self) -> io::Result<()> {
        while let Some(index) = self.accepts.as_mut().and_then(Accepts::take_paused) {
            self.arm_accept(index)?;
        }
        Ok(())
    }

    /// Opens a connection to `to`, from `from` if given; ends in `Connected` or `ConnectFailed`.
    ///
    /// # Errors
    /// The system's error of a submission.
    pub fn connect(
        &mut self,
        to: SocketAddr,
        from: Option<SocketAddr>,
        tag: u64,
    ) -> io::Result<()> {
        let (dial, socket) = self.dials.start(to, from, tag);
        self.push(socket, Tag::of(Op::Socket, dial, 0))
    }

    /// Sends `frames` in order as one operation; at most [`crate::FRAMES_PER_SEND_MAX`] are taken.
    /// Returns false, taking none, if the connection is gone, closing, being transferred, or has a
    /// send in flight.
    ///
    /// # Errors
    /// The system's error of a submission.
    pub fn send(
        &mut self,
        conn: Conn,
        frames: impl IntoIterator<Item = Frame>,
    ) -> io::Result<bool> {
        let Some(row) = self.slots.live(conn) else {
            return Ok(false);
        };
        let closed = row.flags.has(Flags::CLOSING) || row.flags.has(Flags::TRANSFERRING);
        if closed || row.flags.has(Flags::SEND) {
            return Ok(false);
        }
        let Some(send) = self.sends.start(frames) else {
            return Ok(false);
        };
        row.flags.set(Flags::SEND);
        row.send = send;
        self.submit_send(conn, send)?;
        Ok(true)
    }

    /// Tells the peer that nothing more will be sent (FIN); receiving goes on.
    ///
    /// # Errors
    /// The system's error of a submission.
    pub fn shutdown(&mut self, conn: Conn) -> io::Result<()> {
        let Some(row) = self.slots.live(conn) else {
            return Ok(());
        };
        let closed = row.flags.has(Flags::CLOSING) || row.flags.has(Flags::TRANSFERRING);
        if closed || row.flags.has(Flags::OTHER) {
            return Ok(());
        }
        row.flags.set(Flags::OTHER);
        let shutdown = opcode::Shutdown::new(types::Fixed(conn.slot), libc::SHUT_WR).build();
        self.push(shutdown, Tag::of(Op::Shutdown, conn.slot, conn.generation))
    }

    /// Closes the connection at once; what is in flight is cancelled. Ends in `Closed`.
    ///
    /// # Errors
    /// The system's error of a submission.
    pub fn close(&mut self, conn: Conn) -> io::Result<()> {
        let Some(row) = self.slots.live(conn) else {
            return Ok(());
        };
        if row.flags.has(Flags::CLOSING) {
            return Ok(());
        }
        row.flags.set(Flags::CLOSING);
        if row.flags.has(Flags::TRANSFERRING) && !row.flags.has(Flags::PASSING) {
            self.transfers.finish(conn); // not submitted yet, so given up
        }
        if row.flags.is_busy() { self.cancel(conn) } else { self.queue_close(conn) }
    }

    /// Turns the connection into a normal descriptor for another thread. Bytes may still arrive
    /// until `HandedOver`; after it the handle closes by itself.
    ///
    /// # Errors
    /// The system's error of a submission.
    pub fn hand_over(&mut self, conn: Conn) -> io::Result<()> {
        let Some(row) = self.slots.live(conn) else {
            return Ok(());
        };
        if row.flags.has(Flags::LEAVING) {
            return Ok(());
        }
        row.flags.set(Flags::HANDING_OVER);
        if row.flags.is_busy() { self.cancel(conn) } else { self.queue_install(conn) }
    }

    /// Submits what is queued, and handles what has completed, without waiting. Returns the number
    /// of completions.
    ///
    /// # Errors
    /// The system's error of the ring itself, which cannot be recovered from.
    pub fn drive(&mut self, handler: impl FnMut(Event<'_>)) -> io::Result<usize> {
        self.turn(None, handler)
    }

    /// Like [`Ring::drive`], but sleeps until something completes or `time` has passed.
    ///
    /// # Errors
    /// As [`Ring::drive`].
    pub fn park(&mut self, time: Duration, handler: impl FnMut(Event<'_>)) -> io::Result<usize> {
        self.turn(Some(time), handler)
    }

    fn turn(
        &mut self,
        wait: Option<Duration>,
        handler: impl FnMut(Event<'_>),
    ) -> io::Result<usize> {
        self.rearm()?;
        self.enter(wait)?;
        self.reap(handler)
    }

    /// Submits the queue; see [`Entrance::enter`].
    pub(crate) fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let queued = self.io.submission().len() as u32;
        self.entrance.enter(queued, wait).map(drop)
    }

    /// Something that wakes this ring from any thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Gives back memory that only connections now gone have needed.
    pub fn release_unused(&mut self) {
        self.slots.release_unused();
    }

    /// How many sockets the table holds, closing ones included.
    pub fn open_count(&self) -> u32 {
        self.slots.open_count()
    }

    /// What went differently than the fast path so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Queues a submission; a full queue is submitted first.
    pub(crate) fn push(&mut self, entry: squeue::Entry, tag: Tag) -> io::Result<()> {
        let entry = entry.user_data(tag.into());
        loop {
            // SAFETY: the crate asks that what an entry points into stays valid until it
            // completes. The owners keep that (`accepts`, `dials`, `sends`, `wake_count`): boxed
            // or counted memory, freed only at the completion or after the ring is gone.
            if unsafe { self.io.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            self.enter(None)?;
        }
    }

    pub(crate) fn arm_wake(&mut self) -> io::Result<()> {
        let fd = types::Fd(self.waker.raw_fd());
        let read = opcode::Read::new(fd, self.wake_count.as_mut_ptr(), 8).build();
        self.push(read, Tag::of(Op::Wake, 0, 0))
    }

    pub(crate) fn arm_accept(&mut self, index: u32) -> io::Result<()> {
        let Some(accepts) = &mut self.accepts else {
            return Ok(());
        };
        let accept = accepts.submission(index);
        self.push(accept, Tag::of(Op::Accept, index, 0))
    }

    /// Arms the receives that ended though their connection lives, once buffers are back.
    fn rearm(&mut self) -> io::Result<()> {
        while let Some(conn) = self.unarmed.pop() {
            self.arm_receive(conn)?;
        }
        Ok(())
    }

    pub(crate) fn arm_receive(&mut self, conn: Conn) -> io::Result<()> {
        let Some(row) = self.slots.live(conn) else {
            return Ok(());
        };
        if row.flags.has(Flags::RECV) || row.flags.has(Flags::LEAVING) {
            return Ok(());
        }
        row.flags.set(Flags::RECV);
        let receive = opcode::RecvMulti::new(types::Fixed(conn.slot), buffers::GROUP).build();
        self.push(receive, Tag::of(Op::Recv, conn.slot, conn.generation))
    }

    pub(crate) fn submit_send(&mut self, conn: Conn, send: u32) -> io::Result<()> {
        let entry = self.sends.submission(send, types::Fixed(conn.slot));
        self.push(entry, Tag::of(Op::Send, conn.slot, conn.generation))
    }

    /// Cancels what keeps the connection from leaving, by its tag: the kernel finds that in a hash
    /// table, while a search by descriptor walks all operations of the ring, so that closing n
    /// connections took n² steps.
    pub(crate) fn cancel(&mut self, conn: Conn) -> io::Result<()> {
        let flags = self.slots.row(conn.slot).flags.to_cancel();
        let tag = Tag::of(Op::Cancel, conn.slot, conn.generation);
        for (flag, op) in [(Flags::RECV, Op::Recv), (Flags::SEND, Op::Send)] {
            if flags.has(flag) {
                let target = Tag::of(op, conn.slot, conn.generation);
                self.push(opcode::AsyncCancel::new(target.into()).build(), tag)?;
            }
        }
        if flags.has(Flags::OTHER) {
            // Rare and short: a shutdown, a connect.
            let all = types::CancelBuilder::fd(types::Fixed(conn.slot)).all();
            self.push(opcode::AsyncCancel2::new(all).build(), tag)?;
        }
        Ok(())
    }

    pub(crate) fn queue_close(&mut self, conn: Conn) -> io::Result<()> {
        let row = self.slots.row(conn.slot);
        if row.flags.has(Flags::CLOSE_QUEUED) {
            return Ok(());
        }
        row.flags.set(Flags::CLOSE_QUEUED);
        let close = opcode::Close::new(types::Fixed(conn.slot)).build();
        self.push(close, Tag::of(Op::Close, conn.slot, conn.generation))
    }

    pub(crate) fn queue_install(&mut self, conn: Conn) -> io::Result<()> {
        self.slots.row(conn.slot).flags.set(Flags::OTHER);
        let install = opcode::FixedFdInstall::new(types::Fixed(conn.slot), 0).build();
        self.push(install, Tag::of(Op::Install, conn.slot, conn.generation))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Operations in flight point into memory that is freed next; end them while it lives.
        let all = types::CancelBuilder::any();
        let _ = self.io.submitter().register_sync_cancel(None, all);
        let _ = self.enter(None);
        // An address may keep the kernel's side of this ring; it must not keep the sockets.
        let _ = self.io.submitter().unregister_files();
        self.buffers.unregister(&self.io.submitter());
    }
}

fn context(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
