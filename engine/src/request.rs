//! The first request of a connection: a WebSocket handshake, or something for the control thread.
//!
//! Pure: bytes in, decision out. It reads no more HTTP than an Engine.IO handshake needs; the head
//! is bounded in bytes, lines and (by its caller) time. Header values are bytes, whatever they are.

use throng_protocol::engineio::ErrorCode;
use throng_protocol::ws::handshake::accept_key;

use crate::config::CorsOrigins;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

/// What is to be done with a connection's first bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The head is not whole yet.
    More,
    /// Switch protocols: send the answer; what follows `head_bytes` are frames.
    Upgrade {
        /// The 101 answer.
        answer: Vec<u8>,
        /// Length of the head.
        head_bytes: usize,
        /// Whether the path is the application's own, without Socket.IO.
        plain: bool,
    },
    /// Not for Engine.IO: the control thread answers.
    HandOver,
    /// Send this and close.
    Refuse(Vec<u8>),
}

/// Decides about the bytes received so far. `speaks_plain` says which paths are WebSockets of the
/// application's own.
pub fn decide(
    bytes: &[u8],
    origins: &CorsOrigins,
    speaks_plain: impl Fn(&str) -> bool,
) -> Decision {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_bytes = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) if head_bytes <= HEAD_BYTES_MAX => head_bytes,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Decision::More,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return refuse("431 Request Header Fields Too Large", "request head too large");
        }
        Err(httparse::Error::Version) => {
            return refuse("505 HTTP Version Not Supported", "HTTP/1.1 is needed");
        }
        Err(_) => return refuse("400 Bad Request", "malformed request"),
    };
    let head = Head { request, origins };
    let target = head.request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let plain = speaks_plain(path);
    if !plain && !path.starts_with("/socket.io/") {
        return Decision::HandOver;
    }
    match head.check(if plain { None } else { Some(query) }) {
        Ok(key) => Decision::Upgrade { answer: switching(&key), head_bytes, plain },
        Err(answer) => Decision::Refuse(answer),
    }
}

struct Head<'a, 'h> {
    request: httparse::Request<'h, 'a>,
    origins: &'a CorsOrigins,
}

impl Head<'_, '_> {
    /// The accept key of a proper handshake, or the answer that refuses it.
    fn check(&self, query: Option<&str>) -> Result<String, Vec<u8>> {
        if let Some(query) = query {
            self.check_engine(query)?;
        }
        let upgrades =
            self.has_token("upgrade", "websocket") && self.has_token("connection", "upgrade");
        let bad = |message| Err(answer("400 Bad Request", "text/html", "", message));
        if self.request.method != Some("GET") {
            return bad("a WebSocket handshake is a GET");
        }
        if !upgrades {
            return if query.is_some() {
                Err(engine_error(ErrorCode::BadRequest))
            } else {
                bad("Upgrade: websocket is needed")
            };
        }
        if self.request.version != Some(1) || self.count("host") != 1 {
            return bad("HTTP/1.1 with one Host is needed");
        }
        if self.value("sec-websocket-version") != Some(b"13") {
            let version = "Sec-WebSocket-Version: 13\r\n";
            return Err(answer(
                "426 Upgrade Required",
                "text/html",
                version,
                "version 13 is needed",
            ));
        }
        let has_body = self.count("transfer-encoding") > 0
            || self.value("content-length").is_some_and(|length| length != b"0");
        if has_body
            || self.count("sec-websocket-key") != 1
            || self.count("sec-websocket-version") != 1
        {
            return bad("a handshake has one key and no body");
        }
        if !self.is_origin_allowed() {
            return Err(answer(
                "403 Forbidden",
                "text/html",
                "",
                "this Origin is not in CORS_ORIGINS",
            ));
        }
        match self.value("sec-websocket-key").and_then(accept_key) {
            Some(key) => Ok(key),
            None => bad("Sec-WebSocket-Key is not 16 bytes of base64"),
        }
    }

    /// Engine.IO's own order of checks.
    fn check_engine(&self, query: &str) -> Result<(), Vec<u8>> {
        let error = if parameter(query, "transport") != Some("websocket") {
            ErrorCode::TransportUnknown
        } else if parameter(query, "sid").is_some() {
            ErrorCode::SessionIdUnknown
        } else if self.request.method != Some("GET") {
            ErrorCode::BadHandshakeMethod
        } else if parameter(query, "EIO") != Some("4") {
            ErrorCode::UnsupportedProtocolVersion
        } else {
            return Ok(());
        };
        if self.has_token("upgrade", "websocket") {
            // What Node sends on an upgrade: always 400, the message as body.
            return Err(answer("400 Bad Request", "text/html", "", error.message()));
        }
        Err(engine_error(error))
    }

    /// Browsers say where a page came from. Our own pages and the configured ones may connect, and
    /// whoever is no browser.
    fn is_origin_allowed(&self) -> bool {
        let Some(origin) = self.value("origin") else { return true };
        let own = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        own.is_some_and(|host| Some(host) == self.value("host")) || self.origins.allows(origin)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named =
            self.request.headers.iter().filter(move |it| it.name.eq_ignore_ascii_case(name));
        named.map(|it| it.value.trim_ascii())
    }

    fn value(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    fn count(&self, name: &str) -> usize {
        self.values(name).count()
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        let tokens = self.values(name).flat_map(|value| value.split(|&byte| byte == b','));
        tokens.map(<[u8]>::trim_ascii).any(|it| it.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// The first value of a query parameter, as written.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn switching(accept: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

fn engine_error(error: ErrorCode) -> Vec<u8> {
    let mut body = Vec::new();
    error.write_json(&mut body);
    let status = if error.http_status() == 403 { "403 Forbidden" } else { "400 Bad Request" };
    answer(status, "application/json", "", &String::from_utf8_lossy(&body))
}

fn refuse(status: &str, message: &str) -> Decision {
    Decision::Refuse(answer(status, "text/html", "", message))
}

/// An HTTP answer after which the connection closes; `extra` are whole header lines.
pub fn answer(status: &str, content_type: &str, extra: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{extra}\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request(target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut text = format!("GET {target} HTTP/1.1\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        (text + "\r\n").into_bytes()
    }

    fn handshake(change: &[(&'static str, &'static str)]) -> Vec<u8> {
        let mut headers = vec![
            ("Host", "chat.example"),
            ("Upgrade", "WebSocket"),
            ("Connection", "keep-alive, Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
        ];
        for &(name, value) in change {
            headers.retain(|(it, _)| *it != name);
            if !value.is_empty() {
                headers.push((name, value));
            }
        }
        request("/socket.io/?EIO=4&transport=websocket", &headers)
    }

    fn decided(bytes: &[u8]) -> Decision {
        decide(bytes, &Config::default().cors_origins, |path| path == "/plain")
    }

    fn status(bytes: &[u8]) -> String {
        match decided(bytes) {
            Decision::Refuse(answer) => String::from_utf8_lossy(&answer[9..12]).into_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_proper_handshake_is_upgraded_at_every_split() {
        let bytes = handshake(&[]);
        for end in 0..bytes.len() {
            assert_eq!(decided(&bytes[..end]), Decision::More, "at {end}");
        }
        let Decision::Upgrade { answer, head_bytes, plain } = decided(&bytes) else {
            panic!("not upgraded")
        };
        assert!(String::from_utf8_lossy(&answer).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!((head_bytes, plain), (bytes.len(), false));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (change, expected) in [
            (("Host", ""), "400"),
            (("Upgrade", ""), "400"),
            (("Connection", "keep-alive"), "400"),
            (("Sec-WebSocket-Version", "8"), "426"),
            (("Sec-WebSocket-Key", ""), "400"),
            (("Sec-WebSocket-Key", "c2hvcnQ="), "400"),
            (("Content-Length", "5"), "400"),
            (("Transfer-Encoding", "chunked"), "400"),
            (("Origin", "http://evil.example"), "403"),
            (("Origin", "null"), "403"),
        ] {
            assert_eq!(status(&handshake(&[change])), expected, "{change:?}");
        }
        assert!(matches!(
            decided(&handshake(&[("Origin", "https://chat.example")])),
            Decision::Upgrade { .. }
        ));
    }

    #[test]
    fn engine_io_errors_have_their_codes() {
        let headers = [("Host", "h")];
        for (target, code) in [
            ("/socket.io/?EIO=4", "\"code\":0"),
            ("/socket.io/?EIO=4&transport=polling", "\"code\":0"),
            ("/socket.io/?EIO=4&transport=websocket&sid=x", "\"code\":1"),
            ("/socket.io/?EIO=4&transport=websocket", "\"code\":3"),
            ("/socket.io/?EIO=3&transport=websocket", "\"code\":5"),
        ] {
            let Decision::Refuse(answer) = decided(&request(target, &headers)) else {
                panic!("{target} was not refused")
            };
            assert!(String::from_utf8_lossy(&answer).contains(code), "{target}");
        }
    }

    #[test]
    fn other_paths_are_handed_over() {
        for target in ["/", "/health", "/socket.io?EIO=4", "/socket.iox/"] {
            assert_eq!(decided(&request(target, &[("Host", "h")])), Decision::HandOver, "{target}");
        }
    }

    #[test]
    fn heads_are_bounded() {
        let long = request(&format!("/{}", "a".repeat(9000)), &[("Host", "h")]);
        assert_eq!((status(&long), status(&long[..8500])), ("431".into(), "431".into()));
        let many = vec![("X", "y"); 65];
        assert_eq!(status(&request("/", &many)), "431");
        assert_eq!(status(b"PRI * HTTP/2.0\r\n\r\n"), "505");
        assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\x00"), "400");
        assert_eq!(status(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"), "400");
    }
}
