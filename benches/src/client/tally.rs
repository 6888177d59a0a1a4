//! What arrived: counts, order and latency of deliveries.
//!
//! Each message is known by room and number, so that missing and doubled deliveries are counted
//! exactly on any server; order is judged by the server's own `seq` where it sends one.

use std::io;

use hdrhistogram::Histogram;
use memchr::memmem::Finder;

use super::body::Stamp;
use super::report;
use super::swarm::Sink;

/// What one receiver has seen of its room.
#[derive(Debug, Clone, Copy, Default)]
struct Receiver {
    seq: u64,
    newest: u32,
    /// Bit i: message `newest - i` was seen.
    seen: u64,
}

impl Receiver {
    /// Notes a message; false if it was seen before (as far back as 64 messages).
    #[inline]
    fn note(&mut self, number: u32) -> bool {
        let ahead = i64::from(number) - i64::from(self.newest);
        match ahead {
            1..64 => self.seen = self.seen << ahead | 1,
            64.. => self.seen = 1,
            -63..=0 => {
                let bit = 1u64 << -ahead;
                let fresh = self.seen & bit == 0;
                self.seen |= bit;
                return fresh;
            }
            _ => return true,
        }
        self.newest = number;
        true
    }
}

/// Counters of one measurement.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Messages sent.
    pub sent: u64,
    /// Deliveries these should come to.
    pub expected: u64,
    /// Deliveries that came.
    pub delivered: u64,
    /// Deliveries that came within the measured period.
    pub in_period: u64,
    /// Deliveries a receiver had seen before.
    pub duplicates: u64,
    /// Deliveries whose `seq` was not above the receiver's last.
    pub reordered: u64,
    /// Deliveries whose `seq` left some out.
    pub gaps: u64,
    /// Events that are none of our messages, or of another room.
    pub foreign: u64,
    /// Acknowledgements.
    pub acks: u64,
    /// Acknowledgements that say `"ok":false`.
    pub errors: u64,
}

/// Takes the deliveries of a fan-out.
pub struct Tally {
    /// Counters since [`Tally::begin`].
    pub counts: Counts,
    /// Due time to arrival, µs, of messages due in the measured period.
    pub latency: Histogram<u64>,
    /// Rooms in which a message has just reached everybody, once per message.
    pub finished: Vec<usize>,
    /// Whether the server numbers messages.
    pub has_seq: bool,
    period: (u64, u64),
    /// By room and number: deliveries still to come.
    remaining: Vec<Vec<u32>>,
    members: Vec<u32>,
    room_of: Vec<usize>,
    receivers: Vec<Receiver>,
    seq: Finder<'static>,
    refusal: Finder<'static>,
}

impl Tally {
    /// A tally for connections whose rooms are `room_of`.
    ///
    /// # Errors
    /// Never, in practice.
    pub fn new(room_of: Vec<usize>, rooms: usize) -> io::Result<Self> {
        let mut members = vec![0; rooms];
        for &room in &room_of {
            members[room] += 1;
        }
        Ok(Self {
            counts: Counts::default(),
            latency: report::histogram()?,
            finished: Vec::new(),
            has_seq: false,
            period: (0, 0),
            remaining: vec![Vec::new(); rooms],
            members,
            receivers: vec![Receiver::default(); room_of.len()],
            room_of,
            seq: Finder::new(br#""seq":"#),
            refusal: Finder::new(br#""ok":false"#),
        })
    }

    /// Starts counting afresh; latency is of messages due within `[from, to)`.
    pub fn begin(&mut self, from: u64, to: u64) {
        self.counts = Counts::default();
        self.latency.clear();
        self.period = (from, to);
    }

    /// Registers a message about to be sent to `room` and gives its number.
    pub fn register(&mut self, room: usize) -> u32 {
        self.counts.sent += 1;
        self.counts.expected += u64::from(self.members[room]);
        self.remaining[room].push(self.members[room]);
        (self.remaining[room].len() - 1) as u32
    }

    /// Deliveries still to come.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        let first_time = self.counts.delivered - self.counts.duplicates;
        self.counts.expected.saturating_sub(first_time)
    }

    #[inline]
    fn check_seq(&mut self, conn: usize, head: &[u8]) {
        let Some(at) = self.seq.find(head) else { return };
        let digits = head[at + 6..].iter().take_while(|byte| byte.is_ascii_digit());
        let seq = digits.fold(0, |value, &digit| value * 10 + u64::from(digit - b'0'));
        let last = std::mem::replace(&mut self.receivers[conn].seq, seq);
        self.has_seq = true;
        if last != 0 {
            self.counts.reordered += u64::from(seq <= last);
            self.counts.gaps += u64::from(seq > last + 1);
        }
    }
}

impl Sink for Tally {
    #[inline]
    fn on_event(&mut self, conn: usize, payload: &[u8], now: u64) {
        let stamp = Stamp::find(payload);
        let Some((at, stamp)) = stamp.filter(|(_, s)| usize::from(s.room) == self.room_of[conn])
        else {
            self.counts.foreign += 1;
            return;
        };
        self.check_seq(conn, &payload[..at]);
        self.counts.delivered += 1;
        let (from, to) = self.period;
        self.counts.in_period += u64::from((from..to).contains(&now));
        if (from..to).contains(&stamp.due) {
            self.latency.saturating_record(now.saturating_sub(stamp.due) / 1000);
        }
        if !self.receivers[conn].note(stamp.number) {
            self.counts.duplicates += 1;
            return;
        }
        let room = usize::from(stamp.room);
        if let Some(left) = self.remaining[room].get_mut(stamp.number as usize) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.finished.push(room);
            }
        }
    }

    fn on_ack(&mut self, payload: &[u8]) {
        self.counts.acks += 1;
        self.counts.errors += u64::from(self.refusal.find(payload).is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_notices_doubles_in_any_order() {
        let mut receiver = Receiver::default();
        let fresh = [0, 2, 1, 2, 0, 70, 69, 70, 3].map(|number| receiver.note(number));
        assert_eq!(fresh, [true, true, true, false, false, true, true, false, true]);
    }

    #[test]
    fn deliveries_and_order_are_counted() {
        let mut tally = Tally::new(vec![0, 0], 1).expect("bounds are fine");
        tally.begin(0, 100);
        let number = tally.register(0);
        let mut event = br#"42["message",{"room":"r0","seq":7,"body":""#.to_vec();
        Stamp { due: 5, room: 0, number }.push(&mut event, 40);
        tally.on_event(0, &event, 10);
        assert_eq!((tally.outstanding(), tally.finished.len()), (1, 0));
        tally.on_event(1, &event, 10);
        assert_eq!((tally.outstanding(), tally.finished.len()), (0, 1));
        tally.on_event(1, &event, 11);
        let counts = &tally.counts;
        assert_eq!((counts.duplicates, counts.reordered, counts.delivered), (1, 1, 3));
    }
}
