//! What connections owe their peers: one arena of queue entries per shard.
//!
//! A connection's queue is a list threaded through the arena, so queueing a shared frame for a
//! recipient allocates nothing in steady state and an idle connection holds no memory for it.

use throng_ring::Frame;

/// What may happen to a frame when its connection falls behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Protocol frames of the engine's own accord (pings, close): outside the quota.
    Control,
    /// Answers to the peer (acks, pongs): inside the quota, never dropped, so that a peer that asks
    /// and does not read is closed under either policy.
    Reply,
    /// Events of others: inside the quota; `drop-oldest` drops these.
    Event,
}

const NONE: u32 = u32::MAX;

struct Entry {
    frame: Option<Frame>,
    next: u32,
    class: Class,
}

/// One connection's place in the arena: 16 bytes.
#[derive(Debug)]
pub struct Queue {
    head: u32,
    tail: u32,
    frames: u32,
    bytes: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, frames: 0, bytes: 0 }
    }
}

impl Queue {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Frames that wait.
    pub fn frames(&self) -> usize {
        self.frames as usize
    }
}

/// Entries kept when the arena runs empty.
const KEPT_ENTRIES: usize = 4096;

/// The queue entries of one shard.
#[derive(Default)]
pub struct Arena {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl Arena {
    /// Queues a frame.
    pub fn push(&mut self, queue: &mut Queue, frame: Frame, class: Class) {
        queue.bytes += frame.len() as u32;
        queue.frames += 1;
        let entry = Entry { frame: Some(frame), next: NONE, class };
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        match queue.tail {
            NONE => queue.head = index,
            tail => self.entries[tail as usize].next = index,
        }
        queue.tail = index;
    }

    /// Takes the oldest frame.
    pub fn pop(&mut self, queue: &mut Queue) -> Option<(Frame, Class)> {
        self.remove_after(queue, NONE)
    }

    /// The oldest frame.
    pub fn first(&self, queue: &Queue) -> Option<&Frame> {
        self.entries.get(queue.head as usize)?.frame.as_ref()
    }

    /// Puts all of `tail` behind what is in `queue`.
    pub fn append(&mut self, queue: &mut Queue, tail: Queue) {
        if tail.is_empty() {
            return;
        }
        match queue.tail {
            NONE => queue.head = tail.head,
            last => self.entries[last as usize].next = tail.head,
        }
        queue.tail = tail.tail;
        queue.frames += tail.frames;
        queue.bytes += tail.bytes;
    }

    /// Drops the oldest frame that may be dropped; its size, or `None` if there is none.
    pub fn drop_oldest_event(&mut self, queue: &mut Queue) -> Option<usize> {
        let mut previous = NONE;
        let mut index = queue.head;
        while index != NONE {
            let entry = &self.entries[index as usize];
            if entry.class == Class::Event {
                return self.remove_after(queue, previous).map(|(frame, _)| frame.len());
            }
            previous = index;
            index = entry.next;
        }
        None
    }

    /// Drops everything; returns how many events were among it.
    pub fn clear(&mut self, queue: &mut Queue) -> usize {
        let mut events = 0;
        while let Some((_, class)) = self.pop(queue) {
            events += usize::from(class == Class::Event);
        }
        events
    }

    /// Entries in use, over all queues.
    pub fn used(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    fn remove_after(&mut self, queue: &mut Queue, previous: u32) -> Option<(Frame, Class)> {
        let index = match previous {
            NONE => queue.head,
            previous => self.entries[previous as usize].next,
        };
        let entry = self.entries.get_mut(index as usize)?;
        let (frame, class, next) = (entry.frame.take()?, entry.class, entry.next);
        match previous {
            NONE => queue.head = next,
            previous => self.entries[previous as usize].next = next,
        }
        if queue.tail == index {
            queue.tail = previous;
        }
        queue.frames -= 1;
        queue.bytes -= frame.len() as u32;
        self.free.push(index);
        if self.free.len() == self.entries.len() && self.entries.len() > KEPT_ENTRIES {
            *self = Self::default();
        }
        Some((frame, class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8) -> Frame {
        Frame::from(vec![byte; usize::from(byte)])
    }

    fn drain(arena: &mut Arena, queue: &mut Queue) -> Vec<u8> {
        std::iter::from_fn(|| arena.pop(queue)).map(|(frame, _)| frame[0]).collect()
    }

    #[test]
    fn queues_share_the_arena_and_keep_their_order() {
        let mut arena = Arena::default();
        let (mut one, mut two) = (Queue::default(), Queue::default());
        for byte in 1..=4 {
            arena.push(&mut one, frame(byte), Class::Event);
            arena.push(&mut two, frame(byte + 10), Class::Event);
        }
        assert_eq!((one.bytes(), one.frames()), (10, 4));
        assert_eq!(drain(&mut arena, &mut one), [1, 2, 3, 4]);
        assert_eq!(drain(&mut arena, &mut two), [11, 12, 13, 14]);
        assert!(one.is_empty() && one.bytes() == 0 && arena.used() == 0);
    }

    #[test]
    fn one_queue_goes_behind_another() {
        let mut arena = Arena::default();
        let (mut one, mut two) = (Queue::default(), Queue::default());
        arena.push(&mut two, frame(3), Class::Reply);
        arena.append(&mut one, std::mem::take(&mut two));
        arena.push(&mut two, frame(4), Class::Reply);
        assert_eq!(arena.first(&one).map(|frame| frame[0]), Some(3));
        arena.append(&mut one, two);
        arena.append(&mut one, Queue::default());
        arena.push(&mut one, frame(5), Class::Reply);
        assert_eq!((one.frames(), one.bytes()), (3, 12));
        assert_eq!(drain(&mut arena, &mut one), [3, 4, 5]);
    }

    #[test]
    fn only_events_are_dropped_wherever_they_stand() {
        let mut arena = Arena::default();
        let mut queue = Queue::default();
        arena.push(&mut queue, frame(1), Class::Control);
        arena.push(&mut queue, frame(2), Class::Event);
        arena.push(&mut queue, frame(3), Class::Control);
        arena.push(&mut queue, frame(4), Class::Event);
        assert_eq!(arena.drop_oldest_event(&mut queue), Some(2));
        assert_eq!(arena.drop_oldest_event(&mut queue), Some(4));
        assert_eq!(arena.drop_oldest_event(&mut queue), None);
        arena.push(&mut queue, frame(5), Class::Event);
        assert_eq!(drain(&mut arena, &mut queue), [1, 3, 5]);
    }

    #[test]
    fn clearing_counts_events_and_frees_a_large_arena() {
        let mut arena = Arena::default();
        let mut queue = Queue::default();
        for _ in 0..2 * KEPT_ENTRIES {
            arena.push(&mut queue, frame(1), Class::Event);
        }
        arena.push(&mut queue, frame(1), Class::Control);
        assert_eq!(arena.clear(&mut queue), 2 * KEPT_ENTRIES);
        assert_eq!(arena.entries.capacity(), 0);
    }
}
