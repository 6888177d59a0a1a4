//! Several hosts in one process, each a whole [`Fleet`], over a real Redis that is frozen, killed,
//! emptied and lied to. Every test ends with the same check: no host was delivered a hole, a
//! repetition or another order, and what was acknowledged was delivered or announced as lost.

mod faults;
mod speed;
mod way;
mod words;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::keys::Keys;
use super::super::words::{Joined, News, Order, Ordered};
use super::super::{Adapter, Fleet, FleetLine, FleetPlan, FleetStats, FromFleet, Target};
use crate::fleet::processes::Redis;
use crate::message::{Author, Draft, Message, Page, Range};
use crate::store::RoomSettings;
use crate::ticket::Ticket;

/// How long anything may take that should happen.
const LONG: Duration = Duration::from_secs(60);

fn plan(port: u16, host: u32) -> FleetPlan {
    FleetPlan {
        target: Target::parse(&format!("redis://127.0.0.1:{port}")).expect("a target"),
        prefix: "t:".into(),
        host,
        pool_size: 1,
        history_size: 20_000,
        history_ttl_ms: 3_600_000,
        recovery_window_ms: 0,
        adapter: Adapter::Off,
    }
}

fn draft(body: &str, client_id: Option<&str>) -> Draft {
    let from = Author { id: "s1".into(), user: "u1".into(), name: "N".into() };
    Draft {
        from,
        body: format!("{body:?}").into(),
        attachments: vec![vec![0, 1, 2].into(), Box::default()],
        client_id: client_id.map(Into::into),
    }
}

/// What a host has been told of a room.
#[derive(Default)]
struct Seen {
    opened: bool,
    last: u64,
    messages: Vec<Arc<Message>>,
    /// Delivered one by one, in order.
    delivered: Vec<Arc<Message>>,
    breaks: usize,
    settings: Vec<RoomSettings>,
}

/// A host with one shard, and what it has been told.
struct Host {
    fleet: Fleet,
    line: FleetLine,
    number: u32,
    sent: u64,
    asked: u64,
    rooms: HashMap<Arc<str>, Seen>,
    published: HashMap<Ticket, (Arc<str>, Arc<Message>, bool)>,
    refused: Vec<Ticket>,
    pages: HashMap<Ticket, Option<Page>>,
    settings: HashMap<Ticket, Option<Option<RoomSettings>>>,
    /// How often it was told who is in a room.
    rosters: HashMap<Arc<str>, usize>,
    /// Rooms whose opening has failed.
    unopened: usize,
}

impl Host {
    fn start(port: u16, number: u32) -> Self {
        Self::start_as(plan(port, number))
    }

    fn start_as(plan: FleetPlan) -> Self {
        let number = plan.host;
        let (fleet, mut lines) = Fleet::start(plan, 1).expect("a thread");
        Self {
            fleet,
            line: lines.remove(0),
            number,
            sent: 0,
            asked: 0,
            rooms: HashMap::new(),
            published: HashMap::new(),
            refused: Vec::new(),
            pages: HashMap::new(),
            settings: HashMap::new(),
            rosters: HashMap::new(),
            unopened: 0,
        }
    }

    fn open(&mut self, room: &str) {
        let floor = self.rooms.get(room).map_or(0, |seen| seen.last);
        self.line.order(Order::Open { room: room.into(), floor });
    }

    fn publish(&mut self, room: &str, body: &str, client_id: Option<&str>) -> Ticket {
        self.sent += 1;
        let id = format!("{:x}-{:x}", self.number, self.sent).into();
        let floor = self.rooms.get(room).map_or(0, |seen| seen.last);
        let (ticket, draft) = (Ticket(self.sent), draft(body, client_id));
        let (room, at_ms) = (room.into(), 77);
        self.line.order(Order::Publish { ticket, room, id, at_ms, draft, floor });
        ticket
    }

    /// A ticket of what is no message.
    fn ask(&mut self) -> Ticket {
        self.asked += 1;
        Ticket(u64::MAX - self.asked)
    }

    fn read(&mut self, room: &str, range: Range) -> Ticket {
        let ticket = self.ask();
        self.line.order(Order::Read { ticket, room: room.into(), range });
        ticket
    }

    fn configure(&mut self, room: &str, settings: &RoomSettings) -> Ticket {
        self.change(room, (&RoomSettings::default(), settings))
    }

    fn change(&mut self, room: &str, (before, after): (&RoomSettings, &RoomSettings)) -> Ticket {
        let (ticket, room) = (self.ask(), room.into());
        let change = Box::new((before.clone(), after.clone()));
        self.line.order(Order::Configure { ticket, room, change });
        ticket
    }

    fn ask_settings(&mut self, room: &str) -> Ticket {
        let ticket = self.ask();
        self.line.order(Order::Settings { ticket, room: room.into() });
        ticket
    }

    /// Takes what it is told, and checks the order of it.
    fn drain(&mut self) {
        while let Some(told) = self.line.poll() {
            match told {
                FromFleet::Ordered(ordered) => self.on(ordered),
                FromFleet::News(News::Roster { room, .. }) => {
                    let is_open = self.is_open(&room);
                    assert!(is_open, "host {}: {room} is not open", self.number);
                    *self.rosters.entry(room).or_default() += 1;
                }
                FromFleet::News(_) => {}
            }
        }
    }

    fn on(&mut self, ordered: Ordered) {
        let host = self.number;
        match ordered {
            Ordered::Opened { room, found: None } => {
                self.unopened += 1;
                self.rooms.remove(&room);
            }
            Ordered::Opened { room, found: Some(joined) } => {
                let Joined { messages, last_seq: last, settings } = joined;
                check_run(&messages, last);
                let seen = self.rooms.entry(room).or_default();
                (seen.opened, seen.last, seen.messages) = (true, last, messages);
                seen.settings.extend(settings);
            }
            Ordered::Delivered { room, message } => {
                let seen = self.rooms.get_mut(&room).expect("an open room");
                assert!(seen.opened, "host {host}: {room} is not open");
                assert_eq!(message.seq, seen.last + 1, "host {host}: {room} has a hole");
                seen.last = message.seq;
                seen.delivered.push(message);
            }
            Ordered::Broken { room, messages, last_seq } => {
                check_run(&messages, last_seq);
                let seen = self.rooms.get_mut(&room).expect("an open room");
                assert!(seen.opened, "host {host}: {room} is not open");
                (seen.last, seen.breaks) = (last_seq, seen.breaks + 1);
                seen.messages.extend(messages);
            }
            Ordered::Published { ticket, room, message, duplicate } => {
                let before = self.published.insert(ticket, (room, message, duplicate));
                assert!(before.is_none(), "host {host}: answered twice");
            }
            Ordered::Refused { ticket } => self.refused.push(ticket),
            Ordered::Read { ticket, page } => drop(self.pages.insert(ticket, page)),
            Ordered::Settings { ticket, found } => drop(self.settings.insert(ticket, found)),
            Ordered::Configured { room, settings } => {
                let seen = self.rooms.get_mut(&room).expect("an open room");
                assert!(seen.opened, "host {host}: {room} is not open");
                seen.settings.push(settings);
            }
        }
    }

    fn is_open(&self, room: &str) -> bool {
        self.rooms.get(room).is_some_and(|seen| seen.opened)
    }

    fn last(&self, room: &str) -> u64 {
        self.rooms.get(room).map_or(0, |seen| seen.last)
    }

    fn answered(&self) -> usize {
        self.published.len() + self.refused.len()
    }

    fn stat(&self, of: impl Fn(&FleetStats) -> &std::sync::atomic::AtomicU64) -> u64 {
        of(self.fleet.stats()).load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn check_run(messages: &[Arc<Message>], last: u64) {
    let first = (last + 1).checked_sub(messages.len() as u64).expect("numbers begin with 1");
    let numbers = messages.iter().map(|it| it.seq);
    assert!(numbers.eq(first..last + 1), "not a run up to {last}");
}

/// Lets hosts take what they are told until something is so.
fn until(hosts: &mut [Host], what: &str, mut is_so: impl FnMut(&mut [Host]) -> bool) {
    let began = Instant::now();
    loop {
        hosts.iter_mut().for_each(Host::drain);
        if is_so(hosts) {
            return;
        }
        assert!(began.elapsed() < LONG, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Starts hosts that all have the rooms open.
fn hosts(port: u16, count: u32, rooms: &[&str]) -> Vec<Host> {
    let mut hosts: Vec<_> = (1..=count).map(|number| Host::start(port, number)).collect();
    for host in &mut hosts {
        rooms.iter().for_each(|room| host.open(room));
    }
    until(&mut hosts, "rooms open", |hosts| {
        hosts.iter().all(|host| rooms.iter().all(|room| host.is_open(room)))
    });
    hosts
}

/// All have the same end of each room.
fn settle(hosts: &mut [Host], rooms: &[&str]) {
    until(hosts, "every message is answered", |hosts| {
        hosts.iter().all(|host| host.answered() as u64 == host.sent)
    });
    // A last message in each room shows everybody where it stands.
    for room in rooms {
        let ticket = hosts[0].publish(room, "the last", None);
        until(hosts, "the last message", |hosts| hosts[0].published.contains_key(&ticket));
        let last = hosts[0].published[&ticket].1.seq;
        until(hosts, "everybody has the last message", |hosts| {
            hosts.iter().all(|host| host.last(room) >= last)
        });
    }
    check(hosts, rooms);
}

/// The check of the module.
fn check(hosts: &[Host], rooms: &[&str]) {
    for room in rooms {
        let mut first: HashMap<&str, u64> = HashMap::new();
        for host in hosts {
            let seen = &host.rooms[*room];
            let mut own: HashMap<&str, u64> = HashMap::new();
            for message in &seen.delivered {
                assert!(own.insert(&message.id, message.seq).is_none(), "{} twice", message.id);
                let seq = first.entry(&message.id).or_insert(message.seq);
                assert_eq!(*seq, message.seq, "{} has two numbers", message.id);
            }
            for publisher in hosts {
                check_acknowledged(host, publisher, room);
                check_order(host, publisher.number, room);
            }
        }
    }
}

fn check_acknowledged(host: &Host, publisher: &Host, room: &str) {
    let seen = &host.rooms[room];
    let all = seen.delivered.iter().chain(&seen.messages);
    let had: HashMap<&str, u64> = all.map(|it| (&*it.id, it.seq)).collect();
    for (place, message, _) in publisher.published.values() {
        if &**place == room && seen.breaks == 0 {
            let host = host.number;
            assert_eq!(had.get(&*message.id), Some(&message.seq), "lost at {host}: {message:?}");
        }
    }
}

/// One publisher's messages keep their order.
fn check_order(host: &Host, publisher: u32, room: &str) {
    let prefix = format!("{publisher:x}-");
    let mut before = 0;
    for message in &host.rooms[room].delivered {
        if let Some(number) = message.id.strip_prefix(&prefix) {
            let number = u64::from_str_radix(number, 16).expect("a number");
            assert!(number > before, "{} comes after {before:x}", message.id);
            before = number;
        }
    }
}
