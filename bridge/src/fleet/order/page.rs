//! A page of a room's messages, read from Redis whether the room is open or not.

use std::sync::{Arc, OnceLock};

use redis::{Cmd, Value};

use super::script::Scripts;
use super::wire::{self, Entry};
use crate::fleet::keys::Keys;
use crate::fleet::link::{Link, LinkError, Refusal};
use crate::message::{Message, Page, Range};

/// The messages and bytes a read is answered with.
const PAGE_MESSAGES_MAX: usize = 1024;
const PAGE_BYTES_MAX: usize = 2 << 20;

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
        let next = |first: &Arc<Message>| first.seq == seq + 1;
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
