//! What the suites of stores share: entries to write, and a folder that goes with its test.
#![allow(dead_code)] // Each suite uses its part.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use throng_bridge::store::{Entry, Retention, Store, StoreError, Swept};
use throng_bridge::{Author, Draft, Message, Range};

/// Everything, oldest first.
pub(crate) const ALL: Range = Range { after: None, before: None, limit: usize::MAX };

/// A folder of its own, deleted when it goes.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("throng-store-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("throng.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn message(seq: u64) -> Message {
    let from = Author { id: "socket".into(), user: "user".into(), name: "Name".into() };
    let draft = Draft { from, body: r#""hello""#.into(), attachments: vec![], client_id: None };
    Message { id: format!("id-{seq}").into(), seq, at_ms: seq.saturating_add(1_000), draft }
}

pub(crate) fn entry(room: &str, message: Message) -> Entry {
    Entry { room: room.into(), message: Arc::new(message) }
}

/// The same with another id: ids are unique over all rooms.
pub(crate) fn elsewhere(mut message: Message) -> Message {
    message.id = format!("{}-elsewhere", message.id).into();
    message
}

pub(crate) fn with_client_id(seq: u64, client_id: &str) -> Message {
    let mut message = message(seq);
    message.draft.client_id = Some(client_id.into());
    message
}

pub(crate) fn with_body(seq: u64, body: &str) -> Message {
    let mut message = message(seq);
    message.draft.body = body.into();
    message
}

pub(crate) fn seqs(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
}

/// Appends what must not be refused.
pub(crate) async fn keep(
    store: &dyn Store,
    room: &str,
    messages: impl IntoIterator<Item = Message>,
) {
    let batch: Arc<[Entry]> = messages.into_iter().map(|it| entry(room, it)).collect();
    assert_eq!(store.append(batch).await, Ok(vec![]));
}

pub(crate) async fn read(store: &dyn Store, room: &str) -> Vec<Message> {
    store.read(room, ALL).await.expect("messages")
}

/// Sweeps to the end. Returns the sum and the steps it took.
pub(crate) async fn sweep(
    store: &dyn Store,
    retention: Retention,
    now_ms: u64,
) -> Result<(Swept, usize), StoreError> {
    let (mut sum, mut from) = (Swept::default(), None);
    for steps in 1..100_000 {
        let swept = store.sweep(retention, now_ms, from).await?;
        sum.messages += swept.messages;
        sum.users += swept.users;
        from = swept.next;
        if from.is_none() {
            return Ok((sum, steps));
        }
    }
    panic!("the sweep does not end");
}
