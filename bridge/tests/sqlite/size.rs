//! What must not grow with what is stored: the time to start, and the time a page of history takes.

use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;
use throng_bridge::Range;
use throng_bridge::store::Store;

use crate::support::Folder;
use crate::{CHILD, block_on, open, said, say, spawn};

/// Fills a room with messages, without the detour of a commit for each few.
fn fill(file: &Path, count: u64) {
    let connection = Connection::open(file).expect("the file");
    let sql = r#"
        WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < ?1)
        INSERT INTO messages SELECT printf('id-%d', seq), 'room', seq,
            '{"id":"AAAAAAAAAAAAAAAAAAAA","user":"user","name":"Name"}',
            printf('"message %d of a room that has seen a lot of them"', seq), seq, NULL, NULL
        FROM n"#;
    connection.execute(sql, [count as i64]).expect("messages");
    let sql = "INSERT INTO rooms VALUES('room', 1, ?1, '{}')";
    connection.execute(sql, [count as i64]).expect("a room");
}

/// Bytes that this process has read so far.
fn read_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("Linux");
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.expect("a line").parse().expect("a number")
}

#[test]
fn child_tells_what_opening_reads() {
    let Some(file) = std::env::var_os(CHILD) else { return };
    block_on(async {
        let before = read_bytes();
        let store = open(Path::new(&file)).await;
        say(read_bytes() - before);
        store.close().await;
    });
}

fn opening_reads(file: &Path) -> u64 {
    let mut child = spawn("size::child_tells_what_opening_reads", file);
    let told = said(&mut child).last().expect("a line").parse().expect("a number");
    child.wait().expect("its end");
    told
}

#[test]
fn starting_does_not_read_what_is_stored() {
    let folder = Folder::new();
    block_on(async { open(&folder.file()).await.close().await });
    let empty = opening_reads(&folder.file());
    fill(&folder.file(), 100_000);
    let full = opening_reads(&folder.file());
    let length = std::fs::metadata(folder.file()).expect("the file").len();
    assert!(length > 10_000_000, "{length}");
    assert!(full < empty + 200_000, "{empty} bytes read when empty, {full} of {length} when full");
}

/// Shows a time and asserts none: machines differ.
#[test]
fn history_of_a_big_room() {
    let folder = Folder::new();
    block_on(async { open(&folder.file()).await.close().await });
    let count = 1_000_000;
    fill(&folder.file(), count);
    block_on(async {
        let started = Instant::now();
        let store = open(&folder.file()).await;
        eprintln!("opened with {count} messages in {:?}", started.elapsed());
        let mut times = Vec::new();
        for turn in 0..500 {
            // Places all over the room, in no order.
            let before = 51 + turn * 7_919 * 104_729 % (count - 50);
            let range = Range { after: None, before: Some(before), limit: 50 };
            let started = Instant::now();
            assert_eq!(store.read("room", range).await.expect("messages").len(), 50);
            times.push(started.elapsed());
        }
        times.sort();
        eprintln!("50 of {count} messages: p50 {:?}, p99 {:?}", times[250], times[495]);
    });
}
