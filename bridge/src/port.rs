//! A shard's end of the bridge.

use std::sync::Arc;

use crate::fleet::{News, Word};
use crate::message::{Draft, Message, Page, Range};
use crate::store::{RoomRecord, RoomSettings};
use crate::ticket::Ticket;

/// What a shard asks. Requests for one room are answered in order.
#[derive(Debug)]
pub enum Request {
    /// The room is in use from now on: its order must not be forgotten meanwhile. Comes back with
    /// [`Outcome::Opened`]; until then, and unless that has a record, nothing else may be asked of
    /// the room.
    Open {
        /// The room's name.
        room: Arc<str>,
    },
    /// It is no longer in use, and nothing asked of it waits for an answer.
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
    /// Read messages, of an open room or of any other.
    Read {
        /// Comes back with [`Outcome::Read`].
        ticket: Ticket,
        /// The room's name.
        room: Arc<str>,
        /// Which ones.
        range: Range,
    },
    /// Read what is known of a room, be it open or not.
    Record {
        /// Comes back with [`Outcome::Record`].
        ticket: Ticket,
        /// The room's name.
        room: Arc<str>,
    },
    /// Replace a room's settings, be it open or not. In a fleet only those that differ from
    /// `before`: others may have changed the rest.
    Configure {
        /// Comes back with [`Outcome::Record`].
        ticket: Ticket,
        /// The room's name.
        room: Arc<str>,
        /// What they were.
        before: RoomSettings,
        /// All of them.
        settings: RoomSettings,
    },
    /// Compare a password with a hash.
    Verify {
        /// Comes back with [`Outcome::Verified`].
        ticket: Ticket,
        /// What a client has given.
        password: Box<str>,
        /// The hash, as [`RoomSettings::password`].
        hash: Box<str>,
    },
    /// Tell the fleet, if there is one.
    Tell(Word),
}

/// The answer to a request.
#[derive(Debug)]
pub enum Outcome {
    /// To [`Request::Open`].
    Opened {
        /// The room's name.
        room: Arc<str>,
        /// What is known of it; `None`: that cannot be found out now, and the room stays closed.
        record: Option<RoomRecord>,
    },
    /// To [`Request::Publish`]: the message has its number.
    Published {
        /// The request's.
        ticket: Ticket,
        /// The message with its number; the first one where `client_id` is repeated.
        message: Arc<Message>,
        /// Whether it had been numbered before.
        duplicate: bool,
        /// Whether everybody may have it now. If not, they had it before, or [`Outcome::Delivered`]
        /// says when.
        delivers: bool,
        /// Whether it is as safe as its sender was promised; if not, [`Outcome::Settled`] follows.
        settled: bool,
    },
    /// To [`Request::Publish`]: what has become of a message that was not settled at once.
    Settled {
        /// The request's.
        ticket: Ticket,
        /// The message.
        message: Arc<Message>,
        /// Whether it is kept; if not, that is unknown, and a repetition is answered anew.
        kept: bool,
    },
    /// To [`Request::Publish`]: it could not be found out whether this is a repetition, or Redis
    /// has not answered in time. Whether it is published is unknown.
    Refused {
        /// The request's.
        ticket: Ticket,
    },
    /// To [`Request::Read`].
    Read {
        /// The request's.
        ticket: Ticket,
        /// What was found.
        page: Page,
    },
    /// To [`Request::Record`] and [`Request::Configure`].
    Record {
        /// The request's.
        ticket: Ticket,
        /// The room as it is now; `None`: the store does not answer.
        record: Option<RoomRecord>,
    },
    /// To [`Request::Verify`].
    Verified {
        /// The request's.
        ticket: Ticket,
        /// Whether it is the password; `None`: that cannot be found out now.
        right: Option<bool>,
    },
    /// The next message of an open room, of whichever host: everybody here may have it.
    Delivered {
        /// The room's name.
        room: Arc<str>,
        /// The message.
        message: Arc<Message>,
    },
    /// The order of an open room could not be kept: messages are missing, or numbers have been
    /// given twice. What follows goes on after `last_seq`.
    Broken {
        /// The room's name.
        room: Arc<str>,
        /// The last number of the order that begins.
        last_seq: u64,
    },
    /// An open room's settings have been changed on another host.
    Configured {
        /// The room's name.
        room: Arc<str>,
        /// All of them.
        settings: RoomSettings,
    },
    /// What the fleet has to say.
    News(News),
}

impl Outcome {
    /// The answer to the repetition of a message that is kept.
    pub(crate) fn repeated(ticket: Ticket, message: Arc<Message>) -> Self {
        Self::Published { ticket, message, duplicate: true, delivers: false, settled: true }
    }
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

    /// The next outcome, if there is one. `now_ms` as in [`Port::try_submit`].
    fn poll_outcome(&mut self, now_ms: u64) -> Option<Outcome>;

    /// Lets go of what has expired. Called now and then.
    fn expire(&mut self, now_ms: u64);

    /// Bytes of messages held in this host's memory.
    fn held_bytes(&self) -> usize;

    /// Whether there may be members of a room on other hosts.
    fn is_shared(&self) -> bool {
        false
    }
}
