//! What the collections must look like: their version and their indexes.
//!
//! Makes what is missing, and refuses what is there and different, with the text that mends it:
//! an index is never dropped or changed behind the operator's back. Only `mend` changes indexes,
//! and only their expiry.

use mongodb::bson::{Document, doc};
use mongodb::options::ReturnDocument;

use super::super::{Retention, StoreError};
use super::rooms::asked;
use super::{Failure, Mongo, WriteError, bounded};

/// The version this code writes. What a version below lacks are indexes, which are made anyway;
/// the documents are the same.
const VERSION: i64 = 2;
const COLLECTION: &str = "throng_schema";
/// The longest expiry that MongoDB takes.
const EXPIRY_S_MAX: u64 = i32::MAX as u64;

/// An index as it must be.
struct Wanted {
    collection: &'static str,
    name: &'static str,
    key: Document,
    is_unique: bool,
    is_sparse: bool,
    filter: Option<Document>,
    /// After how many seconds it deletes documents. `None`: never.
    expiry_s: Option<i64>,
    /// Whether it is there for its expiry alone: without one it is not needed.
    is_expiry: bool,
}

fn wanted(retention: Retention) -> Vec<Wanted> {
    let seconds = |ms: Option<u64>| {
        ms.map(|ms| ms.div_ceil(1000).min(EXPIRY_S_MAX)).map(|it| i64::try_from(it).unwrap_or(0))
    };
    let plain = |collection, name, key| Wanted {
        collection,
        name,
        key,
        is_unique: false,
        is_sparse: false,
        filter: None,
        expiry_s: None,
        is_expiry: false,
    };
    let strings = doc! { "clientId": { "$type": "string" } };
    let (messages_s, users_s) = (seconds(retention.messages_ms), seconds(retention.users_ms));
    let expiring = |collection, name, key, expiry_s| Wanted {
        expiry_s,
        is_expiry: true,
        ..plain(collection, name, key)
    };
    vec![
        Wanted { is_unique: true, ..plain("messages", "room_seq", doc! { "room": 1, "seq": 1 }) },
        Wanted {
            is_unique: true,
            filter: Some(strings),
            ..plain("messages", "room_clientId", doc! { "room": 1, "clientId": 1 })
        },
        expiring("messages", "at_expiry", doc! { "at": 1 }, messages_s),
        expiring("users", "lastSeen_expiry", doc! { "lastSeen": 1 }, users_s),
        Wanted {
            is_sparse: true,
            ..plain("rooms", "settings_retentionMs", doc! { "settings.retentionMs": 1 })
        },
    ]
}

/// Brings the database to what it must be. `mends`: expiry too. Returns what was changed.
pub(super) async fn ensure(
    store: &Mongo,
    retention: Retention,
    mends: bool,
) -> Result<Vec<String>, StoreError> {
    let found = version(store).await?;
    if found.is_some_and(|found| found > VERSION) {
        return Err(StoreError::Unusable(format!(
            "the database {} has the schema version {}, and this throng knows {VERSION}: \
             run the newer throng, or name another database in MONGODB_URI",
            store.database.name(),
            found.unwrap_or_default()
        )));
    }
    let mut missing = Vec::new();
    let mut mending = Vec::new();
    for wanted in wanted(retention) {
        let present = indexes(store, wanted.collection).await?;
        match judge(&wanted, &present) {
            Verdict::Right => {}
            Verdict::Missing => missing.push(wanted),
            Verdict::Expiry { name } if mends => mending.push((wanted, name)),
            Verdict::Expiry { name } => return Err(expiry_differs(&wanted, &name, &present)),
            Verdict::Different(name) => return Err(differs(&wanted, &name, &present)),
        }
    }
    let mut done = Vec::new();
    for (wanted, name) in mending {
        done.push(mend_expiry(store, &wanted, &name).await?);
    }
    for wanted in missing {
        make(store, &wanted).await?;
        done.push(format!("{}: made the index {}", wanted.collection, wanted.name));
    }
    if found != Some(VERSION) {
        note_version(store).await?;
    }
    Ok(done)
}

async fn version(store: &Mongo) -> Result<Option<i64>, StoreError> {
    let schema = store.database.collection::<Document>(COLLECTION);
    let find = async move { schema.find_one(doc! { "_id": "version" }).await };
    let record = bounded(find).await.map_err(Failure::into_start_error)?;
    let Some(record) = record else { return Ok(None) };
    let number = record.get("version").and_then(|it| it.as_i64().or(it.as_i32().map(i64::from)));
    let number = number.or_else(|| record.get_f64("version").ok().map(|it| it as i64));
    let unknown = || StoreError::Unusable(format!("{COLLECTION} has no number in `version`"));
    Ok(Some(number.ok_or_else(unknown)?))
}

/// Writes the version, never a smaller one: a newer host may start at the same time.
async fn note_version(store: &Mongo) -> Result<(), StoreError> {
    let statement = doc! {
        "q": { "_id": "version" }, "u": { "$max": { "version": VERSION } }, "upsert": true
    };
    let failed = store.update(COLLECTION, vec![statement]).await;
    let failed = failed.map_err(Failure::into_start_error)?;
    match failed.first() {
        // Another host has written it in between.
        Some(error) if !error.is_duplicate() => Err(StoreError::Unavailable(error.reason.clone())),
        _ => Ok(()),
    }
}

/// The indexes of a collection; none if there is no such collection.
async fn indexes(store: &Mongo, collection: &str) -> Result<Vec<Document>, StoreError> {
    let command = doc! { "listIndexes": collection, "cursor": { "batchSize": 1000 } };
    let reply = match store.command(command).await {
        Ok(reply) => reply,
        Err(failure) if failure.code == 26 => return Ok(Vec::new()),
        Err(failure) => return Err(failure.into_start_error()),
    };
    let cursor = reply.get_document("cursor").and_then(|it| it.get_array("firstBatch"));
    let batch = cursor.map(Vec::as_slice).unwrap_or_default();
    Ok(batch.iter().filter_map(|it| it.as_document().cloned()).collect())
}

enum Verdict {
    Right,
    Missing,
    /// All but its expiry is right.
    Expiry {
        name: String,
    },
    Different(String),
}

fn judge(wanted: &Wanted, present: &[Document]) -> Verdict {
    let has_key =
        |it: &&Document| it.get_document("key").is_ok_and(|key| same_key(key, &wanted.key));
    let has_name = |it: &&Document| it.get_str("name").is_ok_and(|it| it == wanted.name);
    let index = present.iter().find(has_key).or_else(|| present.iter().find(has_name));
    let Some(index) = index else {
        return match wanted.is_expiry && wanted.expiry_s.is_none() {
            true => Verdict::Right,
            false => Verdict::Missing,
        };
    };
    let name = index.get_str("name").unwrap_or_default().to_owned();
    let is_unique = index.get_bool("unique").unwrap_or(false);
    let is_sparse = index.get_bool("sparse").unwrap_or(false);
    let filter = index.get_document("partialFilterExpression").ok();
    let is_same = has_key(&index)
        && is_unique == wanted.is_unique
        && is_sparse == wanted.is_sparse
        && filter == wanted.filter.as_ref();
    match is_same {
        false => Verdict::Different(name),
        true if expiry_s(index) != wanted.expiry_s => Verdict::Expiry { name },
        true => Verdict::Right,
    }
}

fn same_key(left: &Document, right: &Document) -> bool {
    // A shell writes 1 as a double, a driver as an integer.
    let number = |it: &mongodb::bson::Bson| {
        it.as_f64().or(it.as_i64().map(|it| it as f64)).or(it.as_i32().map(f64::from))
    };
    left.len() == right.len()
        && left.iter().zip(right).all(|((left, is), (right, wanted))| {
            left == right && number(is).is_some() && number(is) == number(wanted)
        })
}

fn expiry_s(index: &Document) -> Option<i64> {
    let expiry = index.get("expireAfterSeconds")?;
    expiry.as_i64().or(expiry.as_i32().map(i64::from)).or(expiry.as_f64().map(|it| it as i64))
}

fn specification(wanted: &Wanted) -> Document {
    let mut index = doc! { "name": wanted.name, "key": wanted.key.clone() };
    if wanted.is_unique {
        index.insert("unique", true);
    }
    if let Some(filter) = &wanted.filter {
        index.insert("partialFilterExpression", filter.clone());
    }
    if let Some(seconds) = wanted.expiry_s {
        index.insert("expireAfterSeconds", seconds);
    }
    if wanted.is_sparse {
        index.insert("sparse", true);
    }
    index
}

fn described(name: &str, present: &[Document]) -> String {
    let mut index =
        present.iter().find(|it| it.get_str("name").is_ok_and(|it| it == name)).cloned();
    index.iter_mut().for_each(|it| {
        it.remove("v");
        it.remove("ns");
    });
    index.unwrap_or_default().to_string()
}

fn differs(wanted: &Wanted, name: &str, present: &[Document]) -> StoreError {
    let collection = wanted.collection;
    StoreError::Unusable(format!(
        "the index {name} of the collection {collection} is {}, and must be {}: drop it with \
         `db.{collection}.dropIndex(\"{name}\")` and start again",
        described(name, present),
        specification(wanted)
    ))
}

fn expiry_differs(wanted: &Wanted, name: &str, present: &[Document]) -> StoreError {
    let collection = wanted.collection;
    let mending = match wanted.expiry_s {
        Some(seconds) => format!(
            "db.runCommand({{collMod: \"{collection}\", index: {{name: \"{name}\", \
             expireAfterSeconds: {seconds}}}}})"
        ),
        None => format!("db.{collection}.dropIndex(\"{name}\")"),
    };
    let must = match wanted.expiry_s {
        Some(seconds) => format!("expire after {seconds} s"),
        None => "expire nothing, since no retention is set".to_owned(),
    };
    StoreError::Unusable(format!(
        "the index {name} of the collection {collection} is {}, and must {must}: mend it with \
         `throng maintain` or `{mending}`",
        described(name, present)
    ))
}

async fn mend_expiry(store: &Mongo, wanted: &Wanted, name: &str) -> Result<String, StoreError> {
    let collection = wanted.collection;
    let drop = doc! { "dropIndexes": collection, "index": name };
    let Some(seconds) = wanted.expiry_s else {
        store.command(drop).await.map_err(Failure::into_start_error)?;
        return Ok(format!("{collection}: dropped the index {name}, nothing expires any more"));
    };
    let index = doc! { "name": name, "expireAfterSeconds": seconds };
    let changed = store.command(doc! { "collMod": collection, "index": index }).await;
    if changed.is_err() {
        // A server before 5.1 gives no expiry to an index that has none.
        store.command(drop).await.map_err(Failure::into_start_error)?;
        make(store, wanted).await?;
    }
    Ok(format!("{collection}: the index {name} expires after {seconds} s now"))
}

/// Makes an index. The server takes as long as it needs for what is there already, also when
/// nobody waits any more: asked again it goes on waiting, and then there is one.
async fn make(store: &Mongo, wanted: &Wanted) -> Result<(), StoreError> {
    let command = doc! {
        "createIndexes": wanted.collection,
        "indexes": [specification(wanted)],
        "writeConcern": store.write_concern.clone(),
    };
    let database = store.database.clone();
    let made = bounded(async move { database.run_command(command).await }).await;
    made.map(drop).map_err(|failure| {
        let text = format!(
            "the index {} of the collection {} cannot be made: {}",
            wanted.name, wanted.collection, failure.reason
        );
        match (WriteError { index: 0, code: failure.code, reason: text }) {
            error if failure.code != 0 && error.is_refusal() => StoreError::Unusable(error.reason),
            error => StoreError::Unavailable(error.reason),
        }
    })
}

/// Whether the primary answers and takes writes.
pub(super) async fn probe(store: &Mongo) -> Result<(), StoreError> {
    let schema = store.database.collection::<Document>(COLLECTION);
    let now = mongodb::bson::DateTime::now();
    asked(async move {
        schema
            .find_one_and_update(doc! { "_id": "check" }, doc! { "$set": { "at": now } })
            .upsert(true)
            .return_document(ReturnDocument::After)
            .await
    })
    .await
    .map(drop)
}
