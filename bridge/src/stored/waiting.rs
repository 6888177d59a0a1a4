//! What waits: messages for their commit, drafts for a look-up, reads for the store.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::message::{Draft, Message, Page, Range};
use crate::ticket::Ticket;

/// What is under way in a room.
#[derive(Default)]
pub(super) struct Busy {
    /// Who waits for the commit of which message, by rising `seq`.
    pub(super) waiting: VecDeque<(Ticket, Arc<Message>)>,
    /// Drafts that wait for a look-up, or behind one that does.
    pub(super) held: VecDeque<(Ticket, Draft)>,
    /// How many of `held` the look-up under way is for; 0: there is none.
    pub(super) looked_up: usize,
}

impl Busy {
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty()
    }
}

/// A read that waits for the store.
pub(super) struct Reading {
    pub(super) ticket: Ticket,
    pub(super) range: Range,
    /// What memory has of it.
    pub(super) held: Page,
    pub(super) oldest_ms: u64,
}
