//! Between a shard and the bridge's thread: unbounded queues, whose content the shard's end bounds.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::message::{Message, Range};
use crate::stats::Stats;
use crate::store::{Entry, RoomRecord, RoomSettings};
use crate::ticket::Ticket;

/// What a shard wants to know of the store, or of the bridge.
pub(crate) enum Question {
    Open {
        room: Arc<str>,
        limit: usize,
    },
    /// With the room's record where the shard does not know it.
    Read {
        ticket: Ticket,
        room: Arc<str>,
        range: Range,
        wants_record: bool,
    },
    /// Answered within `patience`, one way or the other.
    Find {
        room: Arc<str>,
        client_ids: Vec<Box<str>>,
        patience: Duration,
    },
    Record {
        ticket: Ticket,
        room: Arc<str>,
    },
    Configure {
        ticket: Ticket,
        room: Arc<str>,
        settings: RoomSettings,
        now_ms: u64,
    },
    Verify {
        ticket: Ticket,
        password: Box<str>,
        hash: Box<str>,
    },
}

/// Messages by rising `seq`, and the room's record if that was wanted.
pub(crate) type Found = (Arc<[Arc<Message>]>, Option<RoomRecord>);

/// What the bridge's thread has done for a shard.
pub(crate) enum Done {
    /// For each message whether it is kept; in the order in which they were handed over.
    Kept(Vec<(Entry, bool)>),
    Opened {
        room: Arc<str>,
        found: Option<(RoomRecord, Vec<Message>)>,
    },
    Read {
        ticket: Ticket,
        found: Option<Found>,
    },
    /// `None`: the store did not answer in time.
    Found {
        room: Arc<str>,
        messages: Option<Vec<Message>>,
    },
    Record {
        ticket: Ticket,
        record: Option<RoomRecord>,
    },
    Configured {
        ticket: Ticket,
        room: Arc<str>,
        record: Option<RoomRecord>,
    },
    Verified {
        ticket: Ticket,
        right: Option<bool>,
    },
    /// The store has not answered for a while.
    Failing,
    /// It answers again.
    Recovered,
}

/// How a shard is told that something waits for it; unset until its ring is there.
pub(super) type Waker = Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>;

/// A shard's end.
pub struct Line {
    pub(super) shard: u16,
    pub(super) appends: UnboundedSender<(u16, Entry)>,
    pub(super) questions: UnboundedSender<(u16, Question)>,
    pub(super) done: Receiver<Done>,
    pub(super) waker: Waker,
    pub(super) stats: Arc<Stats>,
}

impl Line {
    /// Names what wakes the shard; once.
    pub fn wake_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.waker.set(Box::new(wake));
    }

    /// Hands a message over. The bridge's thread outlives every line.
    pub(crate) fn append(&self, entry: Entry) {
        self.stats.queued_messages.fetch_add(1, Relaxed);
        self.stats.queued_bytes.fetch_add(entry.message.held_bytes() as u64, Relaxed);
        let _ = self.appends.send((self.shard, entry));
    }

    /// A message of another host is not kept here: too much waits.
    pub(crate) fn note_skipped(&self) {
        self.stats.skipped.fetch_add(1, Relaxed);
    }

    pub(crate) fn ask(&self, question: Question) {
        let _ = self.questions.send((self.shard, question));
    }

    pub(crate) fn poll(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}

/// The bridge's end of one line.
pub(super) struct ShardEnd {
    pub(super) done: Sender<Done>,
    pub(super) waker: Waker,
}

impl ShardEnd {
    /// A shard that has ended needs no answer.
    pub(super) fn tell(&self, done: Done) {
        let _ = self.done.send(done);
        if let Some(wake) = self.waker.get() {
            wake();
        }
    }
}
