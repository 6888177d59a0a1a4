//! The little of WebSocket (RFC 6455, section 5.2) that the floor needs: headers of frames that are
//! read, whole frames that are sent.

/// Opcode of a text frame.
pub(super) const TEXT: u8 = 1;
/// Opcode of a close frame.
pub(super) const CLOSE: u8 = 8;
/// Opcode of a ping frame.
pub(super) const PING: u8 = 9;
/// Opcode of a pong frame.
pub(super) const PONG: u8 = 10;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// What the frame is.
    pub(super) opcode: u8,
    /// The client's masking key.
    pub(super) mask: Option<[u8; 4]>,
    /// Bytes before the payload.
    pub(super) start: usize,
    /// Bytes of the payload.
    pub(super) len: usize,
}

/// Reads a frame's header; `None` while bytes of it are missing. Neither end uses fragments.
#[inline]
#[must_use]
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (mut start, len) = match second & 0x7f {
        126 => (4, u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
        127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
        short => (2, usize::from(short)),
    };
    let mut mask = None;
    if second & MASKED != 0 {
        mask = Some(*bytes.get(start..)?.first_chunk()?);
        start += 4;
    }
    Some(Header { opcode: first & 0x0f, mask, start, len })
}

/// Applies a masking key, in place.
#[inline]
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, key) in payload.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends a frame as a server sends it, its payload given in two parts.
pub(super) fn push_server(out: &mut Vec<u8>, opcode: u8, head: &[u8], tail: &[u8]) {
    push_header(out, opcode, head.len() + tail.len());
    out.extend_from_slice(head);
    out.extend_from_slice(tail);
}

fn push_header(out: &mut Vec<u8>, opcode: u8, len: usize) {
    out.push(FIN | opcode);
    match len {
        0..126 => out.push(len as u8),
        126..0x1_0000 => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a client sends it.
    fn masked(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut frame = Vec::new();
        push_server(&mut frame, TEXT, payload, b"");
        let start = frame.len() - payload.len();
        frame[1] |= MASKED;
        unmask(&mut frame[start..], mask);
        frame.splice(start..start, mask);
        frame
    }

    #[test]
    fn frames_of_every_length_class_come_back() {
        let mask = [0x5a, 0xc3, 0x96, 0x3c];
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; len];
            let mut frame = masked(&payload, mask);
            let read = header(&frame).expect("a whole header");
            assert_eq!((read.opcode, read.len, read.mask), (TEXT, len, Some(mask)));
            unmask(&mut frame[read.start..], mask);
            assert_eq!(frame[read.start..], payload);
            for cut in 0..read.start {
                assert_eq!(header(&frame[..cut]), None);
            }
        }
    }

    #[test]
    fn a_server_frame_has_no_mask() {
        let mut frame = Vec::new();
        push_server(&mut frame, TEXT, b"42", b"[]");
        assert_eq!(frame, b"\x81\x0442[]");
    }
}
