//! Takes the members of dead hosts out of all rooms.
//!
//! One host does so for each dead one, and one script call removes a member: so this host alone
//! knows of each member that is gone, and says so where nobody else does ([`News::Reaped`],
//! [`News::Orphaned`]). The events of the rooms tell all others.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::{Cmd, Value, cmd};
use tracing::{info, warn};

use super::batch::{Batch, is_barred, read, verb};
use super::desk::Desk;
use super::events::without_host;
use crate::fleet::keys::PARTITIONS;
use crate::fleet::link::{Link, LinkError};
use crate::fleet::plan::Adapter;
use crate::fleet::words::{Gone, HostId, News, hash};

/// How long a reaper is alone without saying so again.
const REAPING_TTL: Duration = Duration::from_secs(10);

/// Rooms reaped at once, and members of a room looked at by one script.
const ROOMS_AT_ONCE: usize = 64;
const MEMBERS_AT_ONCE: usize = 256;

/// The same where members are named: the answers to one batch have at most 17 MB, with the largest
/// metadata there is, and usually one.
const NAMED_AT_ONCE: usize = 64;

/// Rooms of one dead host of which the shards are told.
const ORPHANED_MAX: usize = 10_000;

/// Bytes of the members of [`ROOMS_AT_ONCE`] rooms that are told with their objects, and ids told
/// of one room without: more than a room may have whose members are told one by one.
pub(super) const TOLD_BYTES_MAX: usize = 8 << 20;
pub(super) const TOLD_IDS_MAX: usize = 1024;

/// How often, and how many times, it is looked whether shards that are behind have caught up.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS_MAX: u32 = 100;

/// A room out of which members are taken.
struct Reaping<'a> {
    room: &'a str,
    cursor: String,
    gone: Gone,
}

impl Reaping<'_> {
    /// Notes who is gone. `bytes`: how many may be kept still.
    fn note(&mut self, named: &[(Value, Value)], bytes: &mut usize) {
        for (id, stored) in named {
            let Some(id) = read::<String>(id) else { continue };
            let member = read::<String>(stored).and_then(|it| without_host(&it));
            let member = member.filter(|it| it.len() <= *bytes).unwrap_or_default();
            *bytes -= member.len();
            if member.is_empty() && self.gone.members.len() >= TOLD_IDS_MAX {
                self.gone.unnamed += 1;
            } else {
                self.gone.members.push((id.into(), member.into()));
            }
        }
    }
}

impl Desk {
    pub(super) async fn reap_all(&self, link: &Link) -> Result<(), LinkError> {
        loop {
            let next = self.hosts.dead.borrow_mut().pop_front();
            let Some(host) = next else { return Ok(()) };
            let key = self.office.keys.reaping(host);
            let mut claim = cmd("SET");
            claim.arg(&key).arg(self.office.plan.host).arg("NX");
            claim.arg("PX").arg(REAPING_TTL.as_millis() as u64);
            if matches!(self.one(link, &key, claim).await?, Value::Nil) {
                continue;
            }
            if self.reap_rooms(link, host, true).await? {
                let hosts = self.office.keys.hosts();
                self.one(link, &hosts, cmd("ZREM").arg(&hosts).arg(format!("{host:08x}")).take())
                    .await?;
            }
            self.one(link, &key, cmd("DEL").arg(&key).take()).await?;
        }
    }

    /// Takes a host's members out of all rooms, unless it turns out to live. Whether all are out.
    pub(super) async fn reap_rooms(
        &self,
        link: &Link,
        host: HostId,
        must_be_dead: bool,
    ) -> Result<bool, LinkError> {
        let (mut removed, mut orphaned) = (0, 0);
        // Of its own members a host tells by itself.
        let is_to_tell = must_be_dead && self.office.plan.adapter != Adapter::Off;
        let mut cursors: Vec<(u16, String)> =
            (0..PARTITIONS).map(|partition| (partition, "0".to_owned())).collect();
        while !cursors.is_empty() {
            let mut batch = Batch::default();
            for (partition, cursor) in &cursors {
                let key = self.office.keys.rooms_of_host(*partition, host);
                let mut scan = cmd("HSCAN");
                batch.push(link, &key, scan.arg(&key).arg(cursor).arg("COUNT").arg(64).take());
            }
            let answers = batch.send(link, &self.scripts).await?;
            let mut rooms: Vec<Box<str>> = Vec::new();
            for ((_, cursor), answer) in cursors.iter_mut().zip(&answers) {
                let page = read::<(String, Vec<(String, String)>)>(answer)
                    .or_else(|| is_barred(answer).then(|| ("0".to_owned(), Vec::new())));
                let Some((next, page)) = page else {
                    warn!(?answer, "a host's rooms cannot be read");
                    return Ok(false);
                };
                *cursor = next;
                rooms.extend(page.into_iter().map(|(room, _)| room.into_boxed_str()));
            }
            cursors.retain(|(_, cursor)| cursor != "0");
            for some in rooms.chunks(ROOMS_AT_ONCE) {
                if must_be_dead {
                    self.await_shards().await;
                    if !self.is_dead(link, host).await? {
                        info!("host {host:08x} was thought dead and lives");
                        return Ok(false);
                    }
                }
                let Some(count) = self.reap_some(link, host, some, is_to_tell).await? else {
                    return Ok(false);
                };
                removed += count;
                if must_be_dead {
                    let rest = some.len().min(ORPHANED_MAX - orphaned);
                    orphaned += rest;
                    self.tell_orphaned(&some[..rest]);
                }
            }
        }
        self.office.stats.reaped.fetch_add(removed, Relaxed);
        if must_be_dead {
            info!(removed, "host {host:08x} is dead; its members are removed");
        }
        Ok(true)
    }

    /// Tells shards, each of its share, that a dead host had members in rooms.
    fn tell_orphaned(&self, rooms: &[Box<str>]) {
        for room in rooms {
            self.tell(self.share_of(room), News::Orphaned { room: Arc::from(&**room) });
        }
    }

    /// Tells a shard who is gone from a room.
    fn tell_reaped(&self, reaping: Reaping<'_>) {
        let Reaping { room, gone, .. } = reaping;
        if gone.members.is_empty() {
            return;
        }
        self.tell(self.share_of(room), News::Reaped { room: Arc::from(room), gone });
    }

    /// The shard that is told of a room which may be open nowhere.
    fn share_of(&self, room: &str) -> u16 {
        (hash(room) % self.office.shards.len().max(1) as u64) as u16
    }

    /// Lets shards that are far behind take what they have been told, for a while.
    async fn await_shards(&self) {
        for _ in 0..LOOKS_MAX {
            if !self.office.shards.iter().any(|shard| shard.is_full()) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether a host is dead; says that this one is still at its members.
    async fn is_dead(&self, link: &Link, host: HostId) -> Result<bool, LinkError> {
        let (key, reaping) = (self.office.keys.host(host), self.office.keys.reaping(host));
        let mut hold = cmd("PEXPIRE");
        hold.arg(&reaping).arg(REAPING_TTL.as_millis() as u64);
        if read::<i64>(&self.one(link, &reaping, hold).await?) != Some(1) {
            return Ok(false); // This was too slow: it is another's now.
        }
        let exists = self.one(link, &key, cmd("EXISTS").arg(&key).take()).await?;
        Ok(read::<i64>(&exists) == Some(0))
    }

    /// Takes a host's members out of some rooms; how many there were. `None`: Redis refuses.
    async fn reap_some(
        &self,
        link: &Link,
        host: HostId,
        rooms: &[Box<str>],
        is_to_tell: bool,
    ) -> Result<Option<u64>, LinkError> {
        let (mut removed, mut bytes, mut is_refused) = (0, TOLD_BYTES_MAX, false);
        let reaping = |room| Reaping { room, cursor: "0".to_owned(), gone: Gone::default() };
        let mut left: Vec<_> = rooms.iter().map(|room| reaping(&**room)).collect();
        while !left.is_empty() {
            let mut batch = Batch::default();
            for it in &left {
                let keys = self.member_keys(it.room, host);
                batch.call(link, &keys[0], self.reap_call(link, &keys, (host, it), is_to_tell));
            }
            let answers = match batch.send(link, &self.scripts).await {
                Ok(answers) => answers,
                Err(why) => {
                    // Who is gone by now is found by nobody again.
                    left.into_iter().for_each(|it| self.tell_reaped(it));
                    return Err(why);
                }
            };
            for (it, answer) in left.iter_mut().zip(&answers) {
                match self.note_reaped(it, answer, &mut bytes) {
                    Some(count) => removed += count,
                    None => is_refused = true,
                }
            }
            let is_over = |it: &Reaping<'_>| is_refused || it.cursor == "0";
            let (over, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(is_over);
            over.into_iter().for_each(|it| self.tell_reaped(it));
            if is_refused {
                return Ok(None);
            }
            left = rest;
        }
        Ok(Some(removed))
    }

    /// Takes in what a script has done; how many members it has removed. `None`: Redis refuses.
    fn note_reaped(&self, it: &mut Reaping<'_>, answer: &Value, bytes: &mut usize) -> Option<u64> {
        let read = read::<(String, u64, u64, Vec<(Value, Value)>)>(answer);
        if read.is_none() && is_barred(answer) {
            self.members.on_refused(it.room, answer);
            "0".clone_into(&mut it.cursor); // without this one
            return Some(0);
        }
        let Some((next, count, all, named)) = read else {
            warn!(?answer, "Redis refuses to remove a dead host's members");
            return None;
        };
        (it.cursor, it.gone.left) = (next, all);
        it.note(&named, bytes);
        if all == 0 {
            self.summaries.end(Arc::from(it.room));
            self.tidy.notify_one();
        }
        Some(count)
    }

    fn reap_call(
        &self,
        link: &Link,
        keys: &[String; 4],
        (host, reaping): (HostId, &Reaping<'_>),
        is_to_tell: bool,
    ) -> Cmd {
        let count = if is_to_tell { NAMED_AT_ONCE } else { MEMBERS_AT_ONCE };
        let keys = keys.each_ref().map(String::as_str);
        let mut call = self.scripts.reap.call(&keys);
        call.arg(format!("{host:08x}")).arg(reaping.room).arg(verb(link));
        call.arg(&reaping.cursor).arg(count).arg(u8::from(is_to_tell));
        call
    }
}
