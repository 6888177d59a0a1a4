//! Engine.IO and Socket.IO packets of a session, up to the application.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use throng_protocol::engineio::{self, PacketType};
use throng_protocol::socketio::{self, Kind, Packet};

use super::Core;
use crate::app::{self, App, Connect, Handshake, Message, Protocol, Rooms, SocketParts};
use crate::clock::has_come;
use crate::close::Reason;
use crate::codec;
use crate::ids::{RoomId, Sid};
use crate::limits::{LEFT_NAMESPACE_MS, NAMESPACES_PER_CONNECTION_MAX};
use crate::outbox::Class;
use crate::recovery::{Past, Read};
use crate::room::{LocalRooms, Membership};
use crate::table::{Link, Socket};

/// Why the packets of a connection are not read on.
#[derive(Debug)]
pub(super) enum Halt {
    /// It ends.
    Close(Reason),
    /// It goes to another shard, where one of its sockets can be recovered; with the CONNECT that
    /// says so.
    Claim { shard: u16, connect: Connect },
}

/// What a CONNECT payload says of a socket that comes back.
#[derive(Deserialize)]
struct Return<'a> {
    #[serde(borrow)]
    pid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    offset: Option<Cow<'a, str>>,
}

/// The private id that a CONNECT payload presents.
pub(super) fn pid_of(auth: &str) -> Option<Box<str>> {
    let Return { pid, .. } = serde_json::from_str(auth).ok()?;
    Some(pid?.into())
}

const BAD_PACKET: Option<Halt> = Some(Halt::Close(Reason::BadPacket));

impl<A: App> Core<A> {
    /// One Engine.IO text packet.
    pub(super) fn on_packet(&mut self, slot: u32, link: &mut Link<A>, text: &str) -> Option<Halt> {
        let Ok((kind, data)) = engineio::decode_text(text) else { return BAD_PACKET };
        match kind {
            PacketType::Message if link.protocol == Protocol::EngineIo => {
                self.on_message(slot, link.protocol, Message::Text(data))
            }
            PacketType::Message => {
                let assembled = link.assembler.text(data, &self.bounds.packets);
                match assembled {
                    Ok(Some(packet)) => self.on_socket_packet(slot, link, packet),
                    Ok(None) => None,
                    Err(_) => BAD_PACKET,
                }
            }
            PacketType::Pong => {
                self.on_pong(slot, link);
                None
            }
            PacketType::Close => Some(Halt::Close(Reason::Peer)),
            // A client's ping is of Engine.IO's previous revision.
            PacketType::Ping => BAD_PACKET,
            PacketType::Open | PacketType::Upgrade | PacketType::Noop => None,
        }
    }

    /// One binary message: an attachment that an earlier packet announced.
    pub(super) fn on_binary(
        &mut self,
        slot: u32,
        link: &mut Link<A>,
        bytes: &[u8],
    ) -> Option<Halt> {
        if link.protocol == Protocol::EngineIo {
            return self.on_message(slot, link.protocol, Message::Binary(bytes));
        }
        let mut assembler = std::mem::take(&mut link.assembler);
        let mut halt = None;
        let limits = self.bounds.packets;
        let read = assembler.binary(bytes, &limits, |packet| {
            halt = self.on_socket_packet(slot, link, packet);
        });
        link.assembler = assembler;
        if read.is_err() { BAD_PACKET } else { halt }
    }

    /// A client answered a ping.
    pub(super) fn on_pong(&mut self, slot: u32, link: &mut Link<A>) {
        self.cells.pongs_received.add(1);
        link.heartbeat.on_pong(self.now.ms(), &self.bounds.timing);
        self.rearm(slot, link);
    }

    fn on_socket_packet(
        &mut self,
        slot: u32,
        link: &mut Link<A>,
        packet: Packet<'_>,
    ) -> Option<Halt> {
        if packet.kind == Kind::Connect {
            return self.on_connect(slot, link, packet.namespace, packet.data);
        }
        let namespace = self.spaces.find(packet.namespace);
        let Some(sid) = namespace.and_then(|it| link.socket_in(it)).map(|socket| socket.sid) else {
            return self.on_stray(link, packet.namespace);
        };
        match packet.kind {
            Kind::Event | Kind::BinaryEvent => {
                let Ok(event) = socketio::Event::parse(packet.data) else { return BAD_PACKET };
                let (name, args, attachments) = (&*event.name, event.args, packet.attachments);
                let event = app::Event { name, args, attachments, ack: packet.id };
                self.on_event_of(slot, link, sid, event)
            }
            Kind::Ack | Kind::BinaryAck => {
                // Answers without an id, or to nothing that was asked, are ignored.
                let id = packet.id?;
                let args = packet.data.strip_prefix('[').and_then(|it| it.strip_suffix(']'))?;
                self.on_answer(slot, link, sid, (id, args), packet.attachments)
            }
            Kind::Disconnect => {
                self.leave_namespace(link, sid, "client namespace disconnect");
                None
            }
            // Only servers send it.
            Kind::Connect | Kind::ConnectError => BAD_PACKET,
        }
    }

    /// A packet for a namespace that the client is not in: it may have crossed the end of that.
    fn on_stray(&mut self, link: &mut Link<A>, namespace: &str) -> Option<Halt> {
        let now_ms = self.now.ms();
        let extra = link.extra.as_deref_mut().map(|extra| &mut extra.left);
        let left = extra.is_some_and(|left| {
            left.retain(|(_, until_ms)| !has_come(*until_ms, now_ms));
            left.iter().any(|(name, _)| **name == *namespace)
        });
        if left { None } else { BAD_PACKET }
    }

    pub(super) fn on_event_of(
        &mut self,
        slot: u32,
        link: &mut Link<A>,
        sid: Sid,
        event: app::Event<'_>,
    ) -> Option<Halt> {
        self.cells.events_received.add(1);
        self.with_socket(slot, link, sid, |app, socket| app.event(socket, event))
    }

    /// A client answered an event.
    pub(super) fn on_answer(
        &mut self,
        slot: u32,
        link: &mut Link<A>,
        sid: Sid,
        (id, args): (u64, &str),
        attachments: &[Box<[u8]>],
    ) -> Option<Halt> {
        if self.on_collected_answer(sid, (id, args), attachments) {
            return None;
        }
        self.with_socket(slot, link, sid, |app, socket| app.acknowledged(socket, id, args))
    }

    /// Ends a socket whose connection stays.
    pub(super) fn leave_namespace(&mut self, link: &mut Link<A>, sid: Sid, reason: &'static str) {
        let Some(socket) = link.take(|socket| socket.sid == sid) else { return };
        let past = link.take_past(sid);
        self.forget_abroad(past);
        let until_ms = self.now.ms().wrapping_add(LEFT_NAMESPACE_MS);
        let name = self.spaces.name(socket.namespace).as_ref().into();
        let left = &mut link.extra().left;
        if left.len() >= NAMESPACES_PER_CONNECTION_MAX {
            left.remove(0);
        }
        left.push((name, until_ms));
        self.dismiss_socket(socket, reason);
        self.route();
    }

    /// A client wants to be in a namespace; `auth` is an object's JSON, or nothing.
    pub(super) fn on_connect(
        &mut self,
        slot: u32,
        link: &mut Link<A>,
        name: &str,
        auth: &str,
    ) -> Option<Halt> {
        let auth = if auth.is_empty() { "{}" } else { auth };
        if !self.namespaces.has(name) || name.chars().any(char::is_control) {
            return self.refuse_connect(slot, name, "Invalid namespace", None);
        }
        if self.spaces.find(name).is_some_and(|it| link.socket_in(it).is_some()) {
            // A second CONNECT.
            return BAD_PACKET;
        }
        if link.sockets().count() >= NAMESPACES_PER_CONNECTION_MAX {
            return self.refuse_connect(slot, name, "Too many namespaces", None);
        }
        if let Some(extra) = &mut link.extra {
            extra.left.retain(|(left, _)| **left != *name);
        }
        let own = self.returning(link, auth);
        if let Some((sid, offset)) = &own {
            if sid.shard() != self.mesh.index() {
                // Who waits for Redis would not be found where the connection goes, nor would what
                // has been found.
                let waits = self.recovered_abroad.is_some() || self.is_returning(slot, None);
                if link.may_move() && !waits {
                    let (namespace, auth) = (name.into(), auth.into());
                    let connect = Connect { namespace, auth, records: Vec::new() };
                    return Some(Halt::Claim { shard: sid.shard(), connect });
                }
            } else if self.was_elsewhere(offset.as_deref()) {
                // What this host still has of it is older than what its client has.
                self.tell_moved(self.host, *sid);
            } else if let Some(halt) =
                self.recover(slot, link, (*sid, offset.as_deref()), (name, auth))
            {
                return halt;
            }
        }
        if let Some(found) = self.recovered_abroad.take() {
            let found = found.and_then(|it| self.connect_recovered(slot, link, (name, auth), *it));
            if let Some(halt) = found {
                return halt;
            }
        } else if self.is_returning(slot, Some(name)) {
            // It has asked already, and was not answered yet.
            return BAD_PACKET;
        } else if own.as_ref().is_none_or(|(sid, offset)| {
            self.was_elsewhere(offset.as_deref()) || self.table.find(*sid).is_none()
        }) && let Some(Return { pid: Some(pid), offset }) =
            self.returning_abroad(link, auth)
        {
            if self.ask_for_session(slot, (name, auth), (&pid, offset.as_deref())) {
                return None;
            }
        } else if own.is_none() {
            return self.connect_anew(slot, link, name, auth);
        }
        self.cells.recovery_refused.add(1);
        self.connect_anew(slot, link, name, auth)
    }

    /// Whether a client has last heard another log than this shard's.
    fn was_elsewhere(&self, offset: Option<&str>) -> bool {
        let read = offset.and_then(|text| self.log.read_offset(text));
        self.remembers_abroad() && matches!(read, Some(Read::Elsewhere(_)))
    }

    /// What a client says of a socket that it had on another host.
    fn returning_abroad<'a>(&self, link: &Link<A>, auth: &'a str) -> Option<Return<'a>> {
        let may = self.remembers_abroad() && link.protocol == Protocol::SocketIo;
        may.then(|| serde_json::from_str(auth).ok()).flatten()
    }

    pub(super) fn new_sid(&mut self, slot: u32) -> Sid {
        let nonce = self.entropy.number() >> 16;
        Sid::new(self.host, self.mesh.index(), slot, nonce)
    }

    /// The socket that a client says it had, and how far it has read, where that can be recovered.
    fn returning(&self, link: &Link<A>, auth: &str) -> Option<(Sid, Option<String>)> {
        if self.config.recovery_window.is_zero() || link.protocol != Protocol::SocketIo {
            return None;
        }
        let Return { pid, offset } = serde_json::from_str(auth).ok()?;
        let sid = self.seal.socket(&pid?)?;
        let here = sid.host() == self.host && sid.shard() < self.mesh.shards();
        here.then(|| (sid, offset.map(Cow::into_owned)))
    }

    fn connect_anew(
        &mut self,
        slot: u32,
        link: &mut Link<A>,
        name: &str,
        auth: &str,
    ) -> Option<Halt> {
        let sid = self.new_sid(slot);
        let handshake = self.handshake(slot, sid, (name, auth));
        let Some(namespace) = self.enter_space(name) else {
            return self.refuse_connect(slot, name, "Too many namespaces", None);
        };
        let session = match self.app.connect(&handshake) {
            Ok(session) => session,
            Err(refusal) => {
                self.spaces.leave(namespace);
                self.cells.refused_connect.add(1);
                let data = refusal.data.map(|data| data.to_string());
                return self.refuse_connect(slot, name, &refusal.message, data.as_deref());
            }
        };
        let recoverable =
            !self.config.recovery_window.is_zero() && link.protocol == Protocol::SocketIo;
        let (recovered, joining, memberships) = (false, 0, Box::default());
        self.note_user(&session, true);
        if recoverable {
            let mut past = Past::new(self.log.position());
            self.begin_session(sid, name, &session, &mut past);
            link.extra().pasts.push((sid, past));
        }
        self.tell_socket(sid, namespace, true);
        link.add(Socket { sid, recovered, joining, namespace, memberships, session });
        self.table.note_moved(sid, slot);
        self.cells.sockets.add(1);
        self.greet(slot, link, sid, name)
    }

    /// Tells a client that it is connected, and then the application.
    pub(super) fn greet(
        &mut self,
        slot: u32,
        link: &mut Link<A>,
        sid: Sid,
        name: &str,
    ) -> Option<Halt> {
        self.rearm(slot, link);
        let pid = link.past(sid).map(|past| match &past.remembered {
            Some(remembered) => remembered.0.clone(),
            None => self.seal.private_id(sid).into(),
        });
        let dialect = self.table.row(slot).map(|row| row.dialect).unwrap_or_default();
        let frame = codec::connect_frame(name, sid.encode().as_str(), pid.as_deref(), dialect);
        if !self.queue(slot, frame, Class::Reply) {
            return Some(Halt::Close(Reason::SlowConsumer));
        }
        self.with_socket(slot, link, sid, |app, socket| app.connected(socket))
    }

    pub(super) fn handshake<'a>(
        &mut self,
        slot: u32,
        sid: Sid,
        (namespace, auth): (&'a str, &'a str),
    ) -> Handshake<'a> {
        let peer = self.table.row(slot).map(|row| row.ip).unwrap_or_default();
        Handshake { now: self.now, sid, namespace, auth, peer }
    }

    fn refuse_connect(
        &mut self,
        slot: u32,
        name: &str,
        message: &str,
        data: Option<&str>,
    ) -> Option<Halt> {
        let dialect = self.table.row(slot).map(|row| row.dialect).unwrap_or_default();
        let frame = codec::connect_error_frame(name, message, data, dialect);
        let queued = self.queue(slot, frame, Class::Reply);
        (!queued).then_some(Halt::Close(Reason::SlowConsumer))
    }

    /// Lets the application handle a socket, and queues what it answers.
    pub(super) fn with_socket(
        &mut self,
        slot: u32,
        link: &mut Link<A>,
        sid: Sid,
        handle: impl FnOnce(&mut A, &mut app::Socket<'_, A>),
    ) -> Option<Halt> {
        let socket = link.sockets().find(|socket| socket.sid == sid)?;
        let mut packets = std::mem::take(&mut self.packets);
        let namespace = Arc::clone(self.spaces.name(socket.namespace));
        let mut rooms = RoomsOf {
            local: &self.local,
            memberships: &socket.memberships,
            joining: &mut socket.joining,
            rooms_max: self.config.rooms_per_socket_max,
        };
        let facts = self.facts();
        handle(
            &mut self.app,
            &mut app::Socket(SocketParts {
                facts,
                now: self.now,
                sid,
                namespace: &namespace,
                recovered: socket.recovered,
                session: &mut socket.session,
                rooms: &mut rooms,
                out: &mut self.out,
                packets: &mut packets,
                ack_id: &mut self.ack_id,
                collections: &mut self.collections,
            }),
        );
        let mut halt = None;
        for (packet, ack) in packets.drain(..) {
            if !self.say(slot, sid, (&namespace, ack), packet) {
                halt = Some(Halt::Close(Reason::SlowConsumer));
            }
        }
        self.packets = packets;
        halt
    }
}

/// What a socket knows of its rooms, while it is handled.
struct RoomsOf<'a> {
    local: &'a LocalRooms,
    memberships: &'a [Membership],
    joining: &'a mut u16,
    rooms_max: usize,
}

impl Rooms for RoomsOf<'_> {
    fn find(&self, key: &str) -> Option<RoomId> {
        let (index, id) = self.local.find(key)?;
        self.memberships.iter().any(|it| it.room == index).then_some(id)
    }

    fn keys(&self) -> Vec<Arc<str>> {
        let rooms = self.memberships.iter().filter_map(|it| self.local.room(it.room));
        rooms.map(|(_, name)| Arc::clone(name)).collect()
    }

    fn note_join(&mut self) -> bool {
        if self.memberships.len() + usize::from(*self.joining) >= self.rooms_max {
            return false;
        }
        *self.joining += 1;
        true
    }
}
