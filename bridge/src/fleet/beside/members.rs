//! Members of rooms, across hosts.
//!
//! Owns which rooms have members of this host by Redis's word, and what Redis has not been told of
//! since there was no link: members who are gone. Those who came in are not kept: their room is
//! open, so its repair enters them. Each change is one script at the room's node: there is no
//! moment in which a member is counted and not there, or in a room that nobody lists.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use redis::Value;
use tracing::warn;

use super::batch::{Batch, read};
use super::desk::Desk;
use super::events::{self, Event};
use super::verb;
use crate::fleet::keys::partition;
use crate::fleet::link::{Link, LinkError, together};
use crate::fleet::words::{HostId, News, Word};

/// Members who left while there was no link and who are remembered one by one. If there are more,
/// this host removes all its members and lets its rooms enter theirs again.
const LEFT_MAX: usize = 1 << 17;

/// Members of one room that a roster reads; what is beyond is left out.
const ROSTER_MAX: usize = 1 << 20;

/// Rooms that Redis refuses and of which it is remembered that it was said.
const REFUSED_MAX: usize = 1 << 12;

/// How many fields HSCAN is asked for: members are objects of some hundred bytes.
const SCAN_COUNT: usize = 512;

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
    fn note(&self, room: &str, event: &Event<'_>) {
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
struct Reading<'a> {
    members: &'a Members,
    room: &'a str,
}

impl<'a> Reading<'a> {
    fn begin(members: &'a Members, room: &'a str) -> Self {
        let mut reading = members.reading.borrow_mut();
        reading.entry(room.into()).or_default().0 += 1;
        Self { members, room }
    }

    fn changes(&self) -> Vec<Change> {
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

impl Desk {
    /// The call that tells Redis of a member.
    pub(super) fn push_member(&self, link: &Link, batch: &mut Batch, word: &Word) {
        let host = self.office.plan.host;
        let (letter, room, id, event, member) = match word {
            Word::Enter { room, id, member } => {
                let event = events::entered(host, id, member);
                ("E", room, id, event, events::with_host(host, member))
            }
            Word::Leave { room, id } => ("L", room, id, events::left(host, id), String::new()),
            _ => return,
        };
        let keys = self.member_keys(room, host);
        let [members, rooms, own, channel] = keys.each_ref().map(String::as_str);
        let mut call = self.scripts.member.call(&[members, rooms, own, channel]);
        call.arg(letter).arg(format!("{host:08x}")).arg(&**room).arg(&**id);
        call.arg(verb(link)).arg(event).arg(member);
        batch.call(link, members, call);
    }

    /// The keys of the scripts on members.
    pub(super) fn member_keys(&self, room: &str, host: HostId) -> [String; 4] {
        let (keys, partition) = (&self.office.keys, partition(room));
        let own = keys.rooms_of_host(partition, host);
        [keys.members(room), keys.rooms(partition), own, keys.events(room)]
    }

    /// Something on a room's channel that may be of this part.
    pub(super) fn on_event(&self, shard: u16, room: &Arc<str>, payload: &[u8]) {
        let Some((host, event)) = events::read(payload) else { return };
        if host == self.office.plan.host {
            return;
        }
        self.members.note(room, &event);
        let room = Arc::clone(room);
        self.tell(
            shard,
            match event {
                Event::Entered { id, member } => {
                    News::Entered { room, id: id.into(), member: member.into() }
                }
                Event::Left { id } => News::Left { room, id: id.into() },
                Event::Said(words) => News::Said { room, words: words.into() },
            },
        );
    }

    /// All members of a room; `None` where Redis refuses to tell. What is told of them while they
    /// are read is already in the result.
    pub(super) async fn roster(
        &self,
        link: &Link,
        room: &str,
    ) -> Result<Option<Vec<(Box<str>, Box<str>)>>, LinkError> {
        let reading = Reading::begin(&self.members, room);
        let key = self.office.keys.members(room);
        let mut members: HashMap<Box<str>, Box<str>> = HashMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut batch = Batch::default();
            let mut scan = redis::cmd("HSCAN");
            scan.arg(&key).arg(&cursor).arg("COUNT").arg(SCAN_COUNT);
            batch.push(link, &key, scan);
            let answers = batch.send(link, &self.scripts).await?;
            let answer = answers.first().unwrap_or(&Value::Nil);
            let Some((next, page)) = read::<(String, Vec<(Value, Value)>)>(answer) else {
                self.members.on_refused(room, answer);
                return Ok(None);
            };
            for (id, stored) in page {
                // What is no text is no member: others are to be found all the same.
                let (Some(id), Some(stored)) = (read::<String>(&id), read::<String>(&stored))
                else {
                    continue;
                };
                if let Some(member) = events::without_host(&stored) {
                    members.insert(id.into(), member.into());
                }
            }
            cursor = next;
            if cursor == "0" || members.len() >= ROSTER_MAX {
                break;
            }
        }
        for (id, member) in reading.changes() {
            match member {
                Some(member) => members.insert(id, member),
                None => members.remove(&id),
            };
        }
        Ok(Some(members.into_iter().collect()))
    }

    /// Tells each room's home who is in it by Redis's word.
    pub(super) async fn tell_rosters(
        self: &Rc<Self>,
        link: &Rc<Link>,
        rooms: Vec<(Arc<str>, u16)>,
    ) -> Result<(), LinkError> {
        for some in rooms.chunks(64) {
            let reads = some.iter().map(|(room, shard)| async move {
                match self.roster(link, room).await? {
                    Some(members) => {
                        self.tell(*shard, News::Roster { room: Arc::clone(room), members });
                    }
                    // A little later again.
                    None => self.members.set_amiss(room, *shard),
                }
                Ok(())
            });
            together(reads).await.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }
}
