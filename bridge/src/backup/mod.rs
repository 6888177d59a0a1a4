//! Copies of the store that can be trusted, and the way back from them.
//!
//! Owns the folder `throng-<UTC time>` a backup is: its files, the manifest that names and hashes
//! them, and which older ones may go. It reads the embedded store's file and MongoDB's collections
//! itself, beside a running engine, and never asks the engine. Nothing secret is written.
//!
//! Invariants: a folder under its final name is complete and synced to disk, since it is filled
//! under another name (`.partial`) and renamed last; a restore reads and checks all of a backup
//! before it changes anything; what a restore replaces is moved aside, never deleted; only what a
//! manifest of this format names is ever deleted, and only by `keep`.

mod bson_file;
mod disk;
mod folder;
mod make;
mod manifest;
mod mongo;
mod mongo_restore;
mod restore;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::{fmt, io};

pub use make::{Plan, make};
pub use manifest::{Counts, File, Manifest};
pub use restore::{Return, restore};
pub use sqlite::{Tended, refuse_engine, tend};

/// Where the store lives.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// `throng.db` in this folder.
    Sqlite(&'a Path),
    /// The database this URI names, or `throng`.
    Mongo(&'a str),
}

/// Takes a line for the operator.
pub type Say<'a> = &'a mut dyn FnMut(String);

/// Why there is no backup, or nothing was restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BackupError {
    /// Somebody else is at it, or an engine uses the file. Try again later.
    Busy(String),
    /// What was asked for is not done: the backup is damaged, or data would be replaced.
    Refused(String),
    /// The disk, the database or the network failed.
    Failed(String),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(why) | Self::Refused(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BackupError {}

impl From<rusqlite::Error> for BackupError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(format!("SQLite: {error}"))
    }
}

impl From<mongodb::error::Error> for BackupError {
    fn from(error: mongodb::error::Error) -> Self {
        // `kind` alone: the whole text repeats labels and the source.
        Self::Failed(format!("MongoDB: {}", error.kind))
    }
}

/// Puts the path before an error of the file system.
fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError + '_ {
    move |error| BackupError::Failed(format!("{}: {error}", path.display()))
}

/// When the newest complete backup in `dir` was begun, in milliseconds since 1970; `None` where
/// there is none. Reads one folder listing and one manifest.
#[must_use]
pub fn last_backup_ms(dir: &Path) -> Option<u64> {
    let names = folder::complete(dir).ok()?;
    names.iter().rev().find_map(|name| Some(Manifest::read(&dir.join(name)).ok()?.created_ms))
}
