//! Packets of the WebSocket transport and the open packet that begins a session.

use std::fmt;

use crate::json;

/// A packet's type, the first character of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketType {
    /// `0`: server to client, the session's parameters.
    Open,
    /// `1`: the sender closes the session.
    Close,
    /// `2`: server to client; from a client only as `2probe` during an upgrade.
    Ping,
    /// `3`: client to server, the answer to a ping.
    Pong,
    /// `4`: a message of the layer above.
    Message,
    /// `5`: client to server, ends an upgrade.
    Upgrade,
    /// `6`: nothing; frees a poll that is waiting.
    Noop,
}

/// A text that is no Engine.IO packet; the peer's fault, answered by closing the session with
/// reason `parse error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// No characters at all.
    Empty,
    /// The first character is not `0` to `6`.
    UnknownType,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecodeError::Empty => "empty packet",
            DecodeError::UnknownType => "unknown packet type",
        })
    }
}

impl std::error::Error for DecodeError {}

/// Splits one WebSocket text message into its type and its data, which may be empty.
///
/// Binary as `b` and base64 belongs to [polling](super::decode_payload) and is refused here.
pub fn decode_text(text: &str) -> Result<(PacketType, &str), DecodeError> {
    let packet_type = match text.as_bytes().first() {
        None => return Err(DecodeError::Empty),
        Some(b'0') => PacketType::Open,
        Some(b'1') => PacketType::Close,
        Some(b'2') => PacketType::Ping,
        Some(b'3') => PacketType::Pong,
        Some(b'4') => PacketType::Message,
        Some(b'5') => PacketType::Upgrade,
        Some(b'6') => PacketType::Noop,
        Some(_) => return Err(DecodeError::UnknownType),
    };
    Ok((packet_type, text.get(1..).unwrap_or_default()))
}

/// What the server answers a client's probe with, on the WebSocket it upgrades to.
pub const PROBE_ANSWER: &str = "3probe";
/// What the server answers a poll with that has to end though nothing is to be said.
pub const NOOP: &str = "6";
/// What the server ends a session with.
pub const CLOSE: &str = "1";

/// Whether the first text on a WebSocket is the probe of an upgrade, `2probe`.
pub fn is_probe(text: &str) -> bool {
    text == "2probe"
}

/// What the server tells a client when its session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenPacket<'a> {
    /// The session's secret id.
    pub sid: &'a str,
    /// Transports the client may upgrade to; empty when it is on WebSocket already.
    pub upgrades: &'a [&'a str],
    /// Time from a pong to the next ping.
    pub ping_interval_ms: u64,
    /// How long the server waits for a pong.
    pub ping_timeout_ms: u64,
    /// Longest message in bytes the server takes; clients cut their polling bodies by it.
    pub max_payload: usize,
}

/// Appends the open packet: `0` and a compact object of exactly the protocol's five keys, in the
/// reference server's order.
pub fn write_open(out: &mut Vec<u8>, open: &OpenPacket<'_>) {
    out.extend_from_slice(b"0{\"sid\":");
    json::write_string(out, open.sid);
    out.extend_from_slice(b",\"upgrades\":[");
    for (index, upgrade) in open.upgrades.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::write_string(out, upgrade);
    }
    out.extend_from_slice(b"],\"pingInterval\":");
    json::write_u64(out, open.ping_interval_ms);
    out.extend_from_slice(b",\"pingTimeout\":");
    json::write_u64(out, open.ping_timeout_ms);
    out.extend_from_slice(b",\"maxPayload\":");
    json::write_u64(out, open.max_payload as u64);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_packets() {
        assert_eq!(decode_text("0"), Ok((PacketType::Open, "")));
        assert_eq!(decode_text("1"), Ok((PacketType::Close, "")));
        assert_eq!(decode_text("2probe"), Ok((PacketType::Ping, "probe")));
        assert_eq!(decode_text("3"), Ok((PacketType::Pong, "")));
        assert_eq!(decode_text("4hé"), Ok((PacketType::Message, "hé")));
        assert_eq!(decode_text("5"), Ok((PacketType::Upgrade, "")));
        assert_eq!(decode_text("6"), Ok((PacketType::Noop, "")));
        assert_eq!(decode_text(""), Err(DecodeError::Empty));
        for text in ["7", "a", "bAQIDBA==", " 4", "\u{1e}", "é", "\0", "-1"] {
            assert_eq!(decode_text(text), Err(DecodeError::UnknownType), "{text:?}");
        }
    }

    #[test]
    fn packets_of_an_upgrade() {
        assert!(is_probe("2probe"));
        for text in ["2", "3probe", "2probe ", "2Probe", "2probes", ""] {
            assert!(!is_probe(text), "{text:?}");
        }
        assert_eq!(decode_text(PROBE_ANSWER), Ok((PacketType::Pong, "probe")));
        assert_eq!(decode_text(NOOP), Ok((PacketType::Noop, "")));
        assert_eq!(decode_text(CLOSE), Ok((PacketType::Close, "")));
    }

    #[test]
    fn open_packet_as_on_the_wire() {
        let mut open = OpenPacket {
            sid: "lv_VI97HAXpY6yYWAAAC",
            upgrades: &["websocket"],
            ping_interval_ms: 25000,
            ping_timeout_ms: 20000,
            max_payload: 1_000_000,
        };
        let mut out = Vec::new();
        write_open(&mut out, &open);
        let expected = concat!(
            r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"#,
            r#""pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        );
        assert_eq!(std::str::from_utf8(&out), Ok(expected));
        open.upgrades = &[];
        out.clear();
        write_open(&mut out, &open);
        assert!(String::from_utf8_lossy(&out).contains(r#","upgrades":[],"#));
    }
}
