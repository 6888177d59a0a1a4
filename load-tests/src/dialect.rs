//! What is said in each protocol, and how what is heard is told apart.
//!
//! Payloads only; frames are the worker's. Answers carry one-digit ids, so that they can be told
//! apart without looking further.

use std::fmt::Write as _;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use throng_protocol::ws::{Opcode, write_masked_frame};

/// The id of a join's answer.
pub const JOIN: u8 = 1;
/// The id of a message's answer.
pub const MESSAGE: u8 = 2;
/// The id of a leave's answer.
pub const LEAVE: u8 = 3;

/// Any key does: what counts is that the server has to unmask. Fixed, so that runs are alike.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x96, 0x3c];

/// How the server is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Protocol {
    /// Socket.IO over WebSocket.
    Socketio,
    /// Throng's JSON on `/ws`.
    Ws,
    /// Bare WebSocket messages, the room in the path; or a server that echoes them.
    Plain,
}

/// What a server says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard<'a> {
    /// The Engine.IO session is open.
    Opened,
    /// The namespace is joined.
    Connected,
    /// A refusal, or an end.
    Refused,
    /// An Engine.IO ping.
    Ping,
    /// The answer to the request of this id.
    Answer(u8, &'a str),
    /// A message of a room.
    Message(&'a str),
    /// Presence of a room.
    Presence,
    /// Somebody types.
    Typing,
    /// Something else.
    Other,
}

/// The words of one protocol to one server.
#[derive(Clone, Debug)]
pub struct Dialect {
    /// The protocol.
    pub protocol: Protocol,
    /// The `Host` header.
    pub host: String,
    /// The request's path; `{room}` stands for the room's name.
    pub path: String,
}

impl Dialect {
    /// The path where none is given.
    pub fn default_path(protocol: Protocol) -> &'static str {
        match protocol {
            Protocol::Socketio => "/socket.io/?EIO=4&transport=websocket",
            Protocol::Ws => "/ws",
            Protocol::Plain => "/echo",
        }
    }

    /// A room's name.
    pub fn room_name(room: u32) -> String {
        format!("r{room}")
    }

    /// The upgrade request.
    pub fn request(&self, room: u32) -> Vec<u8> {
        let path = self.path.replace("{room}", &Self::room_name(room));
        let subprotocol = match self.protocol {
            Protocol::Ws => "Sec-WebSocket-Protocol: throng.json.v1\r\n",
            _ => "",
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             {subprotocol}\r\n",
            self.host
        )
        .into_bytes()
    }

    /// Names the client, once the transport is open.
    pub fn connect(&self, name: &str) -> String {
        match self.protocol {
            Protocol::Socketio => format!(r#"40{{"username":"{name}"}}"#),
            _ => format!(r#"{{"event":"connect","data":{{"username":"{name}"}}}}"#),
        }
    }

    /// Joins a room, telling the last message seen where there is one.
    pub fn join(&self, room: u32, since: Option<u32>, presence: bool) -> String {
        let mut data = format!(r#"{{"room":"r{room}""#);
        if let Some(since) = since {
            let _ = write!(data, r#","since":{since}"#);
        }
        data.push_str(if presence { "}" } else { r#","presence":false}"# });
        self.event("join", Some(JOIN), &data)
    }

    /// Leaves a room.
    pub fn leave(&self, room: u32) -> String {
        self.event("leave", Some(LEAVE), &format!(r#"{{"room":"r{room}"}}"#))
    }

    /// Says that the client types, or no longer.
    pub fn typing(&self, room: u32, typing: bool) -> String {
        self.event("typing", None, &format!(r#"{{"room":"r{room}","typing":{typing}}}"#))
    }

    /// A message to a room, with an answer if wanted.
    pub fn message(&self, room: u32, body: &str, answer: bool) -> String {
        if self.protocol == Protocol::Plain {
            return body.to_owned();
        }
        let data = format!(r#"{{"room":"r{room}","body":"{body}"}}"#);
        self.event("message", answer.then_some(MESSAGE), &data)
    }

    fn event(&self, name: &str, id: Option<u8>, data: &str) -> String {
        match (self.protocol, id) {
            (Protocol::Socketio, Some(id)) => format!(r#"42{id}["{name}",{data}]"#),
            (Protocol::Socketio, None) => format!(r#"42["{name}",{data}]"#),
            (_, Some(id)) => format!(r#"{{"id":{id},"event":"{name}","data":{data}}}"#),
            (_, None) => format!(r#"{{"event":"{name}","data":{data}}}"#),
        }
    }

    /// Tells what a text message is.
    pub fn hear<'a>(&self, text: &'a str) -> Heard<'a> {
        match self.protocol {
            Protocol::Socketio => hear_socket_io(text),
            Protocol::Ws => hear_json(text),
            Protocol::Plain => Heard::Message(text),
        }
    }
}

fn hear_socket_io(text: &str) -> Heard<'_> {
    match text.as_bytes() {
        [b'4', b'2', rest @ ..] => match rest.get(2) {
            Some(b'm') if rest.starts_with(br#"["message""#) => Heard::Message(text),
            Some(b'p') if rest.starts_with(br#"["presence""#) => Heard::Presence,
            Some(b't') if rest.starts_with(br#"["typing""#) => Heard::Typing,
            _ => Heard::Other,
        },
        [b'2'] => Heard::Ping,
        [b'4', b'3', id @ b'0'..=b'9', b'[', ..] => Heard::Answer(id - b'0', &text[3..]),
        [b'0', ..] => Heard::Opened,
        [b'4', b'0', ..] => Heard::Connected,
        [b'4', b'1' | b'4', ..] => Heard::Refused,
        _ => Heard::Other,
    }
}

fn hear_json(text: &str) -> Heard<'_> {
    if let Some(rest) = text.strip_prefix(r#"{"event":""#) {
        return match rest.split_once('"').map_or(rest, |(name, _)| name) {
            "message" => Heard::Message(text),
            "presence" => Heard::Presence,
            "typing" => Heard::Typing,
            "connect" => Heard::Connected,
            "connect_error" | "disconnect" => Heard::Refused,
            _ => Heard::Other,
        };
    }
    match text.as_bytes() {
        [b'{', b'"', b'i', b'd', b'"', b':', id @ b'0'..=b'9', ..] => {
            Heard::Answer(id - b'0', text)
        }
        _ => Heard::Other,
    }
}

/// A text message as a client sends it.
pub fn text_frame(payload: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    write_masked_frame(&mut frame, Opcode::Text, MASK, payload.as_bytes());
    frame
}

/// A pong to a WebSocket ping.
pub fn pong_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_masked_frame(&mut frame, Opcode::Pong, MASK, payload);
    frame
}

/// The number behind `"key":` in a text, its last occurrence.
pub fn last_number(text: &str, key: &str) -> Option<u32> {
    let at = memchr::memmem::rfind(text.as_bytes(), key.as_bytes())? + key.len();
    number_at(&text.as_bytes()[at..])
}

/// The number behind `"seq":` before a message's body.
pub fn seq_before(text: &[u8]) -> Option<u32> {
    const KEY: &[u8] = br#""seq":"#;
    // Made once: it is looked for in every message.
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KEY));
    let at = FINDER.find(text)? + KEY.len();
    number_at(&text[at..])
}

fn number_at(digits: &[u8]) -> Option<u32> {
    let end = digits.iter().take_while(|digit| digit.is_ascii_digit()).count();
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(protocol: Protocol) -> Dialect {
        let path = Dialect::default_path(protocol).into();
        Dialect { protocol, host: "h".into(), path }
    }

    #[test]
    fn what_socket_io_says_is_told_apart() {
        let io = dialect(Protocol::Socketio);
        for (text, heard) in [
            ("2", Heard::Ping),
            (r#"0{"sid":"x"}"#, Heard::Opened),
            (r#"40{"sid":"x"}"#, Heard::Connected),
            (r#"44{"message":"no"}"#, Heard::Refused),
            ("41", Heard::Refused),
            (r#"431[{"ok":true}]"#, Heard::Answer(JOIN, r#"[{"ok":true}]"#)),
            (r#"42["message",{}]"#, Heard::Message(r#"42["message",{}]"#)),
            (r#"42["presence",{}]"#, Heard::Presence),
            (r#"42["typing",{}]"#, Heard::Typing),
            (r#"42["mess"]"#, Heard::Other),
            ("42", Heard::Other),
        ] {
            assert_eq!(io.hear(text), heard, "{text}");
        }
        assert_eq!(
            io.join(7, Some(3), false),
            r#"421["join",{"room":"r7","since":3,"presence":false}]"#
        );
    }

    #[test]
    fn what_json_says_is_told_apart() {
        let ws = dialect(Protocol::Ws);
        let answer = r#"{"id":2,"event":"ack","data":{"ok":true}}"#;
        for (text, heard) in [
            (r#"{"event":"connect","data":{"sid":"x"}}"#, Heard::Connected),
            (r#"{"event":"connect_error"}"#, Heard::Refused),
            (answer, Heard::Answer(MESSAGE, answer)),
            (r#"{"event":"message"}"#, Heard::Message(r#"{"event":"message"}"#)),
            ("nonsense", Heard::Other),
        ] {
            assert_eq!(ws.hear(text), heard, "{text}");
        }
        assert_eq!(
            ws.message(1, "hi", false),
            r#"{"event":"message","data":{"room":"r1","body":"hi"}}"#
        );
    }

    #[test]
    fn numbers_are_found() {
        assert_eq!(last_number(r#"{"lastSeq":12,"messages":[]}"#, r#""lastSeq":"#), Some(12));
        assert_eq!(seq_before(br#"42["message",{"room":"r","seq":9,"#), Some(9));
        assert_eq!(seq_before(br#"42["message",{"room":"r""#), None);
    }

    #[test]
    fn a_plain_request_names_its_room_in_the_path() {
        let plain = Dialect { path: "/pub/{room}?x".into(), ..dialect(Protocol::Plain) };
        let request = String::from_utf8(plain.request(12)).expect("text");
        assert!(
            request.starts_with("GET /pub/r12?x HTTP/1.1\r\n") && request.ends_with("\r\n\r\n")
        );
    }
}
