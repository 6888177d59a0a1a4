//! Limits that hold over all shards: connections per address, events per user, connections in all.
//!
//! The only state shards share. It is touched once per accept, close or limited request, never per
//! recipient, under one of many small locks; with a limit of 0 it is not touched at all.

use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::{DefaultHashBuilder, HashMap};
use std::hash::BuildHasher;

use crate::clock::Now;
use crate::config::{Config, Rate};

const STRIPES: usize = 64;
/// Entries of a stripe above which those that have recovered are dropped.
const STRIPE_SWEEP: usize = 1024;

/// What counts as one peer: an IPv4 address, or the /64 of an IPv6 one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct IpKey(u64);

impl From<IpAddr> for IpKey {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            // No /64 of a real network looks like this.
            IpAddr::V4(v4) => Self(0xffff_ffff_0000_0000 | u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64),
        }
    }
}

impl fmt::Display for IpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 >> 32) as u32 {
            u32::MAX => Ipv4Addr::from_bits(self.0 as u32).fmt(f),
            _ => Ipv6Addr::from_bits(u128::from(self.0) << 64).fmt(f),
        }
    }
}

/// A map behind many locks.
struct Striped<V> {
    stripes: Box<[Mutex<HashMap<u64, V>>]>,
    hasher: DefaultHashBuilder,
}

impl<V> Striped<V> {
    fn new() -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { stripes, hasher: DefaultHashBuilder::default() }
    }

    /// The key's hash and the stripe that holds it.
    fn stripe(&self, key: impl Hash) -> (u64, MutexGuard<'_, HashMap<u64, V>>) {
        let hash = self.hasher.hash_one(key);
        let stripe = &self.stripes[(hash >> 32) as usize % STRIPES];
        (hash, stripe.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why a connection is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// `MAX_CONNECTIONS`.
    Full,
    /// `MAX_CONNECTIONS_PER_IP`.
    Ip,
}

/// Rates of events per user: each key may burst up to the limit, then at its pace (GCRA).
struct Rates {
    limit: Rate,
    /// When the key will have recovered whole, in nanoseconds.
    recovered_ns: Striped<u64>,
}

impl Rates {
    fn new(limit: Rate) -> Self {
        Self { limit, recovered_ns: Striped::new() }
    }

    fn admit(&self, user: &str, now: Now) -> bool {
        if self.limit.is_unlimited() {
            return true;
        }
        let window_ns = self.limit.window.as_nanos() as u64;
        let cost_ns = (window_ns / u64::from(self.limit.count)).max(1);
        let (key, mut stripe) = self.recovered_ns.stripe(user);
        if stripe.len() > STRIPE_SWEEP {
            stripe.retain(|_, recovered| *recovered > now.ns);
        }
        let recovered = stripe.entry(key).or_insert(0);
        let next = (*recovered).max(now.ns) + cost_ns;
        let admitted = next <= now.ns + window_ns;
        if admitted {
            *recovered = next;
        }
        admitted
    }
}

/// How many there are of something, in all and per address.
struct Count {
    all: AtomicU32,
    all_max: u32,
    per_ip: Striped<u32>,
    per_ip_max: u32,
}

impl Count {
    fn new(config: &Config) -> Self {
        Self {
            all: AtomicU32::new(0),
            all_max: config.connections_max,
            per_ip: Striped::new(),
            per_ip_max: config.connections_per_ip_max,
        }
    }

    fn admit(&self, ip: IpKey) -> Result<(), Refused> {
        let all = self.all.fetch_add(1, Ordering::Relaxed) + 1;
        let of_ip = if self.per_ip_max == 0 {
            0
        } else {
            let (key, mut stripe) = self.per_ip.stripe(ip);
            let count = stripe.entry(key).or_insert(0);
            *count += 1;
            *count
        };
        if all > self.all_max {
            return Err(Refused::Full);
        }
        if of_ip > self.per_ip_max { Err(Refused::Ip) } else { Ok(()) }
    }

    fn release(&self, ip: IpKey) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        if self.per_ip_max == 0 {
            return;
        }
        let (key, mut stripe) = self.per_ip.stripe(ip);
        if let Some(count) = stripe.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                stripe.remove(&key);
            }
        }
        if stripe.len() * 4 < stripe.capacity() {
            let keep = stripe.len() * 2;
            stripe.shrink_to(keep);
        }
    }
}

/// All shared limits of a host.
pub struct Limiter {
    connections: Count,
    /// Sessions without a connection of their own. Apart, since their clients' requests come on
    /// connections that count as well.
    sessions: Count,
    messages: Rates,
    typing: Rates,
}

impl Limiter {
    /// The limits that the settings ask for.
    pub fn new(config: &Config) -> Self {
        Self {
            connections: Count::new(config),
            sessions: Count::new(config),
            messages: Rates::new(config.message_rate),
            typing: Rates::new(config.typing_rate),
        }
    }

    /// Counts a connection in; [`Limiter::release`] must follow, also after a refusal.
    ///
    /// # Errors
    /// The limit that it exceeds.
    pub fn admit(&self, ip: IpKey) -> Result<(), Refused> {
        self.connections.admit(ip)
    }

    /// Counts a connection out.
    pub fn release(&self, ip: IpKey) {
        self.connections.release(ip);
    }

    /// Counts a session without a connection of its own in, under the same limits as connections;
    /// [`Limiter::release_session`] must follow, also after a refusal.
    ///
    /// # Errors
    /// The limit that it exceeds.
    pub fn admit_session(&self, ip: IpKey) -> Result<(), Refused> {
        self.sessions.admit(ip)
    }

    /// Counts it out.
    pub fn release_session(&self, ip: IpKey) {
        self.sessions.release(ip);
    }

    /// Whether the user may send a message now.
    pub fn admit_message(&self, user: &str, now: Now) -> bool {
        self.messages.admit(user, now)
    }

    /// Whether the user may send a typing event now.
    pub fn admit_typing(&self, user: &str, now: Now) -> bool {
        self.typing.admit(user, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { ns: seconds * 1_000_000_000, wall_ms: 0 }
    }

    #[test]
    fn a_user_may_burst_and_then_keeps_the_pace() {
        let limits =
            Limiter::new(&Config { message_rate: Rate::per_minute(3), ..Config::default() });
        let sent = |time| (0..5).filter(|_| limits.admit_message("ann", time)).count();
        assert_eq!(sent(at(100)), 3);
        assert_eq!(sent(at(119)), 0);
        assert_eq!(sent(at(120)), 1);
        assert_eq!(sent(at(1000)), 3);
        assert!(limits.admit_message("bob", at(1000)));
    }

    #[test]
    fn addresses_are_counted_by_ipv4_and_by_ipv6_network() {
        let config = Config { connections_per_ip_max: 1, ..Config::default() };
        let limits = Limiter::new(&config);
        let key = |ip: &str| IpKey::from(ip.parse::<IpAddr>().expect("an address"));
        assert_eq!(limits.admit(key("2001:db8::1")), Ok(()));
        assert_eq!(limits.admit(key("2001:db8::2")), Err(Refused::Ip));
        assert_eq!(limits.admit(key("2001:db8:0:1::1")), Ok(()));
        assert_eq!(limits.admit(key("10.0.0.1")), Ok(()));
        assert_eq!(limits.admit(key("::ffff:10.0.0.1")), Err(Refused::Ip));
        assert_eq!(key("::ffff:10.0.0.1").to_string(), "10.0.0.1");
        assert_eq!(key("2001:db8::2").to_string(), "2001:db8::");
        for _ in 0..2 {
            limits.release(key("10.0.0.1"));
        }
        assert_eq!(limits.admit(key("10.0.0.1")), Ok(()));
    }

    #[test]
    fn the_host_has_a_limit_too() {
        let limits = Limiter::new(&Config { connections_max: 2, ..Config::default() });
        let key = IpKey::default();
        assert_eq!([limits.admit(key), limits.admit(key)], [Ok(()); 2]);
        assert_eq!(limits.admit(key), Err(Refused::Full));
        limits.release(key);
        limits.release(key);
        assert_eq!(limits.admit(key), Ok(()));
    }
}
