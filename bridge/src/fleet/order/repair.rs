//! Opening and repairing rooms: one routine, for new rooms, for gaps, and for all after every link.
//!
//! Subscribed first, then read; what arrives meanwhile is held and merged. A read that does not
//! prove that nothing is missing ends in [`Ordered::Broken`]. The roster follows
//! ([`super::rosters`]).

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::course::Mended;
use super::flight::Flights;
use super::orders::Orders;
use super::room::Phase;
use super::rooms::What;
use super::script::Asked;
use super::settings::kept;
use super::wire::{self, Found};
use crate::fleet::line::ShardEnd;
use crate::fleet::link::{Link, LinkError, Refusal, together};
use crate::fleet::stats::note;
use crate::fleet::words::{Joined, Ordered};

/// Rooms taken in one go, those of one pipeline, and pipelines that a node works at. A connection
/// is silent until a pipeline is answered whole: with what each room may answer, that is 4 MB.
const BATCH: usize = 256;
const PIPELINE_ROOMS: usize = 16;
const PIPELINES_MAX: usize = 4;
const ANSWER_BYTES_MAX: usize = 256 << 10;
const ANSWER_ENTRIES_MAX: usize = 256;

/// Channels in one command.
const CHANNELS_MAX: usize = 512;

/// How often closed rooms are looked for.
const TICK: Duration = Duration::from_millis(250);

/// One room's read under way.
struct Reading {
    key: Arc<str>,
    number: u64,
    phase: Phase,
}

/// The reads of a pipeline, and their answers.
type Answered = (Vec<Reading>, Vec<Value>);

impl Orders {
    /// Opens, repairs and leaves rooms until the link ends.
    pub(super) async fn tend(&self, link: &Rc<Link>) -> Result<(), LinkError> {
        loop {
            let tick = Instant::now() + TICK;
            self.leave_closed(link).await?;
            loop {
                let batch = self.rooms.borrow_mut().take_due(BATCH, |shard| self.is_full(shard));
                if batch.is_empty() {
                    tokio::select! {
                        () = self.rooms_due.notified() => continue,
                        () = sleep_until(tick) => break,
                    }
                }
                self.subscribe(link, &batch).await?;
                self.read_all(link, batch).await?;
                if Instant::now() >= tick {
                    break;
                }
            }
        }
    }

    async fn leave_closed(&self, link: &Link) -> Result<(), LinkError> {
        loop {
            let closed = self.rooms.borrow_mut().take_closed(CHANNELS_MAX, Instant::now());
            self.count_rooms();
            if closed.is_empty() {
                return Ok(());
            }
            let channels = self.channels(&closed);
            link.unsubscribe(&channels, link.is_cluster()).await?;
        }
    }

    fn channels(&self, keys: &[Arc<str>]) -> Vec<String> {
        keys.iter().map(|key| self.office.keys.events(key)).collect()
    }

    pub(super) fn count_rooms(&self) {
        self.stats().rooms.store(self.rooms.borrow().map.len() as u64, Relaxed);
    }

    async fn subscribe(&self, link: &Link, batch: &[Arc<str>]) -> Result<(), LinkError> {
        let is_new = |key: &&Arc<str>| {
            self.rooms.borrow().map.get(*key).is_some_and(|room| !room.subscribed)
        };
        let new: Vec<_> = batch.iter().filter(is_new).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        link.subscribe(&self.channels(&new), link.is_cluster()).await?;
        let mut rooms = self.rooms.borrow_mut();
        for key in &new {
            // A room that was closed meanwhile stands in its grace.
            if let Some(room) = rooms.map.get_mut(key) {
                room.subscribed = true;
            }
        }
        drop(rooms);
        self.count_rooms();
        Ok(())
    }

    /// Reads rooms, at all nodes at once.
    async fn read_all(&self, link: &Rc<Link>, batch: Vec<Arc<str>>) -> Result<(), LinkError> {
        let mut nodes: Vec<Vec<Arc<str>>> = vec![Vec::new(); link.nodes_count()];
        for key in batch {
            if let Some(its) = nodes.get_mut(link.node_of(&self.office.keys.meta(&key))) {
                its.push(key);
            }
        }
        let reads = nodes.iter().enumerate().map(|(node, its)| self.read_node(link, node, its));
        together(reads).await.into_iter().collect()
    }

    /// Reads rooms of one node, some pipelines at a time.
    async fn read_node(
        &self,
        link: &Rc<Link>,
        node: usize,
        keys: &[Arc<str>],
    ) -> Result<(), LinkError> {
        let mut flights: Flights<'_, Result<Answered, LinkError>> = Flights::new();
        let mut pipelines = keys.chunks(PIPELINE_ROOMS);
        loop {
            while flights.len() < PIPELINES_MAX
                && let Some(some) = pipelines.next()
            {
                let reads = some.iter().filter_map(|key| self.reading(key));
                let (readings, cmds): (Vec<_>, Vec<_>) = reads.unzip();
                let link = Rc::clone(link);
                flights.push(Box::pin(async move {
                    let answers = link.send(node, &cmds).await?;
                    Ok((readings, answers))
                }));
            }
            if flights.len() == 0 {
                return Ok(());
            }
            let (readings, answers) = poll_fn(|context| flights.poll_next(context)).await?;
            if readings.len() != answers.len() {
                return Err(self.give_up(link, "an answer is missing"));
            }
            for (reading, answer) in readings.into_iter().zip(answers) {
                self.on_read(link, node, &reading, &answer).await?;
            }
            self.wake();
        }
    }

    /// The command that reads a room, if it must be read.
    fn reading(&self, key: &Arc<str>) -> Option<(Reading, Cmd)> {
        let mut rooms = self.rooms.borrow_mut();
        let room = rooms.map.get(key)?;
        let (phase, floor, from) = match room.phase {
            Phase::Opening => (Phase::Opening, room.floor, None),
            Phase::Mending => (Phase::Mending, room.course.floor(), Some(room.course.from())),
            Phase::Restarting => (Phase::Restarting, room.course.floor(), None),
            Phase::Live | Phase::Closed => return None,
        };
        let forked = room.course.forked().filter(|_| room.phase == Phase::Restarting);
        let number = rooms.begin_read(key);
        let plan = &self.office.plan;
        let newest = ANSWER_ENTRIES_MAX.min(plan.history_size);
        let asked = Asked {
            meta: &self.office.keys.meta(key),
            stream: &self.office.keys.stream(key),
            settings: &self.office.keys.settings(key),
            epoch: wire::random_epoch(),
            floor: floor.min(wire::SEQ_MAX),
            from,
            count: if from.is_some() { ANSWER_ENTRIES_MAX } else { newest },
            bytes: ANSWER_BYTES_MAX,
            forked,
        };
        let cmd = self.scripts.read(&asked, plan.history_ttl_ms);
        Some((Reading { key: Arc::clone(key), number, phase }, cmd))
    }

    /// A room's read is answered.
    async fn on_read(
        &self,
        link: &Link,
        node: usize,
        reading: &Reading,
        answer: &Value,
    ) -> Result<(), LinkError> {
        if let Some((found, settings)) = wire::found(answer) {
            self.on_found(reading, found, settings);
            return Ok(());
        }
        match Refusal::of(answer) {
            Some(Refusal::NoScript) => {
                self.load_scripts(link, node).await?;
                self.rooms.borrow_mut().queue(&reading.key, false);
                self.rooms_due.notify_one();
            }
            other => {
                // This room alone: others must not suffer. It is not delivered from meanwhile.
                warn!(room = &*reading.key, why = ?other, "Redis does not read a room");
                let mut rooms = self.rooms.borrow_mut();
                rooms.refuse(&reading.key, What::Room, Instant::now());
            }
        }
        Ok(())
    }

    /// Tries again what Redis has refused to read, or a shard was too far behind for, until the
    /// link ends.
    pub(super) async fn retry(&self) -> Result<(), LinkError> {
        loop {
            sleep(TICK).await;
            let has_room = |shard: u16| {
                let end = self.office.shards.get(usize::from(shard));
                end.is_none_or(ShardEnd::has_room)
            };
            let mut rooms = self.rooms.borrow_mut();
            rooms.retry_refused(Instant::now());
            rooms.retry_behind(has_room);
            drop(rooms);
            self.rooms_due.notify_one();
            self.rosters_due.notify_one();
        }
    }

    fn on_found(&self, reading: &Reading, found: Found, settings: &Value) {
        let mut rooms = self.rooms.borrow_mut();
        let Some(room) = rooms.map.get_mut(&reading.key) else { return };
        if room.asked != reading.number || room.phase != reading.phase {
            return;
        }
        let key = Arc::clone(&reading.key);
        let told = match reading.phase {
            Phase::Opening => {
                let messages = room.course.restart(found, room.floor);
                let last_seq = room.course.last();
                let settings = kept(&key, settings).flatten();
                let found = Some(Joined { messages, last_seq, settings });
                vec![Ordered::Opened { room: Arc::clone(&key), found }]
            }
            Phase::Restarting => {
                let floor = room.course.floor();
                let messages = room.course.restart(found, floor);
                let last_seq = room.course.last();
                vec![Ordered::Broken { room: Arc::clone(&key), messages, last_seq }]
            }
            _ => match room.course.mend(found) {
                Mended::Broken { forked } => {
                    self.stats().broken.fetch_add(1, Relaxed);
                    self.stats().forks.fetch_add(u64::from(forked), Relaxed);
                    debug!(room = &*key, forked, "a room's continuity is lost");
                    room.phase = Phase::Restarting;
                    rooms.queue(&key, true);
                    return;
                }
                Mended::Whole { messages, more } => {
                    self.stats().delivered.fetch_add(messages.len() as u64, Relaxed);
                    let deliver = |message| Ordered::Delivered { room: Arc::clone(&key), message };
                    let told: Vec<_> = messages.into_iter().map(deliver).collect();
                    if more {
                        let shard = room.shard;
                        rooms.queue(&key, true);
                        told.into_iter().for_each(|it| self.tell(shard, it));
                        return;
                    }
                    told
                }
            },
        };
        if reading.phase != Phase::Opening {
            self.stats().repairs.fetch_add(1, Relaxed);
            note(&self.stats().repair_us, room.since.elapsed());
        }
        let now = Instant::now();
        room.go_live(now);
        let (shard, is_configured) = (room.shard, room.is_configured);
        drop(rooms);
        told.into_iter().for_each(|it| self.tell(shard, it));
        if !is_configured
            && reading.phase != Phase::Opening
            && let Some(settings) = kept(&key, settings).flatten()
        {
            self.tell(shard, Ordered::Configured { room: Arc::clone(&key), settings });
        }
        self.merge(&key);
        self.rooms.borrow_mut().ask_roster(&key);
        self.rosters_due.notify_one();
    }

    /// Looks at what has come meanwhile; the room may have to be read again.
    fn merge(&self, key: &Arc<str>) {
        let (held, overflown) = {
            let mut rooms = self.rooms.borrow_mut();
            let overflown = rooms.map.get(key).is_some_and(|room| room.overflown);
            (rooms.take_held(key), overflown)
        };
        let is_live = || {
            let rooms = self.rooms.borrow();
            rooms.map.get(key).is_some_and(|room| room.phase == Phase::Live)
        };
        // What comes after one that raises doubt is found by the read that follows.
        for payload in held {
            if is_live() {
                self.on_message(key, &payload);
            }
        }
        if overflown && is_live() {
            self.rooms.borrow_mut().doubt(key, Phase::Mending, Instant::now());
            self.rooms_due.notify_one();
        }
    }
}
