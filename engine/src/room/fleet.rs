//! A room that has members on other hosts, too.
//!
//! Every host that has members of a room keeps the whole roster: its own, which it tells the
//! others, and theirs, which they tell it. What clients hear of members follows from changes of the
//! roster, on each host for its own clients; so nothing about members is said twice. Messages come
//! in one order to all hosts, from the bridge; what is only passed on ([`Room::broadcast`]) is told
//! the other hosts as it is.
//!
//! Invariant: what repairs say of a roster is the truth about other hosts' members, and this host
//! is the truth about its own.

use std::cmp::Reverse;
use std::sync::Arc;

use hashbrown::HashSet;
use throng_bridge::fleet::{Cast, Deed, Gone, News, Reach, Stay, Word};
use throng_bridge::store::{RoomRecord, RoomSettings};
use throng_bridge::{Message, Request};

use super::handle::Room;
use super::home::Homes;
use super::parts::Arriving;
use crate::app::{App, Audience, Detail, Envelope, Outgoing, Reaped, Said, split_key};
use crate::clock::Now;
use crate::codec::Packet;
use crate::ids::{RoomId, Sid};
use crate::limits::ARRIVING_MS;

impl<A: App> Homes<A> {
    /// What the fleet has told that is no room's.
    pub fn poll_news(&mut self) -> Option<News> {
        self.desk.news.pop_front()
    }

    /// Tells the fleet, if there is one.
    pub fn tell(&mut self, word: Word) {
        self.desk.tell(word);
    }

    /// Whether there may be other hosts.
    pub fn is_shared(&self) -> bool {
        self.desk.shared
    }

    /// Whether there may be Node servers.
    pub fn speaks_to_nodes(&self) -> bool {
        self.desk.speaks
    }

    pub(super) fn on_delivered(
        &mut self,
        app: &mut A,
        out: &mut Outgoing<A>,
        now: Now,
        name: &str,
        message: &Message,
    ) {
        if let Some(arriving) = self.arriving.get_mut(name) {
            arriving.record.last_seq = message.seq;
        } else if let Some(&id) = self.by_name.get(name) {
            self.publish(app, out, now, (id, now.ns), message);
        }
    }

    pub(super) fn on_broken(
        &mut self,
        app: &mut A,
        out: &mut Outgoing<A>,
        now: Now,
        name: &str,
        last_seq: u64,
    ) {
        if let Some(arriving) = self.arriving.get_mut(name) {
            arriving.record.last_seq = last_seq;
        } else if let Some(&id) = self.by_name.get(name) {
            self.with_room(id, app, out, (now, now.ns), |app, room| {
                room.room.last_seq = last_seq;
                room.show_soon();
                app.broken(room);
                room.admit_all_lost(app);
            });
        }
    }

    pub(super) fn on_configured(&mut self, name: &str, settings: RoomSettings) {
        if let Some(arriving) = self.arriving.get_mut(name) {
            arriving.record.settings = settings;
        } else {
            self.set_settings(name, settings);
        }
    }

    /// Replaces an open room's settings, and shows it as it is now.
    pub(super) fn set_settings(&mut self, name: &str, settings: RoomSettings) {
        let Some(room) = self.by_name.get(name).and_then(|id| self.rooms.get_mut(id)) else {
            return;
        };
        room.settings = settings;
        if self.desk.shared {
            // At once: what has become private is to be seen no longer.
            room.show_due = true;
            self.desk.shows.push(Reverse((0, room.id)));
        }
    }

    pub(super) fn on_news(&mut self, app: &mut A, out: &mut Outgoing<A>, now: Now, news: News) {
        let room = match &news {
            News::Roster { room, .. }
            | News::Entered { room, .. }
            | News::Left { room, .. }
            | News::Said { room, .. } => Arc::clone(room),
            News::Reaped { room, gone } => return self.on_reaped(app, room, gone),
            _ => return self.desk.news.push_back(news),
        };
        if let News::Roster { members, .. } = &news {
            self.desk.rosters.1 += members.len();
        }
        match (news, self.arriving.contains_key(&room)) {
            (News::Roster { members, .. }, true) => self.on_arrived(app, out, now, room, members),
            // Nothing else is told before its roster.
            (_, true) => {}
            (news, false) => self.on_room_news(app, out, now, &room, news),
        }
    }

    fn on_room_news(
        &mut self,
        app: &mut A,
        out: &mut Outgoing<A>,
        now: Now,
        room: &str,
        news: News,
    ) {
        let Some(&id) = self.by_name.get(room) else { return };
        self.with_room(id, app, out, (now, now.ns), |app, room| match news {
            News::Roster { members, .. } => room.on_roster(app, &members),
            News::Entered { id, member, .. } => room.on_entered(app, &id, &member),
            News::Left { id, .. } => {
                if let Some(sid) = Sid::parse(&id) {
                    room.on_left_elsewhere(app, sid);
                }
            }
            News::Said { words, .. } => {
                if let Some(Said { audience, packet }) = Said::read(&words) {
                    room.deliver(audience, packet);
                }
            }
            _ => {}
        });
    }

    /// Tells Node servers of members that a dead host can tell nobody of any more.
    fn on_reaped(&mut self, app: &A, room: &str, gone: &Gone) {
        if !self.desk.speaks {
            return;
        }
        self.desk.rosters.1 += gone.members.len();
        let read = |(id, member): &(Box<str>, Box<str>)| Some((Sid::parse(id)?, A::import(member)));
        let members: Vec<_> = gone.members.iter().filter_map(read).collect();
        let count = members.len() + gone.unnamed as usize;
        let (namespace, name) = split_key(room);
        for packet in app.reaped(name, &Reaped { members, count, left: gone.left as usize }) {
            let cast = node_cast(namespace, name, None, &packet);
            self.desk.tell(cast);
        }
    }

    /// All is known of a room: it begins.
    fn on_arrived(
        &mut self,
        app: &mut A,
        out: &mut Outgoing<A>,
        now: Now,
        name: Arc<str>,
        members: Vec<(Box<str>, Box<str>)>,
    ) {
        let Some(Arriving { record, .. }) = self.arriving.remove(&name) else {
            return;
        };
        let host = self.desk.host;
        let read = |(id, member): &(Box<str>, Box<str>)| {
            let sid = Sid::parse(id)?;
            Some((sid, A::import(member)?))
        };
        let (own, others): (Vec<_>, Vec<_>) =
            members.iter().filter_map(read).partition(|(sid, _)| sid.host() == host);
        for (sid, _) in own {
            // Of a time when this host had the room open before.
            let (room, id) = (Arc::clone(&name), sid.encode().as_str().into());
            self.desk.tell(Word::Leave { room, id });
        }
        self.on_opened(app, out, now, (name, Some(record)), others);
    }

    /// A room is open whose members on other hosts follow.
    pub(super) fn await_roster(&mut self, name: Arc<str>, record: RoomRecord, now: Now) {
        let until_ms = now.ns / 1_000_000 + ARRIVING_MS;
        self.desk.arrivals_due.push_back((until_ms, Arc::clone(&name)));
        self.arriving.insert(name, Arriving { record, until_ms });
    }

    /// Gives up rooms of whose members nothing is told: Redis has gone away meanwhile.
    pub(super) fn give_up_arriving(&mut self, app: &mut A, out: &mut Outgoing<A>, now: Now) {
        let now_ms = now.ns / 1_000_000;
        let due = &mut self.desk.arrivals_due;
        let mut late = Vec::new();
        while let Some((_, name)) = due.pop_front_if(|(due_ms, _)| *due_ms <= now_ms) {
            late.push(name);
        }
        for name in late {
            // It may have come, and another of its name be expected.
            let is_late = self.arriving.get(&name).is_some_and(|it| it.until_ms <= now_ms);
            if !is_late {
                continue;
            }
            self.arriving.remove(&name);
            let close = Request::Close { room: Arc::clone(&name) };
            let _ = self.desk.port.try_submit(close, now.wall_ms);
            self.on_opened(app, out, now, (name, None), vec![]);
        }
    }

    /// Places the members that a room has on other hosts as it is opened here.
    pub(super) fn meet(
        &mut self,
        app: &mut A,
        out: &mut Outgoing<A>,
        now: Now,
        id: RoomId,
        others: Vec<(Sid, A::Member)>,
    ) {
        self.with_room(id, app, out, (now, now.ns), |app, room| {
            for (sid, member) in others {
                room.room.members.insert(sid, member);
                app.met(room, sid);
            }
        });
    }

    /// A message of this host has its number: Node servers get it from here.
    pub(super) fn tell_nodes_of(&mut self, app: &mut A, id: RoomId, message: &Message) {
        let Some(room) = self.rooms.get(&id).filter(|_| self.desk.speaks) else { return };
        let (namespace, name) = split_key(&room.name);
        if let Some(packet) = app.replay(name, message) {
            let cast = node_cast(namespace, name, None, &packet);
            self.desk.tell(cast);
        }
    }
}

impl<A: App> Room<'_, A> {
    /// Whether a socket is of this host.
    pub fn is_here(&self, sid: Sid) -> bool {
        !self.desk.shared || sid.host() == self.desk.host
    }

    /// Tells other hosts what a member is now; after every change of one.
    pub fn share(&mut self, sid: Sid) {
        if !self.desk.shared || sid.host() != self.desk.host {
            return;
        }
        self.show_soon();
        let Some(member) = self.room.members.get(&sid).and_then(|it| A::export(sid, it)) else {
            return;
        };
        let member: Box<str> = member.into();
        let room = Arc::clone(&self.room.name);
        let (listens, seq) = (true, self.room.last_seq);
        // Whether it listens is known where it is.
        let (known, replays) = (member.clone(), Vec::new());
        let stay = Stay { room: Arc::clone(&room), member: known, listens, seq, replays };
        self.out.push((sid.shard(), Envelope::Stay(sid, Box::new(stay))));
        let id = sid.encode().as_str().into();
        self.desk.tell(Word::Enter { room, id, member });
    }

    /// Tells other hosts that a member is gone.
    pub(super) fn unshare(&mut self, sid: Sid) {
        if !self.desk.shared || sid.host() != self.desk.host {
            return;
        }
        self.show_soon();
        let (room, id) = (Arc::clone(&self.room.name), sid.encode().as_str().into());
        self.desk.tell(Word::Leave { room, id });
    }

    /// Whether there may be Node servers.
    pub fn speaks_to_nodes(&self) -> bool {
        self.desk.speaks
    }

    /// Sends a packet to members on all hosts.
    pub fn spread(&mut self, audience: Audience, packet: Packet) {
        if self.desk.shared {
            let words = Said::write(audience, &packet).into();
            self.desk.tell(Word::Say { room: Arc::clone(&self.room.name), words });
            self.tell_nodes(audience, &packet);
        }
        self.deliver(audience, packet);
    }

    /// Tells a room of the same name on Node servers, where there are some. What all hosts deliver
    /// is told by one of them.
    pub fn tell_nodes(&mut self, audience: Audience, packet: &Packet) {
        if !self.desk.speaks {
            return;
        }
        let (namespace, name) = split_key(&self.room.name);
        let except = match audience {
            Audience::Except(sid) => Some(sid),
            _ => None,
        };
        let cast = node_cast(namespace, name, except, packet);
        self.desk.tell(cast);
    }

    /// Whether this host speaks for the room where one must: it is the first of those with members.
    pub fn is_leader(&self) -> bool {
        let first = self.room.members.keys().map(Sid::host).min();
        !self.desk.shared || first == Some(self.desk.host)
    }

    /// Shows the room to people.
    pub(super) fn show(&mut self, app: &A) {
        self.room.show_due = false;
        if !self.is_leader() {
            return;
        }
        let mut summary = app.describe(self, Detail::Full);
        if self.room.settings.private
            && let Some(object) = summary.as_object_mut()
        {
            object.insert("private".to_owned(), true.into());
        }
        let (room, summary) = (Arc::clone(&self.room.name), summary.to_string().into());
        self.desk.tell(Word::Show { room, summary });
    }

    /// A member of another host came, or changed.
    fn on_entered(&mut self, app: &mut A, id: &str, member: &str) {
        let Some(sid) = Sid::parse(id).filter(|sid| sid.host() != self.desk.host) else { return };
        let Some(member) = A::import(member) else { return };
        let known = self.room.members.insert(sid, member);
        app.entered(self, sid, known);
        self.show_soon();
    }

    pub(super) fn on_left_elsewhere(&mut self, app: &mut A, sid: Sid) {
        if sid.host() == self.desk.host {
            return;
        }
        if let Some(member) = self.room.members.swap_remove(&sid) {
            self.shrink();
            app.left(self, sid, &member);
            self.show_soon();
        }
    }

    /// All members as Redis has them, after something broke.
    fn on_roster(&mut self, app: &mut A, members: &[(Box<str>, Box<str>)]) {
        let host = self.desk.host;
        let told: HashSet<Sid> = members.iter().filter_map(|(id, _)| Sid::parse(id)).collect();
        for (id, member) in members {
            match Sid::parse(id) {
                Some(sid) if sid.host() != host => self.on_entered(app, id, member),
                Some(sid) if !self.room.members.contains_key(&sid) => self.unshare(sid),
                _ => {}
            }
        }
        let untold = |sid: &&Sid| !told.contains(*sid);
        let missing: Vec<Sid> = self.room.members.keys().filter(untold).copied().collect();
        let (own, gone): (Vec<Sid>, Vec<_>) =
            missing.into_iter().partition(|sid| sid.host() == host);
        gone.into_iter().for_each(|sid| self.on_left_elsewhere(app, sid));
        own.iter().for_each(|sid| self.share(*sid));
        if !own.is_empty() {
            app.restored(self, &own);
        }
        // What was shown while Redis was away is lost.
        self.show_soon();
    }
}

fn node_cast(namespace: &str, name: &str, except: Option<Sid>, packet: &Packet) -> Word {
    let except = except.map(|sid| sid.encode().as_str().into()).into_iter().collect();
    let reach = Reach { namespace: namespace.into(), rooms: vec![name.into()], except };
    let deed = Deed::Emit {
        args: packet.event_text().into(),
        attachments: packet.attachments().to_vec(),
        volatile: false,
        answers: None,
    };
    let cast = Arc::new(Cast { reach, deed });
    Word::Cast { cast, to_hosts: false, to_nodes: true }
}
