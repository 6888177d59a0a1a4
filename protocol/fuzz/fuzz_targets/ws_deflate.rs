//! Compressed messages: cuts and fragments change nothing, no message leaves a trace in the next,
//! nothing longer than the limit comes out, and what is compressed here can be read here.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use throng_protocol::ws::{
    Deflater, Incoming, Inflater, Limits, Opcode, Reader, Role, Violation, negotiate,
    server_frames, write_frame,
};

const LIMITS: Limits = Limits { message_bytes_max: 5000, fragments_max: 6 };

/// Opcode and payload of each message, then how it ended.
type Outcome = (Vec<(u8, Vec<u8>)>, Result<(), Violation>);

fn keep(incoming: Incoming<'_>) -> (u8, Vec<u8>) {
    match incoming {
        Incoming::Text(text) => (1, text.into()),
        Incoming::Binary(bytes) => (2, bytes.into()),
        Incoming::Ping(bytes) => (9, bytes.into()),
        Incoming::Pong(bytes) => (10, bytes.into()),
        Incoming::Close(None) => (8, Vec::new()),
        Incoming::Close(Some(close)) => {
            (8, [&close.code.to_be_bytes(), close.reason.as_bytes()].concat())
        }
    }
}

/// Reads as a client, whose peer need not mask.
fn read(inflater: &mut Inflater, limits: &Limits, pieces: &[&[u8]]) -> Outcome {
    let mut reader = Reader::default();
    let mut got = Vec::new();
    for piece in pieces {
        let mut closed = false;
        let mut input = piece.to_vec();
        let result = reader.read(Role::Client, limits, Some(inflater), &mut input, |incoming| {
            closed = matches!(incoming, Incoming::Close(_));
            got.push(keep(incoming));
            if closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(reader.held_bytes() <= limits.message_bytes_max + 512);
        assert!(inflater.held_bytes() <= limits.message_bytes_max + 1);
        assert!(result.is_err() || closed || result == Ok(piece.len()));
        if result.is_err() || closed {
            assert!(reader.is_idle());
            return (got, result.map(drop));
        }
    }
    assert!(got.iter().all(|(_, payload)| payload.len() <= limits.message_bytes_max));
    (got, Ok(()))
}

/// Frames of one compressed message, cut in two after `at` bytes if that is inside.
fn frames(opcode: Opcode, data: &[u8], at: usize) -> Vec<u8> {
    let (first, second) = data.split_at(at.min(data.len()));
    let mut out = Vec::new();
    write_frame(&mut out, opcode, first);
    out[0] |= 0x40;
    if !second.is_empty() {
        out[0] &= 0x7f;
        write_frame(&mut out, Opcode::Continuation, second);
    }
    out
}

fn cuts_change_nothing(stream: &[u8], first: usize, second: usize) {
    let mut inflater = Inflater::new();
    let whole = read(&mut inflater, &LIMITS, &[stream]);
    let (a, rest) = stream.split_at(first.min(stream.len()));
    let (b, c) = rest.split_at(second.min(rest.len()));
    assert_eq!(read(&mut inflater, &LIMITS, &[a, b, c]), whole);
    let bytewise: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(read(&mut inflater, &LIMITS, &bytewise), whole);
}

fn round_trip(payload: &[u8]) {
    let mut out = Vec::new();
    let limits = Limits { message_bytes_max: payload.len(), fragments_max: 1 };
    if Deflater::new().write_compressed(&mut out, Opcode::Binary, payload) {
        assert!(out.len() < payload.len() + 10);
        let expected = vec![(2, payload.to_vec())];
        assert_eq!(read(&mut Inflater::new(), &limits, &[&out]), (expected, Ok(())));
    } else {
        assert!(out.is_empty());
    }
}

// The first bytes say where to cut and fragment and what to make of the rest.
fuzz_target!(|data: &[u8]| {
    let Some(([first, second, what], rest)) = data.split_first_chunk::<3>() else { return };
    let (first, second) = (usize::from(*first), usize::from(*second));
    match what % 4 {
        0 => cuts_change_nothing(rest, first, second),
        1 => {
            let opcode = if what & 4 == 0 { Opcode::Text } else { Opcode::Binary };
            let whole = frames(opcode, rest, rest.len());
            let split = frames(opcode, rest, second);
            let mut inflater = Inflater::new();
            let outcome = read(&mut inflater, &LIMITS, &[&whole]);
            assert_eq!(read(&mut inflater, &LIMITS, &[&split]), outcome);
            cuts_change_nothing(&split, first, second);
        }
        2 => round_trip(&rest.repeat(1 + first)),
        _ => {
            let headers = rest.split(|byte| *byte == b'\n');
            if let Some(negotiated) = negotiate(headers) {
                assert!((8..=15).contains(&negotiated.server_window_bits()));
                assert!(
                    negotiate([negotiated.response().to_string().as_bytes()].into_iter()).is_some()
                );
            }
            let frames: usize = server_frames(rest).map(|(_, payload)| payload.len() + 2).sum();
            assert!(frames <= rest.len());
        }
    }
});
