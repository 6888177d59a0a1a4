//! Removal of control characters from JSON text.

use std::borrow::Cow;

/// Drops control characters from every string of a JSON text, keys included: C0 except tab and
/// line feed, DEL, and C1 (U+0080–U+009F), raw or written as escapes. Everything else stays
/// byte for byte. Borrowed, without allocating, when there is nothing to drop.
///
/// `json` is valid JSON, where such characters and backslashes occur only inside strings; the
/// result is then valid too. Other text gives some text, never a panic. Keys that differed only
/// in control characters become duplicates.
pub fn strip_control(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let mut kept = String::new();
    let mut copied = 0; // `json[..copied]` is in `kept` or was dropped
    let mut at = 0;
    while let Some(token) = Token::next(bytes, at) {
        at = token.end;
        if token.is_control {
            kept.push_str(json.get(copied..token.start).unwrap_or_default());
            copied = token.end;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    kept.push_str(json.get(copied..).unwrap_or_default());
    Cow::Owned(kept)
}

/// One character of a string that is, or might be, a control character.
struct Token {
    start: usize,
    end: usize,
    is_control: bool,
}

impl Token {
    /// The first escape, DEL or U+0080–U+00BF at or after `from`.
    fn next(bytes: &[u8], from: usize) -> Option<Token> {
        let rest = bytes.get(from..)?;
        let found = rest.iter().position(|byte| matches!(byte, b'\\' | 0x7f | 0xc2))?;
        let (len, is_control) = match rest.get(found..)? {
            [0x7f, ..] => (1, true),
            [0xc2, second, ..] => (2, *second < 0xa0),
            [b'\\', b'u', rest @ ..] => match rest.first_chunk::<4>() {
                Some(digits) => (6, is_control_code(digits)),
                None => (2, false),
            },
            [b'\\', b'b' | b'f' | b'r', ..] => (2, true),
            // Steps over the second backslash of `\\`; one byte of a longer character is safe to
            // step over, since none of its bytes starts a token.
            [_, _, ..] => (2, false),
            _ => (1, false),
        };
        let start = from + found;
        Some(Token { start, end: start + len, is_control })
    }
}

/// Whether four hexadecimal digits name a character to be dropped.
fn is_control_code(digits: &[u8; 4]) -> bool {
    let code = std::str::from_utf8(digits).ok().and_then(|hex| u16::from_str_radix(hex, 16).ok());
    // The sign that `from_str_radix` would accept is no hexadecimal digit.
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    is_hex && matches!(code, Some(0..=8 | 0x0b..=0x1f | 0x7f..=0x9f))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn drops_raw_and_escaped() {
        for (json, clean) in [
            ("[\"a\u{7f}b\u{80}c\u{9f}\"]", r#"["abc"]"#),
            (r#"["\u0000\u001F\u007f\u0080\u009f\b\f\r"]"#, r#"[""]"#),
            (r#"{"k\u0007":"v\u001b[31m"}"#, r#"{"k":"v[31m"}"#),
            (r#"["\\\u0000"]"#, r#"["\\"]"#),
        ] {
            assert_eq!(strip_control(json), clean);
        }
    }

    #[test]
    fn keeps_the_rest_without_allocating() {
        for json in [
            r#"["\t\n\u0009\u000a\u000A\u0020\u00a0"]"#,
            r#"["\\u0000","\\\\u0000","\"","\\b"]"#,
            "[\"\u{a0}é🦀\u{bf}Â\"]",
            r#"["\ud83e\udd80\u2028"]"#,
            " {\r\n\"a\" : 1e999 }",
            "",
        ] {
            assert!(matches!(strip_control(json), Cow::Borrowed(same) if same == json), "{json}");
        }
    }

    #[test]
    fn other_text_does_not_panic() {
        for text in ["\\", "\\u", "\\u00", "\\u+001", "\\u00é0", "\\é", "\u{7f}", "\\u\\u0000"] {
            strip_control(text);
        }
        assert_eq!(strip_control("\\u+001"), "\\u+001");
    }

    fn is_kept(c: &char) -> bool {
        !c.is_control() || matches!(c, '\t' | '\n')
    }

    proptest! {
        /// Stripping the text equals stripping the string it stands for.
        #[test]
        fn equals_stripping_the_value(text in "[\\x00-\\x20\"\\\\\u{7e}-\u{a2}éÂ🦀u0a]{0,40}") {
            let json = serde_json::to_string(&[&text]).expect("strings serialise");
            let clean: String = text.chars().filter(is_kept).collect();
            let stripped = strip_control(&json);
            let back: Vec<String> = serde_json::from_str(&stripped).expect("still JSON");
            prop_assert_eq!(back, vec![clean]);
            let again = strip_control(&stripped);
            prop_assert!(matches!(again, Cow::Borrowed(_)));
        }

        #[test]
        fn the_result_is_json_and_clean(
            text in "(\\\\u00[0-9a-f]{2}|\\\\[\"\\\\bfnrt/]|.){0,30}",
        ) {
            let stripped = strip_control(&text);
            let json = format!("\"{text}\"");
            if crate::json::is_valid(&json) {
                let json = format!("\"{stripped}\"");
                prop_assert!(crate::json::is_valid(&json));
                prop_assert!(matches!(strip_control(&json), Cow::Borrowed(_)));
            }
        }
    }
}
