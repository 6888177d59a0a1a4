//! `participants {room, after?, limit?}`, and the room as the HTTP API shows it.

use std::borrow::Cow;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Error;
use super::history::page_size;
use super::json::{bare_room, object, push_number, room_name};
use super::participant::Participant;
use super::{Chat, ChatRoomRef, ChatSocket, Request};
use crate::app::{Detail, Event, Room};
use crate::codec::Packet;
use crate::ids::Sid;
use crate::limits::{PARTICIPANTS_PER_PAGE_MAX, REPLY_LIST_BYTES_MAX};

#[derive(Deserialize)]
struct Args<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    #[serde(borrow)]
    after: Option<Cow<'a, str>>,
    limit: Option<u64>,
}

/// Which participants are wanted: those with a greater id.
#[derive(Clone, Copy)]
pub struct Query {
    after: Option<Sid>,
    limit: usize,
    pub(super) ack: u64,
}

pub(super) fn on_event(socket: ChatSocket<'_, '_>, event: Event<'_>) -> Result<(), Error> {
    let args = match bare_room(&event) {
        Some(room) => Args { room, after: None, limit: None },
        None => object::<Args<'_>>(&event)?,
    };
    room_name(&args.room)?;
    let limit = page_size(args.limit, PARTICIPANTS_PER_PAGE_MAX)?;
    let after = match args.after {
        Some(id) => Some(Sid::parse(&id).ok_or(Error::Invalid("after is no participant's id"))?),
        None => None,
    };
    if let Some(ack) = event.ack {
        socket.request(&args.room, Request::Participants(Query { after, limit, ack }));
    }
    Ok(())
}

pub(super) fn on_request(room: ChatRoomRef<'_, '_>, from: Sid, query: Query) -> Result<(), Error> {
    room.member(from).ok_or(Error::NotInRoom)?;
    // By id, not by age: a page goes on where the last one ended whoever has left meanwhile.
    let after = query.after;
    let follows = |sid: &Sid| after.is_none_or(|after| *sid > after);
    let mut page: Vec<_> = room.members().filter(|(sid, _)| follows(sid)).collect();
    let rest = page.len() > query.limit;
    if rest {
        page.select_nth_unstable_by_key(query.limit, |(sid, _)| **sid);
        page.truncate(query.limit);
    }
    page.sort_unstable_by_key(|(sid, _)| **sid);
    let mut out = String::from(r#"{"ok":true,"participants":"#);
    let shown = push_participants(page.iter().copied(), &mut out);
    out.push_str(r#","count":"#);
    push_number(&mut out, room.member_count() as u64);
    if let Some((last, _)) =
        page.get(shown.saturating_sub(1)).filter(|_| rest || shown < page.len())
    {
        out.push_str(r#","next":""#);
        out.push_str(last.encode().as_str());
        out.push('"');
    }
    out.push('}');
    room.send(from, Packet::ack(query.ack, &out));
    Ok(())
}

/// Writes participants, as many as fit into one answer; returns how many.
pub(super) fn push_participants<'a>(
    participants: impl Iterator<Item = (&'a Sid, &'a Participant)>,
    out: &mut String,
) -> usize {
    let start = out.len();
    let mut count = 0;
    out.push('[');
    for (sid, participant) in participants.take(PARTICIPANTS_PER_PAGE_MAX) {
        if out.len() - start > REPLY_LIST_BYTES_MAX {
            break;
        }
        if count > 0 {
            out.push(',');
        }
        participant.push_json(*sid, out);
        count += 1;
    }
    out.push(']');
    count
}

/// The ids of those who share a screen.
pub(super) struct Sharing<'a>(pub(super) &'a [Sid]);

impl Sharing<'_> {
    pub(super) fn push_json(&self, out: &mut String) {
        out.push('[');
        for (index, sid) in self.0.iter().enumerate() {
            out.push_str(if index > 0 { ",\"" } else { "\"" });
            out.push_str(sid.encode().as_str());
            out.push('"');
        }
        out.push(']');
    }

    fn to_value(&self) -> Value {
        self.0.iter().map(|sid| sid.encode().as_str().to_owned()).collect()
    }
}

/// The room as `/api/rooms` shows it.
pub(super) fn describe(room: &Room<'_, Chat>, detail: Detail) -> Value {
    let sharing = Sharing(&room.state().sharers).to_value();
    let (last_seq, created_at) = (room.last_seq(), room.created_at_ms());
    match detail {
        Detail::Summary => json!({
            "id": room.name(),
            "participants": room.member_count(),
            "sharing": sharing,
            "lastSeq": last_seq,
            "createdAt": created_at,
        }),
        Detail::Full => {
            let mut participants = String::new();
            push_participants(room.members(), &mut participants);
            json!({
                "id": room.name(),
                "participants": Value::from_str(&participants).unwrap_or_default(),
                "count": room.member_count(),
                "sharing": sharing,
                "lastSeq": last_seq,
                "createdAt": created_at,
            })
        }
    }
}
