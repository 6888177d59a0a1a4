//! Frames this side wrote, read back.

use super::head::Head;
use super::{Opcode, Role};

/// Opcode and payload of each frame in `bytes`, which are whole unmasked frames one behind the
/// other as [`write_frame`](super::write_frame) makes them: for sending the same messages by
/// other means than a WebSocket. Ends at the first thing that is none: a masked, compressed,
/// unfinished or cut frame.
pub fn server_frames(bytes: &[u8]) -> impl Iterator<Item = (Opcode, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, head_len) = Head::parse(Role::Client, false, rest).ok().flatten()?;
        let payload_len = usize::try_from(head.payload_len).ok().filter(|_| head.fin)?;
        let (payload, behind) = rest.get(head_len..)?.split_at_checked(payload_len)?;
        rest = behind;
        Some((head.opcode, payload))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::{Deflater, write_close, write_frame, write_masked_frame};

    fn written() -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, Opcode::Text, b"one");
        write_frame(&mut out, Opcode::Binary, &[7; 70_000]);
        write_frame(&mut out, Opcode::Ping, b"");
        write_frame(&mut out, Opcode::Text, &[b'x'; 126]);
        write_close(&mut out, Some(1000), "");
        out
    }

    fn shapes(bytes: &[u8]) -> Vec<(Opcode, usize)> {
        server_frames(bytes).map(|(opcode, payload)| (opcode, payload.len())).collect()
    }

    const SHAPES: [(Opcode, usize); 5] = [
        (Opcode::Text, 3),
        (Opcode::Binary, 70_000),
        (Opcode::Ping, 0),
        (Opcode::Text, 126),
        (Opcode::Close, 2),
    ];

    #[test]
    fn what_was_written_comes_back() {
        assert_eq!(shapes(&written()), SHAPES);
        assert_eq!(server_frames(&written()).next(), Some((Opcode::Text, &b"one"[..])));
        assert_eq!(shapes(b""), []);
    }

    #[test]
    fn a_cut_shows_only_what_is_whole() {
        let bytes = written();
        for len in (0..200).chain(bytes.len() - 200..bytes.len()) {
            let found = shapes(&bytes[..len]);
            assert!(found.len() < SHAPES.len() && SHAPES.starts_with(&found), "{len}");
        }
    }

    #[test]
    fn it_ends_at_what_this_side_does_not_write() {
        let mut masked = Vec::new();
        write_masked_frame(&mut masked, Opcode::Text, [1, 2, 3, 4], b"x");
        let mut compressed = Vec::new();
        assert!(Deflater::new().write_compressed(&mut compressed, Opcode::Text, &[b'x'; 99]));
        let others: [&[u8]; 5] = [
            &masked,
            &compressed,
            b"\x01\x01x",
            b"\x83\x00",
            b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
        ];
        for other in others {
            let bytes = [b"\x81\x02ok", other, b"\x81\x02no"].concat();
            assert_eq!(shapes(&bytes), [(Opcode::Text, 2)], "{other:?}");
        }
    }
}
