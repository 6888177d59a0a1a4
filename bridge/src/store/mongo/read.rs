//! Reading messages, rooms and users.
//!
//! Every read names the fields of an index, a limit, and the time the server may take. A document
//! that is no message (somebody else's) is left out and logged: it must not close a room's
//! history.

use mongodb::Cursor;
use mongodb::bson::{Binary, DateTime, Document, deserialize_from_slice, doc};
use mongodb::error::Error;
use serde::Deserialize;

use super::super::{RoomRecord, StoreError, UserRecord};
use super::rooms::{asked, settings};
use super::{Mongo, SERVER_TIME_MAX, millis};
use crate::message::{Author, Draft, Message, Range};

#[derive(Deserialize)]
struct Kept {
    #[serde(rename = "_id")]
    id: Box<str>,
    seq: i64,
    from: KeptAuthor,
    body: Box<str>,
    at: DateTime,
    #[serde(rename = "clientId")]
    client_id: Option<Box<str>>,
    #[serde(default)]
    attachments: Vec<Binary>,
}

#[derive(Deserialize)]
struct KeptAuthor {
    id: Box<str>,
    user: Box<str>,
    name: Box<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptUser {
    name: Box<str>,
    first_seen: DateTime,
    last_seen: DateTime,
    metadata: Option<Box<str>>,
}

impl From<Kept> for Message {
    fn from(kept: Kept) -> Self {
        let KeptAuthor { id, user, name } = kept.from;
        let attachments = kept.attachments.into_iter().map(|it| it.bytes.into()).collect();
        Self {
            id: kept.id,
            seq: u64::try_from(kept.seq).unwrap_or_default(),
            at_ms: millis(kept.at),
            draft: Draft {
                from: Author { id, user, name },
                body: kept.body,
                attachments,
                client_id: kept.client_id,
            },
        }
    }
}

async fn messages_of(mut cursor: Cursor<Document>) -> Result<Vec<Message>, Error> {
    let mut found = Vec::new();
    while cursor.advance().await? {
        let document = cursor.current();
        match deserialize_from_slice::<Kept>(document.as_bytes()) {
            Ok(kept) => found.push(kept.into()),
            Err(error) => {
                let id = document.get("_id").ok().flatten();
                tracing::warn!(?id, %error, "a document in `messages` is no message");
            }
        }
    }
    Ok(found)
}

impl Mongo {
    pub(super) async fn read_range(
        &self,
        room: &str,
        range: Range,
    ) -> Result<Vec<Message>, StoreError> {
        let mut seq = Document::new();
        if let Some(after) = range.after {
            let Ok(after) = i64::try_from(after) else { return Ok(Vec::new()) };
            seq.insert("$gt", after);
        }
        if let Some(before) = range.before.and_then(|it| i64::try_from(it).ok()) {
            seq.insert("$lt", before);
        }
        let mut filter = doc! { "room": room };
        if !seq.is_empty() {
            filter.insert("seq", seq);
        }
        // To MongoDB a limit of 0 is none.
        let limit = i64::try_from(range.limit).unwrap_or(i64::MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let messages = self.messages.clone_with_type::<Document>();
        let mut found = asked(async move {
            let find = messages.find(filter).sort(doc! { "seq": -1 }).limit(limit);
            messages_of(find.projection(doc! { "room": 0 }).max_time(SERVER_TIME_MAX).await?).await
        })
        .await?;
        found.reverse();
        Ok(found)
    }

    pub(super) async fn find_client_ids(
        &self,
        room: &str,
        client_ids: &[Box<str>],
    ) -> Result<Vec<Message>, StoreError> {
        if client_ids.is_empty() {
            return Ok(Vec::new());
        }
        let limit = i64::try_from(client_ids.len()).unwrap_or(i64::MAX);
        let ids: Vec<&str> = client_ids.iter().map(|it| &**it).collect();
        // The index has strings only: without the type the server could not see that it does.
        let filter = doc! { "room": room, "clientId": { "$in": ids, "$type": "string" } };
        let messages = self.messages.clone_with_type::<Document>();
        asked(async move {
            let find = messages.find(filter).limit(limit).projection(doc! { "room": 0 });
            messages_of(find.max_time(SERVER_TIME_MAX).await?).await
        })
        .await
    }

    pub(super) async fn read_room(&self, room: &str) -> Result<Option<RoomRecord>, StoreError> {
        // In this order: what `sweep` takes in between, the record knows by then.
        let newest = self.edge(room, -1).await?;
        let record = self.record("rooms", room).await?;
        let (newest_seq, newest_at_ms) = newest.unwrap_or_default();
        let Some(record) = record else {
            if newest.is_none() {
                return Ok(None);
            }
            let created_at_ms = match self.lag.of(room) {
                Some(behind) => behind.created_at_ms,
                None => self.edge(room, 1).await?.map_or(newest_at_ms, |(_, at_ms)| at_ms),
            };
            self.lag.note(room, newest_seq, created_at_ms);
            let settings = Default::default();
            return Ok(Some(RoomRecord { created_at_ms, last_seq: newest_seq, settings }));
        };
        let recorded = record.get("lastSeq");
        let recorded = recorded.and_then(|it| it.as_i64().or(it.as_i32().map(i64::from)));
        let recorded = recorded.and_then(|it| u64::try_from(it).ok()).unwrap_or_default();
        let created_at_ms = record.get_datetime("createdAt").map_or(0, |it| millis(*it));
        if recorded < newest_seq {
            self.lag.note(room, newest_seq, created_at_ms);
        }
        Ok(Some(RoomRecord {
            created_at_ms,
            last_seq: recorded.max(newest_seq),
            settings: settings(room, &record)?,
        }))
    }

    /// `seq` and time of a room's newest (`-1`) or oldest (`1`) message.
    async fn edge(&self, room: &str, order: i32) -> Result<Option<(u64, u64)>, StoreError> {
        let messages = self.messages.clone_with_type::<Document>();
        let filter = doc! { "room": room };
        let found = asked(async move {
            let find = messages.find_one(filter).sort(doc! { "seq": order });
            find.projection(doc! { "seq": 1, "at": 1 }).max_time(SERVER_TIME_MAX).await
        })
        .await?;
        Ok(found.map(|it| {
            let seq = it.get_i64("seq").unwrap_or_default();
            let at_ms = it.get_datetime("at").map_or(0, |at| millis(*at));
            (u64::try_from(seq).unwrap_or_default(), at_ms)
        }))
    }

    async fn record(&self, collection: &str, id: &str) -> Result<Option<Document>, StoreError> {
        let records = self.database.collection::<Document>(collection);
        let filter = doc! { "_id": id };
        asked(async move { records.find_one(filter).max_time(SERVER_TIME_MAX).await }).await
    }

    pub(super) async fn read_user(&self, id: &str) -> Result<Option<UserRecord>, StoreError> {
        let Some(record) = self.record("users", id).await? else { return Ok(None) };
        let user: KeptUser = mongodb::bson::deserialize_from_document(record)
            .map_err(|error| StoreError::Unusable(format!("the user {id} in `users`: {error}")))?;
        Ok(Some(UserRecord {
            name: user.name,
            first_seen_ms: millis(user.first_seen),
            last_seen_ms: millis(user.last_seen),
            metadata: user.metadata,
        }))
    }
}
