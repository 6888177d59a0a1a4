//! Which hosts live, and the end of those that do not.
//!
//! A host says that it lives by a key with a TTL. Where that has run out, one of the others takes
//! its members out of all rooms (`reap`). A host that was thought dead and is not finds its key
//! gone, or somebody at its members: when that is over, each of its rooms gets its roster, and
//! enters who is missing. That order holds: who reaps says so first and looks for the key then, and
//! the other one writes its key first and looks for a reaper then.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use redis::{Value, cmd};
use serde::Serialize;
use tracing::warn;

use super::batch::{Batch, read};
use super::desk::Desk;
use crate::fleet::clock::now_ms;
use crate::fleet::link::{Link, LinkError};
use crate::fleet::words::HostId;

/// A host that has not been heard of for so long is dead: three beats.
const HOST_TTL: Duration = Duration::from_secs(9);

/// How often a host says that it lives.
const BEAT: Duration = Duration::from_secs(3);

/// Parts of a beat after each of which it is looked whether those are dead that have become quiet.
const LOOKS: u32 = 6;

/// Hosts that are known of.
const HOSTS_MAX: usize = 10_000;

/// How often, and for how long.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) ttl: Duration,
    pub(super) beat: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { ttl: HOST_TTL, beat: BEAT }
    }
}

/// See the module.
pub(super) struct Hosts {
    pace: Pace,
    started_ms: u64,
    /// Whether Redis may have something of an earlier life under this number.
    is_new: Cell<bool>,
    /// Whether Redis has been told that this host lives.
    has_lived: Cell<bool>,
    /// Whether this host's rooms have to be told who is in them.
    needs_rosters: Cell<bool>,
    is_telling: Cell<bool>,
    /// Other hosts, and those of them that have not been heard of lately.
    others: Cell<usize>,
    quiet: RefCell<Vec<HostId>>,
    pub(super) dead: RefCell<VecDeque<HostId>>,
    is_reaping: Cell<bool>,
}

/// What a host says of itself.
#[derive(Serialize)]
struct Card<'a> {
    pid: u32,
    started: u64,
    name: &'a str,
    version: &'a str,
}

impl Hosts {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            started_ms: now_ms(),
            is_new: Cell::new(true),
            has_lived: Cell::default(),
            needs_rosters: Cell::default(),
            is_telling: Cell::default(),
            others: Cell::default(),
            quiet: RefCell::default(),
            dead: RefCell::default(),
            is_reaping: Cell::default(),
        }
    }

    fn card(&self) -> String {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let card = Card {
            pid: std::process::id(),
            started: self.started_ms,
            name: name.trim(),
            version: env!("CARGO_PKG_VERSION"),
        };
        serde_json::to_string(&card).unwrap_or_default()
    }
}

impl Desk {
    /// What must be done before anything else on a new link.
    pub(super) async fn begin(&self, link: &Link) -> Result<(), LinkError> {
        self.scripts.load(link).await?;
        let host = self.office.plan.host;
        if self.hosts.is_new.get() {
            let mut batch = Batch::default();
            for shard in 0..self.office.shards.len() as u16 {
                for key in
                    [self.office.keys.trail(host, shard), self.office.keys.passed(host, shard)]
                {
                    batch.push(link, &key, cmd("DEL").arg(&key).take());
                }
            }
            batch.send(link, &self.scripts).await?;
        }
        let is_new = self.hosts.is_new.replace(false);
        if is_new {
            self.members.set_overfull();
        }
        self.begin_anew(link).await?;
        if is_new && !self.members.is_overfull() {
            self.hosts.needs_rosters.set(false); // There are none yet.
        }
        Ok(())
    }

    /// Removes all members of this host, where more have left than it knows, and has its rooms
    /// enter theirs again. Where Redis refuses, or the link ends, that is still to be done.
    pub(super) async fn begin_anew(&self, link: &Link) -> Result<(), LinkError> {
        if self.members.is_overfull() && self.reap_rooms(link, self.office.plan.host, false).await?
        {
            self.members.end_overfull();
            self.hosts.needs_rosters.set(true);
        }
        Ok(())
    }

    /// Says that this host lives, and looks after the others, until the link ends.
    pub(super) async fn serve_beats(self: &Rc<Self>, link: &Rc<Link>) -> LinkError {
        let Err(error) = self.beat_on(link).await;
        error
    }

    async fn beat_on(self: &Rc<Self>, link: &Rc<Link>) -> Result<Infallible, LinkError> {
        let (since, Pace { ttl, beat }) = (Instant::now(), self.hosts.pace);
        let mut looks = tokio::time::interval(beat / LOOKS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            for look in 0..LOOKS {
                looks.tick().await;
                if look == 0 {
                    self.beat(link).await?;
                }
                // After a break all had to say anew that they live.
                self.look_after(link, since.elapsed() >= ttl + beat).await?;
            }
        }
    }

    async fn beat(self: &Rc<Self>, link: &Rc<Link>) -> Result<(), LinkError> {
        let Pace { ttl, .. } = self.hosts.pace;
        let (own, now) = (self.office.plan.host, now_ms());
        let keys = &self.office.keys;
        let (key, hosts, reaping) = (keys.host(own), keys.hosts(), keys.reaping(own));
        let mut set = cmd("SET");
        set.arg(&key).arg(self.hosts.card()).arg("PX").arg(ttl.as_millis() as u64).arg("GET");
        let was = self.one(link, &key, set).await?;
        let mut batch = Batch::default();
        batch.push(link, &reaping, cmd("EXISTS").arg(&reaping).take());
        batch.push(link, &hosts, cmd("ZADD").arg(&hosts).arg(now).arg(format!("{own:08x}")).take());
        let mut range = cmd("ZRANGE");
        range.arg(&hosts).arg(0).arg(HOSTS_MAX - 1).arg("WITHSCORES");
        batch.push(link, &hosts, range);
        let answers = batch.send(link, &self.scripts).await?;
        let [is_reaped, _, all] = &answers[..] else { return Ok(()) };
        let is_reaped = read::<bool>(is_reaped) == Some(true);
        if is_reaped || (self.hosts.has_lived.replace(true) && matches!(was, Value::Nil)) {
            warn!("this host was thought dead; its rooms enter their members again");
            self.hosts.needs_rosters.set(true);
        }
        self.mend(link, is_reaped);
        self.note_others(read(all).unwrap_or_default(), now);
        Ok(())
    }

    /// Other hosts, and when they were last heard of by their own clocks. Clocks differ: only the
    /// key tells who is dead. Who was heard of lately need not be asked for.
    fn note_others(&self, all: Vec<(String, f64)>, now: u64) {
        let quiet_ms = self.hosts.pace.beat.as_millis() as f64 * 2.0;
        let own = self.office.plan.host;
        let parse = |name: &String| HostId::from_str_radix(name, 16).ok();
        let others = all.iter().filter_map(|(name, at)| Some((parse(name)?, *at)));
        let others: Vec<_> = others.filter(|(host, _)| *host != own).collect();
        self.hosts.others.set(others.len());
        let quiet = others.into_iter().filter(|(_, at)| (now as f64 - at).abs() > quiet_ms);
        *self.hosts.quiet.borrow_mut() = quiet.map(|(host, _)| host).collect();
    }

    /// Lets rooms know who is in them, where that is amiss and nobody is at it.
    fn mend(self: &Rc<Self>, link: &Rc<Link>, is_reaped: bool) {
        if self.hosts.is_telling.get() || is_reaped {
            return;
        }
        let mut rooms = self.members.take_amiss();
        if self.hosts.needs_rosters.take() {
            rooms.extend(self.members.rooms());
        }
        if rooms.is_empty() {
            return;
        }
        self.hosts.is_telling.set(true);
        let (desk, link) = (Rc::clone(self), Rc::clone(link));
        tokio::task::spawn_local(async move {
            // If the link ends, the repair of every room does the same.
            let _ = desk.tell_rosters(&link, rooms.into_iter().collect()).await;
            desk.hosts.is_telling.set(false);
        });
    }

    /// Counts those who live, and has those who do not removed.
    async fn look_after(self: &Rc<Self>, link: &Rc<Link>, may_reap: bool) -> Result<(), LinkError> {
        let quiet = self.hosts.quiet.borrow().clone();
        let mut batch = Batch::default();
        for host in &quiet {
            let key = self.office.keys.host(*host);
            batch.push(link, &key, cmd("EXISTS").arg(&key).take());
        }
        let mut dead = Vec::new();
        if !batch.is_empty() {
            let answers = batch.send(link, &self.scripts).await?;
            let gone = |it: &(HostId, Value)| read::<i64>(&it.1) == Some(0);
            dead = quiet.into_iter().zip(answers).filter(gone).map(|it| it.0).collect();
        }
        let living = 1 + self.hosts.others.get() - dead.len();
        self.office.stats.hosts.store(living as u64, Relaxed);
        if may_reap && !dead.is_empty() && !self.hosts.is_reaping.replace(true) {
            // Until the next beat finds who is left.
            self.hosts.others.set(self.hosts.others.get() - dead.len());
            self.hosts.quiet.borrow_mut().retain(|host| !dead.contains(host));
            *self.hosts.dead.borrow_mut() = dead.into();
            let (desk, link) = (Rc::clone(self), Rc::clone(link));
            tokio::task::spawn_local(async move {
                let _ = desk.reap_all(&link).await;
                desk.hosts.is_reaping.set(false);
            });
        }
        Ok(())
    }

    /// This host ends: what it may have left is removed, and nobody waits for its TTL.
    pub(super) async fn end(&self, link: &Link) -> Result<(), LinkError> {
        let host = self.office.plan.host;
        let (key, hosts) = (self.office.keys.host(host), self.office.keys.hosts());
        self.one(link, &key, cmd("DEL").arg(&key).take()).await?;
        self.reap_rooms(link, host, false).await?;
        self.flush_summaries(link).await?;
        self.one(link, &hosts, cmd("ZREM").arg(&hosts).arg(format!("{host:08x}")).take()).await?;
        Ok(())
    }
}
