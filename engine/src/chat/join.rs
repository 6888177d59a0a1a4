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
use crate::limits::HISTORY_PER_PAGE_MAX;

#[derive(Deserialize)]
struct Args<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    since: Option<u64>,
    presence: Option<bool>,
}

/// Somebody wants to be in a room.
pub struct Join {
    identity: Identity,
    metadata: Option<Box<str>>,
    /// The last message it has seen.
    since: Option<u64>,
    /// Whether it wants to be told of others.
    listens: bool,
    ack: Option<u64>,
}

pub(super) fn on_event(socket: ChatSocket<'_, '_>, event: Event<'_>) -> Result<(), Error> {
    no_attachments(&event)?;
    let args = match bare_room(&event) {
        Some(room) => Args { room, metadata: None, since: None, presence: None },
        None => object::<Args<'_>>(&event)?,
    };
    room_name(&args.room)?;
    let join = Join {
        identity: socket.session().clone(),
        metadata: args.metadata.map(|it| update::metadata(it.get())).transpose()?,
        since: args.since,
        listens: args.presence.unwrap_or(true),
        ack: event.ack,
    };
    let request = Request::Join(Box::new(join));
    if socket.is_in(&args.room) {
        // Joining again only refreshes: no further place is taken.
        socket.request(&args.room, request);
        return Ok(());
    }
    socket.request_to_join(&args.room, request).map_err(|_| Error::RoomFull)
}

pub(super) fn on_request(chat: &Chat, room: ChatRoomRef<'_, '_>, from: Sid, join: Join) {
    let Join { identity, metadata, since, listens, ack } = join;
    let known = room.member(from).cloned();
    if known.is_none() && room.is_full() {
        room.decline(from);
        if let Some(id) = ack {
            room.send(from, Packet::ack(id, &Error::RoomFull.to_json()));
        }
        return;
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
