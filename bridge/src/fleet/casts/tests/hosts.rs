//! Casts between hosts.

use super::*;

fn hosts(redis: &Redis, count: u32, shards: u16) -> Vec<Host> {
    let hosts: Vec<_> =
        (1..=count).map(|host| Host::start(redis, host, Adapter::Off, shards)).collect();
    until_heard(redis, "numsub", "x:throng:all", count as usize);
    hosts
}

#[test]
fn every_other_host_hears_a_cast_once_and_in_order() {
    let redis = Redis::start();
    let hosts = hosts(&redis, 3, 2);
    let deeds = [
        emit(r#""e",{"_placeholder":true,"num":0}"#, &[&[0, 255]], None),
        Deed::Join(vec!["a".into()]),
        Deed::Leave(vec!["ü".into(), "".into()]),
        Deed::Disconnect(true),
        Deed::ServerSide { args: "\"e\",1".into(), answer: None },
    ];
    let nth = |index: usize| Cast {
        reach: Reach { except: vec![index.to_string().into()], ..reach("/n", &["a", "b"]) },
        deed: deeds[index % deeds.len()].clone(),
    };
    for index in 0..1000 {
        hosts[0].cast(1, nth(index), true, false);
    }
    for host in &hosts[1..] {
        for index in 0..1000 {
            let (cast, request) = host.heard();
            assert_eq!((&*cast, request), (&nth(index), None));
        }
    }
    hosts[1].cast(0, nth(0), true, false);
    hosts[0].heard();
    for shard in [0, 1] {
        assert!(hosts[0].poll(shard).is_none(), "its own");
    }
}

#[test]
fn clients_of_all_hosts_and_shards_answer() {
    let redis = Redis::start();
    let hosts = hosts(&redis, 3, 2);
    hosts[0].cast(1, to_all(emit("\"e\"", &[], Some((77, 60_000)))), true, false);
    for host in &hosts[1..] {
        let (cast, request) = host.heard();
        let request = request.expect("it wants answers");
        assert_eq!(cast.deed, emit("\"e\"", &[], Some((request, 60_000))));
        host.answer(1, request, CastAnswer::Acked("\"early\"".into(), vec![]));
        host.answer(0, request, CastAnswer::Asked(0));
        host.answer(1, request, CastAnswer::Asked(2));
    }
    let mut answers: Vec<_> = (0..3).map(|_| hosts[0].answered(1)).collect();
    let sum = answers.iter().position(|it| *it == (77, CastAnswer::Asked(4))).expect("a sum");
    answers.remove(sum);
    assert_eq!(answers, vec![(77, CastAnswer::Acked("\"early\"".into(), vec![])); 2]);
    hosts[0].cast(0, to_all(emit("\"e\"", &[], Some((78, 60_000)))), true, false);
    let late = hosts[1].heard().1.expect("it wants answers");
    hosts[1].answer(0, late, CastAnswer::Asked(1));
    hosts[1].answer(1, late, CastAnswer::Asked(0));
    hosts[1].answer(0, late, CastAnswer::Acked("1".into(), vec![]));
    assert_eq!(hosts[0].answered(0), (78, CastAnswer::Acked("1".into(), vec![])), "as it comes");
}

#[test]
fn sockets_rooms_and_servers_are_asked() {
    let redis = Redis::start();
    let hosts = hosts(&redis, 2, 2);
    hosts[0].cast(0, Cast { reach: reach("/", &["a"]), deed: Deed::Fetch(1) }, true, false);
    let (cast, request) = hosts[1].heard();
    let request = request.expect("it wants answers");
    assert_eq!(*cast, Cast { reach: reach("/", &["a"]), deed: Deed::Fetch(request) });
    hosts[1].answer(0, request, CastAnswer::Sockets(vec!["{\"id\":1}".into()]));
    hosts[1].answer(1, request, CastAnswer::Sockets(vec!["{\"id\":2}".into()]));
    let both = vec!["{\"id\":1}".into(), "{\"id\":2}".into()];
    assert_eq!(hosts[0].answered(0), (1, CastAnswer::Sockets(both)));

    hosts[0].cast(1, to_all(Deed::Rooms(2)), true, false);
    let request = hosts[1].heard().1.expect("it wants answers");
    hosts[1].answer(0, request, CastAnswer::Rooms(vec!["b".into(), "a".into()]));
    hosts[1].answer(1, request, CastAnswer::Rooms(vec!["a".into()]));
    let both = vec!["a".into(), "b".into()];
    assert_eq!(hosts[0].answered(1), (2, CastAnswer::Rooms(both)));

    let deed = Deed::ServerSide { args: "\"e\"".into(), answer: Some(3) };
    hosts[0].cast(0, to_all(deed), true, false);
    assert_eq!(hosts[0].answered(0), (3, CastAnswer::Asked(1)), "so many servers may answer");
    let request = hosts[1].heard().1.expect("it wants answers");
    hosts[1].answer(0, request, CastAnswer::Asked(0));
    hosts[1].answer(1, request, CastAnswer::ServerSide("[1]".into()));
    assert_eq!(hosts[0].answered(0), (3, CastAnswer::ServerSide("[1]".into())));
}

#[test]
fn who_asks_is_answered_with_nobody_and_without_redis_too() {
    let mut redis = Redis::start();
    let host = hosts(&redis, 1, 1).remove(0);
    let ask = |what: &str| {
        for (deed, nothing) in [
            (emit("\"e\"", &[], Some((1, 60_000))), CastAnswer::Asked(0)),
            (Deed::Fetch(1), CastAnswer::Sockets(Vec::new())),
            (Deed::Rooms(1), CastAnswer::Rooms(Vec::new())),
            (Deed::ServerSide { args: "\"e\"".into(), answer: Some(1) }, CastAnswer::Asked(0)),
        ] {
            host.cast(0, to_all(deed), true, true);
            assert_eq!(host.answered(0), (1, nothing), "{what}");
        }
    };
    ask("alone");
    redis.kill();
    ask("Redis is away");
    redis.restart();
    until_heard(&redis, "numsub", "x:throng:all", 1);
    ask("alone again");
}

#[test]
fn a_lost_link_ends_the_waiting_and_the_next_one_serves() {
    let mut redis = Redis::start();
    let hosts = hosts(&redis, 2, 1);
    hosts[0].cast(0, to_all(Deed::Fetch(1)), true, false);
    let old = hosts[1].heard().1.expect("it wants answers");
    redis.kill();
    assert_eq!(hosts[0].answered(0), (1, CastAnswer::Sockets(Vec::new())));
    redis.restart();
    until_heard(&redis, "numsub", "x:throng:all", 2);
    hosts[1].answer(0, old, CastAnswer::Sockets(vec!["{}".into()]));
    hosts[0].cast(0, to_all(Deed::Fetch(2)), true, false);
    let new = hosts[1].heard().1.expect("it wants answers");
    hosts[1].answer(0, new, CastAnswer::Sockets(Vec::new()));
    assert_eq!(hosts[0].answered(0), (2, CastAnswer::Sockets(Vec::new())), "not the old one's");
}

#[test]
fn who_does_not_answer_is_not_waited_for_long() {
    let redis = Redis::start();
    let hosts = hosts(&redis, 3, 1);
    hosts[0].cast(0, to_all(Deed::Fetch(1)), true, false);
    let request = hosts[1].heard().1.expect("it wants answers");
    hosts[1].answer(0, request, CastAnswer::Sockets(vec!["{}".into()]));
    let start = Instant::now();
    assert_eq!(hosts[0].answered(0), (1, CastAnswer::Sockets(vec!["{}".into()])));
    assert!(start.elapsed() > Duration::from_secs(3), "the third might have answered");
}

#[test]
fn what_is_no_cast_is_dropped() {
    let redis = Redis::start();
    let hosts = hosts(&redis, 2, 1);
    for junk in ["", "\u{1}", "junk", "\u{1}aaaaaaaaaaaaaaaaaaaaaaa"] {
        redis.cli(&["publish", "x:throng:all", junk]);
        redis.cli(&["publish", "x:throng:casts:00000001", junk]);
    }
    hosts[0].cast(0, to_all(Deed::Disconnect(false)), true, false);
    assert_eq!(hosts[1].heard().0.deed, Deed::Disconnect(false));
}
