//! How the bytes were cut never matters: every single and double cut of a rich stream, one byte
//! at a time, and random streams with random cuts; plain and compressed.

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

/// Compressed messages in one frame and in two, plain ones and controls in between.
fn mixed_stream() -> Vec<u8> {
    let word = deflated("κόσμε κόσμε".as_bytes());
    let (first, second) = word.split_at(5);
    let mut begun = frame(false, Opcode::Text, first);
    begun[0] |= 0x40;
    [
        compressed_frames(Opcode::Text, &deflated("é".repeat(9).as_bytes()), None),
        text("plain"),
        begun,
        frame(true, Opcode::Ping, b"between"),
        frame(false, Opcode::Continuation, b""),
        frame(true, Opcode::Continuation, second),
        compressed_frames(Opcode::Binary, b"\0", Some(0)),
        frame(false, Opcode::Text, &[0xe2, 0x82]),
        frame(true, Opcode::Continuation, &[0xac]),
        compressed_frames(Opcode::Binary, &deflated(&[7; 300]), Some(3)),
        frame(true, Opcode::Close, b"\x03\xe9going"),
    ]
    .concat()
}

#[test]
fn every_pair_of_cuts_through_compressed_messages() {
    let mut inflater = Inflater::new();
    let stream = mixed_stream();
    let whole = inflate_cut(&mut inflater, &stream, &[]);
    assert_eq!((whole.0.len(), whole.1), (8, Ok(())));
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let cut = inflate_cut(&mut inflater, &stream, &[first, second]);
            assert_eq!(cut, whole, "cuts at {first}, {second}");
        }
    }
}

#[test]
fn one_byte_at_a_time() {
    let stream = rich_stream();
    let cuts: Vec<usize> = (1..stream.len()).collect();
    assert_eq!(read_cut(&stream, &cuts), read_cut(&stream, &[]));
    let stream = mixed_stream();
    let cuts: Vec<usize> = (1..stream.len()).collect();
    let mut inflater = Inflater::new();
    let whole = inflate_cut(&mut inflater, &stream, &[]);
    assert_eq!(inflate_cut(&mut inflater, &stream, &cuts), whole);
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

/// A compressed message, whole or in two frames, at times with a wrong byte.
fn any_compressed() -> impl Strategy<Value = Vec<u8>> {
    let cut = proptest::option::of(any::<prop::sample::Index>());
    ("[ab€ ]{0,60}", any::<bool>(), cut, 0..90usize, 0..=255u8).prop_map(
        |(payload, is_text, cut, flip_at, flip)| {
            let opcode = if is_text { Opcode::Text } else { Opcode::Binary };
            let data = deflated(payload.as_bytes());
            let at = cut.map(|cut| cut.index(data.len()));
            let mut out = compressed_frames(opcode, &data, at);
            if let Some(byte) = out.get_mut(flip_at).filter(|_| flip > 230) {
                *byte ^= flip;
            }
            out
        },
    )
}

/// Whole messages mostly, so that streams get far.
fn any_mixture() -> impl Strategy<Value = Vec<u8>> {
    let plain = ".{0,20}".prop_map(|payload| text(&payload));
    prop_oneof![6 => any_compressed(), 3 => plain, 1 => any_frame()]
}

fn stream_and_cuts(
    part: impl Strategy<Value = Vec<u8>>,
) -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let stream = proptest::collection::vec(part, 0..24).prop_map(|f| f.concat());
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
    fn random_frames_cut_at_random((stream, cuts) in stream_and_cuts(any_frame())) {
        prop_assert_eq!(read_cut(&stream, &cuts), read_cut(&stream, &[]));
    }

    #[test]
    fn random_mixtures_cut_at_random((stream, cuts) in stream_and_cuts(any_mixture())) {
        let mut inflater = Inflater::new();
        let whole = inflate_cut(&mut inflater, &stream, &[]);
        prop_assert_eq!(inflate_cut(&mut inflater, &stream, &cuts), whole.clone());
        prop_assert_eq!(inflate_cut(&mut Inflater::new(), &stream, &[]), whole);
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
            let result = reader.read(role, &limits, None, &mut chunk, |incoming| {
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
