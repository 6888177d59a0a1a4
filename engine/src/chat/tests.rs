//! Rooms of a fleet, told what Redis might tell them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use throng_bridge::fleet::{Deed, Gone, News, Word};
use throng_bridge::store::{RoomRecord, RoomSettings};
use throng_bridge::{Author, Draft, Full, Message, Outcome, Page, Port, Request, Ticket};

use super::Chat;
use crate::app::{App, Ask, Envelope, Outgoing, RoomRef};
use crate::clock::Now;
use crate::config::Config;
use crate::ids::Sid;
use crate::limiter::Limiter;
use crate::limits::{
    ARRIVING_MS, PRESENCE_DETAIL_MAX, RETURN_REQUESTS_MAX, RETURN_WAIT_MS, ROSTER_MEMBERS_PER_TURN,
};
use crate::metrics::Cells;
use crate::room::Homes;

const HOST: u32 = 7;
const ROOM: &str = "lobby";

/// What has been asked, and what will be answered.
#[derive(Default)]
struct Talk {
    asked: Vec<Request>,
    answers: VecDeque<Outcome>,
}

struct Line(Arc<Mutex<Talk>>);

impl Port for Line {
    fn try_submit(&mut self, request: Request, _now_ms: u64) -> Result<(), Full> {
        self.0.lock().expect("no panic").asked.push(request);
        Ok(())
    }

    fn poll_outcome(&mut self, _now_ms: u64) -> Option<Outcome> {
        self.0.lock().expect("no panic").answers.pop_front()
    }

    fn expire(&mut self, _now_ms: u64) {}

    fn held_bytes(&self) -> usize {
        0
    }

    fn is_shared(&self) -> bool {
        true
    }
}

/// The homes of a shard of one host among others.
struct Hall {
    homes: Homes<Chat>,
    app: Chat,
    talk: Arc<Mutex<Talk>>,
    now: Now,
}

impl Hall {
    fn new(speaks: bool) -> Self {
        let (config, talk) = (Arc::new(Config::default()), Arc::<Mutex<Talk>>::default());
        let (limiter, cells) = (Arc::new(Limiter::new(&config)), Arc::new(Cells::default()));
        Self {
            homes: Homes::new((0, 1, HOST), Box::new(Line(Arc::clone(&talk))), speaks),
            app: Chat::new(&config, &limiter, &cells, None),
            talk,
            now: Now { ns: 1_000_000_000, wall_ms: 1 },
        }
    }

    fn ask(&mut self, from: Sid, ask: Ask<Chat>) -> Vec<String> {
        let mut out = Outgoing::new();
        let asked = (RoomRef::Name(ROOM.into()), from, ask, self.now.ns);
        self.homes.on_ask(&mut self.app, &mut out, self.now, asked);
        told(out)
    }

    fn hear(&mut self, outcome: Outcome) -> Vec<String> {
        self.talk.lock().expect("no panic").answers.push_back(outcome);
        let mut out = Outgoing::new();
        self.homes.on_outcomes(&mut self.app, &mut out, self.now);
        told(out)
    }

    /// The room opens, with these members on other hosts.
    fn open(&mut self, last_seq: u64, capacity: Option<u32>, others: &[Sid]) -> Vec<String> {
        let settings = RoomSettings { capacity, ..RoomSettings::default() };
        let record = Some(RoomRecord { created_at_ms: 1, last_seq, settings });
        let mut told = self.hear(Outcome::Opened { room: ROOM.into(), record });
        let member = |sid: &Sid| (sid.encode().as_str().into(), export(*sid));
        let members = others.iter().map(member).collect();
        told.extend(self.hear(Outcome::News(News::Roster { room: ROOM.into(), members })));
        told
    }

    fn pass(&mut self, ms: u64) -> Vec<String> {
        self.now.ns += ms * 1_000_000;
        let mut out = Outgoing::new();
        self.homes.on_time(&mut self.app, &mut out, self.now);
        told(out)
    }

    fn reading(&self) -> Ticket {
        let talk = self.talk.lock().expect("no panic");
        let read = talk.asked.iter().rev().find_map(|it| match it {
            Request::Read { ticket, .. } => Some(*ticket),
            _ => None,
        });
        read.expect("messages are asked for")
    }

    /// What Node servers are told, and in which room.
    fn casts(&self) -> Vec<(String, String)> {
        let talk = self.talk.lock().expect("no panic");
        let cast = |it: &Request| match it {
            Request::Tell(Word::Cast { cast, to_hosts: false, to_nodes: true }) => {
                let Deed::Emit { args, .. } = &cast.deed else { return None };
                Some((cast.reach.rooms.join(" "), args.to_string()))
            }
            _ => None,
        };
        talk.asked.iter().filter_map(cast).collect()
    }

    fn members(&mut self) -> Vec<Sid> {
        let members = self.homes.inspect(ROOM, self.now, |room| {
            room.members().map(|(sid, _)| *sid).collect::<Vec<_>>()
        });
        members.unwrap_or_default()
    }
}

/// What matters here of what is told shards.
fn told(out: Outgoing<Chat>) -> Vec<String> {
    let what = |envelope| match envelope {
        Envelope::Admit { .. } => Some("admit".to_owned()),
        Envelope::Decline { .. } => Some("decline".to_owned()),
        Envelope::RefuseReturn(..) => Some("refuse".to_owned()),
        Envelope::Replay(_, _, messages) => Some(format!("replay {}", messages.len())),
        Envelope::Send { packet, .. } => Some(packet.event_text()[1..7].to_owned()),
        _ => None,
    };
    out.into_iter().filter_map(|(_, envelope)| what(envelope)).collect()
}

fn sid(host: u32, nonce: u64) -> Sid {
    Sid::new(host, 0, 1, nonce)
}

fn export(sid: Sid) -> Box<str> {
    let id = sid.encode();
    let id = id.as_str();
    format!(r#"{{"id":"{id}","user":"u","name":"U","metadata":null,"sharing":false,"joinedAt":5}}"#)
        .into()
}

fn back(seq: u64, old: Option<Sid>) -> Ask<Chat> {
    let member = Chat::import(&export(sid(8, 1))).expect("a member");
    Ask::Return { member, listens: true, seq, old }
}

fn message(seq: u64) -> Arc<Message> {
    let from = Author { id: "".into(), user: "u".into(), name: "U".into() };
    let draft = Draft { from, body: "1".into(), attachments: vec![], client_id: None };
    Arc::new(Message { id: format!("m{seq}").into(), seq, at_ms: 1, draft })
}

fn page(ticket: Ticket, seqs: std::ops::RangeInclusive<u64>) -> Outcome {
    let last_seq = *seqs.end();
    let messages = seqs.map(message).collect();
    let page = Page { messages, last_seq, complete: true, ..Page::default() };
    Outcome::Read { ticket, page }
}

const LOST: [&str; 3] = ["resync", "admit", "replay 0"];

#[test]
fn who_comes_back_to_a_full_room_takes_its_own_place() {
    let (old, new) = (sid(8, 1), sid(HOST, 2));
    for (known, expected) in
        [(Some(old), vec!["admit", "replay 0"]), (None, vec!["refuse", "resync"])]
    {
        let mut hall = Hall::new(false);
        hall.ask(new, back(5, known));
        assert_eq!(hall.open(5, Some(1), &[old]), expected);
    }
    let mut hall = Hall::new(false);
    hall.ask(new, back(5, Some(old)));
    hall.open(5, Some(1), &[old]);
    assert_eq!(hall.members(), [new], "the old place is gone");
    let other = sid(HOST, 3);
    assert_eq!(hall.ask(other, back(5, Some(old))), ["refuse", "resync"], "it is full");
}

#[test]
fn who_comes_back_waits_within_a_bound() {
    let mut hall = Hall::new(false);
    hall.ask(sid(HOST, 2), back(9, None));
    assert!(hall.open(5, None, &[]).is_empty(), "it has heard more than this host");
    let due_ms = hall.homes.next_due_ms().expect("it waits");
    assert!(due_ms <= hall.now.ns / 1_000_000 + RETURN_WAIT_MS);
    assert!(hall.pass(RETURN_WAIT_MS - 1).is_empty());
    assert_eq!(hall.pass(1), LOST);

    let mut hall = Hall::new(false);
    hall.ask(sid(HOST, 2), back(6, None));
    hall.open(5, None, &[]);
    let told = hall.hear(Outcome::Delivered { room: ROOM.into(), message: message(6) });
    assert_eq!(told, ["admit", "replay 0"]);
    assert!(hall.pass(RETURN_WAIT_MS).is_empty());
}

#[test]
fn what_was_missed_is_replayed_once() {
    let mut hall = Hall::new(false);
    hall.ask(sid(HOST, 2), back(3, None));
    assert!(hall.open(5, None, &[]).is_empty());
    let ticket = hall.reading();
    assert_eq!(hall.hear(page(ticket, 4..=5)), ["admit", "replay 2"]);
    assert!(hall.hear(page(ticket, 4..=5)).is_empty());
}

#[test]
fn a_broken_order_lets_in_who_waits_for_a_page_of_the_old_one() {
    let mut hall = Hall::new(false);
    hall.ask(sid(HOST, 2), back(3, None));
    hall.open(5, None, &[]);
    let ticket = hall.reading();
    let told = hall.hear(Outcome::Broken { room: ROOM.into(), last_seq: 5 });
    assert_eq!(told, LOST);
    assert!(hall.hear(page(ticket, 4..=5)).is_empty());
}

#[test]
fn who_is_made_to_join_or_leave_meanwhile_waits_no_longer() {
    let me = sid(HOST, 2);
    let member = Chat::import(&export(me)).expect("a member");
    for (ask, members) in [(Ask::Join(member, None), vec![me]), (Ask::Leave(None), vec![])] {
        let mut hall = Hall::new(false);
        hall.ask(me, back(3, None));
        hall.open(5, None, &[]);
        assert_eq!(hall.ask(me, ask)[..3], LOST);
        assert!(hall.hear(page(hall.reading(), 4..=5)).is_empty());
        assert_eq!(hall.members(), members);
    }
}

#[test]
fn who_goes_for_good_meanwhile_does_not_come_back() {
    let me = sid(HOST, 2);
    let mut hall = Hall::new(false);
    hall.ask(me, back(3, None));
    hall.open(5, None, &[]);
    assert!(hall.ask(me, Ask::App(super::Request::Screen(true, None))).is_empty());
    assert_eq!(hall.ask(me, Ask::Gone), ["refuse"]);
    assert!(hall.hear(page(hall.reading(), 4..=5)).is_empty());
    assert!(hall.members().is_empty());
    assert_eq!(hall.homes.count(), 0, "the room waits for nobody");
}

#[test]
fn what_is_asked_on_the_way_back_waits() {
    let me = sid(HOST, 2);
    let wait = || {
        let mut hall = Hall::new(false);
        hall.ask(me, back(6, None));
        hall.open(5, None, &[]);
        hall
    };
    let mut hall = wait();
    assert!(hall.ask(me, Ask::App(super::Request::Leave(None))).is_empty());
    let told = hall.hear(Outcome::Delivered { room: ROOM.into(), message: message(6) });
    assert_eq!(told, ["admit", "replay 0"]);
    assert!(hall.members().is_empty(), "it has come, and left as it asked to");

    let mut hall = wait();
    for _ in 0..RETURN_REQUESTS_MAX {
        assert!(hall.ask(me, Ask::App(super::Request::Typing(true))).is_empty());
    }
    let told = hall.ask(me, Ask::App(super::Request::Leave(None)));
    assert_eq!(told[..3], LOST, "more are not kept");
    assert!(hall.members().is_empty(), "they are answered in their order");
}

#[test]
fn nothing_is_made_for_node_servers_that_are_not_spoken_to() {
    for (speaks, expected) in [(false, 0), (true, 1)] {
        let mut hall = Hall::new(speaks);
        hall.ask(sid(HOST, 2), back(5, None));
        hall.open(5, None, &[]);
        let packet = crate::codec::Packet::event("hello", "1");
        hall.ask(sid(HOST, 2), Ask::Broadcast(packet, crate::app::Audience::All));
        assert_eq!(hall.casts().len(), expected);
    }
}

/// Members of a dead host; the second shares its screen.
fn gone(count: u64, unnamed: u64, left: u64) -> News {
    let member = |nonce: u64| {
        let member = export(sid(8, nonce)).replace("false", &(nonce == 1).to_string());
        (sid(8, nonce).encode().as_str().into(), member.into())
    };
    let gone = Gone { members: (0..count).map(member).collect(), unnamed, left };
    News::Reaped { room: "a \"room\"".into(), gone }
}

#[test]
fn node_servers_hear_who_went_with_a_dead_host() {
    let (one, two) = (sid(8, 0).encode(), sid(8, 1).encode());
    let (one, two) = (one.as_str(), two.as_str());
    let mut hall = Hall::new(true);
    hall.hear(Outcome::News(gone(2, 0, 3)));
    let from = format!(r#"{{"id":"{two}","user":"u","name":"U"}}"#);
    let screen = format!(r#""screen",{{"room":"a \"room\"","from":{from},"sharing":false}}"#);
    let presence =
        format!(r#""presence",{{"room":"a \"room\"","left":["{one}","{two}"],"count":3}}"#);
    let room = "a \"room\"".to_owned();
    assert_eq!(hall.casts(), [(room.clone(), screen), (room.clone(), presence)]);

    let large = PRESENCE_DETAIL_MAX as u64;
    let counts = r#""presence",{"room":"a \"room\"","count":7}"#;
    for (news, expected) in [
        (gone(1, large - 7, 7), Some(counts)), // it is large no more
        (gone(1, large, large + 1), None),     // those in it tell how many they are
    ] {
        let mut hall = Hall::new(true);
        hall.hear(Outcome::News(news));
        let told: Vec<_> = hall.casts().into_iter().map(|(_, text)| text).collect();
        assert_eq!(told, Vec::from_iter(expected));
    }
    let mut hall = Hall::new(false);
    hall.hear(Outcome::News(gone(2, 0, 3)));
    assert_eq!(hall.casts(), []);
}

#[test]
fn node_servers_hear_again_of_members_that_redis_did_not_have() {
    let me = sid(HOST, 2);
    let mut hall = Hall::new(true);
    hall.ask(me, back(5, None));
    hall.open(5, None, &[]);
    let roster = || News::Roster { room: ROOM.into(), members: vec![] };
    hall.hear(Outcome::News(roster()));
    assert_eq!(hall.casts(), [], "that one came is told soon");
    hall.pass(1000);
    assert_eq!(hall.casts().len(), 1);
    hall.hear(Outcome::News(roster()));
    let casts = hall.casts();
    assert_eq!(casts.len(), 2);
    assert_eq!(casts[0], casts[1]);
    assert!(casts[1].1.contains(r#""joined":[{"id":""#), "{casts:?}");
    let members = vec![(me.encode().as_str().into(), export(me))];
    hall.hear(Outcome::News(News::Roster { room: ROOM.into(), members }));
    assert_eq!(hall.casts().len(), 2, "Redis has it");
}

#[test]
fn rosters_are_handled_over_several_turns() {
    let mut hall = Hall::new(false);
    hall.ask(sid(HOST, 2), back(5, None));
    hall.open(5, None, &[]);
    let count = ROSTER_MEMBERS_PER_TURN as u64 + 1;
    let members = (0..count).map(|it| (sid(8, it).encode().as_str().into(), "{}".into()));
    let roster = News::Roster { room: ROOM.into(), members: members.collect() };
    hall.hear(Outcome::News(roster));
    assert!(hall.homes.is_behind());
    let settings = RoomSettings { private: true, ..RoomSettings::default() };
    let is_private = |hall: &mut Hall| {
        hall.homes.inspect(ROOM, hall.now, |room| room.settings().private).expect("a room")
    };
    hall.hear(Outcome::Configured { room: ROOM.into(), settings });
    assert!(!is_private(&mut hall), "that is for the next turn");
    hall.now.ns += 1;
    hall.homes.on_outcomes(&mut hall.app, &mut Outgoing::new(), hall.now);
    assert!(is_private(&mut hall) && !hall.homes.is_behind());
}

#[test]
fn a_room_whose_members_are_not_told_is_given_up() {
    let mut hall = Hall::new(false);
    hall.ask(sid(HOST, 2), back(5, None));
    let record = Some(RoomRecord { last_seq: 5, ..RoomRecord::default() });
    assert!(hall.hear(Outcome::Opened { room: ROOM.into(), record }).is_empty());
    assert!(hall.pass(ARRIVING_MS - 1).is_empty());
    assert_eq!(hall.pass(1), ["refuse", "resync"]);
    assert_eq!(hall.homes.count(), 0);

    let mut hall = Hall::new(false);
    hall.ask(sid(HOST, 2), back(5, None));
    assert_eq!(hall.open(5, None, &[]), ["admit", "replay 0"]);
    assert!(hall.pass(ARRIVING_MS).is_empty());
    assert_eq!(hall.members(), [sid(HOST, 2)]);
}

#[test]
fn who_comes_in_finds_what_has_its_number_already() {
    let mut hall = Hall::new(false);
    hall.ask(sid(HOST, 2), back(5, None));
    assert_eq!(hall.open(5, None, &[]), ["admit", "replay 0"]);
    let delivered = Outcome::Delivered { room: ROOM.into(), message: message(6) };
    hall.talk.lock().expect("no panic").answers.push_back(delivered);
    let told = hall.ask(sid(HOST, 3), back(5, None));
    assert!(!told.contains(&"admit".to_owned()), "it lacks a message: {told:?}");
    let ticket = hall.reading();
    assert_eq!(hall.hear(page(ticket, 6..=6)), ["admit", "replay 1"]);
}
