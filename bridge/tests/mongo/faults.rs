//! Whatever fails in between, each message is kept once, and nothing waits without end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document, doc};
use throng_bridge::store::{Mongo, RoomSettings, Seen, Store, StoreError};

use crate::server::{Cutter, Server};
use crate::{ALL, KEEP, append, batch, entry, seqs, unavailable};

#[tokio::test]
async fn errors_of_the_server_are_not_the_messages_fault() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    let mut last = 0;
    let mut fault = async |mode: Bson, mut data: Document, is_kept: bool| {
        data.insert("failCommands", vec!["insert"]);
        let label = format!("{mode} {data}");
        server.fail(mode, data).await;
        let entries = batch("r", last + 1..=last + 10);
        let result = store.append(Arc::clone(&entries)).await;
        match is_kept {
            true => assert_eq!(result, Ok(vec![]), "{label}"),
            false => drop(unavailable(result)),
        }
        server.heal().await;
        assert_eq!(store.append(entries).await, Ok(vec![]), "{label}");
        last += 10;
        assert_eq!(seqs(&store, "r").await, (1..=last).collect::<Vec<_>>(), "{label}");
    };
    let once = || Bson::from(doc! { "times": 1 });
    for code in [11600, 91, 10107, 189, 11602, 13435, 50] {
        fault("alwaysOn".into(), doc! { "errorCode": code }, false).await;
    }
    fault("alwaysOn".into(), doc! { "closeConnection": true }, false).await;
    // The driver tries again by itself what is worth it.
    let labelled = doc! { "errorCode": 10107, "errorLabels": ["RetryableWriteError"] };
    fault(once(), labelled, true).await;
    fault(once(), doc! { "closeConnection": true }, true).await;
    // Written, but not acknowledged as wanted.
    let concern = doc! { "code": 64, "errmsg": "waiting for replication timed out" };
    fault("alwaysOn".into(), doc! { "writeConcernError": concern }, false).await;
    fault(once(), doc! { "blockConnection": true, "blockTimeMS": 500 }, true).await;
}

#[tokio::test]
async fn reads_fail_and_come_back() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    append(&store, batch("r", 1..=2).to_vec()).await;
    let commands = vec!["find", "update", "findAndModify"];
    server.fail("alwaysOn", doc! { "errorCode": 10107, "failCommands": commands }).await;
    unavailable(store.read("r", ALL).await);
    unavailable(store.find("r", &["c".into()]).await);
    unavailable(store.room("r").await);
    unavailable(store.user("u").await);
    unavailable(store.check().await);
    unavailable(store.configure("r", &RoomSettings::default(), 1).await);
    let seen = Seen { user: "u".into(), name: "U".into(), at_ms: 1, metadata: None };
    unavailable(store.note_users([seen].into()).await);
    unavailable(store.sweep(KEEP, 1, None).await);
    server.heal().await;
    assert_eq!(seqs(&store, "r").await, [1, 2]);
    store.check().await.expect("an answer");
}

#[tokio::test]
async fn nothing_waits_without_end() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    let data = doc! {
        "blockConnection": true, "blockTimeMS": 25_000, "failCommands": ["insert", "find"]
    };
    server.fail("alwaysOn", data).await;
    let began = Instant::now();
    let entries = batch("r", 1..=10);
    let (appended, read) = tokio::join!(store.append(entries.clone()), store.read("r", ALL));
    unavailable(appended);
    unavailable(read);
    assert!(began.elapsed() < Duration::from_secs(22), "{:?}", began.elapsed());
    server.heal().await;
    // The one that was given up may still land: it must find its own messages.
    assert_eq!(store.append(entries).await, Ok(vec![]));
    tokio::time::sleep(Duration::from_secs(16)).await;
    assert_eq!(seqs(&store, "r").await, (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_killed_server_loses_nothing_acknowledged_and_doubles_nothing() {
    let mut server = Server::start(&["--sync-on-commit"]).await;
    let store = server.store().await;
    let mut failures = 0;
    for round in 0..3_u64 {
        let first = round * 400 + 1;
        let store = &store;
        let appends = async move {
            for seq in (first..first + 400).step_by(40) {
                let entries = batch("r", seq..=seq + 39);
                let deadline = Instant::now() + Duration::from_secs(120);
                while let Err(error) = store.append(Arc::clone(&entries)).await {
                    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
                    assert!(Instant::now() < deadline, "{error}");
                    failures += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            failures
        };
        let faults = async {
            tokio::time::sleep(Duration::from_millis(20 + round * 60)).await;
            server.kill();
            tokio::time::sleep(Duration::from_millis(300)).await;
            server.restart().await;
        };
        let (failed, ()) = tokio::join!(appends, faults);
        failures = failed;
    }
    assert_eq!(seqs(&store, "r").await, (1..=1200).collect::<Vec<_>>());
    let messages = server.database().await.collection::<Document>("messages");
    assert_eq!(messages.count_documents(doc! {}).await.expect("a count"), 1200);
    println!("{failures} appends failed in between");
}

#[tokio::test]
async fn a_crash_before_the_rooms_record_loses_no_number() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    append(&store, batch("r", 1..=3).to_vec()).await;
    store.close().await;
    let store = server.store().await;
    append(&store, batch("r", 4..=5).to_vec()).await;
    drop(store);
    let store = server.store().await;
    let record = store.room("r").await.expect("an answer").expect("a room");
    assert_eq!((record.last_seq, record.created_at_ms), (5, 1_001));
    store.close().await;
    let rooms = server.database().await.collection::<Document>("rooms");
    let room = rooms.find_one(doc! { "_id": "r" }).await.expect("an answer").expect("a room");
    assert_eq!(room.get_i64("lastSeq").expect("a number"), 5, "who read it mends it");
}

#[tokio::test]
async fn a_rooms_record_that_cannot_be_written_does_not_concern_its_messages() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    append(&store, batch("r", 1..=3).to_vec()).await;
    // Longer than a record may be behind: the next batch tries to write it.
    tokio::time::sleep(Duration::from_secs(31)).await;
    server.fail("alwaysOn", doc! { "errorCode": 50, "failCommands": ["update"] }).await;
    assert_eq!(append(&store, batch("r", 4..=5).to_vec()).await, []);
    assert_eq!(append(&store, batch("r", 6..=7).to_vec()).await, []);
    server.heal().await;
    store.close().await;
    let rooms = server.database().await.collection::<Document>("rooms");
    let room = rooms.find_one(doc! { "_id": "r" }).await.expect("an answer").expect("a room");
    assert_eq!(room.get_i64("lastSeq").expect("a number"), 7);
}

#[tokio::test]
async fn a_refused_rooms_record_holds_up_no_other() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    let database = server.database().await;
    let validator = doc! { "_id": { "$ne": "bad" } };
    let command = doc! { "collMod": "rooms", "validator": validator };
    database.run_command(command).await.expect("a validator");
    append(&store, vec![entry("bad", 1, "1", None), entry("good", 1, "1", None)]).await;
    store.close().await;
    let rooms = database.collection::<Document>("rooms");
    let names = rooms.distinct("_id", doc! {}).await.expect("names");
    assert_eq!(names, [Bson::from("good")]);
}

#[tokio::test]
async fn a_lost_answer_doubles_nothing() {
    let server = Server::start(&[]).await;
    let cutter = Cutter::before(&server);
    // Once with the driver's own second try, which is cut as well, and once without.
    for (room, retries) in [("r", true), ("s", false)] {
        let flags = "directConnection=true&serverMonitoringMode=poll&heartbeatFrequencyMS=500";
        let uri = format!("mongodb://127.0.0.1:{}/?{flags}&retryWrites={retries}", cutter.port);
        let store = Mongo::open(&uri, 4, KEEP).await.expect("a store");
        let entries = batch(room, 1..=50);
        let cuts = cutter.cuts();
        cutter.cut(true);
        unavailable(store.append(Arc::clone(&entries)).await);
        assert!(cutter.cuts() > cuts, "nothing was cut");
        cutter.cut(false);
        let there = server.store().await;
        assert_eq!(seqs(&there, room).await, (1..=50).collect::<Vec<_>>(), "it had arrived");
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = store.append(Arc::clone(&entries)).await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(seqs(&there, room).await, (1..=50).collect::<Vec<_>>());
    }
}
