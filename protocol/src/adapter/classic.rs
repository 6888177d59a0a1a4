//! The classic adapter (`createAdapter`, versions 5 to 8) and the emitter.
//!
//! Events go by a pattern of channels, requests and answers by one channel each; all per
//! namespace.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{
    Name, OptsFields, Text, event, id_of, items, names, pack, write_event, write_names, write_opts,
    write_values,
};
use super::{Ask, Event, Form, Malformed, Opts, Packet, Reply};
use crate::json::{write_string, write_u64};

/// The channels of a namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Channels {
    /// Events for none or several rooms.
    pub events: String,
    /// Requests.
    pub requests: String,
    /// Answers to any server.
    pub responses: String,
}

impl Channels {
    /// `prefix` is the adapters' option `key`, by default `socket.io`.
    pub fn new(prefix: &str, namespace: &str) -> Self {
        Self {
            events: format!("{prefix}#{namespace}#"),
            requests: format!("{prefix}-request#{namespace}#"),
            responses: format!("{prefix}-response#{namespace}#"),
        }
    }

    /// Events for exactly one room.
    pub fn to_room(&self, room: &str) -> String {
        format!("{}{room}#", self.events)
    }

    /// Answers to one server, if the one that answers is configured to use it.
    pub fn responses_to(&self, uid: &str) -> String {
        format!("{}{uid}#", self.responses)
    }

    /// The pattern of all channels of events. What has a meaning in patterns is escaped, which Node
    /// does not do.
    pub fn pattern(&self) -> String {
        let mut pattern = String::with_capacity(self.events.len() + 1);
        for char in self.events.chars() {
            if matches!(char, '*' | '?' | '[' | ']' | '^' | '\\') {
                pattern.push('\\');
            }
            pattern.push(char);
        }
        pattern.push('*');
        pattern
    }
}

#[derive(Deserialize)]
struct PacketFields<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    nsp: Option<Box<str>>,
}

/// Reads what came on a channel of events.
///
/// # Errors
/// If it is no such packet, or has binary parts outside of its event.
pub fn decode_event(bytes: &[u8]) -> Result<Packet, Malformed> {
    let Text { json, attachments } = Text::read(bytes)?;
    let (uid, fields, opts): (Box<str>, PacketFields<'_>, OptsFields) =
        serde_json::from_str(&json)?;
    let ask = Ask::Emit(opts.into(), event(fields.data, attachments)?);
    let namespace = Some(fields.nsp.unwrap_or_else(|| "/".into()));
    Ok(Packet { uid: Some(uid), namespace, request: None, ask, form: Form::Modern })
}

/// An event to be published.
///
/// # Errors
/// If the event is no JSON or its placeholders don't match its attachments.
pub fn encode_event(
    uid: &str,
    namespace: &str,
    opts: &Opts,
    event: &Event,
) -> Result<Vec<u8>, Malformed> {
    let mut json = Vec::with_capacity(event.args.len() + 128);
    json.push(b'[');
    write_string(&mut json, uid);
    json.push(b',');
    write_event(&mut json, &event.args, Some(namespace));
    json.push(b',');
    write_opts(&mut json, opts, true);
    json.push(b']');
    pack(&json, &event.attachments)
}

#[derive(Deserialize)]
struct RequestFields<'a> {
    uid: Option<Box<str>>,
    #[serde(rename = "requestId")]
    request: Option<Box<str>>,
    r#type: u8,
    opts: Option<OptsFields>,
    rooms: Option<Vec<Name>>,
    sid: Option<Box<str>>,
    room: Option<Name>,
    close: Option<bool>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    packet: Option<PacketFields<'a>>,
}

/// Reads what came on a channel of requests.
///
/// # Errors
/// If it is no such packet, or of a kind that is not known.
pub fn decode_request(bytes: &[u8]) -> Result<Packet, Malformed> {
    let Text { json, mut attachments } = Text::read(bytes)?;
    let inlined: String;
    let mut fields: RequestFields<'_> = serde_json::from_str(&json)?;
    if fields.r#type != 7 && !attachments.is_empty() {
        attachments.clear();
        inlined = Text::inline(bytes)?;
        fields = serde_json::from_str(&inlined)?;
    }
    let RequestFields { uid, request, r#type: kind, .. } = fields;
    let namespace = fields.packet.as_ref().and_then(|packet| packet.nsp.clone());
    let form = match (kind, &fields.opts, &fields.sid) {
        (0, ..) => Form::Ids,
        (2..=4, None, Some(_)) => Form::One,
        _ => Form::Modern,
    };
    let rooms = |rooms: Option<Vec<Name>>| rooms.map(names).unwrap_or_default();
    let opts: Option<Opts> = match (form, fields.opts, fields.sid) {
        (Form::One, _, Some(sid)) => Some(Opts { rooms: vec![sid], ..Opts::default() }),
        (_, opts, _) => opts.map(Opts::from),
    };
    let need = |opts: Option<Opts>| opts.ok_or(Malformed::Shape);
    let moved = match fields.room {
        Some(room) if form == Form::One => vec![room],
        _ => match kind {
            2 | 3 => fields.rooms.ok_or(Malformed::Shape)?,
            _ => fields.rooms.unwrap_or_default(),
        },
    };
    let ask = match kind {
        0 => Ask::Fetch(Opts { rooms: rooms(Some(moved)), ..Opts::default() }),
        1 => Ask::Rooms,
        2 => Ask::Join(need(opts)?, names(moved)),
        3 => Ask::Leave(need(opts)?, names(moved)),
        4 => Ask::Disconnect(need(opts)?, fields.close.unwrap_or_default()),
        5 => Ask::Fetch(need(opts)?),
        6 => Ask::ServerSide(items(fields.data.ok_or(Malformed::Shape)?)?),
        7 => {
            let packet = fields.packet.ok_or(Malformed::Shape)?;
            Ask::Emit(need(opts)?, event(packet.data, attachments)?)
        }
        _ => return Err(Malformed::Shape),
    };
    Ok(Packet { uid, namespace, request, ask, form })
}

/// A request to be published: JSON, or MessagePack if it is an event.
///
/// # Errors
/// As [`encode_event`].
pub fn encode_request(
    uid: &str,
    namespace: &str,
    request: Option<&str>,
    ask: &Ask,
) -> Result<Vec<u8>, Malformed> {
    let mut json = b"{\"uid\":".to_vec();
    write_string(&mut json, uid);
    if let Some(request) = request {
        json.extend_from_slice(b",\"requestId\":");
        write_string(&mut json, request);
    }
    json.extend_from_slice(b",\"type\":");
    let kind = match ask {
        Ask::Rooms => 1,
        Ask::Join(..) => 2,
        Ask::Leave(..) => 3,
        Ask::Disconnect(..) => 4,
        Ask::Fetch(..) => 5,
        Ask::ServerSide(..) => 6,
        Ask::Emit(..) => 7,
    };
    write_u64(&mut json, kind);
    match ask {
        Ask::Rooms => {}
        Ask::Join(opts, rooms) | Ask::Leave(opts, rooms) => {
            json.extend_from_slice(b",\"opts\":");
            write_opts(&mut json, opts, false);
            json.extend_from_slice(b",\"rooms\":");
            write_names(&mut json, rooms);
        }
        Ask::Disconnect(opts, close) => {
            json.extend_from_slice(b",\"opts\":");
            write_opts(&mut json, opts, false);
            json.extend_from_slice(if *close { b",\"close\":true" } else { b",\"close\":false" });
        }
        Ask::Fetch(opts) => {
            json.extend_from_slice(b",\"opts\":");
            write_opts(&mut json, opts, false);
        }
        Ask::ServerSide(args) => {
            json.extend_from_slice(b",\"data\":[");
            json.extend_from_slice(args.as_bytes());
            json.push(b']');
        }
        Ask::Emit(opts, event) => {
            json.extend_from_slice(b",\"packet\":");
            write_event(&mut json, &event.args, Some(namespace));
            json.extend_from_slice(b",\"opts\":");
            write_opts(&mut json, opts, true);
        }
    }
    json.push(b'}');
    match ask {
        Ask::Emit(_, event) => pack(&json, &event.attachments),
        _ => Ok(json),
    }
}

#[derive(Deserialize)]
struct ResponseFields<'a> {
    #[serde(rename = "requestId")]
    request: Box<str>,
    r#type: Option<u8>,
    #[serde(borrow)]
    sockets: Option<Vec<&'a RawValue>>,
    rooms: Option<Vec<Name>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(rename = "clientCount")]
    count: Option<usize>,
    #[serde(borrow)]
    packet: Option<&'a RawValue>,
}

/// Reads what came on a channel of answers, and which request it answers.
///
/// # Errors
/// If it is no such packet.
pub fn decode_response(bytes: &[u8]) -> Result<(Box<str>, Reply), Malformed> {
    let json = Text::inline(bytes)?;
    let fields: ResponseFields<'_> = serde_json::from_str(&json)?;
    // `undefined` is left out of JSON.
    let value = |value: Option<&RawValue>| value.map_or("null", RawValue::get).into();
    let reply = match (fields.r#type, fields.sockets, fields.rooms) {
        (Some(6), ..) => Reply::ServerSide(value(fields.data)),
        (Some(8), ..) => Reply::Count(fields.count.ok_or(Malformed::Shape)?),
        (Some(9), ..) => Reply::Acked(value(fields.packet), Vec::new()),
        (Some(_), ..) => return Err(Malformed::Shape),
        (None, Some(sockets), _) => {
            Reply::Sockets(sockets.into_iter().map(|socket| socket.get().into()).collect())
        }
        (None, None, Some(rooms)) => Reply::Rooms(names(rooms)),
        (None, None, None) => Reply::Done,
    };
    Ok((fields.request, reply))
}

/// An answer to be published: JSON, or MessagePack if it is a client's.
///
/// # Errors
/// If a value in it is no JSON.
pub fn encode_response(request: &str, form: Form, reply: &Reply) -> Result<Vec<u8>, Malformed> {
    let mut json = b"{".to_vec();
    match reply {
        Reply::ServerSide(_) => json.extend_from_slice(b"\"type\":6,"),
        Reply::Count(_) => json.extend_from_slice(b"\"type\":8,"),
        Reply::Acked(..) => json.extend_from_slice(b"\"type\":9,"),
        Reply::Sockets(_) | Reply::Rooms(_) | Reply::Done => {}
    }
    json.extend_from_slice(b"\"requestId\":");
    write_string(&mut json, request);
    match reply {
        Reply::Sockets(sockets) if form == Form::Ids => {
            json.extend_from_slice(b",\"sockets\":");
            let ids: Vec<_> = sockets.iter().filter_map(|socket| id_of(socket)).collect();
            write_names(&mut json, &ids);
        }
        Reply::Sockets(sockets) => {
            json.extend_from_slice(b",\"sockets\":");
            write_values(&mut json, sockets);
        }
        Reply::Rooms(rooms) => {
            json.extend_from_slice(b",\"rooms\":");
            write_names(&mut json, rooms);
        }
        Reply::ServerSide(data) => {
            json.extend_from_slice(b",\"data\":");
            json.extend_from_slice(data.as_bytes());
        }
        Reply::Count(count) => {
            json.extend_from_slice(b",\"clientCount\":");
            write_u64(&mut json, *count as u64);
        }
        Reply::Acked(packet, _) => {
            json.extend_from_slice(b",\"packet\":");
            json.extend_from_slice(packet.as_bytes());
        }
        Reply::Done => {}
    }
    json.push(b'}');
    match reply {
        Reply::Acked(_, attachments) => pack(&json, attachments),
        _ => Ok(json),
    }
}
