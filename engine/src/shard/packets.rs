//! Engine.IO and Socket.IO packets of a connection, up to the application.

use std::sync::Arc;

use throng_protocol::engineio::{self, PacketType};
use throng_protocol::socketio::{self, Kind, Packet};
use throng_ring::Frame;

use super::Core;
use crate::app::{self, App, Outgoing, Rooms};
use crate::close::Reason;
use crate::codec::{self, NAMESPACE};
use crate::ids::{RoomId, Sid, home_of};
use crate::outbox::Class;
use crate::room::{LocalRooms, Membership};
use crate::table::{Link, Socket};

impl<A: App> Core<A> {
    /// One Engine.IO text packet; a reason to close the connection, if there is one.
    pub(super) fn on_packet(
        &mut self,
        slot: u32,
        link: &mut Link<A>,
        text: &str,
    ) -> Option<Reason> {
        let Ok((kind, data)) = engineio::decode_text(text) else { return Some(Reason::BadPacket) };
        match kind {
            PacketType::Message => {
                let assembled = link.assembler.text(data, &self.bounds.packets);
                match assembled {
                    Ok(Some(packet)) => self.on_socket_packet(slot, link, packet),
                    Ok(None) => None,
                    Err(_) => Some(Reason::BadPacket),
                }
            }
            PacketType::Pong => {
                self.cells.pongs_received.add(1);
                link.heartbeat.on_pong(self.now.ms(), &self.bounds.timing);
                self.rearm(slot, link);
                None
            }
            PacketType::Close => Some(Reason::Peer),
            // A client's ping is of Engine.IO's previous revision.
            PacketType::Ping => Some(Reason::BadPacket),
            PacketType::Open | PacketType::Upgrade | PacketType::Noop => None,
        }
    }

    /// One binary message: an attachment that an earlier packet announced.
    pub(super) fn on_attachment(
        &mut self,
        slot: u32,
        link: &mut Link<A>,
        bytes: &[u8],
    ) -> Option<Reason> {
        let mut assembler = std::mem::take(&mut link.assembler);
        let mut end = None;
        let limits = self.bounds.packets;
        let read = assembler.binary(bytes, &limits, |packet| {
            end = self.on_socket_packet(slot, link, packet);
        });
        link.assembler = assembler;
        if read.is_err() { Some(Reason::BadPacket) } else { end }
    }

    fn rearm(&mut self, slot: u32, link: &Link<A>) {
        if link.socket.is_some() {
            self.wheel.arm(slot, link.heartbeat.deadline_ms());
        }
    }

    fn on_socket_packet(
        &mut self,
        slot: u32,
        link: &mut Link<A>,
        packet: Packet<'_>,
    ) -> Option<Reason> {
        let ours = packet.namespace == NAMESPACE;
        match (packet.kind, &mut link.socket) {
            (Kind::Connect, _) if !ours => {
                let name = packet.namespace;
                let frame = codec::connect_error_frame(name, "Invalid namespace", None);
                let queued = self.queue(slot, Frame::new(frame), Class::Reply);
                (!queued).then_some(Reason::SlowConsumer)
            }
            (Kind::Connect, None) => self.on_connect(slot, link, packet.data),
            (Kind::Event | Kind::BinaryEvent, Some(socket)) if ours => {
                self.on_event_packet(slot, socket, packet)
            }
            (Kind::Ack | Kind::BinaryAck, Some(socket)) if ours => {
                // Answers without an id, or to nothing that was asked, are ignored.
                let id = packet.id?;
                let args = packet.data.strip_prefix('[').and_then(|it| it.strip_suffix(']'))?;
                self.with_socket(slot, socket, |app, socket| app.acknowledged(socket, id, args))
            }
            (Kind::Disconnect, Some(_)) if ours => {
                let socket = link.socket.take()?;
                self.detach(slot, socket, "client namespace disconnect");
                self.route();
                None
            }
            // A second CONNECT, or anything before the first, for another namespace, or that only
            // servers send.
            _ => Some(Reason::BadPacket),
        }
    }

    fn on_connect(&mut self, slot: u32, link: &mut Link<A>, auth: &str) -> Option<Reason> {
        let nonce = self.entropy.number() >> 16;
        let sid = Sid::new(self.host, self.mesh.index(), slot, nonce);
        let auth = if auth.is_empty() { "{}" } else { auth };
        let frame = match self.app.connect(self.now, sid, auth) {
            Ok(session) => {
                let memberships = Vec::new();
                link.socket = Some(Socket { sid, joining: 0, memberships, session });
                self.cells.sockets.add(1);
                self.rearm(slot, link);
                codec::connect_frame(sid.encode().as_str())
            }
            Err(refusal) => {
                self.cells.refused_connect.add(1);
                let data = serde_json::json!({"code": refusal.code}).to_string();
                codec::connect_error_frame(NAMESPACE, &refusal.message, Some(&data))
            }
        };
        let queued = self.queue(slot, Frame::new(frame), Class::Reply);
        (!queued).then_some(Reason::SlowConsumer)
    }

    fn on_event_packet(
        &mut self,
        slot: u32,
        socket: &mut Socket<A>,
        packet: Packet<'_>,
    ) -> Option<Reason> {
        let Ok(event) = socketio::Event::parse(packet.data) else { return Some(Reason::BadPacket) };
        self.cells.events_received.add(1);
        let event = app::Event {
            name: &event.name,
            args: event.args,
            attachments: packet.attachments,
            ack: packet.id,
        };
        self.with_socket(slot, socket, |app, socket| app.event(socket, event))
    }

    /// Lets the application handle a socket, and queues what it answers.
    fn with_socket(
        &mut self,
        slot: u32,
        socket: &mut Socket<A>,
        handle: impl FnOnce(&mut A, &mut app::Socket<'_, A>),
    ) -> Option<Reason> {
        let mut frames = std::mem::take(&mut self.frames);
        let mut rooms = RoomsOf {
            local: &self.local,
            memberships: &socket.memberships,
            joining: &mut socket.joining,
            rooms_max: self.config.rooms_per_socket_max,
            shards: self.mesh.shards(),
            host: self.host,
        };
        let out: &mut Outgoing<A> = &mut self.out;
        let mut handled = app::Socket {
            sid: socket.sid,
            session: &mut socket.session,
            rooms: &mut rooms,
            out,
            frames: &mut frames,
            ack_id: &mut self.ack_id,
            now: self.now,
        };
        handle(&mut self.app, &mut handled);
        let end = self.reply(slot, &mut frames);
        self.frames = frames;
        end
    }
}

/// What a socket knows of its rooms, while it is handled.
struct RoomsOf<'a> {
    local: &'a LocalRooms,
    memberships: &'a [Membership],
    joining: &'a mut u16,
    rooms_max: usize,
    shards: u16,
    host: u32,
}

impl Rooms for RoomsOf<'_> {
    fn find(&self, name: &str) -> Option<RoomId> {
        let (index, id) = self.local.find(name)?;
        self.memberships.iter().any(|it| it.room == index).then_some(id)
    }

    fn names(&self) -> Vec<Arc<str>> {
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

    fn home_of(&self, name: &str) -> u16 {
        home_of(name, self.shards)
    }

    fn reaches(&self, sid: Sid) -> bool {
        sid.host() == self.host && sid.shard() < self.shards
    }
}
