//! Members of rooms, across hosts.
//!
//! Owns which rooms have members of this host by Redis's word, and what Redis has not been told of
//! since there was no link: members who are gone. Those who came in are not kept: their room is
//! open, so its repair enters them. Each change is one script at the room's node: there is no
//! moment in which a member is counted and not there, or in a room that nobody lists.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use redis::Value;
use tracing::warn;

use super::batch::read;
use super::events::Event;
use crate::fleet::words::Word;

/// Members who left while there was no link and who are remembered one by one. If there are more,
/// this host removes all its members and lets its rooms enter theirs again.
const LEFT_MAX: usize = 1 << 17;

/// Rooms that Redis refuses and of which it is remembered that it was said.
const REFUSED_MAX: usize = 1 << 12;

/// What happened to a member while a roster was being read: there with this object, or gone.
type Change = (Box<str>, Option<Box<str>>);

/// Of each room whose roster is being read: how often that is done, and what happened meanwhile.
type Readings = HashMap<Arc<str>, (usize, Vec<Change>)>;

/// Members by room and id, and the shard of the room.
type Left = HashMap<(Arc<str>, Box<str>), u16>;

/// See the module.
#[derive(Default)]
pub(super) struct Members {
    /// Rooms in which this host has members, and the shard of each.
    rooms: RefCell<HashMap<Arc<str>, u16>>,
    /// Members who are gone without Redis knowing.
    left: RefCell<Left>,
    /// There were too many of them.
    is_overfull: Cell<bool>,
    /// Rooms of which Redis has refused a member, or has lost one; and the shard of each.
    amiss: RefCell<HashMap<Arc<str>, u16>>,
    reading: RefCell<Readings>,
    /// Rooms with which Redis has refused something; it has been said once of each.
    refused: RefCell<HashSet<Box<str>>>,
}

/// What is left to do after a batch.
#[derive(Default)]
pub(super) struct Aftermath {
    /// Rooms that have no members on this host any more.
    pub(super) closed: Vec<Arc<str>>,
    /// Rooms that have none at all.
    pub(super) empty: Vec<Arc<str>>,
}

impl Members {
    /// Rooms with members of this host, and the shard of each.
    pub(super) fn rooms(&self) -> Vec<(Arc<str>, u16)> {
        self.rooms.borrow().iter().map(|(room, shard)| (Arc::clone(room), *shard)).collect()
    }

    pub(super) fn has_room(&self, room: &str) -> bool {
        self.rooms.borrow().contains_key(room)
    }

    /// A room's members are not as they should be: its home is told its roster, soon.
    pub(super) fn set_amiss(&self, room: &Arc<str>, shard: u16) {
        let mut amiss = self.amiss.borrow_mut();
        if amiss.len() < REFUSED_MAX {
            amiss.insert(Arc::clone(room), shard);
        }
    }

    /// A change of a room's members may never be carried out: its home is told its roster, soon.
    pub(super) fn set_due(&self, room: &Arc<str>, shard: u16) {
        self.amiss.borrow_mut().insert(Arc::clone(room), shard);
    }

    /// Rooms whose members are not as they should be, each once.
    pub(super) fn take_amiss(&self) -> HashMap<Arc<str>, u16> {
        self.amiss.take()
    }

    /// Says once that Redis refuses something with a room.
    pub(super) fn on_refused(&self, room: &str, answer: &Value) {
        let mut refused = self.refused.borrow_mut();
        if refused.len() >= REFUSED_MAX {
            refused.clear();
        }
        if refused.insert(room.into()) {
            warn!(room, ?answer, "Redis refuses what is to be done with a room's members");
        }
    }

    /// Redis must be rid of all members of this host.
    pub(super) fn set_overfull(&self) {
        self.is_overfull.set(true);
    }

    /// Whether it must be rid of them still.
    pub(super) fn is_overfull(&self) -> bool {
        self.is_overfull.get()
    }

    /// Redis is rid of them.
    pub(super) fn end_overfull(&self) {
        self.is_overfull.set(false);
    }

    /// A word that Redis may not have been told, since there is no link.
    pub(super) fn set_aside(&self, shard: u16, word: Word) {
        match word {
            Word::Enter { room, id, .. } => {
                self.rooms.borrow_mut().insert(Arc::clone(&room), shard);
                self.left.borrow_mut().remove(&(room, id));
            }
            Word::Leave { room, id } => {
                let mut left = self.left.borrow_mut();
                if left.len() < LEFT_MAX {
                    left.insert((room, id), shard);
                } else {
                    self.is_overfull.set(true);
                }
            }
            _ => {}
        }
    }

    /// Those who have left without a link, as words; those of rooms that Redis refuses come last.
    /// They stay until [`Members::forget_left`].
    pub(super) fn all_left(&self) -> Vec<(u16, Word)> {
        let (left, refused) = (self.left.borrow(), self.refused.borrow());
        let (last, first): (Vec<_>, Vec<_>) =
            left.iter().partition(|((room, _), _)| refused.contains(&**room));
        let all = first.into_iter().chain(last);
        all.map(|((room, id), shard)| {
            (*shard, Word::Leave { room: Arc::clone(room), id: id.clone() })
        })
        .collect()
    }

    /// Redis knows of these.
    pub(super) fn forget_left(&self, words: &[(u16, Word)]) {
        let mut left = self.left.borrow_mut();
        for (_, word) in words {
            if let Word::Leave { room, id } = word {
                left.remove(&(Arc::clone(room), id.clone()));
            }
        }
    }

    /// Redis is about to be told that a member came.
    pub(super) fn came(&self, word: &Word) {
        let mut left = self.left.borrow_mut();
        if let (false, Word::Enter { room, id, .. }) = (left.is_empty(), word) {
            left.remove(&(Arc::clone(room), id.clone()));
        }
    }

    /// Takes in what Redis answered to a word: how many members of the room are this host's, how
    /// many there are, and whether who left was there. If not, Redis may have lost others too.
    pub(super) fn on_answer(
        &self,
        shard: u16,
        word: &Word,
        answer: &Value,
        aftermath: &mut Aftermath,
    ) {
        let (Word::Enter { room, .. } | Word::Leave { room, .. }) = word else { return };
        let read = read::<(i64, i64, bool)>(answer);
        if !matches!(read, Some((_, _, true))) {
            self.amiss.borrow_mut().insert(Arc::clone(room), shard);
        }
        let Some((own, all, _)) = read else {
            self.on_refused(room, answer);
            if let Word::Leave { id, .. } = word {
                let word = Word::Leave { room: Arc::clone(room), id: id.clone() };
                self.set_aside(shard, word);
            }
            return;
        };
        let mut rooms = self.rooms.borrow_mut();
        if own > 0 {
            rooms.insert(Arc::clone(room), shard);
            aftermath.closed.retain(|it| it != room);
        } else {
            rooms.remove(room);
            aftermath.closed.push(Arc::clone(room));
        }
        if all == 0 {
            aftermath.empty.push(Arc::clone(room));
        }
    }

    /// Notes what happens in a room whose roster is being read.
    pub(super) fn note(&self, room: &str, event: &Event<'_>) {
        if let Some((_, changes)) = self.reading.borrow_mut().get_mut(room) {
            match event {
                Event::Entered { id, member } => {
                    changes.push(((*id).into(), Some((*member).into())))
                }
                Event::Left { id } => changes.push(((*id).into(), None)),
                Event::Said(_) => {}
            }
        }
    }
}

/// A room's roster is being read as long as this is there.
pub(super) struct Reading<'a> {
    members: &'a Members,
    room: &'a str,
}

impl<'a> Reading<'a> {
    pub(super) fn begin(members: &'a Members, room: &'a str) -> Self {
        let mut reading = members.reading.borrow_mut();
        reading.entry(room.into()).or_default().0 += 1;
        Self { members, room }
    }

    pub(super) fn changes(&self) -> Vec<Change> {
        let reading = self.members.reading.borrow();
        reading.get(self.room).map(|(_, changes)| changes.clone()).unwrap_or_default()
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut reading = self.members.reading.borrow_mut();
        if let Entry::Occupied(mut entry) = reading.entry(self.room.into()) {
            entry.get_mut().0 -= 1;
            if entry.get().0 == 0 {
                entry.remove();
            }
        }
    }
}
