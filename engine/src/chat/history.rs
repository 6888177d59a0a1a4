//! `history {room, before?, limit?}`

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use throng_bridge::{Message, Page, Range};
use throng_protocol::socketio::renumber_placeholders;

use super::error::Error;
use super::json::{bare_room, object, room_name};
use super::message::push_message;
use super::{ChatRoomRef, ChatSocket, Request, Ticket};
use crate::app::Event;
use crate::codec::Packet;
use crate::ids::Sid;
use crate::limits::{HISTORY_PER_PAGE_MAX, REPLY_ATTACHMENTS_MAX, REPLY_LIST_BYTES_MAX};

#[derive(Deserialize)]
struct Args<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    before: Option<u64>,
    limit: Option<u64>,
}

/// Which messages are wanted.
#[derive(Clone, Copy)]
pub struct Query {
    before: Option<u64>,
    limit: usize,
    pub(super) ack: u64,
}

/// A page's size: what was asked for, within the bound.
pub(super) fn page_size(limit: Option<u64>, max: usize) -> Result<usize, Error> {
    match limit {
        Some(0) => Err(Error::Invalid("limit must be at least 1")),
        Some(limit) => Ok(usize::try_from(limit).unwrap_or(max).min(max)),
        None => Ok(max),
    }
}

pub(super) fn on_event(socket: ChatSocket<'_, '_>, event: Event<'_>) -> Result<(), Error> {
    let args = match bare_room(&event) {
        Some(room) => Args { room, before: None, limit: None },
        None => object::<Args<'_>>(&event)?,
    };
    room_name(&args.room)?;
    let limit = page_size(args.limit, HISTORY_PER_PAGE_MAX)?;
    // Nobody to answer: nothing to do.
    if let Some(ack) = event.ack {
        socket.request(&args.room, Request::History(Query { before: args.before, limit, ack }));
    }
    Ok(())
}

pub(super) fn on_request(room: ChatRoomRef<'_, '_>, from: Sid, query: Query) -> Result<(), Error> {
    room.member(from).ok_or(Error::NotInRoom)?;
    let range = Range { after: None, before: query.before, limit: query.limit };
    room.read(range, Ticket::History(from, query.ack)).map_err(|_| Error::Unavailable)
}

pub(super) fn answer(room: ChatRoomRef<'_, '_>, to: Sid, ack: u64, page: Page) {
    if page.partial && page.messages.is_empty() {
        return room.send(to, Packet::ack(ack, &Error::Unavailable.to_json()));
    }
    let mut out = String::from(r#"{"ok":true,"messages":"#);
    let (attachments, trimmed) = push_messages(room.name(), &page.messages, &mut out);
    out.push_str(r#","more":"#);
    out.push_str(if page.more || trimmed { "true}" } else { "false}" });
    room.send(to, Packet::ack_with(ack, &out, &attachments));
}

/// Writes messages by rising `seq`, the newest that fit into one answer, at least one. Returns
/// their binary parts, and whether older ones were left out.
pub(super) fn push_messages(
    room: &str,
    messages: &[Arc<Message>],
    out: &mut String,
) -> (Vec<Box<[u8]>>, bool) {
    let (mut bytes, mut parts) = (0, 0);
    let fits = |message: &&Arc<Message>| {
        bytes += message.held_bytes();
        parts += message.draft.attachments.len();
        let first = bytes == message.held_bytes();
        first || (bytes <= REPLY_LIST_BYTES_MAX && parts <= REPLY_ATTACHMENTS_MAX)
    };
    let count = messages.iter().rev().take_while(fits).count();
    let mut attachments: Vec<Box<[u8]>> = Vec::new();
    out.push('[');
    for (index, message) in messages[messages.len() - count..].iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let draft = &message.draft;
        let renumbered = match (draft.attachments.is_empty(), attachments.len()) {
            (true, _) | (_, 0) => None,
            (_, offset) => renumber_placeholders(&draft.body, offset as u32).ok(),
        };
        push_message(room, message, renumbered.as_deref().unwrap_or(&draft.body), out);
        attachments.extend(draft.attachments.iter().cloned());
    }
    out.push(']');
    (attachments, count < messages.len())
}
