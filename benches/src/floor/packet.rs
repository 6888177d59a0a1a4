//! What the floor understands: the upgrade request and three Socket.IO packets, in the shape that
//! the load client sends.

use memchr::memmem;
use tungstenite::handshake::derive_accept_key;

/// A packet, borrowed from its frame. `ack` holds the digits of an acknowledgement id, or nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Connect,
    Join { ack: &'a [u8], room: &'a [u8] },
    Message { ack: &'a [u8], room: &'a [u8], json: &'a [u8] },
    Other,
}

const JOIN: &[u8] = br#"["join",{"room":""#;
const MESSAGE: &[u8] = br#"["message",{"room":""#;

/// Answers an upgrade request: its length and the response; `None` while the request is incomplete.
pub(super) fn upgrade(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let end = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let accept = derive_accept_key(key(&bytes[..end]).unwrap_or_default());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Some((end, answer.into_bytes()))
}

fn key(head: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"sec-websocket-key:";
    let mut lines = head.split(|&byte| byte == b'\n');
    let line = lines
        .find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    Some(line[NAME.len()..].trim_ascii())
}

/// Tells what a text frame asks for.
pub(super) fn parse(payload: &[u8]) -> Packet<'_> {
    match payload {
        [b'4', b'0', ..] => Packet::Connect,
        [b'4', b'2', rest @ ..] => event(rest),
        _ => Packet::Other,
    }
}

fn event(rest: &[u8]) -> Packet<'_> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (ack, json) = rest.split_at(digits);
    if let Some(tail) = json.strip_prefix(MESSAGE) {
        return Packet::Message { ack, room: quoted(tail), json };
    }
    match json.strip_prefix(JOIN) {
        Some(tail) => Packet::Join { ack, room: quoted(tail) },
        None => Packet::Other,
    }
}

fn quoted(tail: &[u8]) -> &[u8] {
    &tail[..memchr::memchr(b'"', tail).unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_apart() {
        assert_eq!(parse(br#"40{"username":"u1"}"#), Packet::Connect);
        assert_eq!(
            parse(br#"420["join",{"room":"r17","presence":false}]"#),
            Packet::Join { ack: b"0", room: b"r17" }
        );
        let json: &[u8] = br#"["message",{"room":"r1","body":"x"}]"#;
        let sent = [b"42", json].concat();
        assert_eq!(parse(&sent), Packet::Message { ack: b"", room: b"r1", json });
        assert_eq!(parse(b"3"), Packet::Other);
    }

    #[test]
    fn the_handshake_of_rfc_6455_section_1_3() {
        let request = b"GET / HTTP/1.1\r\nsec-webSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let (len, answer) = upgrade(request).expect("a whole request");
        assert_eq!(len, request.len());
        assert!(memmem::find(&answer, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").is_some());
    }
}
