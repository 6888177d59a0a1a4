//! Each rule of RFC 6455 on its own, and the rows of the hostile matrix that concern frames.

use std::ops::ControlFlow;

use super::*;

fn refused(stream: &[u8]) -> Violation {
    let whole = read_cut(stream, &[]);
    let bytewise = read_cut(stream, &(1..stream.len()).collect::<Vec<_>>());
    assert_eq!(whole, bytewise);
    whole.1.expect_err("must be refused")
}

#[test]
fn sizes_of_idle_state() {
    assert_eq!(size_of::<Reader>(), 8);
    assert_eq!(Reader::default().held_bytes(), 0);
}

#[test]
fn messages_and_controls_in_order() {
    let stream = [
        text("héllo"),
        frame(true, Opcode::Ping, b"p"),
        frame(false, Opcode::Binary, &[1]),
        frame(true, Opcode::Pong, b""),
        frame(false, Opcode::Continuation, &[]),
        frame(true, Opcode::Continuation, &[2, 3]),
        frame(true, Opcode::Text, b""),
        frame(true, Opcode::Close, b"\x03\xe8bye"),
        text("after the close: ignored"),
    ]
    .concat();
    let expected = vec![
        Got::Text("héllo".into()),
        Got::Ping(b"p".to_vec()),
        Got::Pong(vec![]),
        Got::Binary(vec![1, 2, 3]),
        Got::Text(String::new()),
        Got::Close(Some((1000, "bye".into()))),
    ];
    assert_eq!(read_cut(&stream, &[]), (expected, Ok(())));
}

#[test]
fn masking_depends_on_the_role() {
    assert_eq!(refused(b"\x81\x05Hello"), Violation::MaskMissing);
    let as_client = |stream: &[u8]| read_pieces(Role::Client, &LIMITS, vec![stream]);
    assert_eq!(as_client(b"\x81\x05Hello"), (vec![Got::Text("Hello".into())], Ok(())));
    assert_eq!(as_client(&text("Hello")).1, Err(Violation::MaskUnexpected));
}

#[test]
fn reserved_bits_and_opcodes() {
    for bits in [0x40, 0x20, 0x10, 0x70] {
        let mut stream = text("x");
        stream[0] |= bits;
        assert_eq!(refused(&stream), Violation::ReservedBits);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let mut stream = text("x");
        stream[0] = 0x80 | opcode;
        assert_eq!(refused(&stream), Violation::ReservedOpcode);
    }
}

#[test]
fn lengths_at_the_boundaries() {
    for len in [0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537] {
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let stream = frame(true, Opcode::Binary, &payload);
        assert_eq!(read_cut(&stream, &[]), (vec![Got::Binary(payload)], Ok(())));
    }
}

#[test]
fn lengths_that_break_the_rfc() {
    assert_eq!(refused(b"\x82\xfe\x00\x7d\0\0\0\0"), Violation::LengthNotMinimal);
    assert_eq!(refused(b"\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0"), Violation::LengthNotMinimal);
    assert_eq!(refused(b"\x82\xff\x80\0\0\0\0\0\0\x01\0\0\0\0"), Violation::LengthTopBit);
    assert_eq!(refused(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0").close_code(), 1002);
}

#[test]
fn control_frames_are_short_and_whole() {
    for opcode in [Opcode::Ping, Opcode::Pong, Opcode::Close] {
        assert_eq!(refused(&frame(false, opcode, b"")), Violation::ControlFragmented);
        let mut long = frame(true, Opcode::Binary, &[0; 126]);
        long[0] = frame(true, opcode, b"")[0];
        assert_eq!(refused(&long), Violation::ControlTooLong);
    }
    let longest = frame(true, Opcode::Ping, &[9; 125]);
    assert_eq!(read_cut(&longest, &[60]).0, vec![Got::Ping(vec![9; 125])]);
}

#[test]
fn fragments_in_disorder() {
    let lonely = frame(true, Opcode::Continuation, b"x");
    assert_eq!(refused(&lonely), Violation::ContinuationWithoutStart);
    let lonely = frame(false, Opcode::Continuation, b"");
    assert_eq!(refused(&lonely), Violation::ContinuationWithoutStart);
    let nested = [frame(false, Opcode::Text, b"a"), text("b")].concat();
    assert_eq!(refused(&nested), Violation::MessageInterleaved);
    let after_end = [
        frame(false, Opcode::Text, b"a"),
        frame(true, Opcode::Continuation, b"b"),
        frame(true, Opcode::Continuation, b"c"),
    ]
    .concat();
    assert_eq!(refused(&after_end), Violation::ContinuationWithoutStart);
}

#[test]
fn close_payloads() {
    let close = |payload: &[u8]| frame(true, Opcode::Close, payload);
    assert_eq!(read_cut(&close(b""), &[]).0, vec![Got::Close(None)]);
    assert_eq!(refused(&close(b"\x03")), Violation::CloseTruncated);
    assert_eq!(refused(&close(b"\x03\xed")), Violation::CloseCode(1005));
    assert_eq!(refused(&close(b"\x03\xe8\xff")), Violation::Utf8);
    let in_message = [frame(false, Opcode::Text, b"a"), close(b"\x0b\xb8")].concat();
    assert_eq!(read_cut(&in_message, &[]).0, vec![Got::Close(Some((3000, String::new())))]);
}

#[test]
fn close_codes_of_violations() {
    assert_eq!(Violation::Utf8.close_code(), 1007);
    assert_eq!(Violation::Deflate.close_code(), 1007);
    assert_eq!(Violation::TooManyFragments.close_code(), 1008);
    assert_eq!(Violation::MessageTooBig.close_code(), 1009);
    assert_eq!(Violation::CloseCode(1005).close_code(), 1002);
    assert_eq!(Violation::ReservedBits.close_code(), 1002);
    assert_eq!(Violation::CloseCode(1005).to_string(), "invalid close code 1005");
}

const NOT_UTF8: [&[u8]; 12] = [
    b"\x80",
    b"\xbf",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xe0\x80\xaf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x80\x80\xaf",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xfe",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90",
];

#[test]
fn text_must_be_utf8() {
    for bad in NOT_UTF8 {
        assert_eq!(refused(&frame(true, Opcode::Text, bad)), Violation::Utf8);
        let fragmented: Vec<u8> = bad
            .iter()
            .map(|byte| frame(false, Opcode::Continuation, &[*byte]))
            .fold(frame(false, Opcode::Text, b""), |stream, next| [stream, next].concat());
        assert_eq!(read_cut(&fragmented, &[]).1, Err(Violation::Utf8), "{bad:?}");
    }
}

#[test]
fn text_may_be_cut_inside_a_character_but_not_end_there() {
    let word = "κόσμε🦀";
    for at in 0..=word.len() {
        let (a, b) = word.as_bytes().split_at(at);
        let start = frame(false, Opcode::Text, a);
        let whole = [start.clone(), frame(true, Opcode::Continuation, b)].concat();
        assert_eq!(read_cut(&whole, &[]), (vec![Got::Text(word.into())], Ok(())));
        let short = [start, frame(true, Opcode::Continuation, b"")].concat();
        assert_eq!(read_cut(&short, &[]).1.is_ok(), word.is_char_boundary(at));
    }
}

/// The bad byte is refused while the frame it stands in is still arriving (Autobahn 6.4.3–4).
#[test]
fn text_fails_fast_inside_a_frame() {
    for bad in NOT_UTF8 {
        let payload = [b"fine so far ", bad, b"never sent"].concat();
        let stream = frame(true, Opcode::Text, &payload);
        let sent = stream.len() - b"never sent".len();
        let (got, result) = read_cut(&stream[..sent], &[3, 9]);
        let complete_but_wrong = std::str::from_utf8(bad).expect_err("bad").error_len().is_some();
        assert!(got.is_empty());
        assert_eq!(result.is_err(), complete_but_wrong, "{bad:?}");
    }
}

#[test]
fn whole_frames_are_handed_out_in_place() {
    let mut stream = [text("one"), frame(true, Opcode::Binary, &[7; 5000])].concat();
    let len = stream.len();
    let range = stream.as_ptr_range();
    let mut count = 0;
    let result = Reader::default().read(Role::Server, &LIMITS, None, &mut stream, |incoming| {
        let payload = match incoming {
            Incoming::Text(text) => text.as_bytes(),
            Incoming::Binary(bytes) => bytes,
            _ => panic!("only data was sent"),
        };
        assert!(range.contains(&payload.as_ptr()));
        count += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((count, result), (2, Ok(len)));
}

/// The reader goes on with the rest after each break, and gets all of it.
#[test]
fn break_stops_at_any_message_and_tells_where() {
    let parts = [
        text("one"),
        [frame(false, Opcode::Text, b"tw"), frame(true, Opcode::Continuation, b"o")].concat(),
        frame(true, Opcode::Ping, b"three"),
        text("four"),
    ];
    let mut stream = parts.concat();
    let sent = stream.clone();
    let mut reader = Reader::default();
    let mut at = 0;
    for (index, part) in parts.iter().enumerate() {
        let mut count = 0;
        let rest = &mut stream[at..];
        let result = reader.read(Role::Server, &LIMITS, None, rest, |_| {
            count += 1;
            ControlFlow::Break(())
        });
        assert_eq!((index, count, result), (index, 1, Ok(part.len())));
        at += part.len();
        assert!(reader.is_idle());
        assert_eq!(stream[at..], sent[at..], "what was not read stays masked");
    }
    assert_eq!(at, sent.len());
}
