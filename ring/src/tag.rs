//! What a completion carries: operation, generation and slot in 64 bits.

use crate::slots::Conn;

/// Kinds of operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Op {
    Accept,
    Recv,
    Send,
    Cancel,
    Close,
    Install,
    Shutdown,
    Wake,
    Timeout,
    TimeoutUpdate,
    Socket,
    Bind,
    Connect,
    Transfer,
    Adopt,
}

const OPS: [Op; 15] = [
    Op::Accept,
    Op::Recv,
    Op::Send,
    Op::Cancel,
    Op::Close,
    Op::Install,
    Op::Shutdown,
    Op::Wake,
    Op::Timeout,
    Op::TimeoutUpdate,
    Op::Socket,
    Op::Bind,
    Op::Connect,
    Op::Transfer,
    Op::Adopt,
];

/// Operation (8 bits), generation (24), slot or index (32).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tag {
    pub(crate) op: Op,
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Tag {
    pub(crate) fn of(op: Op, index: u32, generation: u32) -> Self {
        Self { op, index, generation }
    }

    /// A tag that carries `token` instead: 48 bits of it, over index and generation.
    pub(crate) fn with_token(op: Op, token: u64) -> Self {
        Self { op, index: token as u32, generation: u32::from((token >> 32) as u16) }
    }

    pub(crate) fn token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) fn conn(self) -> Conn {
        Conn { slot: self.index, generation: self.generation }
    }
}

impl From<Tag> for u64 {
    fn from(tag: Tag) -> Self {
        (tag.op as Self) << 56 | Self::from(tag.generation) << 32 | Self::from(tag.index)
    }
}

impl From<u64> for Tag {
    fn from(data: u64) -> Self {
        let op = OPS[(data >> 56) as usize];
        Self { op, index: data as u32, generation: (data >> 32) as u32 & 0x00ff_ffff }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_survives_the_round_trip() {
        for (number, op) in OPS.into_iter().enumerate() {
            assert_eq!(op as usize, number);
            let tag = Tag::of(op, u32::MAX - 1, 0x00ff_fffe);
            assert_eq!(Tag::from(u64::from(tag)), tag);
        }
    }

    #[test]
    fn a_token_survives_the_round_trip() {
        for token in [0, 1, u64::from(u32::MAX), 0xfedc_ba98_7654, (1 << 48) - 1] {
            let tag = Tag::from(u64::from(Tag::with_token(Op::Adopt, token)));
            assert_eq!((tag.op, tag.token()), (Op::Adopt, token));
        }
    }
}
