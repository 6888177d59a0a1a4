//! Brings back sessions of other hosts, with what their clients have not read.
//!
//! A session is recovered whole or not at all: its messages in every room without a gap, from the
//! one after the last that its client has. It is taken over last, and only if it is still what was
//! read at the beginning: of several hosts who try, one succeeds, and whatever fails before has
//! changed nothing.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::Value;

use super::batch::{Batch, read};
use super::desk::Desk;
use super::sessions::{TAKEN_TTL, taken};
use super::steps::{Steps, WHOLE, read_passed};
use super::track::{Has, Told, Track, place, replayed};
use crate::fleet::link::{Link, LinkError, together};
use crate::fleet::order::read_page;
use crate::fleet::words::{HostId, News, Offset, Recovered, Session, room_tag};
use crate::message::Range;
use crate::ticket::Ticket;

/// Messages of one session, and their bytes.
const MESSAGES_MAX: usize = 1000;
const BYTES_MAX: usize = 512 << 10;

/// Times that a session is read again, since its host has changed it or has not yet told all of it.
const TRIES_MAX: usize = 3;

/// The pause before: longer than steps are gathered.
const PAUSE: Duration = Duration::from_millis(60);

/// Entries of a trail that are read at once.
const ENTRIES_AT_ONCE: usize = 64;

/// Steps of a trail that are read. Beyond, sessions far behind are not recovered.
const STEPS_MAX: usize = 1 << 20;

/// How one try ended.
enum Try {
    Done(Recovered),
    /// It cannot be recovered.
    Gone,
    /// Perhaps a little later.
    Again,
}

impl Desk {
    /// Answers [`super::Word::Recover`], sooner or later.
    pub(super) async fn recover(
        self: Rc<Self>,
        link: Rc<Link>,
        (shard, ticket): (u16, Ticket),
        pid: Box<str>,
        offset: Option<Offset>,
    ) {
        let found = match self.recoveries.at_once.acquire().await {
            // Without a link it is unknown whether it was taken over: then it is for nobody.
            Ok(_permit) => self.found(&link, &pid, offset).await.ok().flatten(),
            Err(_) => None,
        };
        self.tell_recovered(shard, ticket, found);
    }

    pub(super) fn tell_recovered(&self, shard: u16, ticket: Ticket, found: Option<Recovered>) {
        let stats = &self.office.stats;
        let counter = if found.is_some() { &stats.recovered } else { &stats.unrecovered };
        counter.fetch_add(1, Relaxed);
        self.tell(shard, News::Recovered { ticket, found: found.map(Box::new) });
    }

    async fn found(
        &self,
        link: &Link,
        pid: &str,
        offset: Option<Offset>,
    ) -> Result<Option<Recovered>, LinkError> {
        for _ in 0..TRIES_MAX {
            match self.try_recover(link, pid, offset).await? {
                Try::Done(recovered) => return Ok(Some(recovered)),
                Try::Gone => return Ok(None),
                Try::Again => tokio::time::sleep(PAUSE).await,
            }
        }
        Ok(None)
    }

    async fn try_recover(
        &self,
        link: &Link,
        pid: &str,
        offset: Option<Offset>,
    ) -> Result<Try, LinkError> {
        let key = self.office.keys.session(pid);
        let text = self.one(link, &key, redis::cmd("GET").arg(&key).take()).await?;
        let Some(text) = read::<String>(&text) else { return Ok(Try::Gone) };
        let Ok(session) = serde_json::from_str::<Session>(&text) else { return Ok(Try::Gone) };
        let Some(places) = self.places(link, &session, offset).await? else {
            return Ok(Try::Gone);
        };
        let pages = session.rooms.iter().zip(&places).map(|(stay, (has, _))| {
            let range = Range { after: Some(*has), before: None, limit: MESSAGES_MAX };
            read_page(link, &self.office.keys, &stay.room, range)
        });
        let (mut missed, mut left) = (Vec::new(), (MESSAGES_MAX, BYTES_MAX));
        for ((has, is_sure), page) in places.iter().zip(together(pages).await) {
            let Some(page) = page?.filter(|page| page.complete) else { return Ok(Try::Gone) };
            if page.last_seq > *has && !is_sure {
                return Ok(Try::Again);
            }
            let bytes = page.messages.iter().map(|message| message.held_bytes()).sum();
            let count = left.0.checked_sub(page.messages.len());
            let Some(rest) = count.zip(left.1.checked_sub(bytes)) else { return Ok(Try::Gone) };
            left = rest;
            missed.push((page.messages, page.last_seq));
        }
        let mut call = self.scripts.claim.call(&[&key]);
        call.arg(&text).arg(taken(self.office.plan.host)).arg(TAKEN_TTL.as_millis() as u64);
        let mut batch = Batch::default();
        batch.call(link, &key, call);
        let answers = batch.send(link, &self.scripts).await?;
        let is_taken = answers.first().and_then(read::<i64>) == Some(1);
        if is_taken && session.host == self.office.plan.host {
            self.sessions.supersede(pid, &session.sid);
        }
        Ok(if is_taken { Try::Done(Recovered { session, missed }) } else { Try::Again })
    }

    /// The last message that the client has of each of its rooms, and whether it has none of those
    /// after it. `None`: that is not known any more.
    async fn places(
        &self,
        link: &Link,
        session: &Session,
        offset: Option<Offset>,
    ) -> Result<Option<Vec<(u64, bool)>>, LinkError> {
        let (host, shard) = (session.host, session.shard);
        // Of a place where it was before, the client has read nothing here.
        let offset = offset.filter(|it| (it.host, it.shard) == (host, shard));
        let key = self.office.keys.passed(host, shard);
        let mut fetch = redis::cmd("HMGET");
        fetch.arg(&key).arg(WHOLE);
        session.rooms.iter().for_each(|stay| {
            fetch.arg(&*stay.room);
        });
        let values = match self.one(link, &key, fetch).await? {
            Value::Array(values) if values.len() == session.rooms.len() + 1 => values,
            _ => return Ok(None),
        };
        let whole = read::<u64>(&values[0]);
        let mut places = Vec::new();
        for (stay, value) in session.rooms.iter().zip(&values[1..]) {
            let (last, position) = (read_passed(value), offset.map(|it| it.position));
            let (since, base) = match replayed((session.since, stay), position) {
                Told::All { since, seq } => (since, seq),
                Told::Up(seq) => {
                    places.push((seq, true));
                    continue;
                }
            };
            let message = offset.and_then(|it| it.message);
            if let Some((_, seq)) = message.filter(|(tag, _)| *tag == room_tag(&stay.room)) {
                places.push((seq.max(base), true));
                continue;
            }
            match place(position, (since, base), last, whole) {
                Has::Up(seq) => places.push((seq, true)),
                Has::AtLeast(seq) => places.push((seq, false)),
                Has::Unread { offset, end } => {
                    let shard = (host, shard);
                    let Some(seq) = self.followed(link, shard, &stay.room, (offset, end)).await?
                    else {
                        return Ok(None);
                    };
                    places.push((seq.max(base), true));
                }
            }
        }
        Ok(Some(places))
    }

    /// The last message of a room that a client has, by its offset and the trail. `end`: a position
    /// up to which that must be read.
    async fn followed(
        &self,
        link: &Link,
        (host, shard): (HostId, u16),
        room: &str,
        (offset, end): (u64, u64),
    ) -> Result<Option<u64>, LinkError> {
        let track = self.recoveries.track(host, shard);
        let mut track = track.lock().await;
        let key = self.office.keys.trail(host, shard);
        let mut start = 0;
        if track.steps_count() >= STEPS_MAX && track.end() < end {
            (*track, start) = (Track::default(), offset);
        }
        while track.end() < end && track.steps_count() < STEPS_MAX {
            let mut range = redis::cmd("XRANGE");
            range.arg(&key).arg(format!("({}-0", track.end().max(start))).arg("+");
            range.arg("COUNT").arg(ENTRIES_AT_ONCE);
            let answer = self.one(link, &key, range).await?;
            let entries = read::<Vec<(String, HashMap<String, String>)>>(&answer);
            let Some(entries) = entries.filter(|it| !it.is_empty()) else { break };
            for (id, fields) in entries {
                let Some((from, to, steps)) = entry(&id, &fields) else { return Ok(None) };
                track.push((from, to), steps);
            }
        }
        Ok(track.has(room, offset))
    }

    /// One command's answer.
    pub(super) async fn one(
        &self,
        link: &Link,
        key: &str,
        command: redis::Cmd,
    ) -> Result<Value, LinkError> {
        let mut batch = Batch::default();
        batch.push(link, key, command);
        Ok(batch.send(link, &self.scripts).await?.pop().unwrap_or(Value::Nil))
    }
}

/// An entry of a trail: from where, up to where, and its steps.
fn entry(id: &str, fields: &HashMap<String, String>) -> Option<(u64, u64, Vec<Steps>)> {
    let to = id.strip_suffix("-0")?.parse().ok()?;
    let from = fields.get("f")?.parse().ok()?;
    Some((from, to, serde_json::from_str(fields.get("s")?).ok()?))
}
