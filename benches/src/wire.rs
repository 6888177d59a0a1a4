//! The little of WebSocket (RFC 6455, section 5.2) that both ends here need: frame headers, and
//! whole short frames.

/// Opcode of a text frame.
pub const TEXT: u8 = 1;
/// Opcode of a close frame.
pub const CLOSE: u8 = 8;
/// Opcode of a ping frame.
pub const PING: u8 = 9;
/// Opcode of a pong frame.
pub const PONG: u8 = 10;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Any key does: what counts is that the server has to unmask. Fixed, so that runs are alike.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x96, 0x3c];

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub opcode: u8,
    /// The client's masking key.
    pub mask: Option<[u8; 4]>,
    /// Bytes before the payload.
    pub start: usize,
    /// Bytes of the payload.
    pub len: usize,
}

/// Reads a frame's header; `None` while bytes of it are missing. Neither end uses fragments.
#[inline]
#[must_use]
pub fn header(bytes: &[u8]) -> Option<Header> {
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
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, key) in payload.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends a frame as a server sends it, its payload given in two parts.
pub fn push_server(out: &mut Vec<u8>, opcode: u8, head: &[u8], tail: &[u8]) {
    push_header(out, opcode, head.len() + tail.len(), 0);
    out.extend_from_slice(head);
    out.extend_from_slice(tail);
}

/// Appends a frame as a client sends it.
pub fn push_client(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_header(out, opcode, payload.len(), MASKED);
    out.extend_from_slice(&MASK);
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[start..], MASK);
}

fn push_header(out: &mut Vec<u8>, opcode: u8, len: usize, masked: u8) {
    out.push(FIN | opcode);
    match len {
        0..126 => out.push(masked | len as u8),
        126..0x1_0000 => {
            out.push(masked | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_class_come_back() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; len];
            let mut frame = Vec::new();
            push_client(&mut frame, TEXT, &payload);
            let read = header(&frame).expect("a whole header");
            assert_eq!((read.opcode, read.len, read.mask), (TEXT, len, Some(MASK)));
            unmask(&mut frame[read.start..], MASK);
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
