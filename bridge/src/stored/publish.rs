//! A draft's way to its number, and into the store.

use std::mem;
use std::sync::Arc;

use super::membership::Membership;
use super::state::Stored;
use super::waiting::Busy;
use crate::keep::Question;
use crate::log::Log;
use crate::message::{Draft, Message};
use crate::port::{Full, Outcome};
use crate::store::Entry;
use crate::ticket::Ticket;

impl Stored {
    pub(super) fn try_publish(
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

    pub(super) fn on_found(&mut self, room: Arc<str>, found: Option<Vec<Message>>, now_ms: u64) {
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
    pub(super) fn append(&mut self, room: &Arc<str>, message: &Arc<Message>) {
        let Some(line) = &self.line else { return };
        self.queued_messages += 1;
        self.queued_bytes += message.held_bytes();
        line.append(Entry { room: Arc::clone(room), message: Arc::clone(message) });
    }

    /// Answers for a message that has its number, now or when it is kept.
    pub(super) fn settle(
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

    pub(super) fn on_kept(&mut self, room: &Arc<str>, message: &Message, kept: bool) {
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
    pub(super) fn on_failing(&mut self) {
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
}
