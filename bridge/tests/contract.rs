//! Proves what every `Port` promises: numbers without a gap, one message per `client_id`, bounded
//! memory, and reads that say when something is missing.

use std::sync::Arc;

use throng_bridge::{
    Author, Draft, Memory, MemoryLimits, Message, Outcome, Page, Port, Range, Request, Ticket,
};

const LIMITS: MemoryLimits =
    MemoryLimits { messages_per_room: 5, ttl_ms: 1_000, bytes_max: 1 << 20 };

fn draft(body: &str, client_id: Option<&str>) -> Draft {
    let from = Author { id: "s".into(), user: "u".into(), name: "U".into() };
    Draft { from, body: body.into(), attachments: vec![], client_id: client_id.map(Into::into) }
}

fn publish_at(port: &mut dyn Port, room: &str, draft: Draft, now: u64) -> (Arc<Message>, bool) {
    let ticket = Ticket(now ^ 77);
    port.try_submit(Request::Publish { ticket, room: room.into(), draft }, now).expect("room");
    match port.poll_outcome() {
        Some(Outcome::Published { ticket: it, message, duplicate }) if it == ticket => {
            (message, duplicate)
        }
        other => panic!("{other:?}"),
    }
}

fn publish(port: &mut dyn Port, room: &str, body: &str) -> u64 {
    publish_at(port, room, draft(body, None), 1).0.seq
}

fn read(port: &mut dyn Port, room: &str, after: Option<u64>, before: Option<u64>) -> Page {
    let range = Range { after, before, limit: 3 };
    port.try_submit(Request::Read { ticket: Ticket(1), room: room.into(), range }, 1)
        .expect("room");
    match port.poll_outcome() {
        Some(Outcome::Read { page, .. }) => page,
        other => panic!("{other:?}"),
    }
}

fn seqs(page: &Page) -> Vec<u64> {
    page.messages.iter().map(|message| message.seq).collect()
}

#[test]
fn numbers_rise_by_one_per_room() {
    let mut port = Memory::new(LIMITS, "m");
    assert_eq!((1..=3).map(|_| publish(&mut port, "a", "1")).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(publish(&mut port, "b", "1"), 1);
    assert_eq!((port.last_seq("a"), port.last_seq("nowhere")), (3, 0));
}

#[test]
fn a_repeated_client_id_gives_the_first_message() {
    let mut port = Memory::new(LIMITS, "m");
    let (first, _) = publish_at(&mut port, "a", draft("1", Some("x")), 1);
    let (again, duplicate) = publish_at(&mut port, "a", draft("2", Some("x")), 2);
    assert!(duplicate && again == first);
    let (elsewhere, duplicate) = publish_at(&mut port, "b", draft("2", Some("x")), 2);
    assert!(!duplicate && elsewhere.id != first.id);
}

#[test]
fn reads_give_the_newest_or_what_follows_and_say_what_is_missing() {
    let mut port = Memory::new(LIMITS, "m");
    for _ in 0..8 {
        publish(&mut port, "a", "1"); // 4..=8 are held
    }
    let newest = read(&mut port, "a", None, None);
    assert_eq!((seqs(&newest), newest.more, newest.last_seq), (vec![6, 7, 8], true, 8));
    let older = read(&mut port, "a", None, Some(6));
    assert_eq!((seqs(&older), older.more), (vec![4, 5], false));
    let after = read(&mut port, "a", Some(6), None);
    assert_eq!((seqs(&after), after.complete), (vec![7, 8], true));
    let too_many = read(&mut port, "a", Some(3), None);
    assert_eq!((seqs(&too_many), too_many.complete), (vec![6, 7, 8], false));
    let gone = read(&mut port, "a", Some(1), None);
    assert!(!gone.complete);
    let current = read(&mut port, "a", Some(8), None);
    assert_eq!((seqs(&current), current.complete), (vec![], true));
    assert!(!read(&mut port, "a", Some(99), None).complete, "a position of another order");
    assert!(!read(&mut port, "a", Some(u64::MAX), Some(u64::MAX)).complete);
    assert!(seqs(&read(&mut port, "a", None, Some(0))).is_empty());
    assert!(seqs(&read(&mut port, "nowhere", None, None)).is_empty());
}

#[test]
fn messages_expire_and_unused_rooms_are_forgotten() {
    let mut port = Memory::new(LIMITS, "m");
    port.try_submit(Request::Open { room: "a".into() }, 0).expect("room");
    publish_at(&mut port, "a", draft("1", Some("x")), 10);
    publish_at(&mut port, "b", draft("1", None), 10);
    port.expire(1_010);
    assert_eq!(seqs(&read(&mut port, "a", None, None)), [1]);
    port.expire(1_011);
    assert!(seqs(&read(&mut port, "a", None, None)).is_empty());
    assert_eq!((port.last_seq("a"), port.last_seq("b"), port.held_bytes()), (1, 0, 0));
    port.try_submit(Request::Close { room: "a".into() }, 0).expect("room");
    assert_eq!(port.last_seq("a"), 0);
}

#[test]
fn bytes_are_bounded_over_all_rooms_and_the_oldest_go_first() {
    let limits = MemoryLimits { bytes_max: 10_000, ..LIMITS };
    let mut port = Memory::new(limits, "m");
    for number in 0..10_000 {
        publish(&mut port, &format!("room {}", number % 500), &"9".repeat(100));
        assert!(port.held_bytes() <= 10_000);
    }
    assert!(!seqs(&read(&mut port, "room 499", None, None)).is_empty());
    assert!(seqs(&read(&mut port, "room 0", None, None)).is_empty());
}
