//! Decode, encode, decode: the second decoding equals the first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use throng_protocol::engineio::{
    PayloadLimits, Record, decode_payload, decode_text, write_binary_packet, write_separator,
    write_text_packet,
};

const LIMITS: PayloadLimits = PayloadLimits { records_max: 8, record_bytes_max: 50 };

fuzz_target!(|data: &[u8]| {
    let mut good = Vec::new();
    let mut records = decode_payload(data, &LIMITS);
    let ends_well = loop {
        match records.next() {
            Some(Ok(record)) => good.push(record),
            Some(Err(_)) => break false,
            None => break true,
        }
    };
    assert!(records.next().is_none());
    assert!(good.len() <= LIMITS.records_max && (!ends_well || !good.is_empty()));
    let mut wire = Vec::new();
    for (index, record) in good.iter().enumerate() {
        if index > 0 {
            write_separator(&mut wire);
        }
        match record {
            Record::Text(text) => {
                assert!((1..=LIMITS.record_bytes_max).contains(&text.len()));
                let _ = decode_text(text);
                write_text_packet(&mut wire, text.as_bytes());
            }
            Record::Binary(bytes) => {
                assert!(bytes.len() <= LIMITS.record_bytes_max);
                write_binary_packet(&mut wire, bytes);
            }
        }
    }
    if !good.is_empty() {
        let again: Result<Vec<_>, _> = decode_payload(&wire, &LIMITS).collect();
        assert_eq!(again, Ok(good));
    }
});
