//! Tests of whole packets: the specification's examples, the hostile matrix, round trips.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    attachments_max: 10,
    depth_max: 32,
    namespace_bytes_max: 32,
    event_name_bytes_max: 32,
    packet_bytes_max: 1000,
};

fn decode(text: &str) -> Result<Packet<'_>, DecodeError> {
    Assembler::default().text(text, &LIMITS).map(|packet| packet.expect("no attachments owed"))
}

fn packet<'a>(kind: Kind, namespace: &'a str, id: Option<u64>, data: &'a str) -> Packet<'a> {
    Packet { kind, namespace, id, data, attachments: &[] }
}

/// What a packet looks like on the wire, without the Engine.IO `4`.
fn encode(packet: &Packet<'_>) -> String {
    let mut out = Vec::new();
    let Packet { kind, namespace, id, data, attachments } = *packet;
    write_packet(&mut out, kind, attachments.len(), namespace, id, data);
    String::from_utf8(out).expect("text").split_off(1)
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn idle_state_is_a_pointer() {
    assert_eq!(size_of::<Assembler>(), 8);
    assert_eq!(Assembler::default().held_bytes(), 0);
}

#[test]
fn examples_of_the_specification() {
    for (text, expected) in [
        ("0", packet(Kind::Connect, "/", None, "")),
        ("0{}", packet(Kind::Connect, "/", None, "{}")),
        (r#"0/admin,{"token":"t"}"#, packet(Kind::Connect, "/admin", None, r#"{"token":"t"}"#)),
        ("0/custom,", packet(Kind::Connect, "/custom", None, "")),
        ("0/custom?a=b,", packet(Kind::Connect, "/custom?a=b", None, "")),
        (r#"2["foo"]"#, packet(Kind::Event, "/", None, r#"["foo"]"#)),
        (r#"2/admin,12["foo"]"#, packet(Kind::Event, "/admin", Some(12), r#"["foo"]"#)),
        (r#"3/admin,12["bar"]"#, packet(Kind::Ack, "/admin", Some(12), r#"["bar"]"#)),
        ("30[]", packet(Kind::Ack, "/", Some(0), "[]")),
        ("1", packet(Kind::Disconnect, "/", None, "")),
        ("1/admin,", packet(Kind::Disconnect, "/admin", None, "")),
        (
            r#"4/nope,{"message":"Invalid namespace"}"#,
            packet(Kind::ConnectError, "/nope", None, r#"{"message":"Invalid namespace"}"#),
        ),
        (r#"4"text""#, packet(Kind::ConnectError, "/", None, r#""text""#)),
        ("2[1,2]", packet(Kind::Event, "/", None, "[1,2]")),
    ] {
        assert_eq!(decode(text), Ok(expected), "{text}");
        assert_eq!(encode(&expected), text);
    }
}

#[test]
fn spellings_that_are_tolerated() {
    assert_eq!(decode("0/custom"), Ok(packet(Kind::Connect, "/custom", None, "")));
    assert_eq!(decode("0/,{}"), Ok(packet(Kind::Connect, "/", None, "{}")));
    assert_eq!(decode("2 [\"a\"]\n"), Ok(packet(Kind::Event, "/", None, "[\"a\"]")));
    let nested = r#"2["a",{"x":1e999,"x":{"__proto__":123456789012345678901234567890}}]"#;
    assert_eq!(decode(nested).map(|p| p.data), Ok(&nested[1..]));
}

#[test]
fn packets_that_are_none() {
    for (text, error) in [
        ("", DecodeError::UnknownKind),
        ("abc", DecodeError::UnknownKind),
        ("7", DecodeError::UnknownKind),
        ("é", DecodeError::UnknownKind),
        ("2{}", DecodeError::Payload),
        ("2abc[\"x\"]", DecodeError::Json),
        ("2", DecodeError::Payload),
        ("2[]", DecodeError::EventName),
        ("2[{}]", DecodeError::EventName),
        ("2[[\"a\"]]", DecodeError::EventName),
        ("2[null]", DecodeError::EventName),
        ("2[\"disconnect\"]", DecodeError::EventNameReserved),
        ("2[\"\\u0063onnect\"]", DecodeError::EventNameReserved),
        ("2[\"a\"]x", DecodeError::Json),
        ("2[\"a\",]", DecodeError::Json),
        ("2-[\"a\"]", DecodeError::Json),
        ("21-[\"a\"]", DecodeError::Json),
        ("2/admin", DecodeError::Payload),
        ("0[]", DecodeError::Payload),
        ("0\"a\"", DecodeError::Payload),
        ("0null", DecodeError::Payload),
        ("0 ", DecodeError::Json),
        ("1{}", DecodeError::Payload),
        ("3{}", DecodeError::Payload),
        ("3", DecodeError::Payload),
        ("4[]", DecodeError::Payload),
        ("4", DecodeError::Payload),
        ("218446744073709551616[\"a\"]", DecodeError::Id),
        ("2/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,[\"a\"]", DecodeError::NamespaceTooLong),
        ("2[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]", DecodeError::EventNameTooLong),
    ] {
        assert_eq!(decode(text), Err(error), "{text}");
    }
    let largest = "218446744073709551615[\"a\"]";
    assert_eq!(decode(largest).map(|p| p.id), Ok(Some(u64::MAX)));
}

#[test]
fn depth_is_checked_before_anything_recurses() {
    let deep = |n: usize| format!("2[\"a\",{}{}]", "[".repeat(n), "]".repeat(n));
    assert!(decode(&deep(31)).is_ok());
    assert_eq!(decode(&deep(32)), Err(DecodeError::TooDeep));
    assert_eq!(decode(&deep(1_000_000)), Err(DecodeError::TooDeep));
    assert_eq!(decode(&format!("2{}", "{\"a\":".repeat(1_000_000))), Err(DecodeError::TooDeep));
}

#[test]
fn attachment_counts() {
    let first = |text: &str| Assembler::default().text(text, &LIMITS).map(|p| p.is_none());
    let ph = r#"["x",{"_placeholder":true,"num":0}]"#;
    assert_eq!(first(&format!("51-{ph}")), Ok(true));
    assert_eq!(first(&format!("510-{ph}")), Ok(true));
    for count in ["0-", "11-", "5999999-", "99999999999999-", "-", "", "1", "-1-", "1.5-", "+1-"] {
        assert_eq!(first(&format!("5{count}{ph}")), Err(DecodeError::Attachments), "{count}");
    }
    let beyond = r#"51-["x",{"_placeholder":true,"num":1}]"#;
    assert_eq!(first(beyond), Err(DecodeError::Placeholder));
    assert_eq!(first(r#"51-["connect"]"#), Err(DecodeError::EventNameReserved));
    assert_eq!(first(r#"61-{"x":1}"#), Err(DecodeError::Payload));
    assert_eq!(first(r#"52-["none of them is used"]"#), Ok(true));
}

#[test]
fn binary_packets_are_whole_with_their_last_attachment() {
    let placeholders = r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    let mut assembler = Assembler::default();
    let text = format!("62-/admin,789{placeholders} ");
    assert_eq!(assembler.text(&text, &LIMITS), Ok(None));
    assert!(!assembler.is_idle());
    assembler.binary(&[1, 2], &LIMITS, |_| panic!("one is still owed")).expect("owed");
    let mut seen = None;
    assembler
        .binary(&[], &LIMITS, |packet| {
            assert_eq!(packet.attachments, [Box::from([1, 2]), Box::from([])]);
            assert_eq!((packet.namespace, packet.id), ("/admin", Some(789)));
            assert_eq!((packet.kind, packet.data), (Kind::BinaryAck, placeholders));
            seen = Some(encode(&packet));
        })
        .expect("owed");
    assert_eq!(seen.as_deref(), Some(text.trim_end()));
    assert!(assembler.is_idle() && assembler.held_bytes() == 0);
}

#[test]
fn out_of_turn() {
    let mut assembler = Assembler::default();
    let stray = assembler.binary(&[1], &LIMITS, |_| panic!("no packet"));
    assert_eq!(stray, Err(DecodeError::StrayBinary));
    assert_eq!(assembler.text(r#"51-["x"]"#, &LIMITS), Ok(None));
    assert_eq!(assembler.text(r#"2["x"]"#, &LIMITS), Err(DecodeError::AttachmentsOwed));
    assert!(assembler.is_idle());
}

#[test]
fn held_bytes_are_bounded() {
    let mut assembler = Assembler::default();
    assert_eq!(assembler.text(r#"510-["x"]"#, &LIMITS), Ok(None));
    let mut refused = None;
    for _ in 0..9 {
        refused = assembler.binary(&[0; 300], &LIMITS, |_| panic!("not whole")).err();
        assert!(assembler.held_bytes() <= LIMITS.packet_bytes_max + 512);
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused, Some(DecodeError::PacketTooBig));
    assert_eq!(assembler.held_bytes(), 0);
    let long = format!("51-[\"x\",\"{}\"]", "a".repeat(1000));
    assert_eq!(assembler.text(&long, &LIMITS), Err(DecodeError::PacketTooBig));
}

#[test]
fn writers() {
    assert_eq!(written(|o| write_connect(o, "/", "s\"", None)), r#"40{"sid":"s\""}"#);
    assert_eq!(written(|o| write_connect(o, "/custom", "id", None)), r#"40/custom,{"sid":"id"}"#);
    let both = written(|o| write_connect(o, "/", "s", Some("p\"")));
    assert_eq!(both, r#"40{"sid":"s","pid":"p\""}"#);
    let error = written(|o| write_connect_error(o, "/random", "Invalid namespace", None));
    assert_eq!(error, r#"44/random,{"message":"Invalid namespace"}"#);
    let error = written(|o| write_connect_error(o, "/", "no", Some("[1]")));
    assert_eq!(error, r#"44{"message":"no","data":[1]}"#);
    assert_eq!(written(|o| write_event(o, 0, "/", None, "foo", "")), r#"42["foo"]"#);
    let event = written(|o| write_event(o, 0, "/admin", Some(12), "fo\"o", r#"1,{"a":2}"#));
    assert_eq!(event, r#"42/admin,12["fo\"o",1,{"a":2}]"#);
    let args = r#"{"_placeholder":true,"num":0}"#;
    let event = written(|o| write_event(o, 1, "/", None, "baz", args));
    assert_eq!(event, r#"451-["baz",{"_placeholder":true,"num":0}]"#);
    assert_eq!(written(|o| write_ack(o, 0, "/", 7, "")), "437[]");
    assert_eq!(written(|o| write_ack(o, 2, "/a", 7, "1")), "462-/a,7[1]");
    let leave = written(|o| write_packet(o, Kind::Disconnect, 0, "/", None, ""));
    assert_eq!(leave, "41");
    assert_eq!(written(|o| write_disconnect(o, "/")), "41");
    assert_eq!(written(|o| write_disconnect(o, "/admin")), "41/admin,");
    let plain = written(|o| write_packet(o, Kind::BinaryAck, 0, "/", Some(1), "[]"));
    assert_eq!(plain, "431[]");
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-6]([0-9]{1,2}-)?(/[a-z?]{0,3},?)?[0-9]{0,2}[\\[\\{\"a,\\]\\}:1 ]{0,12}",
        "[0-6](1-)?(/n,)?[0-9]?\\[\"[a-c\\\\u006eé]{0,6}\"\\]",
        "5(1-)?(/n,)?\\[\"e\",\\{\"(_placeholder|a)\":(true|1),\"num\":[0-2]\\}\\]",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Whatever decodes, encodes to something that decodes to the same.
    #[test]
    fn decoding_is_a_fixed_point(text in any_text()) {
        let mut assembler = Assembler::default();
        let whole = assembler.text(&text, &LIMITS);
        prop_assert!(assembler.held_bytes() <= LIMITS.packet_bytes_max + 512);
        if let Ok(Some(packet)) = whole {
            let again = encode(&packet);
            prop_assert_eq!(Assembler::default().text(&again, &LIMITS), Ok(Some(packet)));
            if packet.kind == Kind::Event {
                let event = Event::parse(packet.data).expect("checked");
                prop_assert!(event.arg_list().all(|arg| crate::json::is_valid(arg.get())));
                prop_assert_eq!(event.arg_list().next().is_none(), event.args.is_empty());
            }
        }
    }

    #[test]
    fn messages_in_any_order_stay_bounded(
        messages in proptest::collection::vec(
            prop_oneof![
                any_text().prop_map(Ok),
                proptest::collection::vec(any::<u8>(), 0..400).prop_map(Err),
            ],
            0..20,
        ),
    ) {
        let mut assembler = Assembler::default();
        for message in &messages {
            let failed = match message {
                Ok(text) => assembler.text(text, &LIMITS).is_err(),
                Err(bytes) => assembler.binary(bytes, &LIMITS, |packet| {
                    let in_range = check_placeholders(packet.data, packet.attachments.len() as u32);
                    assert_eq!(in_range, Ok(()));
                }).is_err(),
            };
            prop_assert!(assembler.held_bytes() <= LIMITS.packet_bytes_max + 512);
            prop_assert!(!failed || assembler.is_idle());
        }
    }
}
