//! Makes a backup.

use std::fs;
use std::path::{Path, PathBuf};

use super::manifest::{FORMAT, MANIFEST, Taken};
use super::{BackupError, Counts, File, Manifest, Place, Say, at, disk, folder, mongo, sqlite};

/// The settings a backup was made with, secrets masked.
const SETTINGS: &str = "settings.toml";

/// How a backup is made.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// The folder it goes into.
    pub to: &'a Path,
    /// How many complete backups may stand there, the new one among them.
    pub keep: usize,
    /// Only say what would be done.
    pub dry_run: bool,
    /// The settings in effect as text, without secrets.
    pub settings: &'a str,
    /// Throng's version.
    pub version: &'a str,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

/// Makes a backup of a store, which may be in use, and deletes those beyond `keep`. The path is
/// the new backup's; with `dry_run` it is that of the one which would be made.
///
/// # Errors
/// [`BackupError::Busy`]: another one is under way there. Whatever fails leaves nothing under a
/// backup's name; where only the deletion of older ones fails, the error says so.
pub fn make(place: Place<'_>, plan: &Plan<'_>, say: Say<'_>) -> Result<PathBuf, BackupError> {
    if plan.dry_run {
        return rehearse(place, plan, say);
    }
    disk::create(plan.to)?;
    let _lock = folder::lock(plan.to)?;
    folder::clear_partials(plan.to, say)?;
    let (name, now_ms) = free_name(plan.to, plan.now_ms)?;
    let partial = plan.to.join(format!("{name}{}", folder::PARTIAL));
    let made = plan.to.join(&name);
    let manifest = fill(place, plan, now_ms, &partial, say)
        .and_then(|manifest| publish(&partial, &made).map(|()| manifest))
        .inspect_err(|_| drop(fs::remove_dir_all(&partial)))?;
    let Counts { messages, rooms, users } = manifest.counts;
    say(format!(
        "made {}: {messages} messages, {rooms} rooms, {users} users, {} bytes",
        made.display(),
        manifest.bytes()
    ));
    folder::thin(plan.to, &name, plan.keep, say).map_err(|error| {
        BackupError::Failed(format!("{} is complete, but older ones stay: {error}", made.display()))
    })?;
    Ok(made)
}

/// A name that no backup has: two in one millisecond are one apart.
fn free_name(dir: &Path, mut now_ms: u64) -> Result<(String, u64), BackupError> {
    loop {
        let name = format!("throng-{}", folder::stamp(now_ms)?);
        if fs::symlink_metadata(dir.join(&name)).is_err() {
            return Ok((name, now_ms));
        }
        now_ms += 1;
    }
}

fn fill(
    place: Place<'_>,
    plan: &Plan<'_>,
    now_ms: u64,
    partial: &Path,
    say: Say<'_>,
) -> Result<Manifest, BackupError> {
    disk::create_private(partial)?;
    let (kind, taken) = match place {
        Place::Sqlite(data_dir) => ("sqlite", take_sqlite(data_dir, partial)?),
        Place::Mongo(uri) => ("mongodb", mongo::dump(uri, partial, say)?),
    };
    disk::write(&partial.join(SETTINGS), plan.settings.as_bytes())?;
    let files = taken.files.iter().map(|(name, documents)| (name.as_str(), *documents));
    let files = files
        .chain([(SETTINGS, None)])
        .map(|(name, documents)| File::of(partial, name, documents))
        .collect::<Result<_, _>>()?;
    let manifest = Manifest {
        format: FORMAT,
        throng: plan.version.to_owned(),
        kind: kind.to_owned(),
        created: folder::rfc3339(now_ms)?,
        created_ms: now_ms,
        source: taken.source,
        snapshot: taken.snapshot,
        counts: taken.counts,
        files,
    };
    manifest.write(partial)?;
    Ok(manifest)
}

fn take_sqlite(data_dir: &Path, partial: &Path) -> Result<Taken, BackupError> {
    let database = sqlite::database(data_dir);
    let counts = sqlite::copy(&database, &partial.join(sqlite::DATABASE))?;
    let source = fs::canonicalize(&database).map_err(at(&database))?;
    Ok(Taken {
        source: source.display().to_string(),
        snapshot: true,
        counts,
        files: vec![(sqlite::DATABASE.to_owned(), None)],
    })
}

/// From here on it counts, crash or not.
fn publish(partial: &Path, made: &Path) -> Result<(), BackupError> {
    disk::sync(partial)?;
    fs::rename(partial, made).map_err(at(partial))?;
    disk::sync(made.parent().unwrap_or(Path::new(".")))
}

fn rehearse(place: Place<'_>, plan: &Plan<'_>, say: Say<'_>) -> Result<PathBuf, BackupError> {
    let made = plan.to.join(format!("throng-{}", folder::stamp(plan.now_ms)?));
    match place {
        Place::Sqlite(data_dir) => {
            let database = sqlite::database(data_dir);
            let bytes = fs::metadata(&database).map_err(at(&database))?.len();
            say(format!("would copy {} ({bytes} bytes)", database.display()));
        }
        Place::Mongo(uri) => {
            for (name, documents) in mongo::survey(uri)? {
                say(format!("would copy the collection {name} (about {documents} documents)"));
            }
        }
    }
    say(format!("would make {} with {MANIFEST}", made.display()));
    if plan.to.is_dir() {
        for name in folder::partials(plan.to).map_err(at(plan.to))? {
            say(format!("would delete {}, left by a run that was cut off", name));
        }
        for name in folder::surplus(plan.to, None, plan.keep)? {
            match folder::spared(&plan.to.join(&name)) {
                None => say(format!("would delete {name}, beyond the {} kept", plan.keep)),
                Some(why) => say(format!("would leave {name} alone: {why}")),
            }
        }
    }
    Ok(made)
}
