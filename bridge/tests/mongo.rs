//! Proves what is MongoDB's own in `Mongo`: exactly one of each message whatever fails in between,
//! refusals that concern their message alone, names that are never operators, indexes and a schema
//! that are checked and never changed unasked. Against a process that speaks MongoDB's protocol.

#[path = "mongo/faults.rs"]
mod faults;
#[path = "mongo/server.rs"]
mod server;
#[path = "mongo/speed.rs"]
mod speed;
#[path = "mongo/start.rs"]
mod start;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document, doc};
use server::Server;
use throng_bridge::store::{
    Entry, Mongo, Refusal, Retention, RoomSettings, Seen, Store, StoreError,
};
use throng_bridge::{Author, Draft, Message, Range};

const KEEP: Retention = Retention { messages_ms: None, users_ms: None };
const ALL: Range = Range { after: None, before: None, limit: 100_000 };

fn message(seq: u64, body: &str, client_id: Option<&str>) -> Message {
    let from = Author { id: "socket".into(), user: "u".into(), name: "U".into() };
    let client_id = client_id.map(Into::into);
    let draft = Draft { from, body: body.into(), attachments: vec![], client_id };
    Message { id: format!("id{seq}").into(), seq, at_ms: 1_000 + seq % 1_000_000, draft }
}

/// A message whose id is unique among rooms.
fn entry(room: &str, seq: u64, body: &str, client_id: Option<&str>) -> Entry {
    let mut message = message(seq, body, client_id);
    message.id = format!("{room}/{seq}").into();
    Entry { room: room.into(), message: Arc::new(message) }
}

fn batch(room: &str, seqs: std::ops::RangeInclusive<u64>) -> Arc<[Entry]> {
    seqs.map(|seq| entry(room, seq, &format!("{{\"n\":{seq}}}"), None)).collect()
}

async fn append(store: &Mongo, entries: Vec<Entry>) -> Vec<Refusal> {
    store.append(entries.into()).await.expect("kept")
}

async fn seqs(store: &Mongo, room: &str) -> Vec<u64> {
    let read = store.read(room, ALL).await.expect("messages");
    read.iter().map(|it| it.seq).collect()
}

fn unavailable<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Unavailable(reason)) => reason,
        other => panic!("not unavailable: {other:?}"),
    }
}

fn unusable<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Unusable(reason)) => reason,
        other => panic!("not unusable: {other:?}"),
    }
}

#[tokio::test]
async fn keeps_what_it_is_given_as_it_is() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
    let bodies = ["{\"$where\":\"1\", \"a.b\": {\"$ne\":null}}", "\"\\u0000\u{1F980}\"", &deep];
    let mut kept: Vec<_> = (1..).zip(bodies).map(|(seq, it)| entry("r", seq, it, None)).collect();
    let mut last = message(4, "{\"_placeholder\":true,\"num\":0}", Some("c"));
    last.draft.attachments = vec![vec![0, 255, 1].into(), Box::default()];
    kept.push(Entry { room: "r".into(), message: Arc::new(last) });
    assert_eq!(append(&store, kept.clone()).await, []);
    let expected: Vec<_> = kept.iter().map(|it| (*it.message).clone()).collect();
    assert_eq!(store.read("r", ALL).await.expect("messages"), expected);
    let range = |after, before, limit| Range { after, before, limit };
    let read = async |it| -> Vec<u64> {
        store.read("r", it).await.expect("messages").iter().map(|it| it.seq).collect()
    };
    assert_eq!(read(range(None, None, 2)).await, [3, 4]);
    assert_eq!(read(range(Some(1), None, 2)).await, [3, 4]);
    assert_eq!(read(range(Some(1), Some(4), 9)).await, [2, 3]);
    assert_eq!(read(range(None, Some(u64::MAX), 1)).await, [4]);
    assert_eq!(read(range(Some(u64::MAX), None, 1)).await, [0u64; 0]);
    assert_eq!(read(range(None, None, 0)).await, [0u64; 0]);
    let found = store.find("r", &["c".into(), "none".into()]).await.expect("messages");
    assert_eq!(found, expected[3..]);
    assert_eq!(store.find("other", &["c".into()]).await.expect("messages"), []);
    let room = store.room("r").await.expect("an answer").expect("a room");
    assert_eq!((room.created_at_ms, room.last_seq), (1_001, 4));
    assert_eq!(store.room("other").await, Ok(None));
    store.check().await.expect("an answer");
    let text = format!("{store:?} {}", store.kind());
    assert!(text.ends_with("mongodb"), "{text}");
}

#[tokio::test]
async fn collections_are_as_documented() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    append(&store, vec![entry("r", 7, "{}", Some("c"))]).await;
    store.close().await;
    let database = server.database().await;
    let one = async |name: &str| {
        let found = database.collection::<Document>(name).find_one(doc! {}).await;
        found.expect("an answer").expect("a document")
    };
    let date = mongodb::bson::DateTime::from_millis(1_007);
    let from = doc! { "id": "socket", "user": "u", "name": "U" };
    let expected = doc! {
        "_id": "r/7", "room": "r", "seq": 7_i64, "from": from, "body": "{}", "at": date,
        "clientId": "c"
    };
    assert_eq!(one("messages").await, expected);
    let mut room = one("rooms").await;
    assert_eq!(room.remove("lastSeq"), Some(Bson::Int64(7)), "closing writes what was behind");
    assert_eq!(room.remove("createdAt"), Some(Bson::DateTime(date)));
    assert_eq!(room, doc! { "_id": "r", "settings": {} });
}

#[tokio::test]
async fn a_repeated_batch_is_kept_once() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    let kept: Vec<_> = batch("r", 1..=20).iter().chain(&*batch("s", 1..=20)).cloned().collect();
    append(&store, kept[3..9].to_vec()).await;
    for _ in 0..2 {
        assert_eq!(append(&store, kept.clone()).await, []);
    }
    assert_eq!(seqs(&store, "r").await, (1..=20).collect::<Vec<_>>());
    assert_eq!(seqs(&store, "s").await, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_taken_number_or_id_is_refused_alone() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    append(&store, batch("r", 1..=2).to_vec()).await;
    let mut other = message(2, "other", None);
    other.id = "other".into();
    let mut moved = message(4, "moved", None);
    moved.id = "r/1".into();
    let entries = vec![
        entry("r", 3, "3", None),
        Entry { room: "r".into(), message: Arc::new(other) },
        Entry { room: "r".into(), message: Arc::new(moved) },
        entry("r", 5, "5", None),
    ];
    for _ in 0..2 {
        let refusals = append(&store, entries.clone()).await;
        assert_eq!(refusals.iter().map(|it| it.index).collect::<Vec<_>>(), [1, 2]);
    }
    assert_eq!(seqs(&store, "r").await, [1, 2, 3, 5]);
    let record = store.room("r").await.expect("an answer").expect("a room");
    assert_eq!(record.last_seq, 5);
}

#[tokio::test]
async fn a_used_client_id_is_left_out_of_the_later_message() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    append(&store, vec![entry("r", 1, "1", Some("c"))]).await;
    let entries = vec![
        entry("r", 2, "2", Some("c")),
        entry("r", 3, "3", Some("d")),
        entry("r", 4, "4", Some("d")),
        entry("s", 1, "5", Some("c")),
    ];
    for _ in 0..2 {
        assert_eq!(append(&store, entries.clone()).await, []);
    }
    let read = store.read("r", ALL).await.expect("messages");
    let ids: Vec<_> = read.iter().map(|it| it.draft.client_id.as_deref()).collect();
    assert_eq!(ids, [Some("c"), None, Some("d"), None]);
    let found = store.find("r", &["c".into(), "d".into()]).await.expect("messages");
    let mut found: Vec<_> = found.iter().map(|it| it.seq).collect();
    found.sort_unstable();
    assert_eq!(found, [1, 3]);
    assert_eq!(store.find("s", &["c".into()]).await.expect("messages").len(), 1);
}

#[tokio::test]
async fn what_can_never_be_kept_is_refused_alone() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    let validator = doc! { "body": { "$ne": "\"poison\"" } };
    let command = doc! { "collMod": "messages", "validator": validator };
    server.database().await.run_command(command).await.expect("a validator");
    let big = format!("\"{}\"", "x".repeat(16 * 1024 * 1024));
    let entries = vec![
        entry("r", 1, "1", None),
        entry("r", 2, &big, None),
        entry("r", 3, "\"poison\"", None),
        entry("r", u64::MAX, "4", None),
        entry("s", 5, "5", None),
    ];
    let refusals = append(&store, entries).await;
    let mut indexes: Vec<_> = refusals.iter().map(|it| it.index).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, [1, 2, 3], "{refusals:?}");
    assert_eq!(seqs(&store, "r").await, [1]);
    assert_eq!(seqs(&store, "s").await, [5]);
    let record = store.room("r").await.expect("an answer").expect("a room");
    assert_eq!(record.last_seq, 1, "what was refused does not count");
}

#[tokio::test]
async fn names_are_data() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    let names =
        ["{\"$ne\":null}", "$where", "a.b", "$gt", "", "settings.private", "\u{0}", "$$ROOT"];
    for (seq, name) in (1..).zip(names) {
        append(&store, vec![entry(name, seq, "1", Some(name))]).await;
        let settings = RoomSettings { capacity: Some(seq as u32), ..RoomSettings::default() };
        store.configure(name, &settings, 5).await.expect("configured");
        let seen = Seen { user: name.into(), name: name.into(), at_ms: seq, metadata: None };
        let seen = Seen { metadata: Some("{\"$set\":{\"a.b\":1}}".into()), ..seen };
        store.note_users([seen].into()).await.expect("noted");
    }
    for (seq, name) in (1..).zip(names) {
        assert_eq!(seqs(&store, name).await, [seq], "{name}");
        let found = store.find(name, &names.map(Into::into)).await.expect("messages");
        assert_eq!(found.iter().map(|it| it.seq).collect::<Vec<_>>(), [seq], "{name}");
        let room = store.room(name).await.expect("an answer").expect("a room");
        assert_eq!((room.last_seq, room.settings.capacity), (seq, Some(seq as u32)), "{name}");
        let user = store.user(name).await.expect("an answer").expect("a user");
        assert_eq!((&*user.name, user.last_seen_ms), (name, seq));
        assert_eq!(user.metadata.as_deref(), Some("{\"$set\":{\"a.b\":1}}"));
    }
    for absent in ["{\"$gt\":\"\"}", "a", ".*"] {
        assert_eq!(seqs(&store, absent).await, [0u64; 0], "{absent}");
        assert_eq!(store.room(absent).await, Ok(None), "{absent}");
        assert_eq!(store.user(absent).await, Ok(None), "{absent}");
    }
}

#[tokio::test]
async fn users_and_settings_stay() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    let seen = |at_ms, name: &str, metadata: Option<&str>| Seen {
        user: "u".into(),
        name: name.into(),
        at_ms,
        metadata: metadata.map(Into::into),
    };
    let noted = [seen(50, "A", Some("{}")), seen(20, "B", None), seen(90, "C", None)];
    store.note_users(noted.into()).await.expect("noted");
    store.note_users([].into()).await.expect("nothing");
    let user = store.user("u").await.expect("an answer").expect("a user");
    assert_eq!((user.first_seen_ms, user.last_seen_ms), (20, 90));
    assert_eq!((&*user.name, user.metadata.as_deref()), ("C", Some("{}")));
    let settings = RoomSettings {
        private: true,
        password: Some("$argon2id$x".into()),
        users: vec!["u".into()],
        capacity: Some(3),
        retention_ms: Some(1 << 40),
        metadata: Some("{\"$a.b\":1}".into()),
    };
    let record = store.configure("r", &settings, 7).await.expect("configured");
    assert_eq!((record.created_at_ms, record.last_seq, &record.settings), (7, 0, &settings));
    append(&store, batch("r", 1..=3).to_vec()).await;
    let record = store.configure("r", &RoomSettings::default(), 9).await.expect("configured");
    assert_eq!((record.created_at_ms, record.last_seq), (7, 3));
    assert_eq!(record.settings, RoomSettings::default());
    append(&store, batch("s", 1..=1).to_vec()).await;
    let record = store.configure("s", &settings, 99_999).await.expect("configured");
    assert_eq!((record.created_at_ms, record.last_seq), (1_001, 1));
    let foreign = doc! { "$set": { "settings": { "private": "yes" } } };
    let rooms = server.database().await.collection::<Document>("rooms");
    rooms.update_one(doc! { "_id": "s" }, foreign).await.expect("written");
    let reason = unusable(store.room("s").await);
    assert!(reason.contains("settings of the room s"), "{reason}");
    store.configure("s", &settings, 1).await.expect("mended");
}

#[tokio::test]
async fn what_is_no_message_is_left_out() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    append(&store, batch("r", 1..=2).to_vec()).await;
    let messages = server.database().await.collection::<Document>("messages");
    messages.insert_one(doc! { "room": "r", "seq": 3_i64 }).await.expect("inserted");
    assert_eq!(seqs(&store, "r").await, [1, 2]);
}

#[tokio::test]
async fn a_rooms_own_retention_is_swept_in_steps() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    for room in ["a", "b", "c"] {
        let count = if room == "b" { 1_500 } else { 4 };
        append(&store, batch(room, 1..=count).to_vec()).await;
    }
    let settings = |ms| RoomSettings { retention_ms: Some(ms), ..RoomSettings::default() };
    store.configure("a", &settings(100), 1).await.expect("configured");
    store.configure("b", &settings(0), 1).await.expect("configured");
    store.configure("d", &settings(0), 1).await.expect("configured");
    // Messages are numbered at 1000 and their number.
    let (mut from, mut swept, mut steps) = (None, 0, 0);
    loop {
        let step = store.sweep(KEEP, 9_000, from).await.expect("a step");
        assert!(step.messages <= 1_000 && step.users == 0);
        (from, swept, steps) = (step.next, swept + step.messages, steps + 1);
        if from.is_none() {
            break;
        }
    }
    assert!(steps > 1 && swept == 1_504, "{swept} messages in {steps} steps");
    assert_eq!(seqs(&store, "b").await, [0u64; 0]);
    assert_eq!(seqs(&store, "c").await, [1, 2, 3, 4]);
    let record = store.room("b").await.expect("an answer").expect("a room");
    assert_eq!((record.last_seq, record.created_at_ms), (1_500, 1_001));
    append(&store, batch("a", 5..=6).to_vec()).await;
    let step = store.sweep(KEEP, 1_106, None).await.expect("a step");
    assert_eq!((step.messages, step.next), (1, None), "the second is not old enough");
    assert_eq!(seqs(&store, "a").await, [6]);
}

#[tokio::test]
async fn the_server_expires_what_retention_says() {
    let server = Server::start(&[]).await;
    let retention = Retention { messages_ms: Some(3_600_000), users_ms: Some(1_500) };
    let store = Mongo::open(&server.uri(), 4, retention).await.expect("a store");
    let mut young = message(9, "young", None);
    young.at_ms = mongodb::bson::DateTime::now().timestamp_millis() as u64;
    let mut entries = batch("r", 1..=5).to_vec();
    entries.push(Entry { room: "r".into(), message: Arc::new(young) });
    append(&store, entries).await;
    let seen = Seen { user: "u".into(), name: "U".into(), at_ms: 1, metadata: None };
    store.note_users([seen].into()).await.expect("noted");
    // It looks once a minute.
    let deadline = Instant::now() + Duration::from_secs(300);
    while seqs(&store, "r").await != [9] || store.user("u").await != Ok(None) {
        assert!(Instant::now() < deadline, "{:?}", seqs(&store, "r").await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
