//! `join {room, metadata?, since?, presence?}`

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use throng_bridge::{Page, Range};

use super::error::Error;
use super::json::{bare_room, no_attachments, object, push_number, push_string, room_name};
use super::participants::{Sharing, push_participants};
use super::{Chat, ChatRoomRef, ChatSocket, Identity, Participant, Request, Ticket, history};
use super::{presence, update};
use crate::app::Event;
use crate::codec::Packet;
use crate::ids::Sid;
use crate::limits::{HISTORY_PER_PAGE_MAX, PASSWORD_BYTES_MAX};

#[derive(Deserialize)]
struct Args<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    since: Option<u64>,
    presence: Option<bool>,
    #[serde(borrow)]
    password: Option<Cow<'a, str>>,
}

/// Somebody wants to be in a room.
pub struct Join {
    identity: Identity,
    metadata: Option<Box<str>>,
    /// The last message it has seen.
    since: Option<u64>,
    /// Whether it wants to be told of others.
    listens: bool,
    password: Option<Box<str>>,
    ack: Option<u64>,
}

pub(super) fn on_event(socket: ChatSocket<'_, '_>, event: Event<'_>) -> Result<(), Error> {
    no_attachments(&event)?;
    let args = match bare_room(&event) {
        Some(room) => Args { room, metadata: None, since: None, presence: None, password: None },
        None => object::<Args<'_>>(&event)?,
    };
    room_name(&args.room)?;
    let password = args.password.map(|it| it.into_owned().into_boxed_str());
    if password.as_ref().is_some_and(|it| it.len() > PASSWORD_BYTES_MAX) {
        return Err(Error::Invalid("password has at most 128 bytes"));
    }
    let join = Join {
        identity: socket.session().clone(),
        metadata: args.metadata.map(|it| update::metadata(it.get())).transpose()?,
        since: args.since,
        listens: args.presence.unwrap_or(true),
        password,
        ack: event.ack,
    };
    let request = Request::Join(Box::new(join));
    if socket.is_in(&args.room) {
        // Joining again only refreshes: no further place is taken.
        socket.request_again(&args.room, request);
        return Ok(());
    }
    socket.request_to_join(&args.room, request).map_err(|_| Error::RoomFull)
}

pub(super) fn on_request(chat: &Chat, room: ChatRoomRef<'_, '_>, from: Sid, mut join: Join) {
    if room.member(from).is_none() {
        match entrance(room, &join) {
            Entrance::Free => {}
            Entrance::Closed(error) => return decline(chat, room, from, join.ack, error),
            Entrance::Password => {
                // It is needed once, and not to be kept.
                let password = join.password.take().unwrap_or_default();
                let ack = join.ack;
                let hash = room.settings().password.clone();
                let ticket = Ticket::Password(from, Box::new(join), hash);
                if room.verify(password, ticket).is_err() {
                    decline(chat, room, from, ack, Error::Unavailable);
                }
                return;
            }
        }
    }
    admit(chat, room, from, join);
}

/// Whether somebody may come in.
enum Entrance {
    Free,
    /// If the password is right.
    Password,
    Closed(Error),
}

fn entrance(room: ChatRoomRef<'_, '_>, join: &Join) -> Entrance {
    let settings = room.settings();
    let restricted = settings.private || settings.password.is_some() || !settings.users.is_empty();
    let named = settings.users.iter().any(|user| **user == *join.identity.user());
    match (&settings.password, &join.password) {
        _ if !room.is_open() => Entrance::Closed(Error::Unavailable),
        _ if room.is_full() => Entrance::Closed(Error::RoomFull),
        _ if named || !restricted => Entrance::Free,
        (Some(_), Some(_)) => Entrance::Password,
        (Some(_), None) => Entrance::Closed(Error::Forbidden("a password is needed")),
        (None, _) => Entrance::Closed(Error::Forbidden("you may not join this room")),
    }
}

/// The password has been looked at; meanwhile the room may have become full, or another's.
pub(super) fn on_verified(
    chat: &Chat,
    room: ChatRoomRef<'_, '_>,
    from: Sid,
    join: Join,
    (hash, right): (Option<Box<str>>, Option<bool>),
) {
    let error = match right {
        Some(true) if room.settings().password != hash => Error::Unavailable,
        Some(true) if room.member(from).is_none() && room.is_full() => Error::RoomFull,
        Some(true) => return admit(chat, room, from, join),
        Some(false) => Error::Forbidden("this is not the password"),
        None => Error::Unavailable,
    };
    decline(chat, room, from, join.ack, error);
}

fn decline(chat: &Chat, room: ChatRoomRef<'_, '_>, from: Sid, ack: Option<u64>, error: Error) {
    if error == Error::Unavailable {
        chat.cells.refused_unavailable.add(1);
    }
    room.decline(from);
    if let Some(id) = ack {
        room.send(from, Packet::ack(id, &error.to_json()));
    }
}

fn admit(chat: &Chat, room: ChatRoomRef<'_, '_>, from: Sid, join: Join) {
    let Join { identity, metadata, since, listens, ack, .. } = join;
    let known = room.member(from).cloned();
    if let Some(metadata) = &metadata {
        chat.note(&identity, Some(metadata));
    }
    let participant = match &known {
        Some(known) => {
            let metadata = metadata.or_else(|| known.metadata.clone());
            Participant { metadata, ..known.clone() }
        }
        None => {
            let joined_at_ms = room.now().wall_ms;
            Participant { identity, metadata, joined_at_ms, sharing: false }
        }
    };
    let changed = known.as_ref().is_none_or(|known| known.metadata != participant.metadata);
    room.admit(from, participant, listens);
    if changed {
        presence::on_changed(chat, room, from, known.is_none());
    }
    if let Some(id) = ack {
        read_missed(room, from, id, since);
    }
}

/// Reads what the answer carries: up to now, since what comes later is delivered.
fn read_missed(room: ChatRoomRef<'_, '_>, to: Sid, ack: u64, since: Option<u64>) {
    let last_seq = room.last_seq();
    if last_seq == 0 && since.is_none_or(|since| since == 0) {
        let complete = true;
        return answer(room, to, ack, Page { complete, ..Page::default() });
    }
    let range = Range { after: since, before: Some(last_seq + 1), limit: HISTORY_PER_PAGE_MAX };
    if room.read(range, Ticket::Join(to, ack, last_seq)).is_err() {
        let complete = since == Some(last_seq);
        answer(room, to, ack, Page { last_seq, complete, ..Page::default() });
    }
}

/// Answers with the room as it is now.
pub(super) fn answer(room: ChatRoomRef<'_, '_>, to: Sid, ack: u64, page: Page) {
    let mut out = String::from(r#"{"ok":true,"room":"#);
    push_string(&mut out, room.name());
    out.push_str(r#","participants":"#);
    push_participants(room.members(), &mut out);
    out.push_str(r#","count":"#);
    push_number(&mut out, room.member_count() as u64);
    out.push_str(r#","state":{"sharing":"#);
    Sharing(&room.state().sharers).push_json(&mut out);
    out.push_str(r#"},"lastSeq":"#);
    push_number(&mut out, page.last_seq);
    out.push_str(r#","messages":"#);
    let (attachments, trimmed) = history::push_messages(room.name(), &page.messages, &mut out);
    out.push_str(r#","complete":"#);
    out.push_str(if page.complete && !trimmed { "true" } else { "false" });
    out.push('}');
    room.send(to, Packet::ack_with(ack, &out, &attachments));
}
