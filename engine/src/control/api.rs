//! `/api/rooms`: the rooms of all shards, read from their homes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Control;
use super::reply::error;
use crate::app::{App, Detail};
use crate::ids::home_of;
use crate::limits::ROOMS_PER_PAGE_MAX;

const ROOMS_PER_PAGE: usize = 100;

#[derive(Deserialize)]
pub(super) struct Page {
    limit: Option<String>,
    after: Option<String>,
}

/// `GET /api/rooms?limit=&after=`: rooms by name.
pub(super) async fn rooms<A: App>(
    State(control): State<Arc<Control<A>>>,
    Query(page): Query<Page>,
) -> Response {
    let limit = match page.limit.as_deref().map(str::parse::<usize>) {
        None => ROOMS_PER_PAGE,
        Some(Ok(limit)) if limit > 0 => limit.min(ROOMS_PER_PAGE_MAX),
        Some(_) => {
            return error(StatusCode::BAD_REQUEST, "invalid", "limit must be a number above 0");
        }
    };
    let after = page.after.unwrap_or_default();
    let found = control
        .ask_all(move |app, homes, now| {
            let mut names: Vec<String> =
                homes.names().filter(|name| *name > after.as_str()).map(str::to_owned).collect();
            // One more than asked for tells whether there is a next page.
            if names.len() > limit + 1 {
                names.select_nth_unstable(limit);
                names.truncate(limit + 1);
            }
            let describe = |name: String| {
                let value = homes.inspect(&name, now, |room| app.describe(room, Detail::Summary));
                value.map(|value| (name, value))
            };
            names.into_iter().filter_map(describe).collect::<Vec<(String, Value)>>()
        })
        .await;
    if found.len() < control.lines.len() {
        return error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "a shard does not answer");
    }
    let mut rooms: Vec<_> = found.into_iter().flatten().collect();
    rooms.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let more = rooms.len() > limit;
    rooms.truncate(limit);
    let next = rooms.last().filter(|_| more).map(|(name, _)| name.clone());
    let rooms: Vec<_> = rooms.into_iter().map(|(_, room)| room).collect();
    Json(json!({"rooms": rooms, "next": next})).into_response()
}

/// `GET /api/rooms/{id}`: one room with its participants.
pub(super) async fn room<A: App>(
    State(control): State<Arc<Control<A>>>,
    Path(id): Path<String>,
) -> Response {
    let home = usize::from(home_of(&id, control.lines.len() as u16));
    let found = control.ask_one(home, move |app, homes, now| {
        homes.inspect(&id, now, |room| app.describe(room, Detail::Full))
    });
    match found.await {
        None => error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "a shard does not answer"),
        Some(None) => error(StatusCode::NOT_FOUND, "not_found", "nobody is in this room"),
        Some(Some(room)) => Json(room).into_response(),
    }
}
