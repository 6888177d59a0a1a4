//! What the fleet knows beside the order of messages, proved with a real Redis and hosts that share
//! it.

mod cluster;
mod hosts;
mod inquiries;
mod members;
mod recover;
mod sessions;
mod storm;
mod summaries;
mod users;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinHandle;

use super::*;
use crate::fleet::inquiry::Inquiries;
use crate::fleet::keys::Keys;
use crate::fleet::line::FromFleet;
use crate::fleet::line::{FleetLine, Senders, line};
use crate::fleet::link::Push;
use crate::fleet::processes;
use crate::fleet::stats::FleetStats;
use crate::fleet::target::Target;
use crate::fleet::words::{HostId, Session, Stay};
use crate::fleet::{Adapter, FleetPlan};
use crate::ticket::Ticket;
use processes::Redis;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Much faster than in life, so that tests end.
const FAST: Pace = Pace { ttl: Duration::from_millis(1500), beat: Duration::from_millis(200) };

const WINDOW_MS: u64 = 120_000;

/// A host with two shards.
struct Host {
    number: HostId,
    url: String,
    rooms: Vec<Arc<str>>,
    beside: Rc<Beside>,
    stats: Arc<FleetStats>,
    lines: Vec<FleetLine>,
    inquiries: Inquiries,
    life: RefCell<Option<JoinHandle<()>>>,
    /// How many links there have been.
    links: Rc<Cell<u32>>,
    /// What shard 0 was told, and shard 1.
    news: [RefCell<Vec<News>>; 2],
}

fn test<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let run = async { tokio::time::timeout(PATIENCE * 4, run).await.expect("in time") };
    tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), run)
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A fleet's host of this number.
fn plan(url: &str, number: HostId) -> FleetPlan {
    FleetPlan {
        target: Target::parse(url).expect("a target"),
        prefix: "t:".into(),
        host: number,
        pool_size: 1,
        history_size: 100,
        history_ttl_ms: 60_000,
        recovery_window_ms: WINDOW_MS,
        adapter: Adapter::Off,
    }
}

impl Host {
    /// Starts one that hears of some rooms, and waits until it is connected.
    async fn start(url: &str, number: HostId, rooms: &[&str]) -> Self {
        let host = Self::prepare(url, number, rooms);
        host.live();
        until("it is connected", || host.stats.hosts.load(Relaxed) > 0).await;
        host
    }

    async fn start_all<const N: usize>(
        url: &str,
        numbers: [HostId; N],
        rooms: &[&str],
    ) -> [Self; N] {
        let mut hosts = Vec::new();
        for number in numbers {
            hosts.push(Self::start(url, number, rooms).await);
        }
        hosts.try_into().unwrap_or_else(|_| unreachable!("as many as numbers"))
    }

    fn prepare(url: &str, number: HostId, rooms: &[&str]) -> Self {
        Self::prepare_with(url, plan(url, number), rooms)
    }

    fn prepare_with(url: &str, plan: FleetPlan, rooms: &[&str]) -> Self {
        let number = plan.host;
        let (orders, _) = unbounded_channel();
        let (casts, _) = unbounded_channel();
        let (words, told) = unbounded_channel();
        let (inquiries, inquired) = unbounded_channel();
        let stats = Arc::new(FleetStats::default());
        let senders = Senders { orders, words, casts };
        let (lines, shards) = (0..2).map(|shard| line(shard, senders.clone(), &stats)).unzip();
        let keys = Keys::new(&plan.prefix);
        let office = Rc::new(Office { plan, keys, stats: Arc::clone(&stats), shards });
        let beside = Rc::new(Beside::with_pace(office, told, inquired, FAST));
        Self {
            number,
            url: url.to_owned(),
            rooms: rooms.iter().map(|room| Arc::from(*room)).collect(),
            beside,
            stats,
            lines,
            inquiries: Inquiries(inquiries),
            life: RefCell::default(),
            links: Rc::default(),
            news: Default::default(),
        }
    }

    /// Connects, and does so again whenever the link is lost.
    fn live(&self) {
        let (beside, url, rooms) = (Rc::clone(&self.beside), self.url.clone(), self.rooms.clone());
        let links = Rc::clone(&self.links);
        *self.life.borrow_mut() = Some(tokio::task::spawn_local(async move {
            loop {
                let opened = tokio::select! {
                    link = dial(&url) => link,
                    () = beside.wait() => unreachable!("it never ends"),
                };
                links.set(links.get() + 1);
                serve(&beside, opened, &rooms).await;
            }
        }));
    }

    /// As if its process were killed, or cut off.
    fn kill(&self) {
        self.life.borrow_mut().take().expect("it lives").abort();
    }

    fn word(&self, word: Word) {
        self.lines[0].tell(word);
    }

    fn enter(&self, room: &str, id: &str, member: &str) {
        self.word(Word::Enter { room: room.into(), id: id.into(), member: member.into() });
    }

    fn leave(&self, room: &str, id: &str) {
        self.word(Word::Leave { room: room.into(), id: id.into() });
    }

    /// What shard 0 has been told so far, as text.
    fn heard(&self) -> Vec<String> {
        self.heard_by(0)
    }

    fn heard_by(&self, shard: usize) -> Vec<String> {
        let mut news = self.news[shard].borrow_mut();
        while let Some(FromFleet::News(it)) = self.lines[shard].poll() {
            news.push(it);
        }
        news.iter().map(describe).collect()
    }

    async fn hears(&self, what: &str) {
        let number = self.number;
        until(&format!("host {number} hears {what}"), || self.heard().iter().any(|it| it == what))
            .await;
    }

    /// Everything said before has been carried out.
    async fn settled(&self, admin: &Admin) {
        let key = format!("t:user:settled {:08x} {:?}", self.number, Instant::now());
        let id = key.strip_prefix("t:user:").expect("a prefix").into();
        self.word(Word::User { id, connections: 1, shard: 0 });
        admin.until(&["EXISTS", &key], |it| it == "1").await;
    }
}

fn describe(news: &News) -> String {
    match news {
        News::Entered { room, id, member } => format!("{room}: {id} entered {member}"),
        News::Left { room, id } => format!("{room}: {id} left"),
        News::Said { room, words } => format!("{room}: said {}", String::from_utf8_lossy(words)),
        News::Told { from, words } => format!("{from} told {}", String::from_utf8_lossy(words)),
        News::Untold { host, words } => {
            format!("{host} not told {}", String::from_utf8_lossy(words))
        }
        News::Roster { room, members } => {
            let mut ids: Vec<_> = members.iter().map(|(id, _)| &**id).collect();
            ids.sort_unstable();
            format!("{room}: {}", ids.join(" "))
        }
        News::Recovered { ticket, found } => format!("{} {}", ticket.0, found.is_some()),
        other => format!("{other:?}"),
    }
}

async fn dial(url: &str) -> (Link, crate::fleet::link::Pushes) {
    let target = Target::parse(url).expect("a target");
    loop {
        if let Ok(opened) = Link::open(&target, "test", 1).await {
            return opened;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn serve(
    beside: &Beside,
    (link, mut pushes): (Link, crate::fleet::link::Pushes),
    rooms: &[Arc<str>],
) {
    let link = Rc::new(link);
    let keys = Keys::new("t:");
    let channels: Vec<String> = rooms.iter().map(|room| keys.events(room)).collect();
    if link.subscribe(&channels, link.is_cluster()).await.is_err() {
        return;
    }
    let pass = async {
        while let Some(Push::Message { channel, payload }) = pushes.recv().await {
            let channel = String::from_utf8(channel).expect("a name");
            match keys.room_of_events(&channel) {
                Some(room) => beside.on_event(0, &room.into(), &payload),
                None => assert!(beside.on_push(&channel, &payload), "{channel}"),
            }
        }
    };
    tokio::select! {
        _ = beside.serve(&link) => {}
        () = pass => {}
    }
    link.give_up("over");
}

/// Whoever looks at Redis from outside.
struct Admin {
    link: Link,
    _pushes: crate::fleet::link::Pushes,
}

impl Admin {
    async fn connect(url: &str) -> Self {
        let (link, pushes) = dial(url).await;
        Self { link, _pushes: pushes }
    }

    async fn send(&self, words: &[&str]) -> Value {
        let mut command = Cmd::new();
        words.iter().for_each(|word| {
            command.arg(*word);
        });
        let node = self.link.node_of(words.get(1).copied().unwrap_or_default());
        self.link.send(node, &[command]).await.expect("answered").remove(0)
    }

    /// An answer as text; lists with spaces between.
    async fn text(&self, words: &[&str]) -> String {
        text(&self.send(words).await)
    }

    async fn until(&self, words: &[&str], condition: impl Fn(&str) -> bool) {
        let start = Instant::now();
        loop {
            let text = self.text(words).await;
            if condition(&text) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{words:?}: {text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Numbers a message as the order does.
    async fn publish(&self, room: &str, seq: u64) {
        let keys = Keys::new("t:");
        let (meta, stream) = (keys.meta(room), keys.stream(room));
        let (id, number) = (format!("m{seq}"), seq.to_string());
        let record = r#"{"at":1,"from":{"id":"s","user":"u","name":"n"},"body":"hello"}"#;
        self.send(&["HSET", &meta, "e", "00000000000000aa", "s", &number, "i", &id]).await;
        self.send(&["XADD", &stream, &format!("{seq}-0"), "i", &id, "m", record]).await;
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Nil => "nil".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::Okay => "OK".to_owned(),
        Value::Array(values) | Value::Set(values) => {
            values.iter().map(text).collect::<Vec<_>>().join(" ")
        }
        Value::Map(pairs) => {
            let pairs: Vec<_> =
                pairs.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect();
            pairs.join(" ")
        }
        other => format!("{other:?}"),
    }
}
