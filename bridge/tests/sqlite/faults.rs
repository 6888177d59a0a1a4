//! The disk and other programs at their worst.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rusqlite::Connection;
use throng_bridge::store::{Entry, Sqlite, Store, StoreError};

use crate::support::{Folder, entry, keep, message, read, seqs, with_body};
use crate::{block_on, open, refusal};

/// A small disk of its own, where this user may mount one.
struct Disk(Folder);

impl Disk {
    fn mount(size: &str) -> Option<Self> {
        let folder = Folder::new();
        let options = format!("size={size}");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path());
        if command.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        let mut stderr = std::io::stderr();
        let _ = writeln!(stderr, "NOT TESTED: a small disk, which only root can mount");
        None
    }

    fn make_read_only(&self) {
        let mut command = Command::new("mount");
        command.args(["-o", "remount,ro"]).arg(self.0.path());
        assert!(command.status().expect("mount").success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn is_unavailable<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unavailable(_)))
}

#[test]
fn a_full_disk_loses_nothing_and_it_goes_on_once_there_is_room() {
    let Some(disk) = Disk::mount("2m") else { return };
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).expect("room for ballast");
    block_on(async {
        let store = open(&disk.0.file()).await;
        let body = format!("\"{}\"", "x".repeat(20_000));
        let batch = |kept: u64| -> Arc<[Entry]> {
            (kept + 1..=kept + 3).map(|seq| entry("room", with_body(seq, &body))).collect()
        };
        let mut kept = 0;
        let reason = loop {
            match store.append(batch(kept)).await {
                Ok(refused) => assert_eq!(refused, []),
                Err(StoreError::Unavailable(reason)) => break reason,
                Err(error) => panic!("{error}"),
            }
            kept += 3;
            assert!(kept < 1_000, "the disk never fills");
        };
        assert!(reason.contains("full"), "{reason}");
        assert!(kept > 3, "it filled before anything was kept");
        let again = store.append(batch(kept)).await;
        assert!(is_unavailable(&again), "{again:?}");
        let wanted: Vec<u64> = (1..=kept).collect();
        assert_eq!(seqs(&read(&store, "room").await), wanted);
        fs::remove_file(&ballast).expect("room again");
        assert_eq!(store.check().await, Ok(()));
        assert_eq!(store.append(batch(kept)).await, Ok(vec![]));
        store.close().await;
        let store = open(&disk.0.file()).await;
        let wanted: Vec<u64> = (1..=kept + 3).collect();
        assert_eq!(seqs(&read(&store, "room").await), wanted);
        store.close().await;
    });
}

#[test]
fn a_read_only_disk_is_refused() {
    let Some(disk) = Disk::mount("2m") else { return };
    block_on(async {
        let store = open(&disk.0.file()).await;
        keep(&store, "room", [message(1)]).await;
        store.close().await;
        disk.make_read_only();
        let reason = refusal(&disk.0.file()).await;
        assert!(reason.contains("cannot be written") && reason.contains("DATA_DIR"), "{reason}");
    });
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    block_on(async {
        let folder = Folder::new();
        let mut cut = b"SQLite format 3\0".to_vec();
        cut.extend_from_slice(&[0xff; 4_080]);
        for content in [b"just a text, long enough for a header".repeat(300), cut] {
            fs::write(folder.file(), &content).expect("a file");
            let reason = refusal(&folder.file()).await;
            assert!(reason.contains("throng.db cannot be used"), "{reason}");
            assert!(fs::read(folder.file()).expect("the file") == content);
        }
        let reason = refusal(folder.path()).await;
        assert!(reason.contains("is a folder"), "{reason}");
        let reason = refusal(Path::new("/proc/nothing/throng.db")).await;
        assert!(reason.contains("/proc/nothing cannot be made"), "{reason}");
        let below = folder.file().join("throng.db");
        let reason = refusal(&below).await;
        assert!(reason.contains("cannot be made"), "{reason}");
    });
}

#[test]
fn an_empty_file_becomes_a_store() {
    block_on(async {
        let folder = Folder::new();
        fs::write(folder.file(), b"").expect("a file");
        keep(&open(&folder.file()).await, "room", [message(1)]).await;
    });
}

#[test]
fn a_file_of_another_program_is_refused() {
    block_on(async {
        let folder = Folder::new();
        let file = Connection::open(folder.file()).expect("a file");
        file.execute_batch("CREATE TABLE songs(a); CREATE TABLE messages(b)").expect("tables");
        drop(file);
        let reason = refusal(&folder.file()).await;
        assert!(reason.contains("belongs to another program"), "{reason}");
        assert!(reason.contains("songs"), "{reason}");
    });
}

#[test]
fn damage_in_the_midst_is_told_and_not_hidden() {
    block_on(async {
        let folder = Folder::new();
        let store = open(&folder.file()).await;
        keep(&store, "room", (1..=2_000).map(message)).await;
        store.close().await;
        let mut file = OpenOptions::new().write(true).open(folder.file()).expect("the file");
        let length = file.metadata().expect("a length").len();
        // Past the schema, which is read when it is opened.
        file.seek(SeekFrom::Start(length / 2)).expect("a place");
        file.write_all(&vec![0xa5; length as usize / 4]).expect("damage");
        drop(file);
        let store = match Sqlite::open(&folder.file()).await {
            Ok(store) => store,
            Err(error) => return assert!(matches!(error, StoreError::Unusable(_)), "{error}"),
        };
        for _ in 0..2 {
            let found = store.read("room", crate::support::ALL).await;
            assert!(is_unavailable(&found), "{found:?}");
        }
    });
}

#[test]
fn a_tool_that_holds_the_file_only_delays() {
    block_on(async {
        let folder = Folder::new();
        let store = open(&folder.file()).await;
        let tool = Connection::open(folder.file()).expect("the file");
        tool.execute_batch("BEGIN IMMEDIATE").expect("a lock");
        let answer = store.append([entry("room", message(1))].into()).await;
        assert!(is_unavailable(&answer), "{answer:?}");
        assert_eq!(store.room("room").await, Ok(None), "reading goes on");
        tool.execute_batch("ROLLBACK").expect("no lock");
        keep(&store, "room", [message(1)]).await;
    });
}

#[test]
fn a_file_that_was_moved_away_is_missed_at_once() {
    block_on(async {
        let folder = Folder::new();
        let store = open(&folder.file()).await;
        keep(&store, "room", [message(1)]).await;
        let away = folder.path().join("away.db");
        fs::rename(folder.file(), &away).expect("a move");
        let answer = store.append([entry("room", message(2))].into()).await;
        assert!(is_unavailable(&answer), "{answer:?}");
        assert!(is_unavailable(&store.check().await));
        fs::write(folder.file(), b"").expect("another file");
        let answer = store.append([entry("room", message(2))].into()).await;
        assert!(is_unavailable(&answer), "{answer:?}");
        fs::rename(&away, folder.file()).expect("a move");
        keep(&store, "room", [message(2)]).await;
        assert_eq!(seqs(&read(&store, "room").await), [1, 2]);
    });
}

#[test]
fn a_message_that_is_too_big_is_refused_alone() {
    block_on(async {
        let folder = Folder::new();
        let store = open(&folder.file()).await;
        let mut big = message(2);
        big.draft.attachments = vec![vec![0; 65 << 20].into()];
        let batch = [entry("room", message(1)), entry("room", big), entry("room", message(3))];
        let refused = store.append(batch.into()).await.expect("an answer");
        assert_eq!(refused.iter().map(|it| it.index).collect::<Vec<_>>(), [1]);
        assert!(refused[0].reason.contains("bytes"), "{}", refused[0].reason);
        assert_eq!(seqs(&read(&store, "room").await), [1, 3]);
    });
}

#[test]
fn damaged_attachments_are_named() {
    block_on(async {
        let folder = Folder::new();
        let store = open(&folder.file()).await;
        keep(&store, "room", [message(1)]).await;
        let tool = Connection::open(folder.file()).expect("the file");
        tool.execute_batch("UPDATE messages SET attachments=x'ff000000aa'").expect("damage");
        let found = store.read("room", crate::support::ALL).await;
        let Err(StoreError::Unusable(reason)) = found else { panic!("{found:?}") };
        assert!(reason.contains("id-1") && reason.contains("attachments"), "{reason}");
    });
}
