//! The wait for binary attachments between a packet's text and its delivery.

use super::{DecodeError, Limits, Packet, head};

/// Turns Engine.IO messages into packets. One pointer, null while no attachments are owed.
#[derive(Debug, Default)]
pub struct Assembler {
    pending: Option<Box<Pending>>,
}

/// A packet whose text has come and passed every check.
#[derive(Debug)]
struct Pending {
    text: Box<str>,
    /// Attachments announced, at least 1.
    owed: u32,
    /// Those that have come, fewer than `owed`. Grows with what arrives.
    attachments: Vec<Box<[u8]>>,
    /// Bytes of the text and of all attachments.
    packet_bytes: usize,
}

impl Assembler {
    /// Takes one Engine.IO text message without its leading `4`. Returns the packet, or `None`
    /// if its attachments are still to come. After an error nothing is held.
    pub fn text<'a>(
        &mut self,
        text: &'a str,
        limits: &Limits,
    ) -> Result<Option<Packet<'a>>, DecodeError> {
        if self.pending.take().is_some() {
            return Err(DecodeError::AttachmentsOwed);
        }
        let (mut packet, owed) = head::split(text, limits)?;
        head::check(&mut packet, owed, limits)?;
        if owed == 0 {
            return Ok(Some(packet));
        }
        if text.len() > limits.packet_bytes_max {
            return Err(DecodeError::PacketTooBig);
        }
        let attachments = Vec::new();
        let pending = Pending { text: text.into(), owed, attachments, packet_bytes: text.len() };
        self.pending = Some(Box::new(pending));
        Ok(None)
    }

    /// Takes one binary message, the next attachment in order. Calls `on` with the packet when
    /// it is whole. After an error nothing is held.
    pub fn binary(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        on: impl FnOnce(Packet<'_>),
    ) -> Result<(), DecodeError> {
        let mut pending = self.pending.take().ok_or(DecodeError::StrayBinary)?;
        pending.packet_bytes = pending.packet_bytes.saturating_add(bytes.len());
        if pending.packet_bytes > limits.packet_bytes_max {
            return Err(DecodeError::PacketTooBig);
        }
        pending.attachments.push(bytes.into());
        if pending.attachments.len() < pending.owed as usize {
            self.pending = Some(pending);
            return Ok(());
        }
        // Splitting again is a few dozen bytes of work and saves keeping offsets.
        let (packet, _) = head::split(&pending.text, limits)?;
        let data = packet.data.trim_matches(crate::json::WHITESPACE);
        on(Packet { data, attachments: &pending.attachments, ..packet });
        Ok(())
    }

    /// Whether no attachments are owed.
    pub fn is_idle(&self) -> bool {
        self.pending.is_none()
    }

    /// User memory held for the unfinished packet, in bytes, capacity counted; 0 when idle.
    pub fn held_bytes(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| {
            let slots = pending.attachments.capacity() * size_of::<Box<[u8]>>();
            size_of::<Pending>() + slots + pending.packet_bytes
        })
    }
}
