//! The members that one shard has of each room: what a broadcast walks.
//!
//! Invariant: a connection's [`Membership`] and its [`Seat`] point at each other. Whoever moves a
//! seat is told whose membership to mend.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::marks::Marks;
use crate::app::Audience;
use crate::ids::{RoomId, Sid};

/// A member: its connection's slot (24 bits) and whether it listens to presence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seat(u32);

const LISTENS: u32 = 1 << 31;

impl Seat {
    /// The connection's slot.
    pub fn slot(self) -> u32 {
        self.0 & !LISTENS
    }

    /// Whether it is among the listeners.
    pub fn listens(self) -> bool {
        self.0 & LISTENS != 0
    }
}

/// A connection's side of being a member: 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Membership {
    /// Index of the room on this shard.
    pub room: u32,
    seat: u32,
}

/// A seat that moved: the membership of `slot` in `room` is now `to`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    slot: u32,
    to: Membership,
}

impl Moved {
    /// The connection whose membership must be mended.
    pub fn slot(self) -> u32 {
        self.slot
    }

    /// Mends it; false if it is not among these.
    pub fn mend(self, memberships: &mut [Membership]) -> bool {
        let found = memberships.iter_mut().find(|it| it.room == self.to.room);
        found.map(|it| *it = self.to).is_some()
    }
}

struct LocalRoom {
    id: RoomId,
    name: Arc<str>,
    seats: Vec<Seat>,
    /// Where recovery is on.
    heard: Option<Box<Heard>>,
}

/// How far the room's events have gone on this shard.
#[derive(Default)]
struct Heard {
    /// Those that have been said.
    said: Marks,
    /// Those that recovery has forgotten.
    forgotten: Marks,
}

/// All rooms that have a member on this shard.
#[derive(Default)]
pub struct LocalRooms {
    rooms: Vec<Option<LocalRoom>>,
    free: Vec<u32>,
    /// Indexes alone, by the hash of what the room itself says: with many shards a room has few
    /// members on each, so that keys of their own would cost as much as the members.
    by_id: HashTable<u32>,
    by_name: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl LocalRooms {
    /// The room on this shard, by its name.
    pub fn find(&self, name: &str) -> Option<(u32, RoomId)> {
        let is = |&index: &u32| self.is(index, |room| *room.name == *name);
        let index = *self.by_name.find(self.hasher.hash_one(name), is)?;
        Some((index, self.rooms[index as usize].as_ref()?.id))
    }

    /// The room on this shard, by its id.
    pub fn index_of(&self, id: RoomId) -> Option<u32> {
        let is = |&index: &u32| self.is(index, |room| room.id == id);
        self.by_id.find(self.hasher.hash_one(id), is).copied()
    }

    /// The id and name of a room by its index.
    pub fn room(&self, index: u32) -> Option<(RoomId, &Arc<str>)> {
        self.rooms.get(index as usize)?.as_ref().map(|room| (room.id, &room.name))
    }

    /// The members of a room that are on this shard.
    pub fn seats(&self, id: RoomId) -> &[Seat] {
        let room = self.index_of(id).and_then(|index| self.rooms[index as usize].as_ref());
        room.map_or(&[], |room| &room.seats)
    }

    /// The keys of all rooms.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rooms.iter().flatten().map(|room| &room.name)
    }

    /// Rooms with a member here.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Seats a connection that is not yet a member.
    pub fn add(&mut self, id: RoomId, name: &Arc<str>, slot: u32, listens: bool) -> Membership {
        let index = self.index_of(id).unwrap_or_else(|| self.open(id, name));
        let room = self.rooms[index as usize].as_mut().expect("an index of by_id is a room");
        room.seats.push(Seat(slot | if listens { LISTENS } else { 0 }));
        Membership { room: index, seat: room.seats.len() as u32 - 1 }
    }

    /// Changes whether a member listens.
    pub fn set_listens(&mut self, membership: Membership, listens: bool) {
        if let Some(Some(room)) = self.rooms.get_mut(membership.room as usize) {
            let seat = &mut room.seats[membership.seat as usize];
            *seat = Seat(seat.slot() | if listens { LISTENS } else { 0 });
        }
    }

    /// Moves a member's connection to another row.
    pub fn move_seat(&mut self, membership: Membership, slot: u32) {
        if let Some(Some(room)) = self.rooms.get_mut(membership.room as usize) {
            let seat = &mut room.seats[membership.seat as usize];
            *seat = Seat(slot | (seat.0 & LISTENS));
        }
    }

    /// Whether a member listens to presence.
    pub fn listens(&self, membership: Membership) -> bool {
        let room = self.rooms.get(membership.room as usize).and_then(Option::as_ref);
        room.is_some_and(|room| room.seats[membership.seat as usize].listens())
    }

    /// Notes that an event of the room ends at position `end`.
    pub fn note_said(&mut self, index: u32, audience: Audience, end: u64) {
        if let Some(Some(room)) = self.rooms.get_mut(index as usize) {
            room.heard.get_or_insert_default().said.note(audience, end);
        }
    }

    /// Notes that recovery has forgotten the room's event that ends at position `end`.
    pub fn note_forgotten(&mut self, id: RoomId, audience: Audience, end: u64) {
        if let Some(index) = self.index_of(id)
            && let Some(room) = &mut self.rooms[index as usize]
        {
            room.heard.get_or_insert_default().forgotten.note(audience, end);
        }
    }

    /// Where the room's last event for this member ends.
    pub fn said_to(&self, membership: Membership, sid: Sid) -> u64 {
        self.heard(membership).map_or(0, |heard| heard.said.end_for(sid, self.listens(membership)))
    }

    /// Where the room's last forgotten event for this member ends.
    pub fn forgotten_to(&self, membership: Membership, sid: Sid) -> u64 {
        let listens = self.listens(membership);
        self.heard(membership).map_or(0, |heard| heard.forgotten.end_for(sid, listens))
    }

    fn heard(&self, membership: Membership) -> Option<&Heard> {
        self.rooms.get(membership.room as usize)?.as_ref()?.heard.as_deref()
    }

    /// Ends a membership. The last member's seat takes the free place: its membership moved.
    pub fn remove(&mut self, membership: Membership) -> Option<Moved> {
        let room = self.rooms[membership.room as usize].as_mut()?;
        room.seats.swap_remove(membership.seat as usize);
        let moved = room.seats.get(membership.seat as usize).map(|seat| seat.slot());
        if room.seats.is_empty() {
            self.close(membership.room);
        } else if room.seats.len() * 4 < room.seats.capacity() {
            room.seats.shrink_to(room.seats.len() * 2);
        }
        moved.map(|slot| Moved { slot, to: membership })
    }

    fn open(&mut self, id: RoomId, name: &Arc<str>) -> u32 {
        let (name_here, seats) = (Arc::clone(name), Vec::new());
        let room = LocalRoom { id, name: name_here, seats, heard: None };
        let index = self.free.pop().unwrap_or(self.rooms.len() as u32);
        if index as usize == self.rooms.len() {
            self.rooms.push(None);
        }
        self.rooms[index as usize] = Some(room);
        let Self { rooms, by_id, by_name, hasher, .. } = self;
        let room = |index: &u32| rooms[*index as usize].as_ref().expect("an index is a room");
        let hash_of_id = |index: &u32| hasher.hash_one(room(index).id);
        let hash_of_name = |index: &u32| hasher.hash_one(&*room(index).name);
        by_id.insert_unique(hash_of_id(&index), index, hash_of_id);
        // A room that died and came back takes the place of the one that still has members here.
        let hash = hash_of_name(&index);
        match by_name.find_mut(hash, |it| room(it).name == *name) {
            Some(it) => *it = index,
            None => _ = by_name.insert_unique(hash, index, hash_of_name),
        }
        index
    }

    fn is(&self, index: u32, what: impl FnOnce(&LocalRoom) -> bool) -> bool {
        self.rooms[index as usize].as_ref().is_some_and(what)
    }

    fn close(&mut self, index: u32) {
        let Some(room) = self.rooms[index as usize].take() else { return };
        let id_hash = self.hasher.hash_one(room.id);
        if let Ok(entry) = self.by_id.find_entry(id_hash, |it| *it == index) {
            entry.remove();
        }
        // A room that died and came back has another index under the same name.
        let name_hash = self.hasher.hash_one(&*room.name);
        if let Ok(entry) = self.by_name.find_entry(name_hash, |it| *it == index) {
            entry.remove();
        }
        self.free.push(index);
        if self.by_id.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaving_member_moves_the_last_seat_and_its_membership() {
        let mut rooms = LocalRooms::default();
        let (id, name) = (RoomId::new(0, 1), Arc::from("lobby"));
        let mut memberships: Vec<_> =
            (10..14).map(|slot| vec![rooms.add(id, &name, slot, slot % 2 == 0)]).collect();
        let gone = memberships.remove(1);
        let moved = rooms.remove(gone[0]).expect("the last seat moved");
        assert_eq!(moved.slot(), 13);
        moved.mend(&mut memberships[2]);
        for (slot, listens, mine) in [(10, true, 0), (12, true, 1), (13, false, 2)] {
            let seat = rooms.seats(id)[memberships[mine][0].seat as usize];
            assert_eq!((seat.slot(), seat.listens()), (slot, listens));
        }
        assert_eq!(rooms.remove(memberships[2][0]).map(Moved::slot), Some(12));
    }

    #[test]
    fn the_last_member_closes_the_room() {
        let mut rooms = LocalRooms::default();
        let name = Arc::from("lobby");
        let membership = rooms.add(RoomId::new(0, 1), &name, 3, true);
        assert!(rooms.find("lobby").is_some());
        assert_eq!(rooms.remove(membership), None);
        assert_eq!((rooms.find("lobby"), rooms.count()), (None, 0));
    }
}
