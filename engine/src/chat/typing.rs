//! `typing {room, typing}`: no acknowledgement, and silence over the rate limit.

use std::borrow::Cow;

use serde::Deserialize;

use super::error::Error;
use super::json::{object, push_string, room_name};
use super::{Chat, ChatRoomRef, ChatSocket, Identity, Request};
use crate::app::{Audience, Event};
use crate::codec::Packet;
use crate::ids::Sid;

#[derive(Deserialize)]
struct Args<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    typing: bool,
}

pub(super) fn on_event(
    chat: &Chat,
    socket: ChatSocket<'_, '_>,
    event: Event<'_>,
) -> Result<(), Error> {
    let args = object::<Args<'_>>(&event)?;
    room_name(&args.room)?;
    if chat.limiter.admit_typing(socket.session().user(), socket.now()) {
        socket.request(&args.room, Request::Typing(args.typing));
    } else {
        chat.cells.refused_typing.add(1);
    }
    Ok(())
}

pub(super) fn on_request(room: ChatRoomRef<'_, '_>, from: Sid, typing: bool) {
    if let Some(member) = room.member(from) {
        let typing = ("typing", typing);
        let packet = flag_packet(room.name(), (from, &member.identity), "typing", typing);
        room.spread(Audience::Except(from), packet);
    }
}

/// The event `{room, from, <key>: flag}`.
pub(super) fn flag_packet(
    room: &str,
    (from, identity): (Sid, &Identity),
    event: &str,
    (key, flag): (&str, bool),
) -> Packet {
    let mut out = String::from(r#"{"room":"#);
    push_string(&mut out, room);
    out.push_str(r#","from":"#);
    identity.push_json(from, &mut out);
    out.push_str(",\"");
    out.push_str(key);
    out.push_str(if flag { "\":true}" } else { "\":false}" });
    Packet::event(event, &out)
}
