//! Retention by `sweep`: what goes, what stays, and that no step is long.

use std::sync::Arc;

use throng_bridge::store::{Entry, Retention, RoomSettings, Seen, Store};

use crate::support::{entry, keep, message, read, seqs, sweep};
use crate::{each, each_that};

fn messages(ms: u64) -> Retention {
    Retention { messages_ms: Some(ms), users_ms: None }
}

async fn last_seq(store: &dyn Store, room: &str) -> u64 {
    store.room(room).await.expect("an answer").map_or(0, |room| room.last_seq)
}

#[test]
fn without_retention_all_stays() {
    each(async |store| {
        keep(&*store, "room", (1..=20).map(message)).await;
        let (swept, steps) = sweep(&*store, Retention::default(), u64::MAX).await.expect("a sweep");
        assert_eq!((swept.messages, swept.users, steps), (0, 0, 1));
        assert_eq!(read(&*store, "room").await.len(), 20);
    });
}

#[test]
fn older_messages_go_and_last_seq_stays() {
    each_that(
        |it| it.sweeps,
        async |store| {
            keep(&*store, "a", (1..=10).map(message)).await;
            keep(&*store, "b", (6..=7).map(message)).await;
            // Message `n` is numbered at 1000 + n; exactly as old as allowed is not older.
            let (swept, _) = sweep(&*store, messages(100), 1_106).await.expect("a sweep");
            assert_eq!(swept.messages, 5);
            assert_eq!(seqs(&read(&*store, "a").await), [6, 7, 8, 9, 10]);
            assert_eq!(seqs(&read(&*store, "b").await), [6, 7]);
            let (swept, _) = sweep(&*store, messages(100), 9_999).await.expect("a sweep");
            assert_eq!(swept.messages, 7);
            assert_eq!(read(&*store, "a").await, []);
            assert_eq!((last_seq(&*store, "a").await, last_seq(&*store, "b").await), (10, 7));
            keep(&*store, "a", [message(3)]).await;
            assert_eq!(last_seq(&*store, "a").await, 10, "a late repeat lowers nothing");
            keep(&*store, "a", [message(11)]).await;
            assert_eq!(last_seq(&*store, "a").await, 11);
        },
    );
}

#[test]
fn a_client_id_is_free_again_once_its_message_is_gone() {
    each_that(
        |it| it.sweeps,
        async |store| {
            keep(&*store, "a", [crate::support::with_client_id(1, "x")]).await;
            sweep(&*store, messages(0), 9_999).await.expect("a sweep");
            assert_eq!(store.find("a", &["x".into()]).await, Ok(vec![]));
            let again = crate::support::with_client_id(2, "x");
            keep(&*store, "a", [again.clone()]).await;
            assert_eq!(store.find("a", &["x".into()]).await, Ok(vec![again]));
        },
    );
}

#[test]
fn a_sweep_stops_at_the_first_younger_message() {
    each_that(
        |it| it.sweeps,
        async |store| {
            let mut batch: Vec<_> = (1..=4).map(message).collect();
            batch[1].at_ms = 5_000;
            keep(&*store, "room", batch).await;
            sweep(&*store, messages(100), 2_000).await.expect("a sweep");
            assert_eq!(seqs(&read(&*store, "room").await), [2, 3, 4]);
        },
    );
}

#[test]
fn a_rooms_own_retention_goes_first() {
    each_that(
        |it| it.sweeps,
        async |store| {
            let own = |ms| RoomSettings { retention_ms: ms, ..RoomSettings::default() };
            for (room, ms) in [("short", Some(10)), ("long", Some(u64::MAX)), ("plain", None)] {
                keep(&*store, room, (1..=3).map(message)).await;
                store.configure(room, &own(ms), 1).await.expect("a room");
            }
            keep(&*store, "unknown", (1..=3).map(message)).await;
            let (swept, _) = sweep(&*store, Retention::default(), 1_500).await.expect("a sweep");
            assert_eq!(swept.messages, 3, "the short one's alone");
            let (swept, _) = sweep(&*store, messages(100), 1_500).await.expect("a sweep");
            assert_eq!(swept.messages, 6);
            assert_eq!(read(&*store, "long").await.len(), 3);
            store.configure("long", &own(Some(1)), 1).await.expect("a room");
            let (swept, _) = sweep(&*store, Retention::default(), 1_500).await.expect("a sweep");
            assert_eq!(swept.messages, 3, "a changed setting is found");
        },
    );
}

#[test]
fn users_go_by_when_they_were_last_seen() {
    each_that(
        |it| it.sweeps,
        async |store| {
            let seen = |at_ms: u64| Seen {
                user: format!("u{at_ms}").into(),
                name: "U".into(),
                at_ms,
                metadata: None,
            };
            let batch: Arc<[Seen]> = (1..=2_500).map(seen).collect();
            assert_eq!(store.note_users(batch).await, Ok(()));
            let users = Retention { messages_ms: None, users_ms: Some(500) };
            let (swept, _) = sweep(&*store, users, 2_900).await.expect("a sweep");
            assert_eq!(swept.users, 2_399);
            assert_eq!(store.user("u2399").await, Ok(None));
            assert!(store.user("u2400").await.expect("an answer").is_some());
        },
    );
}

#[test]
fn steps_are_short_and_others_get_their_turn() {
    each_that(
        |it| it.sweeps,
        async |store| {
            let batch: Arc<[Entry]> = (1..=5_000).map(|seq| entry("big", message(seq))).collect();
            assert_eq!(store.append(batch).await, Ok(vec![]));
            let rooms: Arc<[Entry]> =
                (0..350).map(|room| entry(&format!("room {room:03}"), message(1))).collect();
            assert_eq!(store.append(rooms).await, Ok(vec![]));
            let (mut from, mut steps, mut deleted) = (None, 0, 0);
            loop {
                let swept = store.sweep(messages(0), 100_000, from.take()).await.expect("a step");
                assert!(swept.messages <= 1_000, "{swept:?}");
                deleted += swept.messages;
                steps += 1;
                keep(&*store, "big", [message(100_000 + steps)]).await;
                from = swept.next;
                if from.is_none() {
                    break;
                }
            }
            assert!(steps >= 8, "{steps} steps for 5,350 messages in 351 rooms");
            assert_eq!(deleted, 5_350);
            assert_eq!(read(&*store, "big").await.len() as u64, steps);
        },
    );
}
