//! What the workers of one run share about its rooms: counters only.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Messages of one room that may be in flight at once in the closed loop.
pub const IN_FLIGHT_MAX: usize = 16;

/// A room.
#[derive(Default, Debug)]
struct Room {
    members: AtomicU32,
    /// The number of the last message sent.
    numbers: AtomicU32,
    /// The highest `seq` that a sender was told.
    last_seq: AtomicU32,
    /// Deliveries still to come of the last messages, by number; closed loop only.
    remaining: [AtomicU32; IN_FLIGHT_MAX],
}

/// All rooms.
#[derive(Debug)]
pub struct Board(Box<[Room]>);

impl Board {
    /// So many rooms, nobody in them.
    pub fn new(rooms: u32) -> Self {
        Self((0..rooms).map(|_| Room::default()).collect())
    }

    /// How many rooms there are.
    pub fn rooms(&self) -> u32 {
        self.0.len() as u32
    }

    /// How many connections are in the room.
    pub fn members(&self, room: u32) -> u32 {
        self.0[room as usize].members.load(Relaxed)
    }

    /// One has come.
    pub fn enter(&self, room: u32) {
        self.0[room as usize].members.fetch_add(1, Relaxed);
    }

    /// One has gone.
    pub fn leave(&self, room: u32) {
        self.0[room as usize].members.fetch_sub(1, Relaxed);
    }

    /// The number of a message that is about to be sent, and how many will receive it.
    pub fn register(&self, room: u32) -> (u32, u32) {
        let room = &self.0[room as usize];
        let number = room.numbers.fetch_add(1, Relaxed) + 1;
        let members = room.members.load(Relaxed);
        room.remaining[number as usize % IN_FLIGHT_MAX].store(members, Relaxed);
        (number, members)
    }

    /// A message has come to one more; true if everybody has it now.
    pub fn arrived(&self, room: u32, number: u32) -> bool {
        let remaining = &self.0[room as usize].remaining[number as usize % IN_FLIGHT_MAX];
        remaining.fetch_sub(1, Relaxed) == 1
    }

    /// A sender was told its message's `seq`.
    pub fn note_seq(&self, room: u32, seq: u32) {
        self.0[room as usize].last_seq.fetch_max(seq, Relaxed);
    }

    /// The highest `seq` that any sender was told.
    pub fn last_seq(&self, room: u32) -> u32 {
        self.0[room as usize].last_seq.load(Relaxed)
    }

    /// Whether `room` is one of these.
    pub fn has(&self, room: u32) -> bool {
        room < self.rooms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_arrival_of_a_message_is_told() {
        let board = Board::new(2);
        board.enter(1);
        board.enter(1);
        let (number, members) = board.register(1);
        assert_eq!((number, members), (1, 2));
        assert!(!board.arrived(1, number) && board.arrived(1, number));
        board.note_seq(1, 7);
        board.note_seq(1, 5);
        board.leave(1);
        assert_eq!((board.last_seq(1), board.members(1), board.has(2)), (7, 1, false));
    }
}
