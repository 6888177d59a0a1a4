//! What is said to clients: packets, and the words each connection understands them in.
//!
//! A packet is written once, where it arises. The shard that delivers it puts it into the dialect
//! of each connection, once per dialect, however many connections share the result.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use throng_protocol::engineio::{OpenPacket, write_open};
use throng_protocol::json::write_string;
use throng_protocol::socketio::{self, Kind};
use throng_protocol::ws::{Deflater, Opcode, frame_header_len, write_close, write_frame};
use throng_ring::Frame;

/// The main namespace.
pub const MAIN: &str = "/";

/// How a connection wants its packets: as what, and how small a window it decompresses with.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Dialect(u8);

/// A dialect's bit for JSON instead of Socket.IO.
const JSON: u8 = 1 << 7;
/// Its bit for binary messages as text; the others are the window's bits.
const BASE64: u8 = 1 << 6;

impl Dialect {
    /// A dialect; `window_bits` are 8 to 15 where messages may be compressed.
    pub fn new(json: bool, window_bits: Option<u8>) -> Self {
        Self(window_bits.unwrap_or(0) | if json { JSON } else { 0 })
    }

    /// The same for a client that cannot take binary messages.
    #[must_use]
    pub fn without_binary(self) -> Self {
        Self(self.0 | BASE64)
    }

    /// The same without compression.
    fn plain(self) -> Self {
        Self(self.0 & (JSON | BASE64))
    }

    fn window_bits(self) -> u8 {
        self.0 & !(JSON | BASE64)
    }

    /// Whether it is JSON without Socket.IO.
    pub fn is_json(self) -> bool {
        self.0 & JSON != 0
    }

    /// Whether messages may be compressed at all.
    pub fn is_compressed(self) -> bool {
        self.window_bits() != 0
    }

    /// Whether a message of this size may be: distances must fit the peer's window, and those of a
    /// message no longer than the window do.
    fn compresses(self, payload_bytes: usize) -> bool {
        self.is_compressed() && payload_bytes <= 1 << self.window_bits()
    }
}

/// What a packet is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    /// An event; where its arguments begin in the body.
    Event(u32),
    /// The answer to a client's event.
    Ack(u64),
}

/// An event or an answer, in no connection's words yet.
#[derive(Clone, Debug)]
pub struct Packet {
    what: What,
    /// A JSON array: the event's name and its arguments, or the answer's arguments.
    body: Box<str>,
    attachments: Box<[Box<[u8]>]>,
}

/// Whom a packet is for, beside what it says.
#[derive(Clone, Copy, Default, Debug)]
pub struct Heading<'a> {
    /// The namespace, with its slash.
    pub namespace: &'a str,
    /// The receiver shall answer an event under this id.
    pub ack: Option<u64>,
    /// The event's place in what can be recovered.
    pub offset: Option<&'a str>,
}

impl Packet {
    /// An event; `args` is its arguments' JSON, separated by commas.
    pub fn event(name: &str, args: &str) -> Self {
        Self::event_with(name, args, &[])
    }

    /// An event with binary parts, which placeholders in `args` refer to.
    pub fn event_with(name: &str, args: &str, attachments: &[Box<[u8]>]) -> Self {
        let mut head = Vec::with_capacity(name.len() + args.len() + 5);
        head.push(b'[');
        write_string(&mut head, name);
        if !args.is_empty() {
            head.push(b',');
        }
        let what = What::Event(head.len() as u32);
        Self { what, body: closed(head, args), attachments: attachments.into() }
    }

    /// The answer to a client's event.
    pub fn ack(id: u64, args: &str) -> Self {
        Self::ack_with(id, args, &[])
    }

    /// The same with binary parts.
    pub fn ack_with(id: u64, args: &str, attachments: &[Box<[u8]>]) -> Self {
        let mut head = Vec::with_capacity(args.len() + 2);
        head.push(b'[');
        Self { what: What::Ack(id), body: closed(head, args), attachments: attachments.into() }
    }

    /// An event from its name and arguments, as [`Packet::event_text`] gives them; `None` if that
    /// is not what they are.
    pub fn from_event_text(text: &str, attachments: &[Box<[u8]>]) -> Option<Self> {
        let array = format!("[{text}]");
        serde_json::from_str::<&RawValue>(&array).ok()?;
        let event = socketio::Event::parse(&array).ok()?;
        Some(Self::event_with(&event.name, event.args, attachments))
    }

    /// An event's name and arguments: JSON, separated by commas.
    pub fn event_text(&self) -> &str {
        &self.body[1..self.body.len() - 1]
    }

    /// Its binary parts.
    pub fn attachments(&self) -> &[Box<[u8]>] {
        &self.attachments
    }

    /// Whether it is an event, which can be recovered.
    pub fn is_event(&self) -> bool {
        matches!(self.what, What::Event(_))
    }

    /// Bytes it holds.
    pub fn held_bytes(&self) -> usize {
        let parts = self.attachments.iter().map(|part| part.len() + size_of::<Box<[u8]>>());
        size_of::<Self>() + self.body.len() + parts.sum::<usize>()
    }

    fn id(&self, to: &Heading<'_>) -> Option<u64> {
        match self.what {
            What::Event(_) => to.ack,
            What::Ack(id) => Some(id),
        }
    }

    fn write_socket_io(&self, out: &mut Vec<u8>, to: &Heading<'_>) {
        let kind = if self.is_event() { Kind::Event } else { Kind::Ack };
        let parts = self.attachments.len();
        socketio::write_packet(out, kind, parts, to.namespace, self.id(to), &self.body);
        if let (What::Event(_), Some(offset)) = (self.what, to.offset) {
            out.pop();
            out.push(b',');
            write_string(out, offset);
            out.push(b']');
        }
    }

    /// `{"id","event","data"}`; several arguments as `args`, binary parts as `attachments` in
    /// base64.
    fn write_json(&self, out: &mut Vec<u8>, to: &Heading<'_>) {
        let body = &self.body[..];
        let (name, start) = match self.what {
            What::Event(start) => (body[1..start as usize].trim_end_matches(','), start as usize),
            What::Ack(_) => ("\"ack\"", 1),
        };
        out.push(b'{');
        if let Some(id) = self.id(to) {
            out.extend_from_slice(format!("\"id\":{id},").as_bytes());
        }
        out.extend_from_slice(b"\"event\":");
        out.extend_from_slice(name.as_bytes());
        let args = format!("[{}", body.get(start..).unwrap_or("]"));
        match serde_json::from_str::<Vec<&RawValue>>(&args).as_deref() {
            Ok([]) | Err(_) => {}
            Ok([only]) => {
                out.extend_from_slice(b",\"data\":");
                out.extend_from_slice(only.get().as_bytes());
            }
            Ok(_) => {
                out.extend_from_slice(b",\"args\":");
                out.extend_from_slice(args.as_bytes());
            }
        }
        for (index, part) in self.attachments.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b",\"attachments\":[\"" } else { b",\"" });
            out.extend_from_slice(STANDARD.encode(part).as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(if self.attachments.is_empty() { b"}" } else { b"]}" });
    }

    /// The longest of its WebSocket messages, of which `text` is one.
    fn longest_bytes(&self, text: &[u8]) -> usize {
        self.attachments.iter().map(|part| part.len()).fold(text.len(), usize::max)
    }
}

/// `args` and the array's end after what is there.
fn closed(head: Vec<u8>, args: &str) -> Box<str> {
    // Names are strings, and JSON escapes keep them so.
    let mut body = String::from_utf8(head).unwrap_or_default();
    body.push_str(args);
    body.push(']');
    body.into_boxed_str()
}

/// Puts packets into words; one per shard.
pub struct Encoder {
    text: Vec<u8>,
    /// Made when first needed: 370 KiB.
    deflater: Option<Box<Deflater>>,
    /// Shorter messages are not worth compressing, in bytes.
    compress_from: usize,
}

/// A packet's frames: made when first asked for, then shared.
#[derive(Default)]
pub struct Frames {
    /// Plain and compressed, of Socket.IO, the same without binary messages, JSON.
    made: [[Option<Frame>; 2]; 3],
    /// The longest message of each.
    longest_bytes: [Option<usize>; 3],
}

impl Encoder {
    /// One that leaves messages below `compress_from` bytes uncompressed.
    pub fn new(compress_from: usize) -> Self {
        Self { text: Vec::new(), deflater: None, compress_from }
    }

    /// The packet's frames for a connection, which others of its dialect share through `made`.
    pub fn shared(
        &mut self,
        made: &mut Frames,
        (packet, to): (&Packet, &Heading<'_>),
        dialect: Dialect,
    ) -> Frame {
        let language = usize::from(dialect.0 >> 6).min(2);
        let compresses = dialect.is_compressed() && {
            let longest = *made.longest_bytes[language].get_or_insert_with(|| {
                self.write_text(packet, to, dialect);
                let longest = packet.longest_bytes(&self.text);
                // In base64 binary parts are longer by a third.
                if dialect.0 & BASE64 != 0 { longest.div_ceil(3) * 4 + 1 } else { longest }
            });
            longest >= self.compress_from && dialect.compresses(longest)
        };
        let dialect = if compresses { dialect } else { dialect.plain() };
        let place = &mut made.made[language][usize::from(compresses)];
        place.get_or_insert_with(|| self.frame(packet, to, dialect)).clone()
    }

    /// The packet's frames for one connection.
    pub fn frame(&mut self, packet: &Packet, to: &Heading<'_>, dialect: Dialect) -> Frame {
        self.write_text(packet, to, dialect);
        let text = std::mem::take(&mut self.text);
        // JSON carries binary parts in its text.
        let parts: &[_] = if dialect.is_json() { &[] } else { &packet.attachments };
        let size = |len: usize| frame_header_len(len) + len;
        let total = size(text.len()) + parts.iter().map(|part| size(part.len())).sum::<usize>();
        let mut out = Vec::with_capacity(total);
        self.write_message(&mut out, Opcode::Text, &text, dialect);
        for part in parts {
            self.write_message(&mut out, Opcode::Binary, part, dialect);
        }
        self.text = text;
        Frame::from(out)
    }

    /// A message of an application's own protocol.
    pub fn message(&mut self, opcode: Opcode, payload: &[u8], dialect: Dialect) -> Frame {
        let mut out = Vec::with_capacity(frame_header_len(payload.len()) + payload.len());
        self.write_message(&mut out, opcode, payload, dialect);
        Frame::from(out)
    }

    fn write_text(&mut self, packet: &Packet, to: &Heading<'_>, dialect: Dialect) {
        self.text.clear();
        if dialect.is_json() {
            packet.write_json(&mut self.text, to);
        } else {
            packet.write_socket_io(&mut self.text, to);
        }
    }

    fn write_message(
        &mut self,
        out: &mut Vec<u8>,
        opcode: Opcode,
        payload: &[u8],
        dialect: Dialect,
    ) {
        if opcode == Opcode::Binary && dialect.0 & BASE64 != 0 {
            let text = format!("b{}", STANDARD.encode(payload));
            return self.write_message(out, Opcode::Text, text.as_bytes(), dialect);
        }
        let worth = payload.len() >= self.compress_from && dialect.compresses(payload.len());
        let mut deflate = || {
            let deflater = self.deflater.get_or_insert_with(Box::default);
            deflater.write_compressed(out, opcode, payload)
        };
        if !worth || !deflate() {
            write_frame(out, opcode, payload);
        }
    }
}

/// A WebSocket text message.
pub fn text_frame(text: &[u8]) -> Frame {
    let mut out = Vec::with_capacity(frame_header_len(text.len()) + text.len());
    write_frame(&mut out, Opcode::Text, text);
    Frame::from(out)
}

/// A ping of WebSocket's own, for connections without Engine.IO.
pub fn ws_ping_frame() -> Frame {
    control_frame(Opcode::Ping, &[])
}

/// A pong with the ping's payload.
pub fn pong_frame(payload: &[u8]) -> Frame {
    control_frame(Opcode::Pong, payload)
}

fn control_frame(opcode: Opcode, payload: &[u8]) -> Frame {
    let mut out = Vec::new();
    write_frame(&mut out, opcode, payload);
    Frame::from(out)
}

/// A close frame; without a code the peer sees 1005.
pub fn close_frame(code: Option<u16>) -> Frame {
    let mut out = Vec::new();
    write_close(&mut out, code, "");
    Frame::from(out)
}

/// The answer to CONNECT.
pub fn connect_frame(namespace: &str, sid: &str, pid: Option<&str>, dialect: Dialect) -> Frame {
    let mut text = Vec::with_capacity(96);
    if dialect.is_json() {
        text.extend_from_slice(b"{\"event\":\"connect\",\"data\":{\"sid\":");
        write_string(&mut text, sid);
        text.extend_from_slice(b"}}");
    } else {
        socketio::write_connect(&mut text, namespace, sid, pid);
    }
    text_frame(&text)
}

/// The refusal of CONNECT; `data` is JSON.
pub fn connect_error_frame(
    namespace: &str,
    message: &str,
    data: Option<&str>,
    dialect: Dialect,
) -> Frame {
    let mut text = Vec::new();
    if dialect.is_json() {
        text.extend_from_slice(b"{\"event\":\"connect_error\",\"data\":{\"message\":");
        write_string(&mut text, message);
        if let Some(data) = data {
            text.extend_from_slice(b",\"data\":");
            text.extend_from_slice(data.as_bytes());
        }
        text.extend_from_slice(b"}}");
    } else {
        socketio::write_connect_error(&mut text, namespace, message, data);
    }
    text_frame(&text)
}

/// The end of a socket, told to its client.
pub fn disconnect_frame(namespace: &str, dialect: Dialect) -> Frame {
    let mut text = Vec::new();
    if dialect.is_json() {
        text.extend_from_slice(b"{\"event\":\"disconnect\"}");
    } else {
        socketio::write_disconnect(&mut text, namespace);
    }
    text_frame(&text)
}

/// Something a JSON client sent that is no request.
pub fn json_error_frame(message: &str) -> Frame {
    let mut text = b"{\"event\":\"error\",\"data\":{\"code\":\"invalid\",\"message\":".to_vec();
    write_string(&mut text, message);
    text.extend_from_slice(b"}}");
    text_frame(&text)
}

/// Engine.IO ping.
pub fn ping_frame() -> Frame {
    text_frame(b"2")
}

/// Engine.IO OPEN's text; on polling the session may be upgraded.
pub fn open_text(
    sid: &str,
    upgrades: &[&str],
    (ping_interval_ms, ping_timeout_ms): (u64, u64),
    max_payload: usize,
) -> Vec<u8> {
    let mut text = Vec::new();
    let open = OpenPacket { sid, upgrades, ping_interval_ms, ping_timeout_ms, max_payload };
    write_open(&mut text, &open);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(frame: &Frame) -> String {
        // Short frames have a header of two bytes.
        String::from_utf8_lossy(&frame[2..]).into_owned()
    }

    fn words(packet: &Packet, to: &Heading<'_>) -> (String, String) {
        let mut encoder = Encoder::new(1024);
        let socket_io = encoder.frame(packet, to, Dialect::new(false, None));
        let json = encoder.frame(packet, to, Dialect::new(true, None));
        (payload(&socket_io), payload(&json))
    }

    #[test]
    fn a_packet_in_every_dialect() {
        let to = Heading { namespace: "/", ..Heading::default() };
        let in_chat = Heading { namespace: "/chat", ack: Some(7), offset: Some("k1") };
        for (packet, to, socket_io, json) in [
            (Packet::event("hi", ""), to, r#"42["hi"]"#, r#"{"event":"hi"}"#),
            (
                Packet::event("hi", r#"{"a":[1,2]}"#),
                to,
                r#"42["hi",{"a":[1,2]}]"#,
                r#"{"event":"hi","data":{"a":[1,2]}}"#,
            ),
            (
                Packet::event("a\"b", "1,\"x]\""),
                in_chat,
                r#"42/chat,7["a\"b",1,"x]","k1"]"#,
                r#"{"id":7,"event":"a\"b","args":[1,"x]"]}"#,
            ),
            (Packet::ack(3, ""), to, "433[]", r#"{"id":3,"event":"ack"}"#),
            (
                Packet::ack(3, r#"{"ok":true}"#),
                in_chat,
                r#"43/chat,3[{"ok":true}]"#,
                r#"{"id":3,"event":"ack","data":{"ok":true}}"#,
            ),
        ] {
            assert_eq!(words(&packet, &to), (socket_io.into(), json.into()));
        }
    }

    #[test]
    fn json_carries_binary_in_base64() {
        let part: Box<[u8]> = Box::new([1, 2, 3, 4]);
        let packet = Packet::event_with("b", r#"{"_placeholder":true,"num":0}"#, &[part]);
        let to = Heading { namespace: "/", ..Heading::default() };
        let (_, json) = words(&packet, &to);
        assert!(json.ends_with(r#","attachments":["AQIDBA=="]}"#), "{json}");
    }

    #[test]
    fn frames_are_shared_within_a_dialect_and_small_windows_stay_plain() {
        let packet = Packet::event("x", &format!("\"{}\"", "a".repeat(2000)));
        let to = Heading { namespace: "/", ..Heading::default() };
        let mut encoder = Encoder::new(1024);
        let mut made = Frames::default();
        let mut len =
            |bits| encoder.shared(&mut made, (&packet, &to), Dialect::new(false, bits)).len();
        let plain = len(None);
        assert!(len(Some(15)) < plain / 10, "compressed");
        assert_eq!(len(Some(9)), plain, "a window of 512 bytes");
        assert!(made.made[2].iter().all(Option::is_none), "nobody speaks JSON");
    }
}
