//! How a message is written in Redis, and how what comes back is read.
//!
//! A message's *record* is a line of JSON, readable by people and open to later fields; its binary
//! parts follow a zero byte, which JSON never contains. Position and id stand beside the record, in
//! the stream's entry and in the event's header, since the script alone knows the position.
//! Nothing that comes from Redis is trusted: what cannot be read is `None`.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use redis::Value;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::message::{Author, Draft, Message};

/// What tells one numbering of a room's messages from another: random, made by the script's caller.
pub(super) type Epoch = u64;

/// The greatest number the scripts can count to: Lua has no integers.
pub(super) const SEQ_MAX: u64 = 1 << 53;

/// An epoch that has not been before.
pub(super) fn random_epoch() -> Epoch {
    RandomState::new().hash_one(0).max(1)
}

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    at: u64,
    from: Writer,
    #[serde(rename = "clientId", default, skip_serializing_if = "Option::is_none")]
    client_id: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<usize>,
    #[serde(borrow, skip_serializing)]
    body: Option<&'a RawValue>,
}

#[derive(Serialize, Deserialize)]
struct Writer {
    id: Box<str>,
    user: Box<str>,
    name: Box<str>,
}

/// A message's record.
pub(super) fn record(at_ms: u64, draft: &Draft) -> Vec<u8> {
    let Author { id, user, name } = draft.from.clone();
    let parts = draft.attachments.iter().map(|part| part.len()).collect();
    let from = Writer { id, user, name };
    let client_id = draft.client_id.clone();
    let head = Head { at: at_ms, from, client_id, parts, body: None };
    let mut written = serde_json::to_vec(&head).unwrap_or_default();
    // The body is valid JSON already: to parse it here would be for nothing.
    written.pop();
    written.extend_from_slice(b",\"body\":");
    written.extend_from_slice(draft.body.as_bytes());
    written.push(b'}');
    if !draft.attachments.is_empty() {
        written.push(0);
        draft.attachments.iter().for_each(|part| written.extend_from_slice(part));
    }
    written
}

/// The message of a record.
pub(super) fn message(id: &str, seq: u64, record: &[u8]) -> Option<Message> {
    let end = record.iter().position(|byte| *byte == 0).unwrap_or(record.len());
    let head: Head<'_> = serde_json::from_slice(&record[..end]).ok()?;
    let mut rest = record.get(end + 1..).unwrap_or_default();
    let mut attachments = Vec::new();
    for length in head.parts {
        let (part, others) = rest.split_at_checked(length)?;
        attachments.push(part.into());
        rest = others;
    }
    let Writer { id: writer, user, name } = head.from;
    let from = Author { id: writer, user, name };
    let body = head.body?.get().into();
    let draft = Draft { from, body, attachments, client_id: head.client_id };
    rest.is_empty().then_some(Message { id: id.into(), seq, at_ms: head.at, draft })
}

/// Whether an id can stand in an event's header.
pub(super) fn is_plain(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id != "-" && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A message's event: `M1 <epoch> <seq> <µs since 1970> <id before> <id>`, a newline, the record.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Event<'a> {
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    /// When its host published it.
    pub(super) at_us: u64,
    /// The id of the message before; none at the beginning of an epoch.
    pub(super) prev: Option<&'a str>,
    pub(super) id: &'a str,
    pub(super) record: &'a [u8],
}

/// Reads an event that begins with `M`.
pub(super) fn event(payload: &[u8]) -> Option<Event<'_>> {
    let end = payload.iter().position(|byte| *byte == b'\n')?;
    let mut words = std::str::from_utf8(&payload[..end]).ok()?.split(' ');
    if words.next()? != "M1" {
        return None;
    }
    let epoch = u64::from_str_radix(words.next()?, 16).ok()?;
    let seq = words.next()?.parse().ok()?;
    let at_us = words.next()?.parse().ok()?;
    let prev = Some(words.next()?).filter(|id| *id != "-");
    let id = words.next()?;
    let record = &payload[end + 1..];
    let fits = words.next().is_none() && is_plain(id) && (1..=SEQ_MAX).contains(&seq);
    fits.then_some(Event { epoch, seq, at_us, prev, id, record })
}

/// Where a room's order stands in Redis.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Top {
    /// `None`: Redis knows nothing of the room.
    pub(super) epoch: Option<Epoch>,
    pub(super) seq: u64,
    /// The last message's; none at the beginning of an epoch.
    pub(super) id: Option<Box<str>>,
}

/// An entry of a room's stream.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) id: Box<str>,
    /// `None`: its record cannot be read.
    pub(super) message: Option<Arc<Message>>,
}

/// What a read of a room has found.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Found {
    pub(super) top: Top,
    /// By rising `seq`, not necessarily without gaps.
    pub(super) entries: Vec<Entry>,
}

/// Reads `[epoch, seq, id]`, as HMGET answers.
pub(super) fn top(values: &[Value]) -> Option<Top> {
    let [epoch, seq, id] = values else { return None };
    if matches!(epoch, Value::Nil) {
        return Some(Top::default());
    }
    let epoch = Some(u64::from_str_radix(text(epoch)?, 16).ok()?);
    let id = if matches!(id, Value::Nil) { "" } else { text(id)? };
    let id = Some(id).filter(|id| !id.is_empty() && *id != "-").map(Into::into);
    let seq = number(seq).filter(|seq| *seq <= SEQ_MAX)?;
    Some(Top { epoch, seq, id })
}

/// Reads the answer of the read script, `[epoch, seq, id, entries, settings]`, but the settings.
pub(super) fn found(value: &Value) -> Option<(Found, &Value)> {
    let Value::Array(values) = value else { return None };
    let [head @ .., entries, settings] = &values[..] else { return None };
    Some((Found { top: top(head)?, entries: self::entries(entries)? }, settings))
}

/// Reads a stream's entries, in either direction.
pub(super) fn entries(value: &Value) -> Option<Vec<Entry>> {
    let Value::Array(values) = value else { return None };
    let mut entries = values.iter().map(entry).collect::<Option<Vec<_>>>()?;
    if entries.first().map(|it| it.seq) > entries.last().map(|it| it.seq) {
        entries.reverse();
    }
    Some(entries)
}

fn entry(value: &Value) -> Option<Entry> {
    let Value::Array(pair) = value else { return None };
    let [position, Value::Array(fields)] = &pair[..] else { return None };
    let seq = text(position)?.strip_suffix("-0")?.parse().ok();
    let seq = seq.filter(|seq| (1..=SEQ_MAX).contains(seq))?;
    let field = |name: &str| {
        fields.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).map(|pair| &pair[1])
    };
    let id = text(field("i")?)?;
    let message = field("m").and_then(bytes).and_then(|record| message(id, seq, record));
    Some(Entry { seq, id: id.into(), message: message.map(Arc::new) })
}

pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

pub(super) fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(bytes(value)?).ok()
}

/// A number, as such or in decimal digits.
pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => text(value)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draft(body: &str, parts: &[Vec<u8>], client_id: Option<&str>) -> Draft {
        let from = Author { id: "s1".into(), user: "ü\"".into(), name: "A\nB".into() };
        let attachments = parts.iter().map(|part| part.clone().into_boxed_slice()).collect();
        Draft { from, body: body.into(), attachments, client_id: client_id.map(Into::into) }
    }

    proptest! {
        #[test]
        fn a_record_comes_back(
            text in ".*",
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
            client_id in prop::option::of(".{0,20}"),
            at_ms: u64,
        ) {
            let body = serde_json::to_string(&vec![text]).unwrap_or_default();
            let draft = draft(&body, &parts, client_id.as_deref());
            let read = message("m1", 7, &record(at_ms, &draft));
            prop_assert_eq!(read, Some(Message { id: "m1".into(), seq: 7, at_ms, draft }));
        }

        #[test]
        fn nothing_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let _ = message("m", 1, &bytes);
            let _ = event(&bytes);
            let mut headed = b"M1 ".to_vec();
            headed.extend(bytes);
            let _ = event(&headed);
        }
    }

    #[test]
    fn an_event_is_read() {
        let payload = b"M1 00000000000000ff 12 34 - x1\nrest";
        let read = event(payload).expect("an event");
        let expected =
            Event { epoch: 255, seq: 12, at_us: 34, prev: None, id: "x1", record: b"rest" };
        assert_eq!(read, expected);
        assert_eq!(event(b"M2 ff 12 34 - x1\nrest"), None, "of another version");
        assert_eq!(event(b"M1 ff 0 34 - x1\nrest"), None, "numbers begin with 1");
        assert_eq!(event(b"M1 ff 1 34 - x1"), None, "no record");
    }

    #[test]
    fn no_number_is_read_that_could_not_be_given() {
        let text = |text: &str| Value::BulkString(text.into());
        let top_of = |seq: &str| top(&[text("ff"), text(seq), Value::Nil]).map(|top| top.seq);
        assert_eq!(top_of("9007199254740992"), Some(SEQ_MAX));
        assert_eq!(top_of("9007199254740993"), None);
        assert_eq!(top_of("18446744073709551615"), None);
        let seq_of = |place: &str| {
            let fields = Value::Array(vec![text("i"), text("m1")]);
            entry(&Value::Array(vec![text(place), fields])).map(|entry| entry.seq)
        };
        assert_eq!(seq_of("1-0"), Some(1));
        assert_eq!(seq_of("0-0"), None);
        assert_eq!(seq_of("18446744073709551615-0"), None);
    }
}
