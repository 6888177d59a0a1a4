//! What each order is answered with.

use super::way::Way;
use super::*;

#[test]
fn a_message_is_numbered_delivered_everywhere_and_read_again() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &["a"]);
    let tickets: Vec<_> = (0..40).map(|i| hosts[i % 2].publish("a", "x", None)).collect();
    settle(&mut hosts, &["a"]);
    assert_eq!(hosts[0].rooms["a"].delivered.len(), tickets.len() + 1);
    assert_eq!(hosts[1].rooms["a"].breaks, 0);
    let (_, message, duplicate) = &hosts[0].published[&tickets[0]];
    assert!(!duplicate);
    assert_eq!(message.draft, draft("x", None));
    assert_eq!(message.at_ms, 77);
    let delivered = hosts[1].rooms["a"].delivered.iter().find(|it| it.id == message.id);
    assert_eq!(delivered, Some(message));

    // A third host finds them when it opens the room, and as a page without opening it.
    let mut third = vec![Host::start(redis.port(), 3)];
    let range = |after, before, limit| Range { after, before, limit };
    let pages = [
        range(None, None, 10),
        range(Some(35), None, 100),
        range(Some(5), Some(10), 100),
        range(Some(5), Some(30), 10),
        range(None, None, 100),
        range(Some(99), None, 10),
    ];
    let pages = pages.map(|range| third[0].read("a", range));
    let none = third[0].read("b", range(Some(0), None, 10));
    third[0].open("a");
    until(&mut third, "pages", |hosts| hosts[0].pages.len() == 7 && hosts[0].is_open("a"));
    let seen = &third[0].rooms["a"];
    assert_eq!((seen.last, seen.messages.len()), (41, 41));
    let page = |ticket| {
        let page: &Page = third[0].pages[&ticket].as_ref().expect("a page");
        let ends =
            page.messages.first().map(|it| it.seq).zip(page.messages.last().map(|it| it.seq));
        (ends, page.complete, page.more, page.last_seq)
    };
    assert_eq!(page(pages[0]), (Some((32, 41)), true, true, 41));
    assert_eq!(page(pages[1]), (Some((36, 41)), true, true, 41));
    assert_eq!(page(pages[2]), (Some((6, 9)), true, true, 41));
    assert_eq!(page(pages[3]), (Some((20, 29)), false, true, 41));
    assert_eq!(page(pages[4]), (Some((1, 41)), true, false, 41));
    assert_eq!(page(pages[5]), (None, false, true, 41));
    assert_eq!(page(none), (None, true, false, 0));
}

#[test]
fn a_repetition_gives_the_first() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &["a"]);
    let first = hosts[0].publish("a", "one", Some("c1"));
    until(&mut hosts, "the first", |hosts| hosts[0].published.contains_key(&first));
    let again = hosts[1].publish("a", "another", Some("c1"));
    let other = hosts[1].publish("a", "other", Some("c2"));
    settle(&mut hosts, &["a"]);
    let (_, message, duplicate) = &hosts[1].published[&again];
    assert!(duplicate);
    assert_eq!(*message, hosts[0].published[&first].1, "the first itself");
    assert!(!hosts[1].published[&other].2);
    assert_eq!(hosts[0].rooms["a"].delivered.len(), 3);
    assert_eq!(hosts[1].stat(|it| &it.duplicates), 1);
}

#[test]
fn numbers_go_on_above_the_floor_and_a_closed_room_is_left() {
    let redis = Redis::start();
    let mut hosts = vec![Host::start(redis.port(), 1), Host::start(redis.port(), 2)];
    hosts[0].line.order(Order::Open { room: "a".into(), floor: 50 });
    until(&mut hosts, "open", |hosts| hosts[0].is_open("a"));
    assert_eq!(hosts[0].last("a"), 50);
    hosts[1].open("a");
    until(&mut hosts, "open", |hosts| hosts[1].is_open("a"));
    let ticket = hosts[1].publish("a", "x", None);
    settle(&mut hosts, &["a"]);
    assert_eq!(hosts[1].published[&ticket].1.seq, 51);
    assert_eq!(hosts[0].rooms["a"].breaks + hosts[1].rooms["a"].breaks, 0);

    hosts[0].line.order(Order::Close { room: "a".into() });
    let subscribed = || redis.run(&["PUBSUB", "CHANNELS", "*events*"]).matches("events").count();
    assert_eq!(subscribed(), 1);
    let ticket = hosts[1].publish("a", "while it is closed", None);
    until(&mut hosts, "published", |hosts| hosts[1].published.contains_key(&ticket));
    hosts[0].open("a");
    until(&mut hosts, "open again", |hosts| hosts[0].rooms["a"].messages.len() == 3);
    settle(&mut hosts, &["a"]);
    for host in &mut hosts {
        host.line.order(Order::Close { room: "a".into() });
    }
    until(&mut hosts, "unsubscribed", |hosts| {
        hosts.iter().all(|host| host.stat(|it| &it.rooms) == 0) && subscribed() == 0
    });
}

fn capacity(count: u32) -> RoomSettings {
    RoomSettings { capacity: Some(count), ..RoomSettings::default() }
}

#[test]
fn settings_are_told_to_all_and_found_by_who_comes_later() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &["a"]);
    let ticket = hosts[0].configure("a", &capacity(3));
    until(&mut hosts, "told", |hosts| {
        hosts.iter().all(|host| host.rooms["a"].settings.last() == Some(&capacity(3)))
    });
    until(&mut hosts, "answered", |hosts| hosts[0].settings.contains_key(&ticket));
    assert_eq!(hosts[0].settings[&ticket], Some(Some(capacity(3))));
    let mut third = Host::start(redis.port(), 3);
    third.open("a");
    hosts.push(third);
    until(&mut hosts, "open", |hosts| hosts[2].is_open("a"));
    until(&mut hosts, "found", |hosts| hosts[2].rooms["a"].settings.last() == Some(&capacity(3)));
    // Whoever sets them at the same time: all end with the same.
    for turn in 0..50 {
        hosts[turn % 3].configure("a", &capacity(turn as u32 + 4));
    }
    settle(&mut hosts, &["a"]);
    let key = Keys::new("t:").settings("a");
    until(&mut hosts, "the same", |hosts| {
        let kept = redis.run(&["HGET", &key, "capacity"]);
        let kept = capacity(kept.trim().parse().expect("a number"));
        hosts.iter().all(|host| host.rooms["a"].settings.last() == Some(&kept))
    });
}

#[test]
fn changes_of_different_settings_both_last() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &["a"]);
    let private = RoomSettings { private: true, ..RoomSettings::default() };
    let tickets = [hosts[0].configure("a", &private), hosts[1].configure("a", &capacity(3))];
    let both = RoomSettings { private: true, ..capacity(3) };
    until(&mut hosts, "told", |hosts| {
        hosts.iter().all(|host| host.rooms["a"].settings.last() == Some(&both))
    });
    let answers = [&hosts[0].settings[&tickets[0]], &hosts[1].settings[&tickets[1]]];
    assert!(answers.contains(&&Some(Some(both))), "{answers:?}");
    // What is taken back is taken back.
    let ticket = hosts[0].change("a", (&private, &RoomSettings::default()));
    until(&mut hosts, "answered", |hosts| hosts[0].settings.contains_key(&ticket));
    assert_eq!(hosts[0].settings[&ticket], Some(Some(capacity(3))));
    let ticket = hosts[0].change("a", (&capacity(3), &RoomSettings::default()));
    until(&mut hosts, "answered", |hosts| hosts[0].settings.contains_key(&ticket));
    assert_eq!(hosts[0].settings[&ticket], Some(Some(RoomSettings::default())));
}

#[test]
fn settings_are_read_without_opening_the_room() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &["a"]);
    hosts[0].configure("a", &capacity(3));
    until(&mut hosts, "told", |hosts| !hosts[1].rooms["a"].settings.is_empty());
    redis.run(&["SET", &Keys::new("t:").settings("c"), "no JSON"]);
    let mut third = vec![Host::start(redis.port(), 3)];
    let tickets = ["a", "b", "c"].map(|room| third[0].ask_settings(room));
    until(&mut third, "answered", |hosts| hosts[0].settings.len() == 3);
    let found = tickets.map(|ticket| third[0].settings[&ticket].clone());
    assert_eq!(found, [Some(Some(capacity(3))), Some(None), None]);
}

#[test]
fn settings_that_changed_without_a_link_are_found_by_the_repair() {
    let redis = Redis::start();
    let way = Way::to(redis.port());
    let mut hosts = vec![Host::start(redis.port(), 1), Host::start(way.port, 2)];
    hosts.iter_mut().for_each(|host| host.open("a"));
    until(&mut hosts, "open", |hosts| hosts.iter().all(|host| host.is_open("a")));
    way.cut(1);
    until(&mut hosts, "gone", |hosts| !hosts[1].fleet.stats().is_up());
    let in_vain = hosts[1].configure("b", &capacity(3));
    hosts[0].configure("a", &capacity(3));
    until(&mut hosts, "kept", |hosts| !hosts[0].rooms["a"].settings.is_empty());
    assert!(hosts[1].rooms["a"].settings.is_empty());
    until(&mut hosts, "refused", |hosts| hosts[1].settings.get(&in_vain) == Some(&None));
    way.cut(redis.port());
    until(&mut hosts, "found", |hosts| hosts[1].rooms["a"].settings.last() == Some(&capacity(3)));
    settle(&mut hosts, &["a"]);
}

#[test]
fn reads_that_a_lost_link_leaves_unanswered_are_asked_again() {
    let redis = Redis::start();
    let range = Range { after: None, before: None, limit: 1 };
    for is_back in [true, false] {
        let way = Way::to(redis.port());
        let mut hosts = vec![Host::start(way.port, 1)];
        until(&mut hosts, "ready", |hosts| hosts[0].fleet.stats().is_ready());
        way.mute();
        redis.run(&["CONFIG", "RESETSTAT"]);
        let reads: Vec<_> = (0..40).map(|_| hosts[0].read("a", range)).collect();
        until(&mut hosts, "asked", |_| {
            redis.run(&["INFO", "commandstats"]).contains("cmdstat_xrevrange")
        });
        way.cut(if is_back { redis.port() } else { 1 });
        until(&mut hosts, "answered", |hosts| hosts[0].pages.len() == reads.len());
        let answered = hosts[0].pages.values().filter(|page| page.is_some()).count();
        assert_eq!(answered, if is_back { 40 } else { 0 });
    }
}

#[test]
fn without_history_the_order_holds() {
    let redis = Redis::start();
    let as_host = |host| Host::start_as(FleetPlan { history_size: 0, ..plan(redis.port(), host) });
    let mut hosts = vec![as_host(1), as_host(2)];
    hosts.iter_mut().for_each(|host| host.open("a"));
    until(&mut hosts, "open", |hosts| hosts.iter().all(|host| host.is_open("a")));
    hosts[0].publish("a", "x", None);
    settle(&mut hosts, &["a"]);
    redis.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    until(&mut hosts, "repaired", |hosts| hosts.iter().all(|it| it.stat(|it| &it.repairs) > 0));
    hosts[1].publish("a", "y", None);
    settle(&mut hosts, &["a"]);
    assert_eq!(hosts[0].rooms["a"].breaks + hosts[1].rooms["a"].breaks, 0, "nothing was missed");
}

#[test]
fn without_redis_everything_is_answered_in_time() {
    let mut redis = Redis::start();
    redis.kill();
    let mut hosts = vec![Host::start(redis.port(), 1)];
    hosts[0].line.order(Order::Open { room: "a".into(), floor: 0 });
    let read = hosts[0].read("a", Range { after: None, before: None, limit: 1 });
    hosts[0].publish("a", "x", None);
    until(&mut hosts, "answers", |hosts| {
        let host = &hosts[0];
        host.unopened == 1 && host.refused.len() == 1 && host.pages.contains_key(&read)
    });
    assert_eq!(hosts[0].stat(|it| &it.outbox_messages), 0);
    until(&mut hosts, "no room is left over", |hosts| hosts[0].stat(|it| &it.rooms) == 0);
    assert!(hosts[0].pages[&read].is_none());
    assert!(!hosts[0].fleet.stats().is_up());
    redis.restart();
    hosts[0].open("a");
    until(&mut hosts, "open", |hosts| hosts[0].is_open("a"));
    settle(&mut hosts, &["a"]);
    until(&mut hosts, "ready", |hosts| hosts[0].fleet.stats().is_ready());
}

#[test]
fn a_burst_is_delivered_as_it_comes() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &["a"]);
    for _ in 0..20_000 {
        hosts[0].publish("a", "x", None);
    }
    settle(&mut hosts, &["a"]);
    for host in &hosts {
        assert_eq!(host.rooms["a"].delivered.len(), 20_001);
        assert_eq!(host.stat(|it| &it.repairs), 0, "nothing was to be repaired");
    }
}
