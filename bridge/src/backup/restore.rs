//! Puts a backup back.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::manifest::Hashing;
use super::{BackupError, Manifest, Place, Say, at, disk, folder, mongo_restore, sqlite};

/// How a backup is put back.
#[derive(Clone, Copy, Debug)]
pub struct Return {
    /// Check everything and say what would be done.
    pub dry_run: bool,
    /// Replace what is there; it is moved aside.
    pub force: bool,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

/// Checks the backup `from` wholly, then puts it back. What is there is left alone, or with
/// `force` moved aside.
///
/// # Errors
/// [`BackupError::Busy`]: an engine runs, or a backup is being made there;
/// [`BackupError::Refused`]: the backup is damaged, of a newer format or of another kind of store,
/// or there is data. In each case nothing has changed.
pub fn restore(
    from: &Path,
    place: Place<'_>,
    order: &Return,
    say: Say<'_>,
) -> Result<(), BackupError> {
    // The folder as it is, whatever links lead there: its neighbours' lock is what counts.
    let from = &fs::canonicalize(from).map_err(at(from))?;
    let _kept = from.parent().map(folder::lock_shared).transpose()?;
    let manifest = Manifest::read(from)?;
    manifest.verify(from)?;
    let kind = match place {
        Place::Sqlite(_) => "sqlite",
        Place::Mongo(_) => "mongodb",
    };
    if manifest.kind != kind {
        return Err(BackupError::Refused(format!(
            "{} is a backup of {}, the settings ask for {kind}",
            from.display(),
            manifest.kind
        )));
    }
    say(format!(
        "checked {}: made {} by Throng {} from {}, {} messages, {} rooms, {} users",
        from.display(),
        manifest.created,
        manifest.throng,
        manifest.source,
        manifest.counts.messages,
        manifest.counts.rooms,
        manifest.counts.users
    ));
    match place {
        Place::Sqlite(data_dir) => put(from, &manifest, data_dir, order, say)?,
        Place::Mongo(uri) => {
            mongo_restore::check(from, &manifest)?;
            mongo_restore::put(uri, from, &manifest, order, say)?;
        }
    }
    say(if order.dry_run { "nothing was changed" } else { "restored" }.to_owned());
    Ok(())
}

fn put(
    from: &Path,
    manifest: &Manifest,
    data_dir: &Path,
    order: &Return,
    say: Say<'_>,
) -> Result<(), BackupError> {
    let database = sqlite::database(data_dir);
    let stamp = folder::stamp(order.now_ms)?;
    let aside = sqlite::beside(&database, &format!(".before-restore-{stamp}"));
    let there = sqlite::exists(&database);
    sqlite::refuse_engine(data_dir)?;
    if there && !order.force {
        return Err(BackupError::Refused(format!(
            "{} is there: with --force it is moved aside",
            database.display()
        )));
    }
    if order.dry_run {
        if there {
            say(format!("would move {} aside as {}", database.display(), aside.display()));
        }
        say(format!("would put back {}", database.display()));
        return Ok(());
    }
    disk::create(data_dir)?;
    let _engine = sqlite::lock(&database)?;
    let coming = sqlite::beside(&database, ".restoring");
    land(from, manifest, &coming).inspect_err(|_| drop(fs::remove_file(&coming)))?;
    if there {
        sqlite::set_aside(&database, &aside)?;
        say(format!("moved {} aside as {}", database.display(), aside.display()));
    }
    fs::rename(&coming, &database).map_err(at(&database))?;
    disk::sync(database.parent().unwrap_or(data_dir))
}

/// Copies the backup's file beside the store, and checks what has arrived.
fn land(from: &Path, manifest: &Manifest, coming: &Path) -> Result<(), BackupError> {
    let path = from.join(sqlite::DATABASE);
    let Some(entry) = manifest.file(sqlite::DATABASE) else {
        return Err(BackupError::Refused(format!("{}: not in the manifest", path.display())));
    };
    sqlite::absent(fs::remove_file(coming)).map_err(at(coming))?; // of a run that was cut off
    let mut source = fs::File::open(&path).map_err(at(&path))?;
    let mut file = Tee { file: disk::create_file(coming)?, hash: Hashing::new() };
    io::copy(&mut source, &mut file).map_err(at(coming))?;
    if file.hash.done() != (entry.bytes, entry.sha256.clone()) {
        return Err(BackupError::Refused(format!("{}: changed meanwhile", path.display())));
    }
    sqlite::check_file(coming)?;
    disk::sync(coming)
}

/// Hashes what it writes.
struct Tee {
    file: fs::File,
    hash: Hashing,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.write_all(&bytes[..written])?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
