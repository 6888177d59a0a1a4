//! What comes from other servers: their casts, and their answers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use throng_protocol::adapter::{Form, Packet};
use tracing::{debug, warn};

use super::super::words::{Cast, CastAnswer, Deed, News};
use super::asks::Kind;
use super::dialect::{Heard, Spoken};
use super::gather::Asker;
use super::{Casts, PAYLOAD_BYTES_MAX, hosts, nodes};

impl Casts {
    /// Something came on a channel that is no room's; false if it is not ours.
    pub(in super::super) fn on_push(&self, channel: &[u8], payload: &[u8]) -> bool {
        let Ok(channel) = std::str::from_utf8(channel) else { return false };
        let keys = &self.office.keys;
        if channel == keys.to_all() {
            self.on_host_cast(payload);
        } else if channel == keys.casts_of(self.office.plan.host) {
            match hosts::decode_answer(payload) {
                Some((_, number, answer)) => self.on_answered(number, answer),
                None => debug!("another host's answer cannot be read"),
            }
        } else {
            let Some(dialect) = self.spoke.dialect() else { return false };
            if payload.len() > PAYLOAD_BYTES_MAX {
                self.office.stats.adapter_malformed.fetch_add(1, Relaxed);
                return channel.starts_with(&keys.socket_io());
            }
            let Some(heard) = dialect.hear(channel, payload) else { return false };
            self.on_heard(heard);
        }
        true
    }

    /// Another server has answered a cast of this host.
    fn on_answered(&self, number: u64, answer: CastAnswer) {
        let news = self.state.borrow_mut().asks.on_answer(number, answer);
        self.tell(news);
    }

    /// A shard has answered another server's cast.
    pub(super) fn on_shards_answer(&self, number: u64, answer: CastAnswer) {
        let said = self.state.borrow_mut().gatherings.on_answer(number, answer);
        let Some((asker, answers)) = said else { return };
        let out: Vec<_> = answers.into_iter().filter_map(|it| self.answer(&asker, it)).collect();
        self.state.borrow_mut().out.extend(out);
    }

    /// An answer of this host, to be published.
    fn answer(&self, asker: &Asker, answer: CastAnswer) -> Option<(Spoken, Vec<u8>)> {
        match asker {
            Asker::Host(host, request) => {
                let payload = hosts::encode_answer(self.office.plan.host, *request, &answer);
                let channel = self.office.keys.casts_of(*host);
                Some((Spoken { channel, is_sharded: false }, payload))
            }
            Asker::Node { namespace, uid, request, form } => {
                let reply = nodes::reply(*form, answer)?;
                let dialect = self.spoke.dialect()?;
                match dialect.reply(namespace, uid.as_deref(), request, *form, &reply) {
                    Ok(said) => {
                        self.office.stats.adapter_sent.fetch_add(said.iter().len() as u64, Relaxed);
                        said
                    }
                    Err(why) => {
                        warn!(%why, "an answer cannot be written for a Node server");
                        None
                    }
                }
            }
        }
    }

    /// A host has cast; it may be this one.
    fn on_host_cast(&self, payload: &[u8]) {
        match hosts::decode_cast(payload) {
            Some((host, ..)) if host == self.office.plan.host => {}
            Some((host, request, cast)) => {
                self.deliver(cast, request.map(|request| Asker::Host(host, request)));
            }
            None => debug!("another host's cast cannot be read"),
        }
    }

    fn on_heard(&self, heard: Heard) {
        let stats = &self.office.stats;
        match heard {
            Heard::Nothing => {}
            Heard::Malformed(why) => {
                stats.adapter_malformed.fetch_add(1, Relaxed);
                debug!(%why, "a Node server's packet cannot be read");
            }
            Heard::Reply { request, reply } => {
                let number = nodes::number(self.office.plan.host, &request);
                if let (Some(number), Some(answer)) = (number, nodes::answer(reply)) {
                    stats.adapter_received.fetch_add(1, Relaxed);
                    self.on_answered(number, answer);
                }
            }
            Heard::Packet { namespace, packet } if self.speaks_in(&namespace) => {
                stats.adapter_received.fetch_add(1, Relaxed);
                self.on_packet(&namespace, packet);
            }
            Heard::Packet { .. } => {}
        }
    }

    /// A Node server tells or asks something.
    fn on_packet(&self, namespace: &str, packet: Packet) {
        let Packet { uid, request, ask, form, .. } = packet;
        let asker = request.map(|request| {
            let namespace = namespace.into();
            Asker::Node { namespace, uid, request, form }
        });
        let cast = nodes::cast(namespace, ask, asker.is_some());
        if form != Form::One {
            return self.deliver(cast, asker);
        }
        // Whoever has the socket answers: it is looked for first.
        let reach = cast.reach.clone();
        if asker.is_some() {
            self.deliver(Cast { reach, deed: Deed::Fetch(0) }, asker);
        }
        self.deliver(cast, None);
    }

    /// Passes another server's cast to the shards. Who wants an answer to what has none, or gives
    /// no way to answer what has one, is not answered.
    fn deliver(&self, mut cast: Cast, asker: Option<Asker>) {
        let mut request = None;
        if let Some((kind, _)) = Kind::of(&cast.deed) {
            let Some(asker) = asker else { return };
            let shards = self.office.shards.len();
            let mut state = self.state.borrow_mut();
            let number = state.gatherings.begin(asker, kind, shards, Instant::now());
            let Some(number) = number else { return };
            nodes::renumber(&mut cast.deed, number);
            request = Some(number);
        }
        self.tell([(0, News::Cast { cast: Arc::new(cast), request })]);
    }
}
