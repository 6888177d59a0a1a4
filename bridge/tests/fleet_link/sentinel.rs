//! A master that Sentinels watch.

use std::time::{Duration, Instant};

use redis::Value;

use super::support::{assert_is_dead, lost, on_one_thread, open, redial, send, try_open};
use crate::processes::{Sentinels, until, within};

/// How much later than the Sentinels' word a link to the new master may write.
const AFTER_PROMOTION: Duration = Duration::from_secs(1);

#[test]
fn a_killed_master_is_replaced() {
    let mut all = Sentinels::start(1, 3, 1000);
    on_one_thread(async {
        let (link, mut pushes) = open(&all.url()).await;
        assert_eq!(send(&link, &["SET", "a", "1"]).await, Value::Okay);
        let old = all.master_port(0);
        all.at(old).kill();
        lost(&mut pushes).await;
        assert_is_dead(&link).await;
        assert_follows(&all, old).await;
    });
}

#[test]
fn a_master_that_stands_still_is_replaced() {
    let mut all = Sentinels::start(1, 3, 1000);
    on_one_thread(async {
        let (link, mut pushes) = open(&all.url()).await;
        let old = all.master_port(0);
        all.at(old).stop();
        lost(&mut pushes).await;
        assert_is_dead(&link).await;
        assert_follows(&all, old).await;
        all.at(old).cont();
        // It is a replica soon, and until then nobody takes it for the master.
        let (link, _pushes) = redial(&all.url()).await;
        assert_eq!(send(&link, &["GET", "a"]).await, Value::BulkString(b"2".to_vec()));
    });
}

#[test]
fn dialling_a_master_that_stands_still_ends_with_the_promotion() {
    let mut all = Sentinels::start(1, 3, 1000);
    on_one_thread(async {
        let old = all.master_port(0);
        all.at(old).stop();
        assert_follows(&all, old).await;
        all.at(old).cont();
    });
}

/// A new link writes to another master, soon after the Sentinels have named it.
async fn assert_follows(all: &Sentinels, old: u16) {
    // One watches for the promotion while the other dials, as the fleet does.
    let sentinels: Vec<u16> = all.sentinels.iter().map(|it| it.port()).collect();
    let watcher = std::thread::spawn(move || promoted(&sentinels, old));
    let (link, _pushes) = redial(&all.url()).await;
    assert_eq!(send(&link, &["SET", "a", "2"]).await, Value::Okay);
    let written = Instant::now();
    let late = written.saturating_duration_since(watcher.join().expect("promoted"));
    eprintln!("written {late:?} after the promotion");
    assert!(late < AFTER_PROMOTION, "{late:?}");
}

/// Waits until a Sentinel names another master; when that was.
fn promoted(sentinels: &[u16], old: u16) -> Instant {
    let words = ["sentinel", "get-master-addr-by-name", Sentinels::MASTER];
    let old = old.to_string();
    until("a replica is promoted", || {
        sentinels.iter().any(|port| {
            let text = crate::processes::cli(*port, &words).unwrap_or_default();
            text.lines().nth(1).is_some_and(|port| port != old)
        })
    });
    Instant::now()
}

#[test]
fn a_failover_while_the_master_lives_ends_the_link_at_once() {
    let all = Sentinels::start(1, 3, 1000);
    on_one_thread(async {
        let url = all.url();
        let (link, mut pushes) = open(&url).await;
        let old = all.master_port(0);
        all.sentinels[0].cli(&["sentinel", "failover", Sentinels::MASTER]);
        let (why, _) = lost(&mut pushes).await;
        eprintln!("{why}");
        assert_is_dead(&link).await;
        let (link, _pushes) = redial(&url).await;
        assert_eq!(send(&link, &["SET", "a", "2"]).await, Value::Okay);
        assert_ne!(all.master_port(0), old);
    });
}

#[test]
fn a_master_that_the_sentinels_have_lost_is_left() {
    // The old master lives, and knows of nothing: no word of a Sentinel reaches it.
    let all = Sentinels::start(1, 3, 1000);
    on_one_thread(async {
        let url = all.url();
        let (link, mut pushes) = open(&url).await;
        let old = all.master_port(0);
        // It answers nothing that Sentinels ask, so that for them it is down.
        let redis = all.redis.iter().find(|it| it.port() == old).expect("it");
        redis.cli(&[
            "acl", "setuser", "default", "-ping", "-info", "-publish", "-slaveof", "-multi",
        ]);
        let (why, _) = lost(&mut pushes).await;
        eprintln!("{why}");
        assert!(redis.cli(&["role"]).starts_with("master"), "it still believes itself");
        assert_is_dead(&link).await;
        let (link, _pushes) = redial(&url).await;
        assert_eq!(send(&link, &["SET", "a", "2"]).await, Value::Okay);
    });
}

#[test]
fn a_demoted_master_is_left_and_a_replica_never_taken() {
    let all = Sentinels::start(1, 1, 60_000);
    on_one_thread(async {
        let replica = all.redis[1].url();
        let error = try_open(&replica).await.err().expect("a replica is no master");
        assert!(error.to_string().contains("is a slave"), "{error}");
        // Demoted by hand, behind the Sentinels' back; clients stay connected.
        let (link, mut pushes) = open(&all.redis[0].url()).await;
        let other = all.redis[1].port().to_string();
        all.redis[1].cli(&["replicaof", "no", "one"]);
        all.redis[0].cli(&["replicaof", "127.0.0.1", &other]);
        let (why, time) = lost(&mut pushes).await;
        assert!(time < Duration::from_secs(10), "{time:?} until {why}");
        assert_is_dead(&link).await;
    });
}

#[test]
fn sentinels_that_are_away_delay_nothing_and_their_return_is_noticed() {
    let mut all = Sentinels::start(1, 3, 1000);
    on_one_thread(async {
        let url = all.url();
        all.sentinels[0].stop();
        all.sentinels[1].kill();
        let start = Instant::now();
        let (link, _pushes) = open(&url).await;
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(send(&link, &["SET", "a", "1"]).await, Value::Okay);
        all.sentinels[0].cont();
        let unknown = url.replace(Sentinels::MASTER, "other");
        let error = try_open(&unknown).await.err().expect("no such master");
        assert!(error.to_string().contains("does not know the master other"), "{error}");
        all.sentinels[2].kill();
        within(Duration::from_secs(20), "the first answers again", || {
            all.sentinels[0].try_cli(&["ping"]).is_some()
        });
        assert_eq!(send(&link, &["SET", "a", "2"]).await, Value::Okay, "no Sentinel is needed");
    });
}
