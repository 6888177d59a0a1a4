//! A cluster: who has what, sharded channels, and every change of the topology.

use std::time::{Duration, Instant};

use redis::Value;

use super::support::{
    assert_is_dead, command, lost, message, on_one_thread, open, redial, send, try_open,
};
use crate::processes::Cluster;

/// Rooms' channels in many slots, several in each.
fn channels() -> Vec<String> {
    (0..1_200).map(|i| format!("throng:{{p{:03}}}:events:room {i}", i % 64)).collect()
}

#[test]
fn every_key_and_channel_is_at_its_node() {
    let cluster = Cluster::start(3);
    on_one_thread(async {
        let (link, mut pushes) = open(&cluster.url()).await;
        assert!(link.is_cluster());
        assert_eq!(link.nodes_count(), 3);
        let channels = channels();
        link.subscribe(&channels, true).await.expect("confirmed");
        let mut nodes = [0; 3];
        for channel in &channels {
            let key = channel.replace("events", "meta");
            assert_eq!(link.node_of(&key), link.node_of(channel), "one room, one node");
            nodes[link.node_of(channel)] += 1;
            assert_eq!(send(&link, &["SET", &key, "1"]).await, Value::Okay);
            assert_eq!(send(&link, &["SPUBLISH", channel, &key]).await, Value::Int(1));
            assert_eq!(message(&mut pushes).await, (channel.clone(), key));
        }
        assert!(nodes.iter().all(|count| *count > 0), "{nodes:?}");
        link.unsubscribe(&channels[..600], true).await.expect("confirmed");
        assert_eq!(send(&link, &["SPUBLISH", &channels[0], ""]).await, Value::Int(0));
        assert_eq!(send(&link, &["SPUBLISH", &channels[600], ""]).await, Value::Int(1));
        // Longer than a look at the topology: what this side ended does not end the link.
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(send(&link, &["SPUBLISH", &channels[601], ""]).await, Value::Int(1));
    });
}

#[test]
fn plain_channels_arrive_from_wherever_they_are_published() {
    let cluster = Cluster::start(3);
    on_one_thread(async {
        let (link, mut pushes) = open(&cluster.url()).await;
        let hosts: Vec<String> = (0..20).map(|i| format!("throng:host:{i:08x}")).collect();
        link.subscribe(&hosts, false).await.expect("confirmed");
        link.subscribe_patterns(&["socket.io*".to_owned()]).await.expect("confirmed");
        for host in hosts.iter().chain([&"socket.io#/#".to_owned()]) {
            for node in 0..3 {
                let publish = command(&["PUBLISH", host, &node.to_string()]);
                link.send(node, &[publish]).await.expect("published");
                assert_eq!(message(&mut pushes).await, (host.clone(), node.to_string()));
            }
        }
    });
}

#[test]
fn a_slot_that_moves_ends_the_link() {
    let cluster = Cluster::start(3);
    on_one_thread(async {
        let (link, mut pushes) = open(&cluster.url()).await;
        let key = "throng:{p007}:meta:x";
        let channel = "throng:{p007}:events:x".to_owned();
        send(&link, &["SET", key, "kept"]).await;
        link.subscribe(std::slice::from_ref(&channel), true).await.expect("confirmed");
        let to = (cluster.node_of(key) + 1) % 3;
        let start = Instant::now();
        cluster.move_slot_of(key, to);
        let (why, _) = lost(&mut pushes).await;
        assert!(why.contains("slot has moved"), "{why}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert_is_dead(&link).await;
        let (link, mut pushes) = redial(&cluster.url()).await;
        assert_eq!(send(&link, &["GET", key]).await, Value::BulkString(b"kept".to_vec()));
        link.subscribe(std::slice::from_ref(&channel), true).await.expect("confirmed");
        assert_eq!(send(&link, &["SPUBLISH", &channel, "y"]).await, Value::Int(1));
        assert_eq!(message(&mut pushes).await, (channel, "y".to_owned()));
    });
}

#[test]
fn a_slot_that_moves_without_subscriptions_ends_the_link_by_an_answer_or_a_look() {
    let cluster = Cluster::start(3);
    on_one_thread(async {
        let key = "throng:{p007}:meta:x";
        let (by_answer, mut answer_pushes) = open(&cluster.url()).await;
        let (_by_look, mut look_pushes) = open(&cluster.url()).await;
        cluster.move_slot_of(key, (cluster.node_of(key) + 1) % 3);
        let node = by_answer.node_of(key);
        let error = by_answer.send(node, &[command(&["GET", key])]).await.expect_err("moved");
        assert!(error.to_string().contains("MOVED"), "{error}");
        lost(&mut answer_pushes).await;
        let (why, _) = lost(&mut look_pushes).await;
        assert!(why.contains("topology"), "{why}");
    });
}

#[test]
fn a_killed_master_is_replaced_by_its_replica() {
    let mut cluster = Cluster::start_with(3, 1);
    on_one_thread(async {
        let url = cluster.url();
        let key = "throng:{p007}:meta:x";
        let (link, mut pushes) = open(&url).await;
        let master = cluster.node_of(key);
        cluster.nodes[master].kill();
        lost(&mut pushes).await;
        assert_is_dead(&link).await;
        let (link, _pushes) = redial(&url).await;
        assert_eq!(send(&link, &["SET", key, "1"]).await, Value::Okay);
    });
}

#[test]
fn what_is_no_cluster_is_told() {
    let cluster = Cluster::start(3);
    let redis = crate::processes::Redis::start();
    on_one_thread(async {
        let error = try_open(&cluster.nodes[0].url()).await.err().expect("one node alone");
        assert!(error.to_string().contains("must name several of its nodes"), "{error}");
        let two = format!("{},{}", redis.url(), redis.url());
        let error = try_open(&two).await.err().expect("no cluster");
        assert!(error.to_string().contains("cluster support disabled"), "{error}");
    });
}
