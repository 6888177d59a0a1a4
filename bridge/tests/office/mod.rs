//! Ports to test, and short words for what is asked of them.
#![allow(dead_code)] // each suite uses its part

#[path = "../redis/mod.rs"]
mod redis;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::Redis;
use throng_bridge::fleet::{Adapter, Fleet, FleetPlan, Target};
use throng_bridge::store::{
    MemoryStore, Retention, RoomRecord, RoomSettings, Sqlite, Store, StoreError,
};
use throng_bridge::{
    Author, Bridge, Draft, Line, Memory, MemoryLimits, Message, Opening, Outcome, Page, Plan, Port,
    Range, Request, Stored, StoredLimits, Ticket,
};

pub(crate) const LIMITS: MemoryLimits =
    MemoryLimits { messages_per_room: 5, ttl_ms: 1_000, bytes_max: 1 << 20 };
/// Generous: what is waited for comes in microseconds, but not on a machine that is held up.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn draft(body: &str, client_id: Option<&str>) -> Draft {
    let from = Author { id: "s".into(), user: "u".into(), name: "U".into() };
    Draft { from, body: body.into(), attachments: vec![], client_id: client_id.map(Into::into) }
}

pub(crate) fn stored_limits(memory: MemoryLimits, settles_at_commit: bool) -> StoredLimits {
    StoredLimits {
        memory,
        settles_at_commit,
        queued_messages_max: 10_000,
        queued_bytes_max: 64 << 20,
        questions_max: 100,
        retention_ms: None,
    }
}

/// Every implementation, each with a fresh store.
pub(crate) fn desks(memory: MemoryLimits) -> impl Iterator<Item = Desk> {
    let stored = move |name: &'static str, settles_at_commit| {
        let limits = stored_limits(memory, settles_at_commit);
        Desk::start(name, limits, move || match name {
            "memory store" => Box::pin(async { Ok(Arc::new(MemoryStore::new()) as _) }),
            _ => Box::pin(async {
                let file = folder().join("throng.db");
                Ok(Arc::new(Sqlite::open(&file).await?) as Arc<dyn Store>)
            }),
        })
    };
    let memory_alone = move || Desk::alone(Box::new(Memory::new(memory, "m")));
    let names =
        ["alone", "memory store", "sqlite", "sqlite, acks early", "fleet", "fleet and sqlite"];
    names.into_iter().map(move |name| match name {
        "alone" => memory_alone(),
        "fleet" | "fleet and sqlite" => Desk::in_fleet(name, memory),
        "sqlite, acks early" => stored(name, false),
        name => stored(name, true),
    })
}

/// A folder of its own.
pub(crate) fn folder() -> std::path::PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("throng-port-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// A port and whoever uses it.
pub(crate) struct Desk {
    pub(crate) name: &'static str,
    pub(crate) port: Box<dyn Port>,
    pub(crate) now_ms: u64,
    bridge: Option<Bridge>,
    fleet: Option<(Fleet, Redis)>,
    /// What has been delivered of each room.
    delivered: HashMap<Arc<str>, u64>,
    tickets: u64,
    settled: VecDeque<(Ticket, bool)>,
    unsettled: usize,
    others: VecDeque<Outcome>,
}

impl Desk {
    pub(crate) fn alone(port: Box<dyn Port>) -> Self {
        Self {
            name: "alone",
            port,
            now_ms: 1,
            bridge: None,
            fleet: None,
            delivered: HashMap::new(),
            tickets: 0,
            settled: VecDeque::new(),
            unsettled: 0,
            others: VecDeque::new(),
        }
    }

    pub(crate) fn start(
        name: &'static str,
        limits: StoredLimits,
        open: impl FnOnce() -> Opening + Send + 'static,
    ) -> Self {
        let plan = Plan { retention: Retention::default(), parked: None, is_lazy: false };
        let (bridge, mut lines, _users) = Bridge::start(open, plan, 1).expect("a bridge");
        let line = lines.pop().expect("one line");
        let port = Box::new(Stored::new(limits, line, "m"));
        Self { name, bridge: Some(bridge), ..Self::alone(port) }
    }

    /// With a Redis of its own, which numbers.
    fn in_fleet(name: &'static str, memory: MemoryLimits) -> Self {
        let redis = Redis::start();
        let plan = FleetPlan {
            target: Target::parse(&redis.url()).expect("a URL"),
            prefix: "".into(),
            host: 7,
            pool_size: 1,
            history_size: memory.messages_per_room,
            history_ttl_ms: 60_000,
            recovery_window_ms: 0,
            adapter: Adapter::Off,
        };
        let (fleet, mut lines) = Fleet::start(plan, 1).expect("a thread");
        let fleet_line = lines.pop().expect("one line");
        let begun = Instant::now();
        while !fleet.stats().is_ready() {
            assert!(begun.elapsed() < PATIENCE, "Redis is not there");
            std::thread::sleep(Duration::from_millis(5));
        }
        let limits = stored_limits(memory, name != "fleet");
        let (bridge, line) = if name == "fleet" { (None, None) } else { Self::over_sqlite() };
        let port = Stored::in_fleet(limits, line, (fleet_line, true), "m");
        Self { name, bridge, fleet: Some((fleet, redis)), ..Self::alone(Box::new(port)) }
    }

    fn over_sqlite() -> (Option<Bridge>, Option<Line>) {
        let plan = Plan { retention: Retention::default(), parked: None, is_lazy: false };
        let open = || -> Opening {
            Box::pin(async {
                let file = folder().join("throng.db");
                Ok(Arc::new(Sqlite::open(&file).await?) as Arc<dyn Store>)
            })
        };
        let (bridge, mut lines, _users) = Bridge::start(open, plan, 1).expect("a bridge");
        (Some(bridge), lines.pop())
    }

    /// Over a store of the test's own.
    pub(crate) fn over(store: Arc<dyn Store>, limits: StoredLimits) -> Self {
        Self::start("given", limits, move || Box::pin(async move { Ok::<_, StoreError>(store) }))
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.bridge.is_some()
    }

    pub(crate) fn bridge(&self) -> &Bridge {
        self.bridge.as_ref().expect("a bridge")
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets ^ 77)
    }

    pub(crate) fn submit(&mut self, request: Request) {
        self.port.try_submit(request, self.now_ms).expect("room");
    }

    /// The next outcome that somebody asked for; deliveries are noted.
    fn poll(&mut self) -> Option<Outcome> {
        loop {
            match self.port.poll_outcome(self.now_ms)? {
                Outcome::Delivered { room, message } => {
                    self.delivered.insert(room, message.seq);
                }
                Outcome::News(_) | Outcome::Configured { .. } => {}
                outcome => return Some(outcome),
            }
        }
    }

    fn await_delivery(&mut self, room: &str, seq: u64) {
        let begun = Instant::now();
        while self.delivered.get(room).is_none_or(|it| *it < seq) {
            if let Some(outcome) = self.poll() {
                self.note(outcome);
            }
            assert!(begun.elapsed() < PATIENCE, "{}: {seq} is not delivered", self.name);
        }
    }

    fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Settled { ticket, kept, .. } => {
                self.unsettled -= 1;
                self.settled.push_back((ticket, kept));
            }
            outcome => self.others.push_back(outcome),
        }
    }

    /// The next outcome that is no settlement; those are noted.
    pub(crate) fn outcome(&mut self) -> Outcome {
        if let Some(outcome) = self.others.pop_front() {
            return outcome;
        }
        let begun = Instant::now();
        loop {
            match self.poll() {
                Some(outcome @ Outcome::Settled { .. }) => self.note(outcome),
                Some(outcome) => return outcome,
                None => std::thread::sleep(Duration::from_micros(50)),
            }
            assert!(begun.elapsed() < PATIENCE, "{}: nothing comes", self.name);
        }
    }

    /// Waits until every message is settled; which were, and whether they are kept.
    pub(crate) fn settle(&mut self) -> Vec<(Ticket, bool)> {
        let begun = Instant::now();
        while self.unsettled > 0 {
            match self.poll() {
                Some(outcome) => self.note(outcome),
                None => std::thread::sleep(Duration::from_micros(50)),
            }
            assert!(begun.elapsed() < PATIENCE, "{}: nothing is settled", self.name);
        }
        // What is acknowledged early is kept all the same, a little later.
        while let Some(bridge) = &self.bridge
            && bridge.stats().queued_messages.load(Ordering::Relaxed) > 0
        {
            let _ = self.poll().map(|it| self.note(it));
        }
        while let Some(outcome) = self.poll() {
            self.note(outcome);
        }
        self.settled.drain(..).collect()
    }

    pub(crate) fn open(&mut self, room: &str) -> Option<RoomRecord> {
        self.submit(Request::Open { room: room.into() });
        match self.outcome() {
            Outcome::Opened { room: opened, record } if *opened == *room => record,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    pub(crate) fn close(&mut self, room: &str) {
        self.settle();
        self.submit(Request::Close { room: room.into() });
    }

    pub(crate) fn configure(&mut self, room: &str, settings: RoomSettings) -> Option<RoomRecord> {
        let ticket = self.ticket();
        self.submit(Request::Record { ticket, room: room.into() });
        let before = self.recorded()?.settings;
        self.submit(Request::Configure { ticket, room: room.into(), before, settings });
        self.recorded()
    }

    fn recorded(&mut self) -> Option<RoomRecord> {
        match self.outcome() {
            Outcome::Record { record, .. } => record,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    /// The message, and whether it had been there before.
    pub(crate) fn publish_draft(&mut self, room: &str, draft: Draft) -> (Arc<Message>, bool) {
        let ticket = self.ticket();
        self.submit(Request::Publish { ticket, room: room.into(), draft });
        match self.outcome() {
            Outcome::Published { ticket: it, message, duplicate, delivers, settled }
                if it == ticket =>
            {
                self.unsettled += usize::from(!settled);
                if !delivers && !duplicate {
                    self.await_delivery(room, message.seq);
                }
                (message, duplicate)
            }
            other => panic!("{}: {other:?}", self.name),
        }
    }

    pub(crate) fn publish(&mut self, room: &str, body: &str) -> u64 {
        self.publish_draft(room, draft(body, None)).0.seq
    }

    pub(crate) fn read(&mut self, room: &str, after: Option<u64>, before: Option<u64>) -> Page {
        self.settle();
        let ticket = self.ticket();
        let range = Range { after, before, limit: 3 };
        self.submit(Request::Read { ticket, room: room.into(), range });
        match self.outcome() {
            Outcome::Read { page, .. } => page,
            other => panic!("{}: {other:?}", self.name),
        }
    }
}
