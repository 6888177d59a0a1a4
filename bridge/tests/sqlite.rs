//! Proves what only the embedded store promises: it survives being killed, a full disk and being
//! opened again, and refuses files that it must not touch with a text that helps.
//!
//! Tests named `child_*` do nothing by themselves: others run them in a process of its own.

#[path = "sqlite/faults.rs"]
mod faults;
#[path = "sqlite/size.rs"]
mod size;
#[path = "store/support.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rusqlite::Connection;
use throng_bridge::Message;
use throng_bridge::store::{RoomSettings, Seen, Sqlite, Store, StoreError};

use support::{Folder, keep, message, read, seqs, with_client_id};

/// The file that a test in a child process works on.
const CHILD: &str = "THRONG_STORE_CHILD";

/// Version 1 of the schema, as it was: no attachments, no metadata of users.
const VERSION_1: &str = r#"
    CREATE TABLE schema_version(version INTEGER NOT NULL);
    INSERT INTO schema_version VALUES(1);
    CREATE TABLE messages("_id" TEXT NOT NULL, room TEXT NOT NULL, seq INTEGER NOT NULL,
        "from" TEXT NOT NULL, body TEXT NOT NULL, at INTEGER NOT NULL, "clientId" TEXT,
        PRIMARY KEY(room, seq)) WITHOUT ROWID;
    CREATE UNIQUE INDEX messages_client ON messages(room, "clientId")
        WHERE "clientId" IS NOT NULL;
    CREATE TABLE rooms("_id" TEXT NOT NULL PRIMARY KEY, "createdAt" INTEGER NOT NULL,
        "lastSeq" INTEGER NOT NULL, settings TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX rooms_retention ON rooms("_id")
        WHERE json_extract(settings, '$.retentionMs') IS NOT NULL;
    CREATE TABLE users("_id" TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL,
        "firstSeen" INTEGER NOT NULL, "lastSeen" INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX users_seen ON users("lastSeen");
    INSERT INTO messages VALUES('old', 'room', 1,
        '{"id":"s","user":"u","name":"U"}', '[1]', 5, 'c');
    INSERT INTO rooms VALUES('room', 5, 1, '{"capacity":3}');
    INSERT INTO users VALUES('u', 'U', 5, 6);"#;

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

async fn open(path: &Path) -> Sqlite {
    Sqlite::open(path).await.expect("a store")
}

/// The text that a file is refused with.
async fn refusal(path: &Path) -> String {
    match Sqlite::open(path).await {
        Err(StoreError::Unusable(reason)) => reason,
        Err(StoreError::Unavailable(reason)) => panic!("should be unusable: {reason}"),
        Ok(_) => panic!("{} was opened", path.display()),
    }
}

/// Runs a test of this file in a process of its own, on a file of the parent's.
fn spawn(test: &str, file: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, file);
    command.stdout(Stdio::piped()).spawn().expect("a child")
}

/// What a child's test says in lines that start with `said `, without the word.
fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    lines.map_while(Result::ok).filter_map(|it| it.split_once("said ").map(|it| it.1.to_owned()))
}

fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "said {line}").and_then(|()| out.flush()).expect("the parent listens");
}

#[test]
fn everything_is_there_after_it_was_closed_and_opened() {
    block_on(async {
        let folder = Folder::new();
        let mut kept: Vec<Message> = (1..=300).map(message).collect();
        kept[7].draft.attachments = vec![[1, 2, 3].into(), [].into()];
        kept[8] = with_client_id(9, "c");
        let settings = RoomSettings { capacity: Some(3), ..RoomSettings::default() };
        let seen = Seen { user: "u".into(), name: "U".into(), at_ms: 5, metadata: None };
        let store = open(&folder.file()).await;
        keep(&store, "room", kept.clone()).await;
        let room = store.configure("room", &settings, 9).await.expect("a room");
        assert_eq!(store.note_users([seen].into()).await, Ok(()));
        let user = store.user("u").await;
        store.close().await;
        let asked = store.append([].into()).await;
        assert!(matches!(asked, Err(StoreError::Unavailable(_))), "{asked:?}");
        // Closed, it is one file that can be copied: nothing is left in a log beside it.
        assert!(!folder.path().join("throng.db-wal").exists());
        let store = open(&folder.file()).await;
        assert_eq!(read(&store, "room").await, kept);
        assert_eq!((store.room("room").await, store.user("u").await), (Ok(Some(room)), user));
    });
}

#[test]
fn child_appends_until_it_is_killed() {
    let Some(file) = std::env::var_os(CHILD) else { return };
    block_on(async {
        let store = open(Path::new(&file)).await;
        let record = store.room("room").await.expect("an answer");
        let mut seq = record.map_or(0, |record| record.last_seq);
        loop {
            keep(&store, "room", (seq + 1..=seq + 7).map(message)).await;
            seq += 7;
            say(seq);
        }
    });
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let folder = Folder::new();
    let mut acknowledged = 0;
    for round in 0..15 {
        let mut child = spawn("child_appends_until_it_is_killed", &folder.file());
        let mut lines = said(&mut child);
        for _ in 0..=round * 3 {
            acknowledged = lines.next().expect("an append").parse().expect("a number");
        }
        child.kill().expect("a kill");
        // What it said between the last line and its end counts as well.
        acknowledged = lines.last().map_or(acknowledged, |it| it.parse().expect("a number"));
        child.wait().expect("its end");
        block_on(async {
            let store = open(&folder.file()).await;
            let found = seqs(&read(&store, "room").await);
            assert!(found.len() as u64 >= acknowledged, "{} of {acknowledged}", found.len());
            assert_eq!(found.len() % 7, 0, "a batch is there as a whole or not at all");
            assert!(found.iter().copied().eq(1..=found.len() as u64), "a gap");
            let record = store.room("room").await.expect("an answer").expect("a room");
            assert_eq!(record.last_seq, found.len() as u64);
            store.close().await;
        });
        let connection = Connection::open(folder.file()).expect("the file");
        let sound: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .expect("an answer");
        assert_eq!(sound, "ok");
    }
    assert!(acknowledged >= 15 * 7, "only {acknowledged}");
}

#[test]
fn only_one_engine_uses_a_file() {
    block_on(async {
        let folder = Folder::new();
        let first = open(&folder.file()).await;
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink(folder.file(), &link).expect("a link");
        for path in [&folder.file(), &link] {
            let reason = refusal(path).await;
            let process = format!("process {}", std::process::id());
            for part in ["throng.db", "in use", &process, "DATA_DIR"] {
                assert!(reason.contains(part), "{part}: {reason}");
            }
        }
        keep(&first, "room", [message(1)]).await;
        first.close().await;
        let second = open(&folder.file()).await;
        assert_eq!(seqs(&read(&second, "room").await), [1]);
    });
}

#[test]
fn a_file_of_version_1_is_migrated() {
    block_on(async {
        let folder = Folder::new();
        let file = Connection::open(folder.file()).expect("a file");
        file.execute_batch(VERSION_1).expect("version 1");
        drop(file);
        for last_seq in [1, 2] {
            let store = open(&folder.file()).await;
            let found = read(&store, "room").await;
            assert_eq!((&*found[0].id, &*found[0].draft.body, found[0].at_ms), ("old", "[1]", 5));
            assert_eq!(found[0].draft.client_id.as_deref(), Some("c"));
            let room = store.room("room").await.expect("an answer").expect("a room");
            assert_eq!((room.last_seq, room.settings.capacity), (last_seq, Some(3)));
            assert_eq!(store.user("u").await.expect("an answer").expect("one").metadata, None);
            let mut new = message(2);
            new.draft.attachments = vec![[1].into()];
            keep(&store, "room", [new.clone()]).await;
            assert_eq!(read(&store, "room").await[1], new);
            store.close().await;
        }
        let file = Connection::open(folder.file()).expect("the file");
        let version = "SELECT max(version) || '/' || count(*) FROM schema_version";
        let version: String = file.query_row(version, [], |row| row.get(0)).expect("a version");
        assert_eq!(version, "2/1");
    });
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    block_on(async {
        let folder = Folder::new();
        let file = Connection::open(folder.file()).expect("a file");
        file.execute_batch(VERSION_1).expect("version 1");
        // The second half of the step fails.
        file.execute_batch("ALTER TABLE users ADD COLUMN metadata TEXT").expect("a column");
        let reason = refusal(&folder.file()).await;
        assert!(reason.contains("metadata"), "{reason}");
        let sql = "SELECT count(*) FROM pragma_table_info('messages') WHERE name='attachments'";
        assert_eq!(file.query_row(sql, [], |row| row.get(0)), Ok(0));
    });
}

#[test]
fn another_schema_is_refused_with_what_differs() {
    let cases = [
        ("UPDATE schema_version SET version=99", "version 99"),
        ("INSERT INTO schema_version VALUES(2)", "schema_version"),
        ("DELETE FROM schema_version", "schema_version"),
        ("DROP TABLE schema_version", "belongs to another program"),
        ("DROP TABLE users", "users is missing"),
        ("DROP INDEX messages_client", "messages_client is missing"),
        ("ALTER TABLE rooms RENAME COLUMN \"lastSeq\" TO last", "rooms.lastSeq is missing"),
        ("ALTER TABLE messages ADD COLUMN colour TEXT", "messages.colour is unknown"),
        (
            "DROP TABLE users; CREATE TABLE users(\"_id\" INTEGER PRIMARY KEY, name TEXT NOT NULL,
            \"firstSeen\" INTEGER NOT NULL, \"lastSeen\" INTEGER NOT NULL, metadata TEXT)",
            "users._id is `INTEGER",
        ),
    ];
    block_on(async {
        for (change, wanted) in cases {
            let folder = Folder::new();
            open(&folder.file()).await.close().await;
            let file = Connection::open(folder.file()).expect("the file");
            file.execute_batch(change).expect("a change");
            drop(file);
            let before = fs::read(folder.file()).expect("the file");
            let reason = refusal(&folder.file()).await;
            assert!(reason.contains(wanted), "{change}: {reason}");
            assert!(reason.contains("throng.db"), "{reason}");
            let after = fs::read(folder.file()).expect("the file");
            assert!(before == after, "{change}: the file was changed");
        }
    });
}

#[test]
fn what_the_operator_adds_beside_is_left_alone() {
    block_on(async {
        let folder = Folder::new();
        open(&folder.file()).await.close().await;
        let file = Connection::open(folder.file()).expect("the file");
        file.execute_batch("CREATE TABLE notes(a); CREATE INDEX by_time ON messages(at)")
            .expect("a table");
        drop(file);
        keep(&open(&folder.file()).await, "room", [message(1)]).await;
    });
}

#[test]
fn tools_find_the_tables_by_their_names() {
    block_on(async {
        let folder = Folder::new();
        let store = open(&folder.file()).await;
        keep(&store, "room", [with_client_id(1, "c")]).await;
        let seen =
            Seen { user: "u".into(), name: "U".into(), at_ms: 5, metadata: Some("{}".into()) };
        assert_eq!(store.note_users([seen].into()).await, Ok(()));
        let file = Connection::open(folder.file()).expect("the file");
        let row = |sql: &str| file.query_row(sql, [], |row| row.get::<_, String>(0));
        let message =
            row(r#"SELECT json_array("_id", room, seq, "from" ->> 'user', body, at, "clientId",
            attachments) FROM messages"#);
        let wanted = r#"["id-1","room",1,"user","\"hello\"",1001,"c",null]"#;
        assert_eq!(message.as_deref(), Ok(wanted));
        let room = row(r#"SELECT json_array("_id", "createdAt", "lastSeq", json(settings))
            FROM rooms"#);
        assert_eq!(room.as_deref(), Ok(r#"["room",1001,1,{}]"#));
        let user = row(r#"SELECT json_array("_id", name, "firstSeen", "lastSeen", metadata)
            FROM users"#);
        assert_eq!(user.as_deref(), Ok(r#"["u","U",5,5,"{}"]"#));
    });
}

#[test]
fn the_owner_alone_can_read_it() {
    block_on(async {
        let folder = Folder::new();
        let file = folder.path().join("a/b/throng.db");
        let store = open(&file).await;
        keep(&store, "room", [message(1)]).await;
        let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        let inside = file.parent().expect("a folder");
        assert_eq!(mode(inside), 0o700);
        let mut names = Vec::new();
        for entry in fs::read_dir(inside).expect("a folder") {
            let path = entry.expect("a file").path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            names.push(path.file_name().expect("a name").to_owned());
        }
        assert!(names.len() >= 3, "{names:?}");
        assert_eq!(store.path(), file.canonicalize().expect("a path"));
    });
}
