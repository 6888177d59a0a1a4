//! What changes the file, apart from retention: each call is one transaction.
//!
//! A message is refused alone when the fault is its own; every other fault rolls the whole
//! transaction back. Steady appends allocate nothing per message.

use hashbrown::HashMap;
use rusqlite::{
    CachedStatement, Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior,
    params,
};
use serde::Serialize;

use super::{Fault, signed, unsigned};
use crate::message::{Author, Message};
use crate::store::{Entry, NUMBER_MAX, Refusal, RoomRecord, RoomSettings, Seen};

/// A message's bytes, its attachments included. A row is held whole in memory several times while
/// it is written or read; no packet that the engine takes comes near.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

const INSERT: &str = r#"
    INSERT INTO messages("_id", room, seq, "from", body, at, "clientId", attachments)
    VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING"#;
const HOLDER: &str = r#"SELECT "_id" FROM messages WHERE room=?1 AND seq=?2"#;
const RAISE: &str = r#"UPDATE rooms SET "lastSeq"=max("lastSeq", ?2) WHERE "_id"=?1"#;
const MAKE_ROOM: &str = r#"
    INSERT INTO rooms("_id", "createdAt", "lastSeq", settings) VALUES(?1, ?2, ?3, '{}')"#;
const CONFIGURE: &str = r#"
    INSERT INTO rooms("_id", "createdAt", "lastSeq", settings)
    VALUES(?1, ?2, (SELECT ifnull(max(seq), 0) FROM messages WHERE room=?1), ?3)
    ON CONFLICT DO UPDATE SET settings=excluded.settings
    RETURNING "createdAt", "lastSeq""#;
const NOTE: &str = r#"
    INSERT INTO users("_id", name, "firstSeen", "lastSeen", metadata) VALUES(?1, ?2, ?3, ?3, ?4)
    ON CONFLICT DO UPDATE SET
        name=excluded.name,
        "firstSeen"=min("firstSeen", excluded."firstSeen"),
        "lastSeen"=max("lastSeen", excluded."lastSeen"),
        metadata=ifnull(excluded.metadata, metadata)"#;

/// All of them, for the proof that none walks a table.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[HOLDER, RAISE, MAKE_ROOM, CONFIGURE, INSERT, NOTE];

#[derive(Serialize)]
struct From<'a> {
    id: &'a str,
    user: &'a str,
    name: &'a str,
}

/// What a batch has done to a room.
struct Mark {
    last_seq: u64,
    created_at_ms: u64,
}

/// The statement that keeps a message, with room for what it is made of.
struct Keeper<'a> {
    insert: CachedStatement<'a>,
    transaction: &'a Transaction<'a>,
    from: Vec<u8>,
    parts: Vec<u8>,
}

pub(super) fn append(connection: &mut Connection, batch: &[Entry]) -> Result<Vec<Refusal>, Fault> {
    let transaction = begin(connection)?;
    let mut refused = Vec::new();
    let mut marks: HashMap<&str, Mark> = HashMap::new();
    {
        let mut keeper = Keeper::new(&transaction)?;
        for (index, Entry { room, message }) in batch.iter().enumerate() {
            if let Some(reason) = keeper.keep(room, message)? {
                refused.push(Refusal { index, reason });
                continue;
            }
            let mark = marks
                .entry(room)
                .or_insert(Mark { last_seq: message.seq, created_at_ms: message.at_ms });
            mark.last_seq = mark.last_seq.max(message.seq);
        }
    }
    raise(&transaction, &marks)?;
    transaction.commit()?;
    Ok(refused)
}

/// A transaction that writes: from its start nobody else does.
pub(super) fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn raise(transaction: &Transaction<'_>, marks: &HashMap<&str, Mark>) -> rusqlite::Result<()> {
    let mut update = transaction.prepare_cached(RAISE)?;
    for (room, mark) in marks {
        if update.execute(params![room, signed(mark.last_seq)])? == 0 {
            let mut insert = transaction.prepare_cached(MAKE_ROOM)?;
            insert.execute(params![room, signed(mark.created_at_ms), signed(mark.last_seq)])?;
        }
    }
    Ok(())
}

impl<'a> Keeper<'a> {
    fn new(transaction: &'a Transaction<'a>) -> rusqlite::Result<Self> {
        let insert = transaction.prepare_cached(INSERT)?;
        Ok(Self { insert, transaction, from: Vec::new(), parts: Vec::new() })
    }

    /// Keeps a message, or says why it never will.
    fn keep(&mut self, room: &str, message: &Message) -> Result<Option<String>, Fault> {
        if message.seq > NUMBER_MAX || message.at_ms > NUMBER_MAX {
            let (seq, at_ms) = (message.seq, message.at_ms);
            return Ok(Some(format!("the number {seq} or the time {at_ms} is too great")));
        }
        let bytes = message.held_bytes();
        if bytes > MESSAGE_BYTES_MAX {
            return Ok(Some(format!("it has {bytes} bytes, more than {MESSAGE_BYTES_MAX}")));
        }
        match self.settle(room, message) {
            Err(Fault::Sql(error)) if is_messages_own(&error) => Ok(Some(error.to_string())),
            settled => settled,
        }
    }

    fn settle(&mut self, room: &str, message: &Message) -> Result<Option<String>, Fault> {
        let client_id = message.draft.client_id.as_deref();
        if self.insert(room, message, client_id)? {
            return Ok(None);
        }
        let mut holder = self.transaction.prepare_cached(HOLDER)?;
        let holder: Option<String> =
            holder.query_row(params![room, signed(message.seq)], |row| row.get(0)).optional()?;
        match holder {
            Some(id) if *id == *message.id => Ok(None),
            Some(id) => Ok(Some(format!("{id} has the number {} already", message.seq))),
            // Its number is free, so it is the client's id that is taken.
            None => match self.insert(room, message, None)? {
                true => Ok(None),
                false => Ok(Some("it is in conflict with what is stored".into())),
            },
        }
    }

    /// Whether the message is in; `false` where something of it is taken.
    fn insert(
        &mut self,
        room: &str,
        message: &Message,
        client_id: Option<&str>,
    ) -> Result<bool, Fault> {
        let draft = &message.draft;
        let author = author(&mut self.from, &draft.from)?;
        pack(&mut self.parts, &draft.attachments);
        let parts = (!draft.attachments.is_empty()).then_some(&*self.parts);
        let inserted = self.insert.execute(params![
            &*message.id,
            room,
            signed(message.seq),
            author,
            &*draft.body,
            signed(message.at_ms),
            client_id,
            parts,
        ])?;
        Ok(inserted == 1)
    }
}

/// The author as JSON, in a buffer that is used again.
fn author<'a>(buffer: &'a mut Vec<u8>, from: &Author) -> Result<&'a str, Fault> {
    buffer.clear();
    let from = From { id: &from.id, user: &from.user, name: &from.name };
    serde_json::to_writer(&mut *buffer, &from)
        .map_err(|error| Fault::Unusable(format!("an author is no JSON: {error}")))?;
    std::str::from_utf8(buffer)
        .map_err(|error| Fault::Unusable(format!("an author is no text: {error}")))
}

/// Each part's length, four bytes with the least first, then the part.
pub(super) fn pack(buffer: &mut Vec<u8>, parts: &[Box<[u8]>]) {
    buffer.clear();
    for part in parts {
        // `MESSAGE_BYTES_MAX` is checked before, and below this.
        buffer.extend_from_slice(&(part.len() as u32).to_le_bytes());
        buffer.extend_from_slice(part);
    }
}

/// Whether an error is about the row alone; such a one leaves the transaction as it was.
fn is_messages_own(error: &rusqlite::Error) -> bool {
    use ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    let code = error.sqlite_error_code();
    code.is_some_and(|code| matches!(code, ConstraintViolation | TooBig | TypeMismatch))
        || matches!(error, rusqlite::Error::ToSqlConversionFailure(_))
}

pub(super) fn configure(
    connection: &mut Connection,
    room: &str,
    settings: &RoomSettings,
    now_ms: u64,
) -> Result<RoomRecord, Fault> {
    let text = serde_json::to_string(settings)
        .map_err(|error| Fault::Unusable(format!("the settings are no JSON: {error}")))?;
    let transaction = begin(connection)?;
    let (created_at, last_seq) = transaction
        .prepare_cached(CONFIGURE)?
        .query_row(params![room, signed(now_ms), text], |row| Ok((row.get(0)?, row.get(1)?)))?;
    transaction.commit()?;
    Ok(RoomRecord {
        created_at_ms: unsigned(created_at),
        last_seq: unsigned(last_seq),
        settings: settings.clone(),
    })
}

pub(super) fn note_users(connection: &mut Connection, seen: &[Seen]) -> Result<(), Fault> {
    let transaction = begin(connection)?;
    {
        let mut note = transaction.prepare_cached(NOTE)?;
        for Seen { user, name, at_ms, metadata } in seen {
            note.execute(params![&**user, &**name, signed(*at_ms), metadata.as_deref()])?;
        }
    }
    Ok(transaction.commit()?)
}

/// Writes a row and syncs it: only that shows that the disk takes it.
pub(super) fn check(connection: &mut Connection) -> Result<(), Fault> {
    let transaction = begin(connection)?;
    transaction.prepare_cached("UPDATE schema_version SET version=version")?.execute([])?;
    Ok(transaction.commit()?)
}
