//! Reading requests and writing events, without a tree in between.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use throng_protocol::socketio::check_placeholders;

use super::error::Error;
use crate::app::{Event, is_room_name};

/// Writes a JSON string.
pub(super) fn push_string(out: &mut String, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        // A string always serialises.
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}

/// Writes a number.
pub(super) fn push_number(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// Reads a request's one argument, an object.
pub(super) fn object<'a, T: Deserialize<'a>>(event: &Event<'a>) -> Result<T, Error> {
    let bytes = event.args.as_bytes();
    if bytes.first() != Some(&b'{') {
        return Err(Error::Invalid("one object is expected"));
    }
    // What follows the first argument is not looked at.
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<T>();
    match values.next() {
        Some(Ok(request)) => Ok(request),
        _ => Err(Error::Invalid("a key is missing or has the wrong type")),
    }
}

/// A bare room name, if the first argument is a string.
pub(super) fn bare_room<'a>(event: &Event<'a>) -> Option<Cow<'a, str>> {
    if !event.args.starts_with('"') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(event.args).into_iter::<Text<'_>>();
    values.next()?.ok().map(|text| text.0)
}

#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A room name that may be one.
pub(super) fn room_name(name: &str) -> Result<(), Error> {
    let told = "a room's name has 1 to 128 bytes and no control characters";
    if is_room_name(name) { Ok(()) } else { Err(Error::Invalid(told)) }
}

/// Refuses binary parts where they mean nothing.
pub(super) fn no_attachments(event: &Event<'_>) -> Result<(), Error> {
    let told = "binary is only taken in messages and signals";
    if event.attachments.is_empty() { Ok(()) } else { Err(Error::Invalid(told)) }
}

/// Refuses a payload that is larger than a message may be, its binary parts included.
pub(super) fn fits(event: &Event<'_>, json: &str, bytes_max: usize) -> Result<(), Error> {
    let binary: usize = event.attachments.iter().map(|part| part.len()).sum();
    if json.len() + binary > bytes_max { Err(Error::TooLarge) } else { Ok(()) }
}

/// Refuses placeholders that stand for none of the event's binary parts.
pub(super) fn placeholders(event: &Event<'_>, json: &str) -> Result<(), Error> {
    check_placeholders(json, event.attachments.len() as u32)
        .map_err(|_| Error::Invalid("_placeholder is reserved for binary"))
}

/// Reads a value that is there, `null` included.
pub(super) fn present<'de, D>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error>
where
    D: Deserializer<'de>,
{
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(args: &str) -> Event<'_> {
        Event { name: "x", args, attachments: &[], ack: None }
    }

    #[test]
    fn strings_are_escaped_where_they_must_be() {
        for text in ["", "plain", "quo\"te", "back\\slash", "line\nbreak", "ünïcode"] {
            let mut out = String::new();
            push_string(&mut out, text);
            assert_eq!(serde_json::from_str::<String>(&out).expect("JSON"), text);
        }
    }

    #[test]
    fn a_bare_room_name_may_be_followed_by_more() {
        assert_eq!(bare_room(&event(r#""lob\u0062y",1"#)).as_deref(), Some("lobby"));
        assert_eq!(bare_room(&event("{}")), None);
    }

    #[test]
    fn requests_are_objects() {
        #[derive(serde::Deserialize, Debug)]
        struct Probe {
            n: u64,
        }
        assert_eq!(object::<Probe>(&event(r#"{"n":1},2"#)).map(|it| it.n), Ok(1));
        for args in ["", "1", "[]", r#"{"n":"1"}"#, "{}", r#"{"n":1,"n":2}"#] {
            assert!(matches!(object::<Probe>(&event(args)), Err(Error::Invalid(_))), "{args}");
        }
    }
}
