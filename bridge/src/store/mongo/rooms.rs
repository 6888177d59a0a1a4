//! The rooms' records, and what of them has still to be written.
//!
//! `rooms.lastSeq` follows the messages: about [`LAG`] later while messages come, with a check or
//! the end otherwise. One write per room in that time in place of one per batch keeps it cheap, and
//! little depends on it: a room's last number is the greater of its record's and that of its newest
//! message, so a crash in between loses nothing; whoever then reads the room mends its record.
//! Before `sweep` takes a room's messages, the record is written. A TTL index does not wait for
//! it: a room that nobody opens between a crash and the expiry of the messages that its record did
//! not know goes on from the number in the record.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use mongodb::bson::{Document, deserialize_from_document, doc, serialize_to_bson};
use tokio::time::Instant;

use super::super::{Entry, RoomRecord, RoomSettings, StoreError};
use super::{Failure, Mongo, WriteError, bounded, date};

/// How long a room's record may be behind its messages while messages come. Raising one costs as
/// much as several messages (four to thirteen on the server of the tests), so rooms must share it
/// among many.
const LAG: Duration = Duration::from_secs(30);
/// Records written at once, between two batches, or an eighth of those that wait if that is more:
/// so they do not become more and more, however many rooms each batch has.
const RECORDS: usize = 128;
/// Rooms that may wait for their record: about 14 MB with names of 32 bytes. Where more do and
/// cannot be written, appending fails.
const WAITING_MAX: usize = 131_072;

/// A room whose record is behind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Behind {
    last_seq: u64,
    /// When its first message was numbered, for a room without a record.
    pub(super) created_at_ms: u64,
}

/// The rooms whose records are behind.
#[derive(Default)]
pub(super) struct Lag(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// Since the last exchange.
    fresh: HashMap<Arc<str>, Behind>,
    /// To be written now; grows no more.
    due: HashMap<Arc<str>, Behind>,
    exchanged_at: Option<Instant>,
    /// Not to be tried before, after a failure.
    retry_at: Option<Instant>,
}

impl Lag {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a room has a message that its record does not know.
    pub(super) fn note(&self, room: &str, seq: u64, at_ms: u64) {
        self.lock().note(room, seq, at_ms);
    }

    /// The same of many messages.
    pub(super) fn note_all<'a>(&self, kept: impl Iterator<Item = &'a Entry>) {
        let mut waiting = self.lock();
        kept.for_each(|it| waiting.note(&it.room, it.message.seq, it.message.at_ms));
    }

    /// What is known of a room, the oldest first.
    pub(super) fn of(&self, room: &str) -> Option<Behind> {
        let waiting = self.lock();
        waiting.due.get(room).or_else(|| waiting.fresh.get(room)).copied()
    }

    /// What is to be written now. It stays until [`Lag::on_written`].
    fn due(&self, all: bool) -> Vec<(Arc<str>, Behind)> {
        let mut waiting = self.lock();
        let now = Instant::now();
        let is_early = waiting.retry_at.is_some_and(|at| now < at);
        if is_early && !all && !waiting.is_over_bound() {
            return Vec::new();
        }
        let since = *waiting.exchanged_at.get_or_insert(now);
        if waiting.due.is_empty() && (all || now - since >= LAG) {
            waiting.exchanged_at = Some(now);
            waiting.due = mem::take(&mut waiting.fresh);
        }
        let count = RECORDS.max((waiting.due.len() + waiting.fresh.len()) / 8);
        let some = waiting.due.iter().take(count);
        some.map(|(room, behind)| (Arc::clone(room), *behind)).collect()
    }

    fn on_failed(&self) {
        self.lock().retry_at = Some(Instant::now() + LAG);
    }

    fn on_written<'a>(&self, written: impl Iterator<Item = &'a (Arc<str>, Behind)>) {
        let mut waiting = self.lock();
        for (room, behind) in written {
            // Another flush may have been faster, and what waits now be newer.
            if waiting.due.get(room) == Some(behind) {
                waiting.due.remove(room);
            }
        }
    }

    fn is_over_bound(&self) -> bool {
        self.lock().is_over_bound()
    }
}

impl Waiting {
    fn is_over_bound(&self) -> bool {
        self.fresh.len() + self.due.len() > WAITING_MAX
    }

    fn note(&mut self, room: &str, seq: u64, at_ms: u64) {
        match self.fresh.get_mut(room) {
            Some(behind) => behind.last_seq = behind.last_seq.max(seq),
            None => {
                let behind = Behind { last_seq: seq, created_at_ms: at_ms };
                self.fresh.insert(room.into(), behind);
            }
        }
    }
}

/// The update that brings a room's record to a number, and makes it if there is none.
fn raise(room: &str, behind: Behind) -> Document {
    let number = i64::try_from(behind.last_seq).unwrap_or(i64::MAX);
    let made = doc! { "createdAt": date(behind.created_at_ms), "settings": {} };
    let update = doc! { "$max": { "lastSeq": number }, "$setOnInsert": made };
    doc! { "q": { "_id": room }, "u": update, "upsert": true }
}

impl Mongo {
    /// Writes the records that are due, some of them at a time; `all`: until none is behind.
    pub(super) async fn flush_rooms(&self, all: bool) -> Result<(), StoreError> {
        loop {
            let due = self.lag.due(all);
            if due.is_empty() {
                return Ok(());
            }
            self.raise_rooms(&due).await.inspect_err(|_| self.lag.on_failed())?;
            if !all {
                return Ok(());
            }
        }
    }

    async fn raise_rooms(&self, due: &[(Arc<str>, Behind)]) -> Result<(), StoreError> {
        let updates = due.iter().map(|(room, behind)| raise(room, *behind)).collect();
        let errors = self.update("rooms", updates).await?;
        let (refused, later): (Vec<_>, Vec<_>) =
            errors.into_iter().partition(|it| it.is_refusal() && !it.is_duplicate());
        if let Some(first) = refused.first() {
            // Asking again would hold up all others for ever. The messages have the number.
            let (count, reason) = (refused.len(), &first.reason);
            tracing::warn!(count, reason, "the store refuses rooms' records");
        }
        let is_done = |place: usize| later.iter().all(|it| it.index != place);
        let done = due.iter().enumerate().filter(|(place, _)| is_done(*place));
        self.lag.on_written(done.map(|(_, written)| written));
        report(&later)
    }

    /// The same after messages were kept. That it fails does not concern them, until too many
    /// rooms wait.
    pub(super) async fn follow_messages(&self) -> Result<(), StoreError> {
        match self.flush_rooms(false).await {
            Err(error) if self.lag.is_over_bound() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "the rooms' last numbers are written later");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Brings one room's record to a number at once.
    pub(super) async fn raise_room(
        &self,
        room: &str,
        last_seq: u64,
        created_at_ms: u64,
    ) -> Result<(), StoreError> {
        let behind = Behind { last_seq, created_at_ms };
        report(&self.update("rooms", vec![raise(room, behind)]).await?)
    }

    pub(super) async fn write_settings(
        &self,
        room: &str,
        settings: &RoomSettings,
        now_ms: u64,
    ) -> Result<RoomRecord, StoreError> {
        // Where messages came first, their time is the room's.
        let created_at_ms = self
            .read_room(room)
            .await
            .map_or(now_ms, |kept| kept.map_or(now_ms, |record| record.created_at_ms));
        let settings = serialize_to_bson(settings)
            .map_err(|error| StoreError::Unavailable(format!("settings of {room}: {error}")))?;
        let made = doc! { "createdAt": date(created_at_ms), "lastSeq": 0_i64 };
        let update = doc! { "$set": { "settings": settings }, "$setOnInsert": made };
        let statement = doc! { "q": { "_id": room }, "u": update, "upsert": true };
        report(&self.update("rooms", vec![statement]).await?)?;
        let gone = || StoreError::Unavailable(format!("the room {room} has gone meanwhile"));
        self.read_room(room).await?.ok_or_else(gone)
    }
}

/// A room's settings from its record.
///
/// # Errors
/// [`StoreError::Unusable`] where somebody else has written what they cannot be: to go on without
/// could open a private room.
pub(super) fn settings(room: &str, record: &Document) -> Result<RoomSettings, StoreError> {
    let Ok(settings) = record.get_document("settings") else {
        return Ok(RoomSettings::default());
    };
    deserialize_from_document(settings.clone()).map_err(|error| {
        StoreError::Unusable(format!("settings of the room {room} in `rooms`: {error}"))
    })
}

fn report(errors: &[WriteError]) -> Result<(), StoreError> {
    // Two writers may both find a record missing, and one then finds it there: asking again helps.
    match errors.first() {
        Some(error) => Err(Failure::new(error.code, &error.reason).into_error()),
        None => Ok(()),
    }
}

/// Waits for an operation of the driver, with this module's errors.
pub(super) async fn asked<T: Send + 'static>(
    operation: impl Future<Output = Result<T, mongodb::error::Error>> + Send + 'static,
) -> Result<T, StoreError> {
    bounded(operation).await.map_err(Failure::into_error)
}
