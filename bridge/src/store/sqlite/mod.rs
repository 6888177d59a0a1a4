//! The embedded store: one SQLite file that this process alone writes.
//!
//! Owns the file, the lock beside it, one thread that writes and two that read; each thread has
//! its own connection and takes one job at a time from a bounded queue. No caller's thread ever
//! waits for the disk: answers come over a channel, and a job whose caller has gone before its
//! turn is not begun. Never rebuilds or repairs a file: what it cannot read it names.
//!
//! Invariants: `append` returns after its transaction is in the write-ahead log and synced; a
//! failed transaction leaves nothing behind; a connection that met a fault of the disk is thrown
//! away and opened anew for the next job, on the same file or not at all.

mod read;
mod schema;
mod sweep;
mod write;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use self::schema::{Place, Role};
use super::{
    Entry, NUMBER_MAX, Refusal, Retention, RoomRecord, RoomSettings, Seen, Store, StoreError,
    Swept, UserRecord,
};
use crate::message::{Message, Range};

/// Jobs that may wait for a thread. The bridge has one append and a few dozen reads under way;
/// more than this means that the disk does not answer.
const JOBS_MAX: usize = 1_024;
/// Two: one long page of history must not delay all others, and more find no free core.
const READERS: usize = 2;

/// Why a job has failed.
enum Fault {
    Sql(rusqlite::Error),
    /// What is stored cannot be understood.
    Unusable(String),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// SQLite's number as the others know it; what is too great becomes the greatest there is.
fn signed(number: u64) -> i64 {
    number.min(NUMBER_MAX) as i64
}

/// The reverse of [`signed`]; nothing below 0 is ever written.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A thread's connection, opened when it is first needed and after a fault.
struct Link {
    // Before the place, whose lock must not go while the file is still being closed.
    connection: Option<Connection>,
    place: Arc<Place>,
    role: Role,
}

impl Link {
    fn run<T>(
        &mut self,
        act: impl FnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        if let Err(error) = self.place.verify() {
            self.connection = None;
            return Err(error);
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            gone => gone.insert(self.place.connect(self.role)?),
        };
        let fault = match act(connection) {
            Ok(done) => return Ok(done),
            Err(fault) => fault,
        };
        // SQLite has rolled back by itself after some faults, and not after others.
        let clean = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
        match fault {
            Fault::Unusable(reason) => Err(StoreError::Unusable(reason)),
            Fault::Sql(error) => {
                if !clean || breaks_connection(&error) {
                    tracing::warn!(%error, "the store's file is opened anew");
                    self.connection = None;
                }
                Err(StoreError::Unavailable(format!("{}: {error}", self.place.path().display())))
            }
        }
    }
}

/// Whether a connection may hold a wrong view of the file after this error.
fn breaks_connection(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    code.is_some_and(|code| {
        matches!(
            code,
            ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::ApiMisuse
        )
    })
}

type Job = Box<dyn FnOnce(&mut Link) + Send>;

/// A queue and the threads that empty it. They end when the queue has been closed and is empty.
struct Lane {
    queue: Mutex<Option<SyncSender<Job>>>,
    ended: Mutex<Vec<oneshot::Receiver<()>>>,
}

impl Lane {
    fn start(name: &str, links: Vec<Link>) -> Result<Self, StoreError> {
        let (sender, receiver) = sync_channel::<Job>(JOBS_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut ended = Vec::new();
        for link in links {
            let (end, at_end) = oneshot::channel();
            let receiver = Arc::clone(&receiver);
            let work = move || {
                serve(&receiver, link);
                // Nobody may wait for it: then there is nobody to tell.
                let _ = end.send(());
            };
            let started = thread::Builder::new().name(name.to_owned()).spawn(work);
            started.map_err(|error| StoreError::Unavailable(format!("no thread: {error}")))?;
            ended.push(at_end);
        }
        Ok(Self { queue: Mutex::new(Some(sender)), ended: Mutex::new(ended) })
    }

    /// Has one of the threads do something with its connection.
    async fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |link| {
            if !answer.is_closed() {
                // The caller may have gone meanwhile; what is done stays done.
                let _ = answer.send(link.run(act));
            }
        });
        self.submit(job)?;
        let gone = |_| StoreError::Unavailable("the store has ended".into());
        answered.await.map_err(gone)?
    }

    fn submit(&self, job: Job) -> Result<(), StoreError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = queue.as_ref().map(|queue| queue.try_send(job));
        let reason = match sent {
            Some(Ok(())) => return Ok(()),
            Some(Err(TrySendError::Full(_))) => {
                format!("{JOBS_MAX} requests wait for the disk already")
            }
            Some(Err(TrySendError::Disconnected(_))) | None => "the store is closed".into(),
        };
        Err(StoreError::Unavailable(reason))
    }

    async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended = std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner));
        for end in ended {
            // An error says that the thread has ended otherwise, which is as well.
            let _ = end.await;
        }
    }
}

fn serve(queue: &Mutex<Receiver<Job>>, mut link: Link) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(&mut link),
            Err(_) => return,
        }
    }
}

/// A [`Store`] in one SQLite file. Dropped without [`Store::close`], its threads finish what was
/// asked and let go of the file by themselves, a moment later.
pub struct Sqlite {
    path: PathBuf,
    writer: Lane,
    readers: Lane,
}

impl Sqlite {
    /// Opens the file at `path`, which is made if it is missing, with its folder; both can be read
    /// by their owner alone. An older schema is migrated. How long it takes does not depend on how
    /// much is stored, apart from migrations.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] naming what has to be mended: the file is in use by another
    /// engine, is no store, has another or a newer schema, or cannot be made or written.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let (answer, answered) = oneshot::channel();
        let wanted = path.to_owned();
        let prepare = move || {
            // Whoever asked may have gone.
            let _ = answer.send(schema::prepare(&wanted));
        };
        let started = thread::Builder::new().name("store-open".into()).spawn(prepare);
        started.map_err(|error| StoreError::Unusable(format!("no thread: {error}")))?;
        let gone = |_| StoreError::Unusable("the store's thread has ended".into());
        let (place, connection) = answered.await.map_err(gone)??;
        let (path, place) = (place.path().to_owned(), Arc::new(place));
        let link = |role, connection| Link { connection, place: Arc::clone(&place), role };
        let writer = Lane::start("store-write", vec![link(Role::Writer, Some(connection))])?;
        let links = (0..READERS).map(|_| link(Role::Reader, None)).collect();
        Ok(Self { path, writer, readers: Lane::start("store-read", links)? })
    }

    /// The file, with its links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[async_trait]
impl Store for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    async fn append(&self, batch: Arc<[Entry]>) -> Result<Vec<Refusal>, StoreError> {
        self.writer.ask(move |connection| write::append(connection, &batch)).await
    }

    async fn read(&self, room: &str, range: Range) -> Result<Vec<Message>, StoreError> {
        let room = room.to_owned();
        self.readers.ask(move |connection| read::read(connection, &room, range)).await
    }

    async fn find(&self, room: &str, client_ids: &[Box<str>]) -> Result<Vec<Message>, StoreError> {
        let (room, client_ids) = (room.to_owned(), client_ids.to_vec());
        self.readers.ask(move |connection| read::find(connection, &room, &client_ids)).await
    }

    async fn room(&self, room: &str) -> Result<Option<RoomRecord>, StoreError> {
        let room = room.to_owned();
        self.readers.ask(move |connection| read::room(connection, &room)).await
    }

    async fn configure(
        &self,
        room: &str,
        settings: &RoomSettings,
        now_ms: u64,
    ) -> Result<RoomRecord, StoreError> {
        let (room, settings) = (room.to_owned(), settings.clone());
        let configure =
            move |connection: &mut _| write::configure(connection, &room, &settings, now_ms);
        self.writer.ask(configure).await
    }

    async fn note_users(&self, seen: Arc<[Seen]>) -> Result<(), StoreError> {
        self.writer.ask(move |connection| write::note_users(connection, &seen)).await
    }

    async fn user(&self, id: &str) -> Result<Option<UserRecord>, StoreError> {
        let id = id.to_owned();
        self.readers.ask(move |connection| read::user(connection, &id)).await
    }

    async fn sweep(
        &self,
        retention: Retention,
        now_ms: u64,
        from: Option<Box<str>>,
    ) -> Result<Swept, StoreError> {
        let sweep =
            move |connection: &mut _| sweep::step(connection, retention, now_ms, from.as_deref());
        self.writer.ask(sweep).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.readers.ask(|connection| read::check(connection)).await?;
        self.writer.ask(write::check).await
    }

    async fn close(&self) {
        // The writer last: the connection that is closed last folds the log into the file.
        self.readers.close().await;
        self.writer.close().await;
    }
}
