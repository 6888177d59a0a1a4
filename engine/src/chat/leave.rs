//! `leave {room}`

use std::borrow::Cow;

use serde::Deserialize;

use super::error::Error;
use super::json::{bare_room, object, room_name};
use super::{Chat, ChatRoomRef, ChatSocket, Request};
use crate::app::Event;
use crate::codec::Packet;
use crate::ids::Sid;

#[derive(Deserialize)]
struct Args<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
}

pub(super) fn on_event(socket: ChatSocket<'_, '_>, event: Event<'_>) -> Result<(), Error> {
    let room = match bare_room(&event) {
        Some(room) => room,
        None => object::<Args<'_>>(&event)?.room,
    };
    room_name(&room)?;
    socket.request(&room, Request::Leave(event.ack));
    Ok(())
}

pub(super) fn on_request(
    chat: &mut Chat,
    room: ChatRoomRef<'_, '_>,
    from: Sid,
    ack: Option<u64>,
) -> Result<(), Error> {
    if room.member(from).is_none() {
        return Err(Error::NotInRoom);
    }
    room.dismiss(chat, from);
    if let Some(id) = ack {
        room.send(from, Packet::ack(id, OK));
    }
    Ok(())
}

/// The acknowledgement of what needs no answer.
pub(super) const OK: &str = r#"{"ok":true}"#;
