//! Members that come back to a room from another host, or from another shard of this one.
//!
//! One is admitted when it has all that the room has delivered here, so that nothing later can
//! overtake what it missed. Until then it waits: for the messages it lacks, or for the room to
//! come as far here as it has been told elsewhere. What it asks for meanwhile waits with it, since
//! it has been told that it is in.
//!
//! Invariants: nobody waits longer than [`RETURN_WAIT_MS`]; whoever comes in without having been
//! told everything is told so; who is made to join or leave meanwhile waits no longer.

use std::sync::Arc;

use throng_bridge::{Message, Page, Range, Request, Ticket};

use super::handle::Room;
use super::home::Homes;
use super::parts::{Comer, Waiter};
use crate::app::{App, Envelope, Outgoing, split_key};
use crate::clock::Now;
use crate::codec::Packet;
use crate::ids::Sid;
use crate::limits::{RETURN_MESSAGES_MAX, RETURN_REQUESTS_MAX, RETURN_TRIES_MAX, RETURN_WAIT_MS};

impl<A: App> Homes<A> {
    /// Lets in who has waited too long.
    pub(super) fn give_up_comers(&mut self, app: &mut A, out: &mut Outgoing<A>, now: Now) {
        let now_ms = now.ns / 1_000_000;
        while let Some((_, id)) = self.desk.comers_due.pop_front_if(|(due_ms, _)| *due_ms <= now_ms)
        {
            self.with_room(id, app, out, (now, now.ns), |app, room| room.admit_late(app));
        }
    }
}

impl<A: App> Room<'_, A> {
    /// Keeps a request of one that is on its way back, who has been told that it is in; gives back
    /// what is to be answered now.
    pub(super) fn hold(
        &mut self,
        app: &mut A,
        from: Sid,
        request: A::Request,
    ) -> Option<A::Request> {
        let Some(comer) = self.room.comers.get_mut(&from) else { return Some(request) };
        if comer.held.len() < RETURN_REQUESTS_MAX {
            comer.held.push(request);
            return None;
        }
        self.admit_now(app, from);
        Some(request)
    }

    /// A member comes back.
    pub(super) fn on_return(&mut self, app: &mut A, sid: Sid, mut comer: Comer<A>) {
        if self.has_joined(app, sid, &mut comer) {
            return;
        }
        if self.is_full_for(comer.old) || !self.is_open() {
            self.refuse_return(sid);
            app.lost(self, sid);
            return self.answer_held(app, sid, comer.held);
        }
        let last_seq = self.room.last_seq;
        if comer.seq == last_seq {
            return self.admit_comer(app, sid, comer, vec![]);
        }
        // Redis may have told it more than this host has been told so far.
        comer.page = None;
        if comer.seq < last_seq {
            let (after, before) = (Some(comer.seq), Some(last_seq + 1));
            let range = Range { after, before, limit: RETURN_MESSAGES_MAX };
            let (ticket, room) = (self.desk.ticket(), Arc::clone(&self.room.name));
            let read = Request::Read { ticket, room, range };
            if self.desk.port.try_submit(read, self.now.wall_ms).is_err() {
                return self.admit_lost(app, sid, comer);
            }
            self.desk.waiting.insert(ticket, Waiter::Return { id: self.room.id, sid });
            comer.page = Some((ticket, last_seq));
        }
        if comer.until_ms == 0 {
            comer.until_ms = self.now.ns / 1_000_000 + RETURN_WAIT_MS;
            self.desk.comers_due.push_back((comer.until_ms, self.room.id));
        }
        self.room.comers.insert(sid, comer);
    }

    /// What one missed that comes back.
    pub(super) fn on_missed(&mut self, app: &mut A, sid: Sid, ticket: Ticket, page: &Page) {
        let Some(mut comer) = self.room.comers.remove(&sid) else { return };
        let Some((_, last_seq)) = comer.page.filter(|(asked, _)| *asked == ticket) else {
            self.room.comers.insert(sid, comer);
            return;
        };
        if self.has_joined(app, sid, &mut comer) {
            return;
        }
        if !page.complete || page.partial || comer.tries >= RETURN_TRIES_MAX {
            return self.admit_lost(app, sid, comer);
        }
        if self.room.last_seq != last_seq {
            // The room has gone on meanwhile.
            comer.tries += 1;
            return self.on_return(app, sid, comer);
        }
        let name = split_key(&self.room.name).1;
        let replay = |message: &Arc<Message>| Some((message.seq, app.replay(name, message)?));
        let messages = page.messages.iter().filter_map(replay).collect();
        self.admit_comer(app, sid, comer, messages);
    }

    /// The room has come further: those who waited for that come in.
    pub(super) fn admit_waiting(&mut self, app: &mut A) {
        let last_seq = self.room.last_seq;
        for sid in self.comers_with(|it| it.page.is_none() && it.seq <= last_seq) {
            if let Some(comer) = self.room.comers.remove(&sid) {
                self.on_return(app, sid, comer);
            }
        }
    }

    /// The room's order is another one: nobody can have it whole.
    pub(super) fn admit_all_lost(&mut self, app: &mut A) {
        for sid in self.comers_with(|_| true) {
            self.admit_now(app, sid);
        }
    }

    /// What some wait for has not come in time.
    fn admit_late(&mut self, app: &mut A) {
        let now_ms = self.now.ns / 1_000_000;
        for sid in self.comers_with(|it| it.until_ms <= now_ms) {
            self.admit_now(app, sid);
        }
    }

    /// Lets one in that is not to wait any longer, if it does.
    pub(super) fn admit_now(&mut self, app: &mut A, sid: Sid) {
        if let Some(comer) = self.room.comers.remove(&sid) {
            self.admit_lost(app, sid, comer);
        }
    }

    /// One that was coming back is gone.
    pub(super) fn forget_comer(&mut self, sid: Sid) {
        if self.room.comers.remove(&sid).is_some() {
            self.refuse_return(sid);
        }
    }

    /// Each is there still only if what is done for those before it leaves it there.
    fn comers_with(&self, is_due: impl Fn(&Comer<A>) -> bool) -> Vec<Sid> {
        let comers = self.room.comers.iter();
        comers.filter(|(_, comer)| is_due(comer)).map(|(sid, _)| *sid).collect()
    }

    /// Whether one that comes back has joined meanwhile: it is in, but may lack messages. What it
    /// has asked for is answered then.
    fn has_joined(&mut self, app: &mut A, sid: Sid, comer: &mut Comer<A>) -> bool {
        let has_joined = self.room.members.contains_key(&sid) || self.room.away.contains_key(&sid);
        if has_joined {
            self.decline(sid);
            app.lost(self, sid);
            self.answer_held(app, sid, std::mem::take(&mut comer.held));
        }
        has_joined
    }

    fn refuse_return(&mut self, sid: Sid) {
        let room = Arc::clone(&self.room.name);
        self.out.push((sid.shard(), Envelope::RefuseReturn(sid, room)));
    }

    fn admit_lost(&mut self, app: &mut A, sid: Sid, mut comer: Comer<A>) {
        if self.has_joined(app, sid, &mut comer) {
            return;
        }
        app.lost(self, sid);
        self.admit_comer(app, sid, comer, vec![]);
    }

    fn admit_comer(
        &mut self,
        app: &mut A,
        sid: Sid,
        comer: Comer<A>,
        messages: Vec<(u64, Packet)>,
    ) {
        let Comer { mut member, listens, old, held, .. } = comer;
        if let Some(old) = old {
            // It is not in twice. One of this host is told so itself.
            self.on_left_elsewhere(app, old);
        }
        A::moving(&mut member);
        self.admit(sid, member, listens);
        app.moved_in(self, sid);
        let room = Arc::clone(&self.room.name);
        self.out.push((sid.shard(), Envelope::Replay(sid, room, messages)));
        self.answer_held(app, sid, held);
    }

    /// What one asked for on its way back, now that it has come, or will not.
    fn answer_held(&mut self, app: &mut A, sid: Sid, held: Vec<A::Request>) {
        for request in held {
            app.request(self, sid, request);
        }
    }
}
