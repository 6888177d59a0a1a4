//! The bridge's thread: the one place from which the store is spoken to.
//!
//! A tokio runtime of its own. Messages are kept by one task in the order in which they came, as
//! many at a time as have come meanwhile; questions are answered beside it. Never touches a shard's
//! state: what is done goes back through the shard's [`Line`], with one wake-up per batch.

mod line;
mod parked;
mod read;
mod sweep;
mod users;
mod write;

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::unbounded_channel;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

pub use line::Line;
pub(crate) use line::{Done, Found, Question};
pub use users::Users;

use crate::stats::Stats;
use crate::store::{Entry, Refusal, Retention, Store, StoreError};
use line::ShardEnd;
use parked::Parked;

/// How long one answer of the store is waited for, before the same is asked again.
const ANSWER: Duration = Duration::from_secs(10);
/// How often an idle store is asked whether it is there.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// For how long appends may fail before those who wait for it are told so.
const PATIENCE: Duration = Duration::from_secs(5);
/// Latencies are those of this time.
const LATENCY_WINDOW: Duration = Duration::from_secs(30);

/// How the bridge's thread opens its store: within its own runtime.
pub type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn Store>, StoreError>>>>;

/// What the bridge's thread needs to know.
pub struct Plan {
    /// How long things stay.
    pub retention: Retention,
    /// Where messages go that the store refuses; `None`: to the log alone.
    pub parked: Option<PathBuf>,
    /// Nobody waits for a commit: messages may be gathered for a moment.
    pub is_lazy: bool,
}

/// The bridge's thread.
pub struct Bridge {
    stats: Arc<Stats>,
    kind: &'static str,
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

/// Appends fail.
#[derive(Clone, Copy)]
struct Outage {
    since: Instant,
    /// The shards know.
    is_told: bool,
}

/// What the tasks of the thread share.
struct Office {
    store: Arc<dyn Store>,
    stats: Arc<Stats>,
    shards: Vec<ShardEnd>,
    retention: Retention,
    is_lazy: bool,
    outage: Cell<Option<Outage>>,
}

impl Bridge {
    /// Starts the thread and opens the store. There is a [`Line`] for each shard.
    ///
    /// # Errors
    /// What the store says, or the system that gives no thread.
    pub fn start(
        open: impl FnOnce() -> Opening + Send + 'static,
        plan: Plan,
        shards_count: u16,
    ) -> Result<(Self, Vec<Line>, Users), StoreError> {
        let (appends, appended) = unbounded_channel();
        let (questions, asked) = unbounded_channel();
        let stats = Arc::new(Stats::default());
        let (users, seen) = users::channel(&stats);
        let mut lines = Vec::new();
        let mut shards = Vec::new();
        for shard in 0..shards_count {
            let (sender, done) = mpsc::channel();
            let (appends, questions) = (appends.clone(), questions.clone());
            let waker = Arc::default();
            shards.push(ShardEnd { done: sender, waker: Arc::clone(&waker) });
            let stats = Arc::clone(&stats);
            lines.push(Line { shard, appends, questions, done, waker, stats });
        }
        let (opened, opening) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::sync_channel::<()>(1);
        let shared = Arc::clone(&stats);
        let work = async move || {
            let store = match open().await {
                Ok(store) => store,
                Err(error) => return drop(opened.send(Err(error))),
            };
            let _ = opened.send(Ok(store.kind()));
            let Plan { retention, parked, is_lazy } = plan;
            let office = Rc::new(Office {
                store,
                stats: shared,
                shards,
                retention,
                is_lazy,
                outage: Cell::default(),
            });
            let reading = spawn_local(read::run(Rc::clone(&office), asked));
            let noting = spawn_local(users::run(Rc::clone(&office), seen));
            let sweeping = spawn_local(sweep::run(Rc::clone(&office)));
            let checking = spawn_local(watch(Rc::clone(&office)));
            write::run(&office, appended, Parked::new(parked)).await;
            let _ = (reading.await, noting.await);
            sweeping.abort();
            checking.abort();
            office.store.close().await;
        };
        let thread = std::thread::Builder::new().name("bridge".to_owned()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => LocalSet::new().block_on(&runtime, work()),
                Err(error) => warn!(%error, "the bridge's thread has no runtime"),
            }
            let _ = end.send(());
        });
        let no_thread = |error: io::Error| StoreError::Unavailable(error.to_string());
        let thread = thread.map_err(no_thread)?;
        let kind = opening.recv().unwrap_or_else(|_| {
            Err(StoreError::Unavailable("the bridge's thread has ended".to_owned()))
        })?;
        Ok((Self { stats, kind, ended, thread }, lines, users))
    }

    /// What it counts.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// What the store is called.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Waits until everything is kept; all lines must have been dropped. After `patience` the rest
    /// is left behind, which is logged.
    pub fn finish(self, patience: Duration) {
        if self.ended.recv_timeout(patience).is_ok() {
            let _ = self.thread.join();
            return info!(kept = self.stats.kept.load(Relaxed), "the store is closed");
        }
        let left = self.stats.queued_messages.load(Relaxed);
        warn!(left, ?patience, "the store is cut off; messages that are left are lost");
    }
}

impl Office {
    /// Waits for an answer of the store, and notes how that went.
    async fn ask<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let result = self.wait(answer).await;
        match &result {
            // A store may be read while it cannot be written to.
            Ok(_) if self.outage.get().is_none() => self.note_up(),
            Ok(_) => {}
            Err(error) => self.note_down(error),
        }
        result
    }

    /// Appends, and tells the shards when that fails for too long, and when it works again.
    async fn append(&self, batch: Arc<[Entry]>) -> Result<Vec<Refusal>, StoreError> {
        let begun = Instant::now();
        let result = self.wait(self.store.append(batch)).await;
        match &result {
            Ok(_) => {
                self.note_up();
                if self.outage.take().is_some_and(|outage| outage.is_told) {
                    self.tell_all(|| Done::Recovered);
                }
            }
            Err(error) => {
                self.note_down(error);
                let outage = self.outage.get().unwrap_or(Outage { since: begun, is_told: false });
                let is_told = outage.is_told || outage.since.elapsed() >= PATIENCE;
                if is_told && !outage.is_told {
                    self.tell_all(|| Done::Failing);
                }
                self.outage.set(Some(Outage { is_told, ..outage }));
            }
        }
        result
    }

    async fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let late = || StoreError::Unavailable(format!("no answer within {ANSWER:?}"));
        let result = timeout(ANSWER, answer).await.unwrap_or_else(|_| Err(late()));
        self.stats.last_answer_us.store(begun.elapsed().as_micros() as u64, Relaxed);
        result
    }

    fn note_up(&self) {
        if self.stats.down_since_ms.swap(0, Relaxed) != 0 {
            info!("the store does again what it is asked");
        }
    }

    fn note_down(&self, error: &StoreError) {
        let down = &self.stats.down_since_ms;
        if down.compare_exchange(0, now_ms(), Relaxed, Relaxed).is_ok() {
            warn!(%error, "the store does not do what it is asked");
        }
    }

    fn tell_all(&self, done: impl Fn() -> Done) {
        self.shards.iter().for_each(|shard| shard.tell(done()));
    }
}

/// Asks an idle store whether it is there, and forgets old latencies.
async fn watch(office: Rc<Office>) {
    let mut batches = 0;
    let mut window = Instant::now();
    loop {
        sleep(CHECK_INTERVAL).await;
        let before = std::mem::replace(&mut batches, office.stats.batches.load(Relaxed));
        if batches == before {
            let _ = office.ask(office.store.check()).await;
        }
        if window.elapsed() > LATENCY_WINDOW {
            window = Instant::now();
            office.stats.forget_latencies();
        }
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}
