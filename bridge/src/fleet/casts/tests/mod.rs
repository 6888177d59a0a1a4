//! Casts over a real Redis: between hosts, and with what speaks as Node servers do.

mod cluster;
mod hosts;
mod nodes;
mod sharded;

use std::rc::Rc;
use std::sync::Arc;
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

use super::super::keys::Keys;
use super::super::line::{FleetLine, FromFleet, Senders, line};
use super::super::link::{Link, Push};
use super::super::stats::FleetStats;
use super::super::words::{Cast, CastAnswer, Deed, HostId, News, Reach, Word};
use super::super::{Adapter, FleetPlan, Mode, Office, Target, processes};
use super::Casts;
use processes::{Cluster, Redis, until};

/// How long anything may take before a test fails: slow machines are busy ones.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the thread of a host is told.
enum Order {
    Room(String, bool),
    End,
}

/// A host with nothing but its casts, whose shards are the test.
struct Host {
    lines: Vec<FleetLine>,
    stats: Arc<FleetStats>,
    orders: UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    fn start(redis: &Redis, host: HostId, adapter: Adapter, shards: u16) -> Self {
        Self::start_at(&redis.url(), host, adapter, shards)
    }

    fn start_at(url: &str, host: HostId, adapter: Adapter, shards: u16) -> Self {
        let plan = FleetPlan {
            target: Target::parse(url).expect("a target"),
            prefix: "x:".into(),
            host,
            pool_size: 1,
            history_size: 10,
            history_ttl_ms: 1000,
            recovery_window_ms: 0,
            adapter,
        };
        let stats = Arc::new(FleetStats::default());
        let (casts, queue) = unbounded_channel();
        let senders =
            Senders { orders: unbounded_channel().0, words: unbounded_channel().0, casts };
        let (lines, shards): (Vec<_>, Vec<_>) =
            (0..shards).map(|shard| line(shard, senders.clone(), &stats)).unzip();
        let (orders, mut ordered) = unbounded_channel();
        let shared = Arc::clone(&stats);
        let thread = std::thread::spawn(move || {
            let keys = Keys::new(&plan.prefix);
            let office = Rc::new(Office { plan, keys, stats: shared, shards });
            let casts = Casts::new(Rc::clone(&office), queue);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            LocalSet::new().block_on(&runtime.expect("a runtime"), async {
                let end = async {
                    while let Some(Order::Room(room, open)) = ordered.recv().await {
                        casts.on_room(&room, open);
                    }
                };
                tokio::select! {
                    () = end => {}
                    () = run(&office, &casts) => {}
                }
            });
        });
        Self { lines, stats, orders, thread: Some(thread) }
    }

    fn cast(&self, shard: usize, cast: Cast, to_hosts: bool, to_nodes: bool) {
        self.lines[shard].tell(Word::Cast { cast: Arc::new(cast), to_hosts, to_nodes });
    }

    fn answer(&self, shard: usize, request: u64, answer: CastAnswer) {
        self.lines[shard].tell(Word::Answer { request, answer });
    }

    fn socket(&self, namespace: &str, id: &str, is_open: bool) {
        let (namespace, id) = (namespace.into(), id.into());
        self.lines[0].tell(Word::Socket { namespace, id, is_open });
    }

    fn poll(&self, shard: usize) -> Option<News> {
        match self.lines[shard].poll()? {
            FromFleet::News(news) => Some(news),
            other => panic!("{other:?}"),
        }
    }

    fn next(&self, shard: usize) -> News {
        let start = Instant::now();
        loop {
            if let Some(news) = self.poll(shard) {
                return news;
            }
            assert!(start.elapsed() < PATIENCE, "nothing comes");
            sleep(Duration::from_millis(2));
        }
    }

    /// The next cast of another server.
    fn heard(&self) -> (Arc<Cast>, Option<u64>) {
        match self.next(0) {
            News::Cast { cast, request } => (cast, request),
            other => panic!("{other:?}"),
        }
    }

    /// The next answer to a cast of this shard.
    fn answered(&self, shard: usize) -> (u64, CastAnswer) {
        match self.next(shard) {
            News::Answered { id, answer } => (id, answer),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// As the fleet's thread does, with the casts alone.
async fn run(office: &Rc<Office>, casts: &Casts) {
    loop {
        let opened = tokio::select! {
            opened = Link::open(&office.plan.target, "test", 1) => opened,
            () = casts.wait() => unreachable!("it never ends"),
        };
        let Ok((link, mut pushes)) = opened else {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
                () = casts.wait() => {}
            }
            continue;
        };
        let link = Rc::new(link);
        let dispatch = async {
            while let Some(Push::Message { channel, payload }) = pushes.recv().await {
                casts.on_push(&channel, &payload);
            }
        };
        tokio::select! {
            _ = casts.serve(&link) => {}
            () = dispatch => {}
        }
    }
}

/// Waits until a channel has so many subscribers.
fn until_heard(redis: &Redis, word: &str, channel: &str, count: usize) {
    until(&format!("{count} subscribe to {channel}"), || {
        redis.cli(&["pubsub", word, channel]).lines().last() == Some(&*count.to_string())
    });
}

fn reach(namespace: &str, rooms: &[&str]) -> Reach {
    let rooms = rooms.iter().map(|room| (*room).into()).collect();
    Reach { namespace: namespace.into(), rooms, except: Vec::new() }
}

fn emit(args: &str, attachments: &[&[u8]], answers: Option<(u64, u32)>) -> Deed {
    let attachments = attachments.iter().map(|it| (*it).into()).collect();
    Deed::Emit { args: args.into(), attachments, volatile: false, answers }
}

fn to_all(deed: Deed) -> Cast {
    Cast { reach: reach("/", &[]), deed }
}
