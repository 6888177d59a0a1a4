//! Proves that what `notepack.io` and the adapters of Node have written is read as Node reads it
//! and written again byte for byte; that what is written is read back; and that hostile packets are
//! refused without a panic and without memory beyond their size.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use throng_protocol::adapter::{
    Ask, Event, Form, Malformed, Opts, Packet, Reply, classic, sharded,
};
use throng_protocol::json;
use throng_protocol::socketio::check_placeholders;

#[derive(Deserialize)]
struct Vectors {
    values: Vec<Sample>,
    packets: Vec<Captured>,
}

/// `["89KKJC", {type: 2, data: ["e", value], nsp: "/"}, {rooms: [], except: [], flags: {}}]`
#[derive(Deserialize)]
struct Sample {
    what: String,
    args: String,
    attachments: Vec<String>,
    bytes: String,
    /// Whether the JSON stands for the very value.
    back: bool,
}

/// What a publish of Node held.
#[derive(Deserialize)]
struct Captured {
    kind: String,
    channel: String,
    bytes: Option<String>,
    text: Option<String>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("adapter/vectors.json")).expect("vectors")
}

fn unhex(text: &str) -> Box<[u8]> {
    assert!(text.len().is_multiple_of(2));
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(pair).collect()
}

fn unhexed(texts: &[String]) -> Vec<Box<[u8]>> {
    texts.iter().map(|text| unhex(text)).collect()
}

fn decode(bytes: &[u8]) -> Event {
    match classic::decode_event(bytes).map(|packet| packet.ask) {
        Ok(Ask::Emit(opts, event)) if opts == Opts::default() => event,
        other => panic!("{other:?}"),
    }
}

fn encode(args: &str, attachments: Vec<Box<[u8]>>) -> Result<Vec<u8>, Malformed> {
    classic::encode_event(
        "89KKJC",
        "/",
        &Opts::default(),
        &Event { args: args.into(), attachments },
    )
}

#[test]
fn values_of_node_are_read_and_written_as_node_does() {
    for Sample { what, args, attachments, bytes, back } in vectors().values {
        let (bytes, attachments) = (unhex(&bytes), unhexed(&attachments));
        let event = decode(&bytes);
        assert_eq!(*event.args, *args, "{what}");
        assert_eq!(event.attachments, attachments, "{what}");
        if back {
            let written = encode(&args, attachments).expect(&what);
            assert_eq!(*written, *bytes, "{what}");
        }
    }
}

#[test]
fn packets_of_node_are_read_and_written_as_node_does() {
    for Captured { kind, channel, bytes, text } in vectors().packets {
        let bytes = match (&bytes, &text) {
            (Some(bytes), None) => unhex(bytes),
            (None, Some(text)) => text.as_bytes().into(),
            other => panic!("{other:?}"),
        };
        let namespace = if channel.contains("/chat#") { "/chat" } else { "/" };
        let channels = classic::Channels::new("socket.io", namespace);
        let what = format!("{kind} {text:?}");
        let again = match &*kind {
            "classic event" | "emitter event" => {
                let packet = classic::decode_event(&bytes).expect(&what);
                let Ask::Emit(opts, event) = &packet.ask else { panic!("{packet:?}") };
                assert_eq!(packet.namespace.as_deref(), Some(namespace));
                let to = match &*opts.rooms {
                    [room] => channels.to_room(room),
                    _ => channels.events,
                };
                assert_eq!(channel, to);
                let uid = packet.uid.as_deref().expect("a server's");
                let written = classic::encode_event(uid, namespace, opts, event).expect(&what);
                // The emitter has the flags before those left out.
                if kind == "emitter event" { continue } else { written }
            }
            "classic request" | "emitter request" => {
                assert_eq!(channel, channels.requests);
                let packet = classic::decode_request(&bytes).expect(&what);
                let request = packet.request.as_deref();
                let Some(uid) = packet.uid.as_deref() else {
                    assert!(kind == "emitter request" && request.is_none());
                    continue;
                };
                assert_eq!(packet.form, Form::Modern);
                classic::encode_request(uid, namespace, request, &packet.ask).expect(&what)
            }
            "classic response" => {
                assert_eq!(channel, channels.responses);
                let (request, reply) = classic::decode_response(&bytes).expect(&what);
                // Ids of sockets come as they are; they are answered from their objects.
                match &reply {
                    Reply::Sockets(sockets) if sockets.iter().any(|it| it.starts_with('"')) => {
                        let socket = format!("{{\"id\":{}}}", sockets[0]).into();
                        let reply = Reply::Sockets(vec![socket]);
                        classic::encode_response(&request, Form::Ids, &reply).expect(&what)
                    }
                    _ => classic::encode_response(&request, Form::One, &reply).expect(&what),
                }
            }
            "sharded" | "sharded reply" => {
                let (to, again) = sharded_again(namespace, &bytes);
                assert!(kind == "sharded reply" || channel == to, "{what}");
                again
            }
            _ => panic!("{kind}"),
        };
        assert_eq!(again.escape_ascii().to_string(), bytes.escape_ascii().to_string(), "{what}");
    }
}

/// The channel of a packet that was read, and how it is written again.
fn sharded_again(namespace: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    match sharded::decode(bytes).expect("it is read") {
        sharded::Message::Packet(packet) => {
            assert_eq!(packet.namespace.as_deref(), Some(namespace));
            let uid = packet.uid.as_deref().expect("a server's");
            let again = sharded::encode(uid, namespace, packet.request.as_deref(), &packet.ask);
            (sharded_channel(namespace, &packet), again.expect("it is written").expect("known"))
        }
        sharded::Message::Reply { uid, request, reply, .. } => {
            let uid = uid.expect("a server's");
            let again = sharded::encode_reply(&uid, namespace, &request, &reply);
            (String::new(), again.expect("it is written").expect("known"))
        }
    }
}

fn sharded_channel(namespace: &str, packet: &Packet) -> String {
    match &packet.ask {
        Ask::Emit(opts, _) if packet.request.is_none() => match &*opts.rooms {
            [room] if sharded::Mode::Dynamic.has_channel(room) => {
                sharded::channel_of("socket.io", namespace, room)
            }
            _ => sharded::channel("socket.io", namespace),
        },
        _ => sharded::channel("socket.io", namespace),
    }
}

#[test]
fn the_emitter_is_understood() {
    let vectors = vectors().packets.into_iter();
    let emitted: Vec<Packet> = vectors
        .filter_map(|it| match &*it.kind {
            "emitter event" => classic::decode_event(&unhex(&it.bytes?)).ok(),
            "emitter request" => classic::decode_request(it.text?.as_bytes()).ok(),
            _ => None,
        })
        .collect();
    assert_eq!(emitted.len(), 7);
    let uids: Vec<_> = emitted.iter().map(|packet| packet.uid.as_deref()).collect();
    let emitter = Some("emitter");
    assert_eq!(uids, [emitter, emitter, emitter, None, None, None, emitter]);
    let Ask::Emit(opts, event) = &emitted[1].ask else { panic!("{emitted:?}") };
    assert_eq!((&*opts.rooms[0], &*opts.except[0], opts.volatile), ("room1", "b", true));
    assert_eq!(&*event.args, r#""hello",{"_placeholder":true,"num":0}"#);
    let whom = |room: &str| Opts { rooms: vec![room.into()], ..Opts::default() };
    assert_eq!(emitted[3].ask, Ask::Join(whom("room1"), vec!["a".into(), "b".into()]));
    assert_eq!(emitted[4].ask, Ask::Leave(Opts::default(), vec!["a".into()]));
    assert_eq!(emitted[5].ask, Ask::Disconnect(whom("x"), true));
    assert_eq!(emitted[6].ask, Ask::ServerSide(r#""foo","bar""#.into()));
}

#[test]
fn old_servers_are_understood() {
    for (text, form, ask) in [
        (
            r#"{"uid":"a","requestId":"r","type":0,"rooms":["x"]}"#,
            Form::Ids,
            Ask::Fetch(Opts { rooms: vec!["x".into()], ..Opts::default() }),
        ),
        (
            r#"{"uid":"a","requestId":"r","type":2,"sid":"s","room":"x"}"#,
            Form::One,
            Ask::Join(Opts { rooms: vec!["s".into()], ..Opts::default() }, vec!["x".into()]),
        ),
        (
            r#"{"uid":"a","requestId":"r","type":3,"sid":"s","room":7}"#,
            Form::One,
            Ask::Leave(Opts { rooms: vec!["s".into()], ..Opts::default() }, vec!["7".into()]),
        ),
        (
            r#"{"uid":"a","requestId":"r","type":4,"sid":"s","close":true}"#,
            Form::One,
            Ask::Disconnect(Opts { rooms: vec!["s".into()], ..Opts::default() }, true),
        ),
    ] {
        let packet = classic::decode_request(text.as_bytes()).expect(text);
        assert_eq!((packet.form, packet.ask), (form, ask));
        assert_eq!(packet.request.as_deref(), Some("r"));
    }
    let done = classic::encode_response("r", Form::One, &Reply::Done).expect("encodes");
    assert_eq!(done, br#"{"requestId":"r"}"#);
}

#[test]
fn lengths_of_every_size_have_their_heads() {
    let head = |args: &str, attachments| {
        let bytes = encode(args, attachments).expect("encodes");
        let at = bytes.windows(2).position(|pair| pair == b"\xa1e").expect("the name") + 2;
        bytes[at..at + 5].to_vec()
    };
    let text = |count: usize| format!("\"e\",\"{}\"", "x".repeat(count));
    assert_eq!(head(&text(65_535), Vec::new()), b"\xda\xff\xffxx");
    assert_eq!(head(&text(65_536), Vec::new()), b"\xdb\x00\x01\x00\x00");
    let list = |count: usize| format!("\"e\",[{}]", vec!["0"; count].join(","));
    assert_eq!(head(&list(65_535), Vec::new()), b"\xdc\xff\xff\x00\x00");
    assert_eq!(head(&list(65_536), Vec::new()), b"\xdd\x00\x01\x00\x00");
    let map = |count| {
        let pairs: Vec<String> = (0..count).map(|it| format!("\"{it}\":0")).collect();
        format!("\"e\",{{{}}}", pairs.join(","))
    };
    assert_eq!(head(&map(16), Vec::new()), b"\xde\x00\x10\xa10");
    assert_eq!(head(&map(65_536), Vec::new()), b"\xdf\x00\x01\x00\x00");
    let binary = |count: usize| vec![vec![7; count].into_boxed_slice()];
    let placeholder = r#""e",{"_placeholder":true,"num":0}"#;
    assert_eq!(head(placeholder, binary(65_535)), b"\xc5\xff\xff\x07\x07");
    assert_eq!(head(placeholder, binary(65_536)), b"\xc6\x00\x01\x00\x00");
    for args in [text(65_536), list(65_536), map(65_536)] {
        assert_eq!(*decode(&encode(&args, Vec::new()).expect("encodes")).args, *args);
    }
}

#[test]
fn numbers_are_what_javascript_reads_in_them() {
    for (json, bytes) in [
        ("1.0", &b"\x01"[..]),
        ("-0", b"\x00"),
        ("1e2", b"\x64"),
        ("9007199254740993", b"\xcf\x00\x20\x00\x00\x00\x00\x00\x00"),
        ("18446744073709551616", b"\xcb\x43\xf0\x00\x00\x00\x00\x00\x00"),
        ("1e400", b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"),
    ] {
        let written = encode(&format!("\"e\",{json}"), Vec::new()).expect(json);
        assert!(written.windows(bytes.len()).any(|part| part == bytes), "{json}");
    }
}

/// A client would take such an object for a placeholder, or break on it.
#[test]
fn what_only_looks_like_a_placeholder_becomes_none() {
    let sent = r#""e",{"_placeholder":true,"num":0}"#;
    let packed = encode(sent, Vec::new()).expect("a plain object");
    let kept = r#""e",{"_placeholder":false,"num":0}"#;
    assert_eq!(*decode(&packed).args, *kept);
    for mark in ["true", "1", "\"x\"", "[true]", r#"{"_placeholder":true}"#] {
        let text = format!(
            r#"{{"type":3,"data":{{"packet":{{"type":2,"data":["e",{{"\u005fplaceholder":{mark},
            "num":0}}]}},"opts":{{"rooms":[],"except":[],"flags":{{}}}}}},"uid":"u","nsp":"/"}}"#
        );
        let Ok(sharded::Message::Packet(Packet { ask: Ask::Emit(_, event), .. })) =
            sharded::decode(text.as_bytes())
        else {
            panic!("{text}")
        };
        assert_eq!(*event.args, *kept);
    }
    // Beside real attachments.
    let mut packed = encode(r#""e",{"_placeholder":true,"num":0}"#, vec![[7].into()]).expect("it");
    let at = packed.windows(3).position(|part| part == [0xc4, 1, 7]).expect("the attachment");
    packed.splice(at..at + 3, *b"\x92\xc4\x01\x07\x82\xac_placeholder\xc3\xa3num\x00");
    let event = decode(&packed);
    let kept = r#""e",[{"_placeholder":true,"num":0},{"_placeholder":false,"num":0}]"#;
    assert_eq!(*event.args, *kept);
    assert_eq!(event.attachments, [[7].into()]);
}

#[test]
fn placeholders_and_attachments_must_match() {
    let two = || vec![[1].into(), [2].into()];
    let bad = r#""e",{"_placeholder":true,"num":2}"#;
    assert_eq!(encode(bad, two()), Err(Malformed::Placeholder));
    let escaped = r#""e",{"\u005fplaceholder":true,"num":2}"#;
    assert_eq!(encode(escaped, two()), Err(Malformed::Placeholder));
    // Binary data among the flags belongs to no event.
    let mut packed = encode("\"e\"", Vec::new()).expect("encodes");
    assert_eq!(packed.pop(), Some(0x80));
    packed.extend_from_slice(b"\x81\xa1x\xc4\x01\x07");
    assert_eq!(classic::decode_event(&packed), Err(Malformed::Placeholder));
}

#[test]
fn hostile_packets_are_refused() {
    let deep = [vec![0x91; 1_000_000], vec![0xc0]].concat();
    let wide = b"\xdd\xff\xff\xff\xff\xc0".to_vec();
    let long = b"\x93\xdb\xff\xff\xff\xffabc".to_vec();
    let json = format!(r#"{{"uid":"a","type":6,"data":["x",{}1"#, "[".repeat(1_000_000));
    for bytes in [&deep, &wide, &long, json.as_bytes(), b"", b"{", b"\xc1", b"\x93\xa1u\xc0\xc0"] {
        assert!(classic::decode_event(bytes).is_err());
        assert!(classic::decode_request(bytes).is_err());
        assert!(classic::decode_response(bytes).is_err());
        assert!(sharded::decode(bytes).is_err());
    }
    let whole = encode("\"e\",[1,\"x\",{\"a\":2.5}]", Vec::new()).expect("encodes");
    for end in 0..whole.len() {
        assert!(classic::decode_event(&whole[..end]).is_err(), "cut at {end}");
    }
    let more = [&*whole, b"\xc0"].concat();
    assert_eq!(classic::decode_event(&more), Err(Malformed::Trailing));
}

#[test]
fn binary_answers_are_written_as_json_does() {
    let mut packed =
        classic::encode_response("r", Form::Modern, &Reply::Acked("null".into(), vec![]))
            .expect("encodes");
    assert_eq!(packed.pop(), Some(0xc0));
    packed.extend_from_slice(b"\xc4\x02\x01\xff");
    let (_, reply) = classic::decode_response(&packed).expect("decodes");
    assert_eq!(reply, Reply::Acked(r#"{"type":"Buffer","data":[1,255]}"#.into(), vec![]));
}

#[test]
fn namespaces_are_no_patterns() {
    let channels = classic::Channels::new("x:socket.io", "/a*[b]?\\^");
    assert_eq!(channels.pattern(), "x:socket.io#/a\\*\\[b\\]\\?\\\\\\^#*");
    assert_eq!(channels.responses_to("u"), "x:socket.io-response#/a*[b]?\\^#u#");
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::from),
        any::<f32>().prop_map(|it| Value::from(f64::from(it))),
        "\\PC{0,40}".prop_map(Value::from),
        "[\\x00-\\x7f\u{d7ff}-\u{e000}]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"\\\\é]{0,6}", inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The same, numbers as precisely as `serde_json` reads them (it may be off by the last bit).
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            let (left, right) = (left.as_f64().expect("it"), right.as_f64().expect("it"));
            left == right || ((left - right) / right).abs() < 1e-15
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(l, r)| l.0 == r.0 && same(l.1, r.1))
        }
        _ => left == right,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_event_comes_back(
        value in value(),
        binary in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4),
        rooms in prop::collection::vec("\\PC{0,30}", 0..3),
        volatile in any::<bool>(),
    ) {
        let attachments: Vec<Box<[u8]>> = binary.into_iter().map(Into::into).collect();
        let mut args = format!("\"e\", {value}");
        for num in 0..attachments.len() {
            args += &format!(" ,{{ \"num\" : {num}, \"_placeholder\" : true }}");
        }
        let opts = Opts {
            rooms: rooms.iter().map(|room| room.as_str().into()).collect(),
            except: vec!["x".into()],
            volatile,
            timeout_ms: None,
        };
        let event = Event { args: args.into(), attachments };
        let bytes = classic::encode_event("me", "/n", &opts, &event).expect("encodes");
        let packet = classic::decode_event(&bytes).expect("decodes");
        let Ask::Emit(again_opts, again) = packet.ask else { unreachable!() };
        prop_assert_eq!(again_opts, opts);
        prop_assert_eq!(&again.attachments, &event.attachments);
        let read = |args: &str| serde_json::from_str::<Value>(&format!("[{args}]")).expect("JSON");
        prop_assert!(same(&read(&again.args)[1], &value), "{} {}", again.args, value);
        check_placeholders(&again.args, again.attachments.len() as u32).expect("in range");
    }

    #[test]
    fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = classic::decode_event(&bytes);
        let _ = classic::decode_request(&bytes);
        let _ = classic::decode_response(&bytes);
        let _ = sharded::decode(&bytes);
    }

    #[test]
    fn changed_packets_are_borne(index in 0..200_usize, at in any::<usize>(), byte in any::<u8>()) {
        let packets = vectors().packets;
        let packet = &packets[index % packets.len()];
        let mut bytes = packet.text.as_ref().map_or_else(
            || unhex(packet.bytes.as_ref().expect("one of both")).into_vec(),
            |text| text.clone().into_bytes(),
        );
        let at = at % bytes.len();
        bytes[at] = byte;
        for ask in [
            classic::decode_event(&bytes).map(|packet| packet.ask),
            classic::decode_request(&bytes).map(|packet| packet.ask),
        ] {
            if let Ok(Ask::Emit(_, Event { args, attachments })) = ask {
                let list = format!("[{args}]");
                prop_assert!(json::is_valid(&list));
                check_placeholders(&args, attachments.len() as u32).expect("in range");
            }
        }
        let _ = classic::decode_response(&bytes);
        let _ = sharded::decode(&bytes);
    }
}
