//! Retention of rooms that have one of their own.
//!
//! The retention of all rooms and users is the server's: its TTL indexes delete, about once a
//! minute, and are not counted here. They know no rooms, so a room can have its messages deleted
//! earlier than all others, never kept longer. A step deletes from the beginning of a room, up to
//! the first message that is young enough.

use mongodb::bson::{DateTime, Document, doc};

use super::super::{StoreError, Swept};
use super::rooms::asked;
use super::{Mongo, SERVER_TIME_MAX, millis};

/// Messages one step deletes at most.
const MESSAGES_MAX: usize = 1000;
/// Rooms one step looks at.
const ROOMS_MAX: i64 = 50;

/// What is to be deleted of a room.
struct Old {
    count: usize,
    last_seq: i64,
    /// When the first one was numbered.
    first_at_ms: u64,
}

impl Mongo {
    pub(super) async fn sweep_rooms(
        &self,
        now_ms: u64,
        from: Option<&str>,
    ) -> Result<Swept, StoreError> {
        let rooms = self.rooms_with_retention(from).await?;
        let is_end = rooms.len() < usize::try_from(ROOMS_MAX).unwrap_or(usize::MAX);
        let mut swept = Swept { next: from.map(Into::into), ..Swept::default() };
        let mut left = MESSAGES_MAX;
        for (room, retention_ms) in rooms {
            let deadline_ms = now_ms.saturating_sub(retention_ms);
            if let Some(old) = self.old(&room, deadline_ms, left).await? {
                // The number outlives the messages: it must be in the record before they go.
                let last_seq = u64::try_from(old.last_seq).unwrap_or_default();
                self.raise_room(&room, last_seq, old.first_at_ms).await?;
                swept.messages += self.delete(&room, old.last_seq).await?;
                left -= old.count;
            }
            if left == 0 {
                // The room may have more: the next step looks at it again.
                return Ok(swept);
            }
            swept.next = Some(room.into());
        }
        if is_end {
            swept.next = None;
        }
        Ok(swept)
    }

    /// Rooms after one, by name, with their retention.
    async fn rooms_with_retention(
        &self,
        after: Option<&str>,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let mut filter = doc! { "settings.retentionMs": { "$exists": true } };
        if let Some(after) = after {
            filter.insert("_id", doc! { "$gt": after });
        }
        let rooms = self.database.collection::<Document>("rooms");
        let found = asked(async move {
            let find = rooms.find(filter).sort(doc! { "_id": 1 }).limit(ROOMS_MAX);
            let projection = doc! { "settings.retentionMs": 1 };
            let mut cursor = find.projection(projection).max_time(SERVER_TIME_MAX).await?;
            let mut found = Vec::new();
            while cursor.advance().await? {
                found.push(cursor.deserialize_current()?);
            }
            Ok(found)
        })
        .await?;
        Ok(found.into_iter().filter_map(|it| Some((name(&it)?, retention_ms(&it)))).collect())
    }

    /// The messages at a room's beginning that are older than a time.
    async fn old(
        &self,
        room: &str,
        deadline_ms: u64,
        count_max: usize,
    ) -> Result<Option<Old>, StoreError> {
        let messages = self.messages.clone_with_type::<Document>();
        let filter = doc! { "room": room };
        let limit = i64::try_from(count_max).unwrap_or(1).max(1);
        asked(async move {
            let find = messages.find(filter).sort(doc! { "seq": 1 }).limit(limit);
            let projection = doc! { "_id": 0, "seq": 1, "at": 1 };
            let mut cursor = find.projection(projection).max_time(SERVER_TIME_MAX).await?;
            let mut old: Option<Old> = None;
            while cursor.advance().await? {
                let message = cursor.deserialize_current()?;
                let at = message.get_datetime("at").copied().unwrap_or(DateTime::MAX);
                let (seq, at_ms) = (message.get_i64("seq").unwrap_or_default(), millis(at));
                if at_ms >= deadline_ms {
                    break;
                }
                let old = old.get_or_insert(Old { count: 0, last_seq: 0, first_at_ms: at_ms });
                (old.count, old.last_seq) = (old.count + 1, seq);
            }
            Ok(old)
        })
        .await
    }

    async fn delete(&self, room: &str, last_seq: i64) -> Result<u64, StoreError> {
        let messages = self.messages.clone();
        let filter = doc! { "room": room, "seq": { "$lte": last_seq } };
        let deleted = asked(async move { messages.delete_many(filter).await }).await?;
        Ok(deleted.deleted_count)
    }
}

fn name(room: &Document) -> Option<String> {
    room.get_str("_id").ok().map(str::to_owned)
}

/// A room's retention; one that is none deletes nothing.
fn retention_ms(room: &Document) -> u64 {
    let ms = room.get_document("settings").ok().and_then(|it| it.get("retentionMs"));
    let ms = ms.and_then(|it| it.as_i64().or(it.as_i32().map(i64::from)));
    ms.and_then(|it| u64::try_from(it).ok()).unwrap_or(u64::MAX)
}
