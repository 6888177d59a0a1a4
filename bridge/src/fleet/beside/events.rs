//! What hosts tell each other about a room, and what one tells another.
//!
//! All begin with a letter, but a [`tell`], and carry the sender's number as eight hexadecimal
//! digits. Senders hear themselves, and ignore it.

use crate::fleet::words::HostId;

/// Something about a room's members.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Event<'a> {
    /// A member came or changed: `E`, host, length of the id (four digits), id, member.
    Entered { id: &'a str, member: &'a str },
    /// A member is gone: `L`, host, id.
    Left { id: &'a str },
    /// Words: `S`, host, words.
    Said(&'a [u8]),
}

pub(super) fn entered(host: HostId, id: &str, member: &str) -> String {
    format!("E{host:08x}{:04x}{id}{member}", id.len())
}

/// Also made by `reap.lua`, for a host that is dead.
pub(super) fn left(host: HostId, id: &str) -> String {
    format!("L{host:08x}{id}")
}

pub(super) fn said(host: HostId, words: &[u8]) -> Vec<u8> {
    let mut payload = format!("S{host:08x}").into_bytes();
    payload.extend_from_slice(words);
    payload
}

/// Whose event it is, and what it says; `None`: it is none of these.
pub(super) fn read(payload: &[u8]) -> Option<(HostId, Event<'_>)> {
    let (letter, rest) = payload.split_first()?;
    let (host, rest) = number(rest, 8)?;
    let text = || std::str::from_utf8(rest).ok();
    let event = match letter {
        b'E' => {
            let (length, _) = number(rest, 4)?;
            let (id, member) = text()?.get(4..)?.split_at_checked(length as usize)?;
            Event::Entered { id, member }
        }
        b'L' => Event::Left { id: text()? },
        b'S' => Event::Said(rest),
        _ => return None,
    };
    Some((host, event))
}

/// Words to a host's shard: sender, shard (four digits), words.
pub(super) fn tell(from: HostId, shard: u16, words: &[u8]) -> Vec<u8> {
    let mut payload = format!("{from:08x}{shard:04x}").into_bytes();
    payload.extend_from_slice(words);
    payload
}

/// Who tells which shard what.
pub(super) fn read_tell(payload: &[u8]) -> Option<(HostId, u16, &[u8])> {
    let (from, rest) = number(payload, 8)?;
    let (shard, words) = number(rest, 4)?;
    Some((from, shard as u16, words))
}

fn number(bytes: &[u8], digits: usize) -> Option<(u32, &[u8])> {
    let (text, rest) = bytes.split_at_checked(digits)?;
    if !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    Some((u32::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()?, rest))
}

/// A member with its host, as Redis keeps it: `{"host":"0000002a",…`. The scripts find the host by
/// its place.
pub(super) fn with_host(host: HostId, member: &str) -> String {
    let rest = member.trim_start().strip_prefix('{').unwrap_or("}").trim_start();
    let comma = if rest.starts_with('}') { "" } else { "," };
    format!(r#"{{"host":"{host:08x}"{comma}{rest}"#)
}

/// The member without it.
pub(super) fn without_host(stored: &str) -> Option<String> {
    let rest = stored.strip_prefix(r#"{"host":""#)?.get(8..)?.strip_prefix('"')?;
    Some(format!("{{{}", rest.strip_prefix(',').unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read() {
        let ours = entered(0x2a, "sïd", r#"{"a":1}"#);
        let expected = Event::Entered { id: "sïd", member: r#"{"a":1}"# };
        assert_eq!(read(ours.as_bytes()), Some((0x2a, expected)));
        assert_eq!(read(left(7, "x").as_bytes()), Some((7, Event::Left { id: "x" })));
        assert_eq!(read(&said(7, &[0, 255])), Some((7, Event::Said(&[0, 255]))));
        assert_eq!(read_tell(&tell(9, 3, b"hi")), Some((9, 3, &b"hi"[..])));
    }

    #[test]
    fn nonsense_is_no_event() {
        let all: [&[u8]; 8] = [
            b"",
            b"E",
            b"Ezzzzzzzz",
            b"E+000000100",
            b"E00000001ffffx",
            b"M00000001",
            b"L0000000",
            b"E000000010001\xff\xff",
        ];
        for payload in all {
            assert_eq!(read(payload), None, "{payload:?}");
        }
        assert_eq!(read("E000000010001ä".as_bytes()), None, "in the middle of a letter");
        assert_eq!(read_tell(b"0000000100"), None);
    }

    #[test]
    fn a_member_is_given_back_as_it_came() {
        for member in [r#"{"a":1,"b":{"host":2}}"#, "{}"] {
            let stored = with_host(0x2a, member);
            assert_eq!(&stored[9..17], "0000002a");
            assert!(serde_json::from_str::<serde_json::Value>(&stored).is_ok(), "{stored}");
            assert_eq!(without_host(&stored).as_deref(), Some(member));
        }
        assert_eq!(without_host(r#"{"a":1}"#), None);
    }
}
