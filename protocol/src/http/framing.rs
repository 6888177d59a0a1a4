//! How long a request's body is (RFC 9112 §6.3).

use super::{Head, HeadError, Version};

/// How the body after a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// That many bytes; 0 if `Content-Length` says so.
    Length(u64),
    /// In chunks.
    Chunked,
}

impl Head<'_> {
    /// How the body is delimited, or [`HeadError::Malformed`] if two readers could disagree:
    /// `Content-Length` and `Transfer-Encoding` together, more than one of either, a length that
    /// is not digits only or over 64 bits, any coding but exactly `chunked`, and codings in
    /// HTTP/1.0 (RFC 9112 §6.1, §11.2).
    pub fn framing(&self) -> Result<Framing, HeadError> {
        let (length, coding) = (self.value("content-length"), self.value("transfer-encoding"));
        if self.count("content-length") + self.count("transfer-encoding") > 1 {
            return Err(HeadError::Malformed);
        }
        match (length, coding) {
            (Some(digits), _) => length_of(digits).ok_or(HeadError::Malformed),
            (_, Some(coding))
                if coding.eq_ignore_ascii_case(b"chunked") && self.version() == Version::Http11 =>
            {
                Ok(Framing::Chunked)
            }
            (_, Some(_)) => Err(HeadError::Malformed),
            (None, None) => Ok(Framing::None),
        }
    }
}

fn length_of(digits: &[u8]) -> Option<Framing> {
    // `parse` would take a plus sign too.
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    std::str::from_utf8(digits).ok()?.parse().ok().map(Framing::Length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::{parsed, with_head};

    #[test]
    fn one_way_to_delimit() {
        for (fields, expected) in [
            ("X: y", Framing::None),
            ("Content-Length: 0", Framing::Length(0)),
            ("content-length:\t 0012 ", Framing::Length(12)),
            ("Content-Length: 18446744073709551615", Framing::Length(u64::MAX)),
            ("Transfer-Encoding: chunked", Framing::Chunked),
            ("transfer-encoding: Chunked ", Framing::Chunked),
        ] {
            with_head(fields, |head| assert_eq!(head.framing(), Ok(expected), "{fields}"));
        }
    }

    #[test]
    fn what_two_readers_could_read_differently() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5\r\ncontent-length: 5",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 5 5",
            "Content-Length: 5.0",
            "Content-Length: 0x5",
            "Content-Length: 5a",
            "Content-Length: ٥",
            "Content-Length:",
            "Content-Length: 18446744073709551616",
            "Content-Length: 99999999999999999999999999999999999",
            "Transfer-Encoding:",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: chunked,",
            "Transfer-Encoding: ,chunked",
            "Transfer-Encoding: chunked;q=1",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        ] {
            with_head(fields, |head| {
                assert_eq!(head.framing(), Err(HeadError::Malformed), "{fields}");
            });
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        let head = parsed(old).expect("a head").expect("whole");
        assert_eq!(head.framing(), Err(HeadError::Malformed));
    }
}
