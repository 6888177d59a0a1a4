//! What outlives the process: messages, rooms and users, behind one trait.
//!
//! Owns the words in which a store is spoken to and the guarantee of each; `MemoryStore`,
//! `Sqlite` and `Mongo` keep them, and pass one suite (`tests/store.rs`). A store never numbers
//! a message and never decides who may read one. Everything it is given is data: no name, id or
//! body reaches a statement or a filter other than as a bound value.

mod memory;
mod mongo;
mod sqlite;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::message::{Message, Range};

pub use memory::MemoryStore;
pub use mongo::Mongo;
pub use sqlite::Sqlite;

/// The greatest number or time a store can keep: SQLite and MongoDB know signed integers alone. A
/// message with a greater one is refused.
pub const NUMBER_MAX: u64 = i64::MAX as u64;

/// A message and the room it belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The room's key: its namespace and name, see the engine's `split_key`.
    pub room: Arc<str>,
    /// The message, numbered.
    pub message: Arc<Message>,
}

/// Why a store will never keep one message of a batch, however often it is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Which of the batch, from 0.
    pub index: usize,
    /// For the operator.
    pub reason: String,
}

/// Why a store has not done what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// Not now: it is gone, slow, full, read-only, or changes its primary. Ask again later.
    Unavailable(String),
    /// Not before an operator has mended something: another schema, other indexes, no database.
    Unusable(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(reason) | Self::Unusable(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for StoreError {}

/// Who may be in a room, how many, and how long its messages stay. The default restricts nothing.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RoomSettings {
    /// Only who is named in `users` or knows the password may join; it is not listed.
    pub private: bool,
    /// Hash of the password in PHC format (argon2id).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Box<str>>,
    /// User ids that may join whatever else is set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<Box<str>>,
    /// Participants it may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
    /// Older messages are deleted, in milliseconds; instead of the retention of all rooms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<u64>,
    /// What the operator wishes to keep with the room: a JSON object as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<str>>,
}

impl RoomSettings {
    /// Messages from before this time are not to be shown, in milliseconds since 1970. `general_ms`
    /// is the retention where the room has none of its own.
    pub fn oldest_ms(&self, general_ms: Option<u64>, now_ms: u64) -> u64 {
        let retention_ms = self.retention_ms.or(general_ms).unwrap_or(u64::MAX);
        now_ms.saturating_sub(retention_ms)
    }
}

/// A room as it is kept.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RoomRecord {
    /// When it was first written to or configured: milliseconds since 1970.
    pub created_at_ms: u64,
    /// The greatest number a kept message has, or had before retention took it; 0 for none.
    pub last_seq: u64,
    /// Its settings.
    pub settings: RoomSettings,
}

/// A user was here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// User id.
    pub user: Box<str>,
    /// Name to show.
    pub name: Box<str>,
    /// When: milliseconds since 1970.
    pub at_ms: u64,
    /// The metadata the user has given last, JSON as text; `None` leaves what is kept.
    pub metadata: Option<Box<str>>,
}

/// A user as kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserRecord {
    /// Name to show.
    pub name: Box<str>,
    /// Milliseconds since 1970.
    pub first_seen_ms: u64,
    /// Milliseconds since 1970.
    pub last_seen_ms: u64,
    /// The metadata the user has given last, JSON as text.
    pub metadata: Option<Box<str>>,
}

/// How long things stay; `None`: for ever.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Retention {
    /// Messages, in milliseconds since they were numbered. A room's own setting goes first.
    pub messages_ms: Option<u64>,
    /// Users, in milliseconds since they were last seen.
    pub users_ms: Option<u64>,
}

/// What one step of [`Store::sweep`] has done.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Swept {
    /// Messages deleted.
    pub messages: u64,
    /// Users deleted.
    pub users: u64,
    /// Where to go on; `None`: everything has been looked at.
    pub next: Option<Box<str>>,
}

/// A place where messages, rooms and users stay. Safe to be shared; no method blocks its thread.
///
/// Every method may be dropped before it is done, or be cut off by the process's end: it has then
/// had its effect wholly or not at all for each single message, and asking again is safe.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What it is called in `/health` and `/metrics`: `sqlite`, `mongodb`, `memory`.
    fn kind(&self) -> &'static str;

    /// Keeps messages. When it returns, all but the refused are durable, as far as the store's
    /// configuration makes writes durable (SQLite: synced to disk; MongoDB: the write concern).
    ///
    /// A message that is kept already (same room, `seq` and id) is kept again without effect, so a
    /// batch whose fate is unknown can be repeated. Another message under a number that is taken
    /// is refused. A `clientId` that the room has already under another number is left out of the
    /// later message, which is kept. The rooms' `last_seq` rises with their messages. A refusal
    /// concerns its message alone; entries of one room must come by rising `seq`.
    async fn append(&self, batch: Arc<[Entry]>) -> Result<Vec<Refusal>, StoreError>;

    /// Messages of a room by rising `seq`: the newest `limit` of the range, whatever else is
    /// missing. Sees everything whose `append` has returned.
    async fn read(&self, room: &str, range: Range) -> Result<Vec<Message>, StoreError>;

    /// The messages of a room that have one of these client ids, in no order.
    async fn find(&self, room: &str, client_ids: &[Box<str>]) -> Result<Vec<Message>, StoreError>;

    /// A room's record; `None` if nothing was ever kept of it. Its `last_seq` counts every message
    /// whose `append` has returned, even where the process ended in the midst of another one.
    async fn room(&self, room: &str) -> Result<Option<RoomRecord>, StoreError>;

    /// Replaces a room's settings; makes the room if it is new. Durable when it returns.
    async fn configure(
        &self,
        room: &str,
        settings: &RoomSettings,
        now_ms: u64,
    ) -> Result<RoomRecord, StoreError>;

    /// Notes who was here: `first_seen_ms` stays the least, `last_seen_ms` the greatest.
    async fn note_users(&self, seen: Arc<[Seen]>) -> Result<(), StoreError>;

    /// A user's record.
    async fn user(&self, id: &str) -> Result<Option<UserRecord>, StoreError>;

    /// One step of retention, short enough to go between two appends; `from` is
    /// [`Swept::next`] of the step before, `None` at first. What the store expires by itself it
    /// does not count. A room's `last_seq` stays.
    async fn sweep(
        &self,
        retention: Retention,
        now_ms: u64,
        from: Option<Box<str>>,
    ) -> Result<Swept, StoreError>;

    /// Whether it answers and can be written to.
    async fn check(&self) -> Result<(), StoreError>;

    /// Lets go of it; nothing else is asked afterwards.
    async fn close(&self);
}
