//! What is said on the channels of Node's adapters, and what is made of what is said there. The
//! other side is Redis itself and the codecs, which are proved against Node's own bytes; real Node
//! servers are in the suites over the whole engine.

use std::sync::atomic::Ordering::Relaxed;

use redis::{Connection, PubSubCommands as _};
use throng_protocol::adapter::{Ask, Event, Form, Opts, Packet, Reply, classic};

use super::*;

const NODE: &str = "89KKJC";

/// What Redis brings to somebody else: all that is published on plain channels.
fn overhear(redis: &Redis) -> std::sync::mpsc::Receiver<(String, Vec<u8>)> {
    let client = redis::Client::open(redis.url()).expect("a client");
    let mut connection = client.get_connection().expect("a connection");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = connection.psubscribe("*", |message| {
            let channel = message.get_channel_name().to_owned();
            match sender.send((channel, message.get_payload_bytes().to_vec())) {
                Ok(()) => redis::ControlFlow::Continue,
                Err(_) => redis::ControlFlow::Break(()),
            }
        });
    });
    until("somebody listens", || redis.cli(&["pubsub", "numpat"]) != "0");
    receiver
}

pub(super) fn connect(redis: &Redis) -> Connection {
    let client = redis::Client::open(redis.url()).expect("a client");
    client.get_connection().expect("a connection")
}

pub(super) fn publish(connection: &mut Connection, word: &str, channel: &str, payload: &[u8]) {
    let _: usize = redis::cmd(word).arg(channel).arg(payload).query(connection).expect("published");
}

pub(super) fn opts(rooms: &[&str]) -> Opts {
    let rooms = rooms.iter().map(|room| (*room).into()).collect();
    Opts { rooms, ..Opts::default() }
}

fn event(namespace: &str, rooms: &[&str], args: &str) -> Vec<u8> {
    let event = Event { args: args.into(), attachments: Vec::new() };
    classic::encode_event(NODE, namespace, &opts(rooms), &event).expect("encodes")
}

pub(super) fn within(namespace: &str, rooms: &[&str], deed: Deed) -> Cast {
    Cast { reach: reach(namespace, rooms), deed }
}

fn classics(redis: &Redis, count: u32) -> Vec<Host> {
    let hosts = (1..=count).map(|host| Host::start(redis, host, Adapter::Classic, 2)).collect();
    until_heard(redis, "numsub", "x:socket.io-request#/#", count as usize);
    hosts
}

#[test]
fn casts_are_published_as_node_does() {
    let redis = Redis::start();
    let heard = overhear(&redis);
    let host = classics(&redis, 1).remove(0);
    let hear = || heard.recv_timeout(PATIENCE).expect("something is published");
    for (rooms, channel) in [
        (&[][..], "x:socket.io#/#"),
        (&["a*#"], "x:socket.io#/#a*##"),
        (&["a", "b"], "x:socket.io#/#"),
    ] {
        host.cast(0, within("/", rooms, emit("\"e\",1", &[], None)), false, true);
        let (to, payload) = hear();
        let packet = classic::decode_event(&payload).expect("an event");
        assert_eq!((&*to, packet.uid.as_deref()), (channel, Some("throng-00000001")));
        let args = Event { args: "\"e\",1".into(), attachments: Vec::new() };
        assert_eq!(packet.ask, Ask::Emit(opts(rooms), args));
    }
    for (deed, json) in [
        (
            Deed::Join(vec!["b".into()]),
            r#""type":2,"opts":{"rooms":["a"],"except":[]},"rooms":["b"]}"#,
        ),
        (
            Deed::Leave(vec!["b".into()]),
            r#""type":3,"opts":{"rooms":["a"],"except":[]},"rooms":["b"]}"#,
        ),
        (Deed::Disconnect(true), r#""type":4,"opts":{"rooms":["a"],"except":[]},"close":true}"#),
        (Deed::ServerSide { args: "\"e\"".into(), answer: None }, r#""type":6,"data":["e"]}"#),
    ] {
        host.cast(0, within("/n", &["a"], deed), false, true);
        let (to, payload) = hear();
        assert_eq!(to, "x:socket.io-request#/n#");
        let whole = format!("{{\"uid\":\"throng-00000001\",{json}");
        assert_eq!(String::from_utf8_lossy(&payload), whole);
    }
    assert_eq!(host.stats.adapter_sent.load(Relaxed), 7);
}

#[test]
fn a_node_server_answers_once_it_is_counted() {
    let redis = Redis::start();
    let hosts = classics(&redis, 2);
    let host = &hosts[0];
    host.cast(0, to_all(Deed::Fetch(1)), false, true);
    let nobody = CastAnswer::Sockets(Vec::new());
    assert_eq!(host.answered(0), (1, nobody), "hosts are no Node servers");
    let heard = overhear(&redis);
    let mut node = connect(&redis);
    let mut counted = connect(&redis);
    let mut counted = counted.as_pubsub();
    counted.subscribe("x:socket.io-request#/#").expect("subscribed");
    let asked = || {
        let (channel, payload) = heard.recv_timeout(PATIENCE).expect("a request");
        assert_eq!(channel, "x:socket.io-request#/#");
        let Packet { request, ask, .. } = classic::decode_request(&payload).expect("a request");
        (request.expect("it wants answers"), ask)
    };
    let mut reply = |channel: &str, request: &str, reply: Reply| {
        let payload = classic::encode_response(request, Form::Modern, &reply).expect("encodes");
        publish(&mut node, "PUBLISH", channel, &payload);
        heard.recv_timeout(PATIENCE).expect("the answer");
    };
    let (common, own) = ("x:socket.io-response#/#", "x:socket.io-response#/#throng-00000001#");
    for channel in [common, own] {
        host.cast(1, within("/", &["a"], Deed::Fetch(2)), false, true);
        let (request, ask) = asked();
        assert_eq!(ask, Ask::Fetch(opts(&["a"])));
        reply(channel, "another", Reply::Sockets(vec!["{\"id\":0}".into()]));
        reply(channel, &request, Reply::Sockets(vec!["{\"id\":1}".into()]));
        assert_eq!(host.answered(1), (2, CastAnswer::Sockets(vec!["{\"id\":1}".into()])));
    }
    host.cast(0, to_all(emit("\"e\"", &[], Some((3, 60_000)))), false, true);
    let (request, ask) = asked();
    let Ask::Emit(Opts { timeout_ms: Some(60_000), .. }, _) = ask else { panic!("{ask:?}") };
    reply(common, &request, Reply::Count(1));
    reply(common, &request, Reply::Acked("null".into(), vec![]));
    assert_eq!(host.answered(0), (3, CastAnswer::Asked(1)));
    assert_eq!(host.answered(0), (3, CastAnswer::Acked("null".into(), vec![])));
    assert!(hosts[1].poll(0).is_none(), "the other host hears no host on Node's channels");
}

#[test]
fn what_node_servers_say_is_heard_once() {
    let redis = Redis::start();
    let hosts = classics(&redis, 2);
    let mut node = connect(&redis);
    let mut say = |channel: &str, payload: &[u8]| publish(&mut node, "PUBLISH", channel, payload);
    // Neither of another namespace, nor of another channel, nor unreadable.
    say("x:socket.io#/#", &event("/n", &[], "\"no\""));
    say("x:socket.io#/n#", &event("/n", &[], "\"no\""));
    say("x:socket.io#/#", b"junk");
    say("x:socket.io-request#/#", b"{junk");
    say("socket.io#/#", &event("/", &[], "\"no\""));
    say("x:socket.io#/#a*##", &event("/", &["a*#"], "\"yes\""));
    say("x:socket.io-request#/#", br#"{"type":4,"opts":{"rooms":["r"]},"close":true}"#);
    for host in &hosts {
        let (cast, request) = host.heard();
        assert_eq!((&*cast, request), (&within("/", &["a*#"], emit("\"yes\"", &[], None)), None));
        assert_eq!(*host.heard().0, within("/", &["r"], Deed::Disconnect(true)));
        assert_eq!(host.stats.adapter_malformed.load(Relaxed), 2);
    }
    // A cast names a namespace; what is a pattern in its name is none.
    for host in &hosts {
        host.cast(0, within("/n*", &[], Deed::Join(Vec::new())), false, true);
    }
    until_heard(&redis, "numsub", "x:socket.io-request#/n*#", 2);
    say("x:socket.io#/nn#", &event("/nn", &[], "\"no\""));
    say("x:socket.io#/n*#", &event("/n*", &[], "\"yes\""));
    for host in &hosts {
        assert_eq!(host.heard().0.reach, reach("/n*", &[]));
        assert!(host.poll(0).is_none());
    }
}

#[test]
fn node_servers_requests_are_answered_in_their_form() {
    let redis = Redis::start();
    let host = classics(&redis, 1).remove(0);
    let heard = overhear(&redis);
    let mut node = connect(&redis);
    let mut ask = |json: &str| {
        publish(&mut node, "PUBLISH", "x:socket.io-request#/#", json.as_bytes());
        heard.recv_timeout(PATIENCE).expect("the request itself");
        host.heard()
    };
    let answered = || {
        let (channel, payload) = heard.recv_timeout(PATIENCE).expect("an answer");
        assert_eq!(channel, "x:socket.io-response#/#");
        String::from_utf8(payload).expect("JSON")
    };
    let socket = |id: &str| CastAnswer::Sockets(vec![format!("{{\"id\":\"{id}\"}}").into()]);

    let (cast, request) = ask(r#"{"uid":"89KKJC","requestId":"r1","type":0,"rooms":["a"]}"#);
    let request = request.expect("it wants an answer");
    assert_eq!(*cast, within("/", &["a"], Deed::Fetch(request)));
    host.answer(0, request, socket("s1"));
    host.answer(1, request, socket("s2"));
    assert_eq!(answered(), r#"{"requestId":"r1","sockets":["s1","s2"]}"#);

    let request = ask(r#"{"uid":"89KKJC","requestId":"r2","type":1}"#).1.expect("it wants one");
    host.answer(0, request, CastAnswer::Rooms(Vec::new()));
    host.answer(1, request, CastAnswer::Rooms(vec!["b".into()]));
    assert_eq!(answered(), r#"{"requestId":"r2","rooms":["b"]}"#);

    for found in [false, true] {
        let (cast, request) = ask(r#"{"uid":"u","requestId":"r3","type":2,"sid":"s1","room":"x"}"#);
        let request = request.expect("it wants an answer");
        assert_eq!(*cast, within("/", &["s1"], Deed::Fetch(request)));
        assert_eq!(*host.heard().0, within("/", &["s1"], Deed::Join(vec!["x".into()])));
        let owner = if found { socket("s1") } else { CastAnswer::Sockets(Vec::new()) };
        host.answer(0, request, owner);
        host.answer(1, request, CastAnswer::Sockets(Vec::new()));
    }
    assert_eq!(answered(), r#"{"requestId":"r3"}"#);

    let empty = r#"{"requestId":"r4","sockets":[]}"#;
    let json = r#"{"uid":"u","requestId":"r4","type":5,"opts":{"rooms":[],"except":[]}}"#;
    let request = ask(json).1.expect("it wants an answer");
    for shard in [0, 1] {
        host.answer(shard, request, CastAnswer::Sockets(Vec::new()));
    }
    assert_eq!(answered(), empty, "also with nothing to say");

    let request = ask(r#"{"uid":"u","requestId":"r5","type":6,"data":["e"]}"#).1.expect("asks");
    host.answer(0, request, CastAnswer::Asked(0));
    host.answer(1, request, CastAnswer::ServerSide("{}".into()));
    assert_eq!(answered(), r#"{"type":6,"requestId":"r5","data":{}}"#);
}

#[test]
fn everything_is_subscribed_to_again() {
    let mut redis = Redis::start();
    let host = Host::start(&redis, 1, Adapter::Sharded(Mode::Dynamic), 1);
    host.orders.send(Order::Room("a".into(), true)).expect("it lives");
    host.orders.send(Order::Room("/m\0b".into(), true)).expect("it lives");
    host.cast(0, within("/n", &[], Deed::Join(Vec::new())), false, true);
    for _ in 0..2 {
        let of_rooms = ["x:socket.io#/#a#", "x:socket.io#/m#b#"];
        let of_all = ["x:socket.io#/#", "x:socket.io#/m#", "x:socket.io#/n#"];
        for channel in of_rooms.into_iter().chain(of_all) {
            until_heard(&redis, "shardnumsub", channel, 1);
        }
        redis.restart();
    }
}

/// A user of Redis that may not do something breaks no more than that.
#[test]
fn what_redis_refuses_is_given_up() {
    let redis = Redis::start();
    let allowed = ["&x:throng:*", "&x:socket.io*", "&x:socket.io#/#*"];
    redis.cli(&[&["acl", "setuser", "default", "resetchannels"][..], &allowed].concat());
    let hosts = classics(&redis, 2);
    for host in &hosts {
        host.cast(0, within("/n", &[], Deed::Join(Vec::new())), false, true);
    }
    // The pattern of that namespace is not among the allowed ones: the link ends, once.
    until("the link is lost", || redis.cli(&["acl", "log"]).contains("x:socket.io#/n#*"));
    until_heard(&redis, "numsub", "x:socket.io-request#/#", 2);
    let mut node = connect(&redis);
    for (index, host) in hosts.iter().enumerate() {
        let other = &hosts[1 - index];
        until("hosts hear each other", || {
            host.cast(0, to_all(Deed::Disconnect(false)), true, false);
            other.poll(0).is_some()
        });
    }
    let refused = redis.cli(&["info", "stats"]);
    let refused = refused.lines().find(|line| line.starts_with("acl_access_denied_channel"));
    assert!(refused.is_none_or(|line| line.trim_end().ends_with(":2")), "{refused:?}");
    publish(&mut node, "PUBLISH", "x:socket.io#/#", &event("/", &[], "\"yes\""));
    for host in &hosts {
        while host.heard().0.deed == Deed::Disconnect(false) {}
    }
}

/// Redis before version 7 has no sharded channels.
#[test]
fn hosts_do_without_what_redis_does_not_know() {
    let redis = Redis::start_with(&["--rename-command", "SSUBSCRIBE", ""]);
    let hosts: Vec<_> = [1, 2]
        .map(|host| Host::start(&redis, host, Adapter::Sharded(Mode::Dynamic), 1))
        .into_iter()
        .collect();
    for (host, other) in [(&hosts[0], &hosts[1]), (&hosts[1], &hosts[0])] {
        until("hosts hear each other", || {
            host.cast(0, to_all(Deed::Disconnect(false)), true, false);
            other.poll(0).is_some()
        });
    }
    assert_eq!(redis.cli(&["pubsub", "numsub", "x:throng:all"]).lines().last(), Some("2"));
}
