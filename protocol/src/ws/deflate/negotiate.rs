//! Which of a client's offers a server accepts, and how it answers (RFC 7692 §5, §7.1).

use std::{fmt, mem};

/// The extension's name. Names are compared as they are: RFC 6455 calls them tokens and nowhere
/// lets their case vary, and a client that spells it otherwise might not know the answer.
const NAME: &[u8] = b"permessage-deflate";

/// Most offers looked at, those for other extensions counted. Browsers send one.
const OFFERS_MAX: usize = 16;

/// Bits of the largest window, 32 KiB, which is that of DEFLATE itself.
const WINDOW_BITS_MAX: u8 = 15;

/// An accepted offer. Each message is compressed on its own, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The client's `server_max_window_bits`, 8 to 15.
    asked_bits: Option<u8>,
}

/// Accepts the first acceptable offer among the values of all `Sec-WebSocket-Extensions` headers,
/// in the client's order. `None` if there is none: the connection goes on without compression,
/// which is never an error (RFC 7692 §5.1).
///
/// An offer with an unknown, repeated or misshapen parameter is declined and the next one looked
/// at (§7.1). The time is linear in the length of the headers.
pub fn negotiate<'a>(headers: impl Iterator<Item = &'a [u8]>) -> Option<Negotiated> {
    headers
        .flat_map(|header| parts(header, b','))
        .filter(|offer| !offer.is_empty())
        .take(OFFERS_MAX)
        .find_map(accept)
}

impl Negotiated {
    /// Base-2 logarithm of the window the client inflates with, 8 to 15; 15 if it asked for none.
    pub fn server_window_bits(&self) -> u8 {
        self.asked_bits.unwrap_or(WINDOW_BITS_MAX)
    }

    /// Whether a message of `payload_len` bytes may be sent compressed to this client.
    ///
    /// Whatever window the client asked for, messages are compressed with the full one, so that
    /// one compressed frame serves every client. No distance in a message reaches beyond its
    /// start, so one that is no longer than the client's window cannot leave that window. A
    /// longer one goes to such a client as it is: compression is up to the sender, message by
    /// message (§6).
    pub fn may_compress(&self, payload_len: usize) -> bool {
        match self.server_window_bits() {
            WINDOW_BITS_MAX.. => true,
            bits => payload_len <= 1 << bits,
        }
    }

    /// The value of the response's `Sec-WebSocket-Extensions` header. Never limits the client's
    /// window; repeats `server_max_window_bits` if the client asked for it (§7.1.2.1).
    pub fn response(&self) -> impl fmt::Display {
        let asked_bits = self.asked_bits;
        fmt::from_fn(move |f| {
            f.write_str("permessage-deflate; server_no_context_takeover")?;
            f.write_str("; client_no_context_takeover")?;
            asked_bits.map_or(Ok(()), |bits| write!(f, "; server_max_window_bits={bits}"))
        })
    }
}

/// Parameters of one offer, each allowed once.
#[derive(Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    client_max_window_bits: bool,
    server_max_window_bits: Option<u8>,
}

impl Parameters {
    /// Notes one parameter; `None` if the offer must be declined for it.
    fn add(&mut self, parameter: &[u8]) -> Option<()> {
        let (name, value) = name_and_value(parameter);
        match (name, value) {
            (b"server_no_context_takeover", None) => once(&mut self.server_no_context_takeover),
            (b"client_no_context_takeover", None) => once(&mut self.client_no_context_takeover),
            (b"client_max_window_bits", None) => once(&mut self.client_max_window_bits),
            (b"client_max_window_bits", Some(value)) => {
                window_bits(value)?;
                once(&mut self.client_max_window_bits)
            }
            (b"server_max_window_bits", Some(value)) => {
                let bits = window_bits(value)?;
                self.server_max_window_bits.replace(bits).is_none().then_some(())
            }
            _ => None,
        }
    }
}

fn once(seen: &mut bool) -> Option<()> {
    (!mem::replace(seen, true)).then_some(())
}

fn accept(offer: &[u8]) -> Option<Negotiated> {
    let mut parts = parts(offer, b';');
    if parts.next()? != NAME {
        return None;
    }
    let mut parameters = Parameters::default();
    parts.try_for_each(|parameter| parameters.add(parameter))?;
    Some(Negotiated { asked_bits: parameters.server_max_window_bits })
}

fn name_and_value(parameter: &[u8]) -> (&[u8], Option<&[u8]>) {
    match parameter
        .iter()
        .position(|byte| *byte == b'=')
        .and_then(|at| parameter.split_at_checked(at))
    {
        Some((name, value)) => {
            (name.trim_ascii(), Some(value.get(1..).unwrap_or_default().trim_ascii()))
        }
        None => (parameter, None),
    }
}

/// A decimal from 8 to 15 without leading zeros (§7.1.2), bare or in quotes (RFC 6455 §9.1).
/// Escapes inside the quotes are not taken: no digit needs one.
fn window_bits(value: &[u8]) -> Option<u8> {
    let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    match unquoted.unwrap_or(value) {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// The parts of `bytes` between separators that stand outside quoted strings, trimmed. Text of
/// one part alone if a quote is never closed.
fn parts(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let (part, behind) = bytes.split_at_checked(part_len(bytes, separator))?;
        rest = behind.get(1..); // the separator, or nothing at the end
        Some(part.trim_ascii())
    })
}

fn part_len(bytes: &[u8], separator: u8) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    let ends = |byte: &u8| {
        let is_end = !quoted && *byte == separator;
        quoted ^= *byte == b'"' && !escaped;
        escaped = quoted && !escaped && *byte == b'\\';
        is_end
    };
    bytes.iter().position(ends).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    /// The response to one header per item, or an empty one if all was declined.
    fn answer(headers: &[&str]) -> String {
        let negotiated = negotiate(headers.iter().map(|header| header.as_bytes()));
        negotiated.map_or(String::new(), |negotiated| negotiated.response().to_string())
    }

    #[test]
    fn accepted() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits", // Chromium, Firefox, ws
            "permessage-deflate;client_max_window_bits=8",
            "permessage-deflate ;\tclient_max_window_bits = \"15\"",
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits",
            ",, foo; a=\"b,\\\"; permessage-deflate, \"; c ,permessage-deflate,",
            "permessage-deflate; no_such_thing, permessage-deflate",
        ] {
            assert_eq!(answer(&[offer]), ANSWER, "{offer}");
        }
        assert_eq!(answer(&["foo", "", "bar;x=y", "permessage-deflate"]), ANSWER);
    }

    #[test]
    fn windows_are_repeated() {
        for bits in 8..=15 {
            for quote in ["", "\""] {
                let asked = format!("server_max_window_bits={quote}{bits}{quote}");
                let offer = format!("permessage-deflate; {asked}; client_max_window_bits");
                let expected = format!("{ANSWER}; server_max_window_bits={bits}");
                assert_eq!(answer(&[&offer]), expected);
            }
        }
    }

    /// The offers of Autobahn's groups 12 and 13.
    #[test]
    fn offers_of_autobahn() {
        let rest = "client_no_context_takeover; client_max_window_bits";
        for (offer, bits) in [
            (format!("permessage-deflate; {rest}"), None),
            (format!("permessage-deflate; {rest}; server_no_context_takeover"), None),
            (format!("permessage-deflate; {rest}; server_max_window_bits=9"), Some(9)),
            (format!("permessage-deflate; {rest}; server_max_window_bits=15"), Some(15)),
            (
                format!(
                    "permessage-deflate; {rest}; server_no_context_takeover; \
                     server_max_window_bits=9, permessage-deflate; {rest}"
                ),
                Some(9),
            ),
        ] {
            let bits = bits.map_or(String::new(), |b| format!("; server_max_window_bits={b}"));
            assert_eq!(answer(&[&offer]), format!("{ANSWER}{bits}"), "{offer}");
        }
    }

    #[test]
    fn declined() {
        for parameters in [
            ";",
            "; ; client_max_window_bits",
            "; constructor",
            "; __proto__=1",
            "; server_no_context_takeover=1",
            "; server_no_context_takeover=",
            "; client_no_context_takeover=\"\"",
            "; server_no_context_takeover; server_no_context_takeover",
            "; client_no_context_takeover; client_no_context_takeover",
            "; client_max_window_bits; client_max_window_bits=9",
            "; server_max_window_bits=9; server_max_window_bits=9",
            "; server_max_window_bits",
            "; Client_Max_Window_Bits",
            " client_max_window_bits",
            "=1",
        ] {
            assert_eq!(answer(&[&format!("permessage-deflate{parameters}")]), "", "{parameters}");
        }
        for value in [
            "",
            "7",
            "16",
            "0",
            "08",
            "+9",
            "-9",
            "9.0",
            "1e1",
            " ",
            "99999999999999999999",
            "a",
            "\"",
            "\"\"",
            "\"9",
            "9\"",
            "\"0\\9\"",
            "' 9'",
            "\u{669}",
            "9 9",
            "9=9",
        ] {
            for name in ["server_max_window_bits", "client_max_window_bits"] {
                assert_eq!(
                    answer(&[&format!("permessage-deflate; {name}={value}")]),
                    "",
                    "{value}"
                );
            }
        }
    }

    #[test]
    fn other_names_are_skipped() {
        for name in ["constructor", "hasOwnProperty", "toString", "__proto__", "", "="] {
            assert_eq!(answer(&[name]), "");
            assert_eq!(answer(&[&format!("{name}, permessage-deflate")]), ANSWER);
        }
        for name in ["Permessage-Deflate", "permessage-deflate2", "\"permessage-deflate\"", "perm"]
        {
            assert_eq!(answer(&[name]), "");
        }
        assert_eq!(answer(&[]), "");
        assert!(negotiate([&b"\xff\x00\x80"[..]].into_iter()).is_none());
    }

    #[test]
    fn only_so_many_offers_are_looked_at() {
        let others = |count: usize| format!("{},permessage-deflate", vec!["foo"; count].join(","));
        assert_eq!(answer(&[&others(OFFERS_MAX - 1)]), ANSWER);
        assert_eq!(answer(&[&others(OFFERS_MAX)]), "");
        assert_eq!(answer(&["foo", &others(OFFERS_MAX - 1)]), "");
    }

    /// A megabyte of what makes careless parsers quadratic, in far less than the minute or more
    /// that would take.
    #[test]
    fn time_is_linear() {
        let start = std::time::Instant::now();
        for piece in [",", ";", "\"", "\\", " ", "\"\\", "\",", "=", "a;", "permessage-deflate;"] {
            let hostile = piece.repeat((1 << 20) / piece.len());
            assert_eq!(answer(&[&hostile]), "");
            assert_eq!(answer(&[&format!("foo; a=\"{hostile}")]), "");
            assert_eq!(answer(&[&format!("permessage-deflate; {hostile}")]), "");
            assert_eq!(answer(&[&format!("permessage-deflate; a=\"{hostile}")]), "");
        }
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    }

    #[test]
    fn small_windows_get_small_messages() {
        let bits = |bits| Negotiated { asked_bits: bits };
        assert_eq!(bits(None).server_window_bits(), 15);
        assert_eq!(bits(Some(9)).server_window_bits(), 9);
        for any in [bits(None), bits(Some(15))] {
            assert!(any.may_compress(0) && any.may_compress(usize::MAX));
        }
        for n in 8..15 {
            assert!(bits(Some(n)).may_compress(1 << n));
            assert!(!bits(Some(n)).may_compress((1 << n) + 1));
        }
    }
}
