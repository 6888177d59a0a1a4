//! Tests of the reader: rules, splits, limits, compression. The helpers collect what a stream
//! means.

mod deflate;
mod limits;
mod rules;
mod splits;

use std::ops::ControlFlow;

use flate2::{Compress, Compression, FlushCompress};

use super::{
    Deflater, Incoming, Inflater, Limits, Opcode, Reader, Role, Violation, write_masked_frame,
};

pub(super) const LIMITS: Limits = Limits { message_bytes_max: 70_000, fragments_max: 16 };

/// An [`Incoming`] that outlives the callback.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Incoming<'_>> for Got {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Text(text) => Got::Text(text.into()),
            Incoming::Binary(bytes) => Got::Binary(bytes.into()),
            Incoming::Ping(bytes) => Got::Ping(bytes.into()),
            Incoming::Pong(bytes) => Got::Pong(bytes.into()),
            Incoming::Close(frame) => Got::Close(frame.map(|f| (f.code, f.reason.into()))),
        }
    }
}

pub(super) type Outcome = (Vec<Got>, Result<(), Violation>);

/// Reads `stream` cut at the given ascending points, as a server; stops at the first error or
/// close, as an engine does.
pub(super) fn read_cut(stream: &[u8], cuts: &[usize]) -> Outcome {
    read_pieces(Role::Server, &LIMITS, pieces(stream, cuts))
}

pub(super) fn pieces<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut starts = vec![0];
    starts.extend_from_slice(cuts);
    let ends = cuts.iter().copied().chain([stream.len()]);
    starts.iter().zip(ends).map(|(&from, to)| &stream[from..to]).collect()
}

pub(super) fn read_pieces(role: Role, limits: &Limits, pieces: Vec<&[u8]>) -> Outcome {
    read_with(None, role, limits, pieces)
}

/// Like [`read_cut`], with compression negotiated.
pub(super) fn inflate_cut(inflater: &mut Inflater, stream: &[u8], cuts: &[usize]) -> Outcome {
    read_with(Some(inflater), Role::Server, &LIMITS, pieces(stream, cuts))
}

pub(super) fn read_with(
    mut inflater: Option<&mut Inflater>,
    role: Role,
    limits: &Limits,
    pieces: Vec<&[u8]>,
) -> Outcome {
    let mut reader = Reader::default();
    let mut got = Vec::new();
    for piece in pieces {
        let mut closed = false;
        let inflater = inflater.as_deref_mut();
        let result = reader.read(role, limits, inflater, &mut piece.to_vec(), |incoming| {
            closed = matches!(incoming, Incoming::Close(_));
            got.push(Got::from(incoming));
            if closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(result.is_err() || closed || result == Ok(piece.len()));
        if result.is_err() || closed {
            assert!(reader.is_idle() && reader.held_bytes() == 0);
            return (got, result.map(drop));
        }
    }
    (got, Ok(()))
}

/// A masked frame, FIN and opcode as given.
pub(super) fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_masked_frame(&mut out, opcode, [0xa1, 0x02, 0x53, 0xf4], payload);
    if !fin {
        out[0] &= 0x7f;
    }
    out
}

/// `payload` as permessage-deflate sends it, whether or not that is shorter.
pub(super) fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + payload.len() / 100 + 64);
    let mut stream = Compress::new(Compression::best(), false);
    stream.compress_vec(payload, &mut out, FlushCompress::Sync).expect("compressed");
    out.strip_suffix(b"\0\0\xff\xff").expect("flushed").to_vec()
}

/// Masked frames of one compressed message: `data` cut after `at` bytes, or whole.
pub(super) fn compressed_frames(opcode: Opcode, data: &[u8], at: Option<usize>) -> Vec<u8> {
    let (first, second) = data.split_at(at.unwrap_or(data.len()));
    let mut out = frame(at.is_none(), opcode, first);
    out[0] |= 0x40;
    if at.is_some() {
        out.extend(frame(true, Opcode::Continuation, second));
    }
    out
}

/// A masked compressed frame of `payload`, which must be worth it.
pub(super) fn compressed(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(Deflater::new().write_masked_compressed(&mut out, opcode, [9, 0, 7, 200], payload));
    out
}

pub(super) fn text(payload: &str) -> Vec<u8> {
    frame(true, Opcode::Text, payload.as_bytes())
}
