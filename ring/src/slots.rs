//! The table of direct descriptors: which slot is open, what it has in flight, its generation.

use crate::by_slot::BySlot;

/// A connection of one ring: a slot of its table and the generation that tells its users apart.
///
/// A handle outlives its connection harmlessly: every call with a stale one does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Conn {
    /// Index into the ring's table of direct descriptors.
    pub slot: u32,
    /// Counts the slot's connections, modulo 2^24.
    pub generation: u32,
}

/// Generations travel in 24 bits of a completion's user data.
const GENERATION_MASK: u32 = (1 << 24) - 1;

/// What a slot is doing; several at once.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Flags(u16);

impl Flags {
    /// The slot holds a socket.
    pub(crate) const OPEN: Self = Self(1);
    /// A multishot receive is armed.
    pub(crate) const RECV: Self = Self(1 << 1);
    /// A send is in flight.
    pub(crate) const SEND: Self = Self(1 << 2);
    /// Another operation (connect, shutdown, fd install) is in flight.
    pub(crate) const OTHER: Self = Self(1 << 3);
    /// Being closed: waits for the last completion, then for the close itself.
    pub(crate) const CLOSING: Self = Self(1 << 4);
    /// Being handed over: waits for the receive to end, then becomes a normal fd.
    pub(crate) const HANDING_OVER: Self = Self(1 << 5);
    /// The close operation itself has been queued.
    pub(crate) const CLOSE_QUEUED: Self = Self(1 << 6);
    /// Opened by this side; not yet connected.
    pub(crate) const CONNECTING: Self = Self(1 << 7);

    /// Being moved to another ring: waits for the last completion, then for the move itself.
    pub(crate) const TRANSFERRING: Self = Self(1 << 8);
    /// The move itself has been queued; it cannot be cancelled.
    pub(crate) const PASSING: Self = Self(1 << 9);

    /// On its way out of this ring, in one way or another.
    pub(crate) const LEAVING: Self =
        Self(Self::CLOSING.0 | Self::HANDING_OVER.0 | Self::TRANSFERRING.0);

    const CANCELLABLE: Self = Self(Self::RECV.0 | Self::SEND.0 | Self::OTHER.0);
    const BUSY: Self = Self(Self::CANCELLABLE.0 | Self::PASSING.0);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    /// Whether the kernel still holds an operation that names this slot.
    pub(crate) fn is_busy(self) -> bool {
        self.has(Self::BUSY)
    }

    /// Which operations in flight must be cancelled for the connection to leave; none if it stays.
    pub(crate) fn to_cancel(self) -> Self {
        let which = if self.has(Self::CLOSE_QUEUED) {
            Self::default()
        } else if self.has(Self(Self::CLOSING.0 | Self::HANDING_OVER.0)) {
            Self::CANCELLABLE
        } else if self.has(Self::TRANSFERRING) {
            Self::RECV // half a send would end up nowhere
        } else {
            Self::default()
        };
        Self(self.0 & which.0)
    }
}

/// One row of the table: 12 bytes.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Slot {
    pub(crate) generation: u32,
    /// Index of the send in flight; meaningful with [`Flags::SEND`].
    pub(crate) send: u32,
    pub(crate) flags: Flags,
}

/// All slots of a ring, as far as they have been used.
pub(crate) struct Slots {
    rows: BySlot<Slot>,
    open: u32,
    /// Of the last connection; one count for all slots, so that rows can be given back.
    generation: u32,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self { rows: BySlot::default(), open: 0, generation: 0 }
    }

    /// Starts a new connection in `slot`, whose last one has ended.
    pub(crate) fn open(&mut self, slot: u32, flags: Flags) -> Conn {
        let row = self.rows.obtain(slot);
        assert!(row.flags == Flags::default(), "slot {slot} accepted while {:?}", row.flags);
        self.generation = (self.generation + 1) & GENERATION_MASK;
        row.generation = self.generation;
        row.flags = Flags::OPEN;
        row.flags.set(flags);
        self.open += 1;
        Conn { slot, generation: row.generation }
    }

    /// Ends the slot's connection.
    pub(crate) fn close(&mut self, slot: u32) {
        self.row(slot).flags = Flags::default();
        self.open -= 1;
    }

    /// Gives back the memory of slots that hold no socket.
    pub(crate) fn release_unused(&mut self) {
        self.rows.release(|row| row.flags == Flags::default());
    }

    /// How many slots hold a socket.
    pub(crate) fn open_count(&self) -> u32 {
        self.open
    }

    /// The row of a live connection; `None` if the handle is stale.
    pub(crate) fn live(&mut self, conn: Conn) -> Option<&mut Slot> {
        let row = self.rows.get_mut(conn.slot)?;
        (row.generation == conn.generation && row.flags.has(Flags::OPEN)).then_some(row)
    }

    /// The row that a completion names.
    pub(crate) fn row(&mut self, slot: u32) -> &mut Slot {
        // A completion names a slot that was open when its operation was submitted, and an open
        // slot's row is never given back.
        self.rows.obtain(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_reaches_nothing() {
        let mut slots = Slots::new();
        let first = slots.open(2, Flags::default());
        assert!(slots.live(first).is_some());
        slots.close(2);
        assert!(slots.live(first).is_none());
        let second = slots.open(2, Flags::RECV);
        assert!(slots.live(first).is_none());
        assert!(slots.live(second).is_some_and(|row| row.flags.is_busy()));
        assert_eq!(slots.open_count(), 1);
    }

    #[test]
    fn rows_given_back_come_again_with_another_generation() {
        let mut slots = Slots::new();
        let conns: Vec<_> = (0..900).map(|slot| slots.open(slot, Flags::default())).collect();
        for slot in 3..900 {
            slots.close(slot);
        }
        slots.release_unused();
        assert!(slots.rows.end() < 900);
        slots.open(800, Flags::default());
        assert!(slots.live(conns[2]).is_some() && slots.live(conns[800]).is_none());
    }

    #[test]
    fn generations_wrap_within_24_bits() {
        let mut slots = Slots::new();
        slots.generation = GENERATION_MASK;
        assert_eq!(slots.open(0, Flags::default()).generation, 0);
    }
}
