//! Who may write over HTTP and see private rooms: whoever presents `API_KEY`.
//!
//! Invariant: how long a comparison takes says nothing about the key, since hashes are compared,
//! all of their bytes each time.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::reply::error;
use crate::config::Secret;

/// The lock of the writing part.
pub(super) struct Access {
    key: Option<[u8; 32]>,
}

impl Access {
    pub(super) fn new(key: Option<&Secret>) -> Self {
        Self { key: key.map(|key| hash(key.reveal().as_bytes())) }
    }

    /// Whether the request carries the key.
    pub(super) fn is_operator(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(key), Some(given), None) = (self.key, given.next(), given.next()) else {
            return false;
        };
        let Some(token) = bearer(given.as_bytes()) else { return false };
        let differs = key.iter().zip(hash(token)).fold(0, |sum, (one, other)| sum | (one ^ other));
        differs == 0
    }

    /// Why the request may not write, if it may not.
    pub(super) fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        if self.key.is_none() {
            let message = "writing is off: set API_KEY";
            return Some(error(StatusCode::FORBIDDEN, "forbidden", message));
        }
        if self.is_operator(headers) {
            return None;
        }
        let message = "Authorization: Bearer API_KEY is needed";
        let refusal = error(StatusCode::UNAUTHORIZED, "unauthorized", message);
        Some(([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response())
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The token of `Bearer token` (RFC 6750 §2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::config::load;

    fn access(key: Option<&str>) -> Access {
        let env = |name: &str| (name == "API_KEY").then(|| key.map(Into::into)).flatten();
        let loaded = load(None, env, |_| None).expect("a good key");
        Access::new(loaded.config.api_key.as_ref())
    }

    fn headers(values: &[&'static str]) -> HeaderMap {
        let pair = |value: &&'static str| (header::AUTHORIZATION, HeaderValue::from_static(value));
        let mut headers = HeaderMap::new();
        for (name, value) in values.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn only_the_whole_key_opens() {
        let access = access(Some("correct horse"));
        assert!(access.is_operator(&headers(&["Bearer correct horse"])));
        assert!(access.is_operator(&headers(&["bearer  correct horse "])));
        for values in [
            &[][..],
            &["Bearer correct hors"],
            &["Bearer correct horse2"],
            &["Bearer Correct horse"],
            &["Bearer "],
            &["Bearer"],
            &["Basic correct horse"],
            &["correct horse"],
            &["Bearer correct horse", "Bearer correct horse"],
        ] {
            assert!(!access.is_operator(&headers(values)), "{values:?}");
            let refusal = access.refusal(&headers(values)).expect("no key, no entry");
            assert_eq!(refusal.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(refusal.headers()[header::WWW_AUTHENTICATE], "Bearer");
        }
    }

    #[test]
    fn without_a_key_nobody_writes() {
        let access = access(None);
        for values in [&[][..], &["Bearer "], &["Bearer x"]] {
            assert!(!access.is_operator(&headers(values)), "{values:?}");
            let status = access.refusal(&headers(values)).map(|it| it.status());
            assert_eq!(status, Some(StatusCode::FORBIDDEN));
        }
    }
}
