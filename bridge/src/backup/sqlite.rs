//! The embedded store's file: copied beside a running engine, put back, tended.
//!
//! Never waits for the engine's writer nor makes it wait: the copy is read inside one read
//! transaction, which in WAL mode blocks nobody and sees one moment. (Without it SQLite would
//! begin the copy anew after each write of the engine, and never end.) The price is that the WAL
//! is not shortened meanwhile.

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{BackupError, Counts, at, disk};

/// The store's file, in `DATA_DIR` and in a backup.
pub(super) const DATABASE: &str = "throng.db";
/// What belongs to a database file while it is open, or was left open.
pub(super) const SIDES: [&str; 3] = ["-wal", "-journal", "-shm"];
/// 1 MiB with SQLite's pages: some ms of work, then rest.
const PAGES_PER_STEP: i32 = 256;
const STEPS_PER_SYNC: u32 = 16;
const REST_MAX: Duration = Duration::from_millis(100);
const BUSY_MAX: Duration = Duration::from_secs(30);
/// A quarter of the file being empty is worth the time it takes to write the file anew.
const FREE_SHARE: u64 = 4;

/// Opens a database that must exist. It is not opened read-only, which WAL mode forbids where no
/// other process has the file open.
fn open(path: &Path) -> Result<Connection, BackupError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |error| BackupError::Failed(format!("{}: {error}", path.display()));
    // Absolute: SQLite takes what begins with `file:` for an address.
    let whole = std::path::absolute(path).map_err(at(path))?;
    let connection = Connection::open_with_flags(whole, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_MAX)?;
    // A file from elsewhere may be made to harm whoever reads it.
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON")?;
    Ok(connection)
}

/// The store's file in a folder; where a link stands there, what it leads to, as the engine has it.
pub(super) fn database(data_dir: &Path) -> PathBuf {
    let path = data_dir.join(DATABASE);
    fs::canonicalize(&path).unwrap_or(path)
}

/// The path with something after its name: `throng.db` and `-wal`.
pub(super) fn beside(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    PathBuf::from(name)
}

/// Copies the database to a new file, checked and synced.
pub(super) fn copy(from: &Path, to: &Path) -> Result<Counts, BackupError> {
    if !from.is_file() {
        let why = format!("{}: there is no store to back up", from.display());
        return Err(BackupError::Refused(why));
    }
    drop(disk::create_file(to)?); // SQLite would make it readable to others
    let source = open(from)?;
    source.execute_batch("PRAGMA query_only = ON; BEGIN")?;
    // The first read opens the transaction.
    number(&source, "SELECT count(*) FROM sqlite_schema")?;
    let mut target = open(to)?;
    // Synced once, below: a copy that is cut off is thrown away.
    target.execute_batch("PRAGMA synchronous = OFF")?;
    run(&Backup::new(&source, &mut target)?, to)?;
    source.execute_batch("ROLLBACK")?;
    // One file that can be read anywhere; the engine turns WAL on again.
    let _: String = target.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))?;
    check(&target, to)?;
    let counts = count(&target)?;
    target.close().map_err(|(_, error)| error)?;
    disk::sync(to)?;
    Ok(counts)
}

/// Works at most half of the time, so that a disk and a core are left to the engine, and syncs as
/// it goes: all at the end, the engine's own syncs would wait behind it.
fn run(backup: &Backup<'_, '_>, to: &Path) -> Result<(), BackupError> {
    let (mut waited, mut steps) = (Duration::ZERO, 0);
    loop {
        let begun = Instant::now();
        match backup.step(PAGES_PER_STEP)? {
            StepResult::Done => return Ok(()),
            StepResult::More => {
                steps += 1;
                if steps % STEPS_PER_SYNC == 0 {
                    disk::sync(to)?;
                }
                thread::sleep(begun.elapsed().min(REST_MAX));
            }
            _ if waited > BUSY_MAX => {
                return Err(BackupError::Failed("the store stays locked".to_owned()));
            }
            _ => {
                thread::sleep(REST_MAX);
                waited += REST_MAX;
            }
        }
    }
}

fn check(database: &Connection, path: &Path) -> Result<(), BackupError> {
    let found: String = database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" {
        return Ok(());
    }
    Err(BackupError::Failed(format!("{}: the copy is damaged: {found}", path.display())))
}

/// The one number a statement gives, which is no negative one.
fn number(database: &Connection, statement: &str) -> rusqlite::Result<u64> {
    database.query_row(statement, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

fn count(database: &Connection) -> Result<Counts, BackupError> {
    let rows = |table: &str| -> Result<u64, BackupError> {
        number(database, &format!("SELECT count(*) FROM {table}"))
            .map_err(|error| BackupError::Refused(format!("this is no store of Throng: {error}")))
    };
    rows("schema_version")?;
    Ok(Counts { messages: rows("messages")?, rooms: rows("rooms")?, users: rows("users")? })
}

/// What a running engine holds locked.
fn lock_path(database: &Path) -> PathBuf {
    beside(database, ".lock")
}

/// Takes the lock that a running engine holds.
pub(super) fn lock(database: &Path) -> Result<fs::File, BackupError> {
    let path = lock_path(database);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(at(&path))?;
    free(&file, database)?;
    Ok(file)
}

/// Refuses if an engine runs on this folder; makes no file.
///
/// # Errors
/// [`BackupError::Busy`] if one does.
pub fn refuse_engine(data_dir: &Path) -> Result<(), BackupError> {
    let database = database(data_dir);
    let path = lock_path(&database);
    match fs::File::open(&path) {
        Ok(file) => free(&file, &database),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at(&path)(error)),
    }
}

fn free(file: &fs::File, database: &Path) -> Result<(), BackupError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let why = format!("an engine runs on {}: stop it first", database.display());
            Err(BackupError::Busy(why))
        }
        Err(TryLockError::Error(error)) => Err(at(database)(error)),
    }
}

/// Whether anything of a store stands there.
pub(super) fn exists(database: &Path) -> bool {
    let there = |path: &Path| fs::symlink_metadata(path).is_ok();
    there(database) || SIDES.iter().any(|tail| there(&beside(database, tail)))
}

/// Checks a copy that is about to become the store.
pub(super) fn check_file(path: &Path) -> Result<(), BackupError> {
    let database = open(path)?;
    check(&database, path)?;
    count(&database)?;
    database.close().map_err(|(_, error)| error.into())
}

/// Gives the old store a second name and takes away what would be read with the file that comes in
/// its place. Until that comes, the old one stands under its old name too, its WAL folded in.
pub(super) fn set_aside(database: &Path, aside: &Path) -> Result<(), BackupError> {
    for tail in ["", "-wal", "-journal"] {
        also(&beside(database, tail), &beside(aside, tail))?;
    }
    disk::sync(database.parent().unwrap_or(Path::new(".")))?;
    // The WAL that was given a second name may be read with the file again: the same pages. One
    // that is too damaged to fold in is what a restore is for.
    let _damaged = fold(database);
    for tail in SIDES {
        absent(fs::remove_file(beside(database, tail))).map_err(at(&beside(database, tail)))?;
    }
    Ok(())
}

/// Gives a file, if it is there, a second name; a copy where the file system has no links.
fn also(old: &Path, new: &Path) -> Result<(), BackupError> {
    match fs::hard_link(old, new) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(at(new)(error)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            fs::copy(old, new).map_err(at(old))?;
            disk::sync(new)
        }
        _ => Ok(()),
    }
}

/// What is not there need not be removed.
pub(super) fn absent(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

/// The last connection to close writes the WAL into the file.
fn fold(database: &Path) -> Result<(), BackupError> {
    let old = open(database)?;
    number(&old, "SELECT count(*) FROM sqlite_schema")?;
    old.close().map_err(|(_, error)| error.into())
}

/// What [`tend`] has found and done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tended {
    /// Bytes of the file before.
    pub bytes_before: u64,
    /// Bytes of it after.
    pub bytes_after: u64,
    /// Whether it was written anew, which is done where a quarter of it is empty.
    pub vacuumed: bool,
}

/// Brings the embedded store's statistics up to date and gives empty pages back to the disk. With
/// `dry_run` it looks only; else it holds the engine's lock.
///
/// # Errors
/// An engine runs; the disk has no room for a second copy while the file is written anew. The
/// store is whole in any case.
pub fn tend(data_dir: &Path, dry_run: bool) -> Result<Tended, BackupError> {
    let path = database(data_dir);
    if !path.is_file() {
        return Err(BackupError::Refused(format!("{}: there is no store", path.display())));
    }
    let _lock = if dry_run { None } else { Some(lock(&path)?) };
    let database = open(&path)?;
    let read = |name: &str| number(&database, &format!("PRAGMA {name}"));
    let size = || Ok::<_, rusqlite::Error>(read("page_count")? * read("page_size")?);
    let bytes_before = size()?;
    let vacuumed = read("freelist_count")? * FREE_SHARE >= read("page_count")?.max(1);
    if !dry_run {
        database.execute_batch("PRAGMA optimize(0x10002)")?;
        if vacuumed {
            database.execute_batch("VACUUM")?;
        }
        database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    let bytes_after = size()?;
    database.close().map_err(|(_, error)| error)?;
    Ok(Tended { bytes_before, bytes_after, vacuumed })
}
