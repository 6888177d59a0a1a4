//! Bodies of the polling transport: packets joined by 0x1e, binary as `b` and base64.

use std::fmt;
use std::iter::FusedIterator;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// What stands between two packets of a payload.
pub const SEPARATOR: u8 = 0x1e;

/// Padding may be missing, and unused bits of the last character are let pass, as Node does.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Bounds on one payload; its length is the HTTP body's to bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadLimits {
    /// Most records.
    pub records_max: usize,
    /// Longest record in bytes: of text with its type digit, of binary when decoded. The same as
    /// a message on a WebSocket.
    pub record_bytes_max: usize,
}

/// One packet of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// The packet's text with its type digit, for [`decode_text`](super::decode_text).
    Text(&'a str),
    /// The bytes of a binary message.
    Binary(Vec<u8>),
}

/// A payload that breaks the rules or a limit. The peer's fault, answered by closing the session
/// with reason `parse error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadError {
    /// No bytes in a record, or in the whole body.
    Empty,
    /// More than [`PayloadLimits::records_max`].
    TooManyRecords,
    /// More than [`PayloadLimits::record_bytes_max`].
    RecordTooBig,
    /// Text that is not UTF-8.
    Utf8,
    /// Binary that is not base64.
    Base64,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PayloadError::Empty => "empty record",
            PayloadError::TooManyRecords => "too many records in a payload",
            PayloadError::RecordTooBig => "record too big",
            PayloadError::Utf8 => "record is not UTF-8",
            PayloadError::Base64 => "binary record is not base64",
        })
    }
}

impl std::error::Error for PayloadError {}

/// Splits the body of a POST into its packets, one at a time: what stands before a bad record is
/// still delivered, and nothing after it is looked at.
///
/// Base64 is taken as clients write it: with whitespace anywhere, without padding, in the
/// URL-safe alphabet. The cost is linear in `body`; memory is that of one binary record.
pub fn decode_payload<'a>(body: &'a [u8], limits: &PayloadLimits) -> Records<'a> {
    Records { rest: Some(body), limits: *limits }
}

/// Iterator over the packets of a payload; ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: Option<&'a [u8]>,
    /// With `records_max` counted down.
    limits: PayloadLimits,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, PayloadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let Some(records_left) = self.limits.records_max.checked_sub(1) else {
            return Some(Err(PayloadError::TooManyRecords));
        };
        let (record, rest) = match rest.iter().position(|byte| *byte == SEPARATOR) {
            Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
            None => (rest, None),
        };
        let record = decode_record(record, self.limits.record_bytes_max);
        if record.is_ok() {
            self.rest = rest;
            self.limits.records_max = records_left;
        }
        Some(record)
    }
}

impl FusedIterator for Records<'_> {}

fn decode_record(record: &[u8], bytes_max: usize) -> Result<Record<'_>, PayloadError> {
    match record.split_first() {
        None => Err(PayloadError::Empty),
        Some((b'b', base64)) => decode_base64(base64, bytes_max).map(Record::Binary),
        Some(_) if record.len() > bytes_max => Err(PayloadError::RecordTooBig),
        Some(_) => std::str::from_utf8(record).map(Record::Text).map_err(|_| PayloadError::Utf8),
    }
}

fn decode_base64(text: &[u8], bytes_max: usize) -> Result<Vec<u8>, PayloadError> {
    let symbols = || text.iter().filter(|byte| !byte.is_ascii_whitespace());
    let data_symbols = symbols().filter(|byte| **byte != b'=').count();
    // 4 symbols are 3 bytes, 3 are 2, 2 are 1; a single one is none and refused below.
    if data_symbols / 4 * 3 + (data_symbols % 4).saturating_sub(1) > bytes_max {
        return Err(PayloadError::RecordTooBig);
    }
    let standard: Vec<u8> = symbols()
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    LENIENT.decode(standard).map_err(|_| PayloadError::Base64)
}

/// Appends what goes between two packets.
pub fn write_separator(out: &mut Vec<u8>) {
    out.push(SEPARATOR);
}

/// Appends a packet that is text, given as it would be sent in a WebSocket's text message.
///
/// It must not hold [`SEPARATOR`]: JSON never does, it has to escape control characters.
pub fn write_text_packet(out: &mut Vec<u8>, packet: &[u8]) {
    out.extend_from_slice(packet);
}

/// Appends a binary message: `b` and padded standard base64, 4 bytes for each 3.
pub fn write_binary_packet(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'b');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // Cannot fail: there is room for exactly what comes.
    let _ = STANDARD.encode_slice(bytes, out.get_mut(start..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: PayloadLimits = PayloadLimits { records_max: 5, record_bytes_max: 120 };

    fn decoded(body: &[u8]) -> Vec<Result<Record<'_>, PayloadError>> {
        decode_payload(body, &LIMITS).collect()
    }

    fn binary(body: &[u8]) -> Result<Vec<u8>, PayloadError> {
        match decoded(body).pop().expect("one record") {
            Ok(Record::Text(text)) => panic!("{text} is text"),
            Ok(Record::Binary(bytes)) => Ok(bytes),
            Err(error) => Err(error),
        }
    }

    fn written(records: &[Record<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, record) in records.iter().enumerate() {
            if index > 0 {
                write_separator(&mut out);
            }
            match record {
                Record::Text(text) => write_text_packet(&mut out, text.as_bytes()),
                Record::Binary(bytes) => write_binary_packet(&mut out, bytes),
            }
        }
        out
    }

    #[test]
    fn example_of_the_specification() {
        let body = b"4hello\x1ebAQIDBA==";
        let records = [Record::Text("4hello"), Record::Binary(vec![1, 2, 3, 4])];
        assert_eq!(decoded(body), records.clone().map(Ok));
        assert_eq!(written(&records), body);
        assert_eq!(decoded("3\x1e4€".as_bytes()), [Record::Text("3"), Record::Text("4€")].map(Ok));
    }

    #[test]
    fn base64_as_clients_write_it() {
        for (body, bytes) in [
            ("b", &[][..]),
            ("b \r\n", &[]),
            ("bAQ==", &[1]),
            ("bAQ", &[1]),
            ("bAQI=", &[1, 2]),
            ("bAQI", &[1, 2]),
            ("bAQID", &[1, 2, 3]),
            ("b A\tQ\rI\nD\x0cBA = =\r\n", &[1, 2, 3, 4]),
            ("b+/+/", &[0xfb, 0xff, 0xbf]),
            ("b-_-_", &[0xfb, 0xff, 0xbf]),
            ("b-_+/", &[0xfb, 0xff, 0xbf]),
            ("bAR==", &[1]), // unused bits set
        ] {
            assert_eq!(binary(body.as_bytes()).as_deref(), Ok(bytes), "{body:?}");
        }
        for body in [
            "bA",
            "bAQIDB",
            "bAQ===",
            "bAQID=",
            "bAQID====",
            "b=",
            "bA=Q=",
            "bAQ==AQ==",
            "bAQ*=",
            "bAQI.",
            "bAQI\0",
            "bb€",
            "b:AQI",
        ] {
            assert_eq!(binary(body.as_bytes()), Err(PayloadError::Base64), "{body:?}");
        }
        assert_eq!(binary(b"bAQ\xff="), Err(PayloadError::Base64));
    }

    /// 76 columns, a line feed after each line and at the end.
    #[test]
    fn base64_as_java_wraps_it() {
        let bytes: Vec<u8> = (0..120).collect();
        let mut body = b"4a\x1eb".to_vec();
        for line in STANDARD.encode(&bytes).as_bytes().chunks(76) {
            body.extend_from_slice(line);
            body.push(b'\n');
        }
        body.extend_from_slice(b"\x1e4b");
        let records = [Record::Text("4a"), Record::Binary(bytes), Record::Text("4b")];
        assert_eq!(decoded(&body), records.map(Ok));
    }

    #[test]
    fn stops_at_the_first_bad_record() {
        for (body, good, error) in [
            (&b""[..], 0, PayloadError::Empty),
            (b"\x1e", 0, PayloadError::Empty),
            (b"4a\x1e", 1, PayloadError::Empty),
            (b"\x1e4a", 0, PayloadError::Empty),
            (b"4a\x1e\x1e4b", 1, PayloadError::Empty),
            (b"4a\x1e4\xff\x1e4b", 1, PayloadError::Utf8),
            (b"4\xc3\x1e4\xa9", 0, PayloadError::Utf8),
            (b"4a\x1e4b\x1eb*\x1e4b", 2, PayloadError::Base64),
            (b"2\x1e3\x1e4\x1e5\x1e6\x1e4", 5, PayloadError::TooManyRecords),
            (b"2\x1e3\x1e4\x1e5\x1e6\x1e", 5, PayloadError::TooManyRecords),
        ] {
            let mut records = decoded(body);
            assert_eq!(records.pop(), Some(Err(error)), "{body:?}");
            assert_eq!(records.len(), good, "{body:?}");
            assert!(records.iter().all(Result::is_ok), "{body:?}");
        }
        assert_eq!(decoded(b"2\x1e3\x1e4\x1e5\x1e6").len(), 5);
    }

    #[test]
    fn records_are_bounded_when_decoded() {
        let text = "4".repeat(121);
        assert_eq!(decoded(text.as_bytes()), [Err(PayloadError::RecordTooBig)]);
        assert_eq!(decoded(&text.as_bytes()[..120]).len(), 1);
        for len in 118..124 {
            for padded in [true, false] {
                let mut body = Vec::new();
                write_binary_packet(&mut body, &vec![7; len]);
                let end = body.iter().rposition(|byte| padded || *byte != b'=').expect("some");
                let expected = if len > 120 { Err(PayloadError::RecordTooBig) } else { Ok(len) };
                assert_eq!(binary(&body[..=end]).map(|it| it.len()), expected);
            }
        }
    }

    #[test]
    fn a_million_separators_are_refused_soon() {
        assert_eq!(decoded(&[SEPARATOR; 1_000_000]), [Err(PayloadError::Empty)]);
        let body = b"4\x1e".repeat(1_000_000);
        assert_eq!(decoded(&body).len(), 6);
        let limits = PayloadLimits { records_max: usize::MAX, ..LIMITS };
        assert_eq!(decode_payload(&body, &limits).count(), 1_000_001);
    }

    fn any_record() -> impl Strategy<Value = Result<String, Vec<u8>>> {
        prop_oneof![
            "[0-6][^\u{1e}]{0,20}".prop_map(Ok),
            proptest::collection::vec(any::<u8>(), 0..100).prop_map(Err),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(records in proptest::collection::vec(any_record(), 1..=5)) {
            let records: Vec<Record<'_>> = records
                .iter()
                .map(|it| match it {
                    Ok(text) => Record::Text(text),
                    Err(bytes) => Record::Binary(bytes.clone()),
                })
                .collect();
            let body = written(&records);
            let again: Result<Vec<_>, _> = decode_payload(&body, &LIMITS).collect();
            prop_assert_eq!(again, Ok(records));
        }

        #[test]
        fn anything_ends(body in proptest::collection::vec(
            prop_oneof![Just(SEPARATOR), Just(b'b'), Just(b'='), any::<u8>()], 0..60))
        {
            let records = decoded(&body);
            prop_assert!((1..=6).contains(&records.len()));
            prop_assert!(records.iter().rev().skip(1).all(Result::is_ok));
        }
    }
}
