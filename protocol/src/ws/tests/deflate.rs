//! Compressed messages: the examples of RFC 7692, where RSV1 may stand, bombs and garbage.

use proptest::prelude::*;

use super::super::{frame_header_len, write_frame};
use super::*;

const SMALL: Limits = Limits { message_bytes_max: 1000, fragments_max: 4 };

fn inflate(stream: &[u8]) -> Outcome {
    inflate_cut(&mut Inflater::new(), stream, &[])
}

fn refused(stream: &[u8]) -> Violation {
    let whole = inflate(stream);
    let cuts: Vec<usize> = (1..stream.len()).collect();
    assert_eq!(whole, inflate_cut(&mut Inflater::new(), stream, &cuts));
    whole.1.expect_err("must be refused")
}

/// What `data` stands for as a whole compressed text and as one of two frames cut anywhere.
fn read_data(data: &[u8]) -> Outcome {
    let whole = inflate(&compressed_frames(Opcode::Text, data, None));
    for at in 0..=data.len() {
        assert_eq!(inflate(&compressed_frames(Opcode::Text, data, Some(at))), whole);
    }
    whole
}

fn hello() -> Outcome {
    (vec![Got::Text("Hello".into())], Ok(()))
}

#[test]
fn examples_of_the_rfc() {
    assert_eq!(read_data(b"\xf2\x48\xcd\xc9\xc9\x07\x00"), hello()); // §7.2.3.1
    assert_eq!(read_data(b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), hello()); // §7.2.3.3
    assert_eq!(read_data(b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), hello()); // §7.2.3.4
    assert_eq!(read_data(b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), hello());
    assert_eq!(read_data(b"\x00"), (vec![Got::Text(String::new())], Ok(()))); // §7.2.3.6
}

/// §7.2.3.2: the second message refers back to the first, as only context takeover allows.
#[test]
fn no_message_sees_the_one_before() {
    let first = compressed_frames(Opcode::Text, b"\xf2\x48\xcd\xc9\xc9\x07\x00", None);
    let second = compressed_frames(Opcode::Text, b"\xf2\x00\x11\x00\x00", None);
    assert_eq!(inflate(&[first, second].concat()), (hello().0, Err(Violation::Deflate)));
}

#[test]
fn a_client_reads_what_a_server_compresses() {
    let frames =
        b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00";
    let read =
        |frames: &[u8]| read_with(Some(&mut Inflater::new()), Role::Client, &LIMITS, vec![frames]);
    assert_eq!(read(frames), ([hello().0, hello().0].concat(), Ok(())));
    let mut out = Vec::new();
    let payload = "to and fro ".repeat(30);
    let mut deflater = Deflater::new();
    for _ in 0..2 {
        assert!(deflater.write_compressed(&mut out, Opcode::Text, payload.as_bytes()));
    }
    let (first, second) = out.split_at(out.len() / 2);
    assert_eq!((first, first[0]), (second, 0xc1));
    let got = Got::Text(payload);
    assert_eq!(read(&out), (vec![got.clone(), got], Ok(())));
}

#[test]
fn last_blocks() {
    // More messages of the same shape behind a last block: §7.2.1 allows a mixture.
    let both = b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00";
    assert_eq!(read_data(both), (vec![Got::Text("HelloHello".into())], Ok(())));
    // Nothing behind the last block, as some senders leave it.
    assert_eq!(read_data(b"\xf3\x48\xcd\xc9\xc9\x07\x00"), hello());
    assert_eq!(read_data(b""), (vec![Got::Text(String::new())], Ok(())));
    for garbage in [&b"\xff"[..], b"garbage", b"\x02", b"\x00\x00"] {
        let data = [b"\xf3\x48\xcd\xc9\xc9\x07\x00", garbage].concat();
        assert_eq!(read_data(&data), (vec![], Err(Violation::Deflate)), "{garbage:?}");
    }
    // The tail completes an empty stored block that is itself marked as the last.
    assert_eq!(read_data(b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff\x01"), hello());
    // A window does not reach back over a last block.
    let back = b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x00\x11\x00\x00";
    assert_eq!(read_data(back).1, Err(Violation::Deflate));
    assert_eq!(read_data(&b"\x03\x00".repeat(17)), (vec![Got::Text(String::new())], Ok(())));
    assert_eq!(read_data(&b"\x03\x00".repeat(18)).1, Err(Violation::Deflate));
}

/// One inflater after another peer's garbage, its bomb and its bad text.
#[test]
fn no_peer_spoils_it_for_the_next() {
    let mut inflater = Inflater::new();
    let hello_again = compressed_frames(Opcode::Text, b"\xf2\x48\xcd\xc9\xc9\x07\x00", None);
    for bad in [b"garbage".to_vec(), deflated(&[b'a'; 90_000]), deflated(b"\xff")] {
        let stream = compressed_frames(Opcode::Text, &bad, None);
        assert!(inflate_cut(&mut inflater, &stream, &[]).1.is_err());
        assert_eq!(inflate_cut(&mut inflater, &hello_again, &[]), hello());
    }
}

#[test]
fn what_is_no_deflate_data() {
    let good = deflated(b"cut anywhere, this is not the whole message");
    for len in 1..good.len() {
        let stream = compressed_frames(Opcode::Binary, &good[..len], None);
        assert_eq!(refused(&stream), Violation::Deflate, "{len}");
    }
    let far = b"\x4b\x04\x13\x00\x00"; // distance before the start
    for bad in [&b"\x06"[..], b"\x07", b"\xff\xff", b"\x00\x05\x00\xfa\xffHel", b"Hello", far] {
        assert_eq!(refused(&compressed_frames(Opcode::Text, bad, None)), Violation::Deflate);
    }
    assert_eq!(Violation::Deflate.to_string(), "invalid compressed data");
}

/// The tail itself, sent though it must not be, is one more empty block.
#[test]
fn a_tail_that_was_sent_does_no_harm() {
    let data = b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff\x00";
    assert_eq!(read_data(data), hello());
}

#[test]
fn compressed_text_is_checked_when_inflated() {
    assert_eq!(read_data(&deflated(b"\xff")).1, Err(Violation::Utf8));
    assert_eq!(
        read_data(&deflated("κό".as_bytes().get(..3).expect("cut"))).1,
        Err(Violation::Utf8)
    );
    let binary = compressed_frames(Opcode::Binary, &deflated(b"\xff"), None);
    assert_eq!(inflate(&binary).0, [Got::Binary(vec![0xff])]);
}

/// Every combination of reserved bits on every kind of frame, with and without the extension.
#[test]
fn reserved_bits() {
    for bits in 1..8u8 {
        for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong, Opcode::Close] {
            let mut stream = frame(true, opcode, b"\x00");
            stream[0] |= bits << 4;
            assert_eq!(read_cut(&stream, &[]).1, Err(Violation::ReservedBits));
            let is_compressed = bits == 4 && !opcode.is_control();
            assert_eq!(inflate(&stream).1.is_ok(), is_compressed, "{bits} {opcode:?}");
        }
        for first in [frame(false, Opcode::Text, b""), compressed_frames(Opcode::Text, b"", None)] {
            let mut first = first;
            first[0] &= 0x7f;
            let mut second = frame(true, Opcode::Continuation, b"\x00");
            second[0] |= bits << 4;
            assert_eq!(refused(&[first, second].concat()), Violation::ReservedBits);
        }
    }
}

#[test]
fn compressed_messages_obey_the_order_of_fragments() {
    let mut begun = compressed_frames(Opcode::Text, b"", None);
    begun[0] &= 0x7f;
    let again = compressed_frames(Opcode::Text, b"\x00", None);
    assert_eq!(refused(&[begun.clone(), again].concat()), Violation::MessageInterleaved);
    let more = frame(false, Opcode::Continuation, b"");
    let many = [begun, more.repeat(16)].concat();
    assert_eq!(refused(&many), Violation::TooManyFragments);
}

/// An inflater taken away while a compressed message is open.
#[test]
fn the_inflater_must_stay() {
    let mut stream = compressed_frames(Opcode::Text, &deflated(b"abc"), None);
    let mut reader = Reader::default();
    let (first, second) = stream.split_at_mut(8);
    let on = |_: Incoming<'_>| ControlFlow::Continue(());
    let mut inflater = Inflater::new();
    reader.read(Role::Server, &LIMITS, Some(&mut inflater), first, on).expect("valid");
    let result = reader.read(Role::Server, &LIMITS, None, second, on);
    assert_eq!((result, reader.is_idle()), (Err(Violation::ReservedBits), true));
}

#[test]
fn bombs_end_at_the_limit() {
    let bomb = deflated(&vec![b'a'; 900_000]);
    assert!(bomb.len() < 1000);
    let stream = compressed_frames(Opcode::Text, &bomb, None);
    let fragments = compressed_frames(Opcode::Binary, &bomb, Some(500));
    for stream in [stream, fragments] {
        let mut inflater = Inflater::new();
        let read = read_with(Some(&mut inflater), Role::Server, &SMALL, vec![&stream]);
        assert_eq!(read, (vec![], Err(Violation::MessageTooBig)));
        assert!(inflater.held_bytes() <= 1001);
    }
}

/// What comes out is counted to the byte, and what goes in as well.
#[test]
fn the_longest_message_passes() {
    let mut inflater = Inflater::new();
    let mut read = |data: &[u8]| {
        let stream = compressed_frames(Opcode::Binary, data, None);
        read_with(Some(&mut inflater), Role::Server, &SMALL, vec![&stream])
    };
    assert_eq!(read(&deflated(&[7; 1000])), (vec![Got::Binary(vec![7; 1000])], Ok(())));
    assert_eq!(read(&deflated(&[7; 1001])).1, Err(Violation::MessageTooBig));
    let empty_blocks = b"\x00\x00\x00\xff\xff".repeat(200);
    assert_eq!(read(&empty_blocks[..996]), (vec![Got::Binary(vec![])], Ok(())));
    assert_eq!(read(&[&empty_blocks[..], b"\x00"].concat()).1, Err(Violation::MessageTooBig));
    let none = Limits { message_bytes_max: 0, fragments_max: 1 };
    let empty = compressed_frames(Opcode::Text, b"", None);
    assert_eq!(read_with(Some(&mut inflater), Role::Server, &none, vec![&empty]).0.len(), 1);
}

#[test]
fn memory_is_given_back_with_long_messages() {
    let limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1 };
    let payload = vec![b'z'; 1 << 20];
    let stream = compressed(Opcode::Binary, &payload);
    let mut inflater = Inflater::new();
    let read = read_with(Some(&mut inflater), Role::Server, &limits, vec![&stream]);
    assert_eq!(read, (vec![Got::Binary(payload.clone())], Ok(())));
    assert!(inflater.held_bytes() <= 64 << 10);
    let mut deflater = Deflater::new();
    assert!(deflater.write_compressed(&mut Vec::new(), Opcode::Text, &payload));
    assert!(deflater.held_bytes() <= 64 << 10);
}

#[test]
fn what_is_not_worth_it_stays_out() {
    let mut deflater = Deflater::new();
    let mut out = b"before".to_vec();
    let squares = (0..400u32).map(|i| i.wrapping_mul(i).wrapping_mul(0x9e37_79b9) >> 24);
    let noise: Vec<u8> = squares.map(|byte| byte as u8).collect();
    for payload in [&b""[..], b"a", b"{}", &noise] {
        assert!(!deflater.write_compressed(&mut out, Opcode::Binary, payload));
    }
    for opcode in [Opcode::Ping, Opcode::Pong, Opcode::Close, Opcode::Continuation] {
        assert!(!deflater.write_compressed(&mut out, opcode, &[b'a'; 100]));
    }
    assert_eq!(out, b"before");
    assert!(deflater.write_compressed(&mut out, Opcode::Text, &[b'a'; 100]));
    assert!(out.starts_with(b"before\xc1") && out.len() < 20);
}

/// Longer than the window, in pieces that do and do not repeat.
fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        ("[a-d]{1,9}", 0..3000usize).prop_map(|(word, times)| word.repeat(times).into_bytes()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(payload in any_payload(), binary in any::<bool>()) {
        let opcode = if binary { Opcode::Binary } else { Opcode::Text };
        let limits = Limits { message_bytes_max: payload.len(), fragments_max: 1 };
        let (mut out, mut plain) = (Vec::new(), Vec::new());
        write_frame(&mut plain, opcode, &payload);
        if Deflater::new().write_compressed(&mut out, opcode, &payload) {
            prop_assert!(out.len() < plain.len());
        } else {
            prop_assert!(out.is_empty());
            out = plain;
        }
        let mut inflater = Inflater::new();
        let (got, result) = read_with(Some(&mut inflater), Role::Client, &limits, vec![&out]);
        let expected = match opcode {
            Opcode::Binary => Ok(Got::Binary(payload)),
            _ => String::from_utf8(payload).map(Got::Text).map_err(|_| Violation::Utf8),
        };
        prop_assert_eq!(got.first().cloned().ok_or(()), expected.clone().map_err(drop));
        prop_assert_eq!(result, expected.map(drop));
    }

    #[test]
    fn garbage_is_bounded(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut inflater = Inflater::new();
        let stream = compressed_frames(Opcode::Binary, &data, None);
        let read = read_with(Some(&mut inflater), Role::Server, &SMALL, vec![&stream]);
        let longest = read.0.iter().map(|got| match got {
            Got::Binary(bytes) => bytes.len(),
            _ => 0,
        });
        prop_assert!(longest.max().unwrap_or(0) <= SMALL.message_bytes_max);
        prop_assert!(inflater.held_bytes() <= SMALL.message_bytes_max + 1);
    }
}

#[test]
fn headers_of_compressed_frames_are_minimal() {
    for len in [200, 3000, 100_000, 3_000_000] {
        let payload: Vec<u8> = (0..len).map(|i: u32| (i.wrapping_mul(i) >> 9) as u8 & 15).collect();
        let stream = compressed(Opcode::Binary, &payload);
        let payload_len = stream.len() - 4; // less the mask
        let header_len =
            [2, 4, 10].into_iter().find(|len| frame_header_len(payload_len - len) == *len);
        let limits = Limits { message_bytes_max: payload.len(), fragments_max: 1 };
        let read = read_with(Some(&mut Inflater::new()), Role::Server, &limits, vec![&stream]);
        assert!(header_len.is_some() && read == (vec![Got::Binary(payload)], Ok(())));
    }
}
