//! `update {room, metadata}`

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use throng_protocol::json::strip_control;

use super::error::Error;
use super::json::{no_attachments, object, present, room_name};
use super::leave::OK;
use super::{Chat, ChatRoomRef, ChatSocket, Request, presence};
use crate::app::Event;
use crate::codec::Packet;
use crate::ids::Sid;
use crate::limits::METADATA_BYTES_MAX;

#[derive(Deserialize)]
struct Args<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    metadata: Option<&'a RawValue>,
}

/// Metadata as it is kept.
pub(super) fn metadata(json: &str) -> Result<Box<str>, Error> {
    if json.len() > METADATA_BYTES_MAX {
        return Err(Error::TooLarge);
    }
    Ok(strip_control(json).into_owned().into_boxed_str())
}

pub(super) fn on_event(socket: ChatSocket<'_, '_>, event: Event<'_>) -> Result<(), Error> {
    no_attachments(&event)?;
    let args = object::<Args<'_>>(&event)?;
    room_name(&args.room)?;
    let given = args.metadata.ok_or(Error::Invalid("metadata is missing"))?.get();
    let metadata = (given != "null").then(|| metadata(given)).transpose()?;
    socket.request(&args.room, Request::Update(metadata, event.ack));
    Ok(())
}

pub(super) fn on_request(
    chat: &Chat,
    room: ChatRoomRef<'_, '_>,
    from: Sid,
    metadata: Option<Box<str>>,
    ack: Option<u64>,
) -> Result<(), Error> {
    let member = room.member_mut(from).ok_or(Error::NotInRoom)?;
    let changed = member.metadata != metadata;
    member.metadata = metadata;
    if let Some(id) = ack {
        room.send(from, Packet::ack(id, OK));
    }
    if changed {
        if let Some(member) = room.member(from) {
            chat.note(&member.identity, member.metadata.as_deref());
        }
        presence::on_changed(chat, room, from, false);
        room.share(from);
    }
    Ok(())
}
