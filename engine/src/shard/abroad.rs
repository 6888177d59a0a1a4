//! What a shard has to do with other hosts: packets for single sockets there, casts, users.

use std::sync::Arc;

use hashbrown::HashMap;
use serde_json::{Value, json};
use throng_bridge::Ticket;
use throng_bridge::fleet::{Cast, CastAnswer, Deed as FleetDeed, HostId, News, Reach, Word};

use super::Core;
use super::returns::Returning;
use crate::app::{App, Collector, Deed, Envelope, Io, Notice, Relay, Spread, room_key, split_key};
use crate::clock::has_come;
use crate::codec::Packet;
use crate::ids::Sid;
use crate::limits::{RELAY_MS, RELAYS_MAX};
use crate::spaces::Namespace;
use crate::table::Phase;

/// What waits for other hosts.
#[derive(Default)]
pub(super) struct Abroad {
    numbers: u64,
    /// By number.
    relays: HashMap<u64, Waiting>,
    /// Clients that say they were on another host.
    pub(super) returning: HashMap<Ticket, Returning>,
    /// The private ids of those that have waited too long, and until when an answer may come.
    pub(super) late: HashMap<Ticket, (Box<str>, u32)>,
    /// How many connections each user has on this shard.
    users: HashMap<Box<str>, u32>,
}

/// Who waits for what became of a packet.
struct Waiting {
    from: Sid,
    delivered: Option<Packet>,
    missing: Option<Packet>,
    until_ms: u32,
}

impl Abroad {
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl<A: App> Core<A> {
    /// What the fleet has told that is no room's.
    pub(super) fn on_news(&mut self, news: News) {
        match news {
            News::Told { from, words } => {
                let Some(notice) = Notice::read(&words) else { return };
                let shard = match &notice {
                    Notice::Relay { to, .. } | Notice::Moved { sid: to } => to.shard(),
                    Notice::Relayed { shard, .. } => *shard,
                };
                if shard < self.mesh.shards() {
                    self.out.push((shard, Envelope::Notice(from, Box::new(notice))));
                }
            }
            News::Untold { words, .. } => {
                if let Some(Notice::Relay { id, .. }) = Notice::read(&words) {
                    self.on_relayed(id, false);
                }
            }
            News::Cast { cast, request } => self.on_fleet_cast(&cast, request),
            News::Answered { id, answer } => self.on_fleet_answer(id, answer),
            News::Recovered { ticket, found } => self.on_recovered(ticket, found),
            // Rooms' homes have taken theirs, and the port has.
            News::Orphaned { .. } | News::Reaped { .. } => {}
            News::Roster { .. } | News::Entered { .. } | News::Left { .. } | News::Said { .. } => {}
        }
    }

    /// Another host tells this shard something about a socket.
    pub(super) fn on_notice(&mut self, from: HostId, notice: Notice) {
        match notice {
            Notice::Relay { id, shard, to, packet } => {
                let delivered = self.is_connected(to);
                if delivered {
                    self.say_to(to, packet);
                }
                self.tell_host(from, shard, &Notice::Relayed { id, shard, delivered });
            }
            Notice::Relayed { id, delivered, .. } => self.on_relayed(id, delivered),
            Notice::Moved { sid } => self.on_moved_abroad(sid),
        }
    }

    pub(super) fn tell_host(&mut self, host: HostId, shard: u16, notice: &Notice) {
        self.homes.tell(Word::Tell { host, shard, words: notice.write().into() });
    }

    /// Passes a packet on to a socket of another host.
    pub(super) fn relay_abroad(&mut self, relay: Relay) {
        let Relay { to, packet, from, delivered, missing } = relay;
        if self.abroad.relays.len() >= RELAYS_MAX {
            return self.answer_relay(from, missing);
        }
        let id = self.abroad.number();
        let until_ms = self.now.ms().wrapping_add(RELAY_MS);
        self.abroad.relays.insert(id, Waiting { from, delivered, missing, until_ms });
        let shard = self.mesh.index();
        self.tell_host(to.host(), to.shard(), &Notice::Relay { id, shard, to, packet });
    }

    fn on_relayed(&mut self, id: u64, was_delivered: bool) {
        let Some(waiting) = self.abroad.relays.remove(&id) else { return };
        let Waiting { from, delivered, missing, .. } = waiting;
        self.answer_relay(from, if was_delivered { delivered } else { missing });
    }

    fn answer_relay(&mut self, from: Sid, answer: Option<Packet>) {
        if let Some(packet) = answer {
            self.out.push((from.shard(), Envelope::Send { to: from, packet }));
        }
    }

    /// Gives up what has waited too long: its host may have died.
    pub(super) fn sweep_abroad(&mut self) {
        let now_ms = self.now.ms();
        let late =
            |(id, waiting): (&u64, &Waiting)| has_come(waiting.until_ms, now_ms).then_some(*id);
        let late: Vec<u64> = self.abroad.relays.iter().filter_map(late).collect();
        for id in late {
            self.on_relayed(id, false);
        }
        self.sweep_returning();
        self.route();
    }

    /// A user has a connection more, or less.
    pub(super) fn note_user(&mut self, session: &A::Session, is_more: bool) {
        let Some(id) = A::user(session).filter(|_| self.homes.is_shared()) else { return };
        let count = self.abroad.users.entry(id.into()).or_default();
        *count = if is_more { *count + 1 } else { count.saturating_sub(1) };
        let connections = *count;
        if connections == 0 {
            self.abroad.users.remove(id);
        }
        let shard = self.mesh.index();
        self.homes.tell(Word::User { id: id.into(), connections, shard });
    }

    /// A socket has come or is gone: where the adapter wants it, the fleet is told.
    pub(super) fn tell_socket(&mut self, sid: Sid, namespace: Namespace, is_open: bool) {
        if self.config.socketio_adapter.hears_of_sockets() {
            let namespace = Arc::clone(self.spaces.name(namespace));
            let id = sid.encode().as_str().into();
            self.homes.tell(Word::Socket { namespace, id, is_open });
        }
    }

    /// Counts a socket into a namespace. Node servers reach those in a new one from then on, also
    /// where no room is.
    pub(super) fn enter_space(&mut self, name: &str) -> Option<Namespace> {
        let is_new = self.spaces.find(name).is_none();
        let namespace = self.spaces.enter(name)?;
        if is_new && self.homes.speaks_to_nodes() {
            let reach = Reach { namespace: name.into(), ..Reach::default() };
            let cast = Arc::new(Cast { reach, deed: FleetDeed::Join(vec![]) });
            self.homes.tell(Word::Cast { cast, to_hosts: false, to_nodes: true });
        }
        Some(namespace)
    }

    /// Passes a cast of this host's application to all other servers.
    pub(super) fn cast_abroad(&mut self, spread: &Spread) {
        if spread.is_local || !self.homes.is_shared() {
            return;
        }
        let names = |keys: &[Arc<str>]| keys.iter().map(|key| split_key(key).1.into()).collect();
        let reach = Reach {
            namespace: spread.namespace.as_ref().into(),
            rooms: names(&spread.rooms),
            except: names(&spread.except),
        };
        let deed = match &spread.deed {
            Deed::Emit { packet, volatile, answers } => FleetDeed::Emit {
                args: packet.event_text().into(),
                attachments: packet.attachments().to_vec(),
                volatile: *volatile,
                answers: match answers {
                    Some((collector, timeout_ms)) => {
                        collector.number().map(|number| (number, *timeout_ms))
                    }
                    None => None,
                },
            },
            Deed::Join(keys) => FleetDeed::Join(names(keys)),
            Deed::Leave(keys) => FleetDeed::Leave(names(keys)),
            Deed::Disconnect(close) => FleetDeed::Disconnect(*close),
            Deed::Fetch(collector) => match collector.number() {
                Some(number) => FleetDeed::Fetch(number),
                None => return,
            },
        };
        let cast = Arc::new(Cast { reach, deed });
        self.homes.tell(Word::Cast { cast, to_hosts: true, to_nodes: true });
    }

    /// Another server's cast, for all shards.
    fn on_fleet_cast(&mut self, cast: &Cast, request: Option<u64>) {
        let Cast { reach, deed } = cast;
        let host = self.host;
        let key = |name: &str| key_of_name(host, &reach.namespace, name);
        let keys =
            |names: &[Box<str>]| -> Vec<Arc<str>> { names.iter().map(|name| key(name)).collect() };
        let collector = request.map(Collector::Fleet);
        let deed = match deed {
            FleetDeed::Emit { args, attachments, volatile, answers } => {
                let Some(packet) = Packet::from_event_text(args, attachments) else {
                    return self.answer_emptily(request);
                };
                let timeout_ms = answers.map_or(0, |(_, timeout_ms)| timeout_ms);
                let answers = collector.map(|collector| (collector, timeout_ms));
                Deed::Emit { packet, volatile: *volatile, answers }
            }
            FleetDeed::Join(rooms) => Deed::Join(keys(rooms)),
            FleetDeed::Leave(rooms) => Deed::Leave(keys(rooms)),
            FleetDeed::Disconnect(close) => Deed::Disconnect(*close),
            FleetDeed::Fetch(_) => match collector {
                Some(collector) => Deed::Fetch(collector),
                None => return,
            },
            FleetDeed::Rooms(_) => return self.tell_rooms(&reach.namespace, request),
            FleetDeed::ServerSide { args, .. } => {
                return self.on_server_side(&reach.namespace, args, request);
            }
        };
        let spread = Arc::new(Spread {
            namespace: reach.namespace.as_ref().into(),
            rooms: keys(&reach.rooms),
            except: keys(&reach.except),
            deed,
            is_local: true,
            since_ns: self.now.ns,
        });
        for shard in 0..self.mesh.shards() {
            self.out.push((shard, Envelope::Cast(Arc::clone(&spread))));
        }
    }

    /// Nothing can be done here: every shard says so.
    fn answer_emptily(&mut self, request: Option<u64>) {
        for _ in 0..self.mesh.shards() {
            self.answer_fleet(request, CastAnswer::Asked(0));
        }
    }

    pub(super) fn answer_fleet(&mut self, request: Option<u64>, answer: CastAnswer) {
        if let Some(request) = request {
            self.homes.tell(Word::Answer { request, answer });
        }
    }

    /// Asks every shard for the names of its rooms, sockets' own included.
    fn tell_rooms(&mut self, namespace: &str, request: Option<u64>) {
        let Some(request) = request else { return };
        for shard in 0..self.mesh.shards() {
            let ask = Envelope::TellRooms(namespace.into(), Collector::Fleet(request));
            self.out.push((shard, ask));
        }
    }

    pub(super) fn on_tell_rooms(&mut self, namespace: &str, collector: Collector) {
        let mut rooms: Vec<Box<str>> = Vec::new();
        for key in self.local.names() {
            let (space, name) = split_key(key);
            if space == namespace {
                rooms.push(name.into());
            }
        }
        if let Some(space) = self.spaces.find(namespace) {
            for slot in 0..self.table.end() {
                let Some(row) = self.table.row(slot) else { continue };
                if matches!(row.phase, Phase::Away(_)) {
                    continue;
                }
                let sids = row.sockets().filter(|it| it.namespace == space).map(|it| it.sid);
                rooms.extend(sids.map(|sid| sid.encode().as_str().into()));
            }
        }
        self.answer_collector(collector, CastAnswer::Rooms(rooms));
    }

    /// Passes what has been found here to whoever collects it.
    pub(super) fn answer_collector(&mut self, collector: Collector, answer: CastAnswer) {
        match collector {
            Collector::Fleet(request) => self.answer_fleet(Some(request), answer),
            Collector::Shard(shard, id) => self.collect(shard, id, answer),
        }
    }

    fn collect(&mut self, shard: u16, id: u64, answer: CastAnswer) {
        let answers: Vec<Box<str>> = match answer {
            CastAnswer::Asked(count) => {
                return self.out.push((shard, Envelope::Asked { id, count }));
            }
            CastAnswer::Acked(answer, attachments) => {
                let answer = inlined(answer, &attachments);
                return self.out.push((shard, Envelope::Answered { id, answer }));
            }
            CastAnswer::ServerSide(answer) => {
                return self.out.push((shard, Envelope::Answered { id, answer }));
            }
            CastAnswer::Sockets(sockets) => sockets,
            CastAnswer::Rooms(rooms) => rooms.iter().map(|room| quoted(room)).collect(),
        };
        self.out.push((shard, Envelope::Asked { id, count: answers.len() }));
        let answered = answers.into_iter().map(|answer| Envelope::Answered { id, answer });
        self.out.extend(answered.map(|envelope| (shard, envelope)));
    }

    /// A server tells all servers something.
    fn on_server_side(&mut self, namespace: &str, text: &str, request: Option<u64>) {
        let facts = self.facts();
        let mut io = Io {
            namespace,
            facts,
            now: self.now,
            out: &mut self.out,
            collections: &mut self.collections,
        };
        self.app.told(&mut io, text, request);
        self.route();
    }

    fn on_fleet_answer(&mut self, number: u64, answer: CastAnswer) {
        let (shard, id) = Collector::of_number(number);
        if shard < self.mesh.shards() {
            self.collect(shard, id, answer);
        }
    }

    /// Whether a socket is here, with a connection.
    pub(super) fn is_connected(&mut self, sid: Sid) -> bool {
        let row = self.table.find(sid).and_then(|slot| self.table.row(slot));
        row.is_some_and(|row| !matches!(row.phase, Phase::Away(_)))
    }
}

/// What a cast of another server names: a socket of this host, or a room, which may be called as
/// sockets of other hosts are.
fn key_of_name(host: HostId, namespace: &str, name: &str) -> Arc<str> {
    match Sid::parse(name).filter(|sid| sid.host() == host) {
        Some(_) => name.into(),
        None => room_key(namespace, name).into(),
    }
}

/// JSON with its binary parts as `JSON.stringify` has them: `{"type":"Buffer","data":[…]}`.
fn inlined(text: Box<str>, attachments: &[Box<[u8]>]) -> Box<str> {
    if attachments.is_empty() {
        return text;
    }
    match serde_json::from_str(&text) {
        Ok(mut value) => {
            inline(&mut value, attachments);
            value.to_string().into()
        }
        Err(_) => text,
    }
}

fn inline(value: &mut Value, attachments: &[Box<[u8]>]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| inline(item, attachments)),
        Value::Object(fields) if fields.get("_placeholder") == Some(&Value::Bool(true)) => {
            let index = fields.get("num").and_then(Value::as_u64).unwrap_or(u64::MAX);
            let part = usize::try_from(index).ok().and_then(|index| attachments.get(index));
            *value = part.map_or(Value::Null, |part| json!({"type": "Buffer", "data": part}));
        }
        Value::Object(fields) => {
            fields.values_mut().for_each(|item| inline(item, attachments));
        }
        _ => {}
    }
}

/// A JSON string.
fn quoted(text: &str) -> Box<str> {
    Value::from(text).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_this_host_are_sockets() {
        let id = |host| Sid::new(host, 1, 2, 3).encode().as_str().to_owned();
        assert_eq!(*key_of_name(7, "/chat", &id(7)), *id(7));
        assert_eq!(*key_of_name(7, "/chat", &id(8)), *room_key("/chat", &id(8)));
        let pushed = "-NxTq1zZ5vKc8JwQh2Lm";
        assert!(Sid::parse(pushed).is_some(), "other programs make such names, too");
        assert_eq!(*key_of_name(7, "/chat", pushed), *room_key("/chat", pushed));
        assert_eq!(*key_of_name(7, "/", pushed), *pushed);
    }
}
