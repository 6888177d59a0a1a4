//! The one computed header of the opening handshake (RFC 6455 §4.2.2). The HTTP around it is
//! not this crate's.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use tungstenite::handshake::derive_accept_key;

/// Unused bits of the last character are let pass, as every server in the field does: they are
/// hashed with the key, so both ends still agree.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The `Sec-WebSocket-Accept` value for a client's `Sec-WebSocket-Key`.
///
/// `None` unless the key is padded base64 of exactly 16 bytes (§4.1), without whitespace around.
pub fn accept_key(client_key: &[u8]) -> Option<String> {
    let mut nonce = [0; 18]; // what 24 characters can decode to
    let is_key = client_key.len() == 24 && KEY.decode_slice(client_key, &mut nonce) == Ok(16);
    is_key.then(|| derive_accept_key(client_key))
}

#[cfg(test)]
mod tests {
    use super::accept_key;

    #[test]
    fn example_of_the_rfc() {
        let accept = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn keys_that_are_none() {
        let bad: [&[u8]; 8] = [
            b"",
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25jZQ== ",
            b"dGhlIHNhbXBsZSBub25jZSE=", // 17 bytes
            b"dGhlIHNhbXBsZSBub25jZSEh", // 18 bytes
            b"dGhlIHNhbXBsZSBub25j",     // 15 bytes
            b"dGhlIHNhbXBs\xff\xfeBub25jZQ==",
            b"========================",
        ];
        for key in bad {
            assert_eq!(accept_key(key), None, "{key:?}");
        }
    }

    #[test]
    fn unused_bits_are_ignored() {
        assert!(accept_key(b"dGhlIHNhbXBsZSBub25jZR==").is_some());
    }
}
