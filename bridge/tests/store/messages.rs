//! Appending and reading: order, ranges, repeats, refusals, client ids, concurrency.

use std::sync::Arc;

use throng_bridge::Range;
use throng_bridge::store::{Entry, NUMBER_MAX};

use crate::each;
use crate::support::{elsewhere, entry, keep, message, read, seqs, with_client_id};

/// After, before and limit of a range, and the numbers it has.
type Case<'a> = (Option<u64>, Option<u64>, usize, &'a [u64]);

#[test]
fn a_message_comes_back_as_it_was() {
    each(async |store| {
        let kept = with_client_id(1, "c");
        keep(&*store, "room", [kept.clone()]).await;
        assert_eq!(read(&*store, "room").await, [kept]);
        assert_eq!(read(&*store, "other").await, []);
    });
}

#[test]
fn ranges_give_the_newest_in_rising_order() {
    each(async |store| {
        keep(&*store, "room", (1..=10).map(message)).await;
        keep(&*store, "roon", (11..=12).map(message)).await;
        let cases: &[Case<'_>] = &[
            (None, None, 3, &[8, 9, 10]),
            (None, None, 0, &[]),
            (Some(4), None, 100, &[5, 6, 7, 8, 9, 10]),
            (Some(4), None, 2, &[9, 10]),
            (None, Some(4), 2, &[2, 3]),
            (Some(4), Some(7), 9, &[5, 6]),
            (Some(4), Some(5), 9, &[]),
            (Some(7), Some(4), 9, &[]),
            (Some(10), None, 9, &[]),
            (Some(9), Some(11), 9, &[10]),
            (Some(0), Some(2), 9, &[1]),
            (None, Some(0), 9, &[]),
            (None, Some(1), 9, &[]),
            (Some(u64::MAX), None, 9, &[]),
            (Some(u64::MAX), Some(u64::MAX), 9, &[]),
            (Some(NUMBER_MAX), None, 9, &[]),
            (None, Some(u64::MAX), 1, &[10]),
            (Some(8), Some(NUMBER_MAX), usize::MAX, &[9, 10]),
        ];
        for &(after, before, limit, wanted) in cases {
            let range = Range { after, before, limit };
            let found = store.read("room", range).await.expect("messages");
            assert_eq!(seqs(&found), wanted, "{range:?}");
        }
    });
}

#[test]
fn the_newest_come_whatever_is_missing() {
    each(async |store| {
        keep(&*store, "room", [1, 2, 5, 9].map(message)).await;
        let range = Range { after: None, before: Some(9), limit: 2 };
        assert_eq!(seqs(&store.read("room", range).await.expect("messages")), [2, 5]);
    });
}

#[test]
fn a_batch_can_be_repeated() {
    each(async |store| {
        let batch: Arc<[Entry]> =
            (1..=5).map(|seq| entry("room", with_client_id(seq, &format!("c{seq}")))).collect();
        for _ in 0..3 {
            assert_eq!(store.append(Arc::clone(&batch)).await, Ok(vec![]));
        }
        // A part of it with something new, as after a batch that was cut differently.
        let mut more = batch[3..].to_vec();
        more.push(entry("room", message(6)));
        assert_eq!(store.append(more.into()).await, Ok(vec![]));
        let found = read(&*store, "room").await;
        assert_eq!(seqs(&found), [1, 2, 3, 4, 5, 6]);
        assert_eq!(found[4].draft.client_id.as_deref(), Some("c5"));
    });
}

#[test]
fn a_batch_may_repeat_itself_and_may_be_empty() {
    each(async |store| {
        keep(&*store, "room", [message(1), message(1)]).await;
        assert_eq!(seqs(&read(&*store, "room").await), [1]);
        assert_eq!(store.append(Arc::new([])).await, Ok(vec![]));
    });
}

#[test]
fn a_refusal_concerns_its_message_alone() {
    each(async |store| {
        keep(&*store, "a", [message(1), message(2)]).await;
        let mut other = message(2);
        other.id = "another".into();
        let mut timeless = message(4);
        timeless.at_ms = u64::MAX;
        let batch = [
            entry("b", elsewhere(message(1))),
            entry("a", other),
            entry("a", message(3)),
            entry("a", timeless),
            entry("a", message(u64::MAX)),
            entry("b", elsewhere(message(2))),
        ];
        let refused = store.append(batch.into()).await.expect("an answer");
        let mut indexes: Vec<_> = refused.iter().map(|refusal| refusal.index).collect();
        indexes.sort_unstable();
        assert_eq!(indexes, [1, 3, 4]);
        assert!(refused.iter().all(|refusal| !refusal.reason.is_empty()));
        let found = read(&*store, "a").await;
        assert_eq!(found, [message(1), message(2), message(3)]);
        assert_eq!(seqs(&read(&*store, "b").await), [1, 2]);
        let record = store.room("a").await.expect("an answer").expect("a room");
        assert_eq!(record.last_seq, 3, "refused messages do not raise it");
    });
}

#[test]
fn the_greatest_number_is_kept() {
    each(async |store| {
        let mut late = message(NUMBER_MAX - 2_000);
        late.at_ms = 1; // a time that far would be beyond any calendar
        keep(&*store, "room", [message(1), late]).await;
        assert_eq!(seqs(&read(&*store, "room").await), [1, NUMBER_MAX - 2_000]);
        let mut last = message(1);
        last.seq = NUMBER_MAX;
        last.id = "last".into();
        keep(&*store, "room", [last]).await;
        let range = Range { after: Some(NUMBER_MAX - 1), before: None, limit: 9 };
        let found = store.read("room", range).await.expect("messages");
        assert_eq!(seqs(&found), [NUMBER_MAX]);
    });
}

#[test]
fn a_client_id_stays_with_its_first_message() {
    each(async |store| {
        keep(&*store, "a", [with_client_id(1, "x")]).await;
        // Once in another batch, once within a batch; another room has ids of its own.
        let again = [with_client_id(2, "x"), with_client_id(3, "y"), with_client_id(4, "y")];
        keep(&*store, "a", again).await;
        keep(&*store, "b", [elsewhere(with_client_id(1, "x"))]).await;
        let found = read(&*store, "a").await;
        let ids: Vec<_> = found.iter().map(|it| it.draft.client_id.as_deref()).collect();
        assert_eq!(ids, [Some("x"), None, Some("y"), None]);
        // The message without its client id is the same message still.
        keep(&*store, "a", [with_client_id(2, "x")]).await;
        let wanted = ["x", "y", "z", "x", "", "X"].map(Box::from);
        let mut found = store.find("a", &wanted).await.expect("messages");
        found.sort_by_key(|message| message.seq);
        assert_eq!(seqs(&found), [1, 3]);
        assert_eq!(store.find("a", &[]).await, Ok(vec![]));
        assert_eq!(store.find("nowhere", &wanted).await, Ok(vec![]));
    });
}

#[test]
fn reads_see_every_answered_append() {
    each(async |store| {
        let reader = async {
            loop {
                // Asked before the read: what it names has been answered by then.
                let record = store.room("room").await.expect("an answer");
                let last_seq = record.map_or(0, |record| record.last_seq);
                let found = seqs(&read(&*store, "room").await);
                assert!(found.len() as u64 >= last_seq, "{} of {last_seq}", found.len());
                assert!(found.iter().copied().eq(1..=found.len() as u64), "a gap: {found:?}");
                if last_seq == 1_000 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let writer = async {
            for batch in 0..100 {
                keep(&*store, "room", (1..=10).map(|it| message(batch * 10 + it))).await;
                let newest = Range { after: None, before: None, limit: 1 };
                let newest = store.read("room", newest).await.expect("messages");
                assert_eq!(seqs(&newest), [batch * 10 + 10]);
            }
        };
        tokio::join!(reader, writer);
    });
}

#[test]
fn a_caller_may_go_at_any_time() {
    each(async |store| {
        for seq in 1..=50 {
            let append = store.append([entry("room", message(seq))].into());
            // Polled once, then dropped.
            let never = std::future::ready(());
            tokio::select! { biased; _ = append => {}, () = never => {} }
        }
        // Repeating all of it is safe, whichever had been kept.
        keep(&*store, "room", (1..=50).map(message)).await;
        assert_eq!(read(&*store, "room").await, (1..=50).map(message).collect::<Vec<_>>());
    });
}
