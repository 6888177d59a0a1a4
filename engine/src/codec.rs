//! Whole frames for Socket.IO clients over WebSocket, built once and then only shared.

use throng_protocol::engineio::{OpenPacket, write_open};
use throng_protocol::socketio;
use throng_protocol::ws::{Opcode, frame_header_len, write_close, write_frame};

/// The only namespace so far.
pub const NAMESPACE: &str = "/";

/// A WebSocket text frame, and a binary frame per attachment.
pub fn message_frame(text: &[u8], attachments: &[Box<[u8]>]) -> Box<[u8]> {
    let size = |len: usize| frame_header_len(len) + len;
    let total = size(text.len()) + attachments.iter().map(|part| size(part.len())).sum::<usize>();
    let mut out = Vec::with_capacity(total);
    write_frame(&mut out, Opcode::Text, text);
    for part in attachments {
        write_frame(&mut out, Opcode::Binary, part);
    }
    out.into_boxed_slice()
}

/// A binary WebSocket frame.
pub fn binary_frame(bytes: &[u8]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(frame_header_len(bytes.len()) + bytes.len());
    write_frame(&mut out, Opcode::Binary, bytes);
    out.into_boxed_slice()
}

/// A pong with the ping's payload.
pub fn pong_frame(payload: &[u8]) -> Box<[u8]> {
    let mut out = Vec::new();
    write_frame(&mut out, Opcode::Pong, payload);
    out.into_boxed_slice()
}

/// A close frame; without a code the peer sees 1005.
pub fn close_frame(code: Option<u16>) -> Box<[u8]> {
    let mut out = Vec::new();
    write_close(&mut out, code, "");
    out.into_boxed_slice()
}

/// Socket.IO EVENT: `args` is the arguments' JSON, separated by commas.
pub fn event_frame(
    name: &str,
    args: &str,
    attachments: &[Box<[u8]>],
    ack: Option<u64>,
) -> Box<[u8]> {
    let mut text = Vec::with_capacity(name.len() + args.len() + 16);
    socketio::write_event(&mut text, attachments.len(), NAMESPACE, ack, name, args);
    message_frame(&text, attachments)
}

/// Socket.IO ACK.
pub fn ack_frame(id: u64, args: &str, attachments: &[Box<[u8]>]) -> Box<[u8]> {
    let mut text = Vec::with_capacity(args.len() + 32);
    socketio::write_ack(&mut text, attachments.len(), NAMESPACE, id, args);
    message_frame(&text, attachments)
}

/// Socket.IO CONNECT, the answer to a client's.
pub fn connect_frame(sid: &str) -> Box<[u8]> {
    let mut text = Vec::with_capacity(48);
    socketio::write_connect(&mut text, NAMESPACE, sid);
    message_frame(&text, &[])
}

/// Socket.IO CONNECT_ERROR; `data` is JSON.
pub fn connect_error_frame(namespace: &str, message: &str, data: Option<&str>) -> Box<[u8]> {
    let mut text = Vec::new();
    socketio::write_connect_error(&mut text, namespace, message, data);
    message_frame(&text, &[])
}

/// Socket.IO DISCONNECT.
pub fn disconnect_frame() -> Box<[u8]> {
    message_frame(b"41", &[])
}

/// Engine.IO ping.
pub fn ping_frame() -> Box<[u8]> {
    message_frame(b"2", &[])
}

/// Engine.IO OPEN of a session that began on WebSocket.
pub fn open_frame(
    sid: &str,
    ping_interval_ms: u64,
    ping_timeout_ms: u64,
    max_payload: usize,
) -> Box<[u8]> {
    let mut text = Vec::new();
    let open = OpenPacket { sid, upgrades: &[], ping_interval_ms, ping_timeout_ms, max_payload };
    write_open(&mut text, &open);
    message_frame(&text, &[])
}
