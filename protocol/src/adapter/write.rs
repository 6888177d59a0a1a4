//! JSON text into MessagePack, byte for byte as `notepack.io` writes the same value.
//!
//! Two passes over the text, no tree: the first counts what each array and object holds, since
//! their heads come before it.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::{DEPTH_MAX, Malformed};
use crate::json;
use crate::socketio::token_end;

/// Beyond, `notepack.io` writes integers wrongly; a double holds them as well as JavaScript does.
const UINT_END: f64 = 18_446_744_073_709_551_616.0;
const INT_MIN: f64 = -9_223_372_036_854_775_808.0;

/// Appends one JSON value. Placeholders stand for attachments; without any they are plain objects.
pub(super) fn from_json(
    out: &mut Vec<u8>,
    text: &str,
    attachments: &[Box<[u8]>],
) -> Result<(), Malformed> {
    if !json::depth_within(text, DEPTH_MAX) {
        return Err(Malformed::Limit);
    }
    if !json::is_valid(text) {
        return Err(Malformed::Json);
    }
    let shapes = shapes(text, attachments.len())?;
    let mut shapes = shapes.as_slice();
    let mut at = 0;
    while let Some(byte) = text.as_bytes().get(at) {
        let mut end = token_end(text.as_bytes(), at);
        match byte {
            b'{' | b'[' => {
                let Some((shape, rest)) = shapes.split_first() else { break };
                shapes = rest;
                if let Some(attachment) = shape.attachment.and_then(|num| attachments.get(num)) {
                    write_head(out, attachment.len(), &BINARY);
                    out.extend_from_slice(attachment);
                    shapes = shapes.get(shape.inner..).unwrap_or_default();
                    end = shape.end;
                } else {
                    write_head(out, shape.items, if *byte == b'{' { &MAP } else { &ARRAY });
                }
            }
            b'"' => write_text(out, text.get(at..end).unwrap_or_default())?,
            b't' => out.push(0xc3),
            b'f' => out.push(0xc2),
            b'n' => out.push(0xc0),
            b'-' | b'0'..=b'9' => {
                let number = text.get(at..end).and_then(|text| text.parse().ok());
                write_number(out, number.ok_or(Malformed::Json)?);
            }
            _ => {}
        }
        at = end;
    }
    Ok(())
}

/// What is to be known of an array or object before it is written.
#[derive(Default)]
struct Shape {
    /// Values in it.
    items: usize,
    /// It is a placeholder: for which attachment.
    attachment: Option<usize>,
    /// Where it ends in the text.
    end: usize,
    /// Arrays and objects within.
    inner: usize,
}

/// An array or object that has begun.
struct Open<'a> {
    /// Its place in the list.
    index: usize,
    /// An object whose next string is a key.
    awaits_key: bool,
    is_object: bool,
    key: &'a str,
    is_marked: bool,
    num: Option<usize>,
}

/// The shapes of all arrays and objects, in order of their beginnings.
fn shapes(text: &str, attachments: usize) -> Result<Vec<Shape>, Malformed> {
    let mut found: Vec<Shape> = Vec::new();
    let mut stack: Vec<Open<'_>> = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.as_bytes().get(at) {
        let end = token_end(text.as_bytes(), at);
        let token = text.get(at..end).unwrap_or_default();
        at = end;
        match byte {
            b'}' | b']' => {
                let Some(open) = stack.pop() else { continue };
                let inner = found.len() - open.index - 1;
                let attachment = if open.is_marked && attachments > 0 { open.num } else { None };
                if open.is_marked && attachments > 0 && attachment.is_none_or(|n| n >= attachments)
                {
                    return Err(Malformed::Placeholder);
                }
                if let Some(shape) = found.get_mut(open.index) {
                    *shape = Shape { items: shape.items, attachment, end, inner };
                }
            }
            b',' => {
                if let Some(open) = stack.last_mut() {
                    open.awaits_key = open.is_object;
                }
            }
            b':' | b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => {
                on_value(&mut stack, &mut found, token);
                if matches!(byte, b'{' | b'[') {
                    let (index, is_object) = (found.len(), *byte == b'{');
                    found.push(Shape::default());
                    let (awaits_key, is_marked) = (is_object, false);
                    let (key, num) = ("", None);
                    stack.push(Open { index, awaits_key, is_object, key, is_marked, num });
                }
            }
        }
    }
    Ok(found)
}

/// Counts a value, or remembers a key.
fn on_value<'a>(stack: &mut [Open<'a>], found: &mut [Shape], token: &'a str) {
    let Some(open) = stack.last_mut() else { return };
    if open.awaits_key {
        open.awaits_key = false;
        open.key = token;
        return;
    }
    if is_key(open.key, "\"_placeholder\"") {
        open.is_marked = token == "true";
    } else if is_key(open.key, "\"num\"") {
        open.num = token.parse().ok();
    }
    if let Some(shape) = found.get_mut(open.index) {
        shape.items += 1;
    }
}

/// Whether a key is this one, however it is spelled; both with quotes.
fn is_key(key: &str, name: &str) -> bool {
    key == name
        || (key.contains('\\')
            && serde_json::from_str::<String>(key).is_ok_and(|key| key == name.trim_matches('"')))
}

/// How a length is written: the base and limit of a head that holds it, then the heads before 8, 16
/// and 32 bits; 0: there is none.
struct Heads(u8, usize, [u8; 3]);

const TEXT: Heads = Heads(0xa0, 0x20, [0xd9, 0xda, 0xdb]);
const BINARY: Heads = Heads(0, 0, [0xc4, 0xc5, 0xc6]);
const ARRAY: Heads = Heads(0x90, 0x10, [0, 0xdc, 0xdd]);
const MAP: Heads = Heads(0x80, 0x10, [0, 0xde, 0xdf]);

/// Lengths beyond 32 bits do not occur: nothing so long gets into the process.
fn write_head(out: &mut Vec<u8>, length: usize, heads: &Heads) {
    let Heads(base, limit, [short, middle, long]) = heads;
    if length < *limit {
        out.push(base | length as u8);
    } else if length < 0x100 && *short != 0 {
        out.extend_from_slice(&[*short, length as u8]);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(*middle);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(*long);
        out.extend_from_slice(&(length as u32).to_be_bytes());
    }
}

/// Numbers are what JavaScript makes of them: doubles, and integers if they have no fraction.
fn write_number(out: &mut Vec<u8>, number: f64) {
    if number.fract() != 0.0 || !(INT_MIN..UINT_END).contains(&number) {
        out.push(0xcb);
        return out.extend_from_slice(&number.to_bits().to_be_bytes());
    }
    if number >= 0.0 {
        let number = number as u64;
        let (head, bytes) = match number {
            0..0x80 => return out.push(number as u8),
            0x80..0x100 => (0xcc, 1),
            0x100..0x1_0000 => (0xcd, 2),
            0x1_0000..0x1_0000_0000 => (0xce, 4),
            _ => (0xcf, 8),
        };
        out.push(head);
        return out.extend_from_slice(number.to_be_bytes().get(8 - bytes..).unwrap_or_default());
    }
    let number = number as i64;
    let (head, bytes) = match number {
        -0x20.. => return out.push(number as u8),
        -0x80.. => (0xd0, 1),
        -0x8000.. => (0xd1, 2),
        -0x8000_0000.. => (0xd2, 4),
        _ => (0xd3, 8),
    };
    out.push(head);
    out.extend_from_slice(number.to_be_bytes().get(8 - bytes..).unwrap_or_default());
}

fn write_text(out: &mut Vec<u8>, quoted: &str) -> Result<(), Malformed> {
    if quoted.contains('\\') {
        let Unescaped(text) = serde_json::from_str(quoted).map_err(|_| Malformed::Json)?;
        write_head(out, text.len(), &TEXT);
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    let text = quoted.trim_matches('"');
    write_head(out, text.len(), &TEXT);
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// A string whose escapes may name lone surrogates, which JavaScript allows: they become U+FFFD.
struct Unescaped(String);

impl<'de> Deserialize<'de> for Unescaped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Unescaped;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Unescaped, E> {
                Ok(Unescaped(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        // As bytes, `serde_json` lets lone surrogates pass.
        deserializer.deserialize_bytes(Bytes)
    }
}
