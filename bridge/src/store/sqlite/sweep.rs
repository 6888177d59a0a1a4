//! Retention in steps that fit between two appends.
//!
//! A step walks rooms by name, then users by when they were last seen. Its cursor is a letter for
//! the part it is in (`r`, `u`) and, for rooms, the last one that is done with: a step that stops
//! within a room starts with that room again. Where nothing has a retention, a sweep is one look
//! into an empty index.

use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Transaction, params};

use super::write::begin;
use super::{Fault, signed, unsigned};
use crate::store::{Retention, Swept};

/// Rooms looked at by a step.
const ROOMS_MAX: u64 = 100;
/// Messages or users deleted by a step.
const DELETED_MAX: u64 = 1_000;
/// Deleted before the clock is looked at again.
const CHUNK: u64 = 100;
/// How long a step goes on, the commit not counted.
const STEP_MAX: Duration = Duration::from_millis(5);

const ALL_ROOMS: &str = r#"
    SELECT "_id", json_extract(settings, '$.retentionMs') FROM rooms
    WHERE "_id">?1 ORDER BY "_id" LIMIT ?2"#;
const ROOMS_WITH_OWN: &str = r#"
    SELECT "_id", json_extract(settings, '$.retentionMs') FROM rooms INDEXED BY rooms_retention
    WHERE "_id">?1 AND json_extract(settings, '$.retentionMs') IS NOT NULL
    ORDER BY "_id" LIMIT ?2"#;
const OLDEST: &str = "SELECT seq, at FROM messages WHERE room=?1 ORDER BY seq LIMIT ?2";
const DELETE: &str = "DELETE FROM messages WHERE room=?1 AND seq<=?2";
const DELETE_USERS: &str = r#"
    DELETE FROM users WHERE "_id" IN
        (SELECT "_id" FROM users WHERE "lastSeen"<?1 ORDER BY "lastSeen" LIMIT ?2)"#;

/// All of them, for the proof that none walks a table.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[ALL_ROOMS, ROOMS_WITH_OWN, OLDEST, DELETE, DELETE_USERS];

/// One step's bounds.
struct Budget {
    until: Instant,
    left: u64,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.left == 0 || Instant::now() >= self.until
    }

    fn chunk(&self) -> u64 {
        self.left.min(CHUNK)
    }
}

pub(super) fn step(
    connection: &mut Connection,
    retention: Retention,
    now_ms: u64,
    from: Option<&str>,
) -> Result<Swept, Fault> {
    let transaction = begin(connection)?;
    let mut budget = Budget { until: Instant::now() + STEP_MAX, left: DELETED_MAX };
    let mut swept = Swept::default();
    if from != Some("u") {
        let after = from.and_then(|from| from.strip_prefix('r')).unwrap_or_default();
        let done = sweep_rooms(&transaction, retention, now_ms, after, &mut budget)?;
        swept.messages = DELETED_MAX - budget.left;
        swept.next = done.map(|done| format!("r{done}").into());
    }
    if let (None, Some(users_ms)) = (&swept.next, retention.users_ms) {
        let before = budget.left;
        if !sweep_users(&transaction, now_ms.saturating_sub(users_ms), &mut budget)? {
            swept.next = Some("u".into());
        }
        swept.users = before - budget.left;
    }
    transaction.commit()?;
    Ok(swept)
}

/// Sweeps rooms after the one named. Returns the last one done with, if there may be more.
fn sweep_rooms(
    transaction: &Transaction<'_>,
    retention: Retention,
    now_ms: u64,
    after: &str,
    budget: &mut Budget,
) -> Result<Option<String>, Fault> {
    let select = if retention.messages_ms.is_some() { ALL_ROOMS } else { ROOMS_WITH_OWN };
    let mut statement = transaction.prepare_cached(select)?;
    let mut rows = statement.query(params![after, signed(ROOMS_MAX)])?;
    let (mut done, mut count) = (after.to_owned(), 0);
    while let Some(row) = rows.next()? {
        let own_ms = match row.get_ref(1)? {
            ValueRef::Integer(ms) => Some(unsigned(ms)),
            // JSON's numbers beyond SQLite's integers.
            ValueRef::Real(ms) => Some(ms as u64),
            _ => None,
        };
        let room = row.get_ref(0)?.as_str().unwrap_or_default();
        if let Some(ms) = own_ms.or(retention.messages_ms)
            && !sweep_room(transaction, room, now_ms.saturating_sub(ms), budget)?
        {
            return Ok(Some(done));
        }
        room.clone_into(&mut done);
        count += 1;
        if budget.is_spent() {
            return Ok(Some(done));
        }
    }
    Ok((count == ROOMS_MAX).then_some(done))
}

/// Deletes a room's messages from before `least_ms`, oldest first. Whether it is done with.
fn sweep_room(
    transaction: &Transaction<'_>,
    room: &str,
    least_ms: u64,
    budget: &mut Budget,
) -> Result<bool, Fault> {
    let mut oldest = transaction.prepare_cached(OLDEST)?;
    let mut delete = transaction.prepare_cached(DELETE)?;
    loop {
        let wanted = budget.chunk();
        let (mut last, mut old) = (None, 0);
        let mut rows = oldest.query(params![room, signed(wanted)])?;
        while let Some(row) = rows.next()? {
            if unsigned(row.get(1)?) >= least_ms {
                break;
            }
            (last, old) = (Some(row.get::<_, i64>(0)?), old + 1);
        }
        drop(rows);
        if let Some(last) = last {
            delete.execute(params![room, last])?;
            budget.left -= old;
        }
        if old < wanted {
            return Ok(true);
        }
        if budget.is_spent() {
            return Ok(false);
        }
    }
}

/// Deletes users last seen before `least_ms`. Whether none is left.
fn sweep_users(
    transaction: &Transaction<'_>,
    least_ms: u64,
    budget: &mut Budget,
) -> Result<bool, Fault> {
    let mut delete = transaction.prepare_cached(DELETE_USERS)?;
    loop {
        let wanted = budget.chunk();
        let deleted = delete.execute(params![signed(least_ms), signed(wanted)])? as u64;
        budget.left -= deleted.min(budget.left);
        if deleted < wanted {
            return Ok(true);
        }
        if budget.is_spent() {
            return Ok(false);
        }
    }
}
