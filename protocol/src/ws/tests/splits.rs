//! How the bytes were cut never matters: every single and double cut of a rich stream, one byte
//! at a time, and random streams with random cuts.

use proptest::prelude::*;

use super::*;

fn rich_stream() -> Vec<u8> {
    [
        text("κόσμε 🦀"),
        frame(false, Opcode::Text, "ab\u{e9}".as_bytes()),
        frame(true, Opcode::Ping, b"between"),
        frame(false, Opcode::Continuation, b""),
        frame(false, Opcode::Continuation, &[0xe2, 0x82]),
        frame(true, Opcode::Pong, b""),
        frame(true, Opcode::Continuation, &[0xac, b'!']),
        frame(true, Opcode::Binary, &[7; 130]),
        frame(true, Opcode::Binary, b""),
        frame(true, Opcode::Close, b"\x03\xe9going"),
    ]
    .concat()
}

#[test]
fn every_cut_and_every_pair_of_cuts() {
    let stream = rich_stream();
    let whole = read_cut(&stream, &[]);
    assert_eq!((whole.0.len(), whole.1), (7, Ok(())));
    for first in 0..=stream.len() {
        assert_eq!(read_cut(&stream, &[first]), whole, "cut at {first}");
        for second in first..=stream.len() {
            assert_eq!(read_cut(&stream, &[first, second]), whole, "cuts at {first}, {second}");
        }
    }
}

#[test]
fn one_byte_at_a_time() {
    let stream = rich_stream();
    let cuts: Vec<usize> = (1..stream.len()).collect();
    assert_eq!(read_cut(&stream, &cuts), read_cut(&stream, &[]));
}

#[test]
fn long_headers_cut_anywhere() {
    let stream = frame(true, Opcode::Binary, &[5; 66_000]);
    let whole = read_cut(&stream, &[]);
    for first in 0..=20 {
        for second in first..=20 {
            assert_eq!(read_cut(&stream, &[first, second]), whole);
        }
    }
}

/// Frames that are mostly right, so that streams get far, and wrong in every way now and then.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        6 => Just(Opcode::Text),
        3 => Just(Opcode::Binary),
        6 => Just(Opcode::Continuation),
        2 => Just(Opcode::Ping),
        1 => Just(Opcode::Pong),
    ];
    let payload = prop_oneof![
        8 => ".{0,20}".prop_map(String::into_bytes),
        2 => proptest::collection::vec(any::<u8>(), 0..125),
    ];
    (opcode, payload, any::<bool>(), any::<[u8; 4]>(), 0..40usize, 1..=255u8).prop_map(
        |(opcode, payload, fin, mask, flip_at, flip)| {
            let mut out = Vec::new();
            write_masked_frame(&mut out, opcode, mask, &payload);
            if !fin && !opcode.is_control() {
                out[0] &= 0x7f;
            }
            if let Some(byte) = out.get_mut(flip_at).filter(|_| flip > 230) {
                *byte ^= flip;
            }
            out
        },
    )
}

fn stream_and_cuts() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let stream = proptest::collection::vec(any_frame(), 0..24).prop_map(|f| f.concat());
    (stream, proptest::collection::vec(any::<prop::sample::Index>(), 0..10)).prop_map(
        |(stream, cuts)| {
            let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            (stream, cuts)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_frames_cut_at_random((stream, cuts) in stream_and_cuts()) {
        prop_assert_eq!(read_cut(&stream, &cuts), read_cut(&stream, &[]));
    }

    #[test]
    fn arbitrary_bytes_hold_no_more_than_the_limits(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..8),
        client in any::<bool>(),
    ) {
        let role = if client { Role::Client } else { Role::Server };
        let limits = Limits { message_bytes_max: 100, fragments_max: 4 };
        let mut reader = Reader::default();
        for mut chunk in chunks {
            let mut longest = 0;
            let result = reader.read(role, &limits, &mut chunk, |incoming| {
                if let Incoming::Text(text) = incoming {
                    longest = longest.max(text.len());
                }
                ControlFlow::Continue(())
            });
            prop_assert!(longest <= 100);
            prop_assert!(reader.held_bytes() <= 100 + 512);
            if result.is_err() {
                prop_assert!(reader.is_idle());
                break;
            }
        }
    }
}
