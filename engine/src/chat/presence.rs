//! `presence {room, joined?, left?, updated?, count}`: who came, went and changed, gathered.
//!
//! What cancels out within the interval is not told. Large rooms are only told their count.

use super::json::{push_number, push_string};
use super::participants::push_participants;
use super::{Chat, ChatRoomRef, Participant};
use crate::app::{Audience, Reaped};
use crate::codec::Packet;
use crate::ids::Sid;
use crate::limits::{PRESENCE_COUNT_INTERVAL_MS, PRESENCE_DETAIL_MAX};

/// What has changed since the last announcement.
#[derive(Default)]
pub(super) struct Changes {
    joined: Vec<Sid>,
    left: Vec<Sid>,
    updated: Vec<Sid>,
    /// Something is to be told, be it only the count.
    pending: bool,
}

/// A member came, or changed what it says of itself.
pub(super) fn on_changed(chat: &Chat, room: ChatRoomRef<'_, '_>, sid: Sid, came: bool) {
    let detailed = is_detailed(room);
    let changes = &mut room.state_mut().changes;
    if detailed {
        let back = take(&mut changes.left, sid);
        if came && !back {
            changes.joined.push(sid);
        } else if !changes.joined.contains(&sid) && !changes.updated.contains(&sid) {
            changes.updated.push(sid);
        }
    }
    schedule(chat, room);
}

/// A member is gone.
pub(super) fn on_left(chat: &Chat, room: ChatRoomRef<'_, '_>, sid: Sid) {
    let detailed = is_detailed(room);
    let changes = &mut room.state_mut().changes;
    if detailed {
        take(&mut changes.updated, sid);
        if !take(&mut changes.joined, sid) {
            changes.left.push(sid);
        }
    }
    schedule(chat, room);
}

fn take(list: &mut Vec<Sid>, sid: Sid) -> bool {
    let found = list.iter().position(|it| *it == sid);
    found.map(|index| list.swap_remove(index)).is_some()
}

fn is_detailed(room: ChatRoomRef<'_, '_>) -> bool {
    room.member_count() <= PRESENCE_DETAIL_MAX
}

fn schedule(chat: &Chat, room: ChatRoomRef<'_, '_>) {
    let interval_ms = if is_detailed(room) {
        chat.config.presence_interval.as_millis() as u64
    } else {
        PRESENCE_COUNT_INTERVAL_MS.into()
    };
    if !std::mem::replace(&mut room.state_mut().changes.pending, true) {
        room.wake_at_ms(room.now().ns / 1_000_000 + interval_ms);
    }
}

/// Tells what has gathered: this host's members of everybody, Node servers of this host's members.
/// Those of a host that died tells who removes them ([`reaped`]).
pub(super) fn announce(room: ChatRoomRef<'_, '_>) {
    let changes = std::mem::take(&mut room.state_mut().changes);
    if !changes.pending {
        return;
    }
    if room.speaks_to_nodes() {
        let own = changes.of(|sid| room.is_here(*sid));
        if let Some(packet) = packet(room, &own).filter(|_| is_detailed(room) || room.is_leader()) {
            room.tell_nodes(Audience::All, &packet);
        }
    }
    if room.has_listeners()
        && let Some(packet) = packet(room, &changes)
    {
        let except = if is_detailed(room) { changes.only_one() } else { None };
        room.deliver(Audience::Listeners(except), packet);
    }
}

/// Tells Node servers of members of this host, who may have been told that they are gone, or
/// nothing. A large room's count they get with its next change.
pub(super) fn tell_nodes_again(room: ChatRoomRef<'_, '_>, sids: &[Sid]) {
    if !is_detailed(room) {
        return;
    }
    let told_soon = &room.state().changes.joined;
    let joined = sids.iter().filter(|sid| !told_soon.contains(sid)).copied().collect();
    if let Some(packet) = packet(room, &Changes { joined, ..Changes::default() }) {
        room.tell_nodes(Audience::All, &packet);
    }
}

/// What Node servers are told of members that a dead host had. The count of a room that is large
/// still is told by a host with members in it.
pub(super) fn reaped(room: &str, gone: &Reaped<Participant>) -> Option<Packet> {
    let is_detailed = gone.count + gone.left <= PRESENCE_DETAIL_MAX;
    if !is_detailed && gone.left > PRESENCE_DETAIL_MAX {
        return None;
    }
    let mut out = begin(room);
    if is_detailed {
        let left: Vec<Sid> = gone.members.iter().map(|(sid, _)| *sid).collect();
        push_left(&mut out, &left);
    }
    Some(end(out, gone.left))
}

/// The event `presence`, if there is anything to tell.
fn packet(room: ChatRoomRef<'_, '_>, changes: &Changes) -> Option<Packet> {
    let mut out = begin(room.name());
    if is_detailed(room) {
        if changes.is_empty() {
            return None;
        }
        push_members(room, &mut out, "joined", &changes.joined);
        push_left(&mut out, &changes.left);
        push_members(room, &mut out, "updated", &changes.updated);
    }
    Some(end(out, room.member_count()))
}

fn begin(room: &str) -> String {
    let mut out = String::from(r#"{"room":"#);
    push_string(&mut out, room);
    out
}

fn end(mut out: String, count: usize) -> Packet {
    out.push_str(r#","count":"#);
    push_number(&mut out, count as u64);
    out.push('}');
    Packet::event("presence", &out)
}

fn push_left(out: &mut String, sids: &[Sid]) {
    if !sids.is_empty() {
        out.push_str(r#","left":"#);
        super::participants::Sharing(sids).push_json(out);
    }
}

fn push_members(room: ChatRoomRef<'_, '_>, out: &mut String, key: &str, sids: &[Sid]) {
    if sids.is_empty() {
        return;
    }
    out.push_str(",\"");
    out.push_str(key);
    out.push_str("\":");
    let members = sids.iter().filter_map(|sid| Some((sid, room.member(*sid)?)));
    push_participants(members, out);
}

impl Changes {
    /// What of it is about some alone.
    fn of(&self, is: impl Fn(&Sid) -> bool) -> Self {
        let of = |list: &[Sid]| list.iter().filter(|sid| is(sid)).copied().collect();
        let (joined, left, updated) = (of(&self.joined), of(&self.left), of(&self.updated));
        Self { joined, left, updated, pending: self.pending }
    }

    fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.left.is_empty() && self.updated.is_empty()
    }

    /// Whom the changes are all about: there is nothing in them to tell it.
    fn only_one(&self) -> Option<Sid> {
        match (&self.joined[..], &self.left[..], &self.updated[..]) {
            ([sid], [], []) | ([], [], [sid]) => Some(*sid),
            _ => None,
        }
    }
}
