//! The names of keys and channels in Redis.
//!
//! What belongs to one room carries its partition as a hash tag, so that one room lives on one node
//! of a cluster and no room's name can choose its slot. Names are never put into a pattern.

use super::words::{HostId, hash};

/// Partitions; a room's is fixed for ever.
pub(crate) const PARTITIONS: u16 = 256;

/// Makes names, all with the configured prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    prefix: Box<str>,
}

/// The partition of a room.
pub(crate) fn partition(room: &str) -> u16 {
    (hash(room) % u64::from(PARTITIONS)) as u16
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    fn of_room(&self, kind: &str, room: &str) -> String {
        format!("{}throng:{{p{:03}}}:{kind}:{room}", self.prefix, partition(room))
    }

    /// Hash: epoch, last `seq`, the id of that message.
    pub(crate) fn meta(&self, room: &str) -> String {
        self.of_room("meta", room)
    }

    /// Stream of the recent messages, entry id `<seq>-0`.
    pub(crate) fn stream(&self, room: &str) -> String {
        self.of_room("stream", room)
    }

    /// String: the room's settings as JSON.
    pub(crate) fn settings(&self, room: &str) -> String {
        self.of_room("settings", room)
    }

    /// Hash: socket id to JSON.
    pub(crate) fn members(&self, room: &str) -> String {
        self.of_room("members", room)
    }

    /// Channel of everything that hosts tell each other about the room.
    pub(crate) fn events(&self, room: &str) -> String {
        self.of_room("events", room)
    }

    /// The room of an events channel.
    pub(crate) fn room_of_events<'a>(&self, channel: &'a str) -> Option<&'a str> {
        let rest = channel.strip_prefix(&*self.prefix)?.strip_prefix("throng:{p")?;
        rest.get(3..)?.strip_prefix("}:events:")
    }

    /// String with a TTL: the result of a publish that may be repeated. `id` is the message's, or
    /// what its client calls it. The room's length tells where the id begins.
    pub(crate) fn sent(&self, room: &str, id: &str) -> String {
        format!("{}:{id}", self.of_room(&format!("sent:{}", room.len()), room))
    }

    /// Sorted set: the rooms of a partition that have members.
    pub(crate) fn rooms(&self, partition: u16) -> String {
        format!("{}throng:{{p{partition:03}}}:rooms", self.prefix)
    }

    /// Hash: the rooms of a partition in which a host has members, and how many in each.
    pub(crate) fn rooms_of_host(&self, partition: u16, host: HostId) -> String {
        format!("{}throng:{{p{partition:03}}}:host:{host:08x}", self.prefix)
    }

    /// String: the room as people and tools see it.
    pub(crate) fn summary(&self, room: &str) -> String {
        format!("{}room:{room}", self.prefix)
    }

    /// String with a TTL: what a reconnecting client needs.
    pub(crate) fn session(&self, pid: &str) -> String {
        format!("{}session:{pid}", self.prefix)
    }

    /// Hash with a TTL: a user's state.
    pub(crate) fn user(&self, id: &str) -> String {
        format!("{}user:{id}", self.prefix)
    }

    /// String with a TTL: a host lives.
    pub(crate) fn host(&self, host: HostId) -> String {
        format!("{}host:{host:08x}", self.prefix)
    }

    /// Sorted set: hosts by when they were last seen, in milliseconds since 1970.
    pub(crate) fn hosts(&self) -> String {
        format!("{}throng:hosts", self.prefix)
    }

    /// Stream: which messages a shard has passed on.
    pub(crate) fn trail(&self, host: HostId, shard: u16) -> String {
        format!("{}throng:{{h{host:08x}}}:trail:{shard}", self.prefix)
    }

    /// Hash: of each room, the last message a shard has passed on.
    pub(crate) fn passed(&self, host: HostId, shard: u16) -> String {
        format!("{}throng:{{h{host:08x}}}:passed:{shard}", self.prefix)
    }

    /// String with a TTL: somebody removes what a dead host has left.
    pub(crate) fn reaping(&self, host: HostId) -> String {
        format!("{}throng:reap:{host:08x}", self.prefix)
    }

    /// Channel to one host.
    pub(crate) fn to_host(&self, host: HostId) -> String {
        format!("{}throng:host:{host:08x}", self.prefix)
    }

    /// Channel to one host: answers to its casts.
    pub(crate) fn casts_of(&self, host: HostId) -> String {
        format!("{}throng:casts:{host:08x}", self.prefix)
    }

    /// Channel on which nothing is said. Each host that speaks to Node servers in a namespace
    /// subscribes to it, so that hosts can be told from Node servers by their number.
    pub(crate) fn adapter(&self, namespace: &str) -> String {
        format!("{}throng:adapter:{namespace}", self.prefix)
    }

    /// What Socket.IO servers are configured to put before the names of their channels.
    pub(crate) fn socket_io(&self) -> String {
        format!("{}socket.io", self.prefix)
    }

    /// What the channels begin with on which a host hears itself.
    pub(crate) fn probe(&self, host: HostId) -> String {
        format!("{}throng:probe:{host:08x}", self.prefix)
    }

    /// Channel to all hosts.
    pub(crate) fn to_all(&self) -> String {
        format!("{}throng:all", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_lives_in_its_partition_whatever_it_is_called() {
        let keys = Keys::new("x:");
        for room in ["lobby", "a{b}c", "{p000}", "ü \u{1f600}", "a:b"] {
            let tag = format!("x:throng:{{p{:03}}}:", partition(room));
            for key in [keys.meta(room), keys.stream(room), keys.sent(room, "m{1}")] {
                assert!(key.starts_with(&tag), "{key}");
            }
            assert_eq!(keys.room_of_events(&keys.events(room)), Some(room));
        }
        assert_eq!(keys.room_of_events("throng:{p000}:events:lobby"), None, "another's");
        assert_eq!(keys.room_of_events("x:throng:{p000}:meta:lobby"), None);
    }

    #[test]
    fn repetitions_of_two_rooms_have_no_name_in_common() {
        let keys = Keys::default();
        let rest = |room: &str, id: &str| {
            let key = keys.sent(room, id);
            key.split_once('}').map(|(_, rest)| rest.to_owned())
        };
        assert_ne!(rest("a", "c:c:1"), rest("a:c", "c:1"));
        assert_ne!(rest("a:1:9", "q"), rest("a", "1:9:q"));
    }
}
