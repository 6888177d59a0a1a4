//! Members: who is in which room, as Redis and other hosts know it.

use super::*;
use crate::fleet::keys::partition;

#[test]
fn others_hear_of_members_and_oneself_does_not() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let [a, b] = Host::start_all(&redis.url(), [1, 2], &["r"]).await;
        a.settled(&admin).await;
        b.settled(&admin).await;
        a.enter("r", "x", r#"{"n":1}"#);
        a.enter("r", "x", r#"{"n":2}"#);
        a.word(Word::Say { room: "r".into(), words: (*b"typing").into() });
        a.leave("r", "x");
        a.leave("r", "never there");
        a.enter("r", "y", "{}");
        b.hears("r: y entered {}").await;
        let expected = [
            r#"r: x entered {"n":1}"#,
            r#"r: x entered {"n":2}"#,
            "r: said typing",
            "r: x left",
            "r: y entered {}",
        ];
        assert_eq!(b.heard(), expected);
        assert_eq!(a.heard(), [""; 0]);
        b.enter("r", "z", r#"{"z":[]}"#);
        b.settled(&admin).await;
        let link = Rc::new(dial(&redis.url()).await.0);
        let mut roster = a.beside.roster(&link, "r").await.expect("a link").expect("a roster");
        roster.sort();
        let expected = [("y".into(), "{}".into()), ("z".into(), r#"{"z":[]}"#.into())];
        assert_eq!(roster, expected);
        let keys = Keys::new("t:");
        assert_eq!(
            admin.text(&["HGET", &keys.members("r"), "z"]).await,
            r#"{"host":"00000002","z":[]}"#
        );
    });
}

#[test]
fn a_room_is_listed_as_long_as_anybody_is_in_it() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let [a, b] = Host::start_all(&redis.url(), [1, 2], &[]).await;
        let keys = Keys::new("t:");
        let rooms = keys.rooms(partition("r"));
        let own = |host| keys.rooms_of_host(partition("r"), host);
        a.enter("r", "x", "{}");
        a.enter("r", "y", "{}");
        a.settled(&admin).await;
        b.enter("r", "z", "{}");
        b.settled(&admin).await;
        assert_eq!(admin.text(&["HGET", &own(1), "r"]).await, "2");
        assert_eq!(admin.text(&["HGET", &own(2), "r"]).await, "1");
        // A socket comes back on another host, and the first one finds out later.
        b.enter("r", "y", "{}");
        b.settled(&admin).await;
        a.leave("r", "y");
        a.leave("r", "x");
        a.settled(&admin).await;
        assert_eq!(admin.text(&["EXISTS", &own(1)]).await, "0");
        assert_eq!(admin.text(&["HGET", &own(2), "r"]).await, "2");
        assert!(!a.beside.desk.members.has_room("r") && b.beside.desk.members.has_room("r"));
        assert_eq!(admin.text(&["ZRANGE", &rooms, "0", "-1"]).await, "r");
        b.leave("r", "y");
        b.leave("r", "z");
        b.settled(&admin).await;
        for key in [keys.members("r"), rooms, own(2)] {
            assert_eq!(admin.text(&["EXISTS", &key]).await, "0", "{key}");
        }
    });
}

#[test]
fn scripts_that_are_lost_are_loaded_again_in_order() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let [a, b] = Host::start_all(&redis.url(), [1, 2], &["r"]).await;
        a.settled(&admin).await;
        b.settled(&admin).await;
        for round in 0..20 {
            admin.send(&["SCRIPT", "FLUSH"]).await;
            for number in 0..50 {
                a.enter("r", &format!("{round} {number}"), "{}");
                a.leave("r", &format!("{round} {number}"));
            }
            a.enter("r", &format!("{round}"), "{}");
            b.hears(&format!("r: {round} entered {{}}")).await;
        }
        a.settled(&admin).await;
        let keys = Keys::new("t:");
        assert_eq!(admin.text(&["HLEN", &keys.members("r")]).await, "20");
        let own = keys.rooms_of_host(partition("r"), 1);
        assert_eq!(admin.text(&["HGET", &own, "r"]).await, "20");
    });
}

#[test]
fn who_leaves_without_a_link_is_not_forgotten() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let a = Host::start(&redis.url(), 1, &[]).await;
        for number in 0..2000 {
            a.enter("r", &number.to_string(), "{}");
        }
        a.settled(&admin).await;
        let waiting = Rc::clone(&a.beside);
        a.kill();
        let task = tokio::task::spawn_local(async move { waiting.wait().await });
        for number in 0..1990 {
            a.leave("r", &number.to_string());
        }
        a.enter("r", "5", "{}"); // its room's repair enters it again, so it may be there or not
        a.word(Word::Recover { ticket: Ticket(7), pid: "p".into(), offset: None });
        let words: Arc<[u8]> = (*b"hi").into();
        a.word(Word::Tell { host: 2, shard: 0, words });
        a.hears("7 false").await;
        a.hears("2 not told hi").await;
        assert!(a.inquiries.rooms(None, 10).await.is_none(), "no link");
        task.abort();
        a.live();
        let keys = Keys::new("t:");
        admin.until(&["HLEN", &keys.members("r")], |it| it == "11").await;
        a.settled(&admin).await;
        assert_eq!(admin.text(&["HLEN", &keys.members("r")]).await, "11");
    });
}

#[test]
fn a_large_roster_is_read_in_parts_and_knows_what_happened_meanwhile() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let [a, b] = Host::start_all(&redis.url(), [1, 2], &["r"]).await;
        for number in 0..5000 {
            a.enter("r", &number.to_string(), &format!(r#"{{"n":{number}}}"#));
        }
        a.settled(&admin).await;
        b.settled(&admin).await;
        let link = Rc::new(dial(&redis.url()).await.0);
        let reading = {
            let (beside, link) = (Rc::clone(&b.beside), Rc::clone(&link));
            tokio::task::spawn_local(async move { beside.roster(&link, "r").await })
        };
        a.leave("r", "4321");
        a.enter("r", "new", "{}");
        let roster = reading.await.expect("no panic").expect("a link").expect("a roster");
        let before = b.heard();
        let ids: HashSet<&str> = roster.iter().map(|(id, _)| &**id).collect();
        assert_eq!(ids.len(), roster.len(), "nobody twice");
        assert!((4999..=5001).contains(&ids.len()), "{}", ids.len());
        // Whatever was told before the roster is in it; the rest follows.
        assert_eq!(ids.contains("4321"), !before.contains(&"r: 4321 left".to_owned()));
        b.hears("r: new entered {}").await;
        assert!(b.beside.desk.members.rooms().is_empty());
    });
}

#[test]
fn one_host_tells_another() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let [a, b] = Host::start_all(&redis.url(), [1, 2], &[]).await;
        a.settled(&admin).await;
        b.settled(&admin).await;
        let tell = |host, shard, words: &[u8]| Word::Tell { host, shard, words: words.into() };
        a.word(tell(2, 1, b"to one"));
        a.word(tell(2, 9, b"to nobody's"));
        a.lines[1].tell(tell(3, 0, b"lost"));
        b.hears("1 told to nobody's").await;
        until("shard 1 hears", || b.heard_by(1) == ["1 told to one"]).await;
        until("it is told back", || a.heard_by(1) == ["3 not told lost"]).await;
    });
}

#[test]
fn a_host_that_cannot_remember_who_left_begins_anew() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let a = Host::start(&redis.url(), 1, &[]).await;
        for number in 0..10 {
            a.enter("r", &format!("member {number}"), "{}");
        }
        a.settled(&admin).await;
        a.kill();
        let waiting = Rc::clone(&a.beside);
        let task = tokio::task::spawn_local(async move { waiting.wait().await });
        for number in 0..140_000 {
            a.leave("r", &number.to_string());
        }
        a.leave("r", "member 0");
        a.word(Word::Recover { ticket: Ticket(7), pid: "p".into(), offset: None });
        a.hears("7 false").await;
        task.abort();
        a.live();
        a.hears("r: ").await; // nobody by Redis's word: its home enters who is there
        a.enter("r", "member 1", "{}");
        a.settled(&admin).await;
        assert_eq!(admin.text(&["HKEYS", &Keys::new("t:").members("r")]).await, "member 1");
    });
}

#[test]
fn what_redis_refuses_for_want_of_memory_is_mended() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let (a, members) = (Host::start(&redis.url(), 1, &[]).await, Keys::new("t:").members("r"));
        a.enter("r", "x", "{}");
        a.enter("r", "y", "{}");
        a.settled(&admin).await;
        admin.send(&["CONFIG", "SET", "maxmemory", "1"]).await;
        a.enter("r", "z", "{}");
        a.leave("r", "y");
        admin.until(&["HLEN", &members], |it| it == "1").await;
        a.hears("r: x").await; // its home sees that z is missing
        admin.send(&["CONFIG", "SET", "maxmemory", "0"]).await;
        a.enter("r", "z", "{}");
        admin.until(&["HLEN", &members], |it| it == "2").await;
    });
}

#[test]
fn a_room_that_redis_refuses_is_left_out() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let keys = Keys::new("t:");
        let own = |host, room| keys.rooms_of_host(partition(room), host);
        for host in [1, 2] {
            // Left by an earlier life.
            for room in ["bad", "good"] {
                admin.send(&["HSET", &own(host, room), room, "1"]).await;
            }
            let member = format!(r#"{{"host":"{host:08x}"}}"#);
            admin.send(&["HSET", &keys.members("good"), &host.to_string(), &member]).await;
        }
        admin.send(&["ZADD", &keys.hosts(), "1", "00000002"]).await;
        admin.send(&["SET", &keys.members("bad"), "of another kind"]).await;
        let a = Host::start(&redis.url(), 1, &["bad", "good"]).await;
        admin.until(&["HKEYS", &keys.members("good")], |it| it.is_empty()).await;
        admin.until(&["ZCARD", &keys.hosts()], |it| it == "1").await;
        let link = Rc::new(dial(&redis.url()).await.0);
        assert!(a.beside.roster(&link, "bad").await.expect("a link").is_none());
        a.enter("bad", "x", "{}");
        a.leave("bad", "y");
        a.enter("good", "x", "{}");
        a.settled(&admin).await;
        tokio::time::sleep(FAST.beat * 5).await;
        assert!(!a.heard().iter().any(|it| it.starts_with("bad")), "{:?}", a.heard());
        // A field that is no text hides nobody.
        let no_text = Cmd::new().arg("HSET").arg(keys.members("good")).arg(b"\xff").arg("1").take();
        admin.link.send(0, &[no_text]).await.expect("answered");
        let roster = a.beside.roster(&link, "good").await.expect("a link").expect("a roster");
        assert_eq!(roster, [("x".into(), "{}".into())]);
        admin.send(&["DEL", &keys.members("bad")]).await;
        a.hears("bad: ").await; // its home enters who is missing
        a.enter("bad", "x", "{}");
        a.settled(&admin).await;
        assert_eq!(admin.text(&["HKEYS", &keys.members("bad")]).await, "x");
        assert_eq!(a.links.get(), 1, "the link has held");
    });
}

#[test]
fn words_that_wait_for_a_slow_redis_are_bounded_and_nothing_stays_wrong() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let a = Host::start(&redis.url(), 1, &[]).await;
        let desk = &a.beside.desk;
        a.enter("closed", "x", "{}");
        a.enter("r", "stays", "{}");
        a.settled(&admin).await;
        let mut has_held = false;
        for _ in 0..5 {
            let links = a.links.get();
            redis.stop();
            say_much(&a);
            until("they are taken in", || desk.words_count() < 1000).await;
            redis.cont();
            let admin = Admin::connect(&redis.url()).await;
            a.settled(&admin).await;
            // Otherwise the link's end may be why they have been taken in.
            has_held = a.links.get() == links;
            if has_held {
                break;
            }
        }
        assert!(has_held, "words are taken in while the link stands");
        let admin = Admin::connect(&redis.url()).await;
        let keys = Keys::new("t:");
        admin.until(&["EXISTS", &keys.members("closed")], |it| it == "0").await;
        until("its home is told", || a.heard().iter().any(|it| it.starts_with("r: "))).await;
        a.enter("r", "last", "{}");
        a.settled(&admin).await;
        admin.until(&["HLEN", &keys.members("r")], |it| it == "2").await;
    });
}

/// More than can wait: members come and go, and one leaves another room.
fn say_much(host: &Host) {
    for round in 0..200 {
        for number in 0..1000 {
            let id = number.to_string();
            host.enter("r", &id, &format!(r#"{{"round":{round}}}"#));
            host.word(Word::Say { room: "r".into(), words: (*b"typing").into() });
            host.leave("r", &id);
        }
        host.enter("r", "last", "{}");
    }
    host.leave("closed", "x");
}
