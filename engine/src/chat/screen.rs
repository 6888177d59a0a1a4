//! `screen {room, sharing}`

use std::borrow::Cow;

use serde::Deserialize;

use super::error::Error;
use super::json::{object, room_name};
use super::leave::OK;
use super::participant::Participant;
use super::typing::tell_others;
use super::{ChatRoomRef, ChatSocket, Identity, Request};
use crate::app::Event;
use crate::codec::Packet;
use crate::ids::Sid;

#[derive(Deserialize)]
struct Args<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    sharing: bool,
}

pub(super) fn on_event(socket: ChatSocket<'_, '_>, event: Event<'_>) -> Result<(), Error> {
    let args = object::<Args<'_>>(&event)?;
    room_name(&args.room)?;
    socket.request(&args.room, Request::Screen(args.sharing, event.ack));
    Ok(())
}

pub(super) fn on_request(
    room: ChatRoomRef<'_, '_>,
    from: Sid,
    sharing: bool,
    ack: Option<u64>,
) -> Result<(), Error> {
    let member = room.member_mut(from).ok_or(Error::NotInRoom)?;
    let changed = std::mem::replace(&mut member.sharing, sharing) != sharing;
    let identity = member.identity.clone();
    if let Some(id) = ack {
        room.send(from, Packet::ack(id, OK));
    }
    if changed {
        let sharers = &mut room.state_mut().sharers;
        sharers.retain(|sid| *sid != from);
        if sharing {
            sharers.push(from);
        }
        tell(room, from, &identity, sharing);
    }
    Ok(())
}

/// Somebody who was sharing is gone.
pub(super) fn stop(room: ChatRoomRef<'_, '_>, sid: Sid, member: &Participant) {
    room.state_mut().sharers.retain(|it| *it != sid);
    tell(room, sid, &member.identity, false);
}

fn tell(room: ChatRoomRef<'_, '_>, from: Sid, identity: &Identity, sharing: bool) {
    tell_others(room, (from, identity), "screen", ("sharing", sharing));
}
