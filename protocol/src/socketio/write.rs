//! Packets for sending, appended to a buffer of the caller's.
//!
//! Every function begins with the Engine.IO `4`, since packets always travel in a message. JSON
//! passed in is trusted to be valid; names and messages are escaped here.

use super::Kind;
use crate::json::{write_string, write_u64};

/// Appends a packet with `data` as its JSON, `""` for none.
///
/// `attachments` decides between an event and a binary event, an ack and a binary ack, whichever
/// of the two `kind` says; the binary messages themselves are the caller's to send right after.
pub fn write_packet(
    out: &mut Vec<u8>,
    kind: Kind,
    attachments: usize,
    namespace: &str,
    id: Option<u64>,
    data: &str,
) {
    write_head(out, kind, attachments, namespace, id);
    out.extend_from_slice(data.as_bytes());
}

/// Appends an event, `42["name",args]`. `args_json` is comma separated, `""` for none.
pub fn write_event(
    out: &mut Vec<u8>,
    attachments: usize,
    namespace: &str,
    id: Option<u64>,
    name: &str,
    args_json: &str,
) {
    write_head(out, Kind::Event, attachments, namespace, id);
    out.push(b'[');
    write_string(out, name);
    if !args_json.is_empty() {
        out.push(b',');
        out.extend_from_slice(args_json.as_bytes());
    }
    out.push(b']');
}

/// Appends the confirmation of a namespace, `40{"sid":"…"}`, with exactly that key; with a `pid`,
/// the private id of a session that can be recovered, `40{"sid":"…","pid":"…"}`.
pub fn write_connect(out: &mut Vec<u8>, namespace: &str, sid: &str, pid: Option<&str>) {
    write_head(out, Kind::Connect, 0, namespace, None);
    out.extend_from_slice(b"{\"sid\":");
    write_string(out, sid);
    if let Some(pid) = pid {
        out.extend_from_slice(b",\"pid\":");
        write_string(out, pid);
    }
    out.push(b'}');
}

/// Appends the end of a namespace, `41` or `41/ns,`.
pub fn write_disconnect(out: &mut Vec<u8>, namespace: &str) {
    write_head(out, Kind::Disconnect, 0, namespace, None);
}

/// Appends the refusal of a namespace, `44/ns,{"message":"…"}`, with a `data` key if there is
/// data. Always an object: some clients take nothing else.
pub fn write_connect_error(
    out: &mut Vec<u8>,
    namespace: &str,
    message: &str,
    data_json: Option<&str>,
) {
    write_head(out, Kind::ConnectError, 0, namespace, None);
    out.extend_from_slice(b"{\"message\":");
    write_string(out, message);
    if let Some(data) = data_json {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.as_bytes());
    }
    out.push(b'}');
}

/// Appends an ack, `43<id>[args]`. `args_json` is comma separated, `""` for none.
pub fn write_ack(out: &mut Vec<u8>, attachments: usize, namespace: &str, id: u64, args_json: &str) {
    write_head(out, Kind::Ack, attachments, namespace, Some(id));
    out.push(b'[');
    out.extend_from_slice(args_json.as_bytes());
    out.push(b']');
}

fn write_head(out: &mut Vec<u8>, kind: Kind, attachments: usize, namespace: &str, id: Option<u64>) {
    let kind = match (kind, attachments > 0) {
        (Kind::Event, true) => Kind::BinaryEvent,
        (Kind::BinaryEvent, false) => Kind::Event,
        (Kind::Ack, true) => Kind::BinaryAck,
        (Kind::BinaryAck, false) => Kind::Ack,
        (kind, _) => kind,
    };
    out.extend_from_slice(&[b'4', b'0' + kind as u8]);
    if kind.is_binary() {
        write_u64(out, attachments as u64);
        out.push(b'-');
    }
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = id {
        write_u64(out, id);
    }
}
