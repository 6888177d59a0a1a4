//! `screen {room, sharing}`

use std::borrow::Cow;

use serde::Deserialize;

use super::error::Error;
use super::json::{object, room_name};
use super::leave::OK;
use super::participant::Participant;
use super::typing::flag_packet;
use super::{ChatRoomRef, ChatSocket, Identity, Request};
use crate::app::{Audience, Event};
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
    let member = member.clone();
    if let Some(id) = ack {
        room.send(from, Packet::ack(id, OK));
    }
    if changed {
        on_changed(room, from, &member);
        room.share(from);
    }
    Ok(())
}

/// A member, of whichever host, has begun or ended to share.
pub(super) fn on_changed(room: ChatRoomRef<'_, '_>, sid: Sid, member: &Participant) {
    let sharers = &mut room.state_mut().sharers;
    sharers.retain(|it| *it != sid);
    if member.sharing {
        sharers.push(sid);
    }
    tell(room, sid, &member.identity, member.sharing);
}

/// Somebody who was sharing is gone.
pub(super) fn stop(room: ChatRoomRef<'_, '_>, sid: Sid, member: &Participant) {
    room.state_mut().sharers.retain(|it| *it != sid);
    tell(room, sid, &member.identity, false);
}

/// Of those who share, Node servers may have been told that they are gone.
pub(super) fn tell_nodes_again(room: ChatRoomRef<'_, '_>, sids: &[Sid]) {
    for &sid in sids {
        let Some(member) = room.member(sid).filter(|it| it.sharing) else { continue };
        let packet = packet(room.name(), (sid, &member.identity), true);
        room.tell_nodes(Audience::Except(sid), &packet);
    }
}

/// What the room is told of one who has begun or ended to share.
pub(super) fn packet(room: &str, from: (Sid, &Identity), sharing: bool) -> Packet {
    flag_packet(room, from, "screen", ("sharing", sharing))
}

/// Each host tells its own clients; Node servers are told by the member's.
fn tell(room: ChatRoomRef<'_, '_>, from: Sid, identity: &Identity, sharing: bool) {
    let packet = packet(room.name(), (from, identity), sharing);
    if room.is_here(from) {
        room.tell_nodes(Audience::Except(from), &packet);
    }
    room.deliver(Audience::Except(from), packet);
}
