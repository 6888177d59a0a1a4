//! One connection as its worker sees it.

use std::collections::VecDeque;

use throng_protocol::ws;
use throng_ring::Frame;

use crate::checks::Receiver;

/// How far a connection is; each stage waits for the server's answer to the one before.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// None is here.
    #[default]
    Vacant,
    /// The upgrade was asked for.
    Upgrading,
    /// Upgraded; the session is to open.
    Opening,
    /// Named; the namespace is to answer.
    Naming,
    /// Joining its room.
    Joining,
    /// In its room.
    Ready,
    /// Connected, in no room.
    Resting,
    /// Being closed.
    Closing,
}

impl Stage {
    /// On its way up.
    pub(super) fn is_opening(self) -> bool {
        matches!(self, Self::Upgrading | Self::Opening | Self::Naming | Self::Joining)
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Row {
    /// Tells the slot's connections apart.
    pub(super) generation: u32,
    /// Which of its worker's clients it is.
    pub(super) client: u32,
    /// How far it is.
    pub(super) stage: Stage,
    /// A send is in flight.
    pub(super) is_sending: bool,
    /// When it was begun.
    pub(super) began_ns: u64,
    /// Joins frames.
    pub(super) reader: ws::Reader,
    /// What there is of the upgrade's answer.
    pub(super) head: Vec<u8>,
    /// Numbers of messages that came before the answer to its join.
    pub(super) early: Vec<u32>,
    /// What waits for the send in flight.
    pub(super) queue: VecDeque<Frame>,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            generation: u32::MAX,
            client: 0,
            stage: Stage::Vacant,
            is_sending: false,
            began_ns: 0,
            reader: ws::Reader::default(),
            head: Vec::new(),
            early: Vec::new(),
            queue: VecDeque::new(),
        }
    }
}

/// A client: what outlives its connections.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Client {
    /// Its connection's slot, if it has one.
    pub(super) slot: Option<u32>,
    /// When its connection was begun.
    pub(super) began_ns: u64,
    /// What it has received.
    pub(super) receiver: Receiver,
}
