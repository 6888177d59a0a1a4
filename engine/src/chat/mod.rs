//! The chat application: rooms with presence, messages, typing, screen sharing and signalling.
//!
//! One file per thing a client may ask for. Each has up to two halves: what the socket's shard
//! checks and asks (`on_event`), and what the room's home decides (`on_request`). Whatever goes
//! wrong is told in the acknowledgement; no bad input closes a connection here.

mod error;
mod history;
mod join;
mod json;
mod leave;
mod message;
mod names;
mod participant;
mod participants;
mod presence;
mod screen;
mod signal;
#[cfg(test)]
mod tests;
mod typing;
mod update;

use std::sync::Arc;

use serde_json::Value;
use throng_bridge::{Draft, Message, Page, Users};
use throng_protocol::json::depth_within;

use crate::app::{Answer, App, Detail, Event, Handshake, Reaped, Refusal, Room, Socket};
use crate::codec::Packet;
use crate::config::Config;
use crate::ids::Sid;
use crate::limiter::Limiter;
use crate::limits::JSON_DEPTH_MAX;
use crate::metrics::Cells;

use error::Error;
use names::Names;
pub use participant::{Identity, Participant};
use presence::Changes;

/// The application, one per shard.
pub struct Chat {
    config: Arc<Config>,
    limiter: Arc<Limiter>,
    cells: Arc<Cells>,
    names: Names,
    users: Option<Users>,
}

/// What a room's home keeps beside its participants.
#[derive(Default)]
pub struct ChatRoom {
    changes: Changes,
    /// Who shares a screen.
    sharers: Vec<Sid>,
}

/// What a socket's shard asks of a room's home.
pub enum Request {
    /// `join`
    Join(Box<join::Join>),
    /// `leave`, with the ack id.
    Leave(Option<u64>),
    /// `message`
    Message(Box<message::Write>),
    /// `typing`: whether.
    Typing(bool),
    /// `screen`: whether, and the ack id.
    Screen(bool, Option<u64>),
    /// `update`: the metadata, and the ack id.
    Update(Option<Box<str>>, Option<u64>),
    /// `history`
    History(history::Query),
    /// `participants`
    Participants(participants::Query),
}

/// What an answer of the bridge is for.
pub enum Ticket {
    /// A message of this socket, with the ack id.
    Message(Sid, Option<u64>),
    /// Whether this one, who wants to join, knows the room's password; with its hash.
    Password(Sid, Box<join::Join>, Option<Box<str>>),
    /// The messages that the answer to a `join` carries, with the ack id and the last of them.
    Join(Sid, u64, u64),
    /// `history`, with the ack id.
    History(Sid, u64),
}

type ChatSocket<'a, 'b> = &'a mut Socket<'b, Chat>;
type ChatRoomRef<'a, 'b> = &'a mut Room<'b, Chat>;

impl Chat {
    /// The application of one shard. `users`: where to note who was here, if that is kept.
    pub fn new(
        config: &Arc<Config>,
        limiter: &Arc<Limiter>,
        cells: &Arc<Cells>,
        users: Option<Users>,
    ) -> Self {
        Self {
            names: Names::new(config),
            config: Arc::clone(config),
            limiter: Arc::clone(limiter),
            cells: Arc::clone(cells),
            users,
        }
    }

    /// Notes that a user is here, with what it says of itself. A guest is nobody to be remembered.
    fn note(&self, identity: &Identity, metadata: Option<&str>) {
        if let Some(users) = &self.users
            && !identity.is_guest()
        {
            users.note(identity.user(), identity.name(), metadata);
        }
    }

    fn dispatch(&mut self, socket: ChatSocket<'_, '_>, event: Event<'_>) -> Result<(), Error> {
        if !depth_within(event.args, JSON_DEPTH_MAX) {
            return Err(Error::Invalid("nested too deep"));
        }
        match event.name {
            "message" => message::on_event(self, socket, event),
            "typing" => typing::on_event(self, socket, event),
            "join" => join::on_event(socket, event),
            "leave" => leave::on_event(socket, event),
            "signal" => signal::on_event(self, socket, event),
            "screen" => screen::on_event(socket, event),
            "update" => update::on_event(socket, event),
            "history" => history::on_event(socket, event),
            "participants" => participants::on_event(socket, event),
            _ => Err(Error::UnknownEvent),
        }
    }
}

impl App for Chat {
    type Session = Identity;
    type Member = Participant;
    type Room = ChatRoom;
    type Request = Request;
    type Ticket = Ticket;

    fn connect(&mut self, handshake: &Handshake<'_>) -> Result<Identity, Refusal> {
        let identity = self.names.identify(handshake.sid, handshake.auth)?;
        self.note(&identity, None);
        Ok(identity)
    }

    fn resume(&mut self, handshake: &Handshake<'_>, session: &mut Identity) -> Result<(), Refusal> {
        let identity = self.connect(handshake)?;
        // A guest without a name comes back as the guest it was.
        if identity.user() == session.user() || identity.is_guest() {
            return Ok(());
        }
        Err(Refusal::coded("forbidden", "another user's connection"))
    }

    fn member(&mut self, _sid: Sid, session: &Identity) -> Participant {
        let identity = session.clone();
        Participant { identity, metadata: None, joined_at_ms: 0, sharing: false }
    }

    fn event(&mut self, socket: &mut Socket<'_, Self>, event: Event<'_>) {
        if let Err(error) = self.dispatch(socket, event) {
            if error == Error::RateLimited {
                self.cells.refused_rate.add(1);
            }
            if let Some(id) = event.ack {
                socket.ack(id, &error.to_json());
            }
        }
    }

    fn opens(request: &Request) -> bool {
        matches!(request, Request::Join(_))
    }

    fn disconnect(&mut self, _sid: Sid, session: &mut Identity, _reason: &'static str) {
        self.note(session, None);
    }

    fn request(&mut self, room: &mut Room<'_, Self>, from: Sid, request: Request) {
        let (result, ack) = match request {
            Request::Join(join) => return join::on_request(self, room, from, *join),
            Request::Message(write) => {
                let ack = write.ack;
                (message::on_request(room, from, *write), ack)
            }
            Request::Leave(ack) => (leave::on_request(self, room, from, ack), ack),
            Request::Typing(typing) => return typing::on_request(room, from, typing),
            Request::Screen(sharing, ack) => (screen::on_request(room, from, sharing, ack), ack),
            Request::Update(metadata, ack) => {
                (update::on_request(self, room, from, metadata, ack), ack)
            }
            Request::History(query) => (history::on_request(room, from, query), Some(query.ack)),
            Request::Participants(query) => {
                let ack = Some(query.ack);
                (participants::on_request(room, from, query), ack)
            }
        };
        if let Err(error) = result {
            if error == Error::Unavailable {
                self.cells.refused_unavailable.add(1);
            }
            if let Some(id) = ack {
                room.send(from, Packet::ack(id, &error.to_json()));
            }
        }
    }

    fn joined(&mut self, room: &mut Room<'_, Self>, sid: Sid) {
        let now_ms = room.now().wall_ms;
        if let Some(member) = room.member_mut(sid) {
            member.joined_at_ms = now_ms;
        }
        presence::on_changed(self, room, sid, true);
        room.share(sid);
    }

    fn left(&mut self, room: &mut Room<'_, Self>, sid: Sid, member: &Participant) {
        if member.sharing {
            screen::stop(room, sid, member);
        }
        presence::on_left(self, room, sid);
    }

    fn returned(&mut self, room: &mut Room<'_, Self>, sid: Sid) {
        if let Some(member) = room.member_mut(sid) {
            member.sharing = false;
        }
        presence::on_changed(self, room, sid, true);
    }

    fn returns() -> bool {
        true
    }

    fn restore(&mut self, handshake: &Handshake<'_>, data: &str) -> Result<Identity, Refusal> {
        let known = Identity::parse(data).ok_or_else(|| Refusal::new("nobody was here"))?;
        let mut session = known;
        self.resume(handshake, &mut session)?;
        Ok(session)
    }

    fn session_data(session: &Identity) -> String {
        session.to_json()
    }

    fn user(session: &Identity) -> Option<&str> {
        (!session.is_guest()).then(|| session.user())
    }

    fn moving(member: &mut Participant) {
        member.sharing = false;
    }

    fn moved_in(&mut self, room: &mut Room<'_, Self>, sid: Sid) {
        presence::on_changed(self, room, sid, true);
    }

    fn lost(&mut self, room: &mut Room<'_, Self>, sid: Sid) {
        let packet = message::broken_packet(room);
        room.send(sid, packet);
    }

    fn export(sid: Sid, member: &Participant) -> Option<String> {
        let mut out = String::new();
        member.push_json(sid, &mut out);
        Some(out)
    }

    fn import(json: &str) -> Option<Participant> {
        Participant::parse(json)
    }

    fn met(&mut self, room: &mut Room<'_, Self>, sid: Sid) {
        if room.member(sid).is_some_and(|member| member.sharing) {
            room.state_mut().sharers.push(sid);
        }
    }

    fn entered(&mut self, room: &mut Room<'_, Self>, sid: Sid, known: Option<Participant>) {
        let Some(member) = room.member(sid).cloned() else { return };
        let (had, shared) = (known.is_some(), known.as_ref().is_some_and(|it| it.sharing));
        if shared != member.sharing {
            screen::on_changed(room, sid, &member);
        }
        if known.is_none_or(|known| known.metadata != member.metadata) {
            presence::on_changed(self, room, sid, !had);
        }
    }

    fn reaped(&self, room: &str, gone: &Reaped<Participant>) -> Vec<Packet> {
        let stopped = gone.members.iter().filter_map(|(sid, member)| {
            let member = member.as_ref().filter(|it| it.sharing)?;
            Some(screen::packet(room, (*sid, &member.identity), false))
        });
        stopped.chain(presence::reaped(room, gone)).collect()
    }

    fn restored(&mut self, room: &mut Room<'_, Self>, sids: &[Sid]) {
        if room.speaks_to_nodes() {
            presence::tell_nodes_again(room, sids);
            screen::tell_nodes_again(room, sids);
        }
    }

    fn broken(&mut self, room: &mut Room<'_, Self>) {
        message::tell_broken(room);
    }

    fn replay(&self, room: &str, message: &Message) -> Option<Packet> {
        Some(message::packet(room, message))
    }

    fn published(&mut self, room: &mut Room<'_, Self>, message: &Message) {
        self.cells.messages_published.add(1);
        message::deliver(room, message);
    }

    fn answered(&mut self, room: &mut Room<'_, Self>, ticket: Ticket, answer: Answer) {
        match (ticket, answer) {
            (Ticket::Message(from, ack), Answer::Published(message, repeated)) => {
                self.cells.messages_repeated.add(repeated.into());
                if let Some(ack) = ack {
                    message::acknowledge(room, from, ack, &message);
                }
            }
            (Ticket::Message(from, ack), Answer::Unsettled) => {
                self.cells.refused_unavailable.add(1);
                if let Some(ack) = ack {
                    room.send(from, Packet::ack(ack, &Error::Unavailable.to_json()));
                }
            }
            (Ticket::Password(from, join, hash), Answer::Verified(right)) => {
                join::on_verified(self, room, from, *join, (hash, right));
            }
            (Ticket::Join(to, ack, last_seq), Answer::Read(page)) => {
                join::answer(room, to, ack, Page { last_seq, ..page });
            }
            (Ticket::History(to, ack), Answer::Read(page)) => history::answer(room, to, ack, page),
            _ => unreachable!("the bridge answers what it was asked"),
        }
    }

    fn closing(&mut self, room: &mut Room<'_, Self>) {
        presence::announce(room);
    }

    fn due(&mut self, room: &mut Room<'_, Self>) {
        presence::announce(room);
    }

    fn describe(&self, room: &Room<'_, Self>, detail: Detail) -> Value {
        participants::describe(room, detail)
    }
}

/// The parts of a message that its writer gave.
fn draft(from: Sid, author: &Participant, write: message::Write) -> Draft {
    let message::Write { body, attachments, client_id, ack: _ } = write;
    Draft { from: author.author(from), body, attachments, client_id }
}
