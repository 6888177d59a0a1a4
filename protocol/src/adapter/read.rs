//! MessagePack, as `notepack.io` reads it, into JSON text.
//!
//! One pass, no tree: what is allocated is the text, at most 30 times the input (an empty
//! attachment is two bytes there and a placeholder here), and the attachments. Lengths that are
//! announced allocate nothing.

use super::number::{write_date, write_number};
use super::{DEPTH_MAX, Malformed};
use crate::json::{write_string, write_u64};

/// What becomes of binary parts.
pub(super) enum Binary {
    /// They are taken out; a placeholder stands in their place.
    TakenOut(Vec<Box<[u8]>>),
    /// They become what `JSON.stringify` makes of a `Buffer`.
    Written,
}

/// The JSON of one value, which must be all there is.
pub(super) fn to_json(bytes: &[u8], binary: &mut Binary) -> Result<String, Malformed> {
    let mut reader = Reader { rest: bytes, out: Vec::with_capacity(bytes.len() * 2), binary };
    reader.value(0)?;
    match reader.rest {
        [] => String::from_utf8(reader.out).map_err(|_| Malformed::Json),
        _ => Err(Malformed::Trailing),
    }
}

struct Reader<'a, 'b> {
    rest: &'a [u8],
    out: Vec<u8>,
    binary: &'b mut Binary,
}

impl<'a> Reader<'a, '_> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], Malformed> {
        let count = usize::try_from(count).map_err(|_| Malformed::Short)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A big-endian number of 1, 2, 4 or 8 bytes.
    fn uint(&mut self, bytes: u32) -> Result<u64, Malformed> {
        let taken = self.take(u64::from(bytes))?;
        Ok(taken.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn int(&mut self, bytes: u32) -> Result<i64, Malformed> {
        let unused = 64 - 8 * bytes;
        Ok((self.uint(bytes)? << unused).cast_signed() >> unused)
    }

    fn value(&mut self, depth: usize) -> Result<(), Malformed> {
        let head = self.uint(1)? as u8;
        match head {
            0x00..=0x7f => self.number(f64::from(head)),
            0x80..=0x8f => self.map(u64::from(head & 0x0f), depth)?,
            0x90..=0x9f => self.array(u64::from(head & 0x0f), depth)?,
            0xa0..=0xbf => self.text(u64::from(head & 0x1f))?,
            0xc0 => self.out.extend_from_slice(b"null"),
            0xc2 => self.out.extend_from_slice(b"false"),
            0xc3 => self.out.extend_from_slice(b"true"),
            0xc4..=0xc6 => {
                let count = self.uint(1 << (head - 0xc4))?;
                self.binary(count)?;
            }
            0xc7..=0xc9 => {
                let count = self.uint(1 << (head - 0xc7))?;
                self.long_extension(count, head == 0xc7)?;
            }
            0xca => {
                let number = f32::from_bits(self.uint(4)? as u32);
                self.number(f64::from(number));
            }
            0xcb => {
                let number = f64::from_bits(self.uint(8)?);
                self.number(number);
            }
            // Node reads integers as doubles too.
            0xcc..=0xcf => {
                let number = self.uint(1 << (head - 0xcc))? as f64;
                self.number(number);
            }
            0xd0..=0xd3 => {
                let number = self.int(1 << (head - 0xd0))? as f64;
                self.number(number);
            }
            0xd4..=0xd8 => self.extension(1 << (head - 0xd4))?,
            0xd9..=0xdb => {
                let count = self.uint(1 << (head - 0xd9))?;
                self.text(count)?;
            }
            0xdc | 0xdd => {
                let count = self.uint(2 << (head - 0xdc))?;
                self.array(count, depth)?;
            }
            0xde | 0xdf => {
                let count = self.uint(2 << (head - 0xde))?;
                self.map(count, depth)?;
            }
            0xe0..=0xff => self.number(f64::from(head.cast_signed())),
            0xc1 => return Err(Malformed::Type),
        }
        Ok(())
    }

    fn number(&mut self, number: f64) {
        write_number(&mut self.out, number);
    }

    /// Bytes that are no UTF-8 become U+FFFD, as in Node.
    fn text(&mut self, count: u64) -> Result<(), Malformed> {
        let taken = self.take(count)?;
        write_string(&mut self.out, &String::from_utf8_lossy(taken));
        Ok(())
    }

    fn array(&mut self, count: u64, depth: usize) -> Result<(), Malformed> {
        if depth == DEPTH_MAX {
            return Err(Malformed::Limit);
        }
        self.out.push(b'[');
        for index in 0..count {
            if index > 0 {
                self.out.push(b',');
            }
            self.value(depth + 1)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn map(&mut self, count: u64, depth: usize) -> Result<(), Malformed> {
        if depth == DEPTH_MAX {
            return Err(Malformed::Limit);
        }
        self.out.push(b'{');
        let mut first = true;
        for _ in 0..count {
            let key = self.key()?;
            // `JSON.stringify` leaves out what is undefined.
            if let [0xd4, 0, _, rest @ ..] = self.rest {
                self.rest = rest;
                continue;
            }
            if !std::mem::take(&mut first) {
                self.out.push(b',');
            }
            write_string(&mut self.out, &key);
            self.out.push(b':');
            match &*key {
                "_placeholder" => self.mark(depth + 1)?,
                _ => self.value(depth + 1)?,
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn key(&mut self) -> Result<std::borrow::Cow<'a, str>, Malformed> {
        let count = match self.uint(1)? {
            head @ 0xa0..=0xbf => head & 0x1f,
            head @ 0xd9..=0xdb => self.uint(1 << (head - 0xd9))?,
            _ => return Err(Malformed::Type),
        };
        Ok(String::from_utf8_lossy(self.take(count)?))
    }

    /// The value of a key `_placeholder` that somebody sent: one that would make its object a
    /// placeholder becomes `false`.
    fn mark(&mut self, depth: usize) -> Result<(), Malformed> {
        let start = self.out.len();
        let taken_out = self.taken_out();
        self.value(depth)?;
        if !matches!(self.out.get(start..), Some(b"false" | b"null")) {
            self.out.truncate(start);
            self.out.extend_from_slice(b"false");
            if let Binary::TakenOut(attachments) = self.binary {
                attachments.truncate(taken_out);
            }
        }
        Ok(())
    }

    fn taken_out(&self) -> usize {
        match &self.binary {
            Binary::TakenOut(attachments) => attachments.len(),
            Binary::Written => 0,
        }
    }

    fn binary(&mut self, count: u64) -> Result<(), Malformed> {
        let taken = self.take(count)?;
        let num = self.taken_out();
        match self.binary {
            Binary::TakenOut(attachments) => {
                attachments.push(taken.into());
                self.out.extend_from_slice(PLACEHOLDER);
                write_u64(&mut self.out, num as u64);
                self.out.push(b'}');
            }
            Binary::Written => {
                self.out.extend_from_slice(b"{\"type\":\"Buffer\",\"data\":[");
                for (index, byte) in taken.iter().enumerate() {
                    if index > 0 {
                        self.out.push(b',');
                    }
                    write_u64(&mut self.out, u64::from(*byte));
                }
                self.out.extend_from_slice(b"]}");
            }
        }
        Ok(())
    }

    /// An extension of a fixed size.
    fn extension(&mut self, size: u64) -> Result<(), Malformed> {
        let kind = self.int(1)?;
        match (size, kind) {
            (1, 0) => {
                self.take(1)?; // `undefined`, of old
                self.out.extend_from_slice(b"null");
            }
            (4, -1) => {
                let seconds = self.uint(4)? as f64;
                write_date(&mut self.out, seconds * 1e3);
            }
            (8, -1) => {
                let (high, low) = (self.uint(4)?, self.uint(4)?);
                let seconds = ((high & 3) << 32 | low) as f64;
                write_date(&mut self.out, seconds * 1e3 + (high >> 2) as f64 / 1e6);
            }
            (8, 0) => {
                let ms = self.int(8)? as f64; // a date, of old
                write_date(&mut self.out, ms);
            }
            _ => self.unknown(kind, size)?,
        }
        Ok(())
    }

    fn long_extension(&mut self, size: u64, is_short: bool) -> Result<(), Malformed> {
        match self.int(1)? {
            0 => self.binary(size), // an `ArrayBuffer`, of old
            -1 if is_short && size == 12 => {
                let nanoseconds = self.uint(4)? as f64;
                let seconds = self.int(8)? as f64;
                write_date(&mut self.out, seconds * 1e3 + nanoseconds / 1e6);
                Ok(())
            }
            -1 if is_short => Err(Malformed::Type),
            kind => self.unknown(kind, size),
        }
    }

    /// Node makes an array of an extension's number and its bytes.
    fn unknown(&mut self, kind: i64, size: u64) -> Result<(), Malformed> {
        self.out.push(b'[');
        self.number(kind as f64);
        self.out.push(b',');
        self.binary(size)?;
        self.out.push(b']');
        Ok(())
    }
}

/// How every placeholder begins that is written here. No string holds this text: in strings, quotes
/// have a backslash before them.
pub(super) const PLACEHOLDER: &[u8] = b"{\"_placeholder\":true,\"num\":";
