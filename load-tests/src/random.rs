//! Random numbers that come again with the same seed. Nothing here is secret.

use fastrand::Rng;

/// A sequence.
#[derive(Debug)]
pub struct Random(Rng);

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// A number from 0 up to, not including, 1.
    pub fn fraction(&mut self) -> f64 {
        self.0.f64()
    }

    /// One of 0 to `count` - 1; `count` is not 0.
    pub fn below(&mut self, count: u32) -> u32 {
        self.0.u32(..count)
    }

    /// The time to the next of events that come `per_s` times a second at random, in nanoseconds.
    pub fn wait_ns(&mut self, per_s: f64) -> u64 {
        let wait_s = -(1.0 - self.fraction()).ln() / per_s;
        (wait_s * 1e9).min(1e18) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_waits_average_out() {
        let (mut one, mut other) = (Random::new(7), Random::new(7));
        assert!((0..9).all(|_| one.below(1000) == other.below(1000)));
        let total: u64 = (0..10_000).map(|_| one.wait_ns(100.0)).sum();
        let mean_ms = total as f64 / 10_000.0 / 1e6;
        assert!((9.0..11.0).contains(&mean_ms), "{mean_ms}");
    }
}
