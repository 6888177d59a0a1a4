//! MongoDB's collections, read into files beside running engines.
//!
//! One `<collection>.bson.gz` and one `<collection>.metadata.json.gz` each, in `mongodump`'s
//! format. Where the deployment can (replica set, MongoDB 5 or newer) everything is read as of one
//! moment. Elsewhere messages are read before rooms: a room's `lastSeq` is then never behind its
//! messages, so that no number is given twice after a restore. The URI goes to the driver only:
//! no process list and no file shows it.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, ClientSession, Database};

use super::bson_file::{self, Writer};
use super::manifest::Taken;
use super::{BackupError, Counts, Say};

/// In the order in which they are read and put back.
pub(super) const COLLECTIONS: [&str; 4] = ["messages", "users", "rooms", "throng_schema"];
const DATABASE: &str = "throng";
const SERVER_WAIT_MAX: Duration = Duration::from_secs(10);

/// The file of a collection's documents.
pub(super) fn documents_file(collection: &str) -> String {
    format!("{collection}.bson.gz")
}

/// The file of a collection's options and indexes.
pub(super) fn metadata_file(collection: &str) -> String {
    format!("{collection}.metadata.json.gz")
}

/// Runs the driver on this thread to the end of one task.
pub(super) fn wait<T>(
    task: impl Future<Output = Result<T, BackupError>>,
) -> Result<T, BackupError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| BackupError::Failed(format!("no runtime: {error}")))?.block_on(task)
}

/// A database, and what to call it.
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) db: Database,
    pub(super) label: String,
}

pub(super) async fn connect(uri: &str) -> Result<Target, BackupError> {
    let mut options = ClientOptions::parse(uri).await?;
    options.app_name.get_or_insert_with(|| "throng-backup".to_owned());
    options.server_selection_timeout.get_or_insert(SERVER_WAIT_MAX);
    let name = options.default_database.clone().unwrap_or_else(|| DATABASE.to_owned());
    let hosts: Vec<_> = options.hosts.iter().map(ToString::to_string).collect();
    let label = format!("mongodb://{}/{name}", hosts.join(","));
    let client = Client::with_options(options)?;
    let db = client.database(&name);
    Ok(Target { client, db, label })
}

/// The collections of a store that are there, and about how many documents each holds.
pub(super) fn survey(uri: &str) -> Result<Vec<(String, u64)>, BackupError> {
    wait(async {
        let target = connect(uri).await?;
        let mut found = Vec::new();
        for name in present(&target).await? {
            let documents = target.db.collection::<Document>(name);
            found.push((name.to_owned(), documents.estimated_document_count().await?));
        }
        Ok(found)
    })
}

/// The store's collections that exist; at least one.
async fn present(target: &Target) -> Result<Vec<&'static str>, BackupError> {
    let names = target.db.list_collection_names().await?;
    let found: Vec<_> =
        COLLECTIONS.into_iter().filter(|name| names.iter().any(|it| it == name)).collect();
    if found.is_empty() {
        let why = format!("{}: there is no store to back up", target.label);
        return Err(BackupError::Refused(why));
    }
    Ok(found)
}

/// Copies the store's collections into a folder.
pub(super) fn dump(uri: &str, folder: &Path, say: Say<'_>) -> Result<Taken, BackupError> {
    wait(async {
        let target = connect(uri).await?;
        let names = present(&target).await?;
        for name in &names {
            describe(&target.db, name, folder).await?;
        }
        let (snapshot, documents) = read_all(&target, &names, folder, say).await?;
        let count = |name: &str| {
            let found = names.iter().position(|it| *it == name);
            found.and_then(|index| documents.get(index).copied()).unwrap_or(0)
        };
        let counts =
            Counts { messages: count("messages"), rooms: count("rooms"), users: count("users") };
        let files = names.iter().zip(&documents).flat_map(|(name, documents)| {
            [(documents_file(name), Some(*documents)), (metadata_file(name), None)]
        });
        Ok(Taken { source: target.label, snapshot, counts, files: files.collect() })
    })
}

/// As of one moment where the deployment can, else one collection after the other.
async fn read_all(
    target: &Target,
    names: &[&str],
    folder: &Path,
    say: Say<'_>,
) -> Result<(bool, Vec<u64>), BackupError> {
    match snapshot(target, names, folder).await {
        Ok(documents) => return Ok((true, documents)),
        // Not the deployment's doing.
        Err(Snapshot::Failed(error)) => return Err(error),
        Err(Snapshot::Refused(why)) => {
            say(format!(
                "not as of one moment, but one collection after the other: the deployment gives \
                 no snapshot ({})",
                why.kind
            ));
        }
    }
    let mut session = target.client.start_session().await?;
    let mut documents = Vec::new();
    for name in names {
        // What the snapshot has begun.
        let _absent = std::fs::remove_file(folder.join(documents_file(name)));
        documents.push(read(&target.db, &mut session, name, folder).await.map_err(Snapshot::flat)?);
    }
    Ok((false, documents))
}

/// Why a collection was not read.
enum Snapshot {
    /// The deployment refused: it has no snapshots, or not for so long.
    Refused(mongodb::error::Error),
    /// Anything else.
    Failed(BackupError),
}

impl Snapshot {
    fn of(error: mongodb::error::Error) -> Self {
        use mongodb::error::ErrorKind::{Command, IncompatibleServer, InvalidArgument};
        match *error.kind {
            Command(_) | IncompatibleServer { .. } | InvalidArgument { .. } => Self::Refused(error),
            _ => Self::Failed(error.into()),
        }
    }

    fn flat(self) -> BackupError {
        match self {
            Self::Refused(error) => error.into(),
            Self::Failed(error) => error,
        }
    }
}

async fn snapshot(target: &Target, names: &[&str], folder: &Path) -> Result<Vec<u64>, Snapshot> {
    let session = target.client.start_session().snapshot(true);
    let mut session = session.await.map_err(Snapshot::of)?;
    let mut documents = Vec::new();
    for name in names {
        documents.push(read(&target.db, &mut session, name, folder).await?);
    }
    Ok(documents)
}

async fn read(
    db: &Database,
    session: &mut ClientSession,
    name: &str,
    folder: &Path,
) -> Result<u64, Snapshot> {
    let collection = db.collection::<RawDocumentBuf>(name);
    let mut cursor = collection.find(doc! {}).session(&mut *session).await.map_err(Snapshot::of)?;
    let mut file = Writer::create(&folder.join(documents_file(name))).map_err(Snapshot::Failed)?;
    while cursor.advance(&mut *session).await.map_err(Snapshot::of)? {
        file.push(cursor.current()).map_err(Snapshot::Failed)?;
    }
    file.finish().map_err(Snapshot::Failed)
}

/// Writes a collection's options and indexes.
async fn describe(db: &Database, name: &str, folder: &Path) -> Result<(), BackupError> {
    let mut listed = db
        .run_cursor_command(doc! {
            "listCollections": 1, "filter": { "name": name },
        })
        .await?;
    let mut options = Document::new();
    while listed.advance().await? {
        let found = listed.deserialize_current()?;
        if let Ok(written) = found.get_document("options") {
            options = written.clone();
        }
    }
    let mut listed = db.run_cursor_command(doc! { "listIndexes": name }).await?;
    let mut indexes = Vec::new();
    while listed.advance().await? {
        indexes.push(Bson::Document(listed.deserialize_current()?));
    }
    let metadata = doc! {
        "options": options, "indexes": indexes, "collectionName": name, "type": "collection",
    };
    let text = Bson::Document(metadata).into_canonical_extjson().to_string();
    bson_file::write_text(&folder.join(metadata_file(name)), &text)
}
