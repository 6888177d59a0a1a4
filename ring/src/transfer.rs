//! Moving an open connection to the ring of another thread, as a direct descriptor all the way.
//!
//! One `MSG_RING` places the socket in the other ring's table and leaves a completion there. The
//! other thread does the work in the kernel, interrupted wherever it runs or sleeps: a system call
//! that never restarts, such as `epoll_wait`, returns `EINTR` there. Bytes keep their order: the
//! message is submitted only after the last completion of this ring's receive has been handled,
//! and what arrives from then on stays in the socket until the other ring receives.

use std::io;
use std::os::fd::AsFd;

use io_uring::{opcode, types};

use crate::done::Done;
use crate::event::Event;
use crate::ring::Ring;
use crate::slots::{Conn, Flags};
use crate::tag::{Op, Tag};
use crate::transfers::Address;

impl Ring {
    /// What others name this ring by. Takes a descriptor; make one per ring and clone it.
    ///
    /// # Errors
    /// The system's error when no file descriptor is left (operator: raise `RLIMIT_NOFILE`).
    pub fn address(&self) -> io::Result<Address> {
        Ok(Address::new(self.io.as_fd().try_clone_to_owned()?))
    }

    /// Moves the connection to the ring at `to`, where [`Event::Adopted`] brings `token` (at most
    /// 48 bits). Ends here in `Transferred`; on success `Closed` follows by itself. Until then the
    /// slot stays taken, and a close by the other ring does not reach the peer.
    ///
    /// The receive is cancelled, and a send in flight is waited for, however long the peer takes
    /// to read; what the peer writes meanwhile waits in the socket. Bytes may still arrive here
    /// until `Transferred`; those after it arrive there, and none twice. An end that is met on the
    /// way is not told here: whichever ring has the connection afterwards tells it, though a reset
    /// may then look like an end in order. Meanwhile `send` and `shutdown` take nothing. Does
    /// nothing if the connection is closing, being handed over, or being transferred already.
    ///
    /// It fails if the other table is full (`ENFILE`), if the other ring or its thread is gone
    /// (`ENFILE`, `EOWNERDEAD`), or if `to` is this very ring (`EINVAL`). Then the connection is
    /// as it was, receiving again; an `Ended` told before the transfer may be told again.
    ///
    /// A [`Ring::close`] on the way gives the transfer up: only `Closed` is told. If the other
    /// ring had been told already, it adopts the connection all the same, and the peer sees
    /// nothing of the close.
    ///
    /// # Errors
    /// The system's error of a submission.
    pub fn transfer(&mut self, conn: Conn, to: &Address, token: u64) -> io::Result<()> {
        debug_assert!(token < 1 << 48, "token {token:#x}");
        let Some(row) = self.slots.live(conn) else {
            return Ok(());
        };
        if row.flags.has(Flags::LEAVING) {
            return Ok(());
        }
        row.flags.set(Flags::TRANSFERRING);
        let busy = row.flags.is_busy();
        self.transfers.start(conn, to.clone(), token);
        if busy { self.cancel(conn) } else { self.queue_transfer(conn) }
    }

    /// Submits the message, once nothing of `conn` is in flight any more.
    pub(crate) fn queue_transfer(&mut self, conn: Conn) -> io::Result<()> {
        let Some((to, token)) = self.transfers.get(conn) else {
            return Ok(());
        };
        let (ring, socket) = (types::Fd(to.raw_fd()), types::Fixed(conn.slot));
        let there = Tag::with_token(Op::Adopt, token).into();
        let anywhere = types::DestinationSlot::auto_target();
        let message = opcode::MsgRingSendFd::new(ring, socket, anywhere, there).build();
        self.slots.row(conn.slot).flags.set(Flags::PASSING);
        self.push(message, Tag::of(Op::Transfer, conn.slot, conn.generation))
    }

    /// The other ring has the socket now, or does not want it.
    pub(crate) fn on_transfer(
        &mut self,
        done: Done,
        handler: &mut impl FnMut(Event<'_>),
    ) -> io::Result<()> {
        let conn = done.tag.conn();
        let result = done.value().map(drop);
        self.transfers.finish(conn);
        let row = self.slots.row(conn.slot);
        row.flags.clear(Flags::PASSING);
        if row.flags.has(Flags::CLOSING) {
            return self.queue_close(conn);
        }
        row.flags.clear(Flags::TRANSFERRING);
        if result.is_ok() {
            // Lets go of this ring's reference only; the socket lives on in the other table.
            row.flags.set(Flags::CLOSING);
            self.queue_close(conn)?;
        } else {
            // One error lies: `EOVERFLOW`, when the kernel has no memory for the completion there,
            // leaves the socket in the other table until that ring is dropped.
            self.arm_receive(conn)?;
        }
        handler(Event::Transferred { conn, result });
        Ok(())
    }

    /// Another ring's transfer has arrived: the kernel chose the slot.
    pub(crate) fn on_adopt(
        &mut self,
        done: Done,
        handler: &mut impl FnMut(Event<'_>),
    ) -> io::Result<()> {
        let Ok(slot) = done.value() else {
            return Ok(());
        };
        let conn = self.slots.open(slot, Flags::default());
        self.arm_receive(conn)?;
        handler(Event::Adopted { conn, token: done.tag.token() });
        Ok(())
    }
}
