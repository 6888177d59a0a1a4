//! The order and the recent messages of the rooms that one shard is home to.
//!
//! Bounded three ways: messages per room, age, and bytes over all rooms. The oldest messages go
//! first, but never one that still waits for the store; a read says what is missing. A room that
//! nobody is in and of which nothing is held is forgotten.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::message::{Draft, Message, Page, Range};
use crate::store::{RoomRecord, RoomSettings};

/// How much is held in a shard's memory.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimits {
    /// Messages kept per room; 0 keeps none.
    pub messages_per_room: usize,
    /// How long a message is kept, in milliseconds.
    pub ttl_ms: u64,
    /// Bytes of messages kept over all rooms.
    pub bytes_max: usize,
}

/// What a shard knows of one room.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) record: RoomRecord,
    messages: VecDeque<Arc<Message>>,
    /// `client_id` to position, for the messages held.
    seq_by_client_id: HashMap<Box<str>, u64>,
    /// Messages that wait for the store, by rising `seq`; from the first on nothing is let go.
    pending: VecDeque<u64>,
    /// Messages held that the store will never have.
    refused: Vec<u64>,
    open: bool,
}

/// Where a message is and since when it is held.
struct Aged {
    room: Arc<str>,
    seq: u64,
    since_ms: u64,
}

/// The rooms of a shard.
pub(crate) struct Logs {
    limits: MemoryLimits,
    /// Whether a store keeps what is let go here.
    stored: bool,
    logs: HashMap<Arc<str>, Log>,
    /// Every message held, longest first; those that left their room's window are skipped.
    by_age: VecDeque<Aged>,
    held_count: usize,
    held_bytes: usize,
    /// Makes message ids unique between shards and starts.
    id_prefix: Box<str>,
    published: u64,
}

impl Logs {
    pub(crate) fn new(limits: MemoryLimits, stored: bool, id_prefix: &str) -> Self {
        Self {
            limits,
            stored,
            logs: HashMap::new(),
            by_age: VecDeque::new(),
            held_count: 0,
            held_bytes: 0,
            id_prefix: id_prefix.into(),
            published: 0,
        }
    }

    pub(crate) fn find(&self, room: &str) -> Option<&Log> {
        self.logs.get(room)
    }

    /// The room is in use, as far as it is known.
    pub(crate) fn open(&mut self, room: &str) -> Option<&Log> {
        let log = self.logs.get_mut(room)?;
        log.open = true;
        Some(log)
    }

    /// Begins a room with what is kept of it: its record and its newest messages.
    pub(crate) fn restore(
        &mut self,
        room: &Arc<str>,
        record: RoomRecord,
        messages: Vec<Arc<Message>>,
        now_ms: u64,
    ) -> &Log {
        self.logs.insert(Arc::clone(room), Log { record, open: true, ..Log::default() });
        for message in messages {
            self.keep(room, message, now_ms);
        }
        &self.logs[room]
    }

    /// Nobody is in the room any more.
    pub(crate) fn close(&mut self, room: &str) {
        if let Some(log) = self.logs.get_mut(room) {
            log.open = false;
        }
        self.forget_unused(room);
    }

    /// Replaces a room's settings, if it is known.
    pub(crate) fn configure(&mut self, room: &str, settings: RoomSettings) {
        if let Some(log) = self.logs.get_mut(room) {
            log.record.settings = settings;
        }
        self.forget_unused(room);
    }

    /// An id for a new message.
    pub(crate) fn message_id(&mut self) -> Box<str> {
        self.published += 1;
        format!("{}{:x}", self.id_prefix, self.published).into()
    }

    /// Whether the message has got its id here.
    pub(crate) fn is_own(&self, message: &Message) -> bool {
        message.id.starts_with(&*self.id_prefix)
    }

    /// Gives a message its number.
    pub(crate) fn number(&mut self, room: &Arc<str>, draft: Draft, now_ms: u64) -> Arc<Message> {
        let id = self.message_id();
        let log = self.logs.entry(Arc::clone(room)).or_default();
        log.record.last_seq += 1;
        if self.stored {
            log.pending.push_back(log.record.last_seq);
        }
        let message = Arc::new(Message { id, seq: log.record.last_seq, at_ms: now_ms, draft });
        if self.stored || self.limits.messages_per_room > 0 {
            self.keep(room, Arc::clone(&message), now_ms);
        }
        message
    }

    /// Takes the next message of a room, which has its number from elsewhere.
    pub(crate) fn place(&mut self, room: &Arc<str>, message: Arc<Message>, now_ms: u64) {
        let Some(log) = self.logs.get_mut(room) else { return };
        if message.seq != log.record.last_seq + 1 {
            // Whoever numbers tells of a break before.
            return self.begin_anew(room, vec![message], now_ms);
        }
        log.record.last_seq = message.seq;
        if self.limits.messages_per_room > 0 || !log.pending.is_empty() {
            self.keep(room, message, now_ms);
        }
    }

    /// What a room's order has gone through meanwhile: its newest messages, up to `last_seq`.
    pub(crate) fn catch_up(
        &mut self,
        room: &Arc<str>,
        messages: Vec<Arc<Message>>,
        last_seq: u64,
        now_ms: u64,
    ) {
        let Some(log) = self.logs.get(room) else { return };
        let known = log.record.last_seq;
        let is_same = |message: &Arc<Message>| {
            let held = message.seq.checked_sub(log.first_seq());
            held.and_then(|index| log.messages.get(index as usize)).is_none_or(|it| it == message)
        };
        let follows = messages.first().map_or(last_seq, |first| first.seq - 1) <= known;
        if known > last_seq || !follows || !messages.iter().all(is_same) {
            return self.begin_anew_at(room, messages, last_seq, now_ms);
        }
        for message in messages.into_iter().filter(|message| message.seq > known) {
            self.place(room, message, now_ms);
        }
    }

    /// Forgets what is held of a room, and goes on after these messages.
    pub(crate) fn begin_anew_at(
        &mut self,
        room: &Arc<str>,
        messages: Vec<Arc<Message>>,
        last_seq: u64,
        now_ms: u64,
    ) {
        self.begin_anew(room, messages, now_ms);
        if let Some(log) = self.logs.get_mut(room) {
            log.record.last_seq = last_seq;
        }
    }

    fn begin_anew(&mut self, room: &Arc<str>, messages: Vec<Arc<Message>>, now_ms: u64) {
        let Some(log) = self.logs.get_mut(room) else { return };
        self.held_count -= log.messages.len();
        self.held_bytes -= log.messages.iter().map(|message| message.held_bytes()).sum::<usize>();
        log.messages.clear();
        log.seq_by_client_id.clear();
        log.refused.clear();
        let before_first = messages.first().map(|first| first.seq - 1);
        log.record.last_seq = before_first.unwrap_or(log.record.last_seq);
        for message in messages {
            self.place(room, message, now_ms);
        }
    }

    /// A message waits for the store, whether it is held or not.
    pub(crate) fn await_store(&mut self, room: &str, seq: u64) {
        let Some(log) = self.logs.get_mut(room) else { return };
        let at = log.pending.partition_point(|other| *other < seq);
        if log.pending.get(at) != Some(&seq) {
            log.pending.insert(at, seq);
        }
    }

    /// The store has a message, or, unless `kept`, has refused it.
    pub(crate) fn commit(&mut self, room: &str, seq: u64, kept: bool) {
        let Some(log) = self.logs.get_mut(room) else { return };
        if let Ok(at) = log.pending.binary_search(&seq) {
            log.pending.remove(at);
        }
        if !kept && log.holds(seq) {
            log.refused.push(seq);
        }
        while log.messages.len() > self.limits.messages_per_room && log.may_drop() {
            self.held_bytes -= log.drop_oldest();
            self.held_count -= 1;
        }
        while self.held_bytes > self.limits.bytes_max && self.drop_oldest() {}
        self.forget_unused(room);
    }

    /// What is held of a range. Lets go of what the room's retention, or the general one, forbids.
    pub(crate) fn read(
        &mut self,
        room: &str,
        range: Range,
        general_ms: Option<u64>,
        now_ms: u64,
    ) -> Page {
        let Some(log) = self.logs.get_mut(room) else { return Log::default().read(range) };
        let oldest_ms = log.record.settings.oldest_ms(general_ms, now_ms);
        while log.messages.front().is_some_and(|first| first.at_ms < oldest_ms) && log.may_drop() {
            self.held_bytes -= log.drop_oldest();
            self.held_count -= 1;
        }
        log.read(range)
    }

    /// Lets go of what is held for too long.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let oldest_ms = now_ms.saturating_sub(self.limits.ttl_ms);
        while self.by_age.front().is_some_and(|aged| aged.since_ms < oldest_ms) {
            if !self.drop_oldest() {
                break;
            }
        }
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn keep(&mut self, room: &Arc<str>, message: Arc<Message>, now_ms: u64) {
        let Some(log) = self.logs.get_mut(room) else { return };
        self.held_count += 1;
        self.held_bytes += message.held_bytes();
        if let Some(id) = &message.draft.client_id {
            log.seq_by_client_id.insert(id.clone(), message.seq);
        }
        let (room, seq) = (Arc::clone(room), message.seq);
        self.by_age.push_back(Aged { room, seq, since_ms: now_ms });
        log.messages.push_back(message);
        if log.messages.len() > self.limits.messages_per_room && log.may_drop() {
            self.held_bytes -= log.drop_oldest();
            self.held_count -= 1;
        }
        while self.held_bytes > self.limits.bytes_max && self.drop_oldest() {}
        // Entries whose message has left its room's window stay behind; bound them.
        if self.by_age.len() > 2 * self.held_count + 1024 {
            let logs = &self.logs;
            self.by_age.retain(|aged| logs.get(&aged.room).is_some_and(|log| log.holds(aged.seq)));
        }
    }

    /// False if the oldest still waits for the store.
    fn drop_oldest(&mut self) -> bool {
        let Some(Aged { room, seq, since_ms }) = self.by_age.pop_front() else { return false };
        let Some(log) = self.logs.get_mut(&room) else { return true };
        while log.messages.front().is_some_and(|first| first.seq <= seq) {
            if !log.may_drop() {
                self.by_age.push_front(Aged { room, seq, since_ms });
                return false;
            }
            self.held_bytes -= log.drop_oldest();
            self.held_count -= 1;
        }
        self.forget_unused(&room);
        true
    }

    fn forget_unused(&mut self, room: &str) {
        let unused = |log: &Log| {
            let kept = log.pending.is_empty() && log.refused.is_empty();
            let settled = log.messages.is_empty() && kept;
            let configured = !self.stored && log.record.settings != RoomSettings::default();
            !log.open && settled && !configured
        };
        if self.logs.get(room).is_some_and(unused) {
            self.logs.remove(room);
        }
    }
}

impl Log {
    /// The first message held; above it, all are.
    pub(crate) fn first_seq(&self) -> u64 {
        self.messages.front().map_or(self.record.last_seq + 1, |message| message.seq)
    }

    /// Whether the room is in use here.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether this very message is held.
    pub(crate) fn has(&self, message: &Message) -> bool {
        let index = message.seq.checked_sub(self.first_seq());
        let held = index.and_then(|index| self.messages.get(index as usize));
        held.is_some_and(|held| held.id == message.id)
    }

    /// The message held that has this id; the newest are looked at first.
    pub(crate) fn find_by_id(&self, id: &str) -> Option<&Arc<Message>> {
        self.messages.iter().rev().find(|message| *message.id == *id)
    }

    /// The message held that has the draft's `client_id`.
    pub(crate) fn find_repeated(&self, draft: &Draft) -> Option<&Arc<Message>> {
        let seq = *self.seq_by_client_id.get(draft.client_id.as_ref()?)?;
        self.messages.get((seq - self.first_seq()) as usize)
    }

    /// Whether the store has this message; `None`: not yet.
    pub(crate) fn is_kept(&self, seq: u64) -> Option<bool> {
        let waits = self.pending.binary_search(&seq).is_ok();
        (!waits).then(|| !self.refused.contains(&seq))
    }

    fn holds(&self, seq: u64) -> bool {
        (self.first_seq()..=self.record.last_seq).contains(&seq)
    }

    fn may_drop(&self) -> bool {
        let waits_from = self.pending.front().copied().unwrap_or(u64::MAX);
        self.messages.front().is_some_and(|first| first.seq < waits_from)
    }

    /// Returns the bytes that became free.
    fn drop_oldest(&mut self) -> usize {
        let Some(message) = self.messages.pop_front() else {
            return 0;
        };
        if let Some(id) = &message.draft.client_id {
            self.seq_by_client_id.remove(id);
        }
        // The last one's number must not come back.
        let last_seq = self.record.last_seq;
        self.refused.retain(|seq| *seq != message.seq || *seq == last_seq);
        message.held_bytes()
    }

    fn read(&self, range: Range) -> Page {
        let (first, last_seq) = (self.first_seq(), self.record.last_seq);
        let end = range.before.unwrap_or(u64::MAX).clamp(first, last_seq + 1);
        let from = end.saturating_sub(range.limit as u64).max(first);
        let (from, complete) = match range.after {
            None => (from, true),
            Some(after) => {
                let wanted = after.saturating_add(1);
                // A position beyond the end was given by an order that is gone.
                (from.max(wanted.min(end)), from <= wanted && after <= last_seq)
            }
        };
        let index = |seq: u64| (seq - first) as usize;
        let messages = self.messages.range(index(from)..index(end)).cloned().collect();
        Page { messages, last_seq, complete, more: from > first, partial: false }
    }
}
