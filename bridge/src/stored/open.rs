//! Opening rooms, and the settings they are given.

use std::sync::Arc;

use super::state::Stored;
use crate::keep::Question;
use crate::message::Message;
use crate::port::Outcome;
use crate::store::{RoomRecord, RoomSettings};
use crate::ticket::Ticket;

impl Stored {
    pub(super) fn open(&mut self, room: Arc<str>, now_ms: u64) {
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

    pub(super) fn on_opened(
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
    pub(super) fn configure_alone(
        &mut self,
        ticket: Ticket,
        room: &Arc<str>,
        settings: RoomSettings,
        now_ms: u64,
    ) {
        let is_known = self.logs.find(room).is_some();
        let record = RoomRecord { settings, ..self.record_or_default(room) };
        if !is_known {
            self.logs.restore(room, record.clone(), vec![], now_ms);
            self.logs.close(room);
        }
        self.on_configured(room, Some(&record));
        self.on_record(ticket, Some(record));
    }

    /// A room that is being opened may have been read before it was configured.
    pub(super) fn on_configured(&mut self, room: &Arc<str>, record: Option<&RoomRecord>) {
        let Some(record) = record else { return };
        self.logs.configure(room, record.settings.clone());
        if let Some(configured) = self.opening.get_mut(room) {
            *configured = Some(record.settings.clone());
        }
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
