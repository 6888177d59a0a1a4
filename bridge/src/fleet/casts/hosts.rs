//! Casts between the hosts of a fleet, in a form of their own.
//!
//! A cast is published on the channel of all hosts, an answer on the channel of the host that asks:
//! a version, the sender's number, the number of the request (0: none is wanted), what follows.
//! Numbers are little-endian; texts, bytes and lists begin with their length (4 bytes).
//!
//! Invariants: what is written is read back; no input panics, and a length allocates nothing.

use super::super::words::{Cast, CastAnswer, Deed, HostId, Reach};

/// What another version writes is not read: a host that cannot understand a cast drops it.
const VERSION: u8 = 1;

/// A cast, to be published to all hosts.
pub(super) fn encode_cast(host: HostId, request: Option<u64>, cast: &Cast) -> Vec<u8> {
    let mut out = head(host, request.unwrap_or(0));
    let Cast { reach, deed } = cast;
    out.text(&reach.namespace);
    out.texts(&reach.rooms);
    out.texts(&reach.except);
    match deed {
        Deed::Emit { args, attachments, volatile, answers } => {
            out.byte(0);
            out.text(args);
            out.blobs(attachments);
            out.byte(u8::from(*volatile));
            out.0.extend_from_slice(&answers.map_or(0, |(_, ms)| ms).to_le_bytes());
        }
        Deed::Join(rooms) => {
            out.byte(1);
            out.texts(rooms);
        }
        Deed::Leave(rooms) => {
            out.byte(2);
            out.texts(rooms);
        }
        Deed::Disconnect(close) => {
            out.byte(3);
            out.byte(u8::from(*close));
        }
        Deed::Fetch(_) => out.byte(4),
        Deed::Rooms(_) => out.byte(5),
        Deed::ServerSide { args, .. } => {
            out.byte(6);
            out.text(args);
        }
    }
    out.0
}

/// Whose cast it is, the request's number there, and the cast; the numbers in it are 0. `None`: it
/// is none.
pub(super) fn decode_cast(bytes: &[u8]) -> Option<(HostId, Option<u64>, Cast)> {
    let mut reader = Reader(bytes);
    let (host, request) = reader.head()?;
    let request = (request != 0).then_some(request);
    let reach =
        Reach { namespace: reader.text()?, rooms: reader.texts()?, except: reader.texts()? };
    let deed = match reader.byte()? {
        0 => {
            let args = reader.text()?;
            let attachments = reader.blobs()?;
            let volatile = reader.byte()? != 0;
            let timeout_ms = reader.long()?;
            Deed::Emit { args, attachments, volatile, answers: request.map(|_| (0, timeout_ms)) }
        }
        1 => Deed::Join(reader.texts()?),
        2 => Deed::Leave(reader.texts()?),
        3 => Deed::Disconnect(reader.byte()? != 0),
        4 => Deed::Fetch(0),
        5 => Deed::Rooms(0),
        6 => Deed::ServerSide { args: reader.text()?, answer: request.map(|_| 0) },
        _ => return None,
    };
    reader.0.is_empty().then_some((host, request, Cast { reach, deed }))
}

/// An answer, to be published to the host that asks.
pub(super) fn encode_answer(host: HostId, request: u64, answer: &CastAnswer) -> Vec<u8> {
    let mut out = head(host, request);
    match answer {
        CastAnswer::Asked(count) => {
            out.byte(0);
            out.long(*count);
        }
        CastAnswer::Acked(value, attachments) => {
            out.byte(1);
            out.text(value);
            out.blobs(attachments);
        }
        CastAnswer::Sockets(items) => {
            out.byte(2);
            out.texts(items);
        }
        CastAnswer::Rooms(names) => {
            out.byte(3);
            out.texts(names);
        }
        CastAnswer::ServerSide(value) => {
            out.byte(4);
            out.text(value);
        }
    }
    out.0
}

/// Whose answer it is, to which request, and what. `None`: it is none.
pub(super) fn decode_answer(bytes: &[u8]) -> Option<(HostId, u64, CastAnswer)> {
    let mut reader = Reader(bytes);
    let (host, request) = reader.head()?;
    let answer = match reader.byte()? {
        0 => CastAnswer::Asked(reader.long()? as usize),
        1 => CastAnswer::Acked(reader.text()?, reader.blobs()?),
        2 => CastAnswer::Sockets(reader.texts()?),
        3 => CastAnswer::Rooms(reader.texts()?),
        4 => CastAnswer::ServerSide(reader.text()?),
        _ => return None,
    };
    reader.0.is_empty().then_some((host, request, answer))
}

fn head(host: HostId, request: u64) -> Writer {
    let mut out = Writer(vec![VERSION]);
    out.0.extend_from_slice(&host.to_le_bytes());
    out.0.extend_from_slice(&request.to_le_bytes());
    out
}

struct Writer(Vec<u8>);

impl Writer {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Nothing here gets near 4 GB.
    fn long(&mut self, number: usize) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.long(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn texts(&mut self, texts: &[Box<str>]) {
        self.long(texts.len());
        texts.iter().for_each(|text| self.text(text));
    }

    fn blobs(&mut self, blobs: &[Box<[u8]>]) {
        self.long(blobs.len());
        blobs.iter().for_each(|blob| self.bytes(blob));
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn head(&mut self) -> Option<(HostId, u64)> {
        if self.byte()? != VERSION {
            return None;
        }
        let host = self.long()?;
        let request = u64::from_le_bytes(self.take(8)?.try_into().ok()?);
        Some((host, request))
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn long(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.long()?;
        self.take(usize::try_from(count).ok()?)
    }

    fn text(&mut self) -> Option<Box<str>> {
        std::str::from_utf8(self.bytes()?).ok().map(Into::into)
    }

    fn blobs(&mut self) -> Option<Vec<Box<[u8]>>> {
        let count = self.long()?;
        let mut blobs = Vec::new();
        for _ in 0..count {
            blobs.push(self.bytes()?.into());
        }
        Some(blobs)
    }

    fn texts(&mut self) -> Option<Vec<Box<str>>> {
        let count = self.long()?;
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(self.text()?);
        }
        Some(texts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts() -> impl Strategy<Value = Vec<Box<str>>> {
        prop::collection::vec("\\PC{0,12}".prop_map(Into::into), 0..4)
    }

    fn text() -> impl Strategy<Value = Box<str>> {
        "\\PC{0,40}".prop_map(Into::into)
    }

    fn blobs() -> impl Strategy<Value = Vec<Box<[u8]>>> {
        let blob = prop::collection::vec(any::<u8>(), 0..20).prop_map(Vec::into_boxed_slice);
        prop::collection::vec(blob, 0..3)
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            (text(), blobs(), any::<bool>(), any::<Option<u32>>()).prop_map(
                |(args, attachments, volatile, ms)| {
                    Deed::Emit { args, attachments, volatile, answers: ms.map(|ms| (0, ms)) }
                }
            ),
            texts().prop_map(Deed::Join),
            texts().prop_map(Deed::Leave),
            any::<bool>().prop_map(Deed::Disconnect),
            Just(Deed::Fetch(0)),
            Just(Deed::Rooms(0)),
            (text(), any::<bool>())
                .prop_map(|(args, asks)| { Deed::ServerSide { args, answer: asks.then_some(0) } }),
        ]
    }

    fn answer() -> impl Strategy<Value = CastAnswer> {
        prop_oneof![
            any::<u32>().prop_map(|count| CastAnswer::Asked(count as usize)),
            (text(), blobs()).prop_map(|(value, blobs)| CastAnswer::Acked(value, blobs)),
            texts().prop_map(CastAnswer::Sockets),
            texts().prop_map(CastAnswer::Rooms),
            text().prop_map(CastAnswer::ServerSide),
        ]
    }

    proptest! {
        #[test]
        fn a_cast_comes_back(
            host in any::<u32>(),
            request in 1..u64::MAX,
            namespace in text(),
            (rooms, except) in (texts(), texts()),
            deed in deed(),
        ) {
            let asks = super::super::asks::Kind::of(&deed).is_some();
            let request = asks.then_some(request);
            let cast = Cast { reach: Reach { namespace, rooms, except }, deed };
            let bytes = encode_cast(host, request, &cast);
            prop_assert_eq!(decode_cast(&bytes[..bytes.len() - 1]), None);
            prop_assert_eq!(decode_cast(&bytes), Some((host, request, cast)));
        }

        #[test]
        fn an_answer_comes_back(host in any::<u32>(), request in any::<u64>(), it in answer()) {
            let bytes = encode_answer(host, request, &it);
            prop_assert_eq!(decode_answer(&bytes[..bytes.len() - 1]), None);
            prop_assert_eq!(decode_answer(&bytes), Some((host, request, it)));
        }

        #[test]
        fn any_bytes_are_borne(mut bytes in prop::collection::vec(any::<u8>(), 1..80)) {
            let _ = (decode_cast(&bytes), decode_answer(&bytes));
            bytes[0] = VERSION;
            let _ = (decode_cast(&bytes), decode_answer(&bytes));
        }
    }
}
