//! A room's course against a model of Redis that loses links, tails, records and everything.
//! Whatever it does: between two breaks what is delivered is one run of numbers, nothing is
//! delivered twice, and what was committed is delivered or followed by a break.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::message::{Author, Draft};

#[derive(Clone, Debug)]
enum Act {
    /// A host publishes, and is answered.
    Publish(usize),
    /// So many events arrive at a host.
    Arrive(usize, usize),
    /// An old event arrives once more.
    Repeat(usize, usize),
    /// A host's link breaks: what is under way is lost.
    Break(usize),
    /// And is there again.
    Link(usize),
    /// Redis restarts without its last messages, or any.
    LoseTail(usize),
    Wipe,
    LoseMeta,
    Trim(usize),
}

#[derive(Clone, Debug)]
struct Sent {
    epoch: u64,
    seq: u64,
    prev: Option<String>,
    id: String,
}

#[derive(Default)]
struct Redis {
    epoch: Option<u64>,
    seq: u64,
    id: Option<String>,
    /// All messages of the epoch, the first of which are no longer in the stream.
    stream: Vec<(u64, String)>,
    trimmed: usize,
    base: u64,
    made: u64,
}

impl Redis {
    fn raise(&mut self, floor: u64) {
        self.made += 1;
        (self.epoch, self.seq, self.id) = (Some(self.made), floor, None);
        (self.base, self.trimmed) = (floor, 0);
        self.stream.clear();
    }

    fn publish(&mut self, floor: u64) -> Sent {
        if self.epoch.is_none() || self.seq < floor {
            self.raise(floor);
        }
        self.made += 1;
        let id = format!("m{}", self.made);
        let prev = self.id.replace(id.clone());
        self.seq += 1;
        self.stream.push((self.seq, id.clone()));
        Sent { epoch: self.epoch.expect("an epoch"), seq: self.seq, prev, id }
    }

    /// As the script does it.
    fn read(&mut self, course: &Course, from: Option<u64>, count: usize) -> Found {
        let floor = course.floor();
        if floor > 0 && (self.epoch.is_none() || self.seq < floor) {
            self.raise(floor);
        }
        if from.is_none() && self.epoch.is_some() && self.epoch == course.forked() {
            self.made += 1;
            self.epoch = Some(self.made);
        }
        let Some(epoch) = self.epoch else { return Found::default() };
        let wanted =
            self.stream[self.trimmed..].iter().filter(|it| from.is_none_or(|from| it.0 >= from));
        let mut entries: Vec<_> = wanted.map(|(seq, id)| entry(*seq, id)).collect();
        match from {
            Some(_) => entries.truncate(count),
            None => drop(entries.drain(..entries.len().saturating_sub(count))),
        }
        let id = self.id.as_deref().map(Into::into);
        Found { top: Top { epoch: Some(epoch), seq: self.seq, id }, entries }
    }
}

fn entry(seq: u64, id: &str) -> Entry {
    let from = Author { id: "s".into(), user: "u".into(), name: "n".into() };
    let draft = Draft { from, body: "1".into(), attachments: Vec::new(), client_id: None };
    let message = Message { id: id.into(), seq, at_ms: 1, draft };
    Entry { seq, id: id.into(), message: Some(Arc::new(message)) }
}

#[derive(Default)]
struct Host {
    course: Course,
    linked: bool,
    other: bool,
    arriving: VecDeque<Sent>,
    seen: HashMap<String, u64>,
    /// When it was told of a break.
    broken_at: u64,
    broken_to: u64,
    expected: u64,
}

impl Host {
    fn deliver(&mut self, seq: u64, id: &str) {
        assert_eq!(seq, self.expected + 1, "a hole or a repetition");
        assert!(self.seen.insert(id.to_owned(), seq).is_none(), "{id} comes twice");
        self.expected = seq;
    }

    fn mend(&mut self, redis: &mut Redis, page: usize, now: u64) {
        for _ in 0..1000 {
            let found = redis.read(&self.course, Some(self.course.from()), page);
            match self.course.mend(found) {
                Mended::Whole { messages, more } => {
                    messages.iter().for_each(|it| self.deliver(it.seq, &it.id));
                    if !more {
                        return;
                    }
                }
                Mended::Broken { .. } => {
                    let found = redis.read(&self.course, None, page);
                    let floor = self.course.floor();
                    let messages = self.course.restart(found, floor);
                    for pair in messages.windows(2) {
                        assert_eq!(pair[0].seq + 1, pair[1].seq);
                    }
                    let last = messages.last().map_or(self.course.last(), |it| it.seq);
                    assert_eq!(last, self.course.last());
                    self.seen.extend(messages.iter().map(|it| (it.id.to_string(), it.seq)));
                    self.broken_at = now;
                    self.broken_to = self.course.last();
                    self.expected = self.broken_to;
                }
            }
        }
        panic!("the repair does not end");
    }

    fn arrive(&mut self, sent: &Sent, redis: &mut Redis, page: usize, now: u64) {
        let prev = sent.prev.as_deref();
        match self.course.step(sent.epoch, sent.seq, prev, &sent.id) {
            Step::Next => self.deliver(sent.seq, &sent.id),
            Step::Known => {
                // What came before a break need not have been found.
                let seen = self.seen.get(&sent.id);
                let is_told = self.broken_at > 0;
                assert!(seen == Some(&sent.seq) || (seen.is_none() && is_told), "another message");
            }
            Step::Unsure => self.mend(redis, page, now),
        }
    }
}

#[derive(Default)]
struct World {
    redis: Redis,
    hosts: [Host; 2],
    page: usize,
    all: Vec<Sent>,
    time: u64,
    committed: HashMap<String, u64>,
}

impl World {
    fn act(&mut self, act: &Act) {
        self.time += 1;
        let Self { redis, hosts, page, all, time, .. } = self;
        match *act {
            Act::Publish(by) if hosts[by].linked => {
                let sent = redis.publish(hosts[by].course.floor());
                hosts[by].course.note_given(sent.epoch, sent.seq, &sent.id);
                self.committed.insert(sent.id.clone(), *time);
                hosts.iter_mut().filter(|it| it.linked).for_each(|host| {
                    host.arriving.push_back(sent.clone());
                });
                all.push(sent);
            }
            Act::Publish(_) => {}
            Act::Arrive(at, count) => {
                for _ in 0..count {
                    let Some(sent) = hosts[at].arriving.pop_front() else { break };
                    hosts[at].arrive(&sent, redis, *page, *time);
                }
            }
            Act::Repeat(at, back) if hosts[at].linked => {
                let Some(sent) = all.len().checked_sub(back + 1).map(|it| all[it].clone()) else {
                    return;
                };
                // One that is still to come for the first time comes in its turn.
                if !hosts[at].arriving.iter().any(|it| it.id == sent.id) {
                    hosts[at].arrive(&sent, redis, *page, *time);
                }
            }
            Act::Repeat(..) => {}
            Act::Break(at) => {
                hosts[at].linked = false;
                hosts[at].arriving.clear();
            }
            Act::Link(at) if !hosts[at].linked => {
                hosts[at].linked = true;
                if std::mem::take(&mut hosts[at].other) {
                    hosts[at].course.note_loss();
                }
                hosts[at].mend(redis, *page, *time);
            }
            Act::Link(_) => {}
            Act::LoseTail(count) => {
                self.restart();
                self.lose_tail(count);
            }
            Act::Wipe => {
                self.restart();
                self.redis = Redis { made: self.redis.made, ..Redis::default() };
            }
            // While nothing has been seen of a room, nobody can tell that it has been lost.
            Act::LoseMeta if hosts.iter().all(|host| host.expected > 0) => {
                (redis.epoch, redis.seq, redis.id) = (None, 0, None);
            }
            Act::LoseMeta => {}
            Act::Trim(count) => {
                let gone = redis.stream.len().saturating_sub(count);
                redis.trimmed = redis.trimmed.max(gone);
            }
        }
    }

    fn lose_tail(&mut self, count: usize) {
        let redis = &mut self.redis;
        if redis.epoch.is_none() {
            return;
        }
        redis.stream.truncate(redis.stream.len().saturating_sub(count));
        redis.trimmed = redis.trimmed.min(redis.stream.len());
        let last = redis.stream.last();
        redis.seq = last.map_or(redis.base, |it| it.0);
        redis.id = last.map(|it| it.1.clone());
        if redis.seq == 0 {
            redis.epoch = None;
        }
    }

    fn restart(&mut self) {
        for host in &mut self.hosts {
            (host.linked, host.other) = (false, true);
            host.arriving.clear();
        }
    }
}

fn act() -> impl Strategy<Value = Act> {
    let host = || 0..2_usize;
    prop_oneof![
        12 => host().prop_map(Act::Publish),
        8 => (host(), 1..6_usize).prop_map(|(at, count)| Act::Arrive(at, count)),
        2 => (host(), 0..12_usize).prop_map(|(at, back)| Act::Repeat(at, back)),
        2 => host().prop_map(Act::Break),
        4 => host().prop_map(Act::Link),
        1 => (0..5_usize).prop_map(Act::LoseTail),
        1 => Just(Act::Wipe),
        1 => Just(Act::LoseMeta),
        1 => (0..8_usize).prop_map(Act::Trim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..<_>::default()
    })]
    #[test]
    fn nothing_is_lost_untold_or_comes_twice(
        acts in prop::collection::vec(act(), 1..80),
        page in 2..6_usize,
    ) {
        let mut world = World { page, ..World::default() };
        world.hosts.iter_mut().for_each(|host| host.linked = true);
        acts.iter().for_each(|act| world.act(act));
        // Every host comes back, and the next message shows where the room stands.
        for last in [Act::Link(0), Act::Link(1), Act::Publish(0), Act::Publish(1)] {
            world.act(&last);
        }
        for host in [0, 1, 0, 1] {
            world.act(&Act::Arrive(host, usize::MAX));
        }
        for host in &world.hosts {
            prop_assert_eq!(host.expected, world.redis.seq, "not at the end");
            for (id, time) in &world.committed {
                let told = host.seen.contains_key(id) || host.broken_at >= *time;
                prop_assert!(told, "{} is lost and nobody was told", id);
            }
        }
    }
}

#[test]
fn a_message_under_a_given_number_is_never_taken_for_the_one_that_was_there() {
    let mut course = Course::default();
    assert_eq!(course.step(1, 1, None, "a"), Step::Next);
    assert_eq!(course.step(1, 2, Some("a"), "b"), Step::Next);
    assert_eq!(course.step(1, 2, Some("a"), "b"), Step::Known);
    assert_eq!(course.step(1, 2, Some("a"), "c"), Step::Unsure, "another message");
    assert_eq!(course.step(1, 3, Some("c"), "d"), Step::Unsure, "after another message");
    assert_eq!(course.step(2, 3, Some("b"), "d"), Step::Unsure, "in another epoch");
    let top = Top { epoch: Some(1), seq: 3, id: Some("d".into()) };
    let entries = vec![entry(2, "c"), entry(3, "d")];
    assert_eq!(course.mend(Found { top, entries }), Mended::Broken { forked: true });
}

#[test]
fn an_unreadable_record_is_a_hole_that_is_told_once() {
    let mut course = Course::default();
    assert_eq!(course.step(1, 1, None, "a"), Step::Next);
    let top = Top { epoch: Some(1), seq: 2, id: Some("b".into()) };
    let unreadable = Entry { message: None, ..entry(2, "b") };
    let found = Found { top, entries: vec![entry(1, "a"), unreadable.clone()] };
    assert_eq!(course.mend(found.clone()), Mended::Broken { forked: false });
    assert!(course.restart(found, 1).is_empty());
    assert_eq!(course.last(), 2);
    assert_eq!(course.step(1, 3, Some("b"), "c"), Step::Next);
}
