//! What the adapters of Node differ in: their channels and the form of their packets.

use throng_protocol::adapter::{Ask, Form, Malformed, Packet, Reply};

use super::super::plan::Adapter;
use super::classic::Classic;
use super::sharded::Sharded;

/// A channel that is published to or counted.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Spoken {
    pub(super) channel: String,
    /// SPUBLISH, SHARDNUMSUB.
    pub(super) is_sharded: bool,
}

/// What to publish; `None`: the dialect has no word for it.
pub(super) type Wire = Option<(Spoken, Vec<u8>)>;

/// What a namespace is heard by, in the order in which it is to be subscribed to: what others count
/// comes last.
pub(super) struct Subscriptions {
    pub(super) channels: Vec<String>,
    pub(super) sharded: Vec<String>,
    pub(super) patterns: Vec<String>,
}

/// What came.
pub(super) enum Heard {
    /// A Node server tells or asks something.
    Packet { namespace: Box<str>, packet: Packet },
    /// A Node server answers.
    Reply { request: Box<str>, reply: Reply },
    /// It cannot be read.
    Malformed(Malformed),
    /// It is a host's, which is heard otherwise, or nothing to anybody here.
    Nothing,
}

/// How Node servers are spoken to. Owns no connection.
pub(super) trait Dialect {
    /// What a namespace is heard by.
    fn subscriptions(&self, namespace: &str) -> Subscriptions;

    /// Whether it can be spoken in a namespace.
    fn can_speak(&self, namespace: &str) -> bool;

    /// The channel that each server of a namespace subscribes to once.
    fn counted(&self, namespace: &str) -> Spoken;

    /// A word to all servers.
    fn say(&self, namespace: &str, request: Option<&str>, ask: &Ask) -> Result<Wire, Malformed>;

    /// An answer to a server.
    fn reply(
        &self,
        namespace: &str,
        uid: Option<&str>,
        request: &str,
        form: Form,
        reply: &Reply,
    ) -> Result<Wire, Malformed>;

    /// Something came on a channel; `None`: it is none of Node's.
    fn hear(&self, channel: &str, payload: &[u8]) -> Option<Heard>;
}

/// The dialect that is configured.
pub(super) enum Spoke {
    Off,
    Classic(Classic),
    Sharded(Sharded),
}

impl Spoke {
    pub(super) fn new(adapter: Adapter, prefix: String, uid: String) -> Self {
        match adapter {
            Adapter::Off => Spoke::Off,
            Adapter::Classic => Spoke::Classic(Classic { prefix, uid }),
            Adapter::Sharded(mode) => Spoke::Sharded(Sharded { prefix, uid, mode }),
        }
    }

    pub(super) fn dialect(&self) -> Option<&dyn Dialect> {
        match self {
            Spoke::Off => None,
            Spoke::Classic(it) => Some(it),
            Spoke::Sharded(it) => Some(it),
        }
    }

    /// The channel of a room or a socket, if it is subscribed to by itself.
    pub(super) fn room(&self, namespace: &str, room: &str) -> Option<String> {
        match self {
            Spoke::Sharded(it) => it.room(namespace, room),
            Spoke::Off | Spoke::Classic(_) => None,
        }
    }
}
