//! Close frames: what a peer may put in one (RFC 6455 §5.5.1, §7.4).

use super::Violation;

/// Why the peer closes, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// Status code, one of those allowed on the wire.
    pub code: u16,
    /// Text for people, at most 123 bytes, possibly empty.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads a close frame's payload; `None` if it is empty, which is legal.
    pub(super) fn parse(payload: &'a [u8]) -> Result<Option<Self>, Violation> {
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            return if payload.is_empty() { Ok(None) } else { Err(Violation::CloseTruncated) };
        };
        let code = u16::from_be_bytes(*code);
        if !is_sendable(code) {
            return Err(Violation::CloseCode(code));
        }
        let reason = std::str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
        Ok(Some(CloseFrame { code, reason }))
    }
}

/// Codes that IANA has registered for frames (1012–1014 came after the RFC) and the two ranges
/// for libraries and applications. 1004, 1005, 1006 and 1015 never appear in a frame.
fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_wire() {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014] {
            assert!(is_sendable(code), "{code}");
        }
        for code in [3000, 3999, 4000, 4999] {
            assert!(is_sendable(code), "{code}");
        }
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!is_sendable(code), "{code}");
            let payload = code.to_be_bytes();
            assert_eq!(CloseFrame::parse(&payload), Err(Violation::CloseCode(code)));
        }
    }

    #[test]
    fn payload_shapes() {
        assert_eq!(CloseFrame::parse(b""), Ok(None));
        assert_eq!(CloseFrame::parse(b"\x03"), Err(Violation::CloseTruncated));
        let bye = CloseFrame { code: 1000, reason: "bye" };
        assert_eq!(CloseFrame::parse(b"\x03\xe8bye"), Ok(Some(bye)));
        assert_eq!(CloseFrame::parse(b"\x03\xe8\xff"), Err(Violation::Utf8));
    }
}
