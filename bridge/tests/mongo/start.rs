//! What must be right before a store is used: the URI, the schema, the indexes.

use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document, doc};
use throng_bridge::store::{Mongo, Retention, Store};

use crate::server::Server;
use crate::{KEEP, append, batch, entry, unavailable, unusable};

fn expiring(messages_s: Option<u64>, users_s: Option<u64>) -> Retention {
    let ms = |it: Option<u64>| it.map(|it| it * 1_000);
    Retention { messages_ms: ms(messages_s), users_ms: ms(users_s) }
}

#[tokio::test]
async fn expiry_is_mended_only_when_asked_to() {
    let server = Server::start(&[]).await;
    let open = async |retention| Mongo::open(&server.uri(), 4, retention).await.map(drop);
    let mend = async |retention| Mongo::mend(&server.uri(), 4, retention).await;
    open(expiring(Some(60), Some(90))).await.expect("made");
    open(expiring(Some(60), Some(90))).await.expect("as it was");
    assert_eq!(mend(expiring(Some(60), Some(90))).await, Ok(vec![]));
    let reason = unusable(open(expiring(Some(61), Some(90))).await);
    for part in ["at_expiry", "messages", "60", "after 61 s", "throng maintain", "collMod"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    let reason = unusable(open(expiring(Some(60), None)).await);
    for part in ["lastSeen_expiry", "users", "90", "no retention", "db.users.dropIndex("] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    open(expiring(Some(60), Some(90))).await.expect("nothing was changed");
    let done = mend(expiring(Some(61), None)).await.expect("mended");
    assert_eq!(done.len(), 2, "{done:?}");
    open(expiring(Some(61), None)).await.expect("right");
    let done = mend(expiring(Some(61), Some(5))).await.expect("mended");
    assert!(done.len() == 1 && done[0].contains("lastSeen_expiry"), "{done:?}");
    open(expiring(Some(61), Some(5))).await.expect("right");
    // An operator's own index on the field, without expiry.
    let messages = server.database().await.collection::<Document>("messages");
    messages.drop_index("at_expiry").await.expect("dropped");
    let index = mongodb::IndexModel::builder().keys(doc! { "at": 1.0 }).build();
    messages.create_index(index).await.expect("made");
    unusable(open(expiring(Some(61), Some(5))).await);
    let done = mend(expiring(Some(61), Some(5))).await.expect("mended");
    assert!(done.len() == 1 && done[0].contains("at_1"), "{done:?}");
    open(expiring(Some(61), Some(5))).await.expect("right");
}

#[tokio::test]
async fn another_index_in_the_way_is_named() {
    let server = Server::start(&[]).await;
    let database = server.database().await;
    let make = async |collection: &str, index: Document| {
        let command = doc! { "createIndexes": collection, "indexes": [index] };
        database.run_command(command).await.expect("made");
    };
    let open = async || Mongo::open(&server.uri(), 4, KEEP).await.map(drop);
    make("messages", doc! { "name": "mine", "key": { "room": 1, "seq": 1 } }).await;
    let reason = unusable(open().await);
    for part in ["mine", "messages", "\"unique\": true", "db.messages.dropIndex(\"mine\")"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    let messages = database.collection::<Document>("messages");
    messages.drop_index("mine").await.expect("dropped");
    make("messages", doc! { "name": "room_clientId", "key": { "body": 1 } }).await;
    assert!(unusable(open().await).contains("\"body\""));
    messages.drop_index("room_clientId").await.expect("dropped");
    let rows = [1, 1].map(|seq| doc! { "room": "r", "seq": seq });
    messages.insert_many(rows).await.expect("inserted");
    let reason = unusable(open().await);
    assert!(reason.contains("room_seq") && reason.contains("cannot be made"), "{reason}");
    messages.delete_many(doc! {}).await.expect("deleted");
    make("messages", doc! { "name": "body", "key": { "body": 1 } }).await;
    open().await.expect("an operator's further index is the operator's");
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_an_older_raised() {
    let server = Server::start(&[]).await;
    let schema = server.database().await.collection::<Document>("throng_schema");
    let version = async || {
        let found = schema.find_one(doc! { "_id": "version" }).await.expect("an answer");
        found.and_then(|it| it.get_i64("version").ok())
    };
    server.store().await;
    assert_eq!(version().await, Some(2));
    let set = async |number: Bson| {
        let update = doc! { "$set": { "version": number } };
        schema.update_one(doc! { "_id": "version" }, update).await.expect("written");
    };
    set(Bson::Double(1.0)).await;
    server.store().await;
    assert_eq!(version().await, Some(2));
    for number in [Bson::Int32(3), Bson::Int64(3), Bson::Double(3.0)] {
        set(number).await;
        let reason = unusable(Mongo::open(&server.uri(), 4, KEEP).await);
        assert!(reason.contains("schema version 3"), "{reason}");
        unusable(Mongo::mend(&server.uri(), 4, KEEP).await);
    }
    set("x".into()).await;
    unusable(Mongo::open(&server.uri(), 4, KEEP).await);
}

#[tokio::test]
async fn what_is_wrong_at_start_is_said_without_the_password() {
    let mut server = Server::start(&["--sync-on-commit"]).await;
    let login = |rest: &str| format!("mongodb://me:se%63ret@{rest}");
    let uris = [
        "nonsense".to_owned(),
        login("127.0.0.1:99999/"),
        login("127.0.0.1/?readConcernLevel=local&w=x&maxPoolSize=x"),
        "mongodb://me:se%63ret:x/y@127.0.0.1/".to_owned(),
        login("127.0.0.1/?tlsCAFile=/nowhere&tls=true"),
    ];
    for uri in uris {
        let error = Mongo::open(&uri, 4, KEEP).await.expect_err("no store").to_string();
        assert!(!error.contains("se%63ret") && !error.contains("secret"), "{error}");
    }
    unusable(Mongo::open("nonsense", 4, KEEP).await);
    let reason = unusable(Mongo::open(&format!("{}?w=0", server.uri()), 4, KEEP).await);
    assert!(reason.contains("w=0"), "{reason}");
    let users = server.database().await.client().database("admin");
    let roles = vec![doc! { "role": "root", "db": "admin" }];
    let command = doc! { "createUser": "me", "pwd": "secret", "roles": roles };
    users.run_command(command).await.expect("a user");
    server.flags.push("--auth");
    server.restart().await;
    let host = format!("127.0.0.1:{}", server.port);
    let store = Mongo::open(&login(&host), 4, KEEP).await.expect("a store");
    assert_eq!(append(&store, vec![entry("r", 1, "1", None)]).await, []);
    let reason = unusable(Mongo::open(&format!("mongodb://me:wr%6fng@{host}"), 4, KEEP).await);
    assert!(!reason.contains("wr%6fng") && !reason.contains("wrong"), "{reason}");
    unusable(Mongo::open(&format!("mongodb://{host}"), 4, KEEP).await);
    server.kill();
    let began = Instant::now();
    let reason = unavailable(Mongo::open(&login(&host), 4, KEEP).await);
    assert!(began.elapsed() < Duration::from_secs(20), "{reason}");
    assert!(!reason.contains("secret"), "{reason}");
    unavailable(store.append(batch("r", 1..=1)).await);
}
