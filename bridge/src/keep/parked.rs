//! Messages that the store refuses: to a file, one JSON object a line, for the operator to look at.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::json;
use tokio::task::spawn_blocking;
use tracing::error;

use crate::stats::Stats;
use crate::store::Entry;

/// What the file may hold, in bytes; beyond, messages are only counted and logged.
const BYTES_MAX: u64 = 64 << 20;

/// The file.
pub(super) struct Parked {
    path: Option<PathBuf>,
}

impl Parked {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// Puts a message there, and says so.
    pub(super) async fn park(&mut self, stats: &Stats, entry: &Entry, reason: &str) {
        let message = &entry.message;
        let (id, seq) = (&*message.id, message.seq);
        error!(room = ?entry.room, seq, id, ?reason, "the store refuses a message; it is parked");
        stats.parked.fetch_add(1, Relaxed);
        let line = line(entry, reason);
        let path = self.path.clone();
        let done = spawn_blocking(move || append(path, &line)).await;
        let done = done.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        if let Err(error) = done {
            stats.unparked.fetch_add(1, Relaxed);
            error!(%error, id, "a refused message is not even parked");
        }
    }
}

fn line(entry: &Entry, reason: &str) -> String {
    let message = &entry.message;
    let draft = &message.draft;
    let from = &draft.from;
    let parts: Vec<&[u8]> = draft.attachments.iter().map(AsRef::as_ref).collect();
    let value = json!({
        "reason": reason, "room": &*entry.room, "_id": &*message.id, "seq": message.seq,
        "at": message.at_ms, "clientId": draft.client_id.as_deref(), "body": &*draft.body,
        "from": {"id": &*from.id, "user": &*from.user, "name": &*from.name},
        "attachments": parts,
    });
    format!("{value}\n")
}

fn append(path: Option<PathBuf>, line: &str) -> io::Result<()> {
    let Some(path) = path else { return Err(io::Error::other("there is no DATA_DIR")) };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file: File = OpenOptions::new().create(true).append(true).open(path)?;
    if file.metadata()?.len() + line.len() as u64 > BYTES_MAX {
        return Err(io::Error::other("the file of parked messages is full"));
    }
    file.write_all(line.as_bytes())?;
    file.sync_data()
}
