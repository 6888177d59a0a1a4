//! The body of a message: when it was due, and which it is.
//!
//! `~`, then in hexadecimal 16 digits of the due time in ns, 8 of the room, 8 of the number, then
//! `x` up to the wanted length. It needs no quoting in JSON, and `~` is nowhere else in a frame.

const MARK: u8 = b'~';
/// The smallest body, in bytes.
pub const BODY_BYTES_MIN: usize = 33;

/// What a body says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// When the message was due, by the generator's clock.
    pub due_ns: u64,
    /// Which room it is for.
    pub room: u32,
    /// Counts the room's messages, from 1.
    pub number: u32,
}

impl Stamp {
    /// The body, `bytes` long or a little longer.
    pub fn body(self, bytes: usize) -> String {
        let Self { due_ns, room, number } = self;
        let mut body = format!("~{due_ns:016x}{room:08x}{number:08x}");
        let padding = bytes.saturating_sub(body.len());
        body.extend(std::iter::repeat_n('x', padding));
        body
    }

    /// Finds a body in a payload: where it starts, and what it says.
    pub fn find(payload: &[u8]) -> Option<(usize, Self)> {
        let at = memchr::memchr(MARK, payload)?;
        let digits: &[u8; 32] = payload.get(at + 1..)?.first_chunk()?;
        let (due, rest) = digits.split_at(16);
        let (room, number) = rest.split_at(8);
        let stamp = Self { due_ns: hex(due), room: hex(room) as u32, number: hex(number) as u32 };
        Some((at, stamp))
    }
}

/// Digits are trusted to be digits: they are our own, or the message is foreign by its room.
fn hex(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |value, &digit| {
        value << 4 | u64::from((digit & 15) + if digit & 64 != 0 { 9 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back() {
        let stamp = Stamp { due_ns: 0x0123_4567_89ab_cdef, room: 70_999, number: 4_000_000_000 };
        let payload = format!(r#"42["message",{{"body":"{}"}}]"#, stamp.body(100));
        assert_eq!(stamp.body(100).len(), 100);
        assert_eq!(stamp.body(0).len(), BODY_BYTES_MIN);
        assert_eq!(Stamp::find(payload.as_bytes()), Some((22, stamp)));
        assert_eq!(Stamp::find(&payload.as_bytes()[..40]), None);
    }
}
