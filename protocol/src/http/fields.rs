//! Values that are lists (RFC 9110 §5.6.1), and parameters of a query.

use super::{Head, Version};

impl<'a> Head<'a> {
    /// The items of a comma-separated field, over all its lines; empty ones are left out.
    fn items(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let items = self.values(name).flat_map(|value| value.split(|byte| *byte == b','));
        items.map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
    }

    /// Whether a comma-separated field, such as `Connection`, lists `token`, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.items(name).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether the connection stays open after the answer (RFC 9112 §9.3).
    pub fn keep_alive(&self) -> bool {
        let by_default = self.version() == Version::Http11;
        !self.has_token("connection", "close")
            && (by_default || self.has_token("connection", "keep-alive"))
    }

    /// Whether the answer may be compressed with gzip (RFC 9110 §12.5.3).
    ///
    /// Named with a weight over 0, as `gzip` or by its old name `x-gzip`, or covered by `*`. No
    /// `Accept-Encoding` counts as no, though the RFC leaves it open: such clients are old ones.
    pub fn accepts_gzip(&self) -> bool {
        let mut gzip = None;
        let mut any = false;
        for item in self.items("accept-encoding") {
            let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let coding = parts.next().unwrap_or_default();
            let wanted = parts.all(|parameter| !is_weight_zero(parameter));
            if coding == b"*" {
                any = wanted;
            } else if [&b"gzip"[..], b"x-gzip"].iter().any(|it| coding.eq_ignore_ascii_case(it)) {
                gzip = Some(wanted && gzip.unwrap_or(true));
            }
        }
        gzip.unwrap_or(any)
    }
}

/// Whether a parameter is a weight that says no: `q=0`, `q=0.000`, or one that is no weight.
fn is_weight_zero(parameter: &[u8]) -> bool {
    let (Some(b'q' | b'Q'), Some(b'=')) = (parameter.first(), parameter.get(1)) else {
        return false;
    };
    let weight = parameter.get(2..).and_then(|text| std::str::from_utf8(text).ok());
    let weight = weight.and_then(|text| text.parse::<f32>().ok());
    !weight.is_some_and(|weight| weight > 0.0 && weight <= 1.0)
}

/// The first value of a parameter of a query, as written: percent signs are not decoded.
///
/// A parameter without `=` has the empty value.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::parameter;
    use crate::http::tests::with_head;

    #[test]
    fn first_values_of_parameters() {
        let query = "EIO=4&transport=polling&b64&t=a=b&EIO=3&=x&%45IO=5&";
        for (name, value) in [
            ("EIO", Some("4")),
            ("transport", Some("polling")),
            ("b64", Some("")),
            ("t", Some("a=b")),
            ("sid", None),
            ("eio", None),
            ("__proto__", None),
        ] {
            assert_eq!(parameter(query, name), value, "{name}");
        }
        assert_eq!(parameter("", "sid"), None);
    }

    #[test]
    fn tokens() {
        with_head("Connection: keep-alive,\t Upgrade\r\nconnection: ,x-y", |head| {
            for token in ["upgrade", "Keep-Alive", "x-y"] {
                assert!(head.has_token("CONNECTION", token), "{token}");
            }
            for token in ["", "up", "upgrades", "keep-alive, upgrade"] {
                assert!(!head.has_token("connection", token), "{token}");
            }
            assert!(!head.has_token("upgrade", "websocket"));
        });
    }

    #[test]
    fn keeping_alive() {
        for (line, connection, expected) in [
            ("HTTP/1.1", "x", true),
            ("HTTP/1.1", "Close", false),
            ("HTTP/1.1", "keep-alive, close", false),
            ("HTTP/1.0", "x", false),
            ("HTTP/1.0", "Keep-Alive", true),
            ("HTTP/1.0", "keep-alive, close", false),
        ] {
            let text = format!("GET / {line}\r\nHost: h\r\nConnection: {connection}\r\n\r\n");
            let head = crate::http::tests::parsed(&text).expect("a head").expect("whole");
            assert_eq!(head.keep_alive(), expected, "{line} {connection}");
        }
    }

    #[test]
    fn gzip_by_weight() {
        for (accepts, expected) in [
            ("gzip", true),
            ("gzip, deflate, br", true),
            ("deflate,  GZip;q=0.5", true),
            ("x-gzip", true),
            ("gzip; q=1.000", true),
            ("gzip ;Q=0.001", true),
            ("*", true),
            ("*;q=0.1, br", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000, *", false),
            ("*, gzip; q=0", false),
            ("*;q=0", false),
            ("*;q=0, gzip", true),
            ("gzip;q=0, gzip", false),
            ("gzip;q=", false),
            ("gzip;q=-1", false),
            ("gzip;q=nan", false),
            ("gzip;q=2", false),
            ("gzipped, xgzip", false),
            ("gzip\u{e9}", false),
        ] {
            let field = format!("Accept-Encoding: {accepts}");
            with_head(&field, |head| assert_eq!(head.accepts_gzip(), expected, "{accepts}"));
        }
        with_head("Accept: gzip", |head| assert!(!head.accepts_gzip()));
        let two = "Accept-Encoding: br\r\nAccept-Encoding: gzip";
        with_head(two, |head| assert!(head.accepts_gzip()));
    }
}
