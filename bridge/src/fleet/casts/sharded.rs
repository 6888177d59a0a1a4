//! The dialect of `createShardedAdapter`: which channel is what.
//!
//! Its channels are sharded on any Redis from version 7 on. There is no pattern for these, so that
//! events to one room are heard only if its channel is subscribed to: [`Sharded::room`]. Which
//! rooms have one is the [`Mode`]'s: `static` none, `dynamic-private` even each socket. Node
//! servers in another mode do not hear what is published on a channel that theirs lacks, and
//! publish on ones that are not subscribed to here.

use throng_protocol::adapter::sharded::{
    Message, Mode, channel, channel_of, decode, encode, encode_reply,
};
use throng_protocol::adapter::{Ask, Form, Malformed, Packet, Reply};

use super::dialect::{Dialect, Heard, Spoken, Subscriptions, Wire};
use super::nodes::is_host;

/// See the module.
pub(super) struct Sharded {
    pub(super) prefix: String,
    pub(super) uid: String,
    pub(super) mode: Mode,
}

impl Sharded {
    /// The channel of a room or a socket alone, if it has one. A room that is named like this host
    /// has none: on that channel answers come, whoever is in the room.
    pub(super) fn room(&self, namespace: &str, room: &str) -> Option<String> {
        let has_channel = room != self.uid && self.mode.has_channel(room);
        has_channel.then(|| channel_of(&self.prefix, namespace, room))
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
                [room] => self.room(namespace, room),
                _ => None,
            },
            _ => None,
        };
        let to = to.unwrap_or_else(|| channel(&self.prefix, namespace));
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

#[cfg(test)]
mod tests {
    use throng_protocol::adapter::{Event, Opts};

    use super::*;

    const SOCKET: &str = "0123456789abcdefghij";

    /// As Node's `computeChannel` has it.
    #[test]
    fn what_is_for_one_room_alone_goes_by_its_channel() {
        let all = "p#/#";
        for (mode, to_room, to_socket) in [
            (Mode::Static, all, all),
            (Mode::Dynamic, "p#/#a#", all),
            (Mode::DynamicPrivate, "p#/#a#", "p#/#0123456789abcdefghij#"),
        ] {
            let dialect = Sharded { prefix: "p".into(), uid: "u".into(), mode };
            let said = |ask: Ask, request| {
                let said = dialect.say("/", request, &ask).expect("it is written");
                said.expect("known").0.channel
            };
            let opts = |rooms: &[&str]| Opts {
                rooms: rooms.iter().map(|room| (*room).into()).collect(),
                ..Opts::default()
            };
            let event = Event { args: "\"e\"".into(), attachments: Vec::new() };
            let emit = |rooms: &[&str]| Ask::Emit(opts(rooms), event.clone());
            assert_eq!(said(emit(&["a"]), None), to_room, "{mode:?}");
            assert_eq!(said(emit(&[SOCKET]), None), to_socket, "{mode:?}");
            for room in ["a", SOCKET] {
                assert_eq!(said(emit(&[room]), Some("r")), all, "all servers are to answer");
                assert_eq!(said(Ask::Fetch(opts(&[room])), Some("r")), all);
                assert_eq!(said(Ask::Disconnect(opts(&[room]), true), None), all);
            }
            assert_eq!(said(emit(&["u"]), None), all, "its own channel is for answers");
            assert_eq!(said(emit(&[]), None), all);
            assert_eq!(said(emit(&["a", SOCKET]), None), all);
        }
    }
}
