//! MongoDB's collections, put back.
//!
//! Everything is first written into collections of other names, counted and indexed, and only then
//! renamed into place; what stood there is renamed to `<name>_before_restore_<time>`. A run that is
//! cut off before the renaming has changed nothing; cut off between two renames, it is to be run
//! again with `--force`. Nothing here can tell whether an engine runs: the operator stops them.

use std::path::Path;
use std::time::Duration;

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::options::WriteConcern;
use mongodb::{Collection, Database};
use tokio::time::sleep;

use super::bson_file::{self, Reader};
use super::mongo::{COLLECTIONS, Target, connect, documents_file, metadata_file, wait};
use super::{BackupError, Manifest, Return, Say, folder};

const BATCH_DOCUMENTS_MAX: usize = 1000;
const BATCH_BYTES_MAX: usize = 4 << 20;
const METADATA_BYTES_MAX: u64 = 1 << 20;

/// How long what a run had sent that was cut off may still be on its way.
const SETTLED: Duration = Duration::from_secs(1);

/// Where a collection is put together.
fn aside(name: &str) -> String {
    format!("throng_restore_{name}")
}

/// Reads every document of a backup: gzip, framing and number.
pub(super) fn check(from: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    for name in contained(manifest) {
        let path = from.join(documents_file(name));
        let mut reader = Reader::open(&path)?;
        let mut documents = 0;
        while reader.pull()?.is_some() {
            documents += 1;
        }
        if manifest.file(&documents_file(name)).and_then(|it| it.documents) != Some(documents) {
            let why = format!("{}: holds {documents} documents", path.display());
            return Err(BackupError::Refused(format!("{why}, not what the manifest says")));
        }
        metadata(from, name)?;
    }
    Ok(())
}

/// The collections a backup has.
fn contained(manifest: &Manifest) -> Vec<&'static str> {
    let has = |name: &&str| manifest.file(&documents_file(name)).is_some();
    COLLECTIONS.into_iter().filter(has).collect()
}

/// A collection's options and indexes as they were.
fn metadata(from: &Path, name: &str) -> Result<(Document, Vec<Bson>), BackupError> {
    let path = from.join(metadata_file(name));
    let bad = |why: &str| BackupError::Refused(format!("{}: {why}", path.display()));
    let text = bson_file::read_text(&path, METADATA_BYTES_MAX)?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|_| bad("no JSON"))?;
    let value = Bson::try_from(value).map_err(|error| bad(&error.to_string()))?;
    let Bson::Document(mut found) = value else { return Err(bad("no document")) };
    let options = found.get_document("options").cloned().unwrap_or_default();
    let Some(Bson::Array(indexes)) = found.remove("indexes") else {
        return Err(bad("names no indexes"));
    };
    Ok((options, indexes))
}

/// Puts a checked backup back.
pub(super) fn put(
    uri: &str,
    from: &Path,
    manifest: &Manifest,
    order: &Return,
    say: Say<'_>,
) -> Result<(), BackupError> {
    wait(async {
        let target = connect(uri).await?;
        let filled = filled(&target.db).await?;
        let names = contained(manifest);
        if order.dry_run {
            rehearse(&target, &names, &filled, order.force, say);
            return Ok(());
        }
        if !filled.is_empty() && !order.force {
            return Err(BackupError::Refused(format!(
                "{} has documents in {}: with --force they are kept under other names and replaced",
                target.label,
                filled.join(", ")
            )));
        }
        for name in &names {
            let mut built = build(&target.db, from, manifest, name).await;
            if built.is_err() {
                // What a run that was cut off had sent may have arrived meanwhile.
                sleep(SETTLED).await;
                built = build(&target.db, from, manifest, name).await;
            }
            if let Err(error) = built {
                clear(&target.db, &names).await;
                return Err(error);
            }
            say(format!("read back {name}"));
        }
        swap(&target, &names, order.now_ms, say).await
    })
}

fn rehearse(target: &Target, names: &[&str], filled: &[&str], force: bool, say: Say<'_>) {
    let tail = if force { "moved aside" } else { "in the way: --force would move it aside" };
    for name in filled {
        say(format!("{name} in {} has documents and would be {tail}", target.label));
    }
    for name in names {
        say(format!("would put back {name} with its indexes"));
    }
}

/// The store's collections that are not empty.
async fn filled(db: &Database) -> Result<Vec<&'static str>, BackupError> {
    let mut found = Vec::new();
    for name in COLLECTIONS {
        if db.collection::<RawDocumentBuf>(name).find_one(doc! {}).await?.is_some() {
            found.push(name);
        }
    }
    Ok(found)
}

/// Fills a collection under another name, counts it and makes its indexes. Indexes come last: one
/// that expires documents would take some away before they are counted.
async fn build(
    db: &Database,
    from: &Path,
    manifest: &Manifest,
    name: &str,
) -> Result<(), BackupError> {
    let (options, indexes) = metadata(from, name)?;
    let collection = db.collection::<RawDocumentBuf>(&aside(name));
    collection.drop().await?; // of a run that was cut off
    let mut create = doc! { "create": aside(name) };
    create.extend(options);
    db.run_command(create).await?;
    fill(&collection, &from.join(documents_file(name))).await?;
    let written = collection.count_documents(doc! {}).await?;
    let wanted = manifest.file(&documents_file(name)).and_then(|it| it.documents).unwrap_or(0);
    if written != wanted {
        let why = format!("{name}: {written} documents were written, not {wanted}");
        return Err(BackupError::Failed(why));
    }
    let indexes: Vec<_> = indexes.into_iter().filter_map(index).collect();
    if !indexes.is_empty() {
        db.run_command(doc! { "createIndexes": aside(name), "indexes": indexes }).await?;
    }
    Ok(())
}

/// An index as it is asked for: without the one every collection has, and its former place.
fn index(index: Bson) -> Option<Document> {
    let Bson::Document(mut index) = index else { return None };
    index.remove("ns");
    (index.get_str("name").ok() != Some("_id_")).then_some(index)
}

async fn fill(collection: &Collection<RawDocumentBuf>, path: &Path) -> Result<(), BackupError> {
    let mut reader = Reader::open(path)?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    loop {
        let document = reader.pull()?;
        let last = document.is_none();
        if let Some(document) = document {
            bytes += document.as_bytes().len();
            batch.push(document);
        }
        if batch.len() >= BATCH_DOCUMENTS_MAX || bytes >= BATCH_BYTES_MAX || last {
            if !batch.is_empty() {
                let insert = collection.insert_many(batch.drain(..)).ordered(false);
                insert.write_concern(WriteConcern::majority()).await?;
            }
            bytes = 0;
        }
        if last {
            return Ok(());
        }
    }
}

async fn clear(db: &Database, names: &[&str]) {
    for name in names {
        // What cannot be dropped now is dropped by the next run.
        let _left = db.collection::<Document>(&aside(name)).drop().await;
    }
}

/// Renames what is there out of the way and what was built into its place.
async fn swap(
    target: &Target,
    names: &[&str],
    now_ms: u64,
    say: Say<'_>,
) -> Result<(), BackupError> {
    let there = target.db.list_collection_names().await?;
    let stamp = folder::stamp(now_ms)?.replace('.', "_");
    for name in COLLECTIONS {
        if there.iter().any(|it| it == name) {
            let old = format!("{name}_before_restore_{stamp}");
            rename(target, name, &old).await?;
            say(format!("moved {name} aside as {old}"));
        }
        if names.contains(&name) {
            rename(target, &aside(name), name).await?;
        }
    }
    Ok(())
}

async fn rename(target: &Target, from: &str, to: &str) -> Result<(), BackupError> {
    let full = |name: &str| format!("{}.{name}", target.db.name());
    let command = doc! { "renameCollection": full(from), "to": full(to) };
    target.client.database("admin").run_command(command).await?;
    Ok(())
}
