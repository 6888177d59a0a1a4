//! What is different in a fleet: Redis gives the numbers, and delivers.

use std::sync::Arc;

use super::membership::{Asked, Publishing};
use super::state::Stored;
use crate::fleet::{FromFleet, Joined, News, Order, Ordered, Word};
use crate::keep::Question;
use crate::log::Log;
use crate::message::{Draft, Message, Page, Range};
use crate::port::Outcome;
use crate::store::{RoomRecord, RoomSettings};
use crate::ticket::Ticket;

/// Messages of unknown fate that are remembered: as many as a shard may have had under way.
const UNKNOWN_MAX: usize = 16_384;

/// Rooms of dead hosts that wait to be read.
const ORPHANS_MAX: usize = 16_384;

impl Stored {
    pub(super) fn tell(&self, word: Word) {
        if let Some(fleet) = &self.fleet {
            fleet.line.tell(word);
        }
    }

    /// The room is known as far as this host knows it; the fleet may know more.
    pub(super) fn join_fleet(&mut self, room: Arc<str>, floor: u64) {
        if let Some(fleet) = &self.fleet {
            fleet.line.order(Order::Open { room, floor });
        }
    }

    pub(super) fn leave_fleet(&self, room: Arc<str>) {
        if let Some(fleet) = &self.fleet {
            fleet.line.order(Order::Close { room });
        }
    }

    /// Asks for a message's number.
    pub(super) fn order(&mut self, ticket: Ticket, room: Arc<str>, draft: Draft, at_ms: u64) {
        let (id, bytes) = (self.logs.message_id(), draft.held_bytes());
        let floor = self.logs.find(&room).map_or(0, |log| log.record.last_seq);
        let Some(fleet) = &mut self.fleet else { return };
        let publishing = Publishing { room: Arc::clone(&room), id: id.clone(), bytes };
        fleet.publishing.insert(ticket, publishing);
        fleet.line.order(Order::Publish { ticket, room, id, at_ms, draft, floor });
        self.queued_bytes += bytes;
    }

    pub(super) fn on_news(&mut self, news: FromFleet, now_ms: u64) {
        match news {
            FromFleet::News(News::Orphaned { room, .. }) => self.read_orphan(room),
            FromFleet::News(news) => self.outcomes.push_back(Outcome::News(news)),
            FromFleet::Ordered(ordered) => self.on_ordered(ordered, now_ms),
        }
    }

    fn on_ordered(&mut self, ordered: Ordered, now_ms: u64) {
        match ordered {
            Ordered::Opened { room, found } => self.on_joined(room, found, now_ms),
            Ordered::Published { ticket, room, message, duplicate } => {
                self.note_published(ticket);
                self.on_published(ticket, room, message, duplicate);
            }
            Ordered::Refused { ticket } => {
                self.note_unknown(ticket);
                self.outcomes.push_back(Outcome::Refused { ticket });
            }
            Ordered::Delivered { room, message } => self.on_delivered(room, message, now_ms),
            Ordered::Broken { room, messages, last_seq } => {
                self.append_missing(&room, &messages);
                self.logs.begin_anew_at(&room, messages, last_seq, now_ms);
                self.put_settings_back(&room);
                self.outcomes.push_back(Outcome::Broken { room, last_seq });
            }
            Ordered::Read { ticket, page } => match self.take_orphan(ticket) {
                Some(room) => self.keep_orphan(&room, page.unwrap_or_default()),
                None => self.on_recent(ticket, page),
            },
            Ordered::Settings { ticket, found } => self.on_settings(ticket, found, now_ms),
            Ordered::Configured { room, settings } => {
                self.keep_settings(&room, &settings, now_ms);
                self.logs.configure(&room, settings.clone());
                self.outcomes.push_back(Outcome::Configured { room, settings });
            }
        }
    }

    /// A room's settings as Redis has them, or as it has been told. Where it does not answer, a
    /// store that all hosts share knows them as well.
    fn on_settings(&mut self, ticket: Ticket, found: Option<Option<RoomSettings>>, now_ms: u64) {
        let Some(fleet) = &mut self.fleet else { return };
        let room = match fleet.questions.remove(&ticket) {
            Some(Asked::Settings(room)) => room,
            Some(Asked::Change(room)) => {
                let Some(settings) = found.flatten() else { return self.on_record(ticket, None) };
                if self.line.is_some() {
                    let question = Question::Configure { ticket, room, settings, now_ms };
                    return self.ask(question);
                }
                let record = RoomRecord { settings, ..self.record_or_default(&room) };
                return self.on_record(ticket, Some(record));
            }
            Some(Asked::Record(_) | Asked::Heard) | None => return,
        };
        let is_own = fleet.keeps_all || self.line.is_none();
        let settings = match found {
            None if is_own => return self.on_record(ticket, None),
            found => found.flatten(),
        };
        fleet.questions.insert(ticket, Asked::Record(settings));
        if self.line.is_some() {
            return self.ask(Question::Record { ticket, room });
        }
        self.on_record(ticket, Some(self.record_or_default(&room)));
    }

    /// This host's own store has messages of others, so it must have their settings, too.
    fn keep_settings(&mut self, room: &Arc<str>, settings: &RoomSettings, now_ms: u64) {
        let is_new = |log: &Log| log.record.settings != *settings;
        let Some(fleet) = self.fleet.as_mut().filter(|fleet| fleet.keeps_all) else { return };
        if self.line.is_some() && self.logs.find(room).is_some_and(is_new) {
            let (ticket, room, settings) = (fleet.ticket(), Arc::clone(room), settings.clone());
            fleet.questions.insert(ticket, Asked::Heard);
            self.questions += 1;
            self.ask(Question::Configure { ticket, room, settings, now_ms });
        }
    }

    /// Redis may have lost a room's settings: where it has none, it is told these.
    fn put_settings_back(&mut self, room: &Arc<str>) {
        let Some(log) = self.logs.find(room) else { return };
        let settings = log.record.settings.clone();
        if let (Some(fleet), true) = (&mut self.fleet, settings != RoomSettings::default()) {
            let (ticket, room) = (fleet.ticket(), Arc::clone(room));
            fleet.questions.insert(ticket, Asked::Heard);
            // Nothing changes where it has some.
            let change = Box::new((settings.clone(), settings));
            fleet.line.order(Order::Configure { ticket, room, change });
        }
    }

    fn note_published(&mut self, ticket: Ticket) -> Option<Publishing> {
        let published = self.fleet.as_mut()?.publishing.remove(&ticket)?;
        self.queued_bytes -= published.bytes;
        Some(published)
    }

    /// Nobody waits for this message any more, but it may come all the same, or has come.
    fn note_unknown(&mut self, ticket: Ticket) {
        let Some(Publishing { room, id, .. }) = self.note_published(ticket) else { return };
        if let Some(message) = self.logs.find(&room).and_then(|log| log.find_by_id(&id)).cloned() {
            return self.append_other(&room, &message);
        }
        let Some(fleet) = &mut self.fleet else { return };
        if fleet.unknown.len() >= UNKNOWN_MAX {
            fleet.unknown.clear();
        }
        fleet.unknown.insert(id);
    }

    fn on_joined(&mut self, room: Arc<str>, found: Option<Joined>, now_ms: u64) {
        let Some(Joined { messages, last_seq, settings }) = found else {
            self.logs.close(&room);
            self.leave_fleet(Arc::clone(&room));
            return self.outcomes.push_back(Outcome::Opened { room, record: None });
        };
        self.append_missing(&room, &messages);
        self.logs.catch_up(&room, messages, last_seq, now_ms);
        match settings {
            Some(settings) => {
                self.keep_settings(&room, &settings, now_ms);
                self.logs.configure(&room, settings);
            }
            None => self.put_settings_back(&room),
        }
        let record = self.logs.find(&room).map(|log| log.record.clone());
        self.outcomes.push_back(Outcome::Opened { room, record });
    }

    pub(super) fn on_published(
        &mut self,
        ticket: Ticket,
        room: Arc<str>,
        message: Arc<Message>,
        duplicate: bool,
    ) {
        // A repetition, too: whoever published the first may have been killed before it was kept.
        if self.line.is_some() {
            self.logs.await_store(&room, message.seq);
            self.append(&room, &message);
        }
        self.settle(ticket, room, message, (duplicate, false));
    }

    fn on_delivered(&mut self, room: Arc<str>, message: Arc<Message>, now_ms: u64) {
        let is_own = self.logs.is_own(&message);
        let is_to_keep = self.fleet.as_mut().is_some_and(|fleet| match is_own {
            // One that has been answered for is kept, or about to be.
            true => fleet.unknown.remove(&message.id),
            false => fleet.keeps_all,
        });
        if is_to_keep {
            self.append_other(&room, &message);
        }
        self.logs.place(&room, Arc::clone(&message), now_ms);
        self.outcomes.push_back(Outcome::Delivered { room, message });
    }

    /// Keeps what is not known to be kept: whoever published it may have been killed before.
    fn append_missing(&mut self, room: &Arc<str>, messages: &[Arc<Message>]) {
        for message in messages {
            if !self.logs.find(room).is_some_and(|log| log.has(message)) {
                self.append_other(room, message);
            }
        }
    }

    /// A host died that had members in the room: what it published last may be in Redis alone.
    fn read_orphan(&mut self, room: Arc<str>) {
        let Some(fleet) = self.fleet.as_mut().filter(|fleet| !fleet.keeps_all) else { return };
        if self.line.is_none() || fleet.orphans_waiting.len() >= ORPHANS_MAX {
            return;
        }
        fleet.orphans_waiting.push_back(room);
        fleet.read_orphans();
    }

    fn take_orphan(&mut self, ticket: Ticket) -> Option<Arc<str>> {
        let fleet = self.fleet.as_mut()?;
        let room = fleet.orphans.remove(&ticket)?;
        fleet.read_orphans();
        Some(room)
    }

    fn keep_orphan(&mut self, room: &Arc<str>, page: Page) {
        for message in page.messages {
            self.append_other(room, &message);
        }
    }

    /// Keeps a message for which nobody here waits, unless much waits for the store: half of what
    /// may is left to those who wait for an answer.
    fn append_other(&mut self, room: &Arc<str>, message: &Arc<Message>) {
        let is_full = self.queued_messages >= self.limits.queued_messages_max / 2
            || self.queued_bytes >= self.limits.queued_bytes_max / 2;
        if let (Some(line), true) = (&self.line, is_full) {
            line.note_skipped();
        } else if self.line.is_some() {
            self.logs.await_store(room, message.seq);
            self.append(room, message);
        }
    }

    /// What Redis has of a room that is not open here; the store may have what lies below.
    fn on_recent(&mut self, ticket: Ticket, page: Option<Page>) {
        let waiting = self.fleet.as_mut().and_then(|fleet| fleet.readings.remove(&ticket));
        let Some((room, mut reading)) = waiting else { return };
        let range: Range = reading.range;
        match page {
            Some(page) => reading.held = page,
            None if self.line.is_none() => {
                reading.held.partial = true;
                reading.held.complete = range.after.is_none();
            }
            None => {}
        }
        let held = &reading.held;
        let first_seq =
            held.messages.first().map_or(held.last_seq.saturating_add(1), |first| first.seq);
        let below = match held.last_seq {
            // Redis knows nothing of the room: everything may be in the store.
            0 => range.before.unwrap_or(u64::MAX),
            _ => range.before.unwrap_or(u64::MAX).min(first_seq),
        };
        let wanted_seq = range.after.map_or(1, |after| after.saturating_add(1));
        if held.messages.len() >= range.limit || (held.last_seq > 0 && wanted_seq >= below) {
            self.questions -= 1;
            let page = reading.held;
            return self.outcomes.push_back(Outcome::Read { ticket, page });
        }
        self.read_below(room, reading, below, true);
    }
}
