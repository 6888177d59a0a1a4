//! `message {room, body, clientId?}`

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use throng_bridge::Message;
use throng_protocol::json::strip_control;

use super::error::Error;
use super::json::{fits, object, placeholders, present, push_number, push_string, room_name};
use super::{Chat, ChatRoomRef, ChatSocket, Request, Ticket, draft};
use crate::app::{Audience, Event};
use crate::codec::Packet;
use crate::ids::Sid;
use crate::limits::CLIENT_ID_BYTES_MAX;

#[derive(Deserialize)]
struct Args<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    body: Option<&'a RawValue>,
    #[serde(borrow, rename = "clientId")]
    client_id: Option<Cow<'a, str>>,
}

/// Somebody writes.
pub struct Write {
    pub(super) body: Box<str>,
    pub(super) attachments: Vec<Box<[u8]>>,
    pub(super) client_id: Option<Box<str>>,
    pub(super) ack: Option<u64>,
}

pub(super) fn on_event(
    chat: &Chat,
    socket: ChatSocket<'_, '_>,
    event: Event<'_>,
) -> Result<(), Error> {
    let args = object::<Args<'_>>(&event)?;
    room_name(&args.room)?;
    let body = args.body.ok_or(Error::Invalid("body is missing"))?.get();
    fits(&event, body, chat.config.message_bytes_max)?;
    let client_id = args.client_id.map(|it| it.into_owned().into_boxed_str());
    if client_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > CLIENT_ID_BYTES_MAX) {
        return Err(Error::Invalid("clientId has 1 to 128 bytes"));
    }
    let body = strip_control(body);
    // Without attachments there is nothing a placeholder could stand for; and stripping may have
    // made one.
    placeholders(&event, &body)?;
    if !chat.limiter.admit_message(socket.session().user(), socket.now()) {
        return Err(Error::RateLimited);
    }
    let write = Write {
        body: body.into_owned().into_boxed_str(),
        attachments: event.attachments.to_vec(),
        client_id,
        ack: event.ack,
    };
    socket.request(&args.room, Request::Message(Box::new(write)));
    Ok(())
}

pub(super) fn on_request(room: ChatRoomRef<'_, '_>, from: Sid, write: Write) -> Result<(), Error> {
    let author = room.member(from).ok_or(Error::NotInRoom)?;
    let ticket = Ticket::Message(from, write.ack);
    let draft = draft(from, author, write);
    room.publish(draft, ticket).map_err(|_| Error::Unavailable)
}

/// The message is as safe as its writer was promised.
pub(super) fn acknowledge(room: ChatRoomRef<'_, '_>, to: Sid, ack: u64, message: &Message) {
    let mut out = String::from(r#"{"ok":true,"id":"#);
    push_string(&mut out, &message.id);
    out.push_str(r#","seq":"#);
    push_number(&mut out, message.seq);
    out.push_str(r#","at":"#);
    push_number(&mut out, message.at_ms);
    out.push('}');
    room.send(to, Packet::ack(ack, &out));
}

/// The message has its number: everybody gets it.
pub(super) fn deliver(room: ChatRoomRef<'_, '_>, message: &Message) {
    let packet = packet(room.name(), message);
    room.deliver_message(packet, message.seq);
}

/// The event `message`.
pub(super) fn packet(room: &str, message: &Message) -> Packet {
    let draft = &message.draft;
    let mut out = String::with_capacity(draft.body.len() + room.len() + 224);
    push_message(room, message, &draft.body, &mut out);
    Packet::event_with("message", &out, &draft.attachments)
}

/// Messages are missing: everybody is told.
pub(super) fn tell_broken(room: ChatRoomRef<'_, '_>) {
    let packet = broken_packet(room);
    room.deliver(Audience::All, packet);
}

/// The event `resync {room, lastSeq}`: what follows comes after `lastSeq`.
pub(super) fn broken_packet(room: ChatRoomRef<'_, '_>) -> Packet {
    let mut out = String::from(r#"{"room":"#);
    push_string(&mut out, room.name());
    out.push_str(r#","lastSeq":"#);
    push_number(&mut out, room.last_seq());
    out.push('}');
    Packet::event("resync", &out)
}

/// Writes a message as receivers see it; `body` since placeholders may have been renumbered.
pub(super) fn push_message(room: &str, message: &Message, body: &str, out: &mut String) {
    let from = &message.draft.from;
    out.push_str(r#"{"room":"#);
    push_string(out, room);
    out.push_str(r#","id":"#);
    push_string(out, &message.id);
    out.push_str(r#","seq":"#);
    push_number(out, message.seq);
    out.push_str(r#","from":{"id":"#);
    push_string(out, &from.id);
    out.push_str(r#","user":"#);
    push_string(out, &from.user);
    out.push_str(r#","name":"#);
    push_string(out, &from.name);
    out.push_str(r#"},"body":"#);
    out.push_str(body);
    out.push_str(r#","at":"#);
    push_number(out, message.at_ms);
    if let Some(id) = &message.draft.client_id {
        out.push_str(r#","clientId":"#);
        push_string(out, id);
    }
    out.push('}');
}
