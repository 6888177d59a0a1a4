//! Publishing: what stands in the [`Outbox`] goes into Redis, in its order.
//!
//! Pipelines follow one another without waiting, a few at a time; answers are taken in order. What
//! a broken link leaves unanswered is sent again in the same order, and the script recognises what
//! had arrived. No message overtakes one of its room: each names the one before that is still
//! unanswered, and the script refuses it if that is missing. Only Redis's own well-formed answer
//! counts as success; what has waited for too long is refused and dropped.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use hashbrown::HashMap;
use redis::{Cmd, Value};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::flight::Flights;
use super::orders::Orders;
use super::outbox::{Flying, Item, Outbox};
use super::script::{Publish, Terms};
use super::wire;
use crate::fleet::clock::now_us;
use crate::fleet::link::{Link, LinkError, Refusal, together};
use crate::fleet::words::Ordered;
use crate::message::Message;

/// Messages in one pipeline for each node, and pipelines that wait for answers at a time. At full
/// speed all of them wait in Redis: with 32 a round trip's p99 is 3 to 4 ms there, with 512 it is
/// 40 to 60 ms, and no more are published in a second.
const PIPELINE_MESSAGES_MAX: usize = 32;
const PIPELINES_MAX: usize = 3;

/// What has become of a message.
enum Fate {
    Given(Ordered, bool),
    Refused,
    Again,
}

type Answers = Result<Vec<Value>, LinkError>;

impl Orders {
    /// Refuses what has waited for too long.
    pub(super) fn refuse_overdue(&self) {
        let overdue = self.outbox.borrow_mut().take_overdue(Instant::now());
        if !overdue.is_empty() {
            warn!(count = overdue.len(), "messages have waited for Redis for too long");
        }
        overdue.iter().for_each(|item| self.refuse(item));
        self.count_outbox();
    }

    pub(super) fn count_outbox(&self) {
        let outbox = self.outbox.borrow();
        self.stats().outbox_messages.store(outbox.count as u64, Relaxed);
        self.stats().outbox_bytes.store(outbox.bytes as u64, Relaxed);
    }

    /// Takes orders and publishes until the link ends.
    pub(super) async fn publish(&self, link: &Rc<Link>) -> Result<(), LinkError> {
        let mut flights: Flights<'_, Answers> = Flights::new();
        let mut orders = Vec::new();
        loop {
            while let Some(commands) = self.next_pipeline(link, flights.len()) {
                let link = Rc::clone(link);
                flights.push(Box::pin(async move { send_all(&link, commands).await }));
            }
            self.count_outbox();
            self.wake();
            let turn = poll_fn(|context| {
                // Orders first: what they ask goes into the next pipeline.
                let taken = self.orders.borrow_mut().poll_recv_many(context, &mut orders, 1024);
                if flights.len() > 0
                    && let Poll::Ready(answers) = flights.poll_next(context)
                {
                    return Poll::Ready(Some(answers));
                }
                if matches!(taken, Poll::Ready(count) if count > 0) {
                    return Poll::Ready(None);
                }
                Poll::Pending
            });
            let answers = turn.await;
            self.take_orders(&mut orders);
            if let Some(answers) = answers {
                self.on_answers(link, answers?)?;
            }
            let must_load = {
                let outbox = self.outbox.borrow();
                !outbox.returned.is_empty() && flights.len() == 0
            };
            if must_load {
                for node in 0..link.nodes_count() {
                    self.load_scripts(link, node).await?;
                }
                self.outbox.borrow_mut().rewind();
            }
        }
    }

    /// The commands of the next pipeline with the node of each, if one may be sent.
    fn next_pipeline(&self, link: &Link, under_way: usize) -> Option<Vec<(usize, Cmd)>> {
        let mut outbox = self.outbox.borrow_mut();
        if outbox.waiting.is_empty() || !outbox.returned.is_empty() || under_way >= PIPELINES_MAX {
            return None;
        }
        let messages_max = PIPELINE_MESSAGES_MAX * link.nodes_count();
        // A pipeline is worth filling while others are on their way.
        if under_way >= 2 && outbox.waiting.len() < messages_max / 4 {
            return None;
        }
        outbox.take_pipeline(messages_max);
        let Outbox { flight, flying, sent, .. } = &mut *outbox;
        let items = flight.back_mut()?;
        let number = |item: &mut Item| {
            *sent += 1;
            item.number = *sent;
            self.command(link, item, flying)
        };
        Some(items.iter_mut().map(number).collect())
    }

    fn command(
        &self,
        link: &Link,
        item: &Item,
        flying: &mut HashMap<Arc<str>, Flying>,
    ) -> (usize, Cmd) {
        let (keys, plan) = (&self.office.keys, &self.office.plan);
        let before = flying.entry(Arc::clone(&item.room)).or_default();
        let known = self.rooms.borrow().map.get(&item.room).map_or(0, |room| room.course.floor());
        let meta = keys.meta(&item.room);
        let publish = Publish {
            meta: &meta,
            stream: &keys.stream(&item.room),
            sent: &item.sent,
            // A refused one is not waited for.
            after: (before.count > 0 && before.refused_to < before.number)
                .then_some(before.last.as_str()),
            channel: &keys.events(&item.room),
            epoch: wire::random_epoch(),
            floor: item.floor.max(known).min(wire::SEQ_MAX),
            id: &item.id,
            record: &item.record,
            at_ms: item.at_ms,
            at_us: now_us(),
        };
        let terms = Terms {
            history_size: plan.history_size,
            history_ttl_ms: plan.history_ttl_ms,
            by_client: item.draft.client_id.is_some(),
            verb: self.verb(link),
        };
        let cmd = self.scripts.publish(&publish, &terms);
        before.count += 1;
        before.number = item.number;
        before.last.clone_from(&item.sent);
        (link.node_of(&meta), cmd)
    }

    /// Takes the answers to the first pipeline under way.
    fn on_answers(&self, link: &Link, answers: Vec<Value>) -> Result<(), LinkError> {
        let Some(items) = self.outbox.borrow_mut().flight.pop_front() else { return Ok(()) };
        let complete = answers.len() == items.len();
        let mut lost = (!complete).then(|| "an answer is missing".to_owned());
        let mut answers = answers.into_iter();
        let mut took = Vec::with_capacity(items.len());
        for item in items {
            let fate = match answers.next().filter(|_| lost.is_none()) {
                Some(answer) => self.fate(&item, &answer).unwrap_or_else(|why| {
                    lost = Some(why);
                    Fate::Again
                }),
                None => Fate::Again,
            };
            let fate = self.land(&item, fate);
            match fate {
                Fate::Again => self.outbox.borrow_mut().returned.push_back(item),
                Fate::Refused => {
                    self.outbox.borrow_mut().forget(&item);
                    self.refuse(&item);
                }
                Fate::Given(ordered, repeated) => {
                    self.outbox.borrow_mut().forget(&item);
                    took.push(item.since.elapsed());
                    self.stats().published.fetch_add(1, Relaxed);
                    self.stats().duplicates.fetch_add(u64::from(repeated), Relaxed);
                    self.tell(item.shard, ordered);
                }
            }
        }
        if let Ok(mut histogram) = self.stats().publish_us.lock() {
            took.iter().for_each(|time| histogram.saturating_record(time.as_micros() as u64));
        }
        lost.map_or(Ok(()), |why| Err(self.give_up(link, &why)))
    }

    /// Counts a message as answered; those behind one that was refused share its fate.
    fn land(&self, item: &Item, fate: Fate) -> Fate {
        let mut outbox = self.outbox.borrow_mut();
        let Some(flying) = outbox.flying.get_mut(&item.room) else { return fate };
        let fate = match fate {
            Fate::Again if item.number <= flying.refused_to => Fate::Refused,
            fate => fate,
        };
        if matches!(fate, Fate::Refused) {
            flying.refused_to = flying.number;
        }
        flying.count = flying.count.saturating_sub(1);
        if flying.count == 0 {
            outbox.flying.remove(&item.room);
        }
        fate
    }

    /// What an answer means for a message; `Err`: the link must go.
    fn fate(&self, item: &Item, answer: &Value) -> Result<Fate, String> {
        match Refusal::of(answer) {
            Some(Refusal::NoScript) => return Ok(Fate::Again),
            Some(Refusal::Refused(why)) => {
                debug!(room = &*item.room, why, "Redis refuses a message");
                return Ok(Fate::Refused);
            }
            None => {}
        }
        let given = self.given(item, answer);
        given.ok_or_else(|| format!("a publish was answered strangely: {answer:?}"))
    }

    fn given(&self, item: &Item, answer: &Value) -> Option<Fate> {
        let Value::Array(values) = answer else { return None };
        let (kind, values) = values.split_first()?;
        let (room, ticket) = (Arc::clone(&item.room), item.ticket);
        let message = |seq| Message {
            id: item.id.clone(),
            seq,
            at_ms: item.at_ms,
            draft: item.draft.clone(),
        };
        match (wire::number(kind)?, values) {
            (0, [epoch, seq]) => {
                let epoch = u64::from_str_radix(wire::text(epoch)?, 16).ok()?;
                let seq = wire::number(seq)?;
                self.note_given(item, epoch, seq);
                let message = Arc::new(message(seq));
                Some(Fate::Given(
                    Ordered::Published { ticket, room, message, duplicate: false },
                    false,
                ))
            }
            (1, [epoch, seq, id, at_ms, record]) => {
                let epoch = u64::from_str_radix(wire::text(epoch)?, 16).ok()?;
                let (seq, id) = (wire::number(seq)?, wire::text(id)?);
                // Of the same message when the link was lost before its answer came.
                let duplicate = *id != *item.id;
                if !duplicate {
                    self.note_given(item, epoch, seq);
                }
                let first = wire::bytes(record).and_then(|it| wire::message(id, seq, it));
                let at_ms = wire::number(at_ms)?;
                let message = Arc::new(first.unwrap_or_else(|| Message {
                    id: id.into(),
                    at_ms,
                    ..message(seq)
                }));
                Some(Fate::Given(Ordered::Published { ticket, room, message, duplicate }, true))
            }
            (2, []) => Some(Fate::Again),
            _ => None,
        }
    }

    /// The room's continuity must not pass over this number without this message.
    fn note_given(&self, item: &Item, epoch: wire::Epoch, seq: u64) {
        if let Some(room) = self.rooms.borrow_mut().map.get_mut(&item.room) {
            room.course.note_given(epoch, seq, &item.id);
        }
    }
}

/// Sends each command to its node and brings the answers into the commands' order.
async fn send_all(link: &Rc<Link>, commands: Vec<(usize, Cmd)>) -> Answers {
    let count = commands.len();
    let mut nodes: Vec<(Vec<usize>, Vec<Cmd>)> = Vec::new();
    nodes.resize_with(link.nodes_count(), Default::default);
    for (place, (node, command)) in commands.into_iter().enumerate() {
        let Some((places, commands)) = nodes.get_mut(node) else { continue };
        places.push(place);
        commands.push(command);
    }
    let sends = nodes.into_iter().enumerate().filter(|(_, (places, _))| !places.is_empty());
    let sends = sends.map(|(node, (places, commands))| async move {
        Ok::<_, LinkError>((places, link.send(node, &commands).await?))
    });
    let mut ordered = vec![Value::Nil; count];
    for answered in together(sends).await {
        let (places, answers) = answered?;
        for (place, answer) in places.into_iter().zip(answers) {
            ordered[place] = answer;
        }
    }
    Ok(ordered)
}
