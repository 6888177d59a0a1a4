//! An event's payload: its name and its arguments, as text.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::DecodeError;
use crate::json::WHITESPACE;

/// Names that clients and servers use for their own events; a peer may not send them.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// The array `[name, argument, …]` of an event packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The name, unescaped. The protocol allows a number as well: its text as it was written.
    pub name: Cow<'a, str>,
    /// The JSON of the arguments after the name, comma separated; empty if there are none.
    pub args: &'a str,
}

impl<'a> Event<'a> {
    /// Splits the data of an event packet.
    ///
    /// `data` comes from a [`Packet`](super::Packet), which is JSON; of other text only the name
    /// is checked. Fails on anything but an array whose first item is a number or a string that
    /// is not reserved.
    pub fn parse(data: &'a str) -> Result<Event<'a>, DecodeError> {
        let items = data.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let items = items.ok_or(DecodeError::Payload)?;
        let (name, args) = split_first(items).ok_or(DecodeError::EventName)?;
        let name = name_of(name.get())?;
        Ok(Event { name, args })
    }

    /// The first argument's JSON, if there is one.
    pub fn first_arg(&self) -> Option<&'a str> {
        self.arg_list().next().map(RawValue::get)
    }

    /// The arguments one by one, as JSON.
    pub fn arg_list(&self) -> Args<'a> {
        Args { rest: self.args }
    }
}

/// Iterator over the arguments of an [`Event`]; ends early at text that is not JSON.
#[derive(Clone, Debug)]
pub struct Args<'a> {
    rest: &'a str,
}

impl<'a> Args<'a> {
    /// Iterates over JSON values separated by commas, such as an ack's data without brackets.
    pub fn new(list: &'a str) -> Self {
        Args { rest: list }
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = &'a RawValue;

    fn next(&mut self) -> Option<&'a RawValue> {
        let (first, rest) = split_first(std::mem::take(&mut self.rest))?;
        self.rest = rest;
        Some(first)
    }
}

/// The first of comma-separated JSON values, and the rest without the comma. Does not recurse.
fn split_first(list: &str) -> Option<(&RawValue, &str)> {
    let list = list.trim_matches(WHITESPACE);
    let mut values = serde_json::Deserializer::from_str(list).into_iter::<&RawValue>();
    let first = values.next()?.ok()?;
    let rest = list.get(first.get().len()..)?.trim_matches(WHITESPACE);
    match rest.strip_prefix(',') {
        Some(rest) => Some((first, rest.trim_matches(WHITESPACE))),
        None => rest.is_empty().then_some((first, rest)),
    }
}

fn name_of(raw: &str) -> Result<Cow<'_, str>, DecodeError> {
    let name = match raw.as_bytes() {
        [b'-' | b'0'..=b'9', ..] => return Ok(Cow::Borrowed(raw)),
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
            Cow::Borrowed(raw.get(1..raw.len() - 1).unwrap_or_default())
        }
        // Fails on escapes of lone surrogates, which no Rust string can hold.
        [b'"', ..] => Cow::Owned(serde_json::from_str(raw).map_err(|_| DecodeError::EventName)?),
        _ => return Err(DecodeError::EventName),
    };
    match RESERVED.contains(&name.as_ref()) {
        true => Err(DecodeError::EventNameReserved),
        false => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arguments() {
        for (data, name, args) in [
            (r#"["foo"]"#, "foo", ""),
            (r#"[ "foo" ]"#, "foo", ""),
            (r#"["a,b]\u0041",1,{"x":[2]},"]"]"#, "a,b]A", r#"1,{"x":[2]},"]""#),
            ("[\"foo\" ,\t1 , 2\n]", "foo", "1 , 2"),
            (r#"[1.50e3,null]"#, "1.50e3", "null"),
            (r#"[-7]"#, "-7", ""),
            (r#"[""]"#, "", ""),
        ] {
            let event = Event::parse(data).expect(data);
            assert_eq!((event.name.as_ref(), event.args), (name, args));
        }
        let plain = Event::parse(r#"["plain"]"#).expect("valid");
        assert!(matches!(plain.name, Cow::Borrowed(_)));
    }

    #[test]
    fn names_that_are_none() {
        for data in ["[]", "[ ]", "[{}]", "[[]]", "[null]", "[true]", r#"["\ud800"]"#, "[\"a\" 1]"]
        {
            assert_eq!(Event::parse(data), Err(DecodeError::EventName), "{data}");
        }
        for data in ["", "{}", "\"a\"", "[", "]", "[1", "1"] {
            assert_eq!(Event::parse(data), Err(DecodeError::Payload), "{data}");
        }
        for name in RESERVED.iter().copied().chain(["connec\\u0074"]) {
            let data = format!("[\"{name}\",1]");
            assert_eq!(Event::parse(&data), Err(DecodeError::EventNameReserved));
        }
        assert!(Event::parse(r#"["Connect"]"#).is_ok());
    }

    #[test]
    fn arguments_one_by_one() {
        let event = Event::parse(r#"["e", 1 ,"a,b",{"c":[1,2]} , 1e400]"#).expect("valid");
        let args: Vec<&str> = event.arg_list().map(RawValue::get).collect();
        assert_eq!(args, ["1", r#""a,b""#, r#"{"c":[1,2]}"#, "1e400"]);
        assert_eq!(event.first_arg(), Some("1"));
        assert_eq!(Event::parse(r#"["e"]"#).expect("valid").first_arg(), None);
        assert_eq!(Args::new("1,]").count(), 1);
        assert_eq!(Args::new("1 2").count(), 0);
    }
}
