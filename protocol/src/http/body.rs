//! A request's body, collected while it comes (RFC 9112 §6, §7.1).

use super::{BodyError, Framing};

/// Most digits of a chunk's size: 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;
/// Most bytes of chunk extensions and trailers of one body, together. Nobody needs them; without
/// a bound they keep a server busy with bytes that count nowhere.
const EXTRA_BYTES_MAX: u16 = 4096;

/// Decoder of one body; chunk extensions and trailers are dropped.
#[derive(Clone, Debug)]
pub struct Body {
    bytes: Vec<u8>,
    bytes_max: usize,
    extra_left: u16,
    state: State,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// One of the bytes left of a body that is not chunked.
    Data(usize),
    /// A digit of a chunk's size, of which some are read, or what ends it.
    Size { digits: u8, size: u64 },
    /// Extension of the chunk whose size is known.
    Extension(u64),
    /// The LF after such a size.
    SizeLf(u64),
    /// One of the bytes left of a chunk.
    Chunk(usize),
    /// The CR after a chunk.
    ChunkCr,
    /// The LF after a chunk.
    ChunkLf,
    /// The first byte of a trailer line, or of the empty line.
    TrailerStart,
    /// In a trailer line.
    Trailer,
    /// The LF of a trailer line.
    TrailerLf,
    /// The LF of the empty line.
    LastLf,
    /// Not this body's.
    Done,
    /// Never looked at.
    Failed(BodyError),
}

const SIZE_START: State = State::Size { digits: 0, size: 0 };

impl Body {
    /// A body of which nothing has come yet, of at most `bytes_max` bytes, chunking not counted.
    ///
    /// Fails with [`BodyError::TooLarge`] if its announced length is over that.
    pub fn new(framing: Framing, bytes_max: usize) -> Result<Body, BodyError> {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Data(within(length, bytes_max)?),
            Framing::Chunked => SIZE_START,
        };
        Ok(Body { bytes: Vec::new(), bytes_max, extra_left: EXTRA_BYTES_MAX, state })
    }

    /// Takes what belongs to the body from the start of `input` and says how many bytes that
    /// were: all of them, unless the body is done. An error is final and comes again.
    pub fn read(&mut self, input: &[u8]) -> Result<usize, BodyError> {
        let mut rest = input;
        while let (false, Some(byte)) = (self.is_done(), rest.first()) {
            let taken = match self.state {
                State::Data(left) => self.take(rest, left, State::Data, State::Done),
                State::Chunk(left) => self.take(rest, left, State::Chunk, State::ChunkCr),
                state => {
                    let next = self.next_state(state, *byte);
                    self.state = next.unwrap_or_else(State::Failed);
                    next.map(|_| 1)?
                }
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(input.len() - rest.len())
    }

    /// Whether all of the body has come.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Heap bytes held: at most twice what has arrived.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// What has come of the body so far.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn take(
        &mut self,
        input: &[u8],
        left: usize,
        more: impl Fn(usize) -> State,
        end: State,
    ) -> usize {
        let data = input.get(..left).unwrap_or(input);
        self.bytes.extend_from_slice(data);
        self.state = if data.len() == left { end } else { more(left - data.len()) };
        data.len()
    }

    fn next_state(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        Ok(match (state, byte) {
            (State::Size { digits: 1.., size }, b'\r') => State::SizeLf(size),
            (State::Size { digits: 1.., size }, b';') => State::Extension(size),
            (State::Size { digits, size }, _) => longer_size(digits, size, byte)?,
            (State::Extension(size), b'\r') => State::SizeLf(size),
            (State::Extension(_), _) => self.extra(byte, state)?,
            (State::SizeLf(0), b'\n') => State::TrailerStart,
            (State::SizeLf(size), b'\n') => {
                State::Chunk(within(size, self.bytes_max - self.bytes.len())?)
            }
            (State::ChunkCr, b'\r') => State::ChunkLf,
            (State::ChunkLf, b'\n') => SIZE_START,
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerStart | State::Trailer, _) => self.extra(byte, State::Trailer)?,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => State::Done,
            (State::Failed(error), _) => return Err(error),
            _ => return Err(BodyError::Malformed),
        })
    }

    /// Drops a byte that means nothing here: not a control character, and not too many of them.
    fn extra(&mut self, byte: u8, next: State) -> Result<State, BodyError> {
        let is_text = byte == b'\t' || !byte.is_ascii_control();
        let left = self.extra_left.checked_sub(1).filter(|_| is_text);
        self.extra_left = left.ok_or(BodyError::Malformed)?;
        Ok(next)
    }
}

fn longer_size(digits: u8, size: u64, byte: u8) -> Result<State, BodyError> {
    let digit = (byte as char).to_digit(16).filter(|_| digits < SIZE_DIGITS_MAX);
    let digit = digit.ok_or(BodyError::Malformed)?;
    Ok(State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) })
}

fn within(length: u64, max: usize) -> Result<usize, BodyError> {
    usize::try_from(length).ok().filter(|length| *length <= max).ok_or(BodyError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads in pieces of at most `step` bytes: the body and what was not taken.
    fn read(
        framing: Framing,
        input: &[u8],
        step: usize,
    ) -> Result<Option<(Vec<u8>, usize)>, BodyError> {
        let mut body = Body::new(framing, 100)?;
        let mut taken = 0;
        for piece in input.chunks(step) {
            taken += body.read(piece)?;
            if body.is_done() {
                break;
            }
        }
        let is_done = body.is_done();
        Ok(is_done.then(|| (body.into_bytes(), input.len() - taken)))
    }

    fn chunked(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, BodyError> {
        let whole = read(Framing::Chunked, input, usize::MAX);
        for step in 1..=input.len() {
            assert_eq!(read(Framing::Chunked, input, step), whole, "in pieces of {step}");
        }
        whole
    }

    #[test]
    fn bodies_by_length() {
        for (length, input, expected) in [
            (0, "next", Some("")),
            (4, "body", Some("body")),
            (4, "bodynext", Some("body")),
            (5, "body", None),
        ] {
            for step in 1..=input.len() {
                let read = read(Framing::Length(length), input.as_bytes(), step);
                let expected = expected.map(|it| (it.into(), input.len() - it.len()));
                assert_eq!(read, Ok(expected), "{length} {input}");
            }
        }
        assert_eq!(read(Framing::None, b"next", 9), Ok(Some((vec![], 4))));
        let none = Body::new(Framing::None, 0).expect("no limit needed");
        assert!(none.is_done());
    }

    #[test]
    fn lengths_over_the_limit_are_refused_before_a_byte() {
        for length in [101, 1 << 32, u64::MAX] {
            let refused = Body::new(Framing::Length(length), 100).map(|_| ());
            assert_eq!(refused, Err(BodyError::TooLarge));
        }
        let largest = Body::new(Framing::Length(1 << 40), 1 << 40).expect("within");
        assert_eq!(largest.held_bytes(), 0);
    }

    #[test]
    fn chunks() {
        for (input, expected, left) in [
            ("0\r\n\r\n", "", 0),
            ("0\r\n\r\nGET /", "", 5),
            ("4\r\nbody\r\n0\r\n\r\n", "body", 0),
            ("4\r\nbody\r\n00C\r\n more bodies\r\n000\r\n\r\n\r\n", "body more bodies", 2),
            ("1;name=\"va;lue\"\r\nx\r\n0;last\r\n\r\n", "x", 0),
            ("1\r\nx\r\n0\r\nTrailer: y\r\nContent-Length: 7\r\n\r\n\x00", "x", 1),
            ("0000000000000001\r\n\n\r\n0\r\n\r\n", "\n", 0),
        ] {
            assert_eq!(chunked(input.as_bytes()), Ok(Some((expected.into(), left))), "{input:?}");
        }
        assert_eq!(chunked(b"4\r\nbody\r\n0\r\n\r"), Ok(None));
        assert_eq!(chunked(b""), Ok(None));
    }

    #[test]
    fn chunks_that_are_none() {
        for input in [
            "\r\n",
            ";\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1 ;a\r\n",
            "1\n",
            "1\rx",
            "1;a\n",
            "1;a\rb",
            "1;\0\r\n",
            "1;\x7f\r\n",
            "00000000000000000\r\n",
            "1\r\nxy",
            "1\r\nx\n",
            "1\r\nx\rx",
            "1\r\nx0\r\n",
            "0\r\n\n",
            "0\r\n\rx",
            "0\r\na\nb",
            "0\r\na\rb",
            "0\r\n\0",
            "0\r\na: \x01",
        ] {
            assert_eq!(chunked(input.as_bytes()), Err(BodyError::Malformed), "{input:?}");
        }
    }

    #[test]
    fn chunks_over_the_limit() {
        let hundred = format!("64\r\n{}\r\n", "x".repeat(100));
        assert_eq!(
            chunked(format!("{hundred}0\r\n\r\n").as_bytes()).map(|it| it.is_some()),
            Ok(true)
        );
        for input in
            ["65\r\n", "ffffffffffffffff\r\n", "1\r\nx\r\n64\r\n", &format!("{hundred}1\r\n")]
        {
            assert_eq!(chunked(input.as_bytes()), Err(BodyError::TooLarge), "{input:?}");
        }
    }

    #[test]
    fn what_counts_nowhere_is_bounded() {
        let long = "x".repeat(usize::from(EXTRA_BYTES_MAX));
        let read = |input: String| read(Framing::Chunked, input.as_bytes(), usize::MAX);
        assert!(read(format!("0;{long}\r\n\r\n")).is_ok_and(|it| it.is_some()));
        assert!(read(format!("0\r\n{long}\r\n\r\n")).is_ok_and(|it| it.is_some()));
        assert_eq!(read(format!("0;{long}x")), Err(BodyError::Malformed));
        assert_eq!(read(format!("0;y\r\n{long}")), Err(BodyError::Malformed));
        let many = "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(99);
        assert_eq!(read(many), Err(BodyError::Malformed));
    }

    #[test]
    fn errors_come_again() {
        let mut body = Body::new(Framing::Chunked, 10).expect("nothing announced");
        for input in [&b"b\r\n"[..], b"0\r\n\r\n", b"x"] {
            assert_eq!(body.read(input), Err(BodyError::TooLarge));
        }
        assert!(!body.is_done());
    }

    #[test]
    fn memory_follows_what_arrives() {
        let mut body = Body::new(Framing::Length(1_000_000), 1_000_000).expect("within");
        for arrived in 1..=1000 {
            assert_eq!(body.read(b"x"), Ok(1));
            assert!(body.held_bytes() <= (2 * arrived).max(8));
        }
    }
}
