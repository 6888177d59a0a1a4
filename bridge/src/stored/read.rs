//! Reading a room's messages, from memory and below it from the store, and what is known of it.

use std::sync::Arc;

use super::state::Stored;
use super::waiting::Reading;
use crate::keep::{Found, Question};
use crate::log::Log;
use crate::message::{Message, Page, Range};
use crate::port::{Full, Outcome};
use crate::store::RoomRecord;
use crate::ticket::Ticket;

impl Stored {
    pub(super) fn try_read(
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
    pub(super) fn read_below(
        &mut self,
        room: Arc<str>,
        reading: Reading,
        below: u64,
        wants_record: bool,
    ) {
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

    pub(super) fn on_read(&mut self, ticket: Ticket, found: Option<Found>, now_ms: u64) {
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

    pub(super) fn try_record(&mut self, ticket: Ticket, room: Arc<str>) -> Result<(), Full> {
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

    pub(super) fn on_record(&mut self, ticket: Ticket, record: Option<RoomRecord>) {
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
