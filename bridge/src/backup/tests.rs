//! Names, manifests and what may be deleted. The real stores are in `tests/python/test_backup*.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::manifest::{FORMAT, MANIFEST, SUMS};
use super::*;

/// A folder that is gone with the test.
struct Temp(PathBuf);

impl Temp {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "throng-backup-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A backup with one file.
fn put(dir: &Path, name: &str, created_ms: u64) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir(&path).expect("a folder");
    fs::write(path.join("throng.db"), "content").expect("a file");
    let manifest = Manifest {
        format: FORMAT,
        throng: "1.2.3".to_owned(),
        kind: "sqlite".to_owned(),
        created: "2026-11-22T11:37:40Z".to_owned(),
        created_ms,
        source: "/data/throng.db".to_owned(),
        snapshot: true,
        counts: Counts { messages: 1, rooms: 2, users: 3 },
        files: vec![File::of(&path, "throng.db", None).expect("a file")],
    };
    manifest.write(&path).expect("a manifest");
    path
}

fn names(days: std::ops::RangeInclusive<u32>) -> Vec<String> {
    days.map(|day| format!("throng-202611{day:02}T000000.000Z")).collect()
}

#[test]
fn a_manifest_reads_back_and_fits_its_files() {
    let temp = Temp::new();
    let path = put(&temp.0, &names(1..=1)[0], 7);
    let manifest = Manifest::read(&path).expect("a manifest");
    assert_eq!(manifest.counts, Counts { messages: 1, rooms: 2, users: 3 });
    assert_eq!(manifest.bytes(), 7);
    manifest.verify(&path).expect("whole");
    // Of `printf content | sha256sum`.
    let sum = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    assert_eq!(manifest.file("throng.db").map(|it| it.sha256.as_str()), Some(sum));
}

#[test]
fn what_is_changed_is_found() {
    for (name, content) in
        [("throng.db", "c0ntent"), ("throng.db", "conten"), (SUMS, ""), (MANIFEST, "{}")]
    {
        let temp = Temp::new();
        let path = put(&temp.0, &names(1..=1)[0], 7);
        fs::write(path.join(name), content).expect("a file");
        let found = Manifest::read(&path).and_then(|it| it.verify(&path));
        assert!(matches!(found, Err(BackupError::Refused(_))), "{name}: {found:?}");
    }
}

#[test]
fn a_space_more_in_the_manifest_is_found() {
    let temp = Temp::new();
    let path = put(&temp.0, &names(1..=1)[0], 7);
    let text = fs::read_to_string(path.join(MANIFEST)).expect("a manifest");
    fs::write(path.join(MANIFEST), text + " ").expect("a file");
    let manifest = Manifest::read(&path).expect("still a manifest");
    assert!(manifest.verify(&path).is_err());
}

#[test]
fn a_name_stays_in_the_folder() {
    let long = "a".repeat(65);
    for name in [
        "../throng.db",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a/b",
        "a\\b",
        ".hidden",
        "-rf",
        "a\0b",
        "a\nb",
        "ä",
        MANIFEST,
        SUMS,
        &long,
    ] {
        let temp = Temp::new();
        let path = put(&temp.0, &names(1..=1)[0], 7);
        let mut manifest = Manifest::read(&path).expect("a manifest");
        name.clone_into(&mut manifest.files[0].name);
        let text = serde_json::to_string(&manifest).expect("JSON");
        fs::write(path.join(MANIFEST), text).expect("a file");
        let found = Manifest::read(&path);
        assert!(matches!(found, Err(BackupError::Refused(_))), "{name:?}: {found:?}");
    }
}

#[test]
fn another_format_is_refused_before_it_is_understood() {
    for (format, known) in [("0", false), ("1", true), ("2", false), ("4294967295", false)] {
        let temp = Temp::new();
        let path = put(&temp.0, &names(1..=1)[0], 7);
        let text = fs::read_to_string(path.join(MANIFEST)).expect("a manifest");
        let text = text.replace("\"format\": 1", &format!("\"format\": {format}"));
        fs::write(path.join(MANIFEST), text).expect("a file");
        let found = Manifest::read(&path);
        assert_eq!(found.is_ok(), known, "{format}");
    }
    let temp = Temp::new();
    fs::write(temp.0.join(MANIFEST), "{\"format\":2,\"new\":[]}").expect("a file");
    let why = Manifest::read(&temp.0).expect_err("newer").to_string();
    assert!(why.contains("format 2"), "{why}");
}

#[test]
fn names_tell_the_time_and_sort_by_it() {
    assert_eq!(folder::stamp(1_795_347_460_007).as_deref(), Ok("20261122T113740.007Z"));
    assert_eq!(folder::rfc3339(1_795_347_460_007).as_deref(), Ok("2026-11-22T11:37:40Z"));
    assert_eq!(folder::stamp(0).as_deref(), Ok("19700101T000000.000Z"));
    assert!(folder::stamp(u64::MAX).is_err());
}

#[test]
fn the_oldest_beyond_keep_go() {
    let temp = Temp::new();
    for name in names(1..=5) {
        put(&temp.0, &name, 1);
    }
    let made = &names(5..=5)[0];
    let surplus = |keep| folder::surplus(&temp.0, Some(made), keep).expect("a listing");
    assert_eq!(surplus(5), [""; 0]);
    assert_eq!(surplus(3), names(1..=2));
    assert_eq!(surplus(1), names(1..=4));
    // The one just made stays, even where the clock says that it is the oldest.
    let oldest = &names(1..=1)[0];
    assert_eq!(folder::surplus(&temp.0, Some(oldest), 1), Ok(names(2..=5)));
    let mut said = Vec::new();
    folder::thin(&temp.0, made, 2, &mut |line| said.push(line)).expect("deleted");
    assert_eq!(folder::complete(&temp.0).ok(), Some(names(4..=5)));
    assert_eq!(said.len(), 3);
}

#[test]
fn only_what_it_has_made_is_deleted() {
    let temp = Temp::new();
    let paths: Vec<_> = names(1..=5).iter().map(|name| put(&temp.0, name, 1)).collect();
    fs::write(paths[0].join("note"), "mine").expect("a file");
    fs::remove_file(paths[1].join(MANIFEST)).expect("it was there");
    fs::write(paths[2].join(MANIFEST), "{\"format\":99}").expect("a file");
    fs::create_dir(temp.0.join("throng-notes")).expect("a folder");
    fs::write(temp.0.join("throng-20261101T000000.001Z"), "a file").expect("a file");
    let made = &names(5..=5)[0];
    let mut said = Vec::new();
    folder::thin(&temp.0, made, 1, &mut |line| said.push(line)).expect("deleted");
    assert_eq!(
        paths.iter().map(|it| it.exists()).collect::<Vec<_>>(),
        [true, true, true, false, true]
    );
    assert_eq!(said.iter().filter(|line| line.starts_with("left")).count(), 2, "{said:?}");
    assert!(temp.0.join("throng-notes").exists());
    assert!(temp.0.join("throng-20261101T000000.001Z").exists());
}

#[test]
fn what_killed_runs_have_left_goes_and_nothing_like_it() {
    let temp = Temp::new();
    for name in ["throng-20261101T000000.000Z.partial", "mine.partial", "throng-1.partial"] {
        fs::create_dir(temp.0.join(name)).expect("a folder");
    }
    folder::clear_partials(&temp.0, &mut |_| {}).expect("deleted");
    assert!(!temp.0.join("throng-20261101T000000.000Z.partial").exists());
    assert!(temp.0.join("mine.partial").exists() && temp.0.join("throng-1.partial").exists());
}

#[test]
fn one_at_a_time() {
    let temp = Temp::new();
    let held = folder::lock(&temp.0).expect("free");
    assert!(matches!(folder::lock(&temp.0), Err(BackupError::Busy(_))));
    assert!(matches!(folder::lock_shared(&temp.0), Err(BackupError::Busy(_))));
    drop(held);
    let _reader = folder::lock_shared(&temp.0).expect("free").expect("a lock file");
    let _another = folder::lock_shared(&temp.0).expect("readers do not mind each other");
    assert!(matches!(folder::lock(&temp.0), Err(BackupError::Busy(_))));
}

#[test]
fn the_last_backup_is_the_newest_that_can_be_read() {
    let temp = Temp::new();
    assert_eq!(last_backup_ms(&temp.0), None);
    assert_eq!(last_backup_ms(&temp.0.join("nowhere")), None);
    put(&temp.0, &names(1..=1)[0], 10);
    put(&temp.0, &names(2..=2)[0], 20);
    fs::create_dir(temp.0.join("throng-20261103T000000.000Z.partial")).expect("a folder");
    assert_eq!(last_backup_ms(&temp.0), Some(20));
    fs::write(temp.0.join(&names(2..=2)[0]).join(MANIFEST), "{").expect("a file");
    assert_eq!(last_backup_ms(&temp.0), Some(10));
}

/// A store with messages of 1 kB.
fn store(dir: &Path, messages: u32) -> rusqlite::Connection {
    let store = rusqlite::Connection::open(dir.join("throng.db")).expect("a database");
    let schema = "PRAGMA journal_mode = WAL;
        CREATE TABLE schema_version(version); CREATE TABLE rooms(_id); CREATE TABLE users(_id);
        CREATE TABLE messages(_id INTEGER PRIMARY KEY, body)";
    store.execute_batch(schema).expect("a schema");
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
        INSERT INTO messages SELECT i, randomblob(1000) FROM n";
    store.execute(rows, [messages]).expect("rows");
    store
}

#[test]
fn a_file_that_is_mostly_empty_is_written_anew() {
    let temp = Temp::new();
    let database = store(&temp.0, 2000);
    let full = tend(&temp.0, false).expect("tended");
    assert!(!full.vacuumed && full.bytes_after >= full.bytes_before, "{full:?}");
    database.execute("DELETE FROM messages WHERE _id > 500", []).expect("deleted");
    drop(database);
    let seen = tend(&temp.0, true).expect("seen");
    assert!(seen.vacuumed && seen.bytes_after == seen.bytes_before, "{seen:?}");
    let done = tend(&temp.0, false).expect("tended");
    assert!(done.vacuumed && done.bytes_after * 2 < done.bytes_before, "{done:?}");
    let left = fs::metadata(temp.0.join("throng.db")).expect("a file").len();
    assert_eq!(left, done.bytes_after);
}

#[test]
fn a_file_in_use_is_not_tended() {
    let temp = Temp::new();
    drop(store(&temp.0, 10));
    let engine = sqlite::lock(&temp.0.join("throng.db")).expect("free");
    assert!(matches!(tend(&temp.0, false), Err(BackupError::Busy(_))));
    assert!(matches!(refuse_engine(&temp.0), Err(BackupError::Busy(_))));
    drop(engine);
    assert_eq!(refuse_engine(&temp.0), Ok(()));
    tend(&temp.0, false).expect("tended");
}

const WRITES_MAX: Duration = Duration::from_secs(30);

#[test]
fn the_copy_ends_while_another_writes_between_its_steps() {
    let temp = Temp::new();
    let database = store(&temp.0, 20_000); // some 20 steps
    database.execute_batch("PRAGMA synchronous = OFF").expect("writes between any two of them");
    let stop = AtomicBool::new(false);
    let (going, begun) = (&stop, Instant::now());
    let counts = std::thread::scope(|scope| {
        scope.spawn(move || {
            while !going.load(Ordering::Relaxed) && begun.elapsed() < WRITES_MAX {
                database.execute("INSERT INTO messages(body) VALUES (1)", []).expect("a row");
            }
        });
        let counts = sqlite::copy(&temp.0.join("throng.db"), &temp.0.join("copy.db"));
        stop.store(true, Ordering::Relaxed);
        counts
    });
    // A copy that began anew with each write would have waited for the last one.
    assert!(begun.elapsed() < WRITES_MAX, "{:?}", begun.elapsed());
    assert!(counts.is_ok_and(|it| it.messages >= 20_000));
}
