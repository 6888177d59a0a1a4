//! Reading a room from Redis, open or not: its messages, its settings.

use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::script::Scripts;
use super::wire::{self, Entry};
use super::{Link, LinkError, Ordered, Orders};
use crate::fleet::keys::Keys;
use crate::fleet::link::{Refusal, together};
use crate::message::Range;
use crate::port::{Page, Ticket};

/// Reads under way at a time, and the messages and bytes each is answered with.
const SIDE_BY_SIDE: usize = 32;
const PAGE_MESSAGES_MAX: usize = 1024;
const PAGE_BYTES_MAX: usize = 2 << 20;

/// Reads that are not answered yet.
#[derive(Default)]
pub(super) struct Reads {
    waiting: VecDeque<Wanted>,
    /// Asked over the link there is.
    under_way: Vec<Wanted>,
}

impl Reads {
    pub(super) fn push(&mut self, it: Wanted) {
        self.waiting.push_back(it);
    }

    /// Nothing is under way any more: what was, is asked again first.
    pub(super) fn rewind(&mut self) {
        let mut again: VecDeque<_> = mem::take(&mut self.under_way).into();
        again.append(&mut self.waiting);
        self.waiting = again;
    }

    /// Puts the next ones under way.
    fn take(&mut self) -> Vec<Wanted> {
        let count = self.waiting.len().min(SIDE_BY_SIDE);
        self.under_way.extend(self.waiting.drain(..count));
        self.under_way.clone()
    }
}

/// A read that waits.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) shard: u16,
    pub(super) ticket: Ticket,
    pub(super) room: Arc<str>,
    pub(super) what: What,
    pub(super) since: Instant,
}

/// What is wanted of a room.
#[derive(Clone, Copy)]
pub(super) enum What {
    Messages(Range),
    Settings,
}

impl Wanted {
    /// The answer that there is none.
    fn refusal(&self) -> Ordered {
        let ticket = self.ticket;
        match self.what {
            What::Messages(_) => Ordered::Read { ticket, page: None },
            What::Settings => Ordered::Settings { ticket, found: None },
        }
    }
}

impl Orders {
    pub(super) fn want(&self, wanted: Wanted) {
        self.reads.borrow_mut().push(wanted);
        self.reads_due.notify_one();
    }

    /// Reads what is wanted until the link ends.
    pub(super) async fn read_wanted(&self, link: &Rc<Link>) -> Result<(), LinkError> {
        loop {
            let wanted = self.reads.borrow_mut().take();
            if wanted.is_empty() {
                self.reads_due.notified().await;
                continue;
            }
            let found = together(wanted.iter().map(|it| self.read(link, it))).await;
            // What a lost link leaves unanswered is asked again over the next one.
            let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
            self.reads.borrow_mut().under_way.clear();
            for (it, found) in wanted.iter().zip(found) {
                self.tell(it.shard, found);
            }
            self.wake();
        }
    }

    async fn read(&self, link: &Link, wanted: &Wanted) -> Result<Ordered, LinkError> {
        let Wanted { ticket, room, .. } = wanted;
        let (keys, ticket) = (&self.office.keys, *ticket);
        Ok(match wanted.what {
            What::Messages(range) => {
                Ordered::Read { ticket, page: read_page(link, keys, room, range).await? }
            }
            What::Settings => {
                Ordered::Settings { ticket, found: self.read_settings(link, room).await? }
            }
        })
    }

    /// Gives up reads that have waited since before `before`.
    pub(super) fn refuse_wanted(&self, before: Instant) {
        let mut reads = self.reads.borrow_mut();
        while reads.waiting.front().is_some_and(|it| it.since <= before)
            && let Some(it) = reads.waiting.pop_front()
        {
            self.tell(it.shard, it.refusal());
        }
    }
}

/// The newest messages of a range, as many as there are without a gap; `None`: Redis refuses.
pub(in crate::fleet) async fn read_page(
    link: &Link,
    keys: &Keys,
    room: &str,
    range: Range,
) -> Result<Option<Page>, LinkError> {
    // To hash the scripts for each of many recoveries would take longer than all the rest.
    static SCRIPTS: OnceLock<Scripts> = OnceLock::new();
    let scripts = SCRIPTS.get_or_init(Scripts::new);
    let (meta, stream) = (keys.meta(room), keys.stream(room));
    let node = link.node_of(&meta);
    let first = range.after.map_or(1, |after| after.saturating_add(1));
    let last = range.before.unwrap_or(u64::MAX).saturating_sub(1);
    let count = range.limit.min(PAGE_MESSAGES_MAX);
    let cmd = || scripts.page(&meta, &stream, (first, last), count, PAGE_BYTES_MAX);
    // Long answers: where there is another connection, publishes do not stand behind them.
    let mut answers = link.send_on(1, node, &[cmd()]).await?;
    if matches!(answers.first().and_then(Refusal::of), Some(Refusal::NoScript)) {
        let mut cmds: Vec<Cmd> = scripts.loading();
        cmds.push(cmd());
        answers = link.send_on(1, node, &cmds).await?;
    }
    Ok(answers.last().and_then(|answer| page(answer, range)))
}

fn page(answer: &Value, range: Range) -> Option<Page> {
    let Value::Array(values) = answer else { return None };
    let [last_seq, oldest, entries] = &values[..] else { return None };
    let last_seq = match last_seq {
        Value::Nil => 0,
        last_seq => wire::number(last_seq).filter(|seq| *seq <= wire::SEQ_MAX)?,
    };
    let place = wire::text(oldest).and_then(|place| place.split_once('-'));
    let oldest_seq: Option<u64> = place.and_then(|(seq, _)| seq.parse().ok());
    let mut messages = Vec::new();
    for Entry { seq, message, .. } in wire::entries(entries)?.into_iter().rev() {
        let next = |first: &Arc<crate::message::Message>| first.seq == seq + 1;
        match message.filter(|_| messages.last().is_none_or(next)) {
            Some(message) => messages.push(message),
            None => break,
        }
    }
    messages.reverse();
    let last_seq = last_seq.max(messages.last().map_or(0, |message| message.seq));
    let end = range.before.unwrap_or(u64::MAX).min(last_seq.saturating_add(1));
    let complete = range.after.is_none_or(|after| {
        let expected = after.saturating_add(1)..end;
        messages.iter().map(|message| message.seq).eq(expected) && after <= last_seq
    });
    let first_seq = messages.first().map_or(end, |message| message.seq);
    let more = oldest_seq.is_some_and(|oldest| oldest < first_seq);
    Some(Page { messages, last_seq, complete, more, partial: false })
}
