//! What is sent, and when.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Core, Load, Mix, Pace, Row, Stage};
use crate::clock::SECOND;
use crate::stamp::Stamp;

/// When to look again where nobody is in a room.
const LOOK_AGAIN_NS: u64 = SECOND / 100;
/// How long somebody types, or stays out of a room.
const PENDING_NS: u64 = 2 * SECOND;
/// How long somebody stays away, about.
const STAYS_AWAY: Duration = Duration::from_secs(1);

/// The load being sent.
#[derive(Default)]
pub(super) struct Loading {
    load: Option<Load>,
    /// When the next thing is due, where time decides.
    next_ns: Option<u64>,
    /// The schedule began then; the due time of message n follows without adding up errors.
    origin_ns: u64,
    scheduled: u64,
    /// Where the search for the next sender goes on.
    cursor: u32,
    /// Messages due earlier do not count for latency.
    pub(super) counted_from_ns: u64,
    /// When times are next handed over.
    pub(super) published_ns: u64,
    /// What ends later: who stops typing or comes back into its room, and when.
    pending: VecDeque<(u64, u32, Pending)>,
}

#[derive(Clone, Copy)]
enum Pending {
    StopTyping,
    ComeBack,
}

impl Loading {
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.next_ns
    }

    /// Sends nothing more; what was begun ends in its time.
    pub(super) fn quiet(&mut self) {
        (self.load, self.next_ns) = (None, None);
    }

    pub(super) fn is_closed_loop(&self) -> bool {
        self.load.as_ref().is_some_and(|load| matches!(load.pace, Pace::Closed { .. }))
    }
}

impl Core {
    pub(super) fn begin_load(&mut self, load: Load) {
        let now_ns = self.shared.clock.now();
        let pace = load.pace.clone();
        self.loading = Loading {
            load: Some(load),
            origin_ns: now_ns,
            counted_from_ns: now_ns,
            cursor: self.loading.cursor,
            pending: std::mem::take(&mut self.loading.pending),
            ..Loading::default()
        };
        match pace {
            Pace::Open { after, .. } => {
                self.loading.origin_ns += after.as_nanos() as u64;
                self.loading.next_ns = Some(self.loading.origin_ns);
            }
            Pace::Closed { in_flight } => self.begin_closed(in_flight),
            Pace::Mix(_) => self.loading.next_ns = Some(now_ns),
        }
    }

    /// Sends the first messages of the rooms whose first client is this worker's.
    fn begin_closed(&mut self, in_flight: u32) {
        let rooms = u64::from(self.shared.board.rooms());
        for client in 0..self.clients.len() as u32 {
            if self.global(client) >= rooms {
                break;
            }
            for _ in 0..in_flight {
                self.send_next(client);
            }
        }
    }

    /// The closed loop's next message of this client's room.
    pub(super) fn send_next(&mut self, client: u32) {
        let now_ns = self.shared.clock.now();
        self.send_message(client, now_ns);
    }

    /// Sends what is due.
    pub(super) fn load(&mut self) {
        self.end_pending();
        let Some(load) = &self.loading.load else { return };
        match load.pace {
            Pace::Closed { .. } => {}
            Pace::Open { per_s, .. } => self.send_scheduled(per_s),
            Pace::Mix(mix) => self.act(mix),
        }
    }

    /// The open loop: the messages whose time has come.
    fn send_scheduled(&mut self, per_s: f64) {
        loop {
            let after_ns = self.loading.scheduled as f64 * SECOND as f64 / per_s;
            let due_ns = self.loading.origin_ns + after_ns as u64;
            self.loading.next_ns = Some(due_ns);
            if due_ns > self.now_ns {
                return;
            }
            let Some(client) = self.next_sender() else {
                self.loading.next_ns = Some(self.now_ns + LOOK_AGAIN_NS);
                return;
            };
            self.loading.scheduled += 1;
            self.times.lag.note_ns(self.now_ns - due_ns);
            self.send_message(client, due_ns);
        }
    }

    /// The next client, in turn, that is in its room.
    fn next_sender(&mut self) -> Option<u32> {
        let count = self.clients.len() as u32;
        for _ in 0..count {
            let client = self.loading.cursor % count;
            self.loading.cursor = (client + 1) % count;
            if self.ready_slot(client).is_some() {
                return Some(client);
            }
        }
        None
    }

    fn ready_slot(&self, client: u32) -> Option<u32> {
        let slot = self.clients[client as usize].slot?;
        let is_ready = |row: &&Row| row.stage == Stage::Ready;
        self.rows.get(slot).filter(is_ready).map(|_| slot)
    }

    fn send_message(&mut self, client: u32, due_ns: u64) {
        let Some(slot) = self.ready_slot(client) else { return };
        let Some(load) = &self.loading.load else { return };
        let room = self.room_of(client);
        let (number, members) = self.shared.board.register(room);
        let body = Stamp { due_ns, room, number }.body(load.body_bytes);
        let message = self.shared.dialect.message(room, &body, load.answers);
        self.visible.cells.sent.add(1);
        self.visible.cells.expected.add(members.into());
        self.say_text(slot, &message);
    }

    /// People do things at random moments: so many of them together as often as one does, times
    /// their number.
    fn act(&mut self, mix: Mix) {
        let clients = self.clients.len() as u32;
        let per_s = mix.total() * f64::from(clients);
        if clients == 0 || per_s <= 0.0 {
            self.loading.next_ns = None;
            return;
        }
        while let Some(due_ns) = self.loading.next_ns.filter(|due_ns| *due_ns <= self.now_ns) {
            let client = self.random.below(clients);
            let which = self.random.fraction() * mix.total();
            if which < mix.messages {
                self.times.lag.note_ns(self.now_ns - due_ns);
                self.send_message(client, due_ns);
            } else if which < mix.messages + mix.typing {
                self.type_a_while(client);
            } else if which < mix.messages + mix.typing + mix.leaves {
                self.leave_a_while(client);
            } else if self.ready_slot(client).is_some() {
                self.hang_up(client);
                self.begin_later(client, STAYS_AWAY);
            }
            self.loading.next_ns = Some(due_ns + self.random.wait_ns(per_s));
        }
    }

    fn type_a_while(&mut self, client: u32) {
        let Some(slot) = self.ready_slot(client) else { return };
        let typing = self.shared.dialect.typing(self.room_of(client), true);
        self.say_text(slot, &typing);
        self.pend(client, Pending::StopTyping);
    }

    fn leave_a_while(&mut self, client: u32) {
        let Some(slot) = self.ready_slot(client) else { return };
        let leave = self.shared.dialect.leave(self.room_of(client));
        self.say_text(slot, &leave);
        self.enter_stage(slot, Stage::Resting);
        self.go_out(client);
        self.pend(client, Pending::ComeBack);
    }

    fn pend(&mut self, client: u32, what: Pending) {
        self.loading.pending.push_back((self.now_ns + PENDING_NS, client, what));
    }

    fn end_pending(&mut self) {
        let now_ns = self.now_ns;
        let is_due = |it: &mut (u64, u32, Pending)| it.0 <= now_ns;
        while let Some((_, client, what)) = self.loading.pending.pop_front_if(is_due) {
            let Some(slot) = self.clients[client as usize].slot else { continue };
            let stage = self.rows.get(slot).map(|row| row.stage);
            match (what, stage) {
                (Pending::StopTyping, Some(Stage::Ready)) => {
                    let typing = self.shared.dialect.typing(self.room_of(client), false);
                    self.say_text(slot, &typing);
                }
                (Pending::ComeBack, Some(Stage::Resting)) => self.come_back(slot, client),
                _ => {}
            }
        }
    }

    /// Joins again over the connection it has.
    fn come_back(&mut self, slot: u32, client: u32) {
        self.ascent.under_way += 1;
        if let Some(row) = self.rows.get_mut(slot) {
            row.began_ns = self.now_ns;
        }
        self.join(slot, client);
    }
}
