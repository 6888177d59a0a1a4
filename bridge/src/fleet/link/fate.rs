//! What all connections of a link share: how it ends, and the queue of what has arrived unasked.
//!
//! Invariants: a link ends once, with one [`Push::Lost`], which is the last of its queue; with it
//! all its connections are closed, so that no command of a lost link is sent after the next link's.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::node::Node;
use super::{LinkError, Push};

/// Messages that may wait to be taken out of [`Pushes`]: some seconds' worth of a busy Redis.
const UNREAD_MESSAGES_MAX: usize = if cfg!(test) { 50_000 } else { 1_000_000 };

/// And their bytes: twice what Redis itself would keep for a slow subscriber.
const UNREAD_BYTES_MAX: usize = 512 << 20;

/// What has arrived and is not taken out yet.
#[derive(Default)]
struct Unread {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

/// What arrives unasked, in the order of its arrival at each node.
pub(crate) struct Pushes {
    queue: UnboundedReceiver<Push>,
    unread: Arc<Unread>,
}

impl Pushes {
    /// The next one; `None` after [`Push::Lost`], which a dropped link tells too.
    pub(crate) async fn recv(&mut self) -> Option<Push> {
        let push = self.queue.recv().await?;
        Some(self.taken(push))
    }

    /// The next one if it is there already.
    pub(crate) fn try_recv(&mut self) -> Result<Push, TryRecvError> {
        let push = self.queue.try_recv()?;
        Ok(self.taken(push))
    }

    /// How many wait.
    #[allow(dead_code)] // tests of links ask, which stand outside this crate
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    fn taken(&self, push: Push) -> Push {
        if let Push::Message { channel, payload } = &push {
            self.unread.messages.fetch_sub(1, Relaxed);
            self.unread.bytes.fetch_sub(channel.len() + payload.len(), Relaxed);
        }
        push
    }
}

/// See the module.
pub(super) struct Fate {
    sender: Mutex<Option<UnboundedSender<Push>>>,
    unread: Arc<Unread>,
    lost: watch::Sender<Option<LinkError>>,
    nodes: Mutex<Vec<Node>>,
    leaving: Mutex<HashSet<Vec<u8>>>,
}

impl Fate {
    pub(super) fn new() -> (Arc<Self>, Pushes) {
        let (sender, queue) = unbounded_channel();
        let unread = Arc::new(Unread::default());
        let fate = Self {
            sender: Mutex::new(Some(sender)),
            unread: Arc::clone(&unread),
            lost: watch::Sender::new(None),
            nodes: Mutex::default(),
            leaving: Mutex::default(),
        };
        (Arc::new(fate), Pushes { queue, unread })
    }

    /// Takes over the connections; closes them at once if the link has ended meanwhile.
    pub(super) fn hold(&self, nodes: Vec<Node>) -> Result<(), LinkError> {
        *lock(&self.nodes) = nodes;
        let lost = self.lost.borrow().clone();
        let Some(why) = lost else { return Ok(()) };
        self.drop_nodes();
        Err(why)
    }

    /// A node's connections.
    pub(super) fn node(&self, index: usize) -> Result<Node, LinkError> {
        if let Some(why) = &*self.lost.borrow() {
            return Err(why.clone());
        }
        let node = lock(&self.nodes).get(index).cloned();
        node.ok_or_else(|| LinkError(format!("there is no node {index}")))
    }

    /// Why the link has ended; waits for it.
    pub(super) async fn lost(&self) -> LinkError {
        let mut lost = self.lost.subscribe();
        let why = lost.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| LinkError("the link is gone".to_owned()))
    }

    /// Ends the link; only the first time counts.
    pub(super) fn end(&self, why: &str) -> LinkError {
        let error = LinkError(why.to_owned());
        let mut is_first = false;
        self.lost.send_if_modified(|lost| {
            is_first = lost.is_none();
            lost.get_or_insert_with(|| error.clone());
            is_first
        });
        if is_first {
            if let Some(sender) = lock(&self.sender).take() {
                let _ = sender.send(Push::Lost(error.clone()));
            }
            self.drop_nodes();
        }
        self.lost.borrow().clone().unwrap_or(error)
    }

    /// Queues a message. A reader that falls behind by too much loses the link, not a message.
    pub(super) fn deliver(&self, channel: Vec<u8>, payload: Vec<u8>) {
        let bytes = channel.len() + payload.len();
        // Counted first: the reader may take it out at once.
        let messages = self.unread.messages.fetch_add(1, Relaxed);
        let bytes = self.unread.bytes.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if let Some(sender) = &*lock(&self.sender)
            && sender.send(Push::Message { channel, payload }).is_ok()
            && messages < UNREAD_MESSAGES_MAX
            && bytes <= UNREAD_BYTES_MAX
        {
            return;
        }
        self.end("what is received is not read fast enough");
    }

    /// Notes which sharded subscriptions this side is about to end.
    pub(super) fn leave(&self, channels: &[&String]) {
        lock(&self.leaving).extend(channels.iter().map(|it| it.as_bytes().to_vec()));
    }

    /// A sharded subscription has ended; whether this side wanted it.
    pub(super) fn has_left(&self, channel: &[u8]) -> bool {
        lock(&self.leaving).remove(channel)
    }

    fn drop_nodes(&self) {
        // Outside of the lock: dropping connections wakes their tasks.
        let nodes = std::mem::take(&mut *lock(&self.nodes));
        drop(nodes);
    }
}

/// A panic elsewhere leaves nothing half-done in what is locked here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
