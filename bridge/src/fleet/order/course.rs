//! The continuity of one room: what may be delivered next, and whether a read mends what may be
//! missing.
//!
//! Pure: no clock, no Redis. Invariants: what [`Course`] lets through are messages of one epoch by
//! rising `seq` without a gap, each once; a message is dropped as known only if its id is the one
//! that was let through under its number; a new epoch is never taken for the old one's going on,
//! unless there was no message yet.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::wire::{Entry, Epoch, Found, Top};
use crate::message::Message;

/// Ids remembered of messages that were delivered as they came. More are remembered after a read:
/// the events of what it has found may still be under way.
const KNOWN_MAX: usize = 64;

/// How far a room has been delivered.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    /// `None`: Redis has known nothing of the room, or could not say where it goes on.
    epoch: Option<Epoch>,
    last: u64,
    /// The id of message `last`; none at the beginning of an epoch.
    id: Option<Box<str>>,
    /// The greatest number known to be given in this epoch.
    top: u64,
    /// Numbers given to messages of this host that are not delivered yet, and hashes of their ids.
    given: VecDeque<(Epoch, u64, u64)>,
    /// What had been given when the room was read anew: older events of it may still come.
    begun: u64,
    /// An epoch in which numbers have been given twice: it must not go on.
    forked: Option<Epoch>,
    /// The epoch before: what comes of it is old.
    left: Option<Epoch>,
    /// It has been another process of Redis since the room was found right: it may have lost what
    /// it knew, and given numbers twice.
    doubtful: bool,
    /// Hashes of the ids of the messages up to `last`, the last one's at the end.
    known: VecDeque<u64>,
}

/// What to do with a message that has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// It is the next one, and is counted as delivered.
    Next,
    /// It has been delivered.
    Known,
    /// Only a read can tell.
    Unsure,
}

/// What a read has brought.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Mended {
    /// These come next; if `more`, another read has to follow.
    Whole { messages: Vec<Arc<Message>>, more: bool },
    /// Messages are missing, or (`forked`) numbers have been given twice.
    Broken { forked: bool },
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

impl Course {
    /// The last message that counts as delivered.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// What Redis must know at least.
    pub(super) fn floor(&self) -> u64 {
        self.top.max(self.last)
    }

    /// Where the next read begins.
    pub(super) fn from(&self) -> u64 {
        self.last.max(1)
    }

    /// Redis has given this number to a message of this host.
    pub(super) fn note_given(&mut self, epoch: Epoch, seq: u64, id: &str) {
        if seq > self.last || self.epoch != Some(epoch) {
            self.top = self.top.max(seq);
            self.given.push_back((epoch, seq, hash(id)));
        }
    }

    /// Whether this number has been given to another message, of this host.
    fn is_given(&self, epoch: Epoch, seq: u64, id: &str) -> bool {
        let mut given = self.given.iter();
        given.any(|it| (it.0, it.1) == (epoch, seq) && it.2 != hash(id))
    }

    /// The epoch that must not go on.
    pub(super) fn forked(&self) -> Option<Epoch> {
        self.forked
    }

    /// Redis may have lost data: that it knows nothing no longer means that there was nothing.
    pub(super) fn note_loss(&mut self) {
        self.doubtful = true;
    }

    /// Whether Redis stands further, or elsewhere, as the first value says; the second, whether in
    /// the same epoch.
    pub(super) fn is_behind(&self, top: &Top) -> (bool, bool) {
        let same = top.epoch == self.epoch;
        (!same || top.seq != self.last || top.id != self.id, same)
    }

    /// A message has arrived.
    pub(super) fn step(&mut self, epoch: Epoch, seq: u64, prev: Option<&str>, id: &str) -> Step {
        let begins = self.epoch.is_none() && self.last == 0 && seq == 1 && !self.doubtful;
        if self.epoch != Some(epoch) && !begins {
            return if self.left == Some(epoch) { Step::Known } else { Step::Unsure };
        }
        let follows = seq == self.last + 1 && (begins || prev == self.id.as_deref());
        if follows && !self.is_given(epoch, seq, id) {
            self.epoch = Some(epoch);
            self.known.drain(..self.known.len().saturating_sub(KNOWN_MAX - 1));
            self.advance(seq, id);
            return Step::Next;
        }
        if self.knows(seq, id) { Step::Known } else { Step::Unsure }
    }

    fn knows(&self, seq: u64, id: &str) -> bool {
        let Some(back) = self.last.checked_sub(seq) else { return false };
        // Older than what the read has found: its telling has covered them, and an epoch that goes
        // on over one link gives no number twice.
        if seq <= self.begun && back >= self.known.len() as u64 {
            return true;
        }
        let known = self.known.iter().rev().nth(usize::try_from(back).unwrap_or(usize::MAX));
        known == Some(&hash(id))
    }

    fn advance(&mut self, seq: u64, id: &str) {
        self.last = seq;
        while self.given.front().is_some_and(|it| it.1 <= seq) {
            self.given.pop_front();
        }
        self.top = self.top.max(seq);
        self.id = Some(id.into());
        self.known.push_back(hash(id));
    }

    /// A read from [`Course::from`] on has answered.
    pub(super) fn mend(&mut self, found: Found) -> Mended {
        let epoch = found.top.epoch;
        let mended = self.try_mend(found);
        // Others may have noticed nothing of a number given twice: a new epoch tells them.
        let is_forked = mended == (Mended::Broken { forked: true }) && epoch == self.epoch;
        let is_broken = matches!(mended, Mended::Broken { .. });
        // Nor can it be ruled out of one that has been missed, or trimmed, in the meantime.
        let is_given = self.given.iter().any(|it| Some(it.0) == epoch);
        let is_doubtful = is_broken && self.doubtful && (epoch == self.epoch || is_given);
        if is_forked || is_doubtful {
            self.forked = epoch;
        }
        mended
    }

    fn try_mend(&mut self, found: Found) -> Mended {
        let Found { top, entries } = found;
        if self.epoch.is_none() && self.last == 0 && !self.doubtful {
            if top.epoch.is_none() {
                return Mended::Whole { messages: Vec::new(), more: false };
            }
        } else if self.epoch.is_none() || top.epoch != self.epoch {
            return Mended::Broken { forked: true };
        }
        if top.seq < self.last {
            return Mended::Broken { forked: true };
        }
        let mut entries = entries.into_iter().peekable();
        if let Some(own) = entries.next_if(|it| it.seq == self.last) {
            if Some(&own.id) != self.id.as_ref() {
                return Mended::Broken { forked: true };
            }
        } else if top.seq == self.last {
            // Its entry is gone, but nothing has come after it.
            if top.id != self.id {
                return Mended::Broken { forked: true };
            }
        } else if self.last > 0 && self.id.is_some() {
            return Mended::Broken { forked: false };
        }
        self.follow(&top, entries)
    }

    /// Takes what follows without a gap.
    fn follow(&mut self, top: &Top, entries: impl Iterator<Item = Entry>) -> Mended {
        let mut next = Self { epoch: top.epoch, ..self.clone() };
        let mut messages = Vec::new();
        for Entry { seq, id, message } in entries {
            let Some(message) = message.filter(|_| seq == next.last + 1) else {
                return Mended::Broken { forked: false };
            };
            if next.is_given(top.epoch.unwrap_or_default(), seq, &id) {
                return Mended::Broken { forked: true };
            }
            next.advance(seq, &id);
            messages.push(message);
        }
        let more = next.last < top.seq;
        if next.last > top.seq || (more && messages.is_empty()) {
            return Mended::Broken { forked: false };
        }
        if !more && next.id != top.id {
            return Mended::Broken { forked: true };
        }
        *self = next;
        self.doubtful &= more;
        Mended::Whole { messages, more }
    }

    /// Begins anew with the newest messages of a room of which Redis should know `floor` numbers:
    /// those that stand at its end without a gap, as many as were found.
    pub(super) fn restart(&mut self, found: Found, floor: u64) -> Vec<Arc<Message>> {
        let Found { top, entries } = found;
        let before = std::mem::take(self);
        let mut given = before.given;
        self.left = if before.epoch == top.epoch { before.left } else { before.epoch };
        given.retain(|it| Some(it.0) == top.epoch && it.1 > top.seq);
        if top.epoch.is_none() || top.seq < floor {
            (self.last, self.top) = (floor, floor);
            return Vec::new();
        }
        let mut wanted = top.seq;
        let mut messages = Vec::new();
        for Entry { seq, id, message } in entries.into_iter().rev() {
            let is_top = seq < top.seq || Some(&id) == top.id.as_ref();
            let Some(message) = message.filter(|_| seq == wanted && is_top) else { break };
            self.known.push_front(hash(&id));
            messages.push(message);
            wanted = seq.saturating_sub(1);
        }
        messages.reverse();
        let given_max = given.iter().map(|it| it.1).max();
        (self.epoch, self.last, self.begun) = (top.epoch, top.seq, top.seq);
        (self.top, self.given) = (given_max.unwrap_or(top.seq), given);
        self.id = top.id;
        if let (true, Some(id)) = (self.known.is_empty(), &self.id) {
            self.known.push_back(hash(id));
        }
        messages
    }
}

#[cfg(test)]
#[path = "tests/course.rs"]
mod tests;
