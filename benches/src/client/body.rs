//! The body of a benchmark message: a JSON string that says when it was due, and which it is.
//!
//! `~` then 16 hexadecimal digits of the due time in ns, 4 of the room, 8 of the number, then `x`.

/// Marks the start; occurs nowhere else in a frame.
const MARK: u8 = b'~';
/// Bytes before the padding: the smallest body.
pub const BYTES_MIN: usize = 29;

/// What a body says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When the message was due, ns of [`super::Clock`].
    pub due: u64,
    /// Index of the room.
    pub room: u16,
    /// Which message of the room it is, from 0.
    pub number: u32,
}

impl Stamp {
    /// Appends the body, `bytes` long, without quotes.
    pub fn push(self, out: &mut Vec<u8>, bytes: usize) {
        let end = out.len() + bytes.max(BYTES_MIN);
        out.push(MARK);
        push_hex(out, self.due, 16);
        push_hex(out, u64::from(self.room), 4);
        push_hex(out, u64::from(self.number), 8);
        out.resize(end, b'x');
    }

    /// Finds a body in a frame's payload: where it starts, and what it says.
    #[inline]
    #[must_use]
    pub fn find(payload: &[u8]) -> Option<(usize, Self)> {
        let at = memchr::memchr(MARK, payload)?;
        let digits: &[u8; 28] = payload.get(at + 1..)?.first_chunk()?;
        let due = hex(&digits[..16]);
        let (room, number) = (hex(&digits[16..20]) as u16, hex(&digits[20..]) as u32);
        Some((at, Self { due, room, number }))
    }
}

fn push_hex(out: &mut Vec<u8>, value: u64, digits: u32) {
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(value >> (4 * place) & 15) as usize]);
    }
}

/// Digits are trusted to be digits: they are our own.
#[inline]
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
        let stamp = Stamp { due: 0x0123_4567_89ab_cdef, room: 999, number: 4_000_000_000 };
        let mut payload = br#"42["message",{"body":""#.to_vec();
        let at = payload.len();
        stamp.push(&mut payload, 100);
        assert_eq!(payload.len(), at + 100);
        assert_eq!(Stamp::find(&payload), Some((at, stamp)));
        assert_eq!(Stamp::find(&payload[..at + 28]), None);
    }
}
