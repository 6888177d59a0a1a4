//! `/api/rooms`: the rooms of all shards, read from their homes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Control;
use super::reply::error;
use super::rooms::unavailable;
use crate::app::{App, Detail};
use crate::clock::Now;
use crate::limits::ROOMS_PER_PAGE_MAX;
use crate::room::Homes;

const ROOMS_PER_PAGE: usize = 100;

#[derive(Deserialize)]
pub(super) struct Page {
    limit: Option<String>,
    after: Option<String>,
}

/// `GET /api/rooms?limit=&after=`: rooms by name; private ones for who has the key.
pub(super) async fn rooms<A: App>(
    State(control): State<Arc<Control<A>>>,
    Query(page): Query<Page>,
    headers: HeaderMap,
) -> Response {
    let limit = match page.limit.as_deref().map(str::parse::<usize>) {
        None => ROOMS_PER_PAGE,
        Some(Ok(limit)) if limit > 0 => limit.min(ROOMS_PER_PAGE_MAX),
        Some(_) => {
            return error(StatusCode::BAD_REQUEST, "invalid", "limit must be a number above 0");
        }
    };
    let after = page.after.unwrap_or_default();
    let private = control.access.is_operator(&headers);
    // One more than asked for tells whether there is a next page.
    let found = control
        .ask_all(move |app, homes, now| first(app, homes, now, (&after, limit + 1, private)));
    let found = found.await;
    if found.len() < control.lines.len() {
        return unavailable();
    }
    let mut rooms: Vec<_> = found.into_iter().flatten().collect();
    rooms.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let more = rooms.len() > limit;
    rooms.truncate(limit);
    let next = rooms.last().filter(|_| more).map(|(name, _)| name.clone());
    let rooms: Vec<_> = rooms.into_iter().map(|(_, room)| room).collect();
    Json(json!({"rooms": rooms, "next": next})).into_response()
}

/// The first `count` rooms of a shard whose names come after `after`; with `private` all of them.
fn first<A: App>(
    app: &A,
    homes: &mut Homes<A>,
    now: Now,
    (after, count, private): (&str, usize, bool),
) -> Vec<(String, Value)> {
    // A heap is made in the time that looking at the names takes anyway.
    let names = homes.names().filter(|name| *name > after);
    let mut names: BinaryHeap<_> = names.map(|name| Reverse(name.to_owned())).collect();
    let mut rooms = Vec::new();
    while rooms.len() < count
        && let Some(Reverse(name)) = names.pop()
    {
        let shown = homes.inspect(&name, now, |room| {
            (private || !room.settings().private).then(|| app.describe(room, Detail::Summary))
        });
        rooms.extend(shown.flatten().map(|room| (name, room)));
    }
    rooms
}
