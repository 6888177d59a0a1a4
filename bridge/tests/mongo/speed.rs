//! What appending costs beside the driver's own insert of the same documents.

use std::time::Instant;

use mongodb::Collection;
use mongodb::bson::{Document, doc};
use mongodb::options::WriteConcern;
use throng_bridge::store::{Entry, Mongo};

use crate::server::Server;
use crate::{KEEP, append, entry};

/// `cargo test --release -p throng-bridge --test mongo -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a measurement"]
async fn appending_beside_the_drivers_own_insert() {
    let server = Server::start(&[]).await;
    let store = Mongo::open(&server.uri(), 4, KEEP).await.expect("a store");
    let bare = server.database().await.collection::<Document>("bare");
    for index in [doc! { "room": 1, "seq": 1 }, doc! { "room": 1, "clientId": 1 }] {
        let partial = index.contains_key("clientId");
        let options = mongodb::options::IndexOptions::builder().unique(true);
        let filter = partial.then(|| doc! { "clientId": { "$type": "string" } });
        let options = options.partial_filter_expression(filter).build();
        let model = mongodb::IndexModel::builder().keys(index).options(options).build();
        bare.create_index(model).await.expect("an index");
    }
    let (mut next, body) = (1, format!("{{\"text\":\"{}\"}}", "x".repeat(100)));
    for (size, rooms) in [(64, 8), (256, 8), (1024, 8), (256, 256), (1024, 1024)] {
        let mut blocks = Vec::new();
        for _ in 0..7 {
            let (mut ours, mut theirs, mut count) = (0.0, 0.0, 0_u64);
            // Long enough for rooms' records to be written once and more.
            while ours < 6.0 {
                let one = |seq: u64| {
                    let room = format!("room{}", seq % rooms);
                    entry(&room, seq, &body, Some(&seq.to_string()))
                };
                let entries: Vec<_> = (next..next + size).map(one).collect();
                (next, count) = (next + size, count + size);
                let is_first = count / size % 2 == 0;
                if is_first {
                    theirs += insert(&bare, &entries).await;
                }
                let began = Instant::now();
                append(&store, entries.clone()).await;
                ours += began.elapsed().as_secs_f64();
                if !is_first {
                    theirs += insert(&bare, &entries).await;
                }
            }
            blocks.push((theirs / ours, count as f64 / ours, count as f64 / theirs));
        }
        blocks.sort_by(|left, right| left.0.total_cmp(&right.0));
        let (least, most) = (blocks[0].0, blocks[blocks.len() - 1].0);
        let (ratio, ours, theirs) = blocks[blocks.len() / 2];
        let [ratio, least, most] = [ratio, least, most].map(|it| 100.0 * it);
        println!(
            "batches of {size} in {rooms} rooms: {ours:.0}/s beside {theirs:.0}/s, {ratio:.0} % \
             ({least:.0} to {most:.0})"
        );
    }
}

/// The driver's own insert, with what any writer has to do for it. Returns the seconds.
async fn insert(bare: &Collection<Document>, entries: &[Entry]) -> f64 {
    let began = Instant::now();
    let documents: Vec<_> = entries.iter().map(as_document).collect();
    let mut concern = WriteConcern::majority();
    concern.journal = Some(true);
    let insert = bare.insert_many(documents).ordered(false).write_concern(concern);
    insert.await.expect("inserted");
    began.elapsed().as_secs_f64()
}

fn as_document(entry: &Entry) -> Document {
    let message = &entry.message;
    let from = &message.draft.from;
    let from = doc! { "id": &*from.id, "user": &*from.user, "name": &*from.name };
    let at = mongodb::bson::DateTime::from_millis(message.at_ms as i64);
    doc! {
        "_id": &*message.id, "room": &*entry.room, "seq": message.seq as i64, "from": from,
        "body": &*message.draft.body, "at": at, "clientId": message.draft.client_id.as_deref(),
    }
}
