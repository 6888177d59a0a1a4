//! `/api/rooms`: the rooms of all shards, read from their homes, and those of other hosts, read
//! from Redis.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::reply::error;
use super::rooms::unavailable;
use super::{Control, FleetView};
use crate::app::{App, Detail};
use crate::clock::Now;
use crate::limits::{ROOMS_PER_PAGE_MAX, STORE_ANSWER_MS};
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
    let wanted = (after.clone(), limit + 1, private);
    let found = control.ask_all(move |app, homes, now| first(app, homes, now, &wanted)).await;
    if found.len() < control.lines.len() {
        return unavailable();
    }
    let here: BTreeMap<_, _> = found.into_iter().flatten().collect();
    let mut rooms: Vec<_> = match &control.fleet {
        None => shown(here),
        Some(fleet) => {
            let rooms = with_others(fleet, here, (after, limit + 1, private));
            match timeout(Duration::from_millis(STORE_ANSWER_MS), rooms).await {
                Ok(Some(rooms)) => rooms,
                Ok(None) | Err(_) => return unavailable(),
            }
        }
    };
    let more = rooms.len() > limit;
    rooms.truncate(limit);
    let next = rooms.last().filter(|_| more).map(|(name, _)| name.clone());
    let rooms: Vec<_> = rooms.into_iter().map(|(_, room)| room).collect();
    Json(json!({"rooms": rooms, "next": next})).into_response()
}

/// The first `count` rooms of a shard whose names come after `after`, and all that may not be shown
/// among them; with `private` all may.
fn first<A: App>(
    app: &A,
    homes: &mut Homes<A>,
    now: Now,
    &(ref after, count, private): &(String, usize, bool),
) -> Vec<Line> {
    // A heap is made in the time that looking at the names takes anyway.
    let names = homes.names().filter(|name| *name > after.as_str());
    let mut names: BinaryHeap<_> = names.map(|name| Reverse(name.to_owned())).collect();
    let mut rooms = Vec::new();
    let mut shown_count = 0;
    while shown_count < count
        && let Some(Reverse(name)) = names.pop()
    {
        let shown = homes.inspect(&name, now, |room| {
            (private || !room.settings().private).then(|| app.describe(room, Detail::Summary))
        });
        shown_count += usize::from(shown.as_ref().is_some_and(Option::is_some));
        rooms.extend(shown.map(|room| (name, room)));
    }
    rooms
}

/// A room of this host by its name; `None`: it may not be shown.
type Line = (String, Option<Value>);

fn shown(rooms: BTreeMap<String, Option<Value>>) -> Vec<(String, Value)> {
    rooms.into_iter().filter_map(|(name, room)| Some((name, room?))).collect()
}

/// The first rooms of the fleet whose names come after a name, as many as `wanted` or more. Those
/// open `here`, of which there are as many or all, are best known here, also if they are none of
/// anybody's business. `None`: Redis does not answer.
///
/// Without the key, rooms that may not be shown cost time, which the caller bounds: a page that
/// ended at one would have to name it.
async fn with_others(
    fleet: &FleetView,
    here: BTreeMap<String, Option<Value>>,
    (after, count, private): (String, usize, bool),
) -> Option<Vec<(String, Value)>> {
    let mut merge = Merge { here, rooms: Vec::new(), after, count };
    loop {
        let keys = fleet.rooms(&merge.after, count).await?;
        let known = merge.known_to(&keys);
        let others: Vec<_> = keys.into_iter().filter(|key| !known.contains_key(&**key)).collect();
        let lines = fleet.lines(&others, private).await?;
        if !merge.take(known, lines) {
            return Some(merge.rooms);
        }
    }
}

/// Rooms of this host and of others, put together name by name.
struct Merge {
    /// Those of this host that have not been taken yet.
    here: BTreeMap<String, Option<Value>>,
    /// Those that have, in order.
    rooms: Vec<(String, Value)>,
    /// Up to here they have; at the end nothing.
    after: String,
    /// How many are wanted.
    count: usize,
}

impl Merge {
    /// Rooms of this host up to where `keys`, the next names of the fleet, tell all of them.
    fn known_to(&mut self, keys: &[Box<str>]) -> BTreeMap<String, Option<Value>> {
        let last = keys.last().filter(|_| keys.len() >= self.count);
        // No string lies between another and the same with a zero.
        let beyond = last.map(|last| self.here.split_off(&format!("{last}\0")));
        self.after = last.map(|last| last.to_string()).unwrap_or_default();
        mem::replace(&mut self.here, beyond.unwrap_or_default())
    }

    /// Takes in what is `known` up to there and the lines of other rooms. Whether more is wanted.
    fn take(
        &mut self,
        known: BTreeMap<String, Option<Value>>,
        lines: Vec<(Box<str>, Value)>,
    ) -> bool {
        let lines = lines.into_iter().map(|(key, line)| (key.into_string(), Some(line)));
        self.rooms.extend(shown(lines.chain(known).collect()));
        self.rooms.len() < self.count && !self.after.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`with_others`] does, where `p`, `q` and `r` may not be shown; as far as others know,
    /// `h` may.
    fn merged(here: &str, fleet: &str, after: &str, count: usize) -> (String, usize) {
        let name = |it: char| it.to_string();
        let line = |it| (!"hpqr".contains(it)).then(|| json!("here"));
        let here = here.chars().map(|it| (name(it), line(it))).collect();
        let mut merge = Merge { here, rooms: Vec::new(), after: after.to_owned(), count };
        for asked in 1.. {
            let keys = fleet.chars().filter(|it| name(*it) > merge.after).map(name);
            let keys: Vec<Box<str>> = keys.take(count).map(Into::into).collect();
            let known = merge.known_to(&keys);
            let others = keys.into_iter().filter(|key| !known.contains_key(&**key));
            let lines = others.filter(|key| !"pqr".contains(&**key));
            let lines = lines.map(|key| (key, json!("there"))).collect();
            if !merge.take(known, lines) {
                let shown = merge.rooms.iter().map(|(name, place)| match place == "here" {
                    true => name.to_uppercase(),
                    false => name.clone(),
                });
                return (shown.collect(), asked);
            }
        }
        unreachable!("each time asks for less")
    }

    #[test]
    fn rooms_of_all_hosts_come_in_one_order_and_each_once() {
        for (here, fleet, count, shown) in [
            ("", "", 3, ("", 1)),
            ("ab", "", 3, ("AB", 1)),
            ("", "abcde", 3, ("abc", 1)),
            // What is open here is told by this host, whoever else has it open.
            ("bd", "abcde", 9, ("aBcDe", 1)),
            // Also that nobody may see it.
            ("bh", "abhi", 9, ("aBi", 1)),
            // What lies beyond the names that are known waits for them.
            ("ace", "bd", 2, ("Ab", 1)),
            ("xyz", "abcdef", 3, ("abc", 1)),
            // Rooms that may not be shown take no place, neither here nor at the end.
            ("x", "apqrs", 2, ("as", 3)),
            ("", "pqr", 2, ("", 2)),
            ("s", "pqr", 3, ("S", 2)),
        ] {
            let (mut names, asked) = merged(here, fleet, "", count);
            names.truncate(count);
            assert_eq!((names.as_str(), asked), shown, "{here:?} {fleet:?} {count}");
        }
    }
}
