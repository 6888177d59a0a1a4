//! How fast the embedded store is, beside a bare loop over the same library.
//!
//! `append [FOLDER]` keeps messages through `Sqlite::append` and through a loop that does nothing
//! but insert the same rows, in transactions of the same size, with the same pragmas and tables.
//! The two take turns, so that what else the machine does falls on both; medians are compared.
//! `history MESSAGES [FOLDER]` fills one room and reads pages from places all over it.
//!
//! Only a build with `--release` says anything.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use throng_bridge::store::{Entry, Sqlite, Store};
use throng_bridge::{Author, Draft, Message, Range};
use tokio::runtime::{Builder, Runtime};

/// Turns of each kind: odd, so that the median is one of them.
const TURNS: usize = 11;
/// Messages per turn.
const TURN_MESSAGES: u64 = 16_384;
/// The writer's, see `bridge/src/store/sqlite/schema.rs`.
const PRAGMAS: &str = "
    PRAGMA synchronous=FULL;
    PRAGMA foreign_keys=ON;
    PRAGMA trusted_schema=OFF;
    PRAGMA temp_store=MEMORY;
    PRAGMA mmap_size=0;
    PRAGMA cache_size=-16384;
    PRAGMA wal_autocheckpoint=16000;
    PRAGMA journal_size_limit=67108864;
";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let temporary = std::env::temp_dir();
    match words[..] {
        [] | ["append"] => append(&temporary),
        ["append", folder] => append(Path::new(folder)),
        ["history", count] => history(count, &temporary),
        ["history", count, folder] => history(count, Path::new(folder)),
        _ => eprintln!("store_speed append [FOLDER] | history MESSAGES [FOLDER]"),
    }
}

/// A file that is deleted when it goes.
struct File(PathBuf);

impl File {
    fn new(folder: &Path, name: &str) -> Self {
        let folder = folder.join(format!("store-speed-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder.join("throng.db"))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some(folder) = self.0.parent() {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn batches(rooms: &[Arc<str>], size: u64, from: u64) -> Vec<Arc<[Entry]>> {
    let entry = |number: u64| {
        let room = &rooms[(number as usize).wrapping_mul(7_919) % rooms.len()];
        let from = Author {
            id: format!("{number:020x}").into(),
            user: format!("user-{}", number % 5_000).into(),
            name: "Ada Lovelace".into(),
        };
        let draft = Draft {
            from,
            body: format!(r#"{{"text":"message {number}, as long as people write","lang":"en"}}"#)
                .into(),
            attachments: vec![],
            client_id: Some(format!("client-{number:012x}").into()),
        };
        let id = format!("{number:016x}").into();
        let message = Message { id, seq: number, at_ms: 1_700_000_000_000 + number, draft };
        Entry { room: Arc::clone(room), message: Arc::new(message) }
    };
    let batch = |index| (1..=size).map(|it| entry(from + index * size + it)).collect();
    (0..TURN_MESSAGES / size).map(batch).collect()
}

fn rate(took: Duration) -> f64 {
    TURN_MESSAGES as f64 / took.as_secs_f64()
}

fn through_store(runtime: &Runtime, store: &Sqlite, batches: &[Arc<[Entry]>]) -> f64 {
    let started = Instant::now();
    runtime.block_on(async {
        for batch in batches {
            let refused = store.append(Arc::clone(batch)).await.expect("an answer");
            assert!(refused.is_empty());
        }
    });
    rate(started.elapsed())
}

fn bare(connection: &mut Connection, batches: &[Arc<[Entry]>]) -> f64 {
    let started = Instant::now();
    for batch in batches {
        let transaction = connection.transaction().expect("a transaction");
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO messages VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
                .expect("a statement");
            for Entry { room, message } in batch.iter() {
                let Draft { from, body, client_id, .. } = &message.draft;
                let from = format!(
                    r#"{{"id":"{}","user":"{}","name":"{}"}}"#,
                    from.id, from.user, from.name
                );
                let (seq, at) = (message.seq as i64, message.at_ms as i64);
                let none: Option<&[u8]> = None;
                insert
                    .execute(params![message.id, room, seq, from, body, at, client_id, none])
                    .expect("a row");
            }
        }
        transaction.commit().expect("a commit");
    }
    rate(started.elapsed())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn append(folder: &Path) {
    println!("messages/s, median of {TURNS} turns of {TURN_MESSAGES} messages each");
    println!("rooms  batch      store       bare  store/bare");
    for rooms in [1, 1_000] {
        let names: Vec<Arc<str>> = (0..rooms).map(|it| format!("room-{it}").into()).collect();
        for size in [64, 256, 1_024] {
            let (ours, theirs) = compare(folder, &names, size);
            let part = 100.0 * ours / theirs;
            println!("{rooms:>5}  {size:>5}  {ours:>9.0}  {theirs:>9.0}  {part:>9.0} %");
        }
    }
}

fn compare(folder: &Path, rooms: &[Arc<str>], size: u64) -> (f64, f64) {
    let runtime = runtime();
    let (ours, theirs) = (File::new(folder, "store"), File::new(folder, "bare"));
    let open = |file: &File| runtime.block_on(Sqlite::open(&file.0)).expect("a store");
    let store = open(&ours);
    runtime.block_on(open(&theirs).close());
    let mut connection = Connection::open(&theirs.0).expect("the file");
    connection.execute_batch(PRAGMAS).expect("pragmas");
    let (mut by_store, mut by_loop) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let batches = batches(rooms, size, turn as u64 * TURN_MESSAGES);
        // Who goes first changes: the second finds the disk busier.
        if turn % 2 == 0 {
            by_store.push(through_store(&runtime, &store, &batches));
            by_loop.push(bare(&mut connection, &batches));
        } else {
            by_loop.push(bare(&mut connection, &batches));
            by_store.push(through_store(&runtime, &store, &batches));
        }
    }
    runtime.block_on(store.close());
    (median(by_store), median(by_loop))
}

fn history(count: &str, folder: &Path) {
    let count: u64 = count.parse().expect("a number of messages");
    let runtime = runtime();
    let file = File::new(folder, "history");
    runtime.block_on(async { Sqlite::open(&file.0).await.expect("a store").close().await });
    let connection = Connection::open(&file.0).expect("the file");
    let fill = r#"
        PRAGMA synchronous=OFF;
        WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < {count})
        INSERT INTO messages SELECT printf('%016x', seq), 'room', seq,
            '{"id":"AAAAAAAAAAAAAAAAAAAA","user":"user","name":"Ada Lovelace"}',
            printf('{"text":"message %d, as long as people write","lang":"en"}', seq), seq,
            printf('client-%012x', seq), NULL FROM n;
        INSERT INTO rooms VALUES('room', 1, {count}, '{}');
        PRAGMA wal_checkpoint(TRUNCATE);"#;
    connection.execute_batch(&fill.replace("{count}", &count.to_string())).expect("messages");
    drop(connection);
    let length = fs::metadata(&file.0).expect("the file").len();
    println!("{count} messages in one room, {} MB", length >> 20);
    let started = Instant::now();
    let store = runtime.block_on(Sqlite::open(&file.0)).expect("a store");
    println!("opened in {:?}", started.elapsed());
    for limit in [50, 100] {
        pages(&runtime, &store, count, limit);
    }
    runtime.block_on(store.close());
}

fn pages(runtime: &Runtime, store: &Sqlite, count: u64, limit: usize) {
    let read = |turn: u64| {
        // Places all over the room, in no order.
        let span = count - limit as u64;
        let before = limit as u64 + 1 + turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) % span;
        let range = Range { after: None, before: Some(before), limit };
        let started = Instant::now();
        let found = runtime.block_on(store.read("room", range)).expect("messages");
        assert_eq!(found.len(), limit);
        started.elapsed()
    };
    let mut times: Vec<_> = (0..2_000).map(read).collect();
    times.sort();
    let [p50, p99, worst] = [1_000, 1_980, 1_999].map(|at: usize| times[at]);
    println!("{limit} messages of a random place: p50 {p50:?}, p99 {p99:?}, most {worst:?}");
}
