//! The load client: thousands of Socket.IO connections on one thread, cheap per frame.
//!
//! [`swarm`] holds the connections and brings them up; [`fanout`], [`connect`], [`memory`] and
//! [`disturb`] are the workloads on top of it. The client never measures itself by accident: each
//! result says how busy the client was, and latency counts from the scheduled time of a message.

pub mod body;
pub mod conn;
pub mod connect;
pub mod disturb;
pub mod fanout;
pub mod memory;
pub mod report;
pub mod swarm;
pub mod tally;

use std::net::Ipv4Addr;
use std::time::Instant;

/// Nanoseconds since the process began, on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts at zero now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    #[inline]
    #[must_use]
    pub fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Where to connect and with how many connections.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// Server's address.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: Ipv4Addr,
    /// Server's port.
    #[arg(long)]
    pub port: u16,
    /// Connections to bring up.
    #[arg(long, default_value_t = 1000)]
    pub connections: usize,
    /// Rooms; connection i joins room i modulo this.
    #[arg(long, default_value_t = 10)]
    pub rooms: usize,
    /// Connections that may be on their way up at one time.
    #[arg(long, default_value_t = 512)]
    pub outstanding: usize,
    /// Source addresses 127.0.0.1, 127.0.0.2, … to spread the connections over; 0 = no bind.
    #[arg(long, default_value_t = 8)]
    pub sources: u8,
    /// Poll without sleeping: the server never pays for waking the client, one core is used up.
    #[arg(long)]
    pub spin: bool,
    /// Process whose CPU (and memory) the result should include.
    #[arg(long, alias = "pid")]
    pub server_pid: Option<u32>,
}
