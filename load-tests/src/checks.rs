//! What one connection must receive: every message of its room, once, in order.

/// What is wrong with a message that has come.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Fault {
    /// So many messages before it are missing.
    pub gap: u64,
    /// It has come before.
    pub duplicate: bool,
    /// A later one has come before it.
    pub reordered: bool,
}

/// Where a connection stands in its room. 16 bytes.
///
/// Servers that number a room's messages (`seq`) are checked by that; on others the numbers of the
/// generator tell duplicates apart. Several senders number a room's messages at once, so their
/// order says nothing. What comes late is told from what comes twice as far back as 64 messages.
#[derive(Clone, Copy, Debug)]
pub struct Receiver {
    /// The last `seq`; `UNKNOWN` before the first.
    seq: u32,
    /// The highest number of the generator's.
    newest: u32,
    /// Bit i: the message i before the newest has come.
    seen: u64,
}

const UNKNOWN: u32 = u32::MAX;

impl Default for Receiver {
    fn default() -> Self {
        Self { seq: UNKNOWN, newest: 0, seen: 0 }
    }
}

impl Receiver {
    /// The room's last message before this connection's first has this `seq`.
    pub fn begin_after(&mut self, seq: u32) {
        (self.seq, self.seen) = (seq, u64::MAX);
    }

    /// The last `seq` that has come, if the server gives any.
    pub fn last_seq(&self) -> Option<u32> {
        (self.seq != UNKNOWN).then_some(self.seq)
    }

    /// A message with this `seq` has come.
    pub fn note_seq(&mut self, seq: u32) -> Fault {
        if self.seq == UNKNOWN {
            self.begin_after(seq.wrapping_sub(1));
        }
        let ahead = i64::from(seq) - i64::from(self.seq);
        let is_new = self.note(ahead);
        self.seq = self.seq.max(seq);
        Fault {
            gap: (ahead - 1).max(0) as u64,
            duplicate: !is_new,
            reordered: ahead <= 0 && is_new,
        }
    }

    /// A message with this number has come, from a server that gives no `seq`.
    pub fn note_number(&mut self, number: u32) -> Fault {
        let is_new = self.note(i64::from(number) - i64::from(self.newest));
        self.newest = self.newest.max(number);
        Fault { duplicate: !is_new, ..Fault::default() }
    }

    /// A message has come that is so far ahead of the newest; whether it had not come before, as
    /// far as is remembered.
    fn note(&mut self, ahead: i64) -> bool {
        match ahead {
            1..64 => self.seen = self.seen << ahead | 1,
            64.. => self.seen = 1,
            -63..=0 => {
                let bit = 1u64 << -ahead;
                let is_new = self.seen & bit == 0;
                self.seen |= bit;
                return is_new;
            }
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_server_must_rise_by_one() {
        let mut receiver = Receiver::default();
        receiver.begin_after(4);
        assert_eq!(receiver.note_seq(5), Fault::default());
        assert_eq!(receiver.note_seq(8), Fault { gap: 2, ..Fault::default() });
        assert_eq!(receiver.note_seq(8), Fault { duplicate: true, ..Fault::default() });
        assert_eq!(receiver.note_seq(7), Fault { reordered: true, ..Fault::default() });
        assert_eq!(receiver.note_seq(7), Fault { duplicate: true, ..Fault::default() });
        assert_eq!(receiver.note_seq(4), Fault { duplicate: true, ..Fault::default() });
        assert_eq!(receiver.note_seq(9), Fault::default());
        assert_eq!(receiver.last_seq(), Some(9));
    }

    #[test]
    fn numbers_of_the_generator_tell_doubles_apart_in_any_order() {
        let mut receiver = Receiver::default();
        let doubles =
            [1, 3, 2, 3, 1, 71, 70, 71, 4].map(|number| receiver.note_number(number).duplicate);
        assert_eq!(doubles, [false, false, false, true, true, false, false, true, false]);
    }
}
