//! Any sequence of requests has the same outcome on every store as on the one in memory.

use std::sync::Arc;

use proptest::prelude::*;
use throng_bridge::store::{Entry, MemoryStore, Retention, RoomSettings, Seen, Store};
use throng_bridge::{Message, Range};

use crate::support::{ALL, entry, message, sweep};

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u8, u64, u8, Option<u8>)>),
    Read(u8, Option<u64>, Option<u64>, usize),
    Find(u8, Vec<u8>),
    Configure(u8, Option<u64>),
    Note(u8, u64),
    Sweep(Option<u64>, Option<u64>),
}

const ROOMS: [&str; 4] = ["a", "b", "%", "/n\u{1f}é"];

fn room(index: u8) -> &'static str {
    ROOMS[index as usize % ROOMS.len()]
}

fn number() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![3 => (0..40_u64).prop_map(Some), 1 => Just(None), 1 => Just(Some(u64::MAX))]
}

fn step() -> impl Strategy<Value = Step> {
    let one = (0..4_u8, 1..30_u64, 0..3_u8, proptest::option::of(0..12_u8));
    let read = (0..4_u8, number(), number(), 0..12_usize);
    let find = (0..4_u8, proptest::collection::vec(0..12_u8, 0..6));
    prop_oneof![
        6 => proptest::collection::vec(one, 0..20).prop_map(|mut batch| {
            batch.sort_by_key(|it| it.1);
            Step::Append(batch)
        }),
        3 => read.prop_map(|(at, after, before, limit)| Step::Read(at, after, before, limit)),
        2 => find.prop_map(|(at, ids)| Step::Find(at, ids)),
        1 => (0..4_u8, number()).prop_map(|(at, ms)| Step::Configure(at, ms)),
        1 => (0..4_u8, 0..3_000_u64).prop_map(|(user, at_ms)| Step::Note(user, at_ms)),
        1 => (number(), number()).prop_map(|(ms, users_ms)| Step::Sweep(ms, users_ms)),
    ]
}

fn batch(of: &[(u8, u64, u8, Option<u8>)]) -> Arc<[Entry]> {
    let one = |&(at, seq, variant, client_id): &(u8, u64, u8, Option<u8>)| {
        let mut message = message(seq);
        if variant == 2 {
            message.id = format!("other-{seq}").into();
        }
        message.draft.client_id = client_id.map(|id| format!("c{id}").into());
        entry(room(at), message)
    };
    of.iter().map(one).collect()
}

fn sorted(mut messages: Vec<Message>) -> Vec<Message> {
    messages.sort_by_key(|message| message.seq);
    messages
}

/// What a store answers, in words that can be compared.
async fn apply(store: &dyn Store, step: &Step) -> String {
    match step {
        Step::Append(of) => {
            let refused = store.append(batch(of)).await.expect("an answer");
            format!("{:?}", refused.iter().map(|it| it.index).collect::<Vec<_>>())
        }
        &Step::Read(at, after, before, limit) => {
            let range = Range { after, before, limit };
            format!("{:?}", store.read(room(at), range).await)
        }
        Step::Find(at, ids) => {
            let ids: Vec<Box<str>> = ids.iter().map(|id| format!("c{id}").into()).collect();
            format!("{:?}", sorted(store.find(room(*at), &ids).await.expect("an answer")))
        }
        &Step::Configure(at, retention_ms) => {
            let settings = RoomSettings { retention_ms, ..RoomSettings::default() };
            format!("{:?}", store.configure(room(at), &settings, 5).await)
        }
        &Step::Note(user, at_ms) => {
            let user = room(user).into();
            let seen = Seen { user, name: format!("{at_ms}").into(), at_ms, metadata: None };
            format!("{:?}", store.note_users([seen].into()).await)
        }
        &Step::Sweep(messages_ms, users_ms) => {
            let (swept, _) =
                sweep(store, Retention { messages_ms, users_ms }, 1_040).await.expect("a sweep");
            format!("{} {}", swept.messages, swept.users)
        }
    }
}

/// Everything a store has.
async fn all(store: &dyn Store) -> Vec<String> {
    let mut found = Vec::new();
    for name in ROOMS {
        found.push(format!("{:?}", store.room(name).await));
        found.push(format!("{:?}", store.read(name, ALL).await));
        found.push(format!("{:?}", store.user(name).await));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        // A failure prints its steps; nothing is written beside the sources.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_store_behaves_like_the_one_in_memory(
        steps in proptest::collection::vec(step(), 1..25)
    ) {
        crate::each_that(|it| it.sweeps, async |store| {
            let model = MemoryStore::new();
            for step in &steps {
                let wanted = apply(&model, step).await;
                assert_eq!(apply(&*store, step).await, wanted, "{}: {step:?}", store.kind());
            }
            assert_eq!(all(&*store).await, all(&model).await);
        });
    }
}
