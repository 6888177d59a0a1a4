//! The dialect of `createAdapter` and of the emitter: which channel is what.

use throng_protocol::adapter::classic::{
    Channels, decode_event, decode_request, decode_response, encode_event, encode_request,
    encode_response,
};
use throng_protocol::adapter::{Ask, Form, Malformed, Reply};

use super::dialect::{Dialect, Heard, Spoken, Subscriptions, Wire};
use super::nodes::{is_from_host, is_host};

/// See the module.
pub(super) struct Classic {
    pub(super) prefix: String,
    pub(super) uid: String,
}

impl Classic {
    fn channels(&self, namespace: &str) -> Channels {
        Channels::new(&self.prefix, namespace)
    }

    /// The namespace of a channel of requests or answers.
    fn between<'a>(&self, channel: &'a str, kind: &str) -> Option<&'a str> {
        let rest = channel.strip_prefix(&*self.prefix)?.strip_prefix(kind)?;
        rest.strip_suffix('#')
    }

    fn on_response(&self, payload: &[u8]) -> Heard {
        match decode_response(payload) {
            Ok((request, reply)) => Heard::Reply { request, reply },
            Err(why) => Heard::Malformed(why),
        }
    }

    fn on_request(&self, namespace: &str, payload: &[u8]) -> Heard {
        if is_from_host(payload) {
            return Heard::Nothing;
        }
        match decode_request(payload) {
            Ok(packet) if is_host(packet.uid.as_deref()) => Heard::Nothing,
            Ok(packet) => Heard::Packet { namespace: namespace.into(), packet },
            Err(why) => Heard::Malformed(why),
        }
    }

    /// Whether the room of the channel has members here is not known here; the packet names it
    /// again.
    fn on_event(&self, channel: &str, payload: &[u8]) -> Heard {
        if is_from_host(payload) {
            return Heard::Nothing;
        }
        let packet = match decode_event(payload) {
            Ok(packet) => packet,
            Err(why) => return Heard::Malformed(why),
        };
        match packet.namespace.clone() {
            _ if is_host(packet.uid.as_deref()) => Heard::Nothing,
            Some(namespace) if channel.starts_with(&self.channels(&namespace).events) => {
                Heard::Packet { namespace, packet }
            }
            _ => Heard::Nothing,
        }
    }
}

impl Dialect for Classic {
    fn subscriptions(&self, namespace: &str) -> Subscriptions {
        let Channels { requests, responses, .. } = self.channels(namespace);
        let own = self.channels(namespace).responses_to(&self.uid);
        Subscriptions {
            channels: vec![responses, own, requests],
            sharded: Vec::new(),
            patterns: vec![self.channels(namespace).pattern()],
        }
    }

    /// A `#` in a namespace makes the patterns of two namespaces match the same channel, so that
    /// their events would come twice.
    fn can_speak(&self, namespace: &str) -> bool {
        !namespace.contains('#')
    }

    fn counted(&self, namespace: &str) -> Spoken {
        Spoken { channel: self.channels(namespace).requests, is_sharded: false }
    }

    fn say(&self, namespace: &str, request: Option<&str>, ask: &Ask) -> Result<Wire, Malformed> {
        let channels = self.channels(namespace);
        if let (Ask::Emit(opts, event), None) = (ask, request) {
            let payload = encode_event(&self.uid, namespace, opts, event)?;
            let channel = match &*opts.rooms {
                [room] => channels.to_room(room),
                _ => channels.events,
            };
            return Ok(Some((Spoken { channel, is_sharded: false }, payload)));
        }
        let payload = encode_request(&self.uid, namespace, request, ask)?;
        Ok(Some((Spoken { channel: channels.requests, is_sharded: false }, payload)))
    }

    /// On the channel of all: versions before 7.2 listen to no other.
    fn reply(
        &self,
        namespace: &str,
        _uid: Option<&str>,
        request: &str,
        form: Form,
        reply: &Reply,
    ) -> Result<Wire, Malformed> {
        let payload = encode_response(request, form, reply)?;
        let channel = self.channels(namespace).responses;
        Ok(Some((Spoken { channel, is_sharded: false }, payload)))
    }

    fn hear(&self, channel: &str, payload: &[u8]) -> Option<Heard> {
        if let Some(namespace) = self.between(channel, "-request#") {
            return Some(self.on_request(namespace, payload));
        }
        if channel.strip_prefix(&*self.prefix)?.starts_with("-response#") {
            return Some(self.on_response(payload));
        }
        let is_event = channel.strip_prefix(&*self.prefix)?.starts_with('#');
        is_event.then(|| self.on_event(channel, payload))
    }
}
