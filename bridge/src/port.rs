//! A shard's end of the bridge.

use std::sync::Arc;

use crate::message::{Draft, Message};

/// What the shard calls a request by; it comes back with the outcome.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

/// Which messages of a room are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Only messages with a greater `seq`.
    pub after: Option<u64>,
    /// Only messages with a smaller `seq`.
    pub before: Option<u64>,
    /// At most so many, the newest of the range.
    pub limit: usize,
}

/// What a shard asks. Requests for one room are answered in order.
#[derive(Debug)]
pub enum Request {
    /// The room has members on this host: its order must not be forgotten meanwhile.
    Open {
        /// The room's name.
        room: Arc<str>,
    },
    /// The last member has left.
    Close {
        /// The room's name.
        room: Arc<str>,
    },
    /// Number and keep a message.
    Publish {
        /// Comes back with [`Outcome::Published`].
        ticket: Ticket,
        /// The room's name.
        room: Arc<str>,
        /// The message.
        draft: Draft,
    },
    /// Read messages.
    Read {
        /// Comes back with [`Outcome::Read`].
        ticket: Ticket,
        /// The room's name.
        room: Arc<str>,
        /// Which ones.
        range: Range,
    },
}

/// Messages that were read, by rising `seq`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Arc<Message>>,
    /// The room's last `seq` at the time of reading; 0 for a room without messages.
    pub last_seq: u64,
    /// Whether all messages of the range are here: false where some are gone or did not fit. Always
    /// true without `after`, which asks for no beginning.
    pub complete: bool,
    /// Whether older messages than the first one here can still be read.
    pub more: bool,
}

/// The answer to a request.
#[derive(Debug)]
pub enum Outcome {
    /// To [`Request::Publish`].
    Published {
        /// The request's.
        ticket: Ticket,
        /// The message with its number; the first one where `client_id` is repeated.
        message: Arc<Message>,
        /// Whether it had been numbered before: it must not be delivered again.
        duplicate: bool,
    },
    /// To [`Request::Read`].
    Read {
        /// The request's.
        ticket: Ticket,
        /// What was found.
        page: Page,
    },
}

/// The bridge has as much under way as it may; the request was dropped and has had no effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The bridge as one shard sees it: a bounded queue in, outcomes out. Never blocks.
pub trait Port: Send {
    /// Hands a request over. `now_ms` is milliseconds since 1970.
    ///
    /// # Errors
    /// [`Full`] when the bridge cannot take it now; the caller refuses its client with
    /// `unavailable`. `Open` and `Close` are always taken.
    fn try_submit(&mut self, request: Request, now_ms: u64) -> Result<(), Full>;

    /// The next outcome, if there is one.
    fn poll_outcome(&mut self) -> Option<Outcome>;

    /// Lets go of what has expired. Called now and then.
    fn expire(&mut self, now_ms: u64);

    /// The room's last `seq` as far as this host knows; 0 for none.
    fn last_seq(&self, room: &str) -> u64;

    /// Bytes of messages held in this host's memory.
    fn held_bytes(&self) -> usize;
}
