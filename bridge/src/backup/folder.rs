//! The folder that backups stand in: their names, the lock, what is synced, which may go.
//!
//! Never deletes a folder without a manifest, one whose content its manifest does not name, nor
//! anything that a link leads to.

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mongodb::bson::DateTime;

use super::manifest::{MANIFEST, SUMS};
use super::{BackupError, Manifest, Say, at};

const LOCK: &str = ".throng-backup.lock";
pub(super) const PARTIAL: &str = ".partial";
/// `throng-20261122T101530.123Z`: sorts by time.
const SHAPE: &[u8] = b"throng-00000000T000000.000Z";

/// The end of the year 9999, in milliseconds since 1970.
const LAST_MS: u64 = 253_402_300_799_999;

/// RFC 3339, to the second.
pub(super) fn rfc3339(now_ms: u64) -> Result<String, BackupError> {
    let off = |why: &str| BackupError::Failed(format!("the clock is off: {why}"));
    if now_ms > LAST_MS {
        return Err(off("the year has more than four digits"));
    }
    let whole = DateTime::from_millis((now_ms / 1000 * 1000) as i64);
    whole.try_to_rfc3339_string().map_err(|error| off(&error.to_string()))
}

/// `20261122T101530.123Z`.
pub(super) fn stamp(now_ms: u64) -> Result<String, BackupError> {
    let seconds = rfc3339(now_ms)?.replace(['-', ':', 'Z'], "");
    Ok(format!("{seconds}.{:03}Z", now_ms % 1000))
}

/// Whether a backup could have this name.
fn is_name(name: &str) -> bool {
    let fits = |(have, want): (u8, &u8)| match want {
        b'0' => have.is_ascii_digit(),
        _ => have == *want,
    };
    name.len() == SHAPE.len() && name.bytes().zip(SHAPE).all(fits)
}

/// Held while a backup is made or restored; the kernel lets go of it however the process ends.
pub(super) fn lock(dir: &Path) -> Result<fs::File, BackupError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(at(&path))?;
    taken(file.try_lock(), dir)?;
    Ok(file)
}

/// Keeps backups in `dir` from being deleted while one is read; `None` where none were made.
pub(super) fn lock_shared(dir: &Path) -> Result<Option<fs::File>, BackupError> {
    match fs::File::open(dir.join(LOCK)) {
        Ok(file) => taken(file.try_lock_shared(), dir).map(|()| Some(file)),
        Err(_) => Ok(None), // copied from elsewhere, or no right to: then nothing deletes there
    }
}

fn taken(lock: Result<(), TryLockError>, dir: &Path) -> Result<(), BackupError> {
    match lock {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let why = format!("{}: another backup or restore is under way", dir.display());
            Err(BackupError::Busy(why))
        }
        Err(TryLockError::Error(error)) => Err(at(dir)(error)),
    }
}

/// Names of complete backups, oldest first: real folders with a manifest.
pub(super) fn complete(dir: &Path) -> io::Result<Vec<String>> {
    named(dir, |name| is_name(name) && dir.join(name).join(MANIFEST).is_file())
}

/// Names of what runs that were killed have left.
pub(super) fn partials(dir: &Path) -> io::Result<Vec<String>> {
    named(dir, |name| name.strip_suffix(PARTIAL).is_some_and(is_name))
}

fn named(dir: &Path, fits: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Of the entry itself: a link to a folder is none.
        if let (true, Some(name)) = (entry.file_type()?.is_dir(), entry.file_name().to_str())
            && fits(name)
        {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Deletes what killed runs have left. The caller holds the lock, so none of them is under way.
pub(super) fn clear_partials(dir: &Path, say: Say<'_>) -> Result<(), BackupError> {
    for name in partials(dir).map_err(at(dir))? {
        let path = dir.join(&name);
        fs::remove_dir_all(&path).map_err(at(&path))?;
        say(format!("deleted {}, left by a run that was cut off", path.display()));
    }
    Ok(())
}

/// Which complete backups are too many when `keep` stay; never `made`, whatever the clock says.
pub(super) fn surplus(
    dir: &Path,
    made: Option<&str>,
    keep: usize,
) -> Result<Vec<String>, BackupError> {
    let mut names = complete(dir).map_err(at(dir))?;
    names.retain(|name| Some(name.as_str()) != made);
    let others = keep.saturating_sub(1); // the new one is among those that stay
    names.truncate(names.len().saturating_sub(others));
    Ok(names)
}

/// Why a complete backup must not be deleted; `None` if it may.
pub(super) fn spared(path: &Path) -> Option<String> {
    let manifest = match Manifest::read(path) {
        Ok(manifest) => manifest,
        Err(why) => return Some(why.to_string()),
    };
    let known = |name: &str| name == MANIFEST || name == SUMS || manifest.file(name).is_some();
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(why) => return Some(why.to_string()),
    };
    entries.map(|entry| entry.map(|it| it.file_name().to_string_lossy().into_owned())).find_map(
        |name| match name {
            Ok(name) if known(&name) => None,
            Ok(name) => Some(format!("it holds {name:?}, which no backup has")),
            Err(why) => Some(why.to_string()),
        },
    )
}

/// Deletes the backups beyond `keep`.
pub(super) fn thin(dir: &Path, made: &str, keep: usize, say: Say<'_>) -> Result<(), BackupError> {
    for name in surplus(dir, Some(made), keep)? {
        let path = dir.join(&name);
        if let Some(why) = spared(&path) {
            say(format!("left {} alone: {why}", path.display()));
            continue;
        }
        // Renamed first: what is half deleted must not look complete.
        let going = dir.join(format!("{name}{PARTIAL}"));
        fs::rename(&path, &going).map_err(at(&path))?;
        fs::remove_dir_all(&going).map_err(at(&going))?;
        say(format!("deleted {}, beyond the {keep} that are kept", path.display()));
    }
    Ok(())
}
