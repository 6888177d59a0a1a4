//! The records beside the messages: rooms with their settings, users with when they were seen.

use throng_bridge::store::{RoomRecord, RoomSettings, Seen, UserRecord};

use crate::each;
use crate::support::{elsewhere, entry, keep, message, read};

#[test]
fn a_room_is_made_by_its_first_message() {
    each(async |store| {
        assert_eq!(store.room("room").await, Ok(None));
        keep(&*store, "room", [message(1), message(2)]).await;
        let wanted =
            RoomRecord { created_at_ms: 1_001, last_seq: 2, settings: RoomSettings::default() };
        assert_eq!(store.room("room").await, Ok(Some(wanted.clone())));
        keep(&*store, "room", [message(3)]).await;
        assert_eq!(store.room("room").await, Ok(Some(RoomRecord { last_seq: 3, ..wanted })));
        assert_eq!(store.room("roo").await, Ok(None));
    });
}

#[test]
fn last_seq_never_falls() {
    each(async |store| {
        keep(&*store, "room", [message(7)]).await;
        keep(&*store, "room", [message(3)]).await;
        let [two, three] = [2, 3].map(|seq| entry("a", elsewhere(message(seq))));
        let batch = [two, entry("room", message(5)), three];
        assert_eq!(store.append(batch.into()).await, Ok(vec![]));
        for (room, last_seq) in [("room", 7), ("a", 3)] {
            let record = store.room(room).await.expect("an answer").expect("a room");
            assert_eq!(record.last_seq, last_seq, "{room}");
        }
    });
}

#[test]
fn settings_are_replaced_as_a_whole() {
    each(async |store| {
        let settings = RoomSettings {
            private: true,
            password: Some("$argon2id$v=19$…".into()),
            users: vec!["a".into(), "b".into()],
            capacity: Some(0),
            retention_ms: Some(0),
            metadata: Some(r#"{"title":"Größe"}"#.into()),
        };
        let made = store.configure("room", &settings, 77).await.expect("a room");
        assert_eq!(made, RoomRecord { created_at_ms: 77, last_seq: 0, settings });
        keep(&*store, "room", [message(1)]).await;
        assert_eq!(store.room("room").await, Ok(Some(RoomRecord { last_seq: 1, ..made })));
        let settings = RoomSettings { capacity: Some(5), ..RoomSettings::default() };
        let changed = store.configure("room", &settings, 99).await.expect("a room");
        let wanted = RoomRecord { created_at_ms: 77, last_seq: 1, settings };
        assert_eq!((changed, store.room("room").await), (wanted.clone(), Ok(Some(wanted))));
        assert_eq!(read(&*store, "room").await, [message(1)]);
    });
}

fn seen(user: &str, at_ms: u64, metadata: Option<&str>) -> Seen {
    Seen {
        user: user.into(),
        name: format!("{user} at {at_ms}").into(),
        at_ms,
        metadata: metadata.map(Into::into),
    }
}

#[test]
fn users_are_seen_first_and_last() {
    each(async |store| {
        assert_eq!(store.user("u").await, Ok(None));
        assert_eq!(store.note_users([].into()).await, Ok(()));
        let batch = [seen("u", 50, None), seen("v", 60, Some("[1]")), seen("u", 70, Some("{}"))];
        assert_eq!(store.note_users(batch.into()).await, Ok(()));
        let wanted = UserRecord {
            name: "u at 70".into(),
            first_seen_ms: 50,
            last_seen_ms: 70,
            metadata: Some("{}".into()),
        };
        assert_eq!(store.user("u").await, Ok(Some(wanted)));
        assert_eq!(store.note_users([seen("v", 80, None)].into()).await, Ok(()));
        let user = store.user("v").await.expect("an answer").expect("a user");
        assert_eq!(user.metadata.as_deref(), Some("[1]"), "what is not given stays");
        assert_eq!((user.first_seen_ms, user.last_seen_ms), (60, 80));
    });
}

#[test]
fn a_late_or_repeated_note_moves_nothing_the_wrong_way() {
    each(async |store| {
        for at_ms in [50, 90, 20, 60, 90] {
            assert_eq!(store.note_users([seen("u", at_ms, None)].into()).await, Ok(()));
        }
        let user = store.user("u").await.expect("an answer").expect("a user");
        assert_eq!((user.first_seen_ms, user.last_seen_ms), (20, 90));
    });
}

#[test]
fn a_check_says_that_all_is_well_and_changes_nothing() {
    each(async |store| {
        keep(&*store, "room", [message(1)]).await;
        for _ in 0..3 {
            assert_eq!(store.check().await, Ok(()));
        }
        assert_eq!(read(&*store, "room").await, [message(1)]);
        assert!(!store.kind().is_empty());
    });
}
