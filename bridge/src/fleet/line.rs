//! Between a shard and the fleet's thread: unbounded queues. What a shard asks, and is answered,
//! its port bounds; what it is told unasked, [`ShardEnd::is_full`].

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc::UnboundedSender;

use super::stats::FleetStats;
use super::words::{Joined, News, Order, Ordered, Word};
use crate::message::Message;

/// What a shard receives.
#[derive(Debug)]
pub(crate) enum FromFleet {
    Ordered(Ordered),
    News(News),
}

/// Bytes that may wait for a shard before its rooms are no longer delivered to but repaired later.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// What anything takes that waits, beside its content.
const WEIGHT_MIN: usize = 256;

impl FromFleet {
    /// What it takes while it waits, about.
    fn weight(&self) -> usize {
        let of = |message: &Message| WEIGHT_MIN + message.held_bytes();
        let of_all = |messages: &[Arc<Message>]| messages.iter().map(|it| of(it)).sum::<usize>();
        let of_members = |members: &[(Box<str>, Box<str>)]| -> usize {
            members.iter().map(|(id, member)| id.len() + member.len()).sum()
        };
        let content = match self {
            Self::Ordered(Ordered::Delivered { message, .. }) => of(message),
            Self::Ordered(Ordered::Opened { found: Some(Joined { messages, .. }), .. })
            | Self::Ordered(Ordered::Broken { messages, .. }) => of_all(messages),
            Self::News(News::Entered { member, .. }) => member.len(),
            Self::News(News::Said { words, .. } | News::Told { words, .. }) => words.len(),
            Self::News(News::Roster { members, .. }) => of_members(members),
            Self::News(News::Reaped { gone, .. }) => of_members(&gone.members),
            _ => 0,
        };
        WEIGHT_MIN + content
    }
}

/// How a shard is told that something waits for it; unset until its ring is there.
type Waker = Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>;

/// Where shards' words go: each kind has a task of its own, which keeps their order.
#[derive(Clone)]
pub(super) struct Senders {
    pub(super) orders: UnboundedSender<(u16, Order)>,
    pub(super) words: UnboundedSender<(u16, Word)>,
    /// [`Word::Cast`], [`Word::Answer`] and [`Word::Socket`] alone.
    pub(super) casts: UnboundedSender<(u16, Word)>,
}

/// A shard's end.
pub struct FleetLine {
    shard: u16,
    senders: Senders,
    receiver: Receiver<FromFleet>,
    waiting_bytes: Arc<AtomicUsize>,
    waker: Waker,
    stats: Arc<FleetStats>,
}

impl FleetLine {
    /// Names what wakes the shard; once.
    pub fn wake_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.waker.set(Box::new(wake));
    }

    /// What the fleet counts.
    pub fn stats(&self) -> &Arc<FleetStats> {
        &self.stats
    }

    pub(crate) fn order(&self, order: Order) {
        let _ = self.senders.orders.send((self.shard, order));
    }

    pub(crate) fn tell(&self, word: Word) {
        let Senders { words, casts, .. } = &self.senders;
        let is_of_casts =
            matches!(word, Word::Cast { .. } | Word::Answer { .. } | Word::Socket { .. });
        let _ = if is_of_casts { casts } else { words }.send((self.shard, word));
    }

    pub(crate) fn poll(&self) -> Option<FromFleet> {
        let it = self.receiver.try_recv().ok()?;
        self.waiting_bytes.fetch_sub(it.weight(), Relaxed);
        Some(it)
    }

    /// What waits to be polled, about.
    #[cfg(test)]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Relaxed)
    }
}

/// The fleet's end of one line.
pub(super) struct ShardEnd {
    sender: Sender<FromFleet>,
    waiting_bytes: Arc<AtomicUsize>,
    waker: Waker,
    /// Something was queued since the shard was woken.
    is_asleep: Cell<bool>,
}

impl ShardEnd {
    /// Queues something; [`ShardEnd::wake`] follows, once for many.
    pub(super) fn queue(&self, it: FromFleet) {
        let weight = it.weight();
        // Counted first: the shard may take it at once.
        self.waiting_bytes.fetch_add(weight, Relaxed);
        if self.sender.send(it).is_err() {
            self.waiting_bytes.fetch_sub(weight, Relaxed);
        }
        self.is_asleep.set(true);
    }

    /// Wakes the shard if something was queued.
    pub(super) fn wake(&self) {
        if self.is_asleep.take()
            && let Some(wake) = self.waker.get()
        {
            wake();
        }
    }

    pub(super) fn tell(&self, it: FromFleet) {
        self.queue(it);
        self.wake();
    }

    /// Whether the shard is too far behind to be told more of what it has not asked for.
    pub(super) fn is_full(&self) -> bool {
        self.waiting_bytes.load(Relaxed) > WAITING_BYTES_MAX
    }

    /// Whether a shard that was too far behind is so no longer.
    pub(super) fn has_room(&self) -> bool {
        self.waiting_bytes.load(Relaxed) <= WAITING_BYTES_MAX / 2
    }
}

/// A line and its two ends.
pub(super) fn line(shard: u16, senders: Senders, stats: &Arc<FleetStats>) -> (FleetLine, ShardEnd) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (waker, waiting_bytes) = (Waker::default(), Arc::<AtomicUsize>::default());
    let end = ShardEnd {
        sender,
        waiting_bytes: Arc::clone(&waiting_bytes),
        waker: Arc::clone(&waker),
        is_asleep: Cell::default(),
    };
    let stats = Arc::clone(stats);
    (FleetLine { shard, senders, receiver, waiting_bytes, waker, stats }, end)
}
