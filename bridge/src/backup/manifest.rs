//! What a backup holds: `manifest.json`, and `SHA256SUMS` for `sha256sum -c` and the manifest.
//!
//! Owns their format and the checks that a folder is what they say. Never follows a name out of the
//! folder: a name is plain, and what stands under it is a regular file.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{BackupError, at, disk};

/// The format this version writes, and the newest it reads.
pub(super) const FORMAT: u32 = 1;
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const SUMS: &str = "SHA256SUMS";
/// A manifest has about 200 bytes per file and a handful of files.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
const NAME_BYTES_MAX: usize = 64;

/// How much is in a backup.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Counts {
    /// Messages.
    pub messages: u64,
    /// Rooms.
    pub rooms: u64,
    /// Users.
    pub users: u64,
}

/// One file of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct File {
    /// Its name in the folder: letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, in hex.
    pub sha256: String,
    /// How many documents it holds, where it holds documents.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub documents: Option<u64>,
}

/// `manifest.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of the format.
    pub format: u32,
    /// Version of Throng that made it.
    pub throng: String,
    /// `sqlite` or `mongodb`.
    pub kind: String,
    /// When it was begun, RFC 3339.
    pub created: String,
    /// The same in milliseconds since 1970.
    pub created_ms: u64,
    /// Of what: a path, or hosts and database; never credentials.
    pub source: String,
    /// Whether all of it was read at one moment.
    pub snapshot: bool,
    /// How much it holds.
    pub counts: Counts,
    /// Every file but the manifest and the sums.
    pub files: Vec<File>,
}

/// What alone tells whether the rest can be understood.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// What a store's part has written.
pub(super) struct Taken {
    pub(super) source: String,
    pub(super) snapshot: bool,
    pub(super) counts: Counts,
    /// Names, and how many documents each holds.
    pub(super) files: Vec<(String, Option<u64>)>,
}

impl Manifest {
    /// Reads a folder's manifest and checks its own sense, not yet the files.
    ///
    /// # Errors
    /// No manifest, one that is not JSON, of a newer format, or with a name that is no plain one.
    pub fn read(folder: &Path) -> Result<Self, BackupError> {
        let path = folder.join(MANIFEST);
        let refuse = |why: String| BackupError::Refused(format!("{}: {why}", path.display()));
        let text = read_bounded(&path).map_err(|error| refuse(error.to_string()))?;
        let Format { format } =
            serde_json::from_str(&text).map_err(|error| refuse(format!("no manifest: {error}")))?;
        if !(1..=FORMAT).contains(&format) {
            let why = format!("format {format} is not one this version reads (1 to {FORMAT})");
            return Err(refuse(why));
        }
        let manifest: Self =
            serde_json::from_str(&text).map_err(|error| refuse(format!("no manifest: {error}")))?;
        let mut seen = HashSet::new();
        for File { name, .. } in &manifest.files {
            if !is_plain(name) || !seen.insert(name) {
                return Err(refuse(format!("names a file {name:?}, which no backup has")));
            }
        }
        Ok(manifest)
    }

    /// Checks every file of the folder against the manifest, and the manifest against the sums.
    ///
    /// # Errors
    /// The first file that is missing, of another length or content.
    pub fn verify(&self, folder: &Path) -> Result<(), BackupError> {
        let refuse = |name: &str, why: &str| {
            BackupError::Refused(format!("{}: {why}", folder.join(name).display()))
        };
        for file in &self.files {
            if !is_regular(&folder.join(&file.name)) {
                return Err(refuse(&file.name, "missing, or no regular file"));
            }
            let (bytes, sha256) = digest(&folder.join(&file.name))?;
            if (bytes, &sha256) != (file.bytes, &file.sha256) {
                return Err(refuse(&file.name, "damaged: not what the manifest says"));
            }
        }
        let sums = folder.join(SUMS);
        let written = read_bounded(&sums).map_err(|error| refuse(SUMS, &error.to_string()))?;
        if written != self.sums(folder)? {
            return Err(refuse(SUMS, "damaged: not what the manifest and its files say"));
        }
        Ok(())
    }

    /// The file of this name.
    pub(super) fn file(&self, name: &str) -> Option<&File> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Writes it and the sums, synced.
    pub(super) fn write(&self, folder: &Path) -> Result<(), BackupError> {
        let path = folder.join(MANIFEST);
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| BackupError::Failed(format!("{}: {error}", path.display())))?;
        text.push('\n');
        disk::write(&path, text.as_bytes())?;
        disk::write(&folder.join(SUMS), self.sums(folder)?.as_bytes())
    }

    /// As `sha256sum` prints them: the files', then the manifest's own.
    fn sums(&self, folder: &Path) -> Result<String, BackupError> {
        let (_, own) = digest(&folder.join(MANIFEST))?;
        let files = self.files.iter().map(|file| format!("{}  {}\n", file.sha256, file.name));
        Ok(files.chain([format!("{own}  {MANIFEST}\n")]).collect())
    }
}

impl File {
    /// Hashes a file of a folder.
    pub(super) fn of(
        folder: &Path,
        name: &str,
        documents: Option<u64>,
    ) -> Result<Self, BackupError> {
        let (bytes, sha256) = digest(&folder.join(name))?;
        Ok(Self { name: name.to_owned(), bytes, sha256, documents })
    }
}

/// Whether it can be a file's name in a backup: nothing that leaves the folder or hides in it.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.chars().all(plain)
        && name != MANIFEST
        && name != SUMS
}

fn is_regular(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.is_file())
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    if !is_regular(path) {
        return Err(std::io::Error::other("missing, or no regular file"));
    }
    let mut text = String::new();
    fs::File::open(path)?.take(MANIFEST_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Length and SHA-256 of a file.
fn digest(path: &Path) -> Result<(u64, String), BackupError> {
    let mut file = fs::File::open(path).map_err(at(path))?;
    let mut hash = Hashing { hash: Sha256::new(), bytes: 0 };
    std::io::copy(&mut file, &mut hash).map_err(at(path))?;
    Ok(hash.done())
}

/// Hashes what is written to it.
pub(super) struct Hashing {
    hash: Sha256,
    bytes: u64,
}

impl Hashing {
    pub(super) fn new() -> Self {
        Self { hash: Sha256::new(), bytes: 0 }
    }

    /// Length and SHA-256 in hex.
    pub(super) fn done(self) -> (u64, String) {
        let hex = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        (self.bytes, hex)
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
