//! However a stream is cut, the reader gives the same messages and the same verdict.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use throng_protocol::ws::{Incoming, Limits, Reader, Role, Violation};

const LIMITS: Limits = Limits { message_bytes_max: 300, fragments_max: 6 };

/// Opcode-like tag and payload of each message, then how it ended.
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

fn read(role: Role, pieces: &[&[u8]]) -> Outcome {
    let mut reader = Reader::default();
    let mut got = Vec::new();
    for piece in pieces {
        let mut closed = false;
        let result = reader.read(role, &LIMITS, None, &mut piece.to_vec(), |incoming| {
            closed = matches!(incoming, Incoming::Close(_));
            got.push(keep(incoming));
            if closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(reader.held_bytes() <= LIMITS.message_bytes_max + 512);
        if result.is_err() || closed {
            assert!(reader.is_idle());
            return (got, result.map(drop));
        }
    }
    (got, Ok(()))
}

// The first byte is the role, the next two say where to cut, the rest is the stream.
fuzz_target!(|data: &[u8]| {
    let Some(([role, first, second], stream)) = data.split_first_chunk::<3>() else { return };
    let role = if role & 1 == 0 { Role::Server } else { Role::Client };
    let whole = read(role, &[stream]);
    let (a, rest) = stream.split_at(usize::from(*first).min(stream.len()));
    let (b, c) = rest.split_at(usize::from(*second).min(rest.len()));
    assert_eq!(read(role, &[a, b, c]), whole);
    let bytewise: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(read(role, &bytewise), whole);
});
