//! Frames for sending, appended to a buffer of the caller's. Only whole messages are written:
//! this side never fragments.

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::head::CONTROL_BYTES_MAX;
use super::{Opcode, mask};

/// Appends a whole unmasked frame, as servers send it. A control frame's `payload` must have at
/// most 125 bytes; `Continuation` makes a final fragment.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    write_any_frame(out, opcode, false, None, payload);
}

/// Appends just the header of an unmasked frame of `payload_len` bytes, for a payload that is
/// sent from elsewhere.
pub fn write_frame_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    write_head(out, opcode, false, None, payload_len);
}

/// Length in bytes of an unmasked frame's header: 2, 4 or 10 (RFC 6455 §5.2).
pub fn frame_header_len(payload_len: usize) -> usize {
    FrameHeader::default().len(payload_len as u64)
}

/// Appends an unmasked close frame. Without a code it is empty, which the peer sees as 1005, and
/// `reason` is left out; otherwise `reason` is cut to 123 bytes at a character.
pub fn write_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let Some(code) = code else {
        return write_frame(out, Opcode::Close, &[]);
    };
    let cut = reason.floor_char_boundary(CONTROL_BYTES_MAX - 2);
    let reason = reason.get(..cut).unwrap_or_default();
    write_frame_header(out, Opcode::Close, 2 + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends a whole masked frame, as clients send it. The mask should be unpredictable to whoever
/// chose the payload (§10.3); load generators may not care.
pub fn write_masked_frame(out: &mut Vec<u8>, opcode: Opcode, mask: [u8; 4], payload: &[u8]) {
    write_any_frame(out, opcode, false, Some(mask), payload);
}

/// Appends a whole frame, masked if `mask` is given, with RSV1 if it is `compressed`.
pub(super) fn write_any_frame(
    out: &mut Vec<u8>,
    opcode: Opcode,
    compressed: bool,
    mask: Option<[u8; 4]>,
    payload: &[u8],
) {
    let mask_len = mask.map_or(0, |mask| mask.len());
    out.reserve(frame_header_len(payload.len()) + mask_len + payload.len());
    write_head(out, opcode, compressed, mask, payload.len());
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        mask::apply(mask, 0, out.get_mut(start..).unwrap_or_default());
    }
}

fn write_head(
    out: &mut Vec<u8>,
    opcode: Opcode,
    compressed: bool,
    mask: Option<[u8; 4]>,
    payload_len: usize,
) {
    debug_assert!(!opcode.is_control() || payload_len <= CONTROL_BYTES_MAX);
    let opcode = code_of(opcode);
    let header = FrameHeader { rsv1: compressed, opcode, mask, ..FrameHeader::default() };
    // Writing to a `Vec` cannot fail.
    let _ = header.format(payload_len as u64, out);
}

fn code_of(opcode: Opcode) -> OpCode {
    match opcode {
        Opcode::Continuation => OpCode::Data(Data::Continue),
        Opcode::Text => OpCode::Data(Data::Text),
        Opcode::Binary => OpCode::Data(Data::Binary),
        Opcode::Close => OpCode::Control(Control::Close),
        Opcode::Ping => OpCode::Control(Control::Ping),
        Opcode::Pong => OpCode::Control(Control::Pong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_lengths_at_the_boundaries() {
        for (len, header) in [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)] {
            assert_eq!(frame_header_len(len), header);
            let mut out = Vec::new();
            write_frame(&mut out, Opcode::Binary, &vec![7; len]);
            assert_eq!(out.len(), header + len);
        }
    }

    #[test]
    fn frames_as_in_the_rfc() {
        let mut out = Vec::new();
        write_frame(&mut out, Opcode::Text, b"Hello");
        assert_eq!(out, b"\x81\x05Hello");
        out.clear();
        write_masked_frame(&mut out, Opcode::Text, [0x37, 0xfa, 0x21, 0x3d], b"Hello");
        assert_eq!(out, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    }

    #[test]
    fn close_without_code_is_empty() {
        let mut out = Vec::new();
        write_close(&mut out, None, "ignored");
        assert_eq!(out, b"\x88\x00");
    }

    #[test]
    fn close_reason_is_cut_at_a_character() {
        let mut out = Vec::new();
        write_close(&mut out, Some(1012), &"é".repeat(100));
        assert_eq!(out.get(..4), Some(&b"\x88\x7c\x03\xf4"[..])); // 2 + 122 bytes
        assert_eq!(std::str::from_utf8(&out[4..]), Ok("é".repeat(61).as_str()));
    }
}
