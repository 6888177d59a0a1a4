//! The modes of `createShardedAdapter`: what is subscribed to.

use redis::Connection;
use throng_protocol::adapter::{Ask, Event, sharded};

use super::nodes::{connect, opts, publish, within};
use super::*;

/// What a Node server with `createShardedAdapter` says.
fn shout(connection: &mut Connection, rooms: &[&str], channel: &str) {
    let event = Event { args: "\"e\"".into(), attachments: vec![] };
    let payload = sharded::encode("e2447c5b57933689", "/", None, &Ask::Emit(opts(rooms), event));
    let payload = payload.expect("encodes").expect("known");
    publish(connection, "SPUBLISH", channel, &payload);
}

#[test]
fn sharded_rooms_are_heard_while_they_have_members() {
    let redis = Redis::start();
    let host = Host::start(&redis, 1, Adapter::Sharded(Mode::Dynamic), 1);
    let room = |open| host.orders.send(Order::Room("a".into(), open)).expect("it lives");
    until_heard(&redis, "shardnumsub", "x:socket.io#/#", 1);
    let mut node = connect(&redis);
    for open in [true, false, true] {
        room(open);
        until_heard(&redis, "shardnumsub", "x:socket.io#/#a#", usize::from(open));
        shout(&mut node, &["a"], "x:socket.io#/#a#");
        shout(&mut node, &[], "x:socket.io#/#");
        if open {
            assert_eq!(*host.heard().0, within("/", &["a"], emit("\"e\"", &[], None)));
        }
        assert_eq!(*host.heard().0, within("/", &[], emit("\"e\"", &[], None)));
    }
}

const SOCKET: &str = "0123456789abcdefghij";

/// What each mode subscribes to, and where it says what is for one room or one socket: as Node's.
#[test]
fn each_mode_has_its_own_channels() {
    let (room, socket) = ("x:socket.io#/#a#", format!("x:socket.io#/#{SOCKET}#"));
    let basics = ["x:socket.io#/#", "x:socket.io#/#throng-00000001#"];
    for (mode, own) in [
        (Mode::Static, &[][..]),
        (Mode::Dynamic, &[room]),
        (Mode::DynamicPrivate, &[room, &socket]),
    ] {
        let redis = Redis::start();
        let host = Host::start(&redis, 1, Adapter::Sharded(mode), 1);
        host.orders.send(Order::Room("a".into(), true)).expect("it lives");
        host.socket("/", SOCKET, true);
        host.cast(0, within("/last", &[], Deed::Join(Vec::new())), false, true);
        until_heard(&redis, "shardnumsub", "x:socket.io#/last#", 1);
        let subscribed = || {
            let all = redis.cli(&["pubsub", "shardchannels", "x:socket.io#/#*"]);
            let mut all: Vec<String> = all.lines().map(str::to_owned).collect();
            all.sort();
            all
        };
        let mut expected = [&basics[..], own].concat();
        expected.sort_unstable();
        until("all is subscribed to", || subscribed().len() == expected.len());
        assert_eq!(subscribed(), expected, "{mode:?}");
    }
}

#[test]
fn a_socket_is_heard_for_as_long_as_it_is_here() {
    let mut redis = Redis::start();
    let host = Host::start(&redis, 1, Adapter::Sharded(Mode::DynamicPrivate), 1);
    let channel = format!("x:socket.io#/#{SOCKET}#");
    host.socket("/", SOCKET, true);
    until_heard(&redis, "shardnumsub", &channel, 1);
    shout(&mut connect(&redis), &[SOCKET], &channel);
    assert_eq!(*host.heard().0, within("/", &[SOCKET], emit("\"e\"", &[], None)));
    // Who is done by another's room of that name is still there.
    for open in [true, false] {
        host.orders.send(Order::Room(SOCKET.into(), open)).expect("it lives");
    }
    redis.restart();
    until_heard(&redis, "shardnumsub", &channel, 1);
    shout(&mut connect(&redis), &[SOCKET], &channel);
    assert_eq!(*host.heard().0, within("/", &[SOCKET], emit("\"e\"", &[], None)));
    host.socket("/", SOCKET, false);
    until_heard(&redis, "shardnumsub", &channel, 0);
}

/// Also while Redis is away, and faster than it is told.
#[test]
fn many_sockets_are_heard_as_they_are_at_last() {
    let mut redis = Redis::start();
    let host = Host::start(&redis, 1, Adapter::Sharded(Mode::DynamicPrivate), 1);
    let come_and_go = |kind: &str| {
        for n in 0..3000 {
            host.socket("/", &format!("{kind}{n}"), true);
            host.socket("/", &format!("{kind}{n}"), n % 3 == 0);
        }
    };
    until_heard(&redis, "shardnumsub", "x:socket.io#/#", 1);
    come_and_go("a");
    let count = |redis: &Redis, kind: &str| {
        let pattern = format!("x:socket.io#/#{kind}*");
        redis.cli(&["pubsub", "shardchannels", &pattern]).lines().count()
    };
    until("those that stay are heard", || count(&redis, "a") == 1000);
    redis.kill();
    come_and_go("b");
    (0..3000).for_each(|n| host.socket("/", &format!("a{n}"), false));
    redis.restart();
    until("those that stay are heard again", || count(&redis, "b") == 1000);
    assert_eq!(count(&redis, "a"), 0);
}
