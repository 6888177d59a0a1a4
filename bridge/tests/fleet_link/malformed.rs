//! What comes from Redis is outside input too: nothing of it ends the process, and what cannot be
//! read ends the link.

use std::time::Duration;

use super::support::{assert_is_dead, lost, on_one_thread, open, redial, send};
use crate::processes::Redis;
use crate::processes::proxy::Proxy;

/// No length that is claimed is reserved before its bytes are there.
const MALFORMED: &[&str] = &[
    "hello\r\n",
    "*1000000000\r\n:1\r\n",
    "%1000000000\r\n",
    "*9223372036854775807\r\n",
    "$9223372036854775807\r\nabc",
    "%9223372036854775807\r\n",
    "|9223372036854775807\r\n+a\r\n",
    ":no number\r\n",
    ">3\r\n$7\r\nmessage\r\n",
    ">1\r\n:1\r\n",
    "\0\0\0\0",
];

#[test]
fn malformed_answers_end_the_link_and_nothing_else() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    on_one_thread(async {
        let nested = "*1\r\n".repeat(100_000);
        let mut links = Vec::new();
        for text in MALFORMED.iter().copied().chain([&*nested]) {
            for of_pushes in [0, 1] {
                let (link, pushes) = open(&proxy.url()).await;
                proxy.forge(proxy.count() - 2 + of_pushes, text.as_bytes());
                links.push((format!("{text:.30?} at {of_pushes}"), link, pushes));
            }
        }
        for (text, link, mut pushes) in links {
            let (why, time) = lost(&mut pushes).await;
            assert!(time < Duration::from_secs(20), "{text} {time:?}: {why}");
            assert_is_dead(&link).await;
        }
        let (link, _pushes) = redial(&proxy.url()).await;
        send(&link, &["SET", "a", "1"]).await;
    });
}

#[test]
fn pushes_of_unknown_kinds_and_shapes_are_ignored() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    on_one_thread(async {
        let (link, mut pushes) = open(&proxy.url()).await;
        link.subscribe(&["c".to_owned()], false).await.expect("confirmed");
        proxy.forge(1, b">2\r\n$10\r\ninvalidate\r\n*0\r\n>-1\r\n>0\r\n>1\r\n$5\r\nother\r\n");
        tokio::time::sleep(Duration::from_secs(2)).await;
        send(&link, &["PUBLISH", "c", "x"]).await;
        let (channel, payload) = super::support::message(&mut pushes).await;
        assert_eq!((&*channel, &*payload), ("c", "x"));
    });
}
