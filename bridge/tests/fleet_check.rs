//! Proves what `throng check` says of a Redis: what it is where it can be used, and what is wrong
//! where it cannot, in time and without secrets.

#![allow(missing_docs)]

use std::time::{Duration, Instant};

use throng_bridge::fleet::{Target, probe};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use processes::{Cluster, Redis, Sentinels};

#[allow(unreachable_pub)]
#[path = "redis/mod.rs"]
mod processes;

fn look(url: &str) -> Result<String, String> {
    let target = Target::parse(url).expect("a good URL");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, probe(&target))
}

#[test]
fn a_redis_that_can_be_used_is_described() {
    let redis = Redis::start();
    let found = look(&redis.url()).expect("it is there");
    let version = redis.cli(&["info", "server"]);
    let version = version.lines().find_map(|line| line.trim().strip_prefix("redis_version:"));
    let expected = format!("standalone {}, ", version.expect("a version"));
    assert!(found.starts_with(&expected) && found.ends_with(" ms"), "{found}");
    redis.cli(&["config", "set", "maxmemory-policy", "allkeys-lru"]);
    let found = look(&redis.url()).expect("it can be used all the same");
    assert!(found.ends_with("; maxmemory-policy is allkeys-lru, noeviction is safe"), "{found}");
}

#[test]
fn sentinels_and_clusters_are_known_for_what_they_are() {
    let sentinels = Sentinels::start(1, 3, 1000);
    let found = look(&sentinels.url()).expect("it is there");
    assert!(found.starts_with("sentinel ") && found.ends_with(" ms"), "{found}");
    drop(sentinels);
    let cluster = Cluster::start(3);
    let found = look(&cluster.url()).expect("it is there");
    assert!(found.starts_with("cluster of 3 nodes ") && found.ends_with(" ms"), "{found}");
}

#[test]
fn what_is_wrong_is_said_without_the_password() {
    let redis = Redis::start_with(&["--requirepass", "correct"]);
    let refused = look(&format!("redis://:hunter2@127.0.0.1:{}", redis.port()));
    let reason = refused.expect_err("a wrong password");
    assert!(reason.contains("WRONGPASS") && !reason.contains("hunter2"), "{reason}");
    assert!(look(&redis.url()).is_err(), "no password");
    assert!(look(&format!("redis://:correct@127.0.0.1:{}", redis.port())).is_ok());
}

#[test]
fn one_that_does_not_answer_is_not_waited_for() {
    let mut redis = Redis::start();
    let url = redis.url();
    redis.stop();
    let since = Instant::now();
    assert!(look(&url).is_err(), "it stands still");
    assert!(since.elapsed() < Duration::from_secs(30), "{:?}", since.elapsed());
    redis.cont();
    redis.kill();
    let reason = look(&url).expect_err("it is gone");
    assert!(reason.contains(&redis.port().to_string()), "{reason}");
}
