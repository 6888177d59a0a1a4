//! Ports to test, and short words for what is asked of them.
#![allow(dead_code)] // each suite uses its part

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use throng_bridge::store::{
    MemoryStore, Retention, RoomRecord, RoomSettings, Sqlite, Store, StoreError,
};
use throng_bridge::{
    Author, Bridge, Draft, Memory, MemoryLimits, Message, Opening, Outcome, Page, Plan, Port,
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
    let names = ["alone", "memory store", "sqlite", "sqlite, acks early"];
    names.into_iter().map(move |name| match name {
        "alone" => memory_alone(),
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

    /// The next outcome that is no settlement; those are noted.
    pub(crate) fn outcome(&mut self) -> Outcome {
        if let Some(outcome) = self.others.pop_front() {
            return outcome;
        }
        let begun = Instant::now();
        loop {
            match self.port.poll_outcome(self.now_ms) {
                Some(Outcome::Settled { ticket, kept, .. }) => {
                    self.unsettled -= 1;
                    self.settled.push_back((ticket, kept));
                }
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
            match self.port.poll_outcome(self.now_ms) {
                Some(Outcome::Settled { ticket, kept, .. }) => {
                    self.unsettled -= 1;
                    self.settled.push_back((ticket, kept));
                }
                Some(outcome) => self.others.push_back(outcome),
                None => std::thread::sleep(Duration::from_micros(50)),
            }
            assert!(begun.elapsed() < PATIENCE, "{}: nothing is settled", self.name);
        }
        // What is acknowledged early is kept all the same, a little later.
        while let Some(bridge) = &self.bridge
            && bridge.stats().queued_messages.load(Ordering::Relaxed) > 0
        {
            let _ = self.port.poll_outcome(self.now_ms).map(|it| self.others.push_back(it));
        }
        while let Some(outcome) = self.port.poll_outcome(self.now_ms) {
            self.others.push_back(outcome);
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
        self.submit(Request::Configure { ticket, room: room.into(), settings });
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
            Outcome::Published { ticket: it, message, duplicate, settled } if it == ticket => {
                self.unsettled += usize::from(!settled);
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
