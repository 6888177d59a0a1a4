//! Proves what every `Port` promises, with a store behind it and without: numbers without a gap,
//! one message per `client_id`, bounded memory, and reads that say when something is missing.

mod office;

use office::{Desk, LIMITS, desks, draft};
use throng_bridge::store::RoomSettings;
use throng_bridge::{Memory, MemoryLimits, Outcome, Page, Request};

fn seqs(page: &Page) -> Vec<u64> {
    page.messages.iter().map(|message| message.seq).collect()
}

#[test]
fn numbers_rise_by_one_per_room() {
    for mut desk in desks(LIMITS) {
        desk.open("a");
        desk.open("b");
        assert_eq!((1..=3).map(|_| desk.publish("a", "1")).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(desk.publish("b", "1"), 1);
        assert_eq!(desk.read("a", None, None).last_seq, 3);
    }
}

#[test]
fn a_repeated_client_id_gives_the_first_message() {
    for mut desk in desks(LIMITS) {
        desk.open("a");
        desk.open("b");
        let (first, _) = desk.publish_draft("a", draft("1", Some("x")));
        let (again, duplicate) = desk.publish_draft("a", draft("2", Some("x")));
        assert!(duplicate && again == first, "{}", desk.name);
        let (elsewhere, duplicate) = desk.publish_draft("b", draft("2", Some("x")));
        assert!(!duplicate && elsewhere.id != first.id);
        assert_eq!(desk.publish("a", "3"), 2, "a repetition takes no number");
    }
}

#[test]
fn reads_give_the_newest_or_what_follows_and_say_what_is_missing() {
    for mut desk in desks(LIMITS) {
        desk.open("a");
        for _ in 0..8 {
            desk.publish("a", "1"); // 4..=8 are in memory, the others only where there is a store
        }
        let stored = desk.is_stored();
        let newest = desk.read("a", None, None);
        assert_eq!((seqs(&newest), newest.more, newest.last_seq), (vec![6, 7, 8], true, 8));
        let older = desk.read("a", None, Some(6));
        let expected = if stored { vec![3, 4, 5] } else { vec![4, 5] };
        assert_eq!((seqs(&older), older.more), (expected, stored), "{}", desk.name);
        let oldest = desk.read("a", None, Some(3));
        let expected = if stored { vec![1, 2] } else { vec![] };
        assert_eq!((seqs(&oldest), oldest.more), (expected, false), "{}", desk.name);
        let after = desk.read("a", Some(6), None);
        assert_eq!((seqs(&after), after.complete), (vec![7, 8], true));
        let too_many = desk.read("a", Some(3), None);
        assert_eq!((seqs(&too_many), too_many.complete), (vec![6, 7, 8], false));
        let gone = desk.read("a", Some(1), Some(5));
        assert_eq!(gone.complete, stored, "{}", desk.name);
        let current = desk.read("a", Some(8), None);
        assert_eq!((seqs(&current), current.complete), (vec![], true));
        assert!(!desk.read("a", Some(99), None).complete, "a position of another order");
        assert!(!desk.read("a", Some(u64::MAX), Some(u64::MAX)).complete);
        assert!(seqs(&desk.read("a", None, Some(0))).is_empty());
        assert!(seqs(&desk.read("nowhere", None, None)).is_empty());
    }
}

#[test]
fn settings_stay_with_a_room_whether_it_is_open_or_not() {
    for mut desk in desks(LIMITS) {
        let settings = RoomSettings { capacity: Some(3), private: true, ..Default::default() };
        for room in ["open", "closed"] {
            if room == "open" {
                desk.open(room);
            }
            let record = desk.configure(room, settings.clone()).expect("the store answers");
            assert_eq!(record.settings, settings);
        }
        desk.close("open");
        for room in ["open", "closed"] {
            let record = desk.open(room).expect("the store answers");
            assert_eq!((record.settings, record.last_seq), (settings.clone(), 0), "{}", desk.name);
        }
    }
}

#[test]
fn bytes_are_bounded_over_all_rooms_and_the_oldest_go_first() {
    let limits = MemoryLimits { bytes_max: 10_000, ..LIMITS };
    for mut desk in desks(limits) {
        for number in 0..500 {
            desk.open(&format!("room {number}"));
        }
        for number in 0..2_000 {
            desk.publish(&format!("room {}", number % 500), &"9".repeat(100));
        }
        desk.settle();
        assert!(desk.port.held_bytes() <= 10_000, "{}", desk.name);
        assert!(!seqs(&desk.read("room 499", None, None)).is_empty());
        let oldest = desk.read("room 0", None, None);
        assert_eq!(oldest.messages.len(), if desk.is_stored() { 3 } else { 0 });
    }
}

#[test]
fn without_a_store_messages_expire_and_unused_rooms_are_forgotten() {
    let mut desk = Desk::alone(Box::new(Memory::new(LIMITS, "m")));
    desk.open("a");
    desk.now_ms = 10;
    desk.publish_draft("a", draft("1", Some("x")));
    desk.port.expire(1_010);
    assert_eq!(seqs(&desk.read("a", None, None)), [1]);
    desk.port.expire(1_011);
    assert!(seqs(&desk.read("a", None, None)).is_empty());
    assert_eq!((desk.read("a", None, None).last_seq, desk.port.held_bytes()), (1, 0));
    desk.close("a");
    assert_eq!(desk.open("a").expect("memory").last_seq, 0, "forgotten, its numbering with it");
}

#[test]
fn without_a_store_nobody_knows_a_password() {
    let mut desk = Desk::alone(Box::new(Memory::new(LIMITS, "m")));
    let ticket = desk.ticket();
    let verify = Request::Verify { ticket, password: "x".into(), hash: "y".into() };
    desk.submit(verify);
    assert!(matches!(desk.outcome(), Outcome::Verified { right: None, .. }));
}

#[test]
fn a_room_that_closes_goes_on_where_it_was() {
    for mut desk in desks(LIMITS).filter(Desk::is_stored) {
        desk.open("a");
        let first = desk.publish_draft("a", draft("1", Some("x"))).0;
        for _ in 0..9 {
            desk.publish("a", "2");
        }
        desk.settle();
        desk.close("a");
        desk.port.expire(desk.now_ms + 10 * LIMITS.ttl_ms); // nothing of it is in memory now
        let record = desk.open("a").expect("the store answers");
        assert_eq!(record.last_seq, 10, "{}", desk.name);
        let (again, duplicate) = desk.publish_draft("a", draft("3", Some("x")));
        assert!(duplicate && again == first, "{}", desk.name);
        assert_eq!(desk.publish("a", "4"), 11);
        let page = desk.read("a", Some(8), None);
        assert_eq!((seqs(&page), page.complete), (vec![9, 10, 11], true));
    }
}
