//! Messages, rooms and users in MongoDB.
//!
//! Owns the connection, the collections `messages`, `rooms`, `users` and `throng_schema`, and
//! which of the server's errors means what. Everything it is given is bound as a typed BSON value:
//! a room named `{"$ne":null}` is a string in a filter. Bodies and metadata are kept as JSON
//! text in a string, so they come back byte for byte, no key of theirs is ever an operator and
//! BSON's depth limit does not concern them.
//!
//! Invariants: no operation lasts longer than [`OPERATION_MAX`]; an error of the server that says
//! nothing against a document is [`StoreError::Unavailable`]; only [`Mongo::open`] and
//! [`Mongo::mend`] say [`StoreError::Unusable`], and reads of a record that nobody can understand.
//! No text that leaves it holds the URI or its password.
//!
//! What the URI says goes first. Otherwise writes are acknowledged by the journals of a majority
//! and tried twice by the driver. Reads have the concern `local`: the primary has whatever a
//! majority has acknowledged, also right after an election, where the majority's own view may
//! lag; the price is that a read may show a message whose `append` has not returned yet.

mod read;
mod rooms;
mod schema;
mod sweep;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc, serialize_to_bson};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{Acknowledgment, ClientOptions, ReadConcern, WriteConcern};
use mongodb::{Client, Collection, Database};

use super::{
    Entry, Refusal, Retention, RoomRecord, RoomSettings, Seen, Store, StoreError, Swept, UserRecord,
};
use crate::message::{Message, Range};

/// How long any one operation may take, the choice of a server included.
const OPERATION_MAX: Duration = Duration::from_secs(10);
/// How long the server may work at one; less, so that what was given up is over.
const SERVER_TIME_MAX: Duration = Duration::from_secs(8);
/// How long a usable server is looked for, and how long connecting may take.
const SELECTION_MAX: Duration = Duration::from_secs(3);
/// What an operator is told of an error; the driver's own texts quote whole replies.
const REASON_BYTES_MAX: usize = 400;
/// Database where the URI names none.
const DATABASE: &str = "throng";

/// A MongoDB, or what speaks its protocol.
pub struct Mongo {
    client: Client,
    database: Database,
    messages: Collection<RawDocumentBuf>,
    /// As a command has it, for those that the driver does not add it to.
    write_concern: Bson,
    lag: rooms::Lag,
}

impl fmt::Debug for Mongo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mongo").field("database", &self.database.name()).finish_non_exhaustive()
    }
}

impl Mongo {
    /// Connects, and makes what is missing of collections and indexes. Must be called on the
    /// runtime that it is used on.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when no primary answers; [`StoreError::Unusable`] when the URI
    /// is none, the schema is newer, or an index is not what it must be: nothing is changed then.
    pub async fn open(uri: &str, pool_size: u32, retention: Retention) -> Result<Self, StoreError> {
        let store = Self::connect(uri, pool_size).await.map_err(|error| masked(uri, error))?;
        schema::ensure(&store, retention, false).await.map_err(|error| masked(uri, error))?;
        Ok(store)
    }

    /// Does what [`Mongo::open`] does and brings the indexes that expire things into line with
    /// the retention. Returns what it has changed, for the operator.
    ///
    /// # Errors
    /// As [`Mongo::open`], but for wrong expiry.
    pub async fn mend(
        uri: &str,
        pool_size: u32,
        retention: Retention,
    ) -> Result<Vec<String>, StoreError> {
        let store = Self::connect(uri, pool_size).await.map_err(|error| masked(uri, error))?;
        let done = schema::ensure(&store, retention, true).await;
        store.close().await;
        done.map_err(|error| masked(uri, error))
    }

    async fn connect(uri: &str, pool_size: u32) -> Result<Self, StoreError> {
        let text = uri.to_owned();
        let parsed = bounded(async move { ClientOptions::parse(text).await }).await;
        let mut options = parsed.map_err(Failure::into_start_error)?;
        options.app_name.get_or_insert_with(|| "throng".to_owned());
        options.max_pool_size.get_or_insert(pool_size.max(1));
        options.server_selection_timeout.get_or_insert(SELECTION_MAX);
        options.connect_timeout.get_or_insert(SELECTION_MAX);
        options.retry_writes.get_or_insert(true);
        options.read_concern.get_or_insert_with(ReadConcern::local);
        let durable = || {
            let mut concern = WriteConcern::majority();
            concern.journal = Some(true);
            concern.w_timeout = Some(SERVER_TIME_MAX);
            concern
        };
        let concern = options.write_concern.get_or_insert_with(durable);
        if concern.w == Some(Acknowledgment::Nodes(0)) {
            let reason = "w=0 in MONGODB_URI: messages would be acknowledged that are not kept";
            return Err(StoreError::Unusable(reason.to_owned()));
        }
        let write_concern = serialize_to_bson(concern)
            .map_err(|error| StoreError::Unusable(format!("the write concern: {error}")))?;
        let database = options.default_database.clone().unwrap_or_else(|| DATABASE.to_owned());
        let client = Client::with_options(options)
            .map_err(|error| Failure::from(error).into_start_error())?;
        let database = client.database(&database);
        let messages = database.collection("messages");
        let lag = rooms::Lag::default();
        Ok(Self { client, database, messages, write_concern, lag })
    }

    /// Runs a command that the driver has no method for.
    async fn command(&self, mut command: Document) -> Result<Document, Failure> {
        command.insert("maxTimeMS", SERVER_TIME_MAX.as_millis() as i64);
        let database = self.database.clone();
        bounded(async move { database.run_command(command).await }).await
    }

    /// Runs many updates in one command, each for itself. Returns the errors of those that failed,
    /// with their places.
    async fn update(
        &self,
        collection: &str,
        updates: Vec<Document>,
    ) -> Result<Vec<WriteError>, Failure> {
        let concern = self.write_concern.clone();
        let reply = self
            .command(doc! {
                "update": collection, "updates": updates, "ordered": false, "writeConcern": concern
            })
            .await?;
        if let Ok(error) = reply.get_document("writeConcernError") {
            let text = error.get_str("errmsg").unwrap_or("write concern not satisfied");
            return Err(Failure::new(error.get_i32("code").unwrap_or(64), text));
        }
        let errors = reply.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
        Ok(errors.iter().filter_map(Bson::as_document).map(WriteError::from_reply).collect())
    }
}

/// One write of many that the server has refused.
struct WriteError {
    index: usize,
    code: i32,
    reason: String,
}

impl WriteError {
    fn from_reply(error: &Document) -> Self {
        let index = error.get_i32("index").ok().and_then(|it| usize::try_from(it).ok());
        Self {
            index: index.unwrap_or(usize::MAX),
            code: error.get_i32("code").unwrap_or_default(),
            reason: error.get_str("errmsg").unwrap_or_default().to_owned(),
        }
    }

    /// Whether it says something about the document, not about the server.
    fn is_refusal(&self) -> bool {
        !TRANSIENT.contains(&self.code)
    }

    fn is_duplicate(&self) -> bool {
        matches!(self.code, 11000 | 11001 | 12582)
    }
}

/// Codes of errors at single documents that concern the server's state: unknown, internal,
/// unauthorized, locks, interruptions, elections, sharding, quota and disk.
const TRANSIENT: &[i32] = &[
    1, 6, 7, 8, 13, 18, 24, 46, 50, 63, 64, 70, 82, 89, 91, 96, 112, 117, 133, 134, 150, 165, 189,
    202, 211, 251, 262, 290, 314, 317, 320, 384, 8000, 9001, 10058, 10107, 11600, 11601, 11602,
    12586, 12587, 13297, 13388, 13435, 13436, 14031,
];

/// Why an operation as a whole has failed.
struct Failure {
    code: i32,
    reason: String,
    /// No server has had a say: the URI is wrong.
    is_argument: bool,
    /// What failed one by one, where it was an insert and nothing else went wrong.
    writes: Vec<WriteError>,
}

impl Failure {
    fn new(code: i32, reason: &str) -> Self {
        let end = reason.floor_char_boundary(REASON_BYTES_MAX);
        Self { code, reason: reason[..end].to_owned(), is_argument: false, writes: Vec::new() }
    }

    /// In a store that is open nothing but time or an operator helps, and both may: ask again.
    fn into_error(self) -> StoreError {
        StoreError::Unavailable(self.reason)
    }

    /// At start a wrong URI or password is told from a server that is away.
    fn into_start_error(self) -> StoreError {
        match self.is_argument || matches!(self.code, 13 | 18 | 8000) {
            true => StoreError::Unusable(self.reason),
            false => StoreError::Unavailable(self.reason),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        failure.into_error()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // Without the reply's bytes, which the whole error ends with.
        let text = error.kind.to_string();
        match &*error.kind {
            ErrorKind::InsertMany(failed) => {
                if let Some(concern) = &failed.write_concern_error {
                    return Self::new(concern.code, &concern.message);
                }
                let one = |it: &mongodb::error::IndexedWriteError| WriteError {
                    index: it.index,
                    code: it.code,
                    reason: it.message.clone(),
                };
                let writes = failed.write_errors.iter().flatten().map(one).collect();
                Self { writes, ..Self::new(0, "some documents were refused") }
            }
            ErrorKind::Command(failed) => Self::new(failed.code, &text),
            ErrorKind::Authentication { .. } => Self::new(18, &text),
            ErrorKind::InvalidArgument { .. } | ErrorKind::InvalidTlsConfig { .. } => {
                Self { is_argument: true, ..Self::new(0, &text) }
            }
            _ => Self::new(0, &text),
        }
    }
}

/// Waits for an operation, [`OPERATION_MAX`] at most. It has a task of its own, because the
/// driver's futures must be polled to their end (its documentation names RUST-937); what nobody
/// waits for any more ends by its own bounds.
async fn bounded<T: Send + 'static>(
    operation: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::time::timeout(OPERATION_MAX, tokio::spawn(operation)).await {
        Ok(Ok(done)) => done.map_err(Failure::from),
        Ok(Err(_)) => Err(Failure::new(0, "the driver has given up")),
        Err(_) => Err(Failure::new(0, &format!("no answer in {OPERATION_MAX:?}"))),
    }
}

/// The error without the password that the URI may hold.
fn masked(uri: &str, error: StoreError) -> StoreError {
    let after = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let hosts = after.split(['/', '?']).next().unwrap_or_default();
    // A password that is not escaped as it must be may hold any of the delimiters.
    let login = [hosts, after].into_iter().find_map(|it| it.rsplit_once('@'));
    let password = login.and_then(|(login, _)| login.split_once(':')).map(|(_, it)| it);
    let mask = |text: String| match password {
        Some(password) if !password.is_empty() => text.replace(password, "***"),
        _ => text,
    };
    match error {
        StoreError::Unavailable(text) => StoreError::Unavailable(mask(text)),
        StoreError::Unusable(text) => StoreError::Unusable(mask(text)),
    }
}

/// Milliseconds since 1970 as MongoDB has them: signed. What is later than it can say is its end.
fn date(ms: u64) -> DateTime {
    DateTime::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn millis(date: DateTime) -> u64 {
    u64::try_from(date.timestamp_millis()).unwrap_or_default()
}

#[async_trait]
impl Store for Mongo {
    fn kind(&self) -> &'static str {
        "mongodb"
    }

    async fn append(&self, batch: Arc<[Entry]>) -> Result<Vec<Refusal>, StoreError> {
        self.append_batch(&batch).await
    }

    async fn read(&self, room: &str, range: Range) -> Result<Vec<Message>, StoreError> {
        self.read_range(room, range).await
    }

    async fn find(&self, room: &str, client_ids: &[Box<str>]) -> Result<Vec<Message>, StoreError> {
        self.find_client_ids(room, client_ids).await
    }

    async fn room(&self, room: &str) -> Result<Option<RoomRecord>, StoreError> {
        self.read_room(room).await
    }

    async fn configure(
        &self,
        room: &str,
        settings: &RoomSettings,
        now_ms: u64,
    ) -> Result<RoomRecord, StoreError> {
        self.write_settings(room, settings, now_ms).await
    }

    async fn note_users(&self, seen: Arc<[Seen]>) -> Result<(), StoreError> {
        self.write_users(&seen).await
    }

    async fn user(&self, id: &str) -> Result<Option<UserRecord>, StoreError> {
        self.read_user(id).await
    }

    async fn sweep(
        &self,
        _retention: Retention,
        now_ms: u64,
        from: Option<Box<str>>,
    ) -> Result<Swept, StoreError> {
        self.sweep_rooms(now_ms, from.as_deref()).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        schema::probe(self).await?;
        self.flush_rooms(false).await
    }

    async fn close(&self) {
        if let Err(error) = self.flush_rooms(true).await {
            tracing::warn!(%error, "the rooms' last numbers were not written; messages have them");
        }
        let client = self.client.clone();
        let shutdown = tokio::spawn(async move { client.shutdown().immediate(true).await });
        let _ = tokio::time::timeout(OPERATION_MAX, shutdown).await;
    }
}
