//! Faults of the connection and of Redis itself, under way.

use std::sync::atomic::Ordering::SeqCst;

use super::way::Way;
use super::*;

const ROOMS: [&str; 4] = ["a", "b", "c", "d"];

/// Publishes from all hosts for a while, and does something every now and then.
fn publish_while(hosts: &mut [Host], turns: usize, mut fault: impl FnMut(usize)) {
    for turn in 0..turns {
        for _ in 0..5 {
            for host in hosts.iter_mut() {
                let room = ROOMS[(host.sent as usize) % ROOMS.len()];
                host.publish(room, "x", None);
            }
        }
        fault(turn);
        std::thread::sleep(Duration::from_millis(5));
        hosts.iter_mut().for_each(Host::drain);
    }
}

fn breaks(hosts: &[Host]) -> usize {
    hosts.iter().flat_map(|host| host.rooms.values()).map(|seen| seen.breaks).sum()
}

#[test]
fn killed_connections_lose_nothing() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 3, &ROOMS);
    publish_while(&mut hosts, 300, |turn| {
        let kind = if turn % 2 == 0 { "normal" } else { "pubsub" };
        if turn % 25 == 20 {
            redis.run(&["CLIENT", "KILL", "TYPE", kind]);
        }
    });
    settle(&mut hosts, &ROOMS);
    assert_eq!(breaks(&hosts), 0, "nothing was lost, so nothing may be announced");
    let refused: usize = hosts.iter().map(|host| host.refused.len()).sum();
    assert_eq!(refused, 0, "nothing has waited for long");
    for host in &hosts {
        assert!(host.stat(|it| &it.breaks) >= 3, "the links were not killed");
        let delivered: usize = host.rooms.values().map(|seen| seen.delivered.len()).sum();
        assert_eq!(delivered, 3 * 1500 + ROOMS.len());
    }
}

#[test]
fn a_frozen_redis_is_found_out_and_nothing_is_lost() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &ROOMS);
    publish_while(&mut hosts, 20, |turn| {
        if turn == 10 {
            redis.stop();
        }
    });
    until(&mut hosts, "it is noticed", |hosts| hosts.iter().all(|it| !it.fleet.stats().is_ready()));
    redis.cont();
    publish_while(&mut hosts, 20, |_| {});
    settle(&mut hosts, &ROOMS);
    assert_eq!(breaks(&hosts), 0);
    until(&mut hosts, "ready", |hosts| hosts.iter().all(|it| it.fleet.stats().is_ready()));
}

#[test]
fn an_emptied_redis_is_announced() {
    let mut redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &ROOMS);
    publish_while(&mut hosts, 40, |turn| {
        if turn == 20 {
            redis.kill();
            redis.restart();
        }
    });
    settle(&mut hosts, &ROOMS);
    for seen in hosts.iter().flat_map(|host| host.rooms.values()) {
        assert!(seen.breaks > 0, "the loss was not announced");
    }
}

#[test]
fn a_lost_tail_is_announced() {
    let mut redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &ROOMS);
    publish_while(&mut hosts, 10, |_| {});
    settle(&mut hosts, &ROOMS);
    redis.run(&["SAVE"]);
    publish_while(&mut hosts, 10, |_| {});
    settle(&mut hosts, &ROOMS);
    // It comes back with what it had at SAVE.
    redis.kill();
    redis.restart();
    publish_while(&mut hosts, 10, |_| {});
    settle(&mut hosts, &ROOMS);
    let told = |host: &Host| ROOMS.iter().all(|room| host.rooms[*room].breaks > 0);
    assert!(hosts.iter().all(told), "each room's members must know");
}

#[test]
fn scripts_are_loaded_again_in_order() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 3, &ROOMS);
    publish_while(&mut hosts, 200, |turn| {
        if turn % 10 == 5 {
            redis.run(&["SCRIPT", "FLUSH"]);
        }
    });
    settle(&mut hosts, &ROOMS);
    assert_eq!(breaks(&hosts), 0);
    let refused: usize = hosts.iter().map(|host| host.refused.len()).sum();
    assert_eq!(refused, 0);
    assert!(hosts.iter().all(|host| host.stat(|it| &it.breaks) == 0), "no link was lost");
}

#[test]
fn a_lost_meta_is_announced_and_the_room_goes_on() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &ROOMS);
    publish_while(&mut hosts, 30, |turn| {
        if turn == 15 {
            redis.run(&["DEL", &Keys::new("t:").meta("a")]);
        }
    });
    settle(&mut hosts, &ROOMS);
    for host in &hosts {
        assert!(host.rooms["a"].breaks > 0);
        assert_eq!(host.rooms["b"].breaks, 0, "no other room");
    }
}

#[test]
fn what_redis_refuses_is_refused_and_delivery_goes_on() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &ROOMS);
    for setting in ["maxmemory", "min-replicas-to-write"] {
        publish_while(&mut hosts, 5, |_| {});
        settle(&mut hosts, &ROOMS);
        redis.run(&["CONFIG", "SET", setting, "1"]);
        let before = (hosts[0].sent, hosts[0].refused.len() as u64);
        publish_while(&mut hosts, 5, |_| {});
        until(&mut hosts, "refused", |hosts| {
            hosts.iter().all(|it| it.answered() as u64 == it.sent)
        });
        let refused = hosts[0].refused.len() as u64 - before.1;
        assert_eq!(refused, hosts[0].sent - before.0, "{setting}: none is a success");
        redis.run(&["CONFIG", "SET", setting, "0"]);
        publish_while(&mut hosts, 5, |_| {});
        settle(&mut hosts, &ROOMS);
    }
    assert_eq!(breaks(&hosts), 0);
    assert!(hosts.iter().all(|host| host.stat(|it| &it.breaks) == 0), "no link was lost");
}

#[test]
fn a_lost_answer_is_no_second_message() {
    let redis = Redis::start();
    let way = Way::to(redis.port());
    let mut hosts = hosts(way.port, 1, &ROOMS);
    way.mute();
    for _ in 0..20 {
        hosts[0].publish("a", "x", None);
    }
    let stream = Keys::new("t:").stream("a");
    until(&mut hosts, "committed", |_| redis.run(&["XLEN", &stream]).trim() == "20");
    assert_eq!(hosts[0].answered(), 0);
    way.cut(redis.port());
    settle(&mut hosts, &["a"]);
    assert_eq!(redis.run(&["XLEN", &stream]).trim(), "21");
    assert_eq!(hosts[0].stat(|it| &it.duplicates), 20);
    assert!(hosts[0].published.values().all(|it| !it.2), "to the shard each is new");
    assert_eq!(hosts[0].rooms["a"].delivered.len(), 21);
}

#[test]
fn a_failover_without_the_tail_is_a_fork() {
    let redis = Redis::start();
    let other = Redis::start();
    let way = Way::to(redis.port());
    let mut hosts = hosts(way.port, 2, &["a"]);
    publish_room(&mut hosts, 20);
    other.run(&["REPLICAOF", "127.0.0.1", &redis.port().to_string()]);
    until(&mut hosts, "replicated", |_| {
        other.run(&["INFO", "replication"]).contains("master_link_status:up")
    });
    // What comes now reaches the hosts, but not the replica.
    other.run(&["REPLICAOF", "NO", "ONE"]);
    publish_room(&mut hosts, 6);
    let last = hosts[0].last("a");
    // The promoted one gives the same numbers to other messages, even more of them.
    let mut third = vec![Host::start(other.port(), 3)];
    third[0].open("a");
    until(&mut third, "open", |hosts| hosts[0].is_open("a"));
    for _ in 0..30 {
        third[0].publish("a", "another", None);
    }
    until(&mut third, "published", |hosts| hosts[0].published.len() == 30);
    until(&mut third, "delivered", |hosts| hosts[0].last("a") > last);
    way.cut(other.port());
    hosts.append(&mut third);
    until(&mut hosts, "announced", |hosts| {
        hosts[..2].iter().all(|host| host.rooms["a"].breaks > 0)
    });
    settle(&mut hosts, &["a"]);
    assert!(hosts[0].stat(|it| &it.forks) > 0);
    assert_eq!(hosts[0].stat(|it| &it.dropped_twice), 0);
}

fn publish_room(hosts: &mut [Host], count: usize) {
    for at in 0..count {
        let by = at % hosts.len();
        hosts[by].publish("a", "x", None);
    }
    until(hosts, "published and delivered", |hosts| {
        let last = hosts.iter().map(|host| host.last("a")).max();
        hosts.iter().all(|host| host.answered() as u64 == host.sent && Some(host.last("a")) == last)
    });
}

#[test]
fn a_subscription_that_hears_nothing_is_found_out() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 1, &["a"]);
    until(&mut hosts, "ready", |hosts| hosts[0].fleet.stats().is_ready());
    let key = "t:throng:probe:00000001:{p000}";
    assert_eq!(redis.run(&["PUBSUB", "NUMSUB", key]).lines().nth(1), Some("1"));
    // A user that may publish but not to this channel: the connection stands, and is deaf.
    redis.run(&["ACL", "SETUSER", "default", "resetchannels", "&t:throng:{*"]);
    until(&mut hosts, "it is noticed", |hosts| !hosts[0].fleet.stats().is_fresh.load(SeqCst));
    redis.run(&["ACL", "SETUSER", "default", "allchannels"]);
    until(&mut hosts, "ready again", |hosts| hosts[0].fleet.stats().is_ready());
    hosts[0].publish("a", "x", None);
    settle(&mut hosts, &["a"]);
}

#[test]
fn a_sweep_finds_what_no_event_has_told() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &["a", "b"]);
    publish_room(&mut hosts, 4);
    let last = hosts[0].rooms["a"].delivered.last().expect("a message").clone();
    let record = super::super::wire::record(77, &last.draft);
    let (meta, stream) = (Keys::new("t:").meta("a"), Keys::new("t:").stream("a"));
    redis.run(&["HSET", &meta, "s", "5", "i", "silent"]);
    // Its parts begin with a zero byte, which no argument can hold.
    let text = String::from_utf8_lossy(&record).replace("\"parts\":[3,0],", "");
    let text = text.split('\0').next().expect("a text");
    redis.run(&["XADD", &stream, "5-0", "i", "silent", "m", text]);
    until(&mut hosts, "found", |hosts| hosts.iter().all(|host| host.last("a") == 5));
    settle(&mut hosts, &["a", "b"]);
    assert!(hosts.iter().all(|host| host.stat(|it| &it.swept_behind) == 1));
    assert_eq!(breaks(&hosts), 0);
}

#[test]
fn the_outbox_is_emptied_at_the_end() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &["a"]);
    for _ in 0..500 {
        hosts[0].publish("a", "x", None);
    }
    let host = hosts.remove(0);
    host.fleet.finish(LONG);
    let stream = Keys::new("t:").stream("a");
    assert_eq!(redis.run(&["XLEN", &stream]).trim(), "500");
}

#[test]
fn a_repair_that_takes_long_is_done_over_one_link() {
    let redis = Redis::start();
    let way = Way::to(redis.port());
    let names: Vec<String> = (0..256).map(|number| format!("r{number}")).collect();
    let rooms: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut hosts = hosts(way.port, 1, &rooms);
    let long = "x".repeat(40 << 10);
    for room in &rooms {
        hosts[0].publish(room, &long, None);
    }
    until(&mut hosts, "delivered", |hosts| rooms.iter().all(|room| hosts[0].last(room) == 1));
    until(&mut hosts, "rosters", |hosts| hosts[0].rosters.len() == rooms.len());
    // More than 10 MB, in more than 5 s.
    way.slow_down(2 << 20);
    way.cut(redis.port());
    until(&mut hosts, "repaired", |hosts| {
        hosts[0].stat(|it| &it.repairs) >= 256 && hosts[0].rosters.values().all(|it| *it >= 2)
    });
    assert_eq!(hosts[0].stat(|it| &it.breaks), 1);
    assert_eq!(breaks(&hosts), 0);
}

#[test]
fn an_echo_behind_much_else_is_no_alarm() {
    let redis = Redis::start();
    let way = Way::to(redis.port());
    let mut hosts = vec![Host::start(redis.port(), 1), Host::start(way.port, 2)];
    hosts.iter_mut().for_each(|host| host.open("a"));
    until(&mut hosts, "open", |hosts| {
        hosts.iter().all(|host| host.is_open("a") && host.fleet.stats().is_ready())
    });
    way.slow_down(200 << 10);
    let long = "x".repeat(10 << 10);
    for _ in 0..100 {
        hosts[0].publish("a", &long, None);
    }
    until(&mut hosts, "delivered", |hosts| hosts[1].last("a") == 100);
    assert_eq!(hosts[1].stat(|it| &it.breaks), 0);
    assert!(hosts[1].fleet.stats().is_ready());
}

#[test]
fn a_key_that_cannot_be_read_is_one_rooms_matter() {
    let redis = Redis::start();
    let keys = Keys::new("t:");
    redis.run(&["SET", &keys.members("a"), "no hash"]);
    redis.run(&["RPUSH", &keys.settings("b"), "no string"]);
    let mut hosts = vec![Host::start(redis.port(), 1)];
    ROOMS.iter().for_each(|room| hosts[0].open(room));
    until(&mut hosts, "the others", |hosts| {
        let host = &hosts[0];
        host.is_open("a") && host.unopened == 1 && host.rosters.len() == 2
    });
    assert!(!hosts[0].is_open("b") && !hosts[0].rosters.contains_key("a"));
    redis.run(&["DEL", &keys.members("a"), &keys.settings("b")]);
    hosts[0].open("b");
    until(&mut hosts, "all", |hosts| hosts[0].rosters.len() == 4);
    settle(&mut hosts, &ROOMS);
    assert_eq!(hosts[0].stat(|it| &it.breaks), 0);
}

#[test]
fn what_waits_for_a_stalled_shard_is_bounded() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 2, &["a"]);
    let long = "x".repeat(100 << 10);
    let mut stalled = hosts.split_off(1);
    for _ in 0..700 {
        hosts[0].publish("a", &long, None);
    }
    until(&mut hosts, "published", |hosts| hosts[0].last("a") == 700);
    until(&mut hosts, "arrived", |_| stalled[0].line.waiting_bytes() > 32 << 20);
    // What comes later would wait as well.
    for _ in 0..100 {
        hosts[0].publish("a", &long, None);
    }
    until(&mut hosts, "published", |hosts| hosts[0].last("a") == 800);
    assert!(stalled[0].line.waiting_bytes() < 40 << 20, "it is bounded");
    hosts.append(&mut stalled);
    settle(&mut hosts, &["a"]);
    until(&mut hosts, "all is counted out", |hosts| hosts[1].line.waiting_bytes() == 0);
    assert_eq!(hosts[1].rooms["a"].delivered.len(), 801);
    assert_eq!(breaks(&hosts), 0);
    assert!(hosts[1].stat(|it| &it.repairs) > 0);
}

#[test]
fn who_is_in_a_room_is_told_over_the_next_link() {
    let redis = Redis::start();
    let (way, keys) = (Way::to(redis.port()), Keys::new("t:"));
    for room in ["a", "b"] {
        redis.run(&["SET", &keys.members(room), "no hash"]);
    }
    let mut hosts = hosts(way.port, 1, &["a", "b"]);
    way.cut(1);
    until(&mut hosts, "gone", |hosts| !hosts[0].fleet.stats().is_up());
    assert!(hosts[0].rosters.is_empty());
    redis.run(&["DEL", &keys.members("a"), &keys.members("b")]);
    // Whoever waits for a room has an end of patience, and leaves it.
    hosts[0].line.order(Order::Close { room: "b".into() });
    until(&mut hosts, "left", |hosts| hosts[0].stat(|it| &it.rooms) == 1);
    way.cut(redis.port());
    until(&mut hosts, "told", |hosts| hosts[0].rosters.contains_key("a"));
    settle(&mut hosts, &["a"]);
    assert!(!hosts[0].rosters.contains_key("b"), "nobody waits for it");
    hosts[0].open("b");
    until(&mut hosts, "told", |hosts| hosts[0].rosters.contains_key("b"));
    settle(&mut hosts, &["a", "b"]);
    assert_eq!(breaks(&hosts), 0);
}

#[test]
fn settings_that_are_refused_hinder_nothing_else() {
    let redis = Redis::start();
    let mut hosts = hosts(redis.port(), 1, &["a"]);
    let channel = format!("&{}", Keys::new("t:").events("a"));
    let permitted = ["&t:throng:probe:*", "&t:throng:host:*", "&t:throng:all", "&t:throng:casts:*"];
    redis
        .run(&[&["ACL", "SETUSER", "default", "resetchannels", &channel], &permitted[..]].concat());
    let settings = RoomSettings { capacity: Some(3), ..RoomSettings::default() };
    for room in ["b", "a"] {
        hosts[0].configure(room, &settings);
    }
    let page = hosts[0].read("c", Range { after: None, before: None, limit: 1 });
    until(&mut hosts, "all else", |hosts| {
        let host = &hosts[0];
        host.rooms["a"].settings.last() == Some(&settings) && host.pages.contains_key(&page)
    });
    assert!(hosts[0].pages[&page].is_some());
    assert!(hosts[0].fleet.stats().is_up());
}
