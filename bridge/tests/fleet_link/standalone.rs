//! One Redis.

use std::time::Duration;

use redis::Value;

use super::support::{assert_is_dead, command, lost, message, on_one_thread, open, redial, send};
use crate::processes::Redis;

#[test]
fn commands_are_answered_in_order_and_errors_are_answers() {
    let redis = Redis::start();
    on_one_thread(async {
        let (link, _pushes) = open(&redis.url()).await;
        assert!(!link.is_cluster());
        assert_eq!(link.nodes_count(), 1);
        let commands = [
            command(&["SET", "a", "1"]),
            command(&["HSET", "a", "no", "hash"]),
            command(&["GET", "a"]),
            command(&["EVALSHA", "0000000000000000000000000000000000000000", "0"]),
        ];
        let answers = link.send(0, &commands).await.expect("answers");
        assert_eq!(answers[0], Value::Okay);
        assert!(matches!(&answers[1], Value::ServerError(error) if error.code() == "WRONGTYPE"));
        assert_eq!(answers[2], Value::BulkString(b"1".to_vec()));
        assert!(matches!(&answers[3], Value::ServerError(error) if error.code() == "NOSCRIPT"));
        // Many at once keep the order in which they were first polled.
        let sends: Vec<_> = (0..2_000)
            .map(|i| {
                let commands = [command(&["RPUSH", "list", &i.to_string()])];
                let link = &link;
                async move { link.send(0, &commands).await.expect("an answer").remove(0) }
            })
            .collect();
        let lengths = all(sends).await;
        for (index, length) in lengths.iter().enumerate() {
            assert_eq!(*length, Value::Int(index as i64 + 1));
        }
        assert!(redis.cli(&["client", "list"]).matches("name=throng-test").count() == 2);
    });
}

/// Polls all in order, until all are done.
async fn all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(it) = future.as_mut().poll(cx)
            {
                *done = Some(it);
            }
        }
        match done.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[test]
fn what_is_published_after_a_confirmed_subscription_arrives_in_order() {
    let redis = Redis::start();
    on_one_thread(async {
        let (link, mut pushes) = open(&redis.url()).await;
        let channels: Vec<String> = (0..2_000).map(|i| format!("throng:room {i}")).collect();
        link.subscribe(&channels, false).await.expect("confirmed");
        link.subscribe_patterns(&["pat:*".to_owned()]).await.expect("confirmed");
        for (index, channel) in channels.iter().enumerate() {
            let took = send(&link, &["PUBLISH", channel, &index.to_string()]).await;
            assert_eq!(took, Value::Int(1), "{channel}");
        }
        send(&link, &["PUBLISH", "pat:x", "y"]).await;
        for (index, channel) in channels.iter().enumerate() {
            assert_eq!(message(&mut pushes).await, (channel.clone(), index.to_string()));
        }
        assert_eq!(message(&mut pushes).await, ("pat:x".to_owned(), "y".to_owned()));
        link.unsubscribe(&channels[1..], false).await.expect("confirmed");
        assert_eq!(send(&link, &["PUBLISH", &channels[1], ""]).await, Value::Int(0));
        assert_eq!(send(&link, &["PUBLISH", &channels[0], ""]).await, Value::Int(1));
    });
}

#[test]
fn sharded_channels_need_no_cluster() {
    let redis = Redis::start();
    on_one_thread(async {
        let (link, mut pushes) = open(&redis.url()).await;
        let channels: Vec<String> = (0..1_000).map(|i| format!("socket.io#/#{i}#")).collect();
        link.subscribe(&channels, true).await.expect("confirmed");
        for channel in &channels {
            assert_eq!(send(&link, &["SPUBLISH", channel, "x"]).await, Value::Int(1));
            assert_eq!(message(&mut pushes).await, (channel.clone(), "x".to_owned()));
        }
        link.unsubscribe(&channels, true).await.expect("confirmed");
        assert_eq!(send(&link, &["SPUBLISH", &channels[0], "x"]).await, Value::Int(0));
    });
}

#[test]
fn a_killed_redis_ends_the_link_and_a_new_one_can_be_had() {
    let mut redis = Redis::start();
    on_one_thread(async {
        let (link, mut pushes) = open(&redis.url()).await;
        redis.kill();
        lost(&mut pushes).await;
        assert_is_dead(&link).await;
        assert!(super::support::try_open(&redis.url()).await.is_err(), "refused");
        redis.restart();
        let (link, _pushes) = redial(&redis.url()).await;
        assert_eq!(send(&link, &["GET", "a"]).await, Value::Nil);
    });
}

#[test]
fn a_redis_that_stands_still_is_given_up() {
    let redis = Redis::start();
    on_one_thread(async {
        let (link, mut pushes) = open(&redis.url()).await;
        redis.stop();
        let (why, time) = lost(&mut pushes).await;
        // A look each second and three seconds of patience; the rest is the machine's.
        assert!(time < Duration::from_secs(8), "{time:?} until {why}");
        assert_is_dead(&link).await;
        redis.cont();
        redial(&redis.url()).await;
    });
}
