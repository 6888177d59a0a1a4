//! A room in the hands of the application, for as long as it handles one thing.

use std::cmp::Reverse;
use std::sync::Arc;

use throng_bridge::store::RoomSettings;
use throng_bridge::{Draft, Message, Page, Range, Request, Ticket};

use super::parts::{Desk, HomeRoom, Share, Waiter};
use crate::app::{App, Audience, Envelope, Outgoing, split_key};
use crate::clock::Now;
use crate::codec::Packet;
use crate::ids::Sid;
use crate::limits::{ROOM_MEMBERS_MAX, SHOW_INTERVAL_MS, SHOW_MEMBERS_PER_INTERVAL};

/// What [`Room::publish`], [`Room::read`] and [`Room::verify`] are answered with.
#[derive(Debug)]
pub enum Answer {
    /// The message is as safe as was promised. It had been published before where that is so.
    Published(Arc<Message>, bool),
    /// Whether the message is kept is not known; to publish it again, with its id, is safe.
    Unsettled,
    /// The messages asked for.
    Read(Page),
    /// Whether it is the room's password; `None`: that cannot be found out now.
    Verified(Option<bool>),
}

/// The bridge, or a shard that must be told, cannot take more now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unavailable;

/// A room in the hands of the application; see [`App::request`].
pub struct Room<'a, A: App> {
    pub(super) room: &'a mut HomeRoom<A>,
    pub(super) desk: &'a mut Desk<A>,
    pub(super) out: &'a mut Outgoing<A>,
    pub(super) now: Now,
    pub(super) since_ns: u64,
}

impl<A: App> Room<'_, A> {
    /// Its name within its namespace.
    pub fn name(&self) -> &str {
        split_key(&self.room.name).1
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        split_key(&self.room.name).0
    }

    /// The time of this turn.
    pub fn now(&self) -> Now {
        self.now
    }

    /// When it was opened: milliseconds since 1970.
    pub fn created_at_ms(&self) -> u64 {
        self.room.created_at_ms
    }

    /// Who may be in it, how many, and what is kept with it.
    pub fn settings(&self) -> &RoomSettings {
        &self.room.settings
    }

    /// What the application keeps for it.
    pub fn state(&self) -> &A::Room {
        &self.room.state
    }

    /// What the application keeps for it, to be changed.
    pub fn state_mut(&mut self) -> &mut A::Room {
        &mut self.room.state
    }

    /// How many members it has.
    pub fn member_count(&self) -> usize {
        self.room.members.len()
    }

    /// A member.
    pub fn member(&self, sid: Sid) -> Option<&A::Member> {
        self.room.members.get(&sid)
    }

    /// A member, to be changed.
    pub fn member_mut(&mut self, sid: Sid) -> Option<&mut A::Member> {
        self.room.members.get_mut(&sid)
    }

    /// All members; by age, as long as nobody has left.
    pub fn members(&self) -> impl Iterator<Item = (&Sid, &A::Member)> {
        self.room.members.iter()
    }

    /// The number of the last message that was delivered; 0 for none.
    pub fn last_seq(&self) -> u64 {
        self.room.last_seq
    }

    /// Whether what is kept of it is known. Otherwise nobody can be admitted, for now.
    pub fn is_open(&self) -> bool {
        self.room.is_open
    }

    /// Whether no other member fits.
    pub fn is_full(&self) -> bool {
        self.is_full_for(None)
    }

    /// Whether one does not fit that takes the place of `old`.
    pub(super) fn is_full_for(&self, old: Option<Sid>) -> bool {
        let capacity = self.room.settings.capacity.map_or(ROOM_MEMBERS_MAX, |max| max as usize);
        let members = &self.room.members;
        let own = old.is_some_and(|old| members.contains_key(&old));
        members.len() - usize::from(own) >= capacity.min(ROOM_MEMBERS_MAX)
    }

    /// Makes `sid` a member, or replaces what is kept for it; tells its shard.
    pub fn admit(&mut self, sid: Sid, member: A::Member, listens: bool) {
        let was_away = self.room.away.remove(&sid).is_some();
        let is_new = self.room.members.insert(sid, member).is_none() && !was_away;
        let shard = sid.shard();
        match self.room.shares.iter_mut().find(|share| share.shard == shard) {
            Some(share) => {
                share.members += u32::from(is_new);
                share.listens |= listens;
            }
            None => self.room.shares.push(Share { shard, listens, members: 1 }),
        }
        self.tell_admitted(sid, listens);
        self.share(sid);
    }

    fn tell_admitted(&mut self, member: Sid, listens: bool) {
        let (room, name) = (self.room.id, Arc::clone(&self.room.name));
        self.out.push((member.shard(), Envelope::Admit { room, name, member, listens }));
    }

    /// The room is to be shown to people again.
    pub(super) fn show_soon(&mut self) {
        if !self.desk.shared || std::mem::replace(&mut self.room.show_due, true) {
            return;
        }
        // Large rooms are shown less often: what is written grows with them.
        let times = 1 + self.room.members.len().min(1000) / SHOW_MEMBERS_PER_INTERVAL;
        let due_ms = self.now.ns / 1_000_000 + SHOW_INTERVAL_MS * times as u64;
        self.desk.shows.push(Reverse((due_ms, self.room.id)));
    }

    /// Tells the shard of one that asked to join that it is not in.
    pub fn decline(&mut self, sid: Sid) {
        self.out.push((sid.shard(), Envelope::Decline { member: sid }));
    }

    /// Ends a membership and tells the member's shard. Nothing happens without one.
    pub fn dismiss(&mut self, app: &mut A, sid: Sid) {
        self.admit_now(app, sid);
        let is_in = self.room.members.contains_key(&sid) || self.room.away.contains_key(&sid);
        if is_in && self.is_here(sid) {
            let dismiss = Envelope::Dismiss { room: self.room.id, member: sid };
            self.out.push((sid.shard(), dismiss));
            self.remove(app, sid);
        }
    }

    /// Sends a packet to one socket, in order with what the room delivers to it.
    pub fn send(&mut self, to: Sid, packet: Packet) {
        self.out.push((to.shard(), Envelope::Send { to, packet }));
    }

    /// Sends an event to members on all hosts.
    pub fn broadcast(&mut self, audience: Audience, name: &str, args: &str) {
        self.spread(audience, Packet::event(name, args));
    }

    /// Whether anybody may have asked for presence.
    pub fn has_listeners(&self) -> bool {
        self.room.shares.iter().any(|share| share.listens)
    }

    /// Sends a packet to members on this host: one envelope for each shard that has some.
    pub fn deliver(&mut self, audience: Audience, packet: Packet) {
        self.deliver_numbered(audience, packet, 0);
    }

    /// The same with a message, whose number recovery on other hosts goes by.
    pub fn deliver_message(&mut self, packet: Packet, seq: u64) {
        self.deliver_numbered(Audience::All, packet, seq);
    }

    fn deliver_numbered(&mut self, audience: Audience, packet: Packet, seq: u64) {
        let (room, since_ns) = (self.room.id, self.since_ns);
        let for_all = !matches!(audience, Audience::Listeners(_));
        let mut shares = self.room.shares.iter().filter(|share| for_all || share.listens);
        let Some(last) = shares.next_back() else { return };
        for share in shares {
            let packet = packet.clone();
            let deliver = Envelope::Deliver { room, audience, packet, seq, since_ns };
            self.out.push((share.shard, deliver));
        }
        self.out.push((last.shard, Envelope::Deliver { room, audience, packet, seq, since_ns }));
    }

    /// Asks for a message's number; [`App::published`] follows when it has one, and
    /// [`App::answered`] when it is as safe as was promised.
    ///
    /// # Errors
    /// When a shard with members or the bridge cannot take it; nothing has happened then.
    pub fn publish(&mut self, draft: Draft, ticket: A::Ticket) -> Result<(), Unavailable> {
        let congested = |share: &Share| self.desk.congested[usize::from(share.shard)];
        if self.room.shares.iter().any(congested) {
            return Err(Unavailable);
        }
        let room = Arc::clone(&self.room.name);
        self.submit(ticket, |ticket| Request::Publish { ticket, room, draft })
    }

    /// Asks for messages; [`App::answered`] follows.
    ///
    /// # Errors
    /// When the bridge cannot take the request.
    pub fn read(&mut self, range: Range, ticket: A::Ticket) -> Result<(), Unavailable> {
        let room = Arc::clone(&self.room.name);
        self.submit(ticket, |ticket| Request::Read { ticket, room, range })
    }

    /// Asks whether this is the room's password; [`App::answered`] follows.
    ///
    /// # Errors
    /// When the bridge cannot take the request.
    pub fn verify(&mut self, password: Box<str>, ticket: A::Ticket) -> Result<(), Unavailable> {
        let hash = self.room.settings.password.clone().unwrap_or_default();
        self.submit(ticket, |ticket| Request::Verify { ticket, password, hash })
    }

    /// Asks for [`App::due`] at this time ([`Now::ns`] in milliseconds). Times add up.
    pub fn wake_at_ms(&mut self, due_ms: u64) {
        self.desk.due.push(Reverse((due_ms, self.room.id)));
    }

    fn submit(
        &mut self,
        ticket: A::Ticket,
        request: impl FnOnce(Ticket) -> Request,
    ) -> Result<(), Unavailable> {
        let key = self.desk.ticket();
        self.desk.port.try_submit(request(key), self.now.wall_ms).map_err(|_| Unavailable)?;
        let (id, since_ns) = (self.room.id, self.since_ns);
        self.desk.waiting.insert(key, Waiter::Room { id, since_ns, ticket, repeated: false });
        self.room.awaited += 1;
        Ok(())
    }

    pub(super) fn shrink(&mut self) {
        if self.room.members.len() * 4 < self.room.members.capacity() {
            self.room.members.shrink_to(self.room.members.len() * 2);
        }
    }

    pub(super) fn on_join(&mut self, app: &mut A, from: Sid, member: A::Member, ack: Option<u64>) {
        self.admit_now(app, from);
        let is_new = !self.room.members.contains_key(&from);
        if is_new && (self.is_full() || !self.is_open()) {
            return self.decline(from);
        }
        if is_new {
            self.admit(from, member, true);
            app.joined(self, from);
        } else {
            // Who is in already stays what it is.
            self.tell_admitted(from, true);
        }
        if let Some(id) = ack {
            self.send(from, Packet::ack(id, ""));
        }
    }

    pub(super) fn on_leave(&mut self, app: &mut A, from: Sid, ack: Option<u64>) {
        self.dismiss(app, from);
        if let Some(id) = ack {
            self.send(from, Packet::ack(id, ""));
        }
    }

    /// The member's connection has ended; what the room says is kept for it on its shard.
    pub(super) fn on_away(&mut self, app: &mut A, sid: Sid) {
        let Some(member) = self.room.members.swap_remove(&sid) else { return };
        app.left(self, sid, &member);
        self.room.away.insert(sid, member);
        self.unshare(sid);
    }

    /// It came back, if there is still a place for it.
    pub(super) fn on_back(&mut self, app: &mut A, sid: Sid) {
        if self.is_full() {
            self.out.push((sid.shard(), Envelope::Dismiss { room: self.room.id, member: sid }));
            return self.remove(app, sid);
        }
        if let Some(member) = self.room.away.remove(&sid) {
            self.room.members.insert(sid, member);
            app.returned(self, sid);
            self.share(sid);
        }
    }

    pub(super) fn remove(&mut self, app: &mut A, sid: Sid) {
        let here = self.room.members.swap_remove(&sid);
        if here.is_none() && self.room.away.remove(&sid).is_none() {
            return;
        }
        self.shrink();
        let shares = &mut self.room.shares;
        if let Some(index) = shares.iter().position(|share| share.shard == sid.shard()) {
            shares[index].members -= 1;
            if shares[index].members == 0 {
                shares.swap_remove(index);
            }
        }
        if let Some(member) = here {
            app.left(self, sid, &member);
            self.unshare(sid);
        }
    }
}
