//! The file itself: who may use it, how it is opened, and which tables it has.
//!
//! Owns the lock, the pragmas and the migrations. A file is either made by the steps below or
//! brought up to date by those it has not seen; one that differs from what they make is refused
//! with what differs, and never changed. Nothing here looks at stored messages.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::store::StoreError;

/// Each step leads from the version before it to its own: the first makes version 1. A step that
/// has been released is never changed. Fresh files go through all of them, so that they cannot
/// differ from migrated ones.
///
/// Messages lie in the order of their room and number, so that a page of history is one range of
/// the file. The index on `settings` finds the rooms with a retention of their own among any
/// number of others.
const STEPS: &[&str] = &[
    r#"
    CREATE TABLE schema_version(version INTEGER NOT NULL);
    INSERT INTO schema_version VALUES(0);
    CREATE TABLE messages(
        "_id" TEXT NOT NULL,
        room TEXT NOT NULL,
        seq INTEGER NOT NULL,
        "from" TEXT NOT NULL,
        body TEXT NOT NULL,
        at INTEGER NOT NULL,
        "clientId" TEXT,
        PRIMARY KEY(room, seq)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX messages_client ON messages(room, "clientId")
        WHERE "clientId" IS NOT NULL;
    CREATE TABLE rooms(
        "_id" TEXT NOT NULL PRIMARY KEY,
        "createdAt" INTEGER NOT NULL,
        "lastSeq" INTEGER NOT NULL,
        settings TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX rooms_retention ON rooms("_id")
        WHERE json_extract(settings, '$.retentionMs') IS NOT NULL;
    CREATE TABLE users(
        "_id" TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        "firstSeen" INTEGER NOT NULL,
        "lastSeen" INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX users_seen ON users("lastSeen");
    "#,
    r#"
    ALTER TABLE messages ADD COLUMN attachments BLOB;
    ALTER TABLE users ADD COLUMN metadata TEXT;
    "#,
];

/// The pragmas of every connection. `FULL` syncs the log at every commit, which is what makes an
/// answer durable. No memory map: a bad block would then be a signal that ends the process, not an
/// error.
///
/// The log is folded into the file every 16,000 pages (64 MB): a page that many commits write is
/// then written back once. With 1,000 busy rooms that keeps a quarter more messages per second
/// than 4,000 pages do; 32,000 gain little, and 64 MB bound what a start after a kill reads. A
/// cache of more than 16 MB gains nothing either: what misses it is in the system's.
const PRAGMAS: &str = "
    PRAGMA synchronous=FULL;
    PRAGMA foreign_keys=ON;
    PRAGMA trusted_schema=OFF;
    PRAGMA temp_store=MEMORY;
    PRAGMA mmap_size=0;
    PRAGMA cache_size=-16384;
    PRAGMA wal_autocheckpoint=16000;
    PRAGMA journal_size_limit=67108864;
";

/// How long a tool that holds the file locked is waited for: other jobs wait as long.
const BUSY_MAX: Duration = Duration::from_secs(2);

/// Prepared statements a connection keeps: twice what the code has.
const STATEMENTS: usize = 32;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The one that changes the file.
    Writer,
    /// Cannot change anything.
    Reader,
}

/// Where the file is, and the lock that keeps other engines from it for as long as this lives.
pub(super) struct Place {
    path: PathBuf,
    /// Device and inode: another file under the same name is not the store.
    identity: (u64, u64),
    _lock: File,
}

impl Place {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is still the one that was opened. One that was removed or replaced would
    /// go on taking messages that nobody ever finds again.
    pub(super) fn verify(&self) -> Result<(), StoreError> {
        let fault = match identity(&self.path) {
            Ok(found) if found == self.identity => return Ok(()),
            Ok(_) => "was replaced by another file while it was in use".into(),
            Err(error) => format!("is gone while it was in use: {error}"),
        };
        let path = self.path.display();
        Err(StoreError::Unavailable(format!("{path} {fault}; put it back or restart the engine")))
    }

    /// A connection to the file, which is not made if it is missing.
    pub(super) fn connect(&self, role: Role) -> Result<Connection, StoreError> {
        let opened = connect(&self.path, role);
        opened.map_err(|error| {
            StoreError::Unavailable(format!("{} cannot be opened: {error}", self.path.display()))
        })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|it| (it.dev(), it.ino()))
}

fn unusable(path: &Path, what: impl std::fmt::Display) -> StoreError {
    StoreError::Unusable(format!("{} {what}", path.display()))
}

/// Makes or finds the file, locks it, and brings it to this version's schema.
pub(super) fn prepare(path: &Path) -> Result<(Place, Connection), StoreError> {
    let path = make_file(path)?;
    let lock = lock(&path)?;
    let unreadable = |error| unusable(&path, format!("cannot be read: {error}"));
    let identity = identity(&path).map_err(unreadable)?;
    let mut connection = connect(&path, Role::Writer).map_err(|error| explain(&path, &error))?;
    migrate(&path, &mut connection)?;
    compare(&path, &connection)?;
    Ok((Place { path, identity, _lock: lock }, connection))
}

/// The file's real path; it is there afterwards and can be read by its owner alone if it is new.
fn make_file(path: &Path) -> Result<PathBuf, StoreError> {
    // An absolute path, since SQLite would take one that starts with `file:` for an address.
    let path = std::path::absolute(path).map_err(|error| unusable(path, error))?;
    if let Some(folder) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| unusable(folder, format!("cannot be made: {error}")))?;
    }
    if path.is_dir() {
        return Err(unusable(&path, "is a folder, and should be the store's file"));
    }
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let denied = |error| {
        unusable(&path, format!("cannot be written: {error}; DATA_DIR must be a writable folder"))
    };
    open.map_err(denied)?;
    path.canonicalize().map_err(|error| unusable(&path, error))
}

/// The lock goes with the process, however it ends.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let broken = |error: io::Error| unusable(&lock_path, format!("cannot be locked: {error}"));
    let mut file = options.open(&lock_path).map_err(broken)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The number only helps whoever has to look for it: without it the text still says all.
            let _ = file.take(20).read_to_string(&mut holder);
            return Err(unusable(
                path,
                format!(
                    "is in use by another engine (process {}): stop that one, or give this one \
                     another DATA_DIR",
                    holder.trim()
                ),
            ));
        }
        Err(TryLockError::Error(error)) => return Err(broken(error)),
    }
    // A full disk must not keep the engine from what it can still read.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn connect(path: &Path, role: Role) -> rusqlite::Result<Connection> {
    let access = match role {
        Role::Writer => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Role::Reader => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    // No mutex: a connection never leaves its thread while it is used.
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(BUSY_MAX)?;
    if role == Role::Writer {
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    }
    connection.execute_batch(PRAGMAS)?;
    if role == Role::Reader {
        connection.pragma_update(None, "query_only", true)?;
    }
    Ok(connection)
}

fn explain(path: &Path, error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseCorrupt, NotADatabase, ReadOnly};
    let hint = match error.sqlite_error_code() {
        Some(NotADatabase) => "it is no SQLite database: move it away, or set another DATA_DIR",
        Some(DatabaseCorrupt) => {
            "it is damaged: restore it from a backup, or try `sqlite3 .recover`"
        }
        Some(ReadOnly) => "the file and its folder must be writable",
        Some(DatabaseBusy) => "another program holds it locked: end that one",
        _ => "see whether the disk is full or failing",
    };
    unusable(path, format!("cannot be used: {error}; {hint}"))
}

/// Brings the file to the newest version, in one transaction.
fn migrate(path: &Path, connection: &mut Connection) -> Result<(), StoreError> {
    let newest = STEPS.len();
    let failed = |error| explain(path, &error);
    let found = version(path, connection)?;
    if found == newest {
        return Ok(());
    }
    if found > newest {
        return Err(unusable(
            path,
            format!(
                "has version {found} of the schema, and this engine knows {newest}: run the newer \
                 engine that wrote it"
            ),
        ));
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for step in &STEPS[found..] {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.execute("UPDATE schema_version SET version=?1", [newest as i64]).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// The file's version; 0 for one without tables.
fn version(path: &Path, connection: &Connection) -> Result<usize, StoreError> {
    let failed = |error| explain(path, &error);
    let tables = "SELECT group_concat(name, ', ') FROM sqlite_schema WHERE type='table'";
    let tables: Option<String> =
        connection.query_row(tables, [], |row| row.get(0)).map_err(failed)?;
    let Some(tables) = tables else { return Ok(0) };
    if !tables.split(", ").any(|table| table == "schema_version") {
        return Err(unusable(
            path,
            format!("belongs to another program: it has tables ({tables}) and no schema_version"),
        ));
    }
    let select = "SELECT max(version), count(*) FROM schema_version";
    let found = connection
        .query_row(select, [], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, i64>(1)?)));
    match found.map_err(failed)? {
        (Some(version), 1) if version >= 1 => Ok(version as usize),
        found => {
            Err(unusable(path, format!("has a schema_version that makes no sense: {found:?}")))
        }
    }
}

/// Tables and indexes by name, each with a text per column or one for its definition.
type Shape = BTreeMap<String, BTreeMap<String, String>>;

fn shape(connection: &Connection) -> rusqlite::Result<Shape> {
    let mut shape = Shape::new();
    let columns = "
        SELECT it.name, field.name, field.type || iif(field.\"notnull\", ' NOT NULL', '')
            || iif(field.pk > 0, ' PRIMARY KEY ' || field.pk, '')
            || iif(it.wr, ' without rowid', '')
        FROM pragma_table_list AS it, pragma_table_info(it.name) AS field
        WHERE it.schema = 'main' AND it.type = 'table' AND it.name NOT LIKE 'sqlite^_%' ESCAPE '^'
        UNION ALL
        SELECT name, 'definition', sql FROM sqlite_schema
        WHERE type IN ('index', 'trigger') AND sql IS NOT NULL";
    let mut statement = connection.prepare(columns)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        shape.entry(row.get(0)?).or_default().insert(row.get(1)?, row.get(2)?);
    }
    Ok(shape)
}

/// Refuses a file whose tables are not those that the steps make. Tables and indexes beside them
/// are the operator's business.
fn compare(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let failed = |error| explain(path, &error);
    let model = Connection::open_in_memory().map_err(failed)?;
    STEPS.iter().try_for_each(|step| model.execute_batch(step)).map_err(failed)?;
    let wanted = shape(&model).map_err(failed)?;
    let found = shape(connection).map_err(failed)?;
    let mut faults = Vec::new();
    for (name, fields) in &wanted {
        let Some(has) = found.get(name) else {
            faults.push(format!("{name} is missing"));
            continue;
        };
        for (field, definition) in fields {
            match has.get(field) {
                None => faults.push(format!("{name}.{field} is missing")),
                Some(other) if other != definition => {
                    faults.push(format!("{name}.{field} is `{other}`, not `{definition}`"));
                }
                Some(_) => {}
            }
        }
        let unknown = has.keys().filter(|field| !fields.contains_key(*field));
        faults.extend(unknown.map(|field| format!("{name}.{field} is unknown")));
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(unusable(path, format!("has another schema than this engine's: {}", faults.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::{read, sweep, write};

    #[test]
    fn no_statement_walks_a_table() {
        let model = Connection::open_in_memory().expect("a database");
        STEPS.iter().for_each(|step| model.execute_batch(step).expect("a step"));
        let statements = [read::STATEMENTS, write::STATEMENTS, sweep::STATEMENTS].concat();
        assert!(statements.len() > 10);
        for sql in statements {
            let mut plan =
                model.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
            let count = plan.parameter_count();
            let values = rusqlite::params_from_iter(std::iter::repeat_n(1, count));
            let lines = plan.query_map(values, |row| row.get::<_, String>(3)).expect("a plan");
            for line in lines {
                let line = line.expect("a line");
                let is_bounded = line.starts_with("SEARCH") || !line.contains("messages");
                let is_walk = line.starts_with("SCAN") && line != "SCAN CONSTANT ROW";
                assert!(is_bounded && !is_walk && !line.contains("TEMP B-TREE"), "{line}: {sql}");
            }
        }
    }
}
