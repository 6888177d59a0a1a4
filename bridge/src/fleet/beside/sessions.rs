//! Sessions in Redis: what it takes to bring a socket back on any host.
//!
//! Owns what Redis does not have yet, and which sessions are this host's. A session belongs to the
//! host that it names: no other host's word changes it, but for one that takes it over
//! ([`super::recover`]). A session that is out of date is worse than none, since its client would
//! be told that it has missed nothing: what could not be written is written or ended later, and
//! what Redis refuses is tried again until nobody can come back to it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::Value;
use tracing::warn;

use super::batch::read;
use super::renewals::Renewals;
use crate::fleet::words::{HostId, Session};

/// How much longer than it can be recovered a session is kept, so that a renewal may be late.
const MARGIN: Duration = Duration::from_secs(600);

/// Sessions written at once.
pub(super) const BATCH_MAX: usize = 512;

/// Sessions that wait for Redis whole. Of those beyond only the end is written.
const WHOLE_MAX: usize = 1 << 16;

/// Sessions that wait for Redis. One that is beyond may be recovered as it was before.
const WAITING_MAX: usize = 1 << 20;

/// How long a session that is taken over is kept from others, until its new host has written it.
pub(super) const TAKEN_TTL: Duration = Duration::from_secs(60);

/// Sessions that Redis refuses, tried again at once.
const RETRIED_MAX: usize = 4096;

/// Private ids under which a newer socket of this host has taken an older one's place.
const SUPERSEDED_MAX: usize = 1 << 16;

/// Sockets that are ended at once under one private id.
const FORGOTTEN_MAX: usize = 8;

/// What Redis shall have of a session.
#[derive(Clone, Debug)]
pub(super) enum Write {
    /// This.
    Keep(Box<Session>),
    /// Nothing.
    End,
    /// Nothing, if it is of one of these sockets.
    Forget(Vec<Box<str>>),
    /// This again, which this host has taken over.
    Release(Box<Session>),
}

type Writes = HashMap<Box<str>, Write>;

/// See the module.
pub(super) struct Sessions {
    host: HostId,
    /// The newest of each that Redis does not have.
    waiting: RefCell<Writes>,
    /// Those that are being written: whether they are, is unknown until the answer comes.
    flying: RefCell<Writes>,
    /// Those that Redis has refused.
    refused: RefCell<Writes>,
    /// Since when it refuses them.
    refused_since: RefCell<HashMap<Box<str>, Instant>>,
    is_refusing: Cell<bool>,
    /// Sockets of this host whose sessions it has taken over for newer ones: since when, which, and
    /// whether anything has changed of them since.
    superseded: RefCell<HashMap<Box<str>, Superseded>>,
    pub(super) renewals: RefCell<Renewals<Box<str>>>,
    pub(super) ttl: Duration,
    is_off: bool,
}

struct Superseded {
    since: Instant,
    sids: Vec<Box<str>>,
    is_late: bool,
}

/// How the sessions of a host begin.
pub(super) fn beginning(host: HostId) -> String {
    format!(r#"{{"host":{host},"#)
}

/// What says that a session has been taken over by a host, and is no session.
pub(super) fn taken(host: HostId) -> String {
    format!(r#"{{"host":{host},"taken":true}}"#)
}

/// How long anything is kept that a recovery may need.
pub(super) fn ttl(recovery_window_ms: u64) -> Duration {
    Duration::from_millis(recovery_window_ms) + MARGIN
}

impl Sessions {
    pub(super) fn new(host: HostId, recovery_window_ms: u64) -> Self {
        let ttl = ttl(recovery_window_ms);
        Self {
            host,
            waiting: RefCell::default(),
            flying: RefCell::default(),
            refused: RefCell::default(),
            refused_since: RefCell::default(),
            is_refusing: Cell::default(),
            superseded: RefCell::default(),
            renewals: RefCell::new(Renewals::new(ttl / 2)),
            ttl,
            is_off: recovery_window_ms == 0,
        }
    }

    /// A session as it is now.
    pub(super) fn keep(&self, pid: Box<str>, session: Box<Session>) {
        if !self.is_superseded(&pid, &session.sid) {
            self.note(pid, Write::Keep(session));
        }
    }

    /// A session has ended, whichever socket's of this host it is.
    pub(super) fn end(&self, pid: Box<str>) {
        let has_waited = matches!(self.waiting.borrow().get(&pid), Some(Write::Keep(_)));
        if has_waited && !self.may_be_there(&pid) {
            self.waiting.borrow_mut().remove(&pid); // Redis never had it.
        } else {
            self.note(pid, Write::End);
        }
    }

    /// A socket has ended, and its session with it.
    pub(super) fn forget(&self, pid: Box<str>, sid: Box<str>) {
        if self.is_superseded(&pid, &sid) {
            return;
        }
        let is_its = match self.waiting.borrow_mut().get_mut(&pid) {
            Some(Write::Keep(session)) => Some(session.sid == sid),
            Some(Write::Release(session)) => Some(session.host == self.host && session.sid == sid),
            Some(Write::End) => return,
            Some(Write::Forget(sids)) => {
                if !sids.contains(&sid) && sids.len() < FORGOTTEN_MAX {
                    sids.push(sid);
                }
                return;
            }
            None => None,
        };
        match is_its {
            Some(true) => self.end(pid),
            Some(false) => {}
            None => self.note_after(pid, Write::Forget(vec![sid])),
        }
    }

    /// A session that this host has taken over is for nobody here.
    pub(super) fn release(&self, pid: Box<str>, session: Box<Session>) {
        if self.waiting.borrow().contains_key(&pid) {
            return; // It is somebody's already, or has ended.
        }
        let mut write = Write::Release(session);
        if let Write::Release(session) = &write
            && session.host == self.host
            && self.restore(&pid, &session.sid)
        {
            write = Write::End;
        }
        self.note(pid, write);
    }

    /// This host has taken over a session of its own, for a newer socket.
    pub(super) fn supersede(&self, pid: &str, sid: &str) {
        let mut superseded = self.superseded.borrow_mut();
        if superseded.len() >= SUPERSEDED_MAX && !superseded.contains_key(pid) {
            return;
        }
        let new = || Superseded { since: Instant::now(), sids: Vec::new(), is_late: false };
        let entry = superseded.entry(pid.into()).or_insert_with(new);
        entry.since = Instant::now();
        if entry.sids.len() >= FORGOTTEN_MAX {
            entry.sids.remove(0);
        }
        entry.sids.push(sid.into());
        entry.is_late = false;
        let mut waiting = self.waiting.borrow_mut();
        if matches!(waiting.get(pid), Some(Write::Keep(session)) if *session.sid == *sid) {
            waiting.remove(pid);
            entry.is_late = true;
        }
    }

    /// Whether a newer socket has taken this one's place: then it has changed since.
    fn is_superseded(&self, pid: &str, sid: &str) -> bool {
        let mut superseded = self.superseded.borrow_mut();
        let Some(entry) = superseded.get_mut(pid) else { return false };
        let is_it = entry.sids.iter().any(|it| **it == *sid);
        entry.is_late |= is_it;
        is_it
    }

    /// A socket has its place again; whether it has changed meanwhile.
    fn restore(&self, pid: &str, sid: &str) -> bool {
        let mut superseded = self.superseded.borrow_mut();
        let Some(entry) = superseded.get_mut(pid) else { return false };
        entry.sids.retain(|it| **it != *sid);
        let is_late = entry.is_late;
        if entry.sids.is_empty() {
            superseded.remove(pid);
        }
        is_late
    }

    #[cfg(test)]
    pub(super) fn refused_count(&self) -> usize {
        self.refused.borrow().len()
    }

    /// Whether Redis may have a session that no word is waiting for.
    fn may_be_there(&self, pid: &str) -> bool {
        self.renewals.borrow().contains(pid)
            || self.flying.borrow().contains_key(pid)
            || self.refused.borrow().contains_key(pid)
    }

    /// As [`Sessions::note`], where it depends on what was to be written before.
    fn note_after(&self, pid: Box<str>, write: Write) {
        let before = self.refused.borrow_mut().remove(&pid);
        let before = before.or_else(|| self.flying.borrow().get(&pid).cloned());
        self.note(pid, after(before, write));
    }

    fn note(&self, pid: Box<str>, write: Write) {
        if self.is_off {
            return;
        }
        self.refused.borrow_mut().remove(&pid);
        let mut waiting = self.waiting.borrow_mut();
        let count = waiting.len() + self.refused.borrow().len();
        if count >= WAITING_MAX && !waiting.contains_key(&pid) {
            warn!("too many sessions wait for Redis; one may be recovered as it was before");
            return;
        }
        let write = match write {
            Write::Keep(_) if count >= WHOLE_MAX => Write::End,
            Write::Release(_) if count >= WHOLE_MAX => return,
            write => write,
        };
        waiting.insert(pid, write);
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.borrow().len() + self.flying.borrow().len()
    }

    /// Some of those that wait, to be written now.
    pub(super) fn take_some(&self) -> Vec<(Box<str>, Write)> {
        let mut waiting = self.waiting.borrow_mut();
        // The link broke while these were written.
        for (pid, write) in self.flying.take() {
            let write = match waiting.remove(&pid) {
                Some(newer) => after(Some(write), newer),
                None => write,
            };
            waiting.insert(pid, write);
        }
        let pids: Vec<Box<str>> = waiting.keys().take(BATCH_MAX).cloned().collect();
        let some = pids.into_iter().filter_map(|pid| waiting.remove_entry(&pid));
        let some: Vec<(Box<str>, Write)> = some.collect();
        self.flying.borrow_mut().extend(some.iter().cloned());
        some
    }

    /// Redis has answered.
    pub(super) fn on_written(&self, pid: Box<str>, write: Write, answer: &Value) {
        self.flying.borrow_mut().remove(&pid);
        let done = read::<i64>(answer);
        let is_there = match &write {
            Write::Keep(_) => done == Some(1),
            Write::End => false,
            Write::Forget(_) => done == Some(2),
            Write::Release(session) => done == Some(1) && session.host == self.host,
        };
        if !is_there {
            self.renewals.borrow_mut().remove(&pid);
        } else if matches!(write, Write::Release(_)) {
            self.renewals.borrow_mut().insert(pid.clone());
        }
        if !self.is_refusing.replace(done.is_none()) && done.is_none() {
            warn!(?answer, "Redis refuses a session");
        }
        let mut refused_since = self.refused_since.borrow_mut();
        if done.is_some() {
            refused_since.remove(&pid);
        } else if !self.waiting.borrow().contains_key(&pid) {
            let since = *refused_since.entry(pid.clone()).or_insert_with(Instant::now);
            if since.elapsed() < self.ttl {
                self.refused.borrow_mut().insert(pid, write);
            }
        }
    }

    /// Those that Redis has refused are written after all, if they still can matter.
    pub(super) fn retry(&self, now: Instant) {
        let mut superseded = self.superseded.borrow_mut();
        superseded.retain(|_, it| now.duration_since(it.since) < self.ttl);
        let mut refused_since = self.refused_since.borrow_mut();
        refused_since.retain(|_, since| now.duration_since(*since) < self.ttl * 2);
        let mut refused = self.refused.borrow_mut();
        let pids: Vec<Box<str>> = refused.keys().take(RETRIED_MAX).cloned().collect();
        let mut waiting = self.waiting.borrow_mut();
        for (pid, write) in pids.iter().filter_map(|pid| refused.remove_entry(pid)) {
            self.renewals.borrow_mut().insert(pid.clone());
            waiting.entry(pid).or_insert(write);
        }
    }
}

/// What shall be written where one thing is after another that may have been written or not.
fn after(before: Option<Write>, newer: Write) -> Write {
    match (before, newer) {
        (Some(Write::End), Write::Forget(_)) => Write::End,
        (Some(Write::Forget(before)), Write::Forget(mut sids)) => {
            sids.extend(before);
            sids.truncate(FORGOTTEN_MAX);
            Write::Forget(sids)
        }
        (_, newer) => newer,
    }
}
