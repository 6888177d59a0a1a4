//! The sharded adapter (`createShardedAdapter`).
//!
//! One channel per namespace for everything, one per server for answers, and, as the [`Mode`] has
//! it, one per room for events to exactly one room. Everything is an object
//! `{type, data, uid, nsp}`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{
    Name, OptsFields, Text, event, items, names, pack, write_event, write_names, write_opts,
    write_values,
};
use super::{Ask, Event, Form, Malformed, Packet, Reply};
use crate::json::{write_string, write_u64};

/// In UTF-16 units.
const SOCKET_ID_LENGTH: usize = 20;

/// The adapters' option `subscriptionMode`: which rooms have a channel of their own. Servers hear
/// each other wholly only in the same one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Mode {
    /// None.
    Static,
    /// All but those with names as long as socket ids.
    #[default]
    Dynamic,
    /// All, and each socket: its id is a room with only it.
    DynamicPrivate,
}

/// The channel of a namespace, for everything. `prefix` is the adapters' option `channelPrefix`,
/// by default `socket.io`.
pub fn channel(prefix: &str, namespace: &str) -> String {
    format!("{prefix}#{namespace}#")
}

/// The channel of a room, or of answers to a server.
pub fn channel_of(prefix: &str, namespace: &str, name: &str) -> String {
    format!("{prefix}#{namespace}#{name}#")
}

impl Mode {
    /// Whether events to this room alone go by a channel of its own.
    pub fn has_channel(self, room: &str) -> bool {
        match self {
            Mode::Static => false,
            Mode::Dynamic => {
                room.encode_utf16().take(SOCKET_ID_LENGTH + 1).count() != SOCKET_ID_LENGTH
            }
            Mode::DynamicPrivate => true,
        }
    }
}

/// What came from another server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// It tells or asks something.
    Packet(Packet),
    /// It answers a request.
    Reply {
        /// Which server answers.
        uid: Option<Box<str>>,
        /// In which namespace.
        namespace: Option<Box<str>>,
        /// Which request.
        request: Box<str>,
        /// What.
        reply: Reply,
    },
}

#[derive(Deserialize)]
struct MessageFields<'a> {
    r#type: u8,
    #[serde(borrow)]
    data: DataFields<'a>,
    uid: Option<Box<str>>,
    nsp: Option<Box<str>>,
}

#[derive(Deserialize)]
struct DataFields<'a> {
    #[serde(rename = "requestId")]
    request: Option<Box<str>>,
    opts: Option<OptsFields>,
    rooms: Option<Vec<Name>>,
    close: Option<bool>,
    #[serde(borrow)]
    packet: Option<&'a RawValue>,
    #[serde(borrow)]
    sockets: Option<Vec<&'a RawValue>>,
    #[serde(rename = "clientCount")]
    count: Option<usize>,
}

#[derive(Deserialize)]
struct EventFields<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Reads what came on any channel.
///
/// # Errors
/// If it is no such packet, or of a kind that is not known.
pub fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
    let Text { json, mut attachments } = Text::read(bytes)?;
    let inlined: String;
    let mut fields: MessageFields<'_> = serde_json::from_str(&json)?;
    if fields.r#type != 3 && !attachments.is_empty() {
        attachments.clear();
        inlined = Text::inline(bytes)?;
        fields = serde_json::from_str(&inlined)?;
    }
    let MessageFields { r#type: kind, data, uid, nsp: namespace } = fields;
    if matches!(kind, 8 | 10 | 11 | 12) {
        let request = data.request.clone().ok_or(Malformed::Shape)?;
        return Ok(Message::Reply { uid, namespace, request, reply: reply(kind, data)? });
    }
    let request = data.request.clone();
    let ask = ask(kind, data, attachments)?;
    Ok(Message::Packet(Packet { uid, namespace, request, ask, form: Form::Modern }))
}

fn ask(kind: u8, data: DataFields<'_>, attachments: Vec<Box<[u8]>>) -> Result<Ask, Malformed> {
    let packet = data.packet.ok_or(Malformed::Shape);
    if kind == 9 {
        return Ok(Ask::ServerSide(items(packet?)?));
    }
    let opts = data.opts.ok_or(Malformed::Shape)?.into();
    let rooms = data.rooms.map(names).ok_or(Malformed::Shape);
    Ok(match kind {
        3 => {
            let packet: EventFields<'_> = serde_json::from_str(packet?.get())?;
            Ask::Emit(opts, event(packet.data, attachments)?)
        }
        4 => Ask::Join(opts, rooms?),
        5 => Ask::Leave(opts, rooms?),
        6 => Ask::Disconnect(opts, data.close.unwrap_or_default()),
        7 => Ask::Fetch(opts),
        _ => return Err(Malformed::Shape),
    })
}

fn reply(kind: u8, data: DataFields<'_>) -> Result<Reply, Malformed> {
    // `undefined` is left out of JSON.
    let value = |value: Option<&RawValue>| value.map_or("null", RawValue::get).into();
    Ok(match kind {
        8 => {
            let sockets = data.sockets.ok_or(Malformed::Shape)?;
            Reply::Sockets(sockets.into_iter().map(|socket| socket.get().into()).collect())
        }
        10 => Reply::ServerSide(value(data.packet)),
        11 => Reply::Count(data.count.ok_or(Malformed::Shape)?),
        _ => Reply::Acked(value(data.packet), Vec::new()),
    })
}

/// What a server tells or asks, to be published. `None` if this adapter does not know it
/// ([`Ask::Rooms`]).
///
/// # Errors
/// If the event is no JSON or its placeholders don't match its attachments.
pub fn encode(
    uid: &str,
    namespace: &str,
    request: Option<&str>,
    ask: &Ask,
) -> Result<Option<Vec<u8>>, Malformed> {
    let mut data = Vec::new();
    let mut attachments: &[Box<[u8]>] = &[];
    let kind = match ask {
        Ask::Rooms => return Ok(None),
        Ask::Emit(opts, Event { args, attachments: binary }) => {
            attachments = binary;
            data.extend_from_slice(b"{\"packet\":");
            write_event(&mut data, args, None);
            if let Some(request) = request {
                data.extend_from_slice(b",\"requestId\":");
                write_string(&mut data, request);
            }
            data.extend_from_slice(b",\"opts\":");
            write_opts(&mut data, opts, true);
            3
        }
        Ask::Join(opts, rooms) | Ask::Leave(opts, rooms) => {
            data.extend_from_slice(b"{\"opts\":");
            write_opts(&mut data, opts, true);
            data.extend_from_slice(b",\"rooms\":");
            write_names(&mut data, rooms);
            if matches!(ask, Ask::Join(..)) { 4 } else { 5 }
        }
        Ask::Disconnect(opts, close) => {
            data.extend_from_slice(b"{\"opts\":");
            write_opts(&mut data, opts, true);
            data.extend_from_slice(if *close { b",\"close\":true" } else { b",\"close\":false" });
            6
        }
        Ask::Fetch(opts) => {
            data.extend_from_slice(b"{\"opts\":");
            write_opts(&mut data, opts, true);
            data.extend_from_slice(b",\"requestId\":");
            write_string(&mut data, request.unwrap_or_default());
            7
        }
        Ask::ServerSide(args) => {
            data.push(b'{');
            if let Some(request) = request {
                data.extend_from_slice(b"\"requestId\":");
                write_string(&mut data, request);
                data.push(b',');
            }
            data.extend_from_slice(b"\"packet\":[");
            data.extend_from_slice(args.as_bytes());
            data.push(b']');
            9
        }
    };
    data.push(b'}');
    message(kind, &data, uid, namespace, attachments).map(Some)
}

/// An answer, to be published on the asking server's channel. `None` if this adapter does not know
/// it.
///
/// # Errors
/// If a value in it is no JSON.
pub fn encode_reply(
    uid: &str,
    namespace: &str,
    request: &str,
    reply: &Reply,
) -> Result<Option<Vec<u8>>, Malformed> {
    let mut data = b"{\"requestId\":".to_vec();
    write_string(&mut data, request);
    let kind = match reply {
        Reply::Rooms(_) | Reply::Done => return Ok(None),
        Reply::Sockets(sockets) => {
            data.extend_from_slice(b",\"sockets\":");
            write_values(&mut data, sockets);
            8
        }
        Reply::Count(count) => {
            data.extend_from_slice(b",\"clientCount\":");
            write_u64(&mut data, *count as u64);
            11
        }
        Reply::ServerSide(packet) | Reply::Acked(packet, _) => {
            data.extend_from_slice(b",\"packet\":");
            data.extend_from_slice(packet.as_bytes());
            if matches!(reply, Reply::Acked(..)) { 12 } else { 10 }
        }
    };
    data.push(b'}');
    let attachments = match reply {
        Reply::Acked(_, attachments) => attachments,
        _ => &Vec::new(),
    };
    message(kind, &data, uid, namespace, attachments).map(Some)
}

/// Only what has binary parts is MessagePack.
fn message(
    kind: u64,
    data: &[u8],
    uid: &str,
    namespace: &str,
    attachments: &[Box<[u8]>],
) -> Result<Vec<u8>, Malformed> {
    let mut json = b"{\"type\":".to_vec();
    write_u64(&mut json, kind);
    json.extend_from_slice(b",\"data\":");
    json.extend_from_slice(data);
    json.extend_from_slice(b",\"uid\":");
    write_string(&mut json, uid);
    json.extend_from_slice(b",\"nsp\":");
    write_string(&mut json, namespace);
    json.push(b'}');
    if attachments.is_empty() { Ok(json) } else { pack(&json, attachments) }
}
