//! The fields that packets of both adapters have in common.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::read::{Binary, PLACEHOLDER, to_json};
use super::write::from_json;
use super::{DEPTH_MAX, Event, Malformed, Opts};
use crate::json::{self, write_string, write_u64};
use crate::socketio::check_placeholders;

/// A packet as JSON text, whatever it came as.
pub(super) struct Text {
    pub(super) json: String,
    /// What was binary in it; nothing if [`Text::inline`] read it.
    pub(super) attachments: Vec<Box<[u8]>>,
}

impl Text {
    /// With placeholders for binary parts.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        if let Some(json) = plain(bytes)? {
            return Ok(Self { json, attachments: Vec::new() });
        }
        let mut binary = Binary::TakenOut(Vec::new());
        let json = to_json(bytes, &mut binary)?;
        let attachments = match binary {
            Binary::TakenOut(attachments) => attachments,
            Binary::Written => Vec::new(),
        };
        Ok(Self { json, attachments })
    }

    /// With binary parts as JSON.
    pub(super) fn inline(bytes: &[u8]) -> Result<String, Malformed> {
        match plain(bytes)? {
            Some(json) => Ok(json),
            None => to_json(bytes, &mut Binary::Written),
        }
    }
}

/// JSON that came as such: an object, as Node tells it from MessagePack. What looks like a
/// placeholder is made to be none.
fn plain(bytes: &[u8]) -> Result<Option<String>, Malformed> {
    if bytes.first() != Some(&b'{') {
        return Ok(None);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed::Json)?;
    if !json::depth_within(text, DEPTH_MAX) {
        return Err(Malformed::Limit);
    }
    if !json::is_valid(text) {
        return Err(Malformed::Json);
    }
    if check_placeholders(text, 0).is_ok() {
        return Ok(Some(text.to_owned()));
    }
    let mut packed = Vec::with_capacity(text.len());
    from_json(&mut packed, text, &[])?;
    let text = to_json(&packed, &mut Binary::Written)?;
    check_placeholders(&text, 0).map_err(|_| Malformed::Placeholder)?;
    Ok(Some(text))
}

/// `[name, argument, …]` without its brackets.
pub(super) fn items(data: &RawValue) -> Result<Box<str>, Malformed> {
    let items = data.get().trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match items.map(str::trim) {
        Some(items) if !items.is_empty() => Ok(items.into()),
        _ => Err(Malformed::Shape),
    }
}

/// An event and all the attachments of its packet, each of which must have its placeholder in it.
pub(super) fn event(data: &RawValue, attachments: Vec<Box<[u8]>>) -> Result<Event, Malformed> {
    let args = items(data)?;
    let count = u32::try_from(attachments.len()).map_err(|_| Malformed::Limit)?;
    check_placeholders(&args, count).map_err(|_| Malformed::Placeholder)?;
    let placeholder = std::str::from_utf8(PLACEHOLDER).unwrap_or_default();
    if !attachments.is_empty() && args.matches(placeholder).count() != attachments.len() {
        return Err(Malformed::Placeholder);
    }
    Ok(Event { args, attachments })
}

/// A room's name: JavaScript may use a number.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Name {
    Text(Box<str>),
    Number(serde_json::Number),
}

pub(super) fn names(names: Vec<Name>) -> Vec<Box<str>> {
    let text = |name| match name {
        Name::Text(text) => text,
        Name::Number(number) => number.to_string().into(),
    };
    names.into_iter().map(text).collect()
}

/// The options of a packet.
#[derive(Deserialize)]
pub(super) struct OptsFields {
    rooms: Option<Vec<Name>>,
    except: Option<Vec<Name>>,
    flags: Option<Flags>,
}

#[derive(Deserialize, Default)]
struct Flags {
    volatile: Option<Value>,
    timeout: Option<Value>,
}

impl From<OptsFields> for Opts {
    fn from(fields: OptsFields) -> Self {
        let flags = fields.flags.unwrap_or_default();
        let timeout = flags.timeout.and_then(|timeout| timeout.as_f64());
        Opts {
            rooms: names(fields.rooms.unwrap_or_default()),
            except: names(fields.except.unwrap_or_default()),
            volatile: matches!(flags.volatile, Some(Value::Bool(true))),
            timeout_ms: timeout.map(|timeout| timeout as u32), // saturates
        }
    }
}

/// Appends names as a JSON array.
pub(super) fn write_names(out: &mut Vec<u8>, names: &[Box<str>]) {
    out.push(b'[');
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(out, name);
    }
    out.push(b']');
}

/// Appends values that are JSON as a JSON array.
pub(super) fn write_values(out: &mut Vec<u8>, values: &[Box<str>]) {
    out.push(b'[');
    out.extend_from_slice(values.join(",").as_bytes());
    out.push(b']');
}

/// Appends options; `with_flags`: also how, not only whom.
pub(super) fn write_opts(out: &mut Vec<u8>, opts: &Opts, with_flags: bool) {
    out.extend_from_slice(b"{\"rooms\":");
    write_names(out, &opts.rooms);
    out.extend_from_slice(b",\"except\":");
    write_names(out, &opts.except);
    if with_flags {
        out.extend_from_slice(b",\"flags\":{");
        if opts.volatile {
            out.extend_from_slice(b"\"volatile\":true");
        }
        if let Some(timeout_ms) = opts.timeout_ms {
            out.extend_from_slice(if opts.volatile { b",\"timeout\":" } else { b"\"timeout\":" });
            write_u64(out, u64::from(timeout_ms));
        }
        out.push(b'}');
    }
    out.push(b'}');
}

/// Appends the packet of an event; without `namespace` it has none.
pub(super) fn write_event(out: &mut Vec<u8>, args: &str, namespace: Option<&str>) {
    out.extend_from_slice(b"{\"type\":2,\"data\":[");
    out.extend_from_slice(args.as_bytes());
    out.push(b']');
    if let Some(namespace) = namespace {
        out.extend_from_slice(b",\"nsp\":");
        write_string(out, namespace);
    }
    out.push(b'}');
}

/// Turns JSON into MessagePack.
pub(super) fn pack(json: &[u8], attachments: &[Box<[u8]>]) -> Result<Vec<u8>, Malformed> {
    let text = std::str::from_utf8(json).map_err(|_| Malformed::Json)?;
    let mut out = Vec::with_capacity(json.len());
    from_json(&mut out, text, attachments)?;
    Ok(out)
}

/// A socket's id, from its JSON object.
pub(super) fn id_of(socket: &str) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Socket {
        id: Box<str>,
    }
    serde_json::from_str::<Socket>(socket).ok().map(|socket| socket.id)
}
