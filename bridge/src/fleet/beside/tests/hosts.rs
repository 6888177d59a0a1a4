//! Hosts that die, that only seem to, and that end.

use super::*;
use crate::fleet::beside::reap::{TOLD_BYTES_MAX, TOLD_IDS_MAX};
use crate::fleet::keys::PARTITIONS;
use crate::fleet::words::Gone;

#[test]
fn members_of_a_killed_host_are_removed() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let hosts = Host::start_all(&redis.url(), [1, 2, 3], &["r"]).await;
        let [a, b, c] = &hosts;
        for number in 0..1500 {
            a.enter("r", &number.to_string(), "{}");
            a.enter(&format!("room {number}"), "x", "{}");
        }
        b.enter("r", "stays", "{}");
        a.word(Word::Show { room: "room 7".into(), summary: "{}".into() });
        for host in &hosts {
            host.settled(&admin).await;
        }
        until("all know each other", || {
            hosts.iter().all(|host| host.stats.hosts.load(Relaxed) == 3)
        })
        .await;
        let card = admin.text(&["GET", "t:host:00000001"]).await;
        let card: serde_json::Value = serde_json::from_str(&card).expect("JSON");
        assert_eq!(card["pid"], std::process::id());
        a.kill();
        let killed = Instant::now();
        let keys = Keys::new("t:");
        admin.until(&["HLEN", &keys.members("r")], |it| it == "1").await;
        println!("the first room was cleared after {:?}", killed.elapsed());
        admin.until(&["ZCARD", "t:throng:hosts"], |it| it == "2").await;
        println!("the host was gone after {:?}", killed.elapsed());
        for host in [b, c] {
            until("it hears of all", || {
                host.heard().iter().filter(|it| it.ends_with(" left")).count() == 1500
            })
            .await;
            until("it counts", || host.stats.hosts.load(Relaxed) == 2).await;
        }
        let reaped = b.stats.reaped.load(Relaxed) + c.stats.reaped.load(Relaxed);
        assert_eq!(reaped, 3000, "each once");
        let orphaned: Vec<String> = [b, c]
            .iter()
            .flat_map(|host| [host.heard_by(0), host.heard_by(1)])
            .flatten()
            .filter(|it| it.starts_with("Orphaned"))
            .collect();
        assert_eq!(orphaned.len(), 1501, "all its rooms");
        assert_eq!(orphaned.iter().collect::<HashSet<_>>().len(), 1501, "each once");
        assert_eq!(told_reaped(&hosts[1..]).len(), 0, "there are no Node servers");
        assert_eq!(
            admin.text(&["HGETALL", &keys.members("r")]).await,
            "stays={\"host\":\"00000002\"}"
        );
        for partition in 0..PARTITIONS {
            let own = keys.rooms_of_host(partition, 1);
            assert_eq!(admin.text(&["EXISTS", &own]).await, "0", "{own}");
        }
        admin.until(&["EXISTS", "t:room:room 7"], |it| it == "0").await;
        assert_eq!(b.inquiries.rooms(None, 10).await, Some(vec!["r".into()]));
    });
}

/// Of each room, who is told to be gone from it by these hosts.
fn told_reaped(hosts: &[Host]) -> Vec<(Arc<str>, Gone)> {
    let mut told = Vec::new();
    for (host, shard) in hosts.iter().flat_map(|host| [(host, 0), (host, 1)]) {
        host.heard_by(shard);
        told.extend(host.news[shard].borrow().iter().filter_map(|news| match news {
            News::Reaped { room, gone } => Some((Arc::clone(room), gone.clone())),
            _ => None,
        }));
    }
    told.sort_by(|a, b| a.0.cmp(&b.0));
    told
}

#[test]
fn node_servers_are_told_once_who_is_gone() {
    let redis = Redis::start();
    test(async {
        let (url, admin) = (redis.url(), Admin::connect(&redis.url()).await);
        let adapter = Adapter::Classic;
        let prepare =
            |number| Host::prepare_with(&url, FleetPlan { adapter, ..plan(&url, number) }, &[]);
        let hosts = [1, 2, 3].map(prepare);
        hosts.iter().for_each(Host::live);
        let [a, b, c] = &hosts;
        until("all know each other", || {
            hosts.iter().all(|host| host.stats.hosts.load(Relaxed) == 3)
        })
        .await;
        for number in 0..1000 {
            a.enter("large", &format!("a{number}"), &format!(r#"{{"n":{number}}}"#));
        }
        let text = "x".repeat(TOLD_BYTES_MAX / 1000);
        for number in 0..1000 + TOLD_IDS_MAX + 10 {
            a.enter("larger", &number.to_string(), &format!(r#"{{"text":"{text}"}}"#));
        }
        a.enter("alone", "a", "{}");
        b.enter("large", "b", "{}");
        c.enter("large", "c", "{}");
        for host in &hosts {
            host.settled(&admin).await;
        }
        a.kill();
        admin.until(&["ZCARD", "t:throng:hosts"], |it| it == "2").await;
        until("all is told", || told_reaped(&hosts[1..]).len() == 3).await;
        let told = told_reaped(&hosts[1..]);
        let rooms: Vec<&str> = told.iter().map(|(room, _)| &**room).collect();
        assert_eq!(rooms, ["alone", "large", "larger"], "each once");
        let [(_, alone), (_, large), (_, larger)] = &told[..] else { unreachable!("three") };
        assert_eq!((alone.members.len(), alone.unnamed, alone.left), (1, 0, 0));
        assert_eq!(alone.members[0], ("a".into(), "{}".into()));
        assert_eq!((large.members.len(), large.unnamed, large.left), (1000, 0, 2));
        for number in 0..1000 {
            let it = (format!("a{number}").into(), format!(r#"{{"n":{number}}}"#).into());
            assert!(large.members.contains(&it), "{number}");
        }
        let bytes: usize = larger.members.iter().map(|(_, member)| member.len()).sum();
        assert!(bytes > TOLD_BYTES_MAX / 2 && bytes <= TOLD_BYTES_MAX, "{bytes}");
        let count = larger.members.len() + larger.unnamed as usize;
        assert_eq!((count, larger.left), (1000 + TOLD_IDS_MAX + 10, 0));
        assert!(larger.unnamed > 0 && larger.members.len() >= TOLD_IDS_MAX);
    });
}

#[test]
fn a_host_that_was_thought_dead_enters_its_members_again() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let (a, b) = (
            Host::start(&redis.url(), 1, &["r"]).await,
            Host::start(&redis.url(), 2, &["r"]).await,
        );
        a.enter("r", "x", "{}");
        a.enter("s", "x", "{}");
        a.settled(&admin).await;
        b.settled(&admin).await;
        a.kill();
        let keys = Keys::new("t:");
        admin.until(&["EXISTS", &keys.members("r")], |it| it == "0").await;
        b.hears("r: x left").await;
        a.live();
        a.hears("r: ").await;
        a.hears("s: ").await;
        a.enter("r", "x", "{}");
        admin.until(&["HLEN", &keys.members("r")], |it| it == "1").await;
        // Its key alone is lost, and then somebody is still at its members.
        let rosters = || a.heard().iter().filter(|it| *it == "r: x").count();
        let before = rosters();
        admin.send(&["DEL", "t:host:00000001"]).await;
        until("it is told its roster", || rosters() > before).await;
        let before = rosters();
        admin.send(&["SET", "t:throng:reap:00000001", "2", "PX", "60000"]).await;
        tokio::time::sleep(FAST.beat * 5).await;
        assert_eq!(rosters(), before, "not while it is being reaped");
        admin.send(&["DEL", "t:throng:reap:00000001"]).await;
        until("it is told its roster", || rosters() > before).await;
    });
}

#[test]
fn a_host_that_ends_leaves_nothing() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let a = Host::start(&redis.url(), 1, &[]).await;
        a.settled(&admin).await;
        a.enter("r", "x", "{}");
        a.enter("s", "left over", "{}");
        a.word(Word::Show { room: "s".into(), summary: "{}".into() });
        a.word(Word::Trail { shard: 0, steps: vec![(5, "r".into(), 1)] });
        a.settled(&admin).await;
        a.kill();
        a.leave("r", "x"); // the last words of its shards
        let link = Rc::new(dial(&redis.url()).await.0);
        a.beside.leave(&link).await;
        admin.until(&["EXISTS", "t:room:s"], |it| it == "0").await;
        let keys = Keys::new("t:");
        for key in [
            keys.members("r"),
            keys.members("s"),
            keys.host(1),
            keys.hosts(),
            keys.rooms(crate::fleet::keys::partition("s")),
        ] {
            assert_eq!(admin.text(&["EXISTS", &key]).await, "0", "{key}");
        }
        assert_eq!(admin.text(&["EXISTS", &keys.passed(1, 0)]).await, "1", "for its sessions");
    });
}

#[test]
fn a_redis_that_has_lost_everything_makes_nobody_dead() {
    let mut redis = Redis::start();
    test(async {
        let url = redis.url();
        let hosts = Host::start_all(&url, [1, 2, 3], &[]).await;
        tokio::time::sleep(FAST.ttl).await;
        redis.restart();
        let admin = Admin::connect(&url).await;
        admin.until(&["ZCARD", "t:throng:hosts"], |it| it == "3").await;
        for host in &hosts {
            host.enter("r", &host.number.to_string(), "{}");
        }
        let members = Keys::new("t:").members("r");
        admin.until(&["HLEN", &members], |it| it == "3").await;
        let start = Instant::now();
        while start.elapsed() < (FAST.ttl + FAST.beat) * 2 {
            assert_eq!(admin.text(&["HLEN", &members]).await, "3");
            tokio::time::sleep(FAST.beat).await;
        }
        assert!(hosts.iter().all(|host| host.stats.reaped.load(Relaxed) == 0));
    });
}
