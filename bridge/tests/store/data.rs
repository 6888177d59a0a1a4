//! What is data stays data: names that look like operators or statements, bodies that are any
//! JSON, bytes that are anything.

use throng_bridge::store::{Entry, NUMBER_MAX, RoomSettings, Seen};

use crate::each;
use crate::support::{entry, keep, message, read, with_body, with_client_id};

/// Names that some database, shell or printf has once understood.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        r#"{"$ne":null}"#,
        "$where",
        "$gt",
        "a.b",
        ".",
        "'; DROP TABLE messages; --",
        r#"" OR 1=1 --"#,
        "%_",
        "%",
        "_",
        "*",
        "?1",
        "@name",
        ":name",
        "a'b\"c`d[e]",
        "\\",
        "\\u0000",
        "null",
        "undefined",
        "0",
        "1e3",
        "true",
        "__proto__",
        "/chat\u{1f}lobby",
        " a",
        "a ",
        "A",
        "a",
        "\u{e9}",
        "e\u{301}",
        "\u{fb01}",
        "fi",
        "\u{202e}drawkcab",
        "\u{feff}bom",
        "\u{10ffff}",
        "👩‍👩‍👧",
    ]
    .map(str::to_owned)
    .into();
    names.push("x".repeat(128));
    names.push("é".repeat(64));
    names
}

#[test]
fn names_are_data_and_differ_by_every_byte() {
    each(async |store| {
        let batch: Vec<Entry> = names()
            .iter()
            .enumerate()
            .map(|(index, name)| entry(name, with_client_id(index as u64 + 1, name)))
            .collect();
        assert_eq!(store.append(batch.clone().into()).await, Ok(vec![]));
        for (name, entry) in names().iter().zip(&batch) {
            let wanted = [(*entry.message).clone()];
            assert_eq!(read(&*store, name).await, wanted, "{name:?}");
            let found = store.find(name, &[name.as_str().into()]).await;
            assert_eq!(found.as_deref(), Ok(&wanted[..]), "{name:?}");
            let record = store.room(name).await.expect("an answer").expect("a room");
            assert_eq!(record.last_seq, entry.message.seq, "{name:?}");
        }
    });
}

#[test]
fn user_names_and_ids_are_data() {
    each(async |store| {
        let seen = |(at, id): (usize, &String)| Seen {
            user: id.as_str().into(),
            name: format!("{id}!").into(),
            at_ms: at as u64,
            metadata: None,
        };
        let seen: Vec<Seen> = names().iter().enumerate().map(seen).collect();
        assert_eq!(store.note_users(seen.into()).await, Ok(()));
        for (at, id) in names().iter().enumerate() {
            let user = store.user(id).await.expect("an answer").expect("a user");
            assert_eq!((&*user.name, user.first_seen_ms), (&*format!("{id}!"), at as u64));
        }
    });
}

#[test]
fn authors_and_ids_are_data() {
    each(async |store| {
        let messages = (1..).zip(names()).map(|(seq, name)| {
            let mut message = message(seq);
            message.id = name.as_str().into();
            let from = &mut message.draft.from;
            from.id = name.as_str().into();
            from.user = name.as_str().into();
            from.name = format!("{name}\u{7}\n\"").into();
            message
        });
        let messages: Vec<_> = messages.collect();
        keep(&*store, "room", messages.clone()).await;
        assert_eq!(read(&*store, "room").await, messages);
    });
}

#[test]
fn bodies_are_any_json_and_come_back_byte_by_byte() {
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let long = format!("\"{}\"", "é😀\\n".repeat(30_000));
    let bodies = [
        "null",
        "0",
        "-0.0",
        "1E400",
        "123456789012345678901234567890.000",
        "18446744073709551615",
        "\"\"",
        "{}",
        "[]",
        r#" { "a" : 1 , "a" : 2 } "#,
        r#"{"$where":"sleep(1)","a.b":{"$ne":null},"":0,"_id":1,"__proto__":{}}"#,
        r#""\ud800""#,
        r#""\u0000 \udfff\ud83d""#,
        "\"\u{7f}\u{2028}\u{fffd}\u{10ffff}\"",
        r#"{"_placeholder":true,"num":0}"#,
        &deep,
        &long,
    ];
    each(async |store| {
        let messages: Vec<_> = (1..).zip(bodies).map(|(seq, body)| with_body(seq, body)).collect();
        keep(&*store, "room", messages.clone()).await;
        assert_eq!(read(&*store, "room").await, messages);
    });
}

#[test]
fn attachments_come_back_byte_by_byte() {
    each(async |store| {
        let every: Vec<u8> = (0..=255).collect();
        let mut messages = vec![message(1), message(2), message(3), message(4)];
        messages[0].draft.attachments = vec![[].into()];
        messages[1].draft.attachments = vec![every.clone().into(), [].into(), [0].into()];
        messages[2].draft.attachments = vec![every.repeat(4_000).into()];
        keep(&*store, "room", messages.clone()).await;
        assert_eq!(read(&*store, "room").await, messages);
    });
}

#[test]
fn settings_are_data() {
    each(async |store| {
        for name in names() {
            let settings = RoomSettings {
                private: true,
                password: Some(format!("$argon2id${name}").into()),
                users: names().iter().map(|name| name.as_str().into()).collect(),
                capacity: Some(u32::MAX),
                retention_ms: Some(NUMBER_MAX),
                metadata: Some(format!(r#"{{"$set": {name:?}}}"#).into()),
            };
            let made = store.configure(&name, &settings, 7).await.expect("a room");
            assert_eq!(made.settings, settings);
            assert_eq!(store.room(&name).await, Ok(Some(made)), "{name:?}");
        }
    });
}
