//! The control thread: HTTP beside the hot path, signals, the way down.
//!
//! One thread with a tokio runtime of its own. It reads the shards' counters as they are, and asks
//! the shards themselves, over a bounded queue each, for what only they know. No shard waits for
//! it.

mod access;
mod alerts;
mod api;
mod fleet;
mod http;
mod memory;
mod prometheus;
mod reply;
mod rooms;
mod settings;
mod stats;
mod store;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::app::App;
use crate::clock::{Now, wall_ms};
use crate::config::Config;
use crate::handover::HandedOver;
use crate::ids::home_of;
use crate::limits::{DRAIN_SPREAD_PERCENT, SHARD_ANSWER_MS, STORE_ANSWER_MS};
use crate::mesh::Door;
use crate::metrics::Cells;
use crate::room::Homes;
use crate::shard::Command;

use access::Access;
use alerts::Board;
pub use fleet::FleetView;
pub use store::StoreView;

/// A shard as the control thread reaches it.
pub struct Line<A: App> {
    /// Its commands.
    pub commands: SyncSender<Command<A>>,
    /// Its counters.
    pub cells: Arc<Cells>,
}

/// What the control thread knows of the host.
pub struct Control<A: App> {
    config: Arc<Config>,
    lines: Vec<Line<A>>,
    doors: Arc<[Door]>,
    /// What the host can hold.
    connections_max: u64,
    store: Option<StoreView>,
    fleet: Option<FleetView>,
    access: Access,
    board: Mutex<Board>,
    /// Held while a room's settings are read, changed and written.
    writing: tokio::sync::Mutex<()>,
    started: Instant,
    /// Milliseconds since 1970.
    started_ms: u64,
    draining: AtomicBool,
    rates: stats::Rates,
}

/// What the home of a room has been asked.
struct Asked<R>(oneshot::Receiver<Option<R>>);

impl<R> Asked<R> {
    /// Its answer; `None` if there is none in time, or none for now.
    async fn answer(self) -> Option<R> {
        let within = Duration::from_millis(STORE_ANSWER_MS);
        timeout(within, self.0).await.ok()?.ok().flatten()
    }
}

/// Why [`Control::run`] drains: resolves on the first signal, and again on the next.
pub trait Signals {
    /// Waits for the next signal to stop.
    fn next(&mut self) -> impl Future<Output = ()>;
}

impl<A: App> Control<A> {
    /// Reaches the shards by `lines` and wakes them by `doors`; the host can hold
    /// `connections_max`. `views` are the store and the fleet, where there are some.
    pub fn new(
        config: Arc<Config>,
        lines: Vec<Line<A>>,
        doors: Arc<[Door]>,
        connections_max: u64,
        (store, fleet): (Option<StoreView>, Option<FleetView>),
    ) -> Arc<Self> {
        Arc::new(Self {
            access: Access::new(config.api_key.as_ref()),
            config,
            lines,
            doors,
            connections_max,
            store,
            fleet,
            board: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            started: Instant::now(),
            started_ms: wall_ms(),
            draining: AtomicBool::new(false),
            rates: stats::Rates::default(),
        })
    }

    /// Serves what is handed over until a signal comes, then drains the shards and stops them.
    pub async fn run(
        self: Arc<Self>,
        handed_over: UnboundedReceiver<HandedOver>,
        mut signals: impl Signals,
    ) {
        let serving = tokio::task::spawn_local(http::serve(Arc::clone(&self), handed_over));
        let sampling = tokio::task::spawn_local(stats::sample(Arc::clone(&self)));
        let watching = tokio::task::spawn_local(alerts::watch(Arc::clone(&self)));
        signals.next().await;
        self.drain(&mut signals).await;
        watching.abort();
        serving.abort();
        sampling.abort();
    }

    /// Closes all connections, paced so that their clients do not come back at once.
    async fn drain(&self, signals: &mut impl Signals) {
        let deadline = Instant::now() + self.config.drain_timeout;
        self.draining.store(true, Ordering::Relaxed);
        let connections = self.connections();
        let spread = self.config.drain_timeout * DRAIN_SPREAD_PERCENT / 100;
        let within = self.config.drain_timeout;
        info!(connections, ?within, "draining; a second signal hurries");
        self.tell_all(|| Command::Drain { spread_ms: spread.as_millis() as u32 });
        let emptied = async {
            while self.connections() > 0 && Instant::now() < deadline {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::pin!(emptied);
        tokio::select! {
            () = &mut emptied => {}
            () = signals.next() => {
                self.tell_all(|| Command::Drain { spread_ms: 0 });
                let _ = timeout(Duration::from_secs(3), emptied).await;
            }
        }
        match self.connections() {
            0 => info!("drained"),
            left => warn!(left, "DRAIN_TIMEOUT is over; the rest is cut"),
        }
        self.tell_all(|| Command::Stop);
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        stats::locked(&self.board)
    }

    fn connections(&self) -> u64 {
        self.lines.iter().map(|line| line.cells.connections.read()).sum()
    }

    fn tell_all(&self, command: impl Fn() -> Command<A>) {
        for (line, door) in self.lines.iter().zip(self.doors.iter()) {
            // A shard whose queue is full reads it within its turn.
            let mut command = command();
            while let Err(std::sync::mpsc::TrySendError::Full(it)) = line.commands.try_send(command)
            {
                command = it;
                door.knock();
                std::thread::sleep(Duration::from_millis(1));
            }
            door.knock();
        }
    }

    /// Asks every shard; the answers of those that gave one in time.
    async fn ask_all<R: Send + 'static>(
        &self,
        look: impl Fn(&A, &mut Homes<A>, Now) -> R + Clone + Send + 'static,
    ) -> Vec<R> {
        let ask = |index: usize| {
            let look = look.clone();
            self.ask(index, |answer| {
                Command::Look(Box::new(move |app, homes, now| {
                    let _ = answer.send(look(app, homes, now));
                }))
            })
        };
        let asked: Vec<_> = (0..self.lines.len()).map(ask).collect();
        Self::gather(asked).await
    }

    /// Asks one shard; `None` if it gave no answer in time.
    async fn ask_one<R: Send + 'static>(
        &self,
        index: usize,
        look: impl FnOnce(&A, &mut Homes<A>, Now) -> R + Send + 'static,
    ) -> Option<R> {
        let asked = self.ask(index, |answer| {
            Command::Look(Box::new(move |app, homes, now| {
                let _ = answer.send(look(app, homes, now));
            }))
        });
        Self::gather(vec![asked]).await.pop()
    }

    /// Asks the home of a room for what it may have to ask the store.
    fn ask_home<R: Send + 'static>(
        &self,
        key: &str,
        look: impl FnOnce(&mut Homes<A>, &str, Now, oneshot::Sender<Option<R>>) + Send + 'static,
    ) -> Asked<R> {
        let home = usize::from(home_of(key, self.lines.len() as u16));
        let key = key.to_owned();
        let asked = self.ask(home, |answer| {
            Command::Look(Box::new(move |_, homes, now| look(homes, &key, now, answer)))
        });
        Asked(asked)
    }

    /// Latencies of all shards, in microseconds.
    async fn latency_us(&self) -> Option<Histogram<u64>> {
        let ask = |index| {
            self.ask(index, |answer| {
                Command::Latency(Box::new(move |histogram| {
                    let _ = answer.send(histogram.clone());
                }))
            })
        };
        let asked: Vec<_> = (0..self.lines.len()).map(ask).collect();
        let mut all = Self::gather(asked).await.into_iter();
        let first = all.next()?;
        Some(all.fold(first, |mut sum, it| {
            // All have the same precision and grow as needed.
            let _ = sum.add(it);
            sum
        }))
    }

    fn ask<R>(
        &self,
        index: usize,
        command: impl FnOnce(oneshot::Sender<R>) -> Command<A>,
    ) -> oneshot::Receiver<R> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.lines[index].commands.try_send(command(sender));
        self.doors[index].knock();
        receiver
    }

    async fn gather<R>(asked: Vec<oneshot::Receiver<R>>) -> Vec<R> {
        let mut answers = Vec::with_capacity(asked.len());
        let deadline = Instant::now() + Duration::from_millis(SHARD_ANSWER_MS);
        for answer in asked {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(Ok(answer)) = timeout(left, answer).await {
                answers.push(answer);
            }
        }
        answers
    }
}
