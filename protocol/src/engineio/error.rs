//! Why an Engine.IO request is refused before it has a session.

use crate::json;

/// The protocol's closed list of refusals; the number is the wire code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorCode {
    /// 0: `transport` is missing or not one that is offered.
    TransportUnknown = 0,
    /// 1: `sid` names no session.
    SessionIdUnknown = 1,
    /// 2: a handshake that is not a GET.
    BadHandshakeMethod = 2,
    /// 3: anything else about the request, such as `transport=websocket` without an upgrade.
    BadRequest = 3,
    /// 4: refused by policy, such as the origin or a limit.
    Forbidden = 4,
    /// 5: `EIO` is not 4.
    UnsupportedProtocolVersion = 5,
}

impl ErrorCode {
    /// The wire code, 0 to 5.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The message that the reference server sends with this code.
    pub fn message(self) -> &'static str {
        match self {
            ErrorCode::TransportUnknown => "Transport unknown",
            ErrorCode::SessionIdUnknown => "Session ID unknown",
            ErrorCode::BadHandshakeMethod => "Bad handshake method",
            ErrorCode::BadRequest => "Bad request",
            ErrorCode::Forbidden => "Forbidden",
            ErrorCode::UnsupportedProtocolVersion => "Unsupported protocol version",
        }
    }

    /// Status of an HTTP answer: 403 for `Forbidden`, else 400. The answer to a WebSocket
    /// upgrade is 400 for every code.
    pub fn http_status(self) -> u16 {
        if self == ErrorCode::Forbidden { 403 } else { 400 }
    }

    /// Appends the HTTP body, `{"code":<n>,"message":"<text>"}`, of type `application/json`.
    pub fn write_json(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"code\":");
        json::write_u64(out, u64::from(self.code()));
        out.extend_from_slice(b",\"message\":");
        json::write_string(out, self.message());
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorCode::*;

    #[test]
    fn the_closed_list() {
        let all = [
            TransportUnknown,
            SessionIdUnknown,
            BadHandshakeMethod,
            BadRequest,
            Forbidden,
            UnsupportedProtocolVersion,
        ];
        for (code, error) in (0..).zip(all) {
            assert_eq!(error.code(), code);
            assert_eq!(error.http_status(), if code == 4 { 403 } else { 400 });
            let mut body = Vec::new();
            error.write_json(&mut body);
            let expected = format!("{{\"code\":{code},\"message\":\"{}\"}}", error.message());
            assert_eq!(body, expected.as_bytes());
        }
    }
}
