//! One room over HTTP: what it is, its messages, its settings.
//!
//! Invariants: whoever has no key is answered for a private room as for one that is not there;
//! settings are changed one request at a time, and to the end even if its client leaves.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use throng_bridge::store::{RoomRecord, RoomSettings};
use throng_bridge::{Message, Page, Range, password};
use tokio::time::timeout;
use tracing::info;

use super::fleet::Elsewhere;
use super::reply::error;
use super::settings::{Patch, Shown};
use super::{Asked, Control};
use crate::app::{App, Detail, is_room_name, room_key, split_key};
use crate::ids::home_of;
use crate::limits::{BODY_MS, HISTORY_PER_PAGE_MAX, REPLY_LIST_BYTES_MAX};

const MESSAGES_PER_PAGE: usize = 50;

/// A room as its holder of the key sees it.
#[derive(Serialize)]
struct Full<'a> {
    #[serde(flatten)]
    room: Value,
    settings: Shown<'a>,
}

/// A message as the event `message` has it; binary parts as on `/ws`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    room: &'a str,
    id: &'a str,
    seq: u64,
    from: From<'a>,
    body: &'a RawValue,
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<String>,
}

#[derive(Serialize)]
struct From<'a> {
    id: &'a str,
    user: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Messages<'a> {
    messages: Vec<Written<'a>>,
    more: bool,
    /// Said only where some are missing.
    #[serde(skip_serializing_if = "is_true")]
    complete: bool,
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    before: Option<String>,
    limit: Option<String>,
}

/// `GET /api/rooms/{id}`: one room with its participants; with the key its settings too, and it
/// need not have participants then.
pub(super) async fn room<A: App>(
    State(control): State<Arc<Control<A>>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let is_operator = control.access.is_operator(&headers);
    let found = match control.describe(&id).await {
        None => return unavailable(),
        Some(Some((room, settings))) if is_operator => return full(room, &settings),
        Some(Some((room, settings))) if !settings.private => return Json(room).into_response(),
        Some(found) => found,
    };
    // Asked of a room that is hidden, too: it takes as long as one that is absent.
    let asks = is_operator || (control.fleet.is_some() && key_of(&id).is_some());
    let settings = asks.then(|| control.settings(&id));
    let elsewhere = control.elsewhere(&id).await;
    let settings = match settings {
        Some(settings) => settings.answer().await,
        None => None,
    };
    match elsewhere {
        None => unavailable(),
        Some(room) if is_operator => match (settings, room) {
            (None, _) => unavailable(),
            (Some(settings), Some(room)) => full(room.whole(), &settings),
            (Some(settings), None) if settings == RoomSettings::default() => absent(),
            (Some(settings), None) => control.closed(&id, &settings).await,
        },
        // It may have become private since it was shown.
        Some(Some(room)) if found.is_none() && !room.is_private => match settings {
            None => unavailable(),
            Some(settings) if settings.private => absent(),
            Some(_) => Json(room.whole()).into_response(),
        },
        Some(_) => absent(),
    }
}

/// `GET /api/rooms/{id}/messages?before=&limit=`: what was written, newest first.
pub(super) async fn messages<A: App>(
    State(control): State<Arc<Control<A>>>,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let Some(key) = key_of(&id) else { return bad_name() };
    let range = match range(&wanted) {
        Ok(range) => range,
        Err(message) => return error(StatusCode::BAD_REQUEST, "invalid", message),
    };
    // All are asked whatever the others say: a private room takes as long as one that is absent.
    let (has_members, settings, page) =
        (control.has_members(&key), control.settings(&key), control.read(&key, range));
    let elsewhere = control.elsewhere(&key).await;
    let (Some(has_members), Some(settings), Some(page)) =
        (has_members.answer().await, settings.answer().await, page.answer().await)
    else {
        return unavailable();
    };
    let is_operator = control.access.is_operator(&headers);
    let found = Found {
        has_members,
        is_private: settings.private,
        has_store: control.store.is_some(),
        is_empty: page.messages.is_empty() && page.last_seq == 0,
        elsewhere: elsewhere.map(|room| room.map(|room| room.is_private)),
    };
    match found.may_show(is_operator) {
        None => unavailable(),
        Some(false) => absent(),
        Some(true) => Json(newest_first(split_key(&key).1, &page)).into_response(),
    }
}

/// What is known of a room whose messages somebody wants to see.
struct Found {
    /// Whether it is open here.
    has_members: bool,
    is_private: bool,
    has_store: bool,
    is_empty: bool,
    /// Whether it is private where it is open elsewhere; the outer `None`: Redis does not answer.
    elsewhere: Option<Option<bool>>,
}

impl Found {
    /// Whether there is such a room for who asks; `None`: this cannot be known.
    fn may_show(&self, is_operator: bool) -> Option<bool> {
        let elsewhere = self.elsewhere.flatten();
        let is_hidden = (self.is_private || elsewhere == Some(true)) && !is_operator;
        let is_there = !self.is_empty || self.has_members || elsewhere.is_some();
        let may_show = is_there && !is_hidden;
        // Without a store nothing but Redis knows a room that is not open here.
        let is_certain = may_show && (self.has_store || self.has_members);
        (self.elsewhere.is_some() || is_certain).then_some(may_show)
    }
}

/// `POST /api/rooms/{id}`: changes a room's settings.
pub(super) async fn configure<A: App>(
    State(control): State<Arc<Control<A>>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    if let Some(refusal) = control.access.refusal(request.headers()) {
        return refusal;
    }
    let Some(key) = key_of(&id) else { return bad_name() };
    let patch = match patch(request).await {
        Ok(patch) => patch,
        Err((status, code, message)) => return error(status, code, &message),
    };
    // A task of its own, which goes on when the client does not wait for it.
    let change = tokio::spawn(async move { control.change(&key, patch).await });
    change.await.unwrap_or_else(|_| unavailable())
}

impl<A: App> Control<A> {
    /// An open room and its settings; the outer `None`: its shard does not answer.
    async fn describe(&self, key: &str) -> Option<Option<(Value, RoomSettings)>> {
        let home = usize::from(home_of(key, self.lines.len() as u16));
        let key = key.to_owned();
        let found = self.ask_one(home, move |app, homes, now| {
            homes.inspect(&key, now, |room| {
                (app.describe(room, Detail::Full), room.settings().clone())
            })
        });
        found.await
    }

    /// A room as other hosts show it, if they do; the outer `None`: Redis does not answer.
    async fn elsewhere(&self, id: &str) -> Option<Option<Elsewhere>> {
        match (&self.fleet, key_of(id)) {
            (Some(fleet), Some(key)) => fleet.room(&key).await,
            (None, _) | (_, None) => Some(None),
        }
    }

    fn has_members(&self, key: &str) -> Asked<bool> {
        self.ask_home(key, |homes, key, now, answer| {
            let members = homes.inspect(key, now, |room| room.member_count() > 0);
            let _ = answer.send(Some(members.unwrap_or(false)));
        })
    }

    /// The settings of a room that may be open or not.
    fn settings(&self, key: &str) -> Asked<RoomSettings> {
        self.ask_home(key, |homes, key, now, answer| {
            match homes.inspect(key, now, |room| room.settings().clone()) {
                Some(settings) => _ = answer.send(Some(settings)),
                None => homes.settings_for(key, now, |settings| _ = answer.send(settings)),
            }
        })
    }

    fn read(&self, key: &str, range: Range) -> Asked<Page> {
        self.ask_home(key, move |homes, key, now, answer| {
            let whole = |page: Option<Page>| page.filter(|page| !page.partial);
            homes.read_for(key, range, now, move |page| _ = answer.send(whole(page)));
        })
    }

    /// Changes what `patch` says, and shows the room.
    async fn change(&self, key: &str, patch: Patch) -> Response {
        let _alone = self.writing.lock().await;
        let Some(before) = self.settings(key).answer().await else { return unavailable() };
        let hash = match patch.password.clone().flatten() {
            None => None,
            Some(password) => {
                match tokio::task::spawn_blocking(move || password::hash(&password)).await {
                    Ok(Ok(hash)) => Some(hash),
                    Ok(Err(_)) | Err(_) => return unavailable(),
                }
            }
        };
        let mut wanted = before.clone();
        patch.apply(&mut wanted, hash);
        let done = self.ask_home(key, |homes, key, now, answer| {
            homes.configure(key, (before, wanted), now, |done| _ = answer.send(done));
        });
        let Some(RoomRecord { settings, .. }) = done.answer().await else { return unavailable() };
        info!(room = key, "a room's settings were changed over HTTP");
        if let Some(Some((room, _))) = self.describe(key).await {
            return full(room, &settings);
        }
        match self.elsewhere(key).await.flatten() {
            Some(room) => full(room.whole(), &settings),
            None => self.closed(key, &settings).await,
        }
    }

    /// A room nobody is in.
    async fn closed(&self, key: &str, settings: &RoomSettings) -> Response {
        let last = Range { after: None, before: None, limit: 1 };
        let last_seq = self.read(key, last).answer().await.map(|page| page.last_seq);
        let id = split_key(key).1;
        let room = json!({
            "id": id, "participants": [], "count": 0, "sharing": [], "lastSeq": last_seq,
        });
        full(room, settings)
    }
}

/// The name by which all shards know the room of a path, if it can be one.
fn key_of(id: &str) -> Option<String> {
    let (namespace, name) = split_key(id);
    let is_namespace = namespace.starts_with('/') && (namespace == "/" || is_room_name(namespace));
    (is_namespace && is_room_name(name)).then(|| room_key(namespace, name).into_owned())
}

fn range(wanted: &Wanted) -> Result<Range, &'static str> {
    let before = wanted.before.as_deref().map(str::parse::<u64>).transpose();
    let before = before.map_err(|_| "before must be the seq of a message")?;
    let limit = match wanted.limit.as_deref().map(str::parse::<usize>) {
        None => MESSAGES_PER_PAGE,
        Some(Ok(limit)) if limit > 0 => limit.min(HISTORY_PER_PAGE_MAX),
        Some(_) => return Err("limit must be a number above 0"),
    };
    Ok(Range { after: None, before, limit })
}

/// As many as one answer may hold, one at the least.
fn newest_first<'a>(room: &'a str, page: &'a Page) -> Messages<'a> {
    let mut bytes = 0;
    let fits = |(index, message): &(usize, &Arc<Message>)| {
        bytes += message.held_bytes();
        *index == 0 || bytes <= REPLY_LIST_BYTES_MAX
    };
    let newest = page.messages.iter().rev().enumerate().take_while(fits);
    let messages: Vec<_> = newest.map(|(_, message)| written(room, message)).collect();
    let more = page.more || messages.len() < page.messages.len();
    Messages { messages, more, complete: page.complete }
}

fn written<'a>(room: &'a str, message: &'a Message) -> Written<'a> {
    let draft = &message.draft;
    let (id, user, name) = (&*draft.from.id, &*draft.from.user, &*draft.from.name);
    Written {
        room,
        id: &message.id,
        seq: message.seq,
        from: From { id, user, name },
        // What is no JSON was damaged where it was kept.
        body: serde_json::from_str(&draft.body).unwrap_or(RawValue::NULL),
        at: message.at_ms,
        client_id: draft.client_id.as_deref(),
        attachments: draft.attachments.iter().map(|part| BASE64_STANDARD.encode(part)).collect(),
    }
}

/// Reads a request's body.
async fn patch(request: Request) -> Result<Patch, (StatusCode, &'static str, String)> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    if !kind.is_some_and(|kind| is_json(kind.as_bytes())) {
        let message = "Content-Type must be application/json".to_owned();
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid", message));
    }
    let body = timeout(Duration::from_millis(BODY_MS.into()), Bytes::from_request(request, &()));
    let body = match body.await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return Err(bad_body(&error)),
        Err(_) => {
            let message = "the body did not come in time".to_owned();
            return Err((StatusCode::REQUEST_TIMEOUT, "invalid", message));
        }
    };
    Patch::parse(&body).map_err(|message| (StatusCode::BAD_REQUEST, "invalid", message))
}

fn bad_body(error: &BytesRejection) -> (StatusCode, &'static str, String) {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = "a body has at most 65536 bytes".to_owned();
            (StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
        }
        _ => (StatusCode::BAD_REQUEST, "invalid", "the body is not whole".to_owned()),
    }
}

/// Whether a media type is JSON's, whatever its parameters.
fn is_json(kind: &[u8]) -> bool {
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

fn full(room: Value, settings: &RoomSettings) -> Response {
    Json(Full { room, settings: settings.into() }).into_response()
}

fn absent() -> Response {
    error(StatusCode::NOT_FOUND, "not_found", "there is no such room")
}

fn bad_name() -> Response {
    let message = "a room's name has 1 to 128 bytes and no control characters";
    error(StatusCode::BAD_REQUEST, "invalid", message)
}

pub(super) fn unavailable() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "this is not possible now, try again")
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde gives a reference
fn is_true(it: &bool) -> bool {
    *it
}

#[cfg(test)]
mod tests {
    use throng_bridge::{Author, Draft};

    use super::*;

    fn message(seq: u64, body: &str, parts: &[&[u8]]) -> Arc<Message> {
        let from = Author { id: "sid".into(), user: "ann".into(), name: "Ann".into() };
        let attachments = parts.iter().map(|part| (*part).into()).collect();
        let draft = Draft { from, body: body.into(), attachments, client_id: None };
        Arc::new(Message { id: format!("m{seq}").into(), seq, at_ms: 5, draft })
    }

    #[test]
    fn the_newest_come_first_as_the_event_has_them() {
        let body = r#"{"file":{"_placeholder":true,"num":0}}"#;
        let messages = vec![message(1, "\"a\"", &[]), message(2, body, &[&[0, 255]])];
        let page = Page { messages, last_seq: 2, complete: true, ..Page::default() };
        let shown = serde_json::to_string(&newest_first("lobby", &page)).expect("JSON");
        let from = r#""from":{"id":"sid","user":"ann","name":"Ann"}"#;
        let second = format!(r#"{{"room":"lobby","id":"m2","seq":2,{from},"body":{body},"at":5,"#)
            + r#""attachments":["AP8="]}"#;
        let first = format!(r#"{{"room":"lobby","id":"m1","seq":1,{from},"body":"a","at":5}}"#);
        let expected = format!(r#"{{"messages":[{second},{first}],"more":false}}"#);
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_answer_ends_early_rather_than_grow_without_bound() {
        let long = format!("\"{}\"", "x".repeat(REPLY_LIST_BYTES_MAX));
        let messages = vec![message(1, "1", &[]), message(2, &long, &[]), message(3, "3", &[])];
        let mut page = Page { messages, last_seq: 3, complete: true, ..Page::default() };
        let seqs = |page: &Page| {
            let shown = newest_first("lobby", page);
            (shown.messages.iter().map(|it| it.seq).collect::<Vec<_>>(), shown.more)
        };
        assert_eq!(seqs(&page), (vec![3], true));
        page.messages.pop();
        assert_eq!(seqs(&page), (vec![2], true), "one comes, however long");
        page.messages.pop();
        assert_eq!(seqs(&page), (vec![1], false));
        page.messages.pop();
        assert_eq!(seqs(&page), (vec![], false));
    }

    #[test]
    fn a_room_is_shown_only_where_it_is_known_that_it_may_be() {
        let [yes, no, unknown] = [Some(true), Some(false), None];
        let (gone, open, hidden) = (Some(None), Some(Some(false)), Some(Some(true)));
        // What this host knows: [open here, private, a store, nothing written]; then what Redis
        // knows, and the answers without and with the key.
        for (here, elsewhere, answers) in [
            ([false, false, true, true], gone, [no, no]),
            ([false, false, true, false], gone, [yes, yes]),
            ([false, true, true, false], gone, [no, yes]),
            ([true, false, false, true], gone, [yes, yes]),
            ([false, false, false, true], open, [yes, yes]),
            ([false, false, false, false], hidden, [no, yes]),
            ([false, false, true, false], None, [yes, yes]),
            ([false, true, true, false], None, [unknown, yes]),
            ([false, false, true, true], None, [unknown, unknown]),
            ([false, false, false, false], None, [unknown, unknown]),
            ([true, false, false, false], None, [yes, yes]),
        ] {
            let [has_members, is_private, has_store, is_empty] = here;
            let found = Found { has_members, is_private, has_store, is_empty, elsewhere };
            let given = [false, true].map(|is_operator| found.may_show(is_operator));
            assert_eq!(given, answers, "{here:?} {elsewhere:?}");
        }
    }

    #[test]
    fn bounds_of_a_page_are_numbers() {
        let of = |before: Option<&str>, limit: Option<&str>| {
            let wanted = Wanted { before: before.map(Into::into), limit: limit.map(Into::into) };
            range(&wanted).map(|it| (it.before, it.limit)).ok()
        };
        assert_eq!(of(None, None), Some((None, 50)));
        assert_eq!(of(Some("7"), Some("100000")), Some((Some(7), 100)));
        for (before, limit) in [
            (Some("-1"), None),
            (Some(""), None),
            (Some("1e3"), None),
            (None, Some("0")),
            (None, Some("1.5")),
            (None, Some("99999999999999999999")),
        ] {
            assert_eq!(of(before, limit), None, "{before:?} {limit:?}");
        }
    }

    #[test]
    fn a_path_names_a_room_of_any_namespace() {
        assert_eq!(key_of("lobby").as_deref(), Some("lobby"));
        assert_eq!(key_of("/\0lobby").as_deref(), Some("lobby"));
        assert_eq!(key_of("/chat\0lobby").as_deref(), Some("/chat\0lobby"));
        let long = "x".repeat(129);
        for id in ["", &long, "a\nb", "chat\0lobby", "/\0/chat\0lobby", "/a\nb\0lobby", "/chat\0"] {
            assert_eq!(key_of(id), None, "{id:?}");
        }
    }

    #[test]
    fn json_is_told_by_its_type() {
        for kind in ["application/json", "Application/JSON; charset=utf-8"] {
            assert!(is_json(kind.as_bytes()), "{kind}");
        }
        for kind in ["", "text/plain", "application/jsonp", "application/json-seq"] {
            assert!(!is_json(kind.as_bytes()), "{kind}");
        }
    }
}
