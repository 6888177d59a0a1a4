//! Clients without Socket.IO: the same events as JSON over WebSocket, one object per message.
//!
//! `{"id","event","data"}`: with an `id`, the answer is `{"id","event":"ack","data"}`. The first
//! event is `connect`, whose data is what CONNECT's payload is with Socket.IO.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use throng_protocol::socketio::check_placeholders;

use super::Core;
use super::packets::Halt;
use crate::app::{App, Event};
use crate::close::Reason;
use crate::codec::{self, MAIN};
use crate::limits::REPLY_ATTACHMENTS_MAX;
use crate::outbox::Class;
use crate::table::Link;

#[derive(Deserialize)]
struct Said<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    attachments: Vec<Cow<'a, str>>,
}

impl<A: App> Core<A> {
    /// One message of such a client.
    pub(super) fn on_json(&mut self, slot: u32, link: &mut Link<A>, text: &str) -> Option<Halt> {
        let said = match serde_json::from_str::<Said<'_>>(text) {
            Ok(said) => said,
            Err(_) => return self.object(slot, "a message is {\"id\"?,\"event\",\"data\"?}"),
        };
        let data = said.data.map_or("", RawValue::get);
        let sid = link.socket.as_ref().map(|socket| socket.sid);
        let Some(sid) = sid else {
            if said.event != "connect" {
                return self.object(slot, "connect first");
            }
            if !matches!(data.as_bytes().first(), None | Some(b'{' | b'n')) {
                return self.object(slot, "connect's data is an object");
            }
            return self.on_connect(slot, link, MAIN, if data == "null" { "" } else { data });
        };
        match (&*said.event, said.id) {
            ("connect", _) => self.object(slot, "connected already"),
            ("disconnect", _) => Some(Halt::Close(Reason::Peer)),
            ("ack", Some(id)) => self.on_answer(slot, link, sid, (id, data), &[]),
            (name, ack) => {
                let Some(attachments) = attachments(&said.attachments, data) else {
                    return self.object(slot, "attachments are up to 10 texts in base64");
                };
                let event = Event { name, args: data, attachments: &attachments, ack };
                self.on_event_of(slot, link, sid, event)
            }
        }
    }

    /// Says what is wrong; the connection stays.
    pub(super) fn object(&mut self, slot: u32, message: &str) -> Option<Halt> {
        let queued = self.queue(slot, codec::json_error_frame(message), Class::Reply);
        (!queued).then_some(Halt::Close(Reason::SlowConsumer))
    }
}

/// The binary parts, if that is what they are and the data's placeholders stand for them.
fn attachments(texts: &[Cow<'_, str>], data: &str) -> Option<Vec<Box<[u8]>>> {
    if texts.is_empty() {
        return Some(Vec::new());
    }
    if texts.len() > REPLY_ATTACHMENTS_MAX || check_placeholders(data, texts.len() as u32).is_err()
    {
        return None;
    }
    let decoded = |text: &Cow<'_, str>| STANDARD.decode(&**text).ok().map(Vec::into_boxed_slice);
    texts.iter().map(decoded).collect()
}
