//! A shard's end of the bridge on a host that keeps its messages in a store, or belongs to a fleet.
//!
//! Alone, it numbers messages at once, from memory, and lets the bridge's thread keep them; only
//! opening a room that is not in memory waits for the store, since its numbers must go on. In a
//! fleet (`fleet`) Redis numbers them, and what it delivers is held here and kept. What memory does
//! not hold is read through. A `client_id` that memory does not know is looked up before its
//! message is numbered, if the room has a past beyond memory; later messages of the room wait for
//! it. If that fails, the message is refused where the store was promised, else it counts as new.
//!
//! Bounded: messages that wait for their commit, their bytes, and questions under way. What is
//! beyond is refused, and so is a message that could not be acknowledged as promised.

mod fleet;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use crate::fleet::FleetLine;
use crate::keep::{Done, Found, Line, Question};
use crate::log::{Log, Logs, MemoryLimits};
use crate::message::{Draft, Message, Range};
use crate::port::{Full, Outcome, Page, Port, Request, Ticket};
use crate::store::{Entry, RoomRecord, RoomSettings};
use fleet::Membership;

/// Passwords that may wait for their comparison, which is slow on purpose and done one at a time.
const VERIFYING_MAX: usize = 32;

/// What a [`Stored`] promises and how much of it may be under way.
#[derive(Clone, Copy, Debug)]
pub struct StoredLimits {
    /// What is held in memory.
    pub memory: MemoryLimits,
    /// A message is settled when the store has committed it, not when it has its number.
    pub settles_at_commit: bool,
    /// Messages that may wait for their commit.
    pub queued_messages_max: usize,
    /// Their bytes.
    pub queued_bytes_max: usize,
    /// Reads, look-ups and other questions that may wait for an answer.
    pub questions_max: usize,
    /// Older messages are not shown even where they still exist, in milliseconds.
    pub retention_ms: Option<u64>,
}

impl StoredLimits {
    /// How long a message waits to be recognised as a repetition: where everybody gets it anyway,
    /// not so long that they would notice.
    fn look_up(&self) -> Duration {
        Duration::from_millis(if self.settles_at_commit { 5_000 } else { 250 })
    }
}

/// What is under way in a room.
#[derive(Default)]
struct Busy {
    /// Who waits for the commit of which message, by rising `seq`.
    waiting: VecDeque<(Ticket, Arc<Message>)>,
    /// Drafts that wait for a look-up, or behind one that does.
    held: VecDeque<(Ticket, Draft)>,
    /// How many of `held` the look-up under way is for; 0: there is none.
    looked_up: usize,
}

/// A read that waits for the store.
struct Reading {
    ticket: Ticket,
    range: Range,
    /// What memory has of it.
    held: Page,
    oldest_ms: u64,
}

/// A [`Port`] with a store behind it.
pub struct Stored {
    limits: StoredLimits,
    logs: Logs,
    line: Option<Line>,
    fleet: Option<Membership>,
    busy: HashMap<Arc<str>, Busy>,
    readings: HashMap<Ticket, Reading>,
    /// Rooms that are being opened, and the settings they have been given meanwhile.
    opening: HashMap<Arc<str>, Option<RoomSettings>>,
    held_count: usize,
    queued_messages: usize,
    queued_bytes: usize,
    questions: usize,
    verifying: usize,
    /// The store has not answered for a while.
    failing: bool,
    outcomes: VecDeque<Outcome>,
}

impl Stored {
    /// `line` leads to the bridge's thread; `id_prefix` starts every message id and must differ
    /// between shards and between starts.
    pub fn new(limits: StoredLimits, line: Line, id_prefix: &str) -> Self {
        Self::with(limits, Some(line), None, id_prefix)
    }

    /// The same in a fleet, with or without a store. `keeps_all`: the store is this host's own, so
    /// that what other hosts publish is kept here, too.
    pub fn in_fleet(
        limits: StoredLimits,
        line: Option<Line>,
        (fleet, keeps_all): (FleetLine, bool),
        id_prefix: &str,
    ) -> Self {
        Self::with(limits, line, Some(Membership::new(fleet, keeps_all)), id_prefix)
    }

    fn with(
        limits: StoredLimits,
        line: Option<Line>,
        fleet: Option<Membership>,
        id_prefix: &str,
    ) -> Self {
        Self {
            limits,
            logs: Logs::new(limits.memory, line.is_some(), id_prefix),
            line,
            fleet,
            busy: HashMap::new(),
            readings: HashMap::new(),
            opening: HashMap::new(),
            held_count: 0,
            queued_messages: 0,
            queued_bytes: 0,
            questions: 0,
            verifying: 0,
            failing: false,
            outcomes: VecDeque::new(),
        }
    }

    fn open(&mut self, room: Arc<str>, now_ms: u64) {
        if let Some(record) = self.logs.open(&room).map(|log| log.record.clone()) {
            match self.fleet {
                Some(_) => self.join_fleet(room, record.last_seq),
                None => self.outcomes.push_back(Outcome::Opened { room, record: Some(record) }),
            }
        } else if self.opening.insert(Arc::clone(&room), None).is_none() {
            let limit = self.limits.memory.messages_per_room;
            match &self.line {
                Some(line) => line.ask(Question::Open { room, limit }),
                None => self.on_opened(room, Some(Default::default()), now_ms),
            }
        }
    }

    fn on_opened(
        &mut self,
        room: Arc<str>,
        found: Option<(RoomRecord, Vec<Message>)>,
        now_ms: u64,
    ) {
        let configured = self.opening.remove(&room).flatten();
        let record = found.map(|(mut record, messages)| {
            if let Some(settings) = configured {
                record.settings = settings;
            }
            let ttl_ms =
                self.limits.memory.ttl_ms.min(self.limits.retention_ms.unwrap_or(u64::MAX));
            let oldest_ms = now_ms.saturating_sub(ttl_ms);
            let tail = unbroken_tail(messages, record.last_seq, oldest_ms);
            self.logs.restore(&room, record, tail, now_ms).record.clone()
        });
        match (&self.fleet, &record) {
            (Some(_), Some(record)) => self.join_fleet(room, record.last_seq),
            _ => self.outcomes.push_back(Outcome::Opened { room, record }),
        }
    }

    /// Without a store a room's settings are known while its log is.
    fn configure_alone(
        &mut self,
        ticket: Ticket,
        room: &Arc<str>,
        settings: RoomSettings,
        now_ms: u64,
    ) {
        let known = self.logs.find(room).map(|log| log.record.clone());
        let record = RoomRecord { settings, ..known.clone().unwrap_or_default() };
        if known.is_none() {
            self.logs.restore(room, record.clone(), vec![], now_ms);
            self.logs.close(room);
        }
        self.on_configured(room, Some(&record));
        self.on_record(ticket, Some(record));
    }

    /// A room that is being opened may have been read before it was configured.
    fn on_configured(&mut self, room: &Arc<str>, record: Option<&RoomRecord>) {
        let Some(record) = record else { return };
        self.logs.configure(room, record.settings.clone());
        if let Some(configured) = self.opening.get_mut(room) {
            *configured = Some(record.settings.clone());
        }
    }

    fn try_publish(
        &mut self,
        ticket: Ticket,
        room: Arc<str>,
        draft: Draft,
        now_ms: u64,
    ) -> Result<(), Full> {
        let publishing = self.fleet.as_ref().map_or(0, Membership::publishing_count);
        let queued = self.queued_messages + self.held_count + publishing;
        let full = queued >= self.limits.queued_messages_max
            || self.queued_bytes >= self.limits.queued_bytes_max;
        if full || (self.failing && self.limits.settles_at_commit) {
            return Err(Full);
        }
        let behind = self.busy.get(&room).is_some_and(|busy| !busy.held.is_empty());
        if !behind && !self.needs_look_up(&room, &draft) {
            self.publish(ticket, room, draft, now_ms);
            return Ok(());
        }
        self.held_count += 1;
        self.queued_bytes += draft.held_bytes();
        self.busy.entry(Arc::clone(&room)).or_default().held.push_back((ticket, draft));
        if !behind {
            self.look_up(room, now_ms);
        }
        Ok(())
    }

    fn needs_look_up(&self, room: &str, draft: &Draft) -> bool {
        let has_past = |log: &Log| log.first_seq() > 1 && log.find_repeated(draft).is_none();
        let asks = self.line.is_some() && draft.client_id.is_some();
        asks && self.logs.find(room).is_some_and(has_past)
    }

    /// Publishes what is held, up to the first draft that must be looked up, and asks for all such.
    fn look_up(&mut self, room: Arc<str>, now_ms: u64) {
        while let Some(busy) = self.busy.get_mut(&room)
            && let Some((ticket, draft)) = busy.held.pop_front()
        {
            if self.needs_look_up(&room, &draft) {
                let Some(busy) = self.busy.get_mut(&room) else { return };
                busy.held.push_front((ticket, draft));
                busy.looked_up = busy.held.len();
                let ids = busy.held.iter().filter_map(|(_, draft)| draft.client_id.clone());
                let (client_ids, patience) = (ids.collect(), self.limits.look_up());
                return self.ask(Question::Find { room, client_ids, patience });
            }
            self.held_count -= 1;
            self.queued_bytes -= draft.held_bytes();
            self.publish(ticket, Arc::clone(&room), draft, now_ms);
        }
        self.forget_idle(&room);
    }

    fn on_found(&mut self, room: Arc<str>, found: Option<Vec<Message>>, now_ms: u64) {
        let is_known = found.is_some() || !self.limits.settles_at_commit;
        let found: Vec<_> = found.into_iter().flatten().map(Arc::new).collect();
        let Some(busy) = self.busy.get_mut(&room) else { return };
        let count = mem::take(&mut busy.looked_up).min(busy.held.len());
        let looked_up: Vec<_> = busy.held.drain(..count).collect();
        self.held_count -= count;
        for (ticket, draft) in looked_up {
            self.queued_bytes -= draft.held_bytes();
            let same = |message: &&Arc<Message>| message.draft.client_id == draft.client_id;
            match found.iter().find(same).filter(|_| draft.client_id.is_some()) {
                Some(first) => {
                    let message = Arc::clone(first);
                    self.outcomes.push_back(Outcome::repeated(ticket, message));
                }
                None if draft.client_id.is_some() && !is_known => {
                    self.outcomes.push_back(Outcome::Refused { ticket });
                }
                None => self.publish(ticket, Arc::clone(&room), draft, now_ms),
            }
        }
        self.look_up(room, now_ms);
    }

    /// Gives a draft its number, unless memory has it already.
    fn publish(&mut self, ticket: Ticket, room: Arc<str>, draft: Draft, now_ms: u64) {
        let first = self.logs.find(&room).and_then(|log| log.find_repeated(&draft)).cloned();
        match (first, &self.fleet) {
            (Some(first), None) => self.settle(ticket, room, first, (true, false)),
            (Some(first), Some(_)) => self.on_published(ticket, room, first, true),
            (None, Some(_)) => self.order(ticket, room, draft, now_ms),
            (None, None) => {
                let message = self.logs.number(&room, draft, now_ms);
                self.append(&room, &message);
                self.settle(ticket, room, message, (false, true));
            }
        }
    }

    /// Hands a message to the store.
    fn append(&mut self, room: &Arc<str>, message: &Arc<Message>) {
        let Some(line) = &self.line else { return };
        self.queued_messages += 1;
        self.queued_bytes += message.held_bytes();
        line.append(Entry { room: Arc::clone(room), message: Arc::clone(message) });
    }

    /// Answers for a message that has its number, now or when it is kept.
    fn settle(
        &mut self,
        ticket: Ticket,
        room: Arc<str>,
        message: Arc<Message>,
        (duplicate, delivers): (bool, bool),
    ) {
        let kept = match self.line {
            Some(_) => self.logs.find(&room).and_then(|log| log.is_kept(message.seq)),
            None => Some(true),
        };
        let settled = !self.limits.settles_at_commit || kept == Some(true);
        let first = Arc::clone(&message);
        let published = Outcome::Published { ticket, message: first, duplicate, delivers, settled };
        self.outcomes.push_back(published);
        match kept {
            _ if settled => {}
            None if !self.failing => {
                let waiting = &mut self.busy.entry(room).or_default().waiting;
                // A repetition waits beside the first.
                let place = waiting.partition_point(|(_, other)| other.seq <= message.seq);
                waiting.insert(place, (ticket, message));
            }
            kept => {
                let kept = kept == Some(true);
                self.outcomes.push_back(Outcome::Settled { ticket, message, kept });
            }
        }
    }

    fn on_kept(&mut self, room: &Arc<str>, message: &Message, kept: bool) {
        self.queued_messages -= 1;
        self.queued_bytes -= message.held_bytes();
        self.logs.commit(room, message.seq, kept);
        let Some(busy) = self.busy.get_mut(room) else { return };
        let from = busy.waiting.partition_point(|(_, first)| first.seq < message.seq);
        let to = busy.waiting.partition_point(|(_, first)| first.seq <= message.seq);
        for (ticket, message) in busy.waiting.drain(from..to) {
            self.outcomes.push_back(Outcome::Settled { ticket, message, kept });
        }
        self.forget_idle(room);
    }

    /// Nobody shall wait for a store that does not answer: what they asked for is unknown.
    fn on_failing(&mut self) {
        self.failing = true;
        for busy in self.busy.values_mut() {
            for (ticket, message) in busy.waiting.drain(..) {
                self.outcomes.push_back(Outcome::Settled { ticket, message, kept: false });
            }
        }
        self.busy.retain(|_, busy| !busy.is_idle());
    }

    fn forget_idle(&mut self, room: &str) {
        if self.busy.get(room).is_some_and(Busy::is_idle) {
            self.busy.remove(room);
        }
    }

    fn try_read(
        &mut self,
        ticket: Ticket,
        room: Arc<str>,
        range: Range,
        now_ms: u64,
    ) -> Result<(), Full> {
        let general_ms = self.limits.retention_ms;
        // In a fleet others may have gone on with a room that is closed here.
        let is_current = self.fleet.is_none() || self.logs.find(&room).is_some_and(Log::is_open);
        let held = match is_current {
            true => self.logs.read(&room, range, general_ms, now_ms),
            false => Page { complete: range.after.is_none_or(|it| it == 0), ..Page::default() },
        };
        let log = self.logs.find(&room).filter(|_| is_current);
        let first_seq = log.map_or(u64::MAX, Log::first_seq);
        let wanted_seq = range.after.map_or(1, |after| after.saturating_add(1));
        let below = range.before.unwrap_or(u64::MAX).min(first_seq);
        if held.messages.len() >= range.limit || wanted_seq >= below {
            // To be sure would take a look into the store for each who joins.
            let more = held.more || held.messages.first().is_some_and(|first| first.seq > 1);
            self.outcomes.push_back(Outcome::Read { ticket, page: Page { more, ..held } });
            return Ok(());
        }
        let is_known = log.is_some();
        let oldest_ms = log.map_or(0, |log| log.record.settings.oldest_ms(general_ms, now_ms));
        self.try_question()?;
        let reading = Reading { ticket, range, held, oldest_ms };
        match &mut self.fleet {
            Some(fleet) if !is_known => fleet.read(room, reading),
            _ => self.read_below(room, reading, below, !is_known),
        }
        Ok(())
    }

    /// Reads from the store what lies below what is known already.
    fn read_below(&mut self, room: Arc<str>, reading: Reading, below: u64, wants_record: bool) {
        let Reading { ticket, range, .. } = reading;
        // One more than is wanted tells whether there are more.
        let limit = range.limit - reading.held.messages.len() + 1;
        let asked = Range { before: Some(below), limit, ..range };
        if self.line.is_none() {
            self.questions -= 1;
            return self.outcomes.push_back(Outcome::Read { ticket, page: reading.held });
        }
        self.readings.insert(ticket, reading);
        self.ask(Question::Read { ticket, room, range: asked, wants_record });
    }

    /// Asks the store, if there is one.
    fn ask(&self, question: Question) {
        if let Some(line) = &self.line {
            line.ask(question);
        }
    }

    fn on_read(&mut self, ticket: Ticket, found: Option<Found>, now_ms: u64) {
        self.questions -= 1;
        let Some(reading) = self.readings.remove(&ticket) else { return };
        let Reading { ticket, range, mut held, mut oldest_ms } = reading;
        let page = match found {
            Some((older, record)) => {
                if let Some(record) = record {
                    held.last_seq = held.last_seq.max(record.last_seq);
                    oldest_ms = record.settings.oldest_ms(self.limits.retention_ms, now_ms);
                }
                joined(range, held, &older, oldest_ms)
            }
            None => Page { complete: range.after.is_none(), more: true, partial: true, ..held },
        };
        self.outcomes.push_back(Outcome::Read { ticket, page });
    }

    fn try_record(&mut self, ticket: Ticket, room: Arc<str>) -> Result<(), Full> {
        let known = self.logs.find(&room);
        if let Some(log) = known.filter(|log| self.fleet.is_none() || log.is_open()) {
            let record = Some(log.record.clone());
            self.outcomes.push_back(Outcome::Record { ticket, record });
            return Ok(());
        }
        self.try_question()?;
        match &mut self.fleet {
            Some(fleet) => fleet.ask_settings(ticket, room),
            None if self.line.is_some() => self.ask(Question::Record { ticket, room }),
            None => self.on_record(ticket, Some(RoomRecord::default())),
        }
        Ok(())
    }

    fn on_record(&mut self, ticket: Ticket, record: Option<RoomRecord>) {
        self.questions -= 1;
        if self.fleet.as_mut().is_some_and(|fleet| fleet.is_heard(ticket)) {
            return;
        }
        let record = match &mut self.fleet {
            Some(fleet) => fleet.completed(ticket, record),
            None => record,
        };
        self.outcomes.push_back(Outcome::Record { ticket, record });
    }

    fn try_question(&mut self) -> Result<(), Full> {
        if self.questions >= self.limits.questions_max {
            return Err(Full);
        }
        self.questions += 1;
        Ok(())
    }

    fn on_done(&mut self, done: Done, now_ms: u64) {
        match done {
            Done::Kept(entries) => {
                for (entry, kept) in entries {
                    self.on_kept(&entry.room, &entry.message, kept);
                }
            }
            Done::Opened { room, found } => self.on_opened(room, found, now_ms),
            Done::Found { room, messages } => self.on_found(room, messages, now_ms),
            Done::Read { ticket, found } => self.on_read(ticket, found, now_ms),
            Done::Record { ticket, record } => self.on_record(ticket, record),
            Done::Configured { ticket, room, record } => {
                // In a fleet they come in Redis's order, this host's own as well.
                if self.fleet.is_none() {
                    self.on_configured(&room, record.as_ref());
                }
                self.on_record(ticket, record);
            }
            Done::Verified { ticket, right } => {
                self.verifying -= 1;
                self.outcomes.push_back(Outcome::Verified { ticket, right });
            }
            Done::Failing => self.on_failing(),
            Done::Recovered => self.failing = false,
        }
    }
}

impl Busy {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty()
    }
}

/// The messages that stand at the end of the order without a gap, and are not too old.
fn unbroken_tail(messages: Vec<Message>, last_seq: u64, oldest_ms: u64) -> Vec<Arc<Message>> {
    let mut wanted_seq = last_seq;
    let fits = |message: &&Message| {
        let fits = message.seq == wanted_seq && message.at_ms >= oldest_ms;
        wanted_seq = wanted_seq.saturating_sub(1);
        fits
    };
    let count = messages.iter().rev().take_while(fits).count();
    messages.into_iter().rev().take(count).rev().map(Arc::new).collect()
}

/// A page from what the store has below what memory has.
fn joined(range: Range, held: Page, older: &[Arc<Message>], oldest_ms: u64) -> Page {
    let space = range.limit - held.messages.len();
    // What is too old has nothing before it that would not be.
    let more = older.len() > space && older.first().is_some_and(|it| it.at_ms >= oldest_ms);
    let shown = older.iter().skip(older.len().saturating_sub(space));
    let mut messages: Vec<_> = shown.filter(|it| it.at_ms >= oldest_ms).cloned().collect();
    messages.extend(held.messages);
    let last_seq = held.last_seq.max(messages.last().map_or(0, |message| message.seq));
    let complete = range.after.is_none_or(|after| {
        let end = range.before.unwrap_or(u64::MAX).min(last_seq + 1);
        let expected = after.saturating_add(1)..end;
        messages.iter().map(|message| message.seq).eq(expected) && after <= last_seq
    });
    Page { messages, last_seq, complete, more, partial: false }
}

impl Port for Stored {
    fn try_submit(&mut self, request: Request, now_ms: u64) -> Result<(), Full> {
        match request {
            Request::Open { room } => self.open(room, now_ms),
            Request::Close { room } => {
                self.logs.close(&room);
                self.leave_fleet(room);
            }
            Request::Publish { ticket, room, draft } => {
                return self.try_publish(ticket, room, draft, now_ms);
            }
            Request::Read { ticket, room, range } => {
                return self.try_read(ticket, room, range, now_ms);
            }
            Request::Record { ticket, room } => return self.try_record(ticket, room),
            Request::Configure { ticket, room, before, settings } => {
                self.try_question()?;
                match &mut self.fleet {
                    Some(fleet) => fleet.configure(ticket, room, (before, settings)),
                    None if self.line.is_some() => {
                        self.ask(Question::Configure { ticket, room, settings, now_ms });
                    }
                    None => self.configure_alone(ticket, &room, settings, now_ms),
                }
            }
            Request::Verify { ticket, .. } if self.line.is_none() => {
                self.outcomes.push_back(Outcome::Verified { ticket, right: None });
            }
            Request::Verify { ticket, password, hash } => {
                if self.verifying >= VERIFYING_MAX {
                    return Err(Full);
                }
                self.verifying += 1;
                self.ask(Question::Verify { ticket, password, hash });
            }
            Request::Tell(word) => self.tell(word),
        }
        Ok(())
    }

    fn poll_outcome(&mut self, now_ms: u64) -> Option<Outcome> {
        while self.outcomes.is_empty() {
            if let Some(done) = self.line.as_ref().and_then(Line::poll) {
                self.on_done(done, now_ms);
            } else {
                let news = self.fleet.as_ref()?.poll()?;
                self.on_news(news, now_ms);
            }
        }
        self.outcomes.pop_front()
    }

    fn is_shared(&self) -> bool {
        self.fleet.is_some()
    }

    fn expire(&mut self, now_ms: u64) {
        self.logs.expire(now_ms);
    }

    fn held_bytes(&self) -> usize {
        self.logs.held_bytes()
    }
}
