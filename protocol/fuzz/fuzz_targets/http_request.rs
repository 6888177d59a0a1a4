//! A stream of requests read whole and cut in two gives the same requests and the same verdict.
#![no_main]

use libfuzzer_sys::fuzz_target;
use throng_protocol::http::{Body, BodyError, Head, HeadError, HeadLimits, parameter, parse_head};

const LIMITS: HeadLimits = HeadLimits { bytes_max: 300, headers_max: 8 };
const BODY_BYTES_MAX: usize = 100;

#[derive(Default)]
struct Server {
    received: Vec<u8>,
    body: Option<Body>,
    /// Targets, what was understood of the heads, and bodies.
    seen: Vec<(String, bool, Vec<u8>)>,
}

impl Server {
    /// The status of the refusal, if there was one.
    fn take(&mut self, piece: &[u8]) -> Result<(), u16> {
        self.received.extend_from_slice(piece);
        while self.step()? {}
        Ok(())
    }

    fn step(&mut self) -> Result<bool, u16> {
        let Some(body) = &mut self.body else { return self.head() };
        let arrived = self.received.len();
        let held = body.held_bytes();
        let taken = body.read(&self.received).map_err(BodyError::status)?;
        assert!(body.held_bytes() <= (2 * (held + arrived)).max(8));
        self.received.drain(..taken);
        if !body.is_done() {
            assert_eq!(taken, arrived);
            return Ok(false);
        }
        let bytes = self.body.take().map(Body::into_bytes).unwrap_or_default();
        assert!(bytes.len() <= BODY_BYTES_MAX);
        self.seen.last_mut().expect("a head came first").2 = bytes;
        Ok(true)
    }

    fn head(&mut self) -> Result<bool, u16> {
        let head = parse_head(&self.received, &LIMITS).map_err(HeadError::status)?;
        let Some((head, head_bytes)) = head else { return Ok(false) };
        assert!(head_bytes <= LIMITS.bytes_max);
        check(&head, &self.received[..head_bytes]);
        let understood = head.keep_alive() ^ head.accepts_gzip();
        self.seen.push((head.target().to_owned(), understood, Vec::new()));
        let framing = head.framing().map_err(HeadError::status)?;
        self.body = Some(Body::new(framing, BODY_BYTES_MAX).map_err(BodyError::status)?);
        self.received.drain(..head_bytes);
        Ok(true)
    }
}

/// Every CR and LF of a head ends a line, and its parts come from it.
fn check(head: &Head<'_>, bytes: &[u8]) {
    for (at, byte) in bytes.iter().enumerate() {
        let ends_line = match byte {
            b'\r' => bytes[at + 1] == b'\n',
            b'\n' => bytes[at - 1] == b'\r',
            _ => *byte >= b' ' && *byte != 0x7f || *byte == b'\t',
        };
        assert!(ends_line, "{byte} at {at}");
    }
    assert!(bytes.ends_with(b"\r\n\r\n"));
    assert!(head.path().starts_with('/') || head.path() == "*");
    assert!(head.target().ends_with(head.query()));
    assert!(head.count("host") <= 1);
    let sid = parameter(head.query(), "sid");
    assert!(sid.is_none_or(|sid| head.query().contains(sid) && !sid.contains('&')));
    for value in head.values("cookie") {
        assert!(!value.starts_with(b" ") && !value.ends_with(b"\t"));
    }
}

fuzz_target!(|data: &[u8]| {
    let [cut, stream @ ..] = data else { return };
    let mut whole = Server::default();
    let verdict = whole.take(stream);
    let mut halves = Server::default();
    let (first, second) = stream.split_at(stream.len().min(usize::from(*cut)));
    assert_eq!(halves.take(first).and_then(|()| halves.take(second)), verdict);
    assert_eq!(halves.seen, whole.seen);
    let mut trickle = Server::default();
    assert_eq!(stream.chunks(1).try_for_each(|byte| trickle.take(byte)), verdict);
    assert_eq!(trickle.seen, whole.seen);
});
