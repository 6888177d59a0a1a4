//! Keeping messages and noting users.
//!
//! A batch is one unordered insert. The server works through it from first to last, also where it
//! skips a document, and stops where it can go on no more; so what is durable of a room is a
//! beginning of its messages, but for those that were refused. An ordered insert would promise the
//! same and need one more round trip per document that is there already: a batch of a thousand
//! that is repeated after an unknown outcome would need a thousand. On a sharded cluster both
//! unique indexes allow no other shard key than `room`, which keeps a room's messages on one
//! shard. Where a document fails by the server's state while later ones succeed, the whole batch
//! is `Unavailable`; nothing of it was promised, and repeating it closes the gap.
//!
//! A key that is there already says nothing by itself: the message may be kept (fine), its number
//! taken (refused), or its `clientId` used (kept without). The server is asked which; it is
//! because of the write concern of the insert, which covers what it found there, that "kept" means
//! durable.

use hashbrown::HashMap;
use mongodb::bson::{
    Binary, Document, RawArrayBuf, RawDocumentBuf, cstr, doc, rawdoc, spec::BinarySubtype,
};
use serde::Deserialize;

use super::super::{Entry, Refusal, Seen, StoreError};
use super::rooms::asked;
use super::{Mongo, SERVER_TIME_MAX, WriteError, bounded, date};

/// The greatest document every MongoDB takes.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often what was in the way is asked for. Two are enough without other writers: a number
/// that is taken, then a `clientId`.
const ROUNDS_MAX: usize = 5;

/// A message of a batch that has still to be inserted.
#[derive(Clone, Copy)]
struct Pending {
    /// Its place in the batch.
    index: usize,
    with_client_id: bool,
}

/// What keys are taken by.
#[derive(Deserialize)]
struct Taken {
    #[serde(rename = "_id")]
    id: String,
    room: String,
    seq: i64,
}

impl Mongo {
    pub(super) async fn append_batch(&self, batch: &[Entry]) -> Result<Vec<Refusal>, StoreError> {
        let mut refusals = Vec::new();
        let first = |index| Pending { index, with_client_id: true };
        let mut pending: Vec<_> = (0..batch.len()).map(first).collect();
        let mut transient = None;
        for _ in 0..ROUNDS_MAX {
            let errors = self.insert(batch, &mut pending, &mut refusals).await?;
            let mut duplicates = Vec::new();
            for error in errors {
                // A place that is none would be the server's mistake; the message is then unsure.
                match pending.get(error.index) {
                    Some(it) if error.is_duplicate() => duplicates.push(*it),
                    Some(it) if error.is_refusal() => {
                        refusals.push(Refusal { index: it.index, reason: error.reason });
                    }
                    _ => transient = Some(error.reason),
                }
            }
            if let Some(reason) = transient {
                return Err(StoreError::Unavailable(reason));
            }
            if duplicates.is_empty() {
                self.note_kept(batch, &refusals);
                self.follow_messages().await?;
                return Ok(refusals);
            }
            pending = self.resolve(batch, duplicates, &mut refusals).await?;
        }
        let reason = "a message's keys are taken and free in turn: another writer is at work";
        Err(StoreError::Unavailable(reason.to_owned()))
    }

    /// Inserts what is pending. Takes out of it, and refuses, what cannot be a document.
    async fn insert(
        &self,
        batch: &[Entry],
        pending: &mut Vec<Pending>,
        refusals: &mut Vec<Refusal>,
    ) -> Result<Vec<WriteError>, StoreError> {
        let mut documents = Vec::with_capacity(pending.len());
        pending.retain(|it| match document(&batch[it.index], it.with_client_id) {
            Ok(document) => {
                documents.push(document);
                true
            }
            Err(reason) => {
                refusals.push(Refusal { index: it.index, reason });
                false
            }
        });
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let messages = self.messages.clone();
        let insert = async move { messages.insert_many(&documents).ordered(false).await };
        match bounded(insert).await {
            Ok(_) => Ok(Vec::new()),
            Err(failure) if !failure.writes.is_empty() => Ok(failure.writes),
            Err(failure) => Err(failure.into_error()),
        }
    }

    /// Says of each message whose keys were taken whether it is kept, refused, or to be inserted
    /// once more: those are returned.
    async fn resolve(
        &self,
        batch: &[Entry],
        duplicates: Vec<Pending>,
        refusals: &mut Vec<Refusal>,
    ) -> Result<Vec<Pending>, StoreError> {
        let message = |it: &Pending| &*batch[it.index].message;
        let ids: Vec<&str> = duplicates.iter().map(|it| &*message(it).id).collect();
        let mut seqs_by_room: HashMap<&str, Vec<i64>> = HashMap::new();
        for it in &duplicates {
            let seqs = seqs_by_room.entry(&batch[it.index].room).or_default();
            seqs.push(number(message(it).seq));
        }
        let numbered = seqs_by_room.into_iter();
        let mut clauses: Vec<_> =
            numbered.map(|(room, seqs)| doc! { "room": room, "seq": { "$in": seqs } }).collect();
        clauses.push(doc! { "_id": { "$in": ids } });
        let taken = self.taken(doc! { "$or": clauses }).await?;
        let by_id: HashMap<&str, &Taken> = taken.iter().map(|it| (&*it.id, it)).collect();
        let by_seq: HashMap<(&str, i64), &Taken> =
            taken.iter().map(|it| ((&*it.room, it.seq), it)).collect();
        let mut again = Vec::new();
        for it in duplicates {
            let (room, message) = (&*batch[it.index].room, message(&it));
            let place = (room, number(message.seq));
            let reason = match (by_id.get(&*message.id), by_seq.get(&place)) {
                (Some(kept), _) if (&*kept.room, kept.seq) == place => continue,
                (Some(kept), _) => {
                    format!("its id is that of message {} of {}", kept.seq, kept.room)
                }
                (None, Some(other)) => format!("{} has the number {}", other.id, other.seq),
                (None, None) => {
                    again.push(Pending { with_client_id: false, ..it });
                    continue;
                }
            };
            refusals.push(Refusal { index: it.index, reason });
        }
        Ok(again)
    }

    async fn taken(&self, filter: Document) -> Result<Vec<Taken>, StoreError> {
        let messages = self.messages.clone_with_type::<Taken>();
        asked(async move {
            let mut found = Vec::new();
            let projection = doc! { "room": 1, "seq": 1 };
            let find = messages.find(filter).projection(projection).max_time(SERVER_TIME_MAX);
            let mut cursor = find.await?;
            while cursor.advance().await? {
                found.push(cursor.deserialize_current()?);
            }
            Ok(found)
        })
        .await
    }

    fn note_kept(&self, batch: &[Entry], refusals: &[Refusal]) {
        let mut is_kept = vec![true; batch.len()];
        refusals.iter().for_each(|it| is_kept[it.index] = false);
        self.lag.note_all(batch.iter().zip(is_kept).filter(|(_, kept)| *kept).map(|(it, _)| it));
    }

    pub(super) async fn write_users(&self, seen: &[Seen]) -> Result<(), StoreError> {
        if seen.is_empty() {
            return Ok(());
        }
        let errors = self.update("users", seen.iter().map(noted).collect()).await?;
        for error in errors {
            if !error.is_refusal() || error.is_duplicate() {
                return Err(StoreError::Unavailable(error.reason));
            }
            tracing::warn!(reason = error.reason, "the store refuses to note a user");
        }
        Ok(())
    }
}

fn noted(seen: &Seen) -> Document {
    let at = date(seen.at_ms);
    let mut set = doc! { "name": &*seen.name };
    if let Some(metadata) = &seen.metadata {
        set.insert("metadata", &**metadata);
    }
    let update = doc! { "$set": set, "$min": { "firstSeen": at }, "$max": { "lastSeen": at } };
    doc! { "q": { "_id": &*seen.user }, "u": update, "upsert": true }
}

/// A number in BSON. Greater ones are refused before they are looked for.
fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// A message as `messages` has it.
fn document(entry: &Entry, with_client_id: bool) -> Result<RawDocumentBuf, String> {
    let message = &*entry.message;
    let draft = &message.draft;
    let seq = i64::try_from(message.seq).map_err(|_| "its number is too great".to_owned())?;
    i64::try_from(message.at_ms).map_err(|_| "its time is too late".to_owned())?;
    let least = draft.body.len() + draft.attachments.iter().map(|it| it.len()).sum::<usize>();
    // Before copying: what is far too big need not be had twice.
    if least > DOCUMENT_BYTES_MAX {
        return Err(too_big(least));
    }
    let from = rawdoc! {
        "id": &*draft.from.id, "user": &*draft.from.user, "name": &*draft.from.name
    };
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), &*message.id);
    document.append(cstr!("room"), &*entry.room);
    document.append(cstr!("seq"), seq);
    document.append(cstr!("from"), from);
    document.append(cstr!("body"), &*draft.body);
    document.append(cstr!("at"), date(message.at_ms));
    if let Some(id) = draft.client_id.as_deref().filter(|_| with_client_id) {
        document.append(cstr!("clientId"), id);
    }
    if !draft.attachments.is_empty() {
        let mut parts = RawArrayBuf::new();
        for part in &draft.attachments {
            parts.push(Binary { subtype: BinarySubtype::Generic, bytes: part.to_vec() });
        }
        document.append(cstr!("attachments"), parts);
    }
    let bytes = document.as_bytes().len();
    if bytes > DOCUMENT_BYTES_MAX { Err(too_big(bytes)) } else { Ok(document) }
}

fn too_big(bytes: usize) -> String {
    format!("{bytes} bytes; MongoDB keeps up to {DOCUMENT_BYTES_MAX} in one document")
}
