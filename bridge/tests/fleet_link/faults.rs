//! Every fault of a connection ends the whole link, once and soon, and loses nothing silently.

use std::time::Duration;

use redis::Value;

use super::support::{
    assert_is_dead, command, lost, message, on_one_thread, open, redial, send, try_open,
};
use crate::link::{Link, Push};
use crate::processes::Redis;
use crate::processes::proxy::Proxy;
use crate::target::Target;

/// A look each second and three seconds of patience; the rest is the machine's.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// The ids of the link's connections.
fn clients(redis: &Redis) -> Vec<String> {
    let list = redis.cli(&["client", "list"]);
    let ours = list.lines().filter(|line| line.contains("name=throng-test"));
    let id = |line: &str| line.split(' ').find_map(|it| it.strip_prefix("id=")).map(str::to_owned);
    ours.filter_map(id).collect()
}

#[test]
fn either_connection_ends_both() {
    let redis = Redis::start();
    on_one_thread(async {
        for which in [0, 1] {
            let (link, mut pushes) = open(&redis.url()).await;
            link.subscribe(&["c".to_owned()], false).await.expect("confirmed");
            let ids = clients(&redis);
            assert_eq!(ids.len(), 2);
            redis.cli(&["client", "kill", "id", &ids[which]]);
            let (why, time) = lost(&mut pushes).await;
            assert!(time < Duration::from_secs(1), "{time:?} until {why}");
            assert_is_dead(&link).await;
            // The other one is closed although the link is still held.
            gone(&redis).await;
        }
    });
}

/// Waits until Redis sees no connection of a link.
async fn gone(redis: &Redis) {
    for _ in 0..500 {
        if clients(redis).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("connections are left");
}

#[test]
fn a_dropped_link_leaves_nothing_behind() {
    let redis = Redis::start();
    on_one_thread(async {
        let (link, _pushes) = open(&redis.url()).await;
        drop(link);
        gone(&redis).await;
        let (link, mut pushes) = open(&redis.url()).await;
        link.give_up("for a reason");
        link.give_up("for another");
        let (why, _) = lost(&mut pushes).await;
        assert_eq!(why, "for a reason");
        assert_is_dead(&link).await;
        gone(&redis).await;
    });
}

#[test]
fn either_connection_that_is_silent_ends_the_link() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    on_one_thread(async {
        for which in [0, 1] {
            let (link, mut pushes) = open(&proxy.url()).await;
            proxy.freeze(proxy.count() - 2 + which);
            let (why, time) = lost(&mut pushes).await;
            assert!(why.contains("no answer within"), "{why}");
            assert!(time < SILENCE_MAX, "{time:?}");
            assert_is_dead(&link).await;
        }
    });
}

#[test]
fn a_link_that_falls_while_commands_are_under_way_fails_them() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    on_one_thread(async {
        let (link, mut pushes) = open(&proxy.url()).await;
        redis.stop();
        let commands = [command(&["SET", "a", "1"])];
        let (answer, ()) = tokio::join!(link.send(0, &commands), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            proxy.cut(1);
        });
        answer.expect_err("the other connection is cut");
        lost(&mut pushes).await;
        redis.cont();
    });
}

#[test]
fn what_stands_behind_much_else_is_not_late() {
    let redis = Redis::start_with(&["--enable-debug-command", "local"]);
    on_one_thread(async {
        let (link, _pushes) = open(&redis.url()).await;
        // Each takes a second, and all together more than the patience for a silent connection.
        // The ballast makes Redis look after others between them.
        let ballast = "x".repeat(100_000);
        let slow = [command(&["DEBUG", "SLEEP", "1"]), command(&["ECHO", &ballast])];
        let send = || link.send(0, &slow);
        let answers = tokio::join!(send(), send(), send(), send(), send());
        for answer in <[_; 5]>::from(answers) {
            assert_eq!(answer.expect("in time")[0], Value::Okay);
        }
    });
}

#[test]
fn who_was_stopped_reads_before_it_judges() {
    let redis = Redis::start();
    on_one_thread(async {
        let (link, mut pushes) = open(&redis.url()).await;
        for _ in 0..2 {
            let commands = [command(&["INCR", "a"])];
            let stopped = async {
                // The answer arrives while nobody on this thread can look.
                tokio::time::sleep(Duration::from_millis(1)).await;
                std::thread::sleep(Duration::from_secs(5));
            };
            let (answer, ()) = tokio::join!(link.send(0, &commands), stopped);
            answer.expect("it was there");
            tokio::time::sleep(Duration::from_millis(1_500)).await; // a look
        }
        assert!(pushes.try_recv().is_err(), "nothing is lost");
    });
}

#[test]
fn lanes_have_connections_of_their_own_and_one_fate() {
    let redis = Redis::start();
    on_one_thread(async {
        let target = Target::parse(&redis.url()).expect("a target");
        let (link, mut pushes) = Link::open(&target, "throng-test", 3).await.expect("a link");
        let id = [command(&["CLIENT", "ID"])];
        let mut ids = Vec::new();
        for lane in 0..6 {
            ids.push(format!("{:?}", link.send_on(lane, 0, &id).await.expect("an answer")));
        }
        assert_eq!(ids[..3], ids[3..]);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 3);
        let all = clients(&redis);
        assert_eq!(all.len(), 4);
        redis.cli(&["client", "kill", "id", &all[2]]);
        lost(&mut pushes).await;
        gone(&redis).await;
    });
}

#[test]
fn a_subscriber_that_redis_throws_out_sees_a_run_without_a_hole() {
    let redis = Redis::start();
    redis.cli(&["config", "set", "client-output-buffer-limit", "pubsub 1mb 512kb 5"]);
    on_one_thread(async {
        let (link, mut pushes) = open(&redis.url()).await;
        link.subscribe(&["c".to_owned()], false).await.expect("confirmed");
        // This thread reads nothing while it waits for redis-cli.
        let flood = "for i = 1, 40000 do \
                     redis.call('PUBLISH', 'c', i .. string.rep('.', 1000)) end";
        redis.cli(&["eval", flood, "0"]);
        let mut last = 0;
        loop {
            match pushes.recv().await.expect("the end is told") {
                Push::Message { payload, .. } => {
                    let text = String::from_utf8(payload).expect("UTF-8");
                    let number: u32 = text.trim_end_matches('.').parse().expect("a number");
                    assert_eq!(number, last + 1);
                    last = number;
                }
                Push::Lost(why) => break eprintln!("after {last}: {why}"),
            }
        }
        assert!(last < 40_000, "nothing was lost: the test tests nothing");
        assert_is_dead(&link).await;
    });
}

#[test]
fn a_reader_too_far_behind_loses_the_link_and_no_message() {
    let redis = Redis::start();
    redis.cli(&["config", "set", "client-output-buffer-limit", "pubsub 0 0 0"]);
    on_one_thread(async {
        let (link, mut pushes) = open(&redis.url()).await;
        link.subscribe(&["c".to_owned()], false).await.expect("confirmed");
        let flood = "for i = 1, 30000 do redis.call('PUBLISH', 'c', i) end";
        let flood = [command(&["EVAL", flood, "0"])];
        link.send(0, &flood).await.expect("below the bound");
        while pushes.len() < 30_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for number in 1..=30_000 {
            assert_eq!(message(&mut pushes).await.1, number.to_string());
        }
        link.send(0, &flood).await.expect("what was read does not count");
        let _ = link.send(0, &flood).await;
        while link.send(0, &[command(&["PING"])]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(pushes.len() > 50_000);
        let (why, _) = lost(&mut pushes).await;
        assert!(why.contains("not read fast enough"), "{why}");
    });
}

#[test]
fn a_redis_that_loads_is_waited_for() {
    let mut redis = Redis::start_with(&["--appendonly", "yes", "--key-load-delay", "500"]);

    let fill = "for i = 1, 9000 do redis.call('SET', 'key:' .. i, i) end";
    redis.cli(&["eval", fill, "0"]);
    on_one_thread(async {
        let (_link, mut pushes) = open(&redis.url()).await;
        redis.kill();
        lost(&mut pushes).await;
        redis.restart_without_waiting();
        let mut told = false;
        let (link, _pushes) = loop {
            match try_open(&redis.url()).await {
                Ok(link) => break link,
                Err(error) => told |= error.to_string().contains("LOADING"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(told, "it was never seen loading: the test tests nothing");
        let kept = Value::BulkString(b"9000".to_vec());
        assert_eq!(send(&link, &["GET", "key:9000"]).await, kept);
    });
}

#[test]
fn errors_that_are_only_answers_keep_the_link() {
    let redis = Redis::start_with(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]);
    on_one_thread(async {
        let (link, _pushes) = open(&redis.url()).await;
        let answer = send(&link, &["SET", "a", "1"]).await;
        assert!(
            matches!(&answer, Value::ServerError(error) if error.code() == "OOM"),
            "{answer:?}"
        );
        redis.cli(&["config", "set", "maxmemory", "0"]);
        assert_eq!(send(&link, &["SET", "a", "1"]).await, Value::Okay);
        redis.cli(&["config", "set", "min-replicas-to-write", "1"]);
        let answer = send(&link, &["SET", "a", "1"]).await;
        let is_it =
            |it: &Value| matches!(it, Value::ServerError(error) if error.code() == "NOREPLICAS");
        assert!(is_it(&answer), "{answer:?}");
        redis.cli(&["config", "set", "min-replicas-to-write", "0"]);
        assert_eq!(send(&link, &["SET", "a", "1"]).await, Value::Okay);
    });
}

#[test]
fn a_refused_subscription_ends_the_link_with_its_reason() {
    let redis = Redis::start();
    redis.cli(&["acl", "setuser", "narrow", "on", ">secret", "+@all", "~*", "&throng:*"]);
    let url = redis.url().replace("redis://", "redis://narrow:secret@");
    on_one_thread(async {
        let (link, _pushes) = redial(&url).await;
        let channels: Vec<String> = (0..100).map(|i| format!("other:{i}")).collect();
        let error = link.subscribe(&channels, false).await.expect_err("refused");
        assert!(error.to_string().contains("SUBSCRIBE"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_is_dead(&link).await;
    });
}
