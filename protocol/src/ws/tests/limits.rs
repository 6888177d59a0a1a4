//! What a peer can make the reader hold, and when it is refused.

use std::ops::ControlFlow;

use super::*;

const SMALL: Limits = Limits { message_bytes_max: 1000, fragments_max: 1024 };

fn feed(reader: &mut Reader, bytes: &[u8]) -> Result<(), Violation> {
    let mut bytes = bytes.to_vec();
    let on = |_: Incoming<'_>| ControlFlow::Continue(());
    reader.read(Role::Server, &SMALL, None, &mut bytes, on).map(drop)
}

fn header(first: u8, len: u64) -> Vec<u8> {
    let mut out = vec![first, 0xff];
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out
}

#[test]
fn a_declared_length_allocates_nothing() {
    for len in [i64::MAX as u64, u64::from(u32::MAX) + 1, 1 << 40] {
        let mut reader = Reader::default();
        assert_eq!(feed(&mut reader, &header(0x82, len)), Err(Violation::MessageTooBig));
        assert_eq!(reader.held_bytes(), 0);
    }
    let mut reader = Reader::default();
    feed(&mut reader, &frame(true, Opcode::Binary, &[0; 1000])[..8]).expect("within limits");
    assert_eq!(reader.held_bytes(), size_of::<super::super::partial::Partial>());
    feed(&mut reader, &[1]).expect("within limits");
    assert!(reader.held_bytes() < 400);
}

#[test]
fn refused_from_the_header_alone() {
    let mut reader = Reader::default();
    let frame = frame(true, Opcode::Text, &[b'a'; 1001]);
    assert_eq!(feed(&mut reader, &frame[..8]), Err(Violation::MessageTooBig));
    let mut reader = Reader::default();
    feed(&mut reader, &super::frame(false, Opcode::Text, &[b'a'; 600])).expect("within limits");
    let second = super::frame(false, Opcode::Continuation, &[b'a'; 401]);
    assert_eq!(feed(&mut reader, &second[..8]), Err(Violation::MessageTooBig));
}

#[test]
fn the_longest_message_passes_whole_and_fragmented() {
    let payload = vec![b'a'; 1000];
    let expected = (vec![Got::Text("a".repeat(1000))], Ok(()));
    let whole = frame(true, Opcode::Text, &payload);
    assert_eq!(read_pieces(Role::Server, &SMALL, vec![&whole]), expected);
    let parts = [
        frame(false, Opcode::Text, &payload[..999]),
        frame(false, Opcode::Continuation, &payload[999..]),
        frame(true, Opcode::Continuation, &[]),
    ]
    .concat();
    assert_eq!(read_pieces(Role::Server, &SMALL, vec![&parts]), expected);
}

#[test]
fn floods_of_fragments_end_at_the_limit() {
    for payload in [&b""[..], b"x"] {
        let mut reader = Reader::default();
        feed(&mut reader, &frame(false, Opcode::Text, b"")).expect("first fragment");
        let piece = frame(false, Opcode::Continuation, payload);
        let limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1024 };
        let mut accepted = 1;
        let refusal = (0..1_000_000).find_map(|_| {
            let mut piece = piece.clone();
            let on = |_: Incoming<'_>| ControlFlow::Continue(());
            let result = reader.read(Role::Server, &limits, None, &mut piece, on);
            accepted += u32::from(result.is_ok());
            assert!(reader.held_bytes() < 4096);
            result.err()
        });
        assert_eq!((accepted, refusal), (1024, Some(Violation::TooManyFragments)));
        assert_eq!(reader.held_bytes(), 0);
    }
}

#[test]
fn a_single_frame_is_never_too_many() {
    let limits = Limits { message_bytes_max: 100, fragments_max: 0 };
    let stream = text("split anyway");
    for cut in 1..stream.len() {
        let (got, result) = read_pieces(Role::Server, &limits, pieces(&stream, &[cut]));
        assert_eq!((got.len(), result), (1, Ok(())));
    }
}

#[test]
fn memory_is_given_back_with_each_message() {
    let mut reader = Reader::default();
    let ping = frame(true, Opcode::Ping, &[1; 100]);
    for stream in [frame(true, Opcode::Text, &[b'a'; 1000]), ping, text("")] {
        let (head, tail) = stream.split_at(stream.len() - 1);
        feed(&mut reader, head).expect("valid");
        assert!(reader.held_bytes() > 0 && !reader.is_idle());
        feed(&mut reader, tail).expect("valid");
        assert!(reader.held_bytes() == 0 && reader.is_idle());
    }
}

/// 60 KB in single bytes: the buffer doubles, so the bytes copied stay below twice the message.
#[test]
fn growth_is_geometric_and_ends_at_the_limit() {
    let limits = Limits { message_bytes_max: 60_000, fragments_max: 1 };
    let stream = frame(true, Opcode::Binary, &[3; 60_000]);
    let mut reader = Reader::default();
    let mut sizes = std::collections::BTreeSet::new();
    let mut len = 0;
    for byte in &stream {
        let on = |incoming: Incoming<'_>| {
            len = matches!(incoming, Incoming::Binary(b) if b.len() == 60_000) as usize;
            ControlFlow::Continue(())
        };
        reader.read(Role::Server, &limits, None, &mut [*byte], on).expect("valid");
        sizes.insert(reader.held_bytes());
        assert!(reader.held_bytes() <= 60_000 + 512);
    }
    assert_eq!(len, 1);
    assert!(sizes.len() < 20, "{} reallocations", sizes.len());
}
