//! The dialect of `createShardedAdapter`, in its mode `dynamic`: which channel is what.
//!
//! Its channels are sharded on any Redis from version 7 on. There is no pattern for these, so that
//! events to one room are heard only if its channel is subscribed to: [`Sharded::room`]. Node
//! servers configured with `subscriptionMode: "static"` use no such channels; they do not hear
//! what is published on one either.

use throng_protocol::adapter::sharded::{
    Message, channel, channel_of, decode, encode, encode_reply, has_channel,
};
use throng_protocol::adapter::{Ask, Form, Malformed, Packet, Reply};

use super::dialect::{Dialect, Heard, Spoken, Subscriptions, Wire};
use super::nodes::is_host;

/// See the module.
pub(super) struct Sharded {
    pub(super) prefix: String,
    pub(super) uid: String,
}

impl Sharded {
    /// The channel of a room alone, if it has one.
    pub(super) fn room(&self, namespace: &str, room: &str) -> Option<String> {
        has_channel(room).then(|| channel_of(&self.prefix, namespace, room))
    }
}

fn sharded(channel: String) -> Spoken {
    Spoken { channel, is_sharded: true }
}

impl Dialect for Sharded {
    fn subscriptions(&self, namespace: &str) -> Subscriptions {
        let everything = channel(&self.prefix, namespace);
        let own = channel_of(&self.prefix, namespace, &self.uid);
        let sharded = vec![own, everything];
        Subscriptions { channels: Vec::new(), sharded, patterns: Vec::new() }
    }

    fn can_speak(&self, _namespace: &str) -> bool {
        true
    }

    fn counted(&self, namespace: &str) -> Spoken {
        sharded(channel(&self.prefix, namespace))
    }

    fn say(&self, namespace: &str, request: Option<&str>, ask: &Ask) -> Result<Wire, Malformed> {
        let Some(payload) = encode(&self.uid, namespace, request, ask)? else { return Ok(None) };
        let to = match (ask, request) {
            (Ask::Emit(opts, _), None) => match &*opts.rooms {
                [room] if has_channel(room) => channel_of(&self.prefix, namespace, room),
                _ => channel(&self.prefix, namespace),
            },
            _ => channel(&self.prefix, namespace),
        };
        Ok(Some((sharded(to), payload)))
    }

    fn reply(
        &self,
        namespace: &str,
        uid: Option<&str>,
        request: &str,
        _form: Form,
        reply: &Reply,
    ) -> Result<Wire, Malformed> {
        let Some(uid) = uid else { return Ok(None) };
        let payload = encode_reply(&self.uid, namespace, request, reply)?;
        let to = channel_of(&self.prefix, namespace, uid);
        Ok(payload.map(|payload| (sharded(to), payload)))
    }

    fn hear(&self, channel: &str, payload: &[u8]) -> Option<Heard> {
        channel.strip_prefix(&*self.prefix)?.strip_prefix('#')?;
        Some(match decode(payload) {
            Err(why) => Heard::Malformed(why),
            Ok(Message::Reply { request, reply, .. }) => Heard::Reply { request, reply },
            Ok(Message::Packet(Packet { uid, .. })) if is_host(uid.as_deref()) => Heard::Nothing,
            Ok(Message::Packet(packet)) => match packet.namespace.clone() {
                Some(namespace) => Heard::Packet { namespace, packet },
                None => Heard::Nothing,
            },
        })
    }
}
