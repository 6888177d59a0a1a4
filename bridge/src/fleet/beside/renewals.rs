//! Keys with a TTL that this host keeps alive: each is due once in a period, a few at a time.

use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use hashbrown::{DefaultHashBuilder, HashSet};

/// Parts of the keys that are due at different times.
const PARTS: usize = 64;

/// A set of names. They are due part by part, so that no moment has much to do.
pub(super) struct Renewals<T> {
    parts: Vec<HashSet<T>>,
    hasher: DefaultHashBuilder,
    period: Duration,
    next: usize,
    due: Instant,
}

impl<T: AsRef<str> + Clone + Eq + std::hash::Hash + std::borrow::Borrow<str>> Renewals<T> {
    /// Each name is due once in a period.
    pub(super) fn new(period: Duration) -> Self {
        Self {
            parts: (0..PARTS).map(|_| HashSet::new()).collect(),
            hasher: DefaultHashBuilder::default(),
            period,
            next: 0,
            due: Instant::now() + period / PARTS as u32,
        }
    }

    fn part(&self, name: &str) -> usize {
        // The low bits place a name inside its part.
        (self.hasher.hash_one(name) >> 40) as usize % PARTS
    }

    pub(super) fn insert(&mut self, name: T) {
        let part = self.part(name.as_ref());
        self.parts[part].insert(name);
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        let part = self.part(name);
        self.parts[part].remove(name)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.parts[self.part(name)].contains(name)
    }

    /// The names that are due; call again until there are none.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<Vec<T>> {
        if now < self.due {
            return None;
        }
        // After a long time without a link once is enough.
        self.due = now.checked_sub(self.period).map_or(self.due, |start| self.due.max(start));
        self.due += self.period / PARTS as u32;
        let names = self.parts[self.next].iter().cloned().collect();
        self.next = (self.next + 1) % PARTS;
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_due_once_in_a_period() {
        let period = Duration::from_secs(64);
        let mut renewals: Renewals<Box<str>> = Renewals::new(period);
        let start = Instant::now();
        for number in 0..1000 {
            renewals.insert(format!("name {number}").into());
        }
        assert!(renewals.remove("name 7") && !renewals.remove("name 7"));
        assert!(renewals.contains("name 8") && !renewals.contains("name 7"));
        let mut seen = HashSet::new();
        let mut largest = 0;
        for second in 0..=64 {
            while let Some(due) = renewals.poll_due(start + Duration::from_secs(second)) {
                largest = largest.max(due.len());
                for name in due {
                    assert!(seen.insert(name), "twice in a period");
                }
            }
        }
        assert!(seen.len() >= 980, "only {} of 999 were due", seen.len());
        assert!(largest < 100, "{largest} at once");
        let late = start + Duration::from_secs(64_000);
        let rounds = std::iter::from_fn(|| renewals.poll_due(late)).count();
        assert!((PARTS..=PARTS + 1).contains(&rounds), "{rounds} parts at once");
    }
}
