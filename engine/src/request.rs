//! A request of a connection: a WebSocket handshake, a poll, or something for the control thread.
//!
//! Pure: bytes in, decision out. It reads no more HTTP than Engine.IO needs; the head is bounded in
//! bytes, lines and (by its caller) time. Header values are bytes, whatever they are.

use std::borrow::Cow;

use throng_protocol::engineio::ErrorCode;
use throng_protocol::gzip::gzip;
use throng_protocol::http::{Framing, Head, HeadError, HeadLimits, Version, parameter, parse_head};
use throng_protocol::ws::handshake::accept_key;
use throng_protocol::ws::negotiate;

use crate::app::Protocol;
use crate::codec::Dialect;
use crate::config::{Config, CorsOrigins};
use crate::ids::{Seal, SessionKey};
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, POLL_COMPRESS_BYTES_MIN};

/// The subprotocol of [`Protocol::Json`].
pub const JSON_SUBPROTOCOL: &str = "throng.json.v1";

/// What is to be done with a connection's first bytes.
#[derive(Debug)]
pub enum Decision {
    /// The head is not whole yet.
    More,
    /// Not for Engine.IO: the control thread answers.
    HandOver,
    /// Send this and close.
    Refuse(Vec<u8>),
    /// Send this; the next request begins after `used` bytes.
    Say {
        /// The answer.
        answer: Vec<u8>,
        /// Bytes of the request.
        used: usize,
    },
    /// Switch to WebSocket.
    Upgrade(Box<Upgrade>),
    /// A polling client's request.
    Ask(Box<Asking>),
}

/// A proper WebSocket handshake.
#[derive(Debug)]
pub struct Upgrade {
    /// The 101 answer.
    pub answer: Vec<u8>,
    /// Bytes of the request; what follows are frames.
    pub used: usize,
    /// What will be spoken.
    pub protocol: Protocol,
    /// The polling session it wants to take over.
    pub session: Option<SessionKey>,
    /// The client's window, if messages may be compressed.
    pub window_bits: Option<u8>,
    /// The client cannot take binary messages.
    pub base64: bool,
}

impl Upgrade {
    /// How the client wants its packets.
    pub fn dialect(&self) -> Dialect {
        let dialect = Dialect::new(self.protocol == Protocol::Json, self.window_bits);
        if self.base64 { dialect.without_binary() } else { dialect }
    }
}

/// A polling client's request.
#[derive(Debug)]
pub struct Asking {
    /// Bytes of its head.
    pub used: usize,
    /// How the answer is to look.
    pub meta: Meta,
    /// What is spoken.
    pub protocol: Protocol,
    /// What it asks.
    pub verb: Verb,
}

/// What a polling client asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Verb {
    /// A session.
    Open,
    /// Packets of its session.
    Get(SessionKey),
    /// To take a body of packets; of something else than text if not so.
    Post(SessionKey, Framing, bool),
    /// Something that sessions do not know.
    Other(SessionKey),
}

/// How the answer to a request is to look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meta {
    /// The connection stays.
    pub keep_alive: bool,
    /// Long answers may be compressed.
    pub gzip: bool,
    /// Header lines for the page that asks.
    fields: Box<str>,
}

/// What decisions depend on beside the bytes.
pub struct Site<'a> {
    /// The settings.
    pub config: &'a Config,
    /// What session ids are signed with.
    pub seal: &'a Seal,
    /// What is spoken on a path.
    pub speaks: fn(&str) -> Option<Protocol>,
}

/// Decides about the bytes received so far; `allow` is asked before a session begins.
pub fn decide(
    bytes: &[u8],
    site: &Site<'_>,
    allow: impl FnOnce(&Head<'_>) -> Result<(), String>,
) -> Decision {
    let limits = HeadLimits { bytes_max: HEAD_BYTES_MAX, headers_max: HEADERS_MAX };
    let (head, used) = match parse_head(bytes, &limits) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Decision::More,
        Err(error) => return Decision::Refuse(head_error(error)),
    };
    let Some(protocol) = (site.speaks)(head.path()) else { return Decision::HandOver };
    let request = Request { head: &head, used, protocol, site };
    let decided = match protocol.is_engine_io() {
        true => request.engine_io(allow),
        false => request.websocket(allow),
    };
    decided.unwrap_or_else(|refusal| refusal)
}

struct Request<'a, 'h> {
    head: &'a Head<'h>,
    used: usize,
    protocol: Protocol,
    site: &'a Site<'a>,
}

type Decided = Result<Decision, Decision>;

impl Request<'_, '_> {
    /// Engine.IO's own order of checks.
    fn engine_io(&self, allow: impl FnOnce(&Head<'_>) -> Result<(), String>) -> Decided {
        if self.head.method() == "OPTIONS" && !self.cors().is_empty() {
            return Ok(self.say("204 No Content", &self.preflight(), ""));
        }
        let query = self.head.query();
        let transport = parameter(query, "transport");
        if !matches!(transport, Some("polling" | "websocket")) {
            return Err(self.fail(ErrorCode::TransportUnknown));
        }
        let session = match parameter(query, "sid") {
            Some(sid) => {
                let session = self.site.seal.session(sid);
                Some(session.ok_or_else(|| self.fail(ErrorCode::SessionIdUnknown))?)
            }
            None => {
                self.check_method()?;
                None
            }
        };
        if !self.is_origin_allowed() {
            return Err(self.fail(ErrorCode::Forbidden));
        }
        if (transport == Some("websocket")) != self.wants_websocket() {
            return Err(self.fail(ErrorCode::BadRequest));
        }
        if session.is_none() {
            self.check_allowed(allow)?;
        }
        if parameter(query, "EIO") != Some("4") {
            let told = if session.is_some() {
                ErrorCode::BadRequest
            } else {
                ErrorCode::UnsupportedProtocolVersion
            };
            return Err(self.fail(told));
        }
        if transport == Some("websocket") { self.upgrade(session) } else { self.ask(session) }
    }

    fn check_method(&self) -> Result<(), Decision> {
        match self.head.method() {
            "GET" => Ok(()),
            _ => Err(self.fail(ErrorCode::BadHandshakeMethod)),
        }
    }

    fn check_allowed(
        &self,
        allow: impl FnOnce(&Head<'_>) -> Result<(), String>,
    ) -> Result<(), Decision> {
        allow(self.head).map_err(|message| {
            if self.wants_websocket() {
                return self.refuse("400 Bad Request", "", &message);
            }
            let body = serde_json::json!({"code": 4, "message": message}).to_string();
            self.say("403 Forbidden", "Content-Type: application/json\r\n", &body)
        })
    }

    /// A WebSocket without Engine.IO.
    fn websocket(&self, allow: impl FnOnce(&Head<'_>) -> Result<(), String>) -> Decided {
        if self.head.method() != "GET" || !self.wants_websocket() {
            return Err(self.refuse(
                "426 Upgrade Required",
                "Upgrade: websocket\r\n",
                "Upgrade: websocket is needed",
            ));
        }
        if !self.is_origin_allowed() {
            return Err(self.foreign());
        }
        allow(self.head).map_err(|message| self.refuse("403 Forbidden", "", &message))?;
        self.upgrade(None)
    }

    /// Checks the handshake itself (RFC 6455 §4.2.1).
    fn upgrade(&self, session: Option<SessionKey>) -> Decided {
        let head = self.head;
        let bad = |message| Err(self.refuse("400 Bad Request", "", message));
        if head.method() != "GET" || head.version() != Version::Http11 {
            return bad("a WebSocket handshake is a GET of HTTP/1.1");
        }
        if head.value("sec-websocket-version") != Some(b"13") {
            let version = "Sec-WebSocket-Version: 13\r\n";
            return Err(self.refuse("426 Upgrade Required", version, "version 13 is needed"));
        }
        let single = |name| head.count(name) == 1;
        if !matches!(head.framing(), Ok(Framing::None | Framing::Length(0)))
            || !single("sec-websocket-key")
            || !single("sec-websocket-version")
        {
            return bad("a handshake has one key and no body");
        }
        let Some(accept) = head.value("sec-websocket-key").and_then(accept_key) else {
            return bad("Sec-WebSocket-Key is not 16 bytes of base64");
        };
        let asks = head.count("sec-websocket-protocol") > 0;
        let subprotocol = match (self.protocol, asks) {
            (Protocol::Json, true) if self.offers_json() => {
                format!("Sec-WebSocket-Protocol: {JSON_SUBPROTOCOL}\r\n")
            }
            (Protocol::Json, true) => return bad("the subprotocol here is throng.json.v1"),
            _ => String::new(),
        };
        let deflate = match self.site.config.compression {
            true => negotiate(head.values("sec-websocket-extensions")),
            false => None,
        };
        let extensions =
            deflate.as_ref().map(|it| format!("Sec-WebSocket-Extensions: {}\r\n", it.response()));
        let extensions = extensions.unwrap_or_default();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{subprotocol}{extensions}{}\r\n",
            self.cors()
        );
        Ok(Decision::Upgrade(Box::new(Upgrade {
            answer: answer.into_bytes(),
            used: self.used,
            protocol: self.protocol,
            session,
            window_bits: deflate.map(|it| it.server_window_bits()),
            base64: parameter(head.query(), "b64").is_some(),
        })))
    }

    fn ask(&self, session: Option<SessionKey>) -> Decided {
        let head = self.head;
        let framing = head.framing().map_err(|error| Decision::Refuse(head_error(error)))?;
        let empty = matches!(framing, Framing::None | Framing::Length(0));
        let verb = match (head.method(), session) {
            ("GET", Some(session)) if empty => Verb::Get(session),
            ("POST", Some(session)) => {
                let octets = b"application/octet-stream";
                let is_text = head.value("content-type").is_none_or(|it| !it.starts_with(octets));
                Verb::Post(session, framing, is_text)
            }
            ("GET", None) if empty => Verb::Open,
            ("GET", _) | (_, None) => {
                return Err(self.refuse("400 Bad Request", "", "a GET has no body"));
            }
            (_, Some(session)) => Verb::Other(session),
        };
        // Where a body follows that nobody reads, the next request cannot be found; and after an
        // answer to HEAD with a body, the next answer.
        let unread = matches!(verb, Verb::Other(_)) && (!empty || head.method() == "HEAD");
        let meta = Meta { keep_alive: self.keep_alive() && !unread, ..self.meta() };
        Ok(Decision::Ask(Box::new(Asking { used: self.used, meta, protocol: self.protocol, verb })))
    }

    /// Names of subprotocols are told apart by case (RFC 6455 §11.5).
    fn offers_json(&self) -> bool {
        let offers =
            self.head.values("sec-websocket-protocol").flat_map(|it| it.split(|b| *b == b','));
        offers.map(<[u8]>::trim_ascii).any(|it| it == JSON_SUBPROTOCOL.as_bytes())
    }

    fn meta(&self) -> Meta {
        Meta {
            keep_alive: self.keep_alive(),
            gzip: self.head.accepts_gzip(),
            fields: self.cors().into(),
        }
    }

    fn keep_alive(&self) -> bool {
        self.head.keep_alive()
    }

    fn wants_websocket(&self) -> bool {
        self.head.has_token("upgrade", "websocket") && self.head.has_token("connection", "upgrade")
    }

    /// An Engine.IO error, in the way that fits the transport.
    fn fail(&self, error: ErrorCode) -> Decision {
        if self.wants_websocket() {
            if error == ErrorCode::Forbidden {
                return self.foreign();
            }
            // What Node sends on an upgrade: always 400, the message as body.
            return self.refuse("400 Bad Request", "", error.message());
        }
        let body = error_body(error);
        let status = if error.http_status() == 403 { "403 Forbidden" } else { "400 Bad Request" };
        self.say(status, "Content-Type: application/json\r\n", &String::from_utf8_lossy(&body))
    }

    fn foreign(&self) -> Decision {
        self.refuse("403 Forbidden", "", "this Origin is not in CORS_ORIGINS")
    }

    /// Answers, and closes.
    fn refuse(&self, status: &str, fields: &str, body: &str) -> Decision {
        Decision::Refuse(answer(status, "text/html", &(self.cors() + fields), body))
    }

    /// Answers, and goes on if the connection may stay.
    fn say(&self, status: &str, fields: &str, body: &str) -> Decision {
        let empty = matches!(self.head.framing(), Ok(Framing::None | Framing::Length(0)));
        let keep_alive = self.keep_alive() && empty && self.head.method() != "HEAD";
        let meta = Meta { keep_alive, gzip: false, fields: self.cors().into() };
        let answer = meta.respond(status, fields, body.as_bytes());
        if keep_alive {
            Decision::Say { answer, used: self.used }
        } else {
            Decision::Refuse(answer)
        }
    }

    /// Browsers say where a page came from. Our own pages and the configured ones may connect, and
    /// whoever is no browser.
    fn is_origin_allowed(&self) -> bool {
        let Some(origin) = self.head.value("origin") else { return true };
        let own = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        own.is_some_and(|host| Some(host) == self.head.value("host"))
            || self.site.config.cors_origins.allows(origin)
    }

    /// Header lines that let an allowed page of another origin read answers.
    fn cors(&self) -> String {
        let allowed = match &self.site.config.cors_origins {
            CorsOrigins::None => return String::new(),
            CorsOrigins::Any => return "Access-Control-Allow-Origin: *\r\n".to_owned(),
            CorsOrigins::List(origins) => match &origins[..] {
                [only] => Some(only),
                origins => {
                    let asks = self.head.value("origin");
                    origins.iter().find(|it| asks == Some(it.as_str().as_bytes()))
                }
            },
        };
        let allowed = allowed.map(|origin| {
            let origin = origin.as_str();
            format!(
                "Access-Control-Allow-Origin: {origin}\r\n\
                 Access-Control-Allow-Credentials: true\r\n"
            )
        });
        allowed.unwrap_or_default() + "Vary: Origin\r\n"
    }

    fn preflight(&self) -> String {
        let methods = "GET,HEAD,PUT,PATCH,POST,DELETE";
        let mut fields = format!("Access-Control-Allow-Methods: {methods}\r\n");
        let wanted = self.head.value("access-control-request-headers");
        if let Some(wanted) = wanted.and_then(|wanted| std::str::from_utf8(wanted).ok()) {
            fields += &format!(
                "Access-Control-Allow-Headers: {wanted}\r\nVary: Access-Control-Request-Headers\r\n"
            );
        }
        fields
    }
}

impl Meta {
    /// The same for an answer after which the connection closes.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { keep_alive: false, ..self }
    }

    /// An answer; `extra` are whole header lines.
    pub fn respond(&self, status: &str, extra: &str, body: &[u8]) -> Vec<u8> {
        let (body, encoding) = match self.gzip && body.len() >= POLL_COMPRESS_BYTES_MIN {
            true => (Cow::Owned(gzip(body)), "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"),
            false => (Cow::Borrowed(body), ""),
        };
        let connection = if self.keep_alive { "keep-alive" } else { "close" };
        // 204 has no length (RFC 9110 §8.6).
        let length = match status.starts_with("204") {
            true => String::new(),
            false => format!("Content-Length: {}\r\n", body.len()),
        };
        let mut answer = format!(
            "HTTP/1.1 {status}\r\n{extra}{encoding}{length}Cache-Control: no-store\r\n{}\
             Connection: {connection}\r\n\r\n",
            self.fields
        )
        .into_bytes();
        answer.extend_from_slice(&body);
        answer
    }
}

/// The body of an Engine.IO error.
pub fn error_body(error: ErrorCode) -> Vec<u8> {
    let mut body = Vec::new();
    error.write_json(&mut body);
    body
}

fn head_error(error: HeadError) -> Vec<u8> {
    let status = match error {
        HeadError::TooLarge => "431 Request Header Fields Too Large",
        HeadError::Version => "505 HTTP Version Not Supported",
        HeadError::Malformed => "400 Bad Request",
    };
    answer(status, "text/html", "", &error.to_string())
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
    use crate::ids::Entropy;

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
        let seal = Seal::new(&mut Entropy::default());
        let site = Site { config: &Config::default(), seal: &seal, speaks };
        decide(bytes, &site, |_| Ok(()))
    }

    fn speaks(path: &str) -> Option<Protocol> {
        match path {
            "/ws" => Some(Protocol::Json),
            path => path.starts_with("/socket.io/").then_some(Protocol::SocketIo),
        }
    }

    fn status(bytes: &[u8]) -> String {
        match decided(bytes) {
            Decision::Refuse(answer) | Decision::Say { answer, .. } => {
                String::from_utf8_lossy(&answer[9..12]).into_owned()
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_proper_handshake_is_upgraded_at_every_split() {
        let bytes = handshake(&[]);
        for end in 0..bytes.len() {
            assert!(matches!(decided(&bytes[..end]), Decision::More), "at {end}");
        }
        let Decision::Upgrade(upgrade) = decided(&bytes) else { panic!("not upgraded") };
        assert!(String::from_utf8_lossy(&upgrade.answer).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!((upgrade.used, upgrade.protocol), (bytes.len(), Protocol::SocketIo));
        assert_eq!((upgrade.session, upgrade.window_bits), (None, None));
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
            Decision::Upgrade(_)
        ));
    }

    #[test]
    fn engine_io_errors_have_their_codes() {
        let headers = [("Host", "h")];
        for (target, code) in [
            ("/socket.io/?EIO=4", "\"code\":0"),
            ("/socket.io/?EIO=4&transport=polling&sid=x", "\"code\":1"),
            ("/socket.io/?EIO=4&transport=__proto__", "\"code\":0"),
            ("/socket.io/?EIO=4&transport=websocket", "\"code\":3"),
            ("/socket.io/?EIO=3&transport=polling", "\"code\":5"),
        ] {
            let Decision::Say { answer, .. } = decided(&request(target, &headers)) else {
                panic!("{target} was not refused")
            };
            assert!(String::from_utf8_lossy(&answer).contains(code), "{target}");
        }
    }

    #[test]
    fn other_paths_are_handed_over() {
        for target in ["/", "/health", "/socket.io?EIO=4", "/socket.iox/"] {
            let decision = decided(&request(target, &[("Host", "h")]));
            assert!(matches!(decision, Decision::HandOver), "{target}");
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
