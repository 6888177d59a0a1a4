//! Users across hosts.

use super::*;

#[test]
fn connections_are_counted_over_shards_and_hosts() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let [a, b] = Host::start_all(&redis.url(), [1, 2], &[]).await;
        let user = |shard, connections| Word::User { id: "u".into(), connections, shard };
        a.word(user(0, 1));
        a.word(user(0, 2));
        a.word(user(1, 3));
        b.word(user(1, 1));
        a.settled(&admin).await;
        b.settled(&admin).await;
        let fields = ["HMGET", "t:user:u", "online", "hosts"];
        assert_eq!(admin.text(&fields).await, "6 00000001,00000002");
        a.word(user(0, 0));
        a.word(user(1, 0));
        a.settled(&admin).await;
        assert_eq!(admin.text(&fields).await, "1 00000002");
        let seen: u64 = admin.text(&["HGET", "t:user:u", "lastSeen"]).await.parse().expect("ms");
        assert!(seen > 1_600_000_000_000, "{seen}");
        let ttl: i64 = admin.text(&["TTL", "t:user:u"]).await.parse().expect("a number");
        assert!((500..=600).contains(&ttl), "{ttl}");
        // What a dead host has left does not count from the next change on.
        admin.send(&["HSET", "t:user:u", "host:000000dd", "7:1000"]).await;
        b.word(user(1, 0));
        b.settled(&admin).await;
        assert_eq!(admin.text(&fields).await, "0 ");
        assert_eq!(admin.text(&["HEXISTS", "t:user:u", "host:000000dd"]).await, "0");
    });
}
