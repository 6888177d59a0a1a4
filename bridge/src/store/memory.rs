//! A store in memory: what the others must behave like, and what tests and trials run on.
//!
//! Owns everything it was given, under one lock that is never held across an await. Writes
//! nothing anywhere and forgets all of it with the process. Bounded by what it is given alone.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hashbrown::HashMap;

use super::{
    Entry, NUMBER_MAX, Refusal, Retention, RoomRecord, RoomSettings, Seen, Store, StoreError,
    Swept, UserRecord,
};
use crate::message::{Message, Range};

/// Rooms looked at by one step of a sweep.
const SWEEP_ROOMS: usize = 100;
/// Messages deleted by one step of a sweep.
const SWEEP_MESSAGES: u64 = 1_000;

#[derive(Default)]
struct Room {
    record: RoomRecord,
    messages: BTreeMap<u64, Message>,
    seq_by_client_id: HashMap<Box<str>, u64>,
}

#[derive(Default)]
struct State {
    rooms: BTreeMap<Box<str>, Room>,
    users: BTreeMap<Box<str>, UserRecord>,
}

/// A [`Store`] that keeps everything in memory.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The room, made at `now_ms` if it is new.
    fn room(&mut self, name: &str, now_ms: u64) -> &mut Room {
        self.rooms.entry(name.into()).or_insert_with(|| Room {
            record: RoomRecord { created_at_ms: now_ms, ..RoomRecord::default() },
            ..Room::default()
        })
    }

    fn keep(&mut self, entry: &Entry) -> Result<(), String> {
        let message = &*entry.message;
        if message.seq > NUMBER_MAX || message.at_ms > NUMBER_MAX {
            return Err(format!("{} or {} is too great", message.seq, message.at_ms));
        }
        let room = self.room(&entry.room, message.at_ms);
        if let Some(kept) = room.messages.get(&message.seq) {
            return match kept.id == message.id {
                true => Ok(()),
                false => Err(format!("{} has the number {} already", kept.id, message.seq)),
            };
        }
        let mut message = message.clone();
        if let Some(id) = message.draft.client_id.take()
            && !room.seq_by_client_id.contains_key(&id)
        {
            room.seq_by_client_id.insert(id.clone(), message.seq);
            message.draft.client_id = Some(id);
        }
        room.record.last_seq = room.record.last_seq.max(message.seq);
        room.messages.insert(message.seq, message);
        Ok(())
    }

    fn note(&mut self, seen: &Seen) {
        let user = self.users.entry(seen.user.clone()).or_insert_with(|| UserRecord {
            name: seen.name.clone(),
            first_seen_ms: seen.at_ms,
            last_seen_ms: seen.at_ms,
            metadata: None,
        });
        user.name = seen.name.clone();
        user.first_seen_ms = user.first_seen_ms.min(seen.at_ms);
        user.last_seen_ms = user.last_seen_ms.max(seen.at_ms);
        if seen.metadata.is_some() {
            user.metadata = seen.metadata.clone();
        }
    }

    /// Deletes old messages of up to [`SWEEP_ROOMS`] rooms after `from`. Returns how many, and
    /// the last room that is done with, if there may be more.
    fn sweep_rooms(
        &mut self,
        general_ms: Option<u64>,
        now_ms: u64,
        from: Option<&str>,
    ) -> (u64, Option<Box<str>>) {
        let after = from.map_or(Bound::Unbounded, Bound::Excluded);
        let mut done = from.unwrap_or_default().to_owned();
        let mut deleted = 0;
        let rooms = self.rooms.range_mut::<str, _>((after, Bound::Unbounded));
        for (count, (name, room)) in rooms.enumerate() {
            if count == SWEEP_ROOMS || deleted == SWEEP_MESSAGES {
                return (deleted, Some(done.into()));
            }
            let retention_ms = room.record.settings.retention_ms.or(general_ms);
            let least_ms = retention_ms.map_or(0, |it| now_ms.saturating_sub(it));
            while let Some(oldest) = room.messages.first_entry()
                && oldest.get().at_ms < least_ms
            {
                if deleted == SWEEP_MESSAGES {
                    return (deleted, Some(done.into()));
                }
                if let Some(id) = oldest.remove().draft.client_id {
                    room.seq_by_client_id.remove(&id);
                }
                deleted += 1;
            }
            done = name.clone().into_string();
        }
        (deleted, None)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn append(&self, batch: Arc<[Entry]>) -> Result<Vec<Refusal>, StoreError> {
        let mut state = self.lock();
        let refused = batch.iter().enumerate().filter_map(|(index, entry)| {
            state.keep(entry).err().map(|reason| Refusal { index, reason })
        });
        Ok(refused.collect())
    }

    async fn read(&self, room: &str, range: Range) -> Result<Vec<Message>, StoreError> {
        let state = self.lock();
        let Some(room) = state.rooms.get(room) else { return Ok(Vec::new()) };
        let in_range = room.messages.values().rev().filter(|message| {
            range.after.is_none_or(|after| message.seq > after)
                && range.before.is_none_or(|before| message.seq < before)
        });
        let mut found: Vec<_> = in_range.take(range.limit).cloned().collect();
        found.reverse();
        Ok(found)
    }

    async fn find(&self, room: &str, client_ids: &[Box<str>]) -> Result<Vec<Message>, StoreError> {
        let state = self.lock();
        let Some(room) = state.rooms.get(room) else { return Ok(Vec::new()) };
        let mut seqs: Vec<_> =
            client_ids.iter().filter_map(|id| room.seq_by_client_id.get(id)).collect();
        seqs.sort_unstable();
        seqs.dedup();
        Ok(seqs.into_iter().filter_map(|seq| room.messages.get(seq).cloned()).collect())
    }

    async fn room(&self, room: &str) -> Result<Option<RoomRecord>, StoreError> {
        Ok(self.lock().rooms.get(room).map(|room| room.record.clone()))
    }

    async fn configure(
        &self,
        room: &str,
        settings: &RoomSettings,
        now_ms: u64,
    ) -> Result<RoomRecord, StoreError> {
        let mut state = self.lock();
        let room = state.room(room, now_ms);
        room.record.settings = settings.clone();
        Ok(room.record.clone())
    }

    async fn note_users(&self, seen: Arc<[Seen]>) -> Result<(), StoreError> {
        let mut state = self.lock();
        seen.iter().for_each(|seen| state.note(seen));
        Ok(())
    }

    async fn user(&self, id: &str) -> Result<Option<UserRecord>, StoreError> {
        Ok(self.lock().users.get(id).cloned())
    }

    async fn sweep(
        &self,
        retention: Retention,
        now_ms: u64,
        from: Option<Box<str>>,
    ) -> Result<Swept, StoreError> {
        let mut state = self.lock();
        let (messages, next) = state.sweep_rooms(retention.messages_ms, now_ms, from.as_deref());
        let mut swept = Swept { messages, users: 0, next };
        if let (None, Some(users_ms)) = (&swept.next, retention.users_ms) {
            let count = state.users.len();
            let least_ms = now_ms.saturating_sub(users_ms);
            state.users.retain(|_, user| user.last_seen_ms >= least_ms);
            swept.users = (count - state.users.len()) as u64;
        }
        Ok(swept)
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}
}
