//! `signal {to, data}`: WebRTC offers, answers and candidates, to one socket.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::Error;
use super::json::{fits, object, placeholders, present};
use super::leave::OK;
use super::{Chat, ChatSocket};
use crate::app::{Event, Relay};
use crate::codec::Packet;
use crate::ids::Sid;

#[derive(Deserialize)]
struct Args<'a> {
    #[serde(borrow)]
    to: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
}

pub(super) fn on_event(
    chat: &Chat,
    socket: ChatSocket<'_, '_>,
    event: Event<'_>,
) -> Result<(), Error> {
    let args = object::<Args<'_>>(&event)?;
    if args.to.is_empty() {
        return Err(Error::Invalid("to is empty"));
    }
    let data = args.data.ok_or(Error::Invalid("data is missing"))?.get();
    fits(&event, data, chat.config.message_bytes_max)?;
    placeholders(&event, data)?;
    let to = Sid::parse(&args.to).ok_or(Error::NotFound)?;
    let from = socket.sid();
    let mut out = String::from(r#"{"from":"#);
    socket.session().push_json(from, &mut out);
    out.push_str(r#","data":"#);
    out.push_str(data);
    out.push('}');
    let answer = |json: &str| event.ack.map(|id| Packet::ack(id, json));
    socket.relay(Relay {
        to,
        packet: Packet::event_with("signal", &out, event.attachments),
        from,
        delivered: answer(OK),
        missing: answer(&Error::NotFound.to_json()),
    });
    Ok(())
}
