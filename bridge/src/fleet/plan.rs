//! How a host takes part in the fleet: what its configuration says.

use throng_protocol::adapter::sharded::Mode;

use super::target::Target;
use super::words::HostId;

/// How a host takes part in the fleet.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    /// Where Redis is.
    pub target: Target,
    /// Put before every key and channel.
    pub prefix: Box<str>,
    /// This host.
    pub host: HostId,
    /// Command connections to each node.
    pub pool_size: u16,
    /// Messages kept per room.
    pub history_size: usize,
    /// How long a room's messages are kept, in milliseconds.
    pub history_ttl_ms: u64,
    /// How long a session can be recovered, in milliseconds; 0: none is remembered.
    pub recovery_window_ms: u64,
    /// Whether Node servers are spoken to.
    pub adapter: Adapter,
}

/// The protocol that Node servers are spoken to in (`SOCKETIO_ADAPTER`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Adapter {
    /// None.
    #[default]
    Off,
    /// That of `createAdapter`, and of `@socket.io/redis-emitter`.
    Classic,
    /// That of `createShardedAdapter`, in one of its modes.
    Sharded(Mode),
}

impl Adapter {
    /// Whether [`Word::Socket`](super::Word::Socket) is to be told of each socket.
    pub fn hears_of_sockets(self) -> bool {
        self == Self::Sharded(Mode::DynamicPrivate)
    }
}
