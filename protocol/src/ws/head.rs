//! A frame's header: parsed by tungstenite's codec, then held to the rules that need no context.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::message::Message;
use super::terms::Terms;
use super::{Limits, Opcode, Role, Violation, mask};

/// Longest header: 2 bytes, a 64-bit length, a mask.
pub(super) const HEAD_BYTES_MAX: usize = 14;

/// Longest payload of a control frame (RFC 6455 §5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// A header that obeys every rule which depends on the header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) fin: bool,
    /// RSV1: the first frame of a compressed message (RFC 7692 §6).
    pub(super) compressed: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: Option<[u8; 4]>,
    /// Payload length in bytes as declared; below 2^63.
    pub(super) payload_len: u64,
}

impl Head {
    /// Reads the header at the start of `input`: itself and its length in bytes, or `None` if
    /// more bytes are needed. `deflate` tells whether messages may be compressed.
    ///
    /// Nothing is judged before the header is whole, so that its verdict does not depend on how
    /// the bytes were cut.
    pub(super) fn parse(
        role: Role,
        deflate: bool,
        input: &[u8],
    ) -> Result<Option<(Head, usize)>, Violation> {
        let mut cursor = Cursor::new(input);
        let (header, payload_len) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(None),
            // A slice has no I/O errors; the codec's only other complaint is the opcode.
            Err(_) => return Err(Violation::ReservedOpcode),
        };
        let head_len = cursor.position() as usize; // at most HEAD_BYTES_MAX
        let opcode = opcode_of(header.opcode).ok_or(Violation::ReservedOpcode)?;
        check_reserved(&header, deflate, opcode)?;
        let head = Head::checked(role, &header, opcode, payload_len, head_len)?;
        Ok(Some((head, head_len)))
    }

    fn checked(
        role: Role,
        header: &FrameHeader,
        opcode: Opcode,
        payload_len: u64,
        head_len: usize,
    ) -> Result<Head, Violation> {
        match (role, header.mask) {
            (Role::Server, None) => return Err(Violation::MaskMissing),
            (Role::Client, Some(_)) => return Err(Violation::MaskUnexpected),
            _ => {}
        }
        if payload_len > i64::MAX as u64 {
            return Err(Violation::LengthTopBit);
        }
        // "The minimal number of bytes MUST be used" (§5.2). Browsers, Netty and Autobahn's own
        // library refuse as well; accepting a second spelling only helps smuggling past a proxy.
        if head_len != header.len(payload_len) {
            return Err(Violation::LengthNotMinimal);
        }
        if opcode.is_control() && payload_len > CONTROL_BYTES_MAX as u64 {
            return Err(Violation::ControlTooLong);
        }
        if opcode.is_control() && !header.is_final {
            return Err(Violation::ControlFragmented);
        }
        let (fin, compressed) = (header.is_final, header.rsv1);
        Ok(Head { fin, compressed, opcode, mask: header.mask, payload_len })
    }

    /// The rules that depend on what came before: order of fragments, their number, total size.
    /// `open` is the message begun by earlier frames.
    pub(super) fn check_after(
        &self,
        open: Option<&Message>,
        limits: &Limits,
    ) -> Result<(), Violation> {
        if self.opcode.is_control() {
            return Ok(());
        }
        let (held, fragments) = match (open, self.opcode == Opcode::Continuation) {
            (None, false) => (0, 0),
            (Some(message), true) => (message.len(), message.fragments()),
            (None, true) => return Err(Violation::ContinuationWithoutStart),
            (Some(_), false) => return Err(Violation::MessageInterleaved),
        };
        if fragments > 0 && fragments >= limits.fragments_max {
            return Err(Violation::TooManyFragments);
        }
        let room = limits.message_bytes_max.saturating_sub(held);
        if self.payload_len > room as u64 {
            return Err(Violation::MessageTooBig);
        }
        Ok(())
    }

    /// Unmasks a piece of the payload that begins `offset` bytes into it.
    pub(super) fn unmask(&self, offset: usize, piece: &mut [u8]) {
        if let Some(key) = self.mask {
            mask::apply(key, offset, piece);
        }
    }
}

/// RSV1 marks a compressed message, on its first frame alone (RFC 7692 §6); the others mean
/// nothing.
fn check_reserved(header: &FrameHeader, deflate: bool, opcode: Opcode) -> Result<(), Violation> {
    let may_compress = deflate && matches!(opcode, Opcode::Text | Opcode::Binary);
    if header.rsv2 || header.rsv3 || (header.rsv1 && !may_compress) {
        return Err(Violation::ReservedBits);
    }
    Ok(())
}

impl Terms<'_> {
    /// Reads a frame header, see [`Head::parse`].
    pub(super) fn parse_head(&self, input: &[u8]) -> Result<Option<(Head, usize)>, Violation> {
        Head::parse(self.role, self.inflater.is_some(), input)
    }
}

fn opcode_of(opcode: OpCode) -> Option<Opcode> {
    match opcode {
        OpCode::Data(Data::Continue) => Some(Opcode::Continuation),
        OpCode::Data(Data::Text) => Some(Opcode::Text),
        OpCode::Data(Data::Binary) => Some(Opcode::Binary),
        OpCode::Control(Control::Close) => Some(Opcode::Close),
        OpCode::Control(Control::Ping) => Some(Opcode::Ping),
        OpCode::Control(Control::Pong) => Some(Opcode::Pong),
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => None,
    }
}
