//! The mesh: every shard reaches every other through a bounded queue of its own.
//!
//! What a shard has for another within a turn travels as one batch, with one wake-up, and only if
//! the receiver sleeps. A mark at the receiver's door says whose queue to look at, so that a turn
//! costs what has come, however many shards there are. A full queue holds the batch back on the
//! sender's side, where the backlog is counted; nobody ever blocks. The mesh knows nothing of what
//! it carries.
//!
//! Not glommio's own: with 48 and more shards its mesh busy-waits through start-up.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use rtrb::{Consumer, Producer, RingBuffer};
use throng_ring::Waker;

use crate::limits::MESH_BATCHES_MAX;

/// How a shard learns that something has come; shared by all threads. On a cache line of its own,
/// since its shard writes it twice a turn.
#[repr(align(64))]
pub struct Door {
    asleep: AtomicBool,
    waker: OnceLock<Waker>,
    /// A bit per shard that has sent a batch since they were last taken.
    marks: Box<[AtomicU64]>,
}

impl Door {
    fn new(shards: u16) -> Self {
        let words = usize::from(shards).div_ceil(64);
        Self {
            asleep: AtomicBool::default(),
            waker: OnceLock::new(),
            marks: (0..words).map(|_| AtomicU64::default()).collect(),
        }
    }

    /// Names the ring to wake; once, by the shard itself.
    pub fn install(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    /// Wakes the shard if it sleeps. Call after what it must see has been queued.
    pub fn knock(&self) {
        // Pairs with the fence in `lie_down`: either the sleeper sees what was queued, or we see
        // that it sleeps.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Some(waker) = self.waker.get()
        {
            waker.wake();
        }
    }

    /// Wakes the shard `own`, whose door this is, for something that did not come by the mesh.
    pub fn call(&self, own: u16) {
        // Its own mark: nothing is in the mesh under it, but nobody lies down on a mark.
        self.mark(own);
        self.knock();
    }

    /// Says that `shard` has queued a batch; [`Door::knock`] follows.
    fn mark(&self, shard: u16) {
        self.marks[usize::from(shard / 64)].fetch_or(1 << (shard % 64), Ordering::Release);
    }

    /// Takes the marks of the shards that have queued batches.
    fn take_marks(&self, into: &mut Vec<u16>) {
        for (word, marks) in (0..).zip(&self.marks) {
            if marks.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = marks.swap(0, Ordering::Acquire);
            while bits != 0 {
                into.push(word * 64 + bits.trailing_zeros() as u16);
                bits &= bits - 1;
            }
        }
    }

    fn is_marked(&self) -> bool {
        self.marks.iter().any(|marks| marks.load(Ordering::Relaxed) != 0)
    }

    fn lie_down(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

struct Peer<T> {
    outgoing: Producer<Vec<T>>,
    incoming: Consumer<Vec<T>>,
    /// What goes out with the next batch, or is held back.
    pending: Vec<T>,
}

/// One shard's end of the mesh.
pub struct Mesh<T> {
    index: u16,
    /// By shard; its own place is empty.
    peers: Vec<Option<Peer<T>>>,
    doors: Arc<[Door]>,
    /// Peers that something is pending for.
    outgoing: Vec<u16>,
    /// Peers whose queues are to be looked at.
    incoming: Vec<u16>,
    held_back: u64,
}

impl<T: Send> Mesh<T> {
    /// The ends of a mesh between `shards` shards, and the doors to wake them by.
    pub fn new(shards: u16) -> (Vec<Self>, Arc<[Door]>) {
        let doors: Arc<[Door]> = (0..shards).map(|_| Door::new(shards)).collect();
        let mut meshes: Vec<Self> = (0..shards)
            .map(|index| Self {
                index,
                peers: (0..shards).map(|_| None).collect(),
                doors: Arc::clone(&doors),
                outgoing: Vec::new(),
                incoming: Vec::new(),
                held_back: 0,
            })
            .collect();
        for low in 0..usize::from(shards) {
            for high in low + 1..usize::from(shards) {
                let (up, from_low) = RingBuffer::new(MESH_BATCHES_MAX);
                let (down, from_high) = RingBuffer::new(MESH_BATCHES_MAX);
                let peer = |outgoing, incoming| Some(Peer { outgoing, incoming, pending: vec![] });
                meshes[low].peers[high] = peer(up, from_high);
                meshes[high].peers[low] = peer(down, from_low);
            }
        }
        (meshes, doors)
    }

    /// This shard's number.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.peers.len() as u16
    }

    /// This shard's own door.
    pub fn door(&self) -> &Door {
        &self.doors[usize::from(self.index)]
    }

    /// Puts `item` into the batch for another shard. Items for this shard itself or for one that
    /// does not exist are given back.
    ///
    /// # Errors
    /// The item, when there is no such peer.
    pub fn send(&mut self, to: u16, item: T) -> Result<(), T> {
        match self.peers.get_mut(usize::from(to)) {
            Some(Some(peer)) => {
                if peer.pending.is_empty() {
                    self.outgoing.push(to);
                }
                peer.pending.push(item);
                Ok(())
            }
            _ => Err(item),
        }
    }

    /// Items that wait on this side for `to`.
    pub fn backlog(&self, to: u16) -> usize {
        self.peers
            .get(usize::from(to))
            .and_then(Option::as_ref)
            .map_or(0, |peer| peer.pending.len())
    }

    /// Hands the batches over and wakes their receivers. True if something was held back.
    pub fn flush(&mut self) -> bool {
        let Self { index, peers, doors, outgoing, held_back, .. } = self;
        outgoing.retain(|&to| {
            let (Some(peer), door) = (&mut peers[usize::from(to)], &doors[usize::from(to)]) else {
                return false;
            };
            let full = match peer.outgoing.push(mem::take(&mut peer.pending)) {
                Ok(()) => false,
                Err(rtrb::PushError::Full(batch)) => {
                    peer.pending = batch;
                    *held_back += 1;
                    true
                }
            };
            door.mark(*index);
            door.knock();
            full
        });
        self.is_holding_back()
    }

    /// Whether a batch waits on this side: it is to be handed over soon, though nothing happens.
    pub fn is_holding_back(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// How often a batch found its queue full.
    pub fn held_back_count(&self) -> u64 {
        self.held_back
    }

    /// The next batch from any shard.
    pub fn receive(&mut self) -> Option<Vec<T>> {
        loop {
            while let Some(&from) = self.incoming.last() {
                let peer = self.peers.get_mut(usize::from(from)).and_then(Option::as_mut);
                if let Some(batch) = peer.and_then(|peer| peer.incoming.pop().ok()) {
                    return Some(batch);
                }
                self.incoming.pop();
            }
            self.doors[usize::from(self.index)].take_marks(&mut self.incoming);
            if self.incoming.is_empty() {
                return None;
            }
        }
    }

    /// Says that the shard is about to sleep; false if it must not since something has arrived.
    pub fn lie_down(&self) -> bool {
        let door = self.door();
        door.lie_down();
        let quiet = self.incoming.is_empty() && !door.is_marked();
        if !quiet {
            self.get_up();
        }
        quiet
    }

    /// Says that the shard is awake.
    pub fn get_up(&self) {
        self.door().get_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_arrive_in_order_and_a_full_queue_holds_back() {
        let (mut meshes, _) = Mesh::new(2);
        let mut two = meshes.pop().expect("two ends");
        let mut one = meshes.pop().expect("two ends");
        let total = MESH_BATCHES_MAX + 10;
        for number in 0..total {
            one.send(1, number).expect("a peer");
            one.flush();
        }
        assert_eq!((one.backlog(1), one.held_back_count()), (10, 10));
        let mut got = Vec::new();
        while let Some(batch) = two.receive() {
            got.extend(batch);
            one.flush();
        }
        assert_eq!(got, (0..total).collect::<Vec<_>>());
        assert_eq!(one.backlog(1), 0);
    }

    #[test]
    fn there_is_no_peer_beyond_the_mesh_and_none_that_is_oneself() {
        let (mut meshes, _) = Mesh::new(2);
        assert_eq!(meshes[0].send(0, 'x'), Err('x'));
        assert_eq!(meshes[0].send(9, 'x'), Err('x'));
    }

    #[test]
    fn nobody_lies_down_on_waiting_batches() {
        let (mut meshes, _) = Mesh::new(2);
        assert!(meshes[1].lie_down());
        meshes[0].send(1, 'x').expect("a peer");
        meshes[0].flush();
        assert!(!meshes[1].lie_down());
    }

    #[test]
    fn threads_exchange_everything_without_blocking() {
        let (meshes, _) = Mesh::new(4);
        let threads: Vec<_> = meshes
            .into_iter()
            .map(|mut mesh| {
                std::thread::spawn(move || {
                    let (mut received, mut sent) = (0u64, 0);
                    while received < 3 * 20_000 || sent < 20_000 || mesh.flush() {
                        if sent < 20_000 {
                            let own = mesh.index();
                            for to in (0..4).filter(|&to| to != own) {
                                mesh.send(to, sent).expect("a peer");
                            }
                            sent += 1;
                        }
                        mesh.flush();
                        while let Some(batch) = mesh.receive() {
                            received += batch.len() as u64;
                        }
                        std::thread::yield_now();
                    }
                    received
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().expect("a shard"), 60_000);
        }
    }
}
