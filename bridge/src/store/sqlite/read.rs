//! What reads the file. Every statement is answered from an index and touches no more rows than
//! it returns; what cannot be understood is named, never skipped.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Deserialize;

use super::{Fault, signed, unsigned};
use crate::message::{Author, Draft, Message, Range};
use crate::store::{NUMBER_MAX, RoomRecord, UserRecord};

const READ: &str = r#"
    SELECT "_id", seq, at, "from", body, "clientId", attachments FROM messages
    WHERE room=?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq DESC LIMIT ?4"#;
const FIND: &str = r#"
    SELECT "_id", seq, at, "from", body, "clientId", attachments FROM messages
    WHERE room=?1 AND "clientId"=?2"#;
const ROOM: &str = r#"
    SELECT "createdAt", "lastSeq", settings,
        (SELECT max(seq) FROM messages WHERE room=?1)
    FROM rooms WHERE "_id"=?1"#;
const USER: &str = r#"
    SELECT name, "firstSeen", "lastSeen", metadata FROM users WHERE "_id"=?1"#;

/// All of them, for the proof that none walks a table.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[READ, FIND, ROOM, USER];

#[derive(Deserialize)]
struct From {
    id: Box<str>,
    user: Box<str>,
    name: Box<str>,
}

/// The numbers of a range, both ends included; `None` where there are none.
fn ends(range: Range) -> Option<(i64, i64)> {
    let first = range.after.map_or(Some(0), |after| after.checked_add(1))?;
    let last = range.before.map_or(Some(NUMBER_MAX), |before| before.checked_sub(1))?;
    (first <= NUMBER_MAX && first <= last).then(|| (signed(first), signed(last)))
}

pub(super) fn read(
    connection: &Connection,
    room: &str,
    range: Range,
) -> Result<Vec<Message>, Fault> {
    let Some((first, last)) = ends(range) else { return Ok(Vec::new()) };
    let limit = signed(range.limit as u64);
    let mut statement = connection.prepare_cached(READ)?;
    let mut rows = statement.query(params![room, first, last, limit])?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        messages.push(message(room, row)?);
    }
    messages.reverse();
    Ok(messages)
}

pub(super) fn find(
    connection: &Connection,
    room: &str,
    client_ids: &[Box<str>],
) -> Result<Vec<Message>, Fault> {
    let mut statement = connection.prepare_cached(FIND)?;
    let mut messages = Vec::new();
    for id in client_ids.iter().collect::<HashSet<_>>() {
        let mut rows = statement.query(params![room, &**id])?;
        while let Some(row) = rows.next()? {
            messages.push(message(room, row)?);
        }
    }
    Ok(messages)
}

/// Reads a row of [`READ`] or [`FIND`].
fn message(room: &str, row: &Row<'_>) -> Result<Message, Fault> {
    let (id, seq): (Box<str>, i64) = (row.get(0)?, row.get(1)?);
    let damaged = |what: &str| {
        Fault::Unusable(format!("message {id} (room {room:?}, number {seq}): {what} is damaged"))
    };
    let from = row.get_ref(3)?.as_str().ok().and_then(|it| serde_json::from_str(it).ok());
    let From { id: socket, user, name } = from.ok_or_else(|| damaged("from"))?;
    let parts = row.get_ref(6)?.as_blob_or_null().map_err(|_| damaged("attachments"))?;
    let attachments =
        parts.map_or(Some(Vec::new()), unpack).ok_or_else(|| damaged("attachments"))?;
    Ok(Message {
        seq: unsigned(seq),
        at_ms: unsigned(row.get(2)?),
        draft: Draft {
            from: Author { id: socket, user, name },
            body: row.get(4)?,
            attachments,
            client_id: row.get(5)?,
        },
        id,
    })
}

/// The reverse of `write::pack`; `None` where the lengths do not add up.
fn unpack(mut bytes: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        parts.push(part.into());
        bytes = rest;
    }
    Some(parts)
}

pub(super) fn room(connection: &Connection, room: &str) -> Result<Option<RoomRecord>, Fault> {
    let mut statement = connection.prepare_cached(ROOM)?;
    let mut rows = statement.query([room])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let settings = serde_json::from_str(row.get_ref(2)?.as_str().unwrap_or_default());
    let damaged = |error| Fault::Unusable(format!("settings of room {room:?}: {error}"));
    let newest = row.get::<_, Option<i64>>(3)?.unwrap_or(0);
    Ok(Some(RoomRecord {
        created_at_ms: unsigned(row.get(0)?),
        last_seq: unsigned(row.get::<_, i64>(1)?.max(newest)),
        settings: settings.map_err(damaged)?,
    }))
}

pub(super) fn user(connection: &Connection, id: &str) -> Result<Option<UserRecord>, Fault> {
    let mut statement = connection.prepare_cached(USER)?;
    let user = statement.query_row([id], |row| {
        Ok(UserRecord {
            name: row.get(0)?,
            first_seen_ms: unsigned(row.get(1)?),
            last_seen_ms: unsigned(row.get(2)?),
            metadata: row.get(3)?,
        })
    });
    Ok(user.optional()?)
}

/// Whether the file answers.
pub(super) fn check(connection: &Connection) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached("SELECT version FROM schema_version")?;
    statement.query_row([], |_| Ok(()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::write::pack;

    #[test]
    fn parts_come_back_as_they_were_and_damage_is_seen() {
        let parts: Vec<Box<[u8]>> = vec![[].into(), [0, 255].into(), vec![7; 70_000].into()];
        let mut bytes = Vec::new();
        pack(&mut bytes, &parts);
        assert_eq!(unpack(&bytes), Some(parts));
        for cut in [1, 3, 5, bytes.len() - 1] {
            assert_eq!(unpack(&bytes[..cut]), None, "cut at {cut}");
        }
        bytes[0] = 200;
        assert_eq!(unpack(&bytes[..20]), None);
    }

    #[test]
    fn ranges_have_ends_or_none() {
        let ends = |after, before| ends(Range { after, before, limit: 1 });
        assert_eq!(ends(None, None), Some((0, i64::MAX)));
        assert_eq!(ends(Some(3), Some(9)), Some((4, 8)));
        assert_eq!((ends(Some(3), Some(4)), ends(None, Some(0))), (None, None));
        assert_eq!((ends(Some(u64::MAX), None), ends(Some(NUMBER_MAX), None)), (None, None));
        assert_eq!(ends(None, Some(u64::MAX)), Some((0, i64::MAX)));
    }
}
