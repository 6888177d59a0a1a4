//! JSON as text: checked, cleaned and written, never turned into a tree.
//!
//! Owns the scans that a relayed payload needs: nesting depth, validity, control characters.
//! Never builds values, never re-serialises what it relays: number spelling, key order and
//! duplicate keys of the sender stay as they were.
//!
//! Invariants: no scan recurses, so nesting costs no stack; every scan is linear in its input.

mod strip;

use serde::de::IgnoredAny;

pub use strip::strip_control;

/// The four bytes that JSON calls whitespace (RFC 8259 §2).
pub(crate) const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Whether arrays and objects nest at most `max` deep; `[[]]` is 2 deep, a scalar 0.
///
/// Any text is a valid input; brackets inside strings don't count. To be called before anything
/// that may recurse sees the text.
pub fn depth_within(json: &str, max: usize) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in json.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' if depth == max => return false,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// Whether `json` is exactly one JSON value (RFC 8259), whitespace around it allowed.
///
/// Numbers of any size and duplicate keys pass, as do escapes of lone surrogates: JavaScript
/// reads them all, and they are only relayed here.
pub fn is_valid(json: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(json).is_ok()
}

/// Appends `s` as a JSON string with its quotes.
pub fn write_string(out: &mut Vec<u8>, s: &str) {
    // Writing a string to a `Vec` cannot fail.
    let _ = serde_json::to_writer(out, s);
}

/// Appends `number` in decimal, without allocating.
pub(crate) fn write_u64(out: &mut Vec<u8>, number: u64) {
    use std::io::Write;
    // Writing to a `Vec` cannot fail.
    let _ = write!(out, "{number}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        for (json, depth) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a":[1,[2]]}"#, 3),
            ("[[],[],[]]", 2),
            (r#"["[[[[",{"]]":"\"[[[["}]"#, 2),
            (r#"["\\",[]]"#, 2),
        ] {
            assert!(depth_within(json, depth), "{json}");
            assert!(depth == 0 || !depth_within(json, depth - 1), "{json}");
        }
    }

    #[test]
    fn a_million_brackets_are_only_counted() {
        let deep = "[".repeat(1_000_000);
        assert!(!depth_within(&deep, 32));
        assert!(depth_within(&deep, 1_000_000));
        assert!(depth_within(&"]".repeat(1_000_000), 0));
        let valid = format!("{deep}{}", "]".repeat(1_000_000));
        assert!(is_valid(&valid), "validation does not recurse either");
    }

    #[test]
    fn validity_is_that_of_the_grammar() {
        for json in ["{}", " [1 , 2]\n", "1e999999", "-0", "\"\\ud800\"", "[{\"a\":1,\"a\":2}]"] {
            assert!(is_valid(json), "{json}");
        }
        assert!(is_valid(&format!("[{}]", "9".repeat(100_000))));
        for json in ["", " ", "{", "[1,]", "{a:1}", "01", "+1", "[1] 2", "\"\n\"", "nul", "'a'"] {
            assert!(!is_valid(json), "{json}");
        }
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = Vec::new();
        write_string(&mut out, "a\"\\\n\u{1}é\u{7f}");
        assert_eq!(out, "\"a\\\"\\\\\\n\\u0001é\u{7f}\"".as_bytes());
        out.clear();
        write_u64(&mut out, u64::MAX);
        assert_eq!(out, b"18446744073709551615");
    }
}
