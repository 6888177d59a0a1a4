//! Proves that every store keeps what the `Store` trait promises: one suite over all of them, with
//! the store in memory as the model that the others are compared with.

#[path = "store/data.rs"]
mod data;
#[path = "store/messages.rs"]
mod messages;
#[path = "store/model.rs"]
mod model;
#[path = "store/retention.rs"]
mod retention;
#[path = "store/rooms_and_users.rs"]
mod rooms_and_users;
#[path = "store/support.rs"]
mod support;

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};

use throng_bridge::store::{MemoryStore, Mongo, Retention, Sqlite, Store};

use support::Folder;

/// Names a MongoDB that may be written to; without it MongoDB is not tested.
const MONGODB: &str = "THRONG_TEST_MONGODB_URI";

/// An empty store under test.
struct Subject {
    store: Arc<dyn Store>,
    /// Whether it deletes in `sweep`, and not at times of its own.
    sweeps: bool,
    _folder: Option<Folder>,
}

/// One of each kind, all empty.
async fn subjects() -> Vec<Subject> {
    let folder = Folder::new();
    let sqlite = Sqlite::open(&folder.file()).await.expect("a store");
    let mut subjects = vec![
        Subject { store: Arc::new(MemoryStore::new()), sweeps: true, _folder: None },
        Subject { store: Arc::new(sqlite), sweeps: true, _folder: Some(folder) },
    ];
    match std::env::var(MONGODB) {
        Ok(uri) => subjects.push(mongodb(&uri).await),
        Err(_) => tell_once(),
    }
    subjects
}

/// Past the harness, which shows what a test prints only when it fails.
fn tell_once() {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        let text = format!("NOT TESTED: mongodb, since {MONGODB} is not set");
        writeln!(std::io::stderr(), "{text}").expect("stderr");
    });
}

/// A database of its own on the server at `uri`, which names none.
async fn mongodb(uri: &str) -> Subject {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let uri = format!("{}/throng_{process}_{number}", uri.trim_end_matches('/'));
    let store = Mongo::open(&uri, 4, Retention::default()).await.expect("a store");
    Subject { store: Arc::new(store), sweeps: false, _folder: None }
}

/// Runs a test on every store.
fn each<F: Future<Output = ()>>(test: impl Fn(Arc<dyn Store>) -> F) {
    each_that(|_| true, test);
}

/// Runs a test on every store that the choice falls on.
fn each_that<F: Future<Output = ()>>(
    choice: impl Fn(&Subject) -> bool,
    test: impl Fn(Arc<dyn Store>) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        for subject in subjects().await {
            if choice(&subject) {
                eprintln!("testing {}", subject.store.kind());
                test(Arc::clone(&subject.store)).await;
            } else {
                eprintln!("NOT TESTED: {}, which it does not concern", subject.store.kind());
            }
            subject.store.close().await;
        }
    });
}
