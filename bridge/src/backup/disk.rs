//! Files and folders that only their owner reads and that outlast a crash.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::{BackupError, at};

/// Makes the folder that backups stand in.
pub(super) fn create(dir: &Path) -> Result<(), BackupError> {
    private().recursive(true).create(dir).map_err(at(dir))
}

/// Makes a folder that only its owner reads: backups hold what people have written.
pub(super) fn create_private(dir: &Path) -> Result<(), BackupError> {
    private().create(dir).map_err(at(dir))
}

fn private() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// A new file that only its owner reads.
pub(super) fn create_file(path: &Path) -> Result<fs::File, BackupError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at(path))
}

/// Writes a new file and syncs it.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let mut file = create_file(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(path))
}

/// Makes the names in a folder, or a file, outlast a crash.
pub(super) fn sync(path: &Path) -> Result<(), BackupError> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}
