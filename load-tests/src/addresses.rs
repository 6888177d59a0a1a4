//! Where connections go and where they come from, spread so that ports do not run out.
//!
//! A connection is told apart by both addresses and both ports, so each pair of a source and a
//! target address has room for as many connections as the host has ports for outgoing ones.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Connections per pair on loopback, where pairs cost nothing: the kernel looks for a free port
/// among every other one, and longer the fewer are left. With 16,000 per pair that was most of the
/// generator's time.
const PER_LOOPBACK_PAIR: u64 = 4_000;

/// The pairs of addresses.
#[derive(Clone, Debug)]
pub struct Addresses {
    targets: Vec<SocketAddr>,
    /// Empty: the system chooses.
    sources: Vec<IpAddr>,
}

impl Addresses {
    /// For `connections` to `host`:`port`, or to `targets` where given, from `sources` where given.
    ///
    /// # Errors
    /// A host that has no address, or too few pairs, with what to do about it.
    pub fn new(
        (host, port): (&str, u16),
        targets: &[IpAddr],
        sources: &[IpAddr],
        connections: u64,
    ) -> Result<Self, String> {
        let targets: Vec<_> = match targets {
            [] => {
                let mut found =
                    (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
                let first = found.next().ok_or(format!("{host} has no address"))?;
                spread(first, connections)
            }
            given => given.iter().map(|&ip| SocketAddr::new(ip, port)).collect(),
        };
        let pairs = (targets.len() * sources.len().max(1)) as u64;
        let room = pairs * ports();
        if connections > room {
            return Err(format!(
                "{connections} connections need more than {pairs} pair(s) of addresses with {} \
                 ports each (net.ipv4.ip_local_port_range): give more --targets or --sources, or \
                 widen the range (sysctl/60-throng-load.conf)",
                ports()
            ));
        }
        Ok(Self { targets, sources: sources.to_vec() })
    }

    /// The target and source of connection `index`.
    pub fn pair(&self, index: u64) -> (SocketAddr, Option<SocketAddr>) {
        let count = self.targets.len() as u64;
        let target = self.targets[(index % count) as usize];
        let source = match self.sources.len() as u64 {
            0 => None,
            sources => Some(self.sources[(index / count % sources) as usize]),
        };
        (target, source.map(|ip| SocketAddr::new(ip, 0)))
    }
}

/// Loopback has 16 million addresses, and a server on all of them hears each.
fn spread(first: SocketAddr, connections: u64) -> Vec<SocketAddr> {
    let count = connections.div_ceil(PER_LOOPBACK_PAIR).clamp(1, 1 << 16) as u32;
    match first.ip() {
        IpAddr::V4(ip) if ip == Ipv4Addr::LOCALHOST => (0..count)
            .map(|n| SocketAddr::new(Ipv4Addr::from_bits(ip.to_bits() + n).into(), first.port()))
            .collect(),
        _ => vec![first],
    }
}

/// How many ports outgoing connections may use.
fn ports() -> u64 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range.split_whitespace().map_while(|end| end.parse::<u64>().ok());
    match (ends.next(), ends.next()) {
        (Some(first), Some(last)) => (last + 1).saturating_sub(first),
        _ => 28_232,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_million_connections_spread_over_loopback() {
        let addresses =
            Addresses::new(("127.0.0.1", 5000), &[], &[], 1_000_000).expect("enough pairs");
        let mut each = HashMap::new();
        for index in 0..1_000_000 {
            *each.entry(addresses.pair(index)).or_insert(0) += 1;
        }
        assert!(each.len() == 250 && each.values().all(|&count| count <= PER_LOOPBACK_PAIR));
    }

    #[test]
    fn every_pair_of_given_addresses_is_used_and_too_few_are_refused() {
        let ips = |text: &str| -> Vec<IpAddr> {
            text.split(',').map(|ip| ip.parse().expect("an address")).collect()
        };
        let (targets, sources) = (ips("10.0.0.1,10.0.0.2"), ips("10.0.1.1,10.0.1.2,10.0.1.3"));
        let addresses = Addresses::new(("x", 80), &targets, &sources, 60).expect("enough");
        let pairs: HashMap<_, _> = (0..60).map(|index| (addresses.pair(index), index)).collect();
        assert_eq!(pairs.len(), 6);
        let refused = Addresses::new(("10.0.0.1", 80), &[], &[], 100_000).expect_err("one pair");
        assert!(refused.contains("--sources"), "{refused}");
    }
}
