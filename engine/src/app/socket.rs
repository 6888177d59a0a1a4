//! The socket that an event came from, in the application's hands.

use std::sync::Arc;

use super::cast::{Cast, Facts, Io};
use super::collect::Collections;
use super::envelope::{Ask, Envelope, Outgoing, Relay, RoomRef};
use super::namespace::{room_key, split_key};
use super::{App, Audience};
use crate::clock::Now;
use crate::codec::Packet;
use crate::ids::{RoomId, Sid, home_of};

/// What the shard lends an application with a socket.
pub struct SocketParts<'a, A: App> {
    /// Where it is.
    pub facts: Facts,
    /// The time of this turn.
    pub now: Now,
    /// Its id.
    pub sid: Sid,
    /// Its namespace.
    pub namespace: &'a str,
    /// Whether it came back within the recovery window.
    pub recovered: bool,
    /// What the application keeps for it.
    pub session: &'a mut A::Session,
    /// Its rooms.
    pub rooms: &'a mut dyn Rooms,
    /// Envelopes being written.
    pub out: &'a mut Outgoing<A>,
    /// Packets for this very socket, with the id of the answer that is wanted.
    pub packets: &'a mut Vec<(Packet, Option<u64>)>,
    /// The last of those ids.
    pub ack_id: &'a mut u64,
    /// What the shard's applications collect.
    pub collections: &'a mut Collections<A>,
}

/// The socket that an event came from, on its own shard.
pub struct Socket<'a, A: App>(pub SocketParts<'a, A>);

/// What a socket knows of its rooms; rooms by their keys.
pub trait Rooms {
    /// The id of a room that it is in.
    fn find(&self, key: &str) -> Option<RoomId>;
    /// The keys of all its rooms.
    fn keys(&self) -> Vec<Arc<str>>;
    /// Notes that it is about to join; false if it may not join any more.
    fn note_join(&mut self) -> bool;
}

/// The socket is in as many rooms as it may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyRooms;

impl<A: App> Socket<'_, A> {
    /// Its id, which is also its address.
    pub fn sid(&self) -> Sid {
        self.0.sid
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.0.namespace
    }

    /// Whether it came back within the recovery window: same id, same session, same rooms, and
    /// nothing missed.
    pub fn is_recovered(&self) -> bool {
        self.0.recovered
    }

    /// What the application keeps for it: its data.
    pub fn session(&self) -> &A::Session {
        self.0.session
    }

    /// What the application keeps for it, to be changed.
    pub fn session_mut(&mut self) -> &mut A::Session {
        self.0.session
    }

    /// The time of this turn.
    pub fn now(&self) -> Now {
        self.0.now
    }

    /// Whether it is a member of the room, as far as its shard knows.
    pub fn is_in(&self, room: &str) -> bool {
        self.0.rooms.find(&room_key(self.0.namespace, room)).is_some()
    }

    /// The names of the rooms it is in.
    pub fn rooms(&self) -> Vec<Arc<str>> {
        self.0.rooms.keys().iter().map(|key| split_key(key).1.into()).collect()
    }

    /// Answers an event; `args` is JSON, separated by commas.
    pub fn ack(&mut self, id: u64, args: &str) {
        self.ack_binary(id, args, &[]);
    }

    /// Answers an event with binary parts, which placeholders in `args` refer to.
    pub fn ack_binary(&mut self, id: u64, args: &str, attachments: &[Box<[u8]>]) {
        self.0.packets.push((Packet::ack_with(id, args, attachments), None));
    }

    /// Sends an event to this socket.
    pub fn emit(&mut self, name: &str, args: &str) {
        self.emit_binary(name, args, &[]);
    }

    /// Sends an event with binary parts, which placeholders in `args` refer to.
    pub fn emit_binary(&mut self, name: &str, args: &str, attachments: &[Box<[u8]>]) {
        self.0.packets.push((Packet::event_with(name, args, attachments), None));
    }

    /// Sends an event that the client shall answer; see [`App::acknowledged`].
    pub fn emit_with_ack(&mut self, name: &str, args: &str) -> u64 {
        *self.0.ack_id += 1;
        self.0.packets.push((Packet::event(name, args), Some(*self.0.ack_id)));
        *self.0.ack_id
    }

    /// Joins a room; with `ack`, the client gets an empty ack once it is in.
    ///
    /// # Errors
    /// When it is in as many rooms as it may be.
    pub fn join(
        &mut self,
        room: &str,
        member: A::Member,
        ack: Option<u64>,
    ) -> Result<(), TooManyRooms> {
        if !self.0.rooms.note_join() {
            return Err(TooManyRooms);
        }
        self.ask_by_name(room, Ask::Join(member, ack));
        Ok(())
    }

    /// Leaves a room; with `ack`, the client gets an empty ack once it is out.
    pub fn leave(&mut self, room: &str, ack: Option<u64>) {
        self.ask(room, Ask::Leave(ack));
    }

    /// Sends an event to the members of a room, in the room's order; a room without members
    /// receives nothing. Anyone may broadcast: whether a member must be is for the application.
    pub fn broadcast(&mut self, room: &str, name: &str, args: &str, audience: Audience) {
        self.ask(room, Ask::Broadcast(Packet::event(name, args), audience));
    }

    /// The whole namespace, this socket included.
    pub fn io(&mut self) -> Io<'_, A> {
        let SocketParts { facts, now, namespace, out, collections, .. } = &mut self.0;
        Io { facts: *facts, now: *now, namespace, out, collections }
    }

    /// Others in a room.
    pub fn to(&mut self, room: &str) -> Cast<'_, A> {
        self.others().to(room)
    }

    /// All others in the namespace.
    pub fn others(&mut self) -> Cast<'_, A> {
        let own = self.0.sid.encode();
        let SocketParts { facts, now, namespace, out, collections, .. } = &mut self.0;
        Cast::begin(Io { facts: *facts, now: *now, namespace, out, collections })
            .except(own.as_str())
    }

    /// Asks the room's home something of the application's own.
    pub fn request(&mut self, room: &str, request: A::Request) {
        self.ask(room, Ask::App(request));
    }

    /// Like [`Socket::request`], for requests that may end in [`super::Room::admit`] or
    /// [`super::Room::decline`], one of which must follow.
    ///
    /// # Errors
    /// When it is in as many rooms as it may be.
    pub fn request_to_join(&mut self, room: &str, request: A::Request) -> Result<(), TooManyRooms> {
        if !self.0.rooms.note_join() {
            return Err(TooManyRooms);
        }
        self.ask_by_name(room, Ask::App(request));
        Ok(())
    }

    /// Passes a request on to a room this socket is in, or was until a moment ago: one that has
    /// closed meanwhile is opened again.
    pub fn request_again(&mut self, room: &str, request: A::Request) {
        self.ask_by_name(room, Ask::App(request));
    }

    /// Passes a packet on to any socket, on whichever host.
    pub fn relay(&mut self, relay: Relay) {
        let Facts { shard, shards, host, shared } = self.0.facts;
        let is_here = relay.to.host() == host;
        if is_here && relay.to.shard() < shards {
            self.0.out.push((relay.to.shard(), Envelope::Relay(Box::new(relay))));
        } else if !is_here && shared {
            self.0.out.push((shard, Envelope::Relay(Box::new(relay))));
        } else {
            self.0.packets.extend(relay.missing.map(|packet| (packet, None)));
        }
    }

    /// Disconnects this socket from its namespace; with `close`, its connection ends too.
    pub fn disconnect(&mut self, close: bool) {
        let to = self.0.sid;
        self.0.out.push((to.shard(), Envelope::Disconnect { to, close }));
    }

    fn ask(&mut self, name: &str, ask: Ask<A>) {
        let key = room_key(self.0.namespace, name);
        match self.0.rooms.find(&key) {
            Some(id) => self.ask_home(id.home(), RoomRef::Id(id), ask),
            None => self.ask_by_name(name, ask),
        }
    }

    /// Asks a room that may have to be opened, as one must be that has just closed.
    fn ask_by_name(&mut self, name: &str, ask: Ask<A>) {
        let key = room_key(self.0.namespace, name);
        let home = home_of(&key, self.0.facts.shards);
        self.ask_home(home, RoomRef::Name(key.as_ref().into()), ask);
    }

    fn ask_home(&mut self, home: u16, room: RoomRef, ask: Ask<A>) {
        let (from, since_ns) = (self.0.sid, self.0.now.ns);
        self.0.out.push((home, Envelope::Ask { room, from, ask, since_ns }));
    }
}
