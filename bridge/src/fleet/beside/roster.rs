//! Members, as Redis is told of them and hears of them, and the rosters that are read of rooms.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use redis::Value;

use super::batch::{Batch, read, verb};
use super::desk::Desk;
use super::events::{self, Event};
use super::members::Reading;
use crate::fleet::keys::partition;
use crate::fleet::link::{Link, LinkError, together};
use crate::fleet::words::{HostId, News, Word};

/// Members of one room that a roster reads; what is beyond is left out.
const ROSTER_MAX: usize = 1 << 20;

/// How many fields HSCAN is asked for: members are objects of some hundred bytes.
const SCAN_COUNT: usize = 512;

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
