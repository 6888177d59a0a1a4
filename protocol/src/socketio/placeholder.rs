//! Placeholders, `{"_placeholder":true,"num":<index>}`: where a packet's attachments belong.
//!
//! Clients take a placeholder with an index out of range as a reason to drop the connection, so
//! one that is relayed must be right for every client. What they read differently is refused:
//! a `_placeholder` that is neither `true`, `false` nor `null`, and a repeated key.

use std::fmt::Write;
use std::ops::Range;

use super::DecodeError;

/// Fails unless every placeholder in `json` points at one of `attachments` attachments; with 0
/// it fails on any placeholder.
///
/// `json` is a valid value, or several separated by commas. To be called again on text that was
/// changed after decoding: [`strip_control`](crate::json::strip_control) can turn another key
/// into `_placeholder`. Text that joins a binary packet without having been one has to pass with
/// 0, or it could point at somebody else's attachments.
pub fn check_placeholders(json: &str, attachments: u32) -> Result<(), DecodeError> {
    scan(json, |_, num| match num < attachments {
        true => Ok(()),
        false => Err(DecodeError::Placeholder),
    })
}

/// The same JSON with `offset` added to the index of every placeholder, for joining several
/// packets' data and attachments into one. `json` as in [`check_placeholders`].
///
/// Fails on an index that is none, or that does not fit 32 bits afterwards.
pub fn renumber_placeholders(json: &str, offset: u32) -> Result<String, DecodeError> {
    let mut edits = Vec::new();
    scan(json, |range, num| {
        edits.push((range, num.checked_add(offset).ok_or(DecodeError::Placeholder)?));
        Ok(())
    })?;
    // A placeholder inside another ends before it but may begin after its index.
    edits.sort_unstable_by_key(|(range, _)| range.start);
    let mut out = String::with_capacity(json.len() + edits.len());
    let mut copied = 0;
    for (range, num) in edits {
        out.push_str(json.get(copied..range.start).unwrap_or_default());
        // Writing to a `String` cannot fail.
        let _ = write!(out, "{num}");
        copied = range.end;
    }
    out.push_str(json.get(copied..).unwrap_or_default());
    Ok(out)
}

/// An array or object that has begun and not ended.
#[derive(Default)]
struct Open {
    is_object: bool,
    /// Which key the next value belongs to.
    key: Key,
    mark: Option<Mark>,
    num: Option<Range<usize>>,
    /// `_placeholder` or `num` came twice.
    repeated: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Key {
    /// An object's next string is a key.
    #[default]
    Awaited,
    Placeholder,
    Num,
    Other,
}

/// What `_placeholder` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Yes,
    No,
    Unclear,
}

impl Open {
    fn on_value(&mut self, json: &str, range: Range<usize>) {
        match self.key {
            Key::Placeholder => {
                let mark = match json.get(range).unwrap_or_default() {
                    "true" => Mark::Yes,
                    "false" | "null" => Mark::No,
                    _ => Mark::Unclear,
                };
                self.repeated |= self.mark.replace(mark).is_some();
            }
            Key::Num => self.repeated |= self.num.replace(range).is_some(),
            Key::Awaited | Key::Other => {}
        }
    }

    /// The text range of the index and the index, if this object is a placeholder.
    fn finish(self, json: &str) -> Result<Option<(Range<usize>, u32)>, DecodeError> {
        match self.mark {
            None => return Ok(None),
            Some(Mark::No) if !self.repeated => return Ok(None),
            Some(Mark::Yes) if !self.repeated => {}
            Some(_) => return Err(DecodeError::Placeholder),
        }
        let range = self.num.ok_or(DecodeError::Placeholder)?;
        let digits = json.get(range.clone()).unwrap_or_default();
        let is_index = digits.bytes().all(|byte| byte.is_ascii_digit());
        let num = digits.parse().ok().filter(|_| is_index).ok_or(DecodeError::Placeholder)?;
        Ok(Some((range, num)))
    }
}

/// Calls `on` with each placeholder's index and the range of its digits. Linear, no recursion;
/// its stack is as deep as the JSON, which has passed the depth limit.
fn scan(
    json: &str,
    mut on: impl FnMut(Range<usize>, u32) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    // Without escapes the key can be spelled only one way.
    if !json.contains("_placeholder") && !json.contains('\\') {
        return Ok(());
    }
    let bytes = json.as_bytes();
    let mut stack: Vec<Open> = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let end = token_end(bytes, at);
        match byte {
            b'{' | b'[' => {
                on_value(&mut stack, json, at..end);
                stack.push(Open { is_object: *byte == b'{', ..Open::default() });
            }
            b'}' | b']' => {
                if let Some((range, num)) = stack.pop().map_or(Ok(None), |o| o.finish(json))? {
                    on(range, num)?;
                }
            }
            b',' => stack.last_mut().into_iter().for_each(|open| open.key = Key::Awaited),
            b':' | b' ' | b'\t' | b'\n' | b'\r' => {}
            b'"' => match stack.last_mut() {
                Some(open) if open.is_object && open.key == Key::Awaited => {
                    open.key = key_of(json.get(at..end).unwrap_or_default());
                }
                _ => on_value(&mut stack, json, at..end),
            },
            _ => on_value(&mut stack, json, at..end),
        }
        at = end;
    }
    Ok(())
}

fn on_value(stack: &mut [Open], json: &str, range: Range<usize>) {
    if let Some(open) = stack.last_mut() {
        open.on_value(json, range);
    }
}

/// Where the token that begins at `start` ends; always past `start`.
pub(crate) fn token_end(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start + 1..).unwrap_or_default();
    let len = match bytes.get(start) {
        Some(b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ' | b'\t' | b'\n' | b'\r') => 0,
        Some(b'"') => string_len(rest),
        _ => rest
            .iter()
            .position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r'))
            .unwrap_or(rest.len()),
    };
    start + 1 + len
}

/// Length of a string behind its opening quote, the closing one counted.
fn string_len(rest: &[u8]) -> usize {
    let mut escaped = false;
    for (index, byte) in rest.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

fn key_of(raw: &str) -> Key {
    let unescaped: String;
    let key = match raw.contains('\\') {
        false => raw.trim_matches('"'),
        true => match serde_json::from_str::<String>(raw) {
            Ok(key) => {
                unescaped = key;
                &unescaped
            }
            Err(_) => return Key::Other,
        },
    };
    match key {
        "_placeholder" => Key::Placeholder,
        "num" => Key::Num,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Result<(), DecodeError> = Ok(());
    const BAD: Result<(), DecodeError> = Err(DecodeError::Placeholder);

    #[test]
    fn indices_within_range() {
        let both = r#"["e",{"_placeholder":true,"num":1},[{"num":0,"_placeholder":true}]]"#;
        assert_eq!(check_placeholders(both, 2), OK);
        assert_eq!(check_placeholders(both, 1), BAD);
        assert_eq!(check_placeholders(both, 0), BAD);
        let repeated = r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#;
        assert_eq!(check_placeholders(repeated, 1), OK);
    }

    #[test]
    fn indices_that_are_none() {
        for num in [
            "0.0",
            "0.5",
            "-1",
            "-0",
            "1e0",
            "\"0\"",
            "null",
            "[0]",
            "{}",
            "1",
            "true",
            "4294967296",
            "99999999999999999999999",
            "1e999",
            "",
        ] {
            let num = if num.is_empty() { String::new() } else { format!(",\"num\":{num}") };
            let json = format!("[\"e\",{{\"_placeholder\":true{num}}}]");
            assert_eq!(check_placeholders(&json, 1), BAD, "{json}");
            assert!(renumber_placeholders(&json, u32::MAX).is_err(), "{json}");
        }
    }

    #[test]
    fn spellings_that_hide() {
        for json in [
            r#"{"\u005fplaceholder":true,"num":1}"#,
            r#"{"_placeholder":true,"n\u0075m":1}"#,
            r#"{"_placeholder" : true , "num" : 1 }"#,
            r#"{"num":1,"x":{},"_placeholder":true}"#,
            r#"{"_placeholder":true,"num":0,"num":1}"#,
            r#"{"_placeholder":true,"num":1,"num":0}"#,
            r#"{"_placeholder":true,"_placeholder":false,"num":0}"#,
            r#"{"_placeholder":1,"num":0}"#,
            r#"{"_placeholder":"true","num":0}"#,
            r#"{"_placeholder":[],"num":0}"#,
            r#"{"_placeholder":true,"num":0,"x":{"_placeholder":true,"num":1}}"#,
        ] {
            assert_eq!(check_placeholders(json, 1), BAD, "{json}");
        }
    }

    #[test]
    fn lookalikes_pass() {
        for json in [
            r#"["_placeholder",true,"num",7]"#,
            r#"{"_placeholder":false,"num":7}"#,
            r#"{"_placeholder":null,"num":7}"#,
            r#"{"a":"\"_placeholder\":true","num":7}"#,
            r#"{"_placeholder ":true,"num":7}"#,
            r#"{"x":"_placeholder","num":7}"#,
            r#"[{"a":{"_placeholder":true,"num":0},"num":7}]"#,
        ] {
            assert_eq!(check_placeholders(json, 1), OK, "{json}");
        }
    }

    #[test]
    fn renumbering_moves_only_placeholders() {
        let json = r#"1,{"_placeholder":true,"num":0},{"num":9},[{"num":8,"_placeholder":true}]"#;
        let moved = r#"1,{"_placeholder":true,"num":3},{"num":9},[{"num":11,"_placeholder":true}]"#;
        assert_eq!(renumber_placeholders(json, 3).as_deref(), Ok(moved));
        assert_eq!(renumber_placeholders(json, 0).as_deref(), Ok(json));
        let nested = r#"{"_placeholder":true,"num":0,"x":{"_placeholder":true,"num":1}}"#;
        let moved = r#"{"_placeholder":true,"num":1,"x":{"_placeholder":true,"num":2}}"#;
        assert_eq!(renumber_placeholders(nested, 1).as_deref(), Ok(moved));
        assert!(renumber_placeholders(nested, u32::MAX).is_err());
    }

    #[test]
    fn other_text_does_not_panic() {
        for text in
            ["_placeholder\"", "]}\\", "{\"_placeholder", "{\"_placeholder\":", "\\\"é", "}"]
        {
            let _ = check_placeholders(text, 1);
            let _ = renumber_placeholders(text, 1);
        }
    }
}
