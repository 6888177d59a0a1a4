//! Casts between servers: to other Throng hosts ([`hosts`]), and to Node servers by the protocol of
//! `@socket.io/redis-adapter` ([`classic`], [`sharded`]).
//!
//! Owns casts that wait for answers ([`asks`]), foreign casts that the shards are answering
//! ([`gather`], [`heard`]), and the namespaces in which Node servers are spoken to: `/`, and any
//! that a cast to Node servers, a room or a socket has named ([`Deed::Join`] of no rooms only names
//! one); and the channels of rooms and sockets here ([`channels`]).
//! Never keeps a cast for later: what cannot be published is lost, as it would be by Node, and
//! asking is answered as with nobody there.
//!
//! How many will answer is counted before asking (`PUBSUB NUMSUB`, summed over all nodes): hosts by
//! the channel of all hosts, without this one; Node servers by the channel that each of them
//! subscribes to per namespace, without the hosts, which are told apart by a channel of their own
//! ([`Keys::adapter`](super::keys::Keys::adapter)).
//!
//! Invariants: a cast that wants answers gets its sum exactly once, whatever happens ([`asks`]);
//! what a host says on Node's channels is dropped by other hosts, for they hear it as a cast;
//! nothing waits without a bound of number ([`PENDING_MAX`]) and time.

mod asks;
mod channels;
mod classic;
mod dialect;
mod gather;
mod heard;
mod hosts;
mod nodes;
mod publish;
mod sharded;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{debug, warn};

use super::clock::now_ms;
use super::line::FromFleet;
use super::link::{Link, LinkError};
use super::office::Office;
use super::words::{Cast, Deed, News, Word};
use asks::{Asks, Kind};
use channels::{By, Channels};
use dialect::{Spoke, Spoken, Subscriptions};
use gather::Gatherings;

/// Casts that may wait for answers, and as many that are being answered.
const PENDING_MAX: usize = 10_000;

/// How long servers may take to answer: as long as Node's adapters wait.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// How long clients may take at most, whatever a server says.
const EMIT_PATIENCE_MAX: Duration = Duration::from_secs(300);

/// A list that is answered. Redis cuts off whoever has 32 MB to read.
const LISTED_BYTES_MAX: usize = 8 << 20;

/// A packet of another server. Engine.IO servers take less than a tenth of it from a client.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Namespaces in which Node servers are spoken to.
const NAMESPACES_MAX: usize = 1000;

/// Words that are carried out with one pipeline.
const BATCH_MAX: usize = 256;

/// How often it is looked whose time is up.
const TICK: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Casts {
    office: Rc<Office>,
    queue: RefCell<UnboundedReceiver<(u16, Word)>>,
    /// Taken out of the queue, not carried out.
    batch: RefCell<Vec<(u16, Word)>>,
    spoke: Spoke,
    state: RefCell<State>,
    /// Something is to be published or subscribed to.
    changed: Notify,
}

/// What changes, apart from the link.
struct State {
    asks: Asks,
    gatherings: Gatherings,
    /// To be published.
    out: Vec<(Spoken, Vec<u8>)>,
    /// In which Node servers are spoken to.
    namespaces: BTreeSet<Box<str>>,
    /// Those of them that are not subscribed to.
    new_namespaces: Vec<Box<str>>,
    /// Those in which Redis does not let this host subscribe.
    refused: BTreeSet<Box<str>>,
    /// Of rooms with members here, and of sockets.
    channels: Channels,
}

/// How many servers will answer.
#[derive(Default)]
struct Counts(HashMap<Spoken, usize>);

impl Counts {
    fn of(&self, spoken: &Spoken) -> usize {
        self.0.get(spoken).copied().unwrap_or(0)
    }
}

impl Casts {
    pub(super) fn new(office: Rc<Office>, casts: UnboundedReceiver<(u16, Word)>) -> Self {
        let (host, adapter) = (office.plan.host, office.plan.adapter);
        let spoke = Spoke::new(adapter, office.keys.socket_io(), nodes::uid(host));
        let namespaces = if spoke.dialect().is_some() { ["/".into()].into() } else { [].into() };
        let state = State {
            // A host that starts again must not take answers that were meant for it before.
            asks: Asks::new(now_ms() << 20),
            gatherings: Gatherings::default(),
            out: Vec::new(),
            namespaces,
            new_namespaces: Vec::new(),
            refused: BTreeSet::new(),
            channels: Channels::default(),
        };
        let (queue, batch) = (RefCell::new(casts), RefCell::default());
        Self { office, queue, batch, spoke, state: RefCell::new(state), changed: Notify::new() }
    }

    /// Subscribes and passes casts until the link ends.
    pub(super) async fn serve(&self, link: &Rc<Link>) -> LinkError {
        match self.try_serve(link).await {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }

    async fn try_serve(&self, link: &Rc<Link>) -> Result<Infallible, LinkError> {
        self.begin();
        let keys = &self.office.keys;
        let own = [keys.casts_of(self.office.plan.host), keys.to_all()];
        link.subscribe(&own, false).await?;
        let mut tick = tokio::time::interval(TICK);
        loop {
            self.subscribe(link).await?;
            tokio::select! {
                () = self.take() => {}
                () = self.changed.notified() => {}
                _ = tick.tick() => self.expire(),
            }
            self.carry(link).await?;
        }
    }

    /// Drops casts while there is no link. Never ends.
    pub(super) async fn wait(&self) {
        loop {
            self.end();
            tokio::select! {
                () = self.take() => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// A room has its first local member, or its last one is gone; by its key, which begins with
    /// its namespace and a NUL unless that is `/`. To be called whatever the adapter: Node servers
    /// are spoken to in the namespace from then on, and the sharded adapter has a channel for each
    /// room, by which events to that room alone go.
    pub(super) fn on_room(&self, room: &str, open: bool) {
        let (namespace, name) = room.split_once('\0').unwrap_or(("/", room));
        self.want(namespace, name, By::Room, open);
        self.changed.notify_one();
    }

    /// A room or a socket has come or gone: events to it alone may go by a channel of its own.
    fn want(&self, namespace: &str, name: &str, by: By, is_here: bool) {
        self.name(namespace, true);
        let channel = self.spoke.room(namespace, name).filter(|_| self.speaks_in(namespace));
        if let Some(channel) = channel {
            self.state.borrow_mut().channels.want(channel, by, is_here);
        }
    }

    /// Waits for words; forever once nobody can send any.
    async fn take(&self) {
        let count = poll_fn(|cx| {
            let (mut queue, mut batch) = (self.queue.borrow_mut(), self.batch.borrow_mut());
            queue.poll_recv_many(cx, &mut batch, BATCH_MAX)
        });
        if count.await == 0 {
            std::future::pending().await
        }
    }

    /// A new link knows nothing of the last one's subscriptions.
    fn begin(&self) {
        self.end();
        let state = &mut *self.state.borrow_mut();
        state.new_namespaces = state.namespaces.iter().cloned().collect();
        state.channels.restart();
    }

    /// There is no link: whoever waits is told what there is, whoever asks that nobody is there.
    fn end(&self) {
        let news = {
            let mut state = self.state.borrow_mut();
            state.out.clear();
            state.gatherings.end();
            state.asks.end()
        };
        self.tell(news);
        self.note_batch();
        self.state.borrow_mut().channels.lose();
        for (shard, word) in self.batch.take() {
            if let Word::Cast { cast, .. } = word {
                self.ask(shard, &cast, 0);
            }
        }
    }

    fn expire(&self) {
        let now = Instant::now();
        let news = {
            let mut state = self.state.borrow_mut();
            state.gatherings.expire(now);
            state.asks.expire(now)
        };
        self.tell(news);
    }

    /// Subscribes to what is new.
    async fn subscribe(&self, link: &Rc<Link>) -> Result<(), LinkError> {
        let (namespaces, (come, gone)) = {
            let mut state = self.state.borrow_mut();
            let namespaces = std::mem::take(&mut state.new_namespaces);
            (namespaces, state.channels.take_changed())
        };
        for namespace in namespaces {
            let subscribed = self.subscribe_in(link, &namespace).await;
            subscribed.inspect_err(|why| self.on_refused(&namespace, why))?;
        }
        let subscribed = link.subscribe(&come, true).await;
        subscribed.inspect_err(|why| {
            if is_refusal(why) {
                warn!(%why, "events of Node servers to single rooms are not heard");
                self.state.borrow_mut().channels.refuse();
            }
        })?;
        link.unsubscribe(&gone, true).await
    }

    async fn subscribe_in(&self, link: &Rc<Link>, namespace: &str) -> Result<(), LinkError> {
        let Some(dialect) = self.spoke.dialect() else { return Ok(()) };
        let Subscriptions { channels, sharded, patterns } = dialect.subscriptions(namespace);
        link.subscribe_patterns(&patterns).await?;
        // Until it is counted as a host, it would be waited for like a Node server.
        link.subscribe(&[self.office.keys.adapter(namespace)], false).await?;
        link.subscribe(&channels, false).await?;
        link.subscribe(&sharded, true).await
    }

    /// A refusal ends the link, and would end the next one too: the namespace is given up, so that
    /// the rest of the fleet goes on.
    fn on_refused(&self, namespace: &str, why: &LinkError) {
        if is_refusal(why) {
            let hint = "allow this host their channels";
            warn!(namespace, %why, hint, "Node servers are not spoken to");
            let mut state = self.state.borrow_mut();
            state.namespaces.remove(namespace);
            if let Some(dialect) = self.spoke.dialect() {
                state.channels.forget(&dialect.counted(namespace).channel);
            }
            state.refused.insert(namespace.into());
        }
    }

    /// Carries out a batch of words, and publishes what else waits.
    async fn carry(&self, link: &Rc<Link>) -> Result<(), LinkError> {
        self.note_batch();
        self.subscribe(link).await?;
        let counts = self.count(link).await?;
        for (shard, word) in self.batch.take() {
            match word {
                Word::Cast { cast, to_hosts, to_nodes } => {
                    self.cast(shard, &cast, (to_hosts, to_nodes), &counts);
                }
                Word::Answer { request, answer } => self.on_shards_answer(request, answer),
                Word::Socket { .. } => {} // noted
                other => debug!(?other, "no word of casts"),
            }
        }
        let out = std::mem::take(&mut self.state.borrow_mut().out);
        publish::publish(link, out).await
    }

    /// Notes the namespaces and sockets that the batch names.
    fn note_batch(&self) {
        for (_, word) in &*self.batch.borrow() {
            match word {
                Word::Cast { cast, to_nodes, .. } => self.name(&cast.reach.namespace, *to_nodes),
                Word::Socket { namespace, id, is_open } => {
                    self.want(namespace, id, By::Socket, *is_open);
                }
                _ => {}
            }
        }
    }

    /// Notes a namespace in which Node servers are spoken to.
    fn name(&self, namespace: &str, to_nodes: bool) {
        let can_speak = self.spoke.dialect().is_some_and(|it| it.can_speak(namespace));
        let mut state = self.state.borrow_mut();
        let is_known = |names: &BTreeSet<Box<str>>| names.contains(namespace);
        if !to_nodes || !can_speak || is_known(&state.namespaces) || is_known(&state.refused) {
            return;
        }
        if state.namespaces.len() >= NAMESPACES_MAX {
            return warn!(namespace, "too many namespaces to speak to Node servers in another");
        }
        state.namespaces.insert(namespace.into());
        state.new_namespaces.push(namespace.into());
    }

    fn speaks_in(&self, namespace: &str) -> bool {
        self.state.borrow().namespaces.contains(namespace)
    }

    fn marker(&self, namespace: &str) -> Spoken {
        Spoken { channel: self.office.keys.adapter(namespace), is_sharded: false }
    }

    fn all_hosts(&self) -> Spoken {
        Spoken { channel: self.office.keys.to_all(), is_sharded: false }
    }

    /// Who will answer the casts of a batch; asked only if one wants to know.
    async fn count(&self, link: &Rc<Link>) -> Result<Counts, LinkError> {
        let channels = self.counted();
        if channels.is_empty() {
            return Ok(Counts::default());
        }
        publish::count(link, &channels).await.map(Counts)
    }

    fn counted(&self) -> Vec<Spoken> {
        let mut channels = HashSet::new();
        for (_, word) in &*self.batch.borrow() {
            let Word::Cast { cast, to_hosts, to_nodes } = word else { continue };
            if Kind::of(&cast.deed).is_none() {
                continue;
            }
            if *to_hosts {
                channels.insert(self.all_hosts());
            }
            if let Some(dialect) = self.spoke.dialect().filter(|_| *to_nodes) {
                channels.insert(dialect.counted(&cast.reach.namespace));
                channels.insert(self.marker(&cast.reach.namespace));
            }
        }
        channels.into_iter().collect()
    }

    /// Publishes a shard's cast.
    fn cast(&self, shard: u16, cast: &Cast, (to_hosts, to_nodes): (bool, bool), counts: &Counts) {
        if matches!(&cast.deed, Deed::Join(rooms) if rooms.is_empty()) {
            return; // it has named its namespace
        }
        let namespace = &cast.reach.namespace;
        let dialect = self.spoke.dialect().filter(|_| to_nodes && self.speaks_in(namespace));
        // This host subscribes too, once.
        let hosts = if to_hosts { counts.of(&self.all_hosts()).saturating_sub(1) } else { 0 };
        let nodes = dialect.map_or(0, |dialect| {
            let servers = counts.of(&dialect.counted(namespace));
            // The sharded adapter has no word for asking for rooms.
            let is_known =
                !matches!((&self.spoke, &cast.deed), (Spoke::Sharded(_), Deed::Rooms(_)));
            if is_known { servers.saturating_sub(counts.of(&self.marker(namespace))) } else { 0 }
        });
        let number = self.ask(shard, cast, hosts + nodes);
        if number.is_none() && matches!(cast.deed, Deed::Fetch(_) | Deed::Rooms(_)) {
            return; // nobody is there to be asked
        }
        let host = self.office.plan.host;
        let mut out = Vec::new();
        if to_hosts {
            out.push((self.all_hosts(), hosts::encode_cast(host, number, cast)));
        }
        if let Some(dialect) = dialect {
            let request = number.map(|number| nodes::request(host, number));
            match dialect.say(namespace, request.as_deref(), &nodes::ask(cast)) {
                Ok(said) => {
                    self.office.stats.adapter_sent.fetch_add(said.iter().len() as u64, Relaxed);
                    out.extend(said);
                }
                Err(why) => warn!(%why, "a cast cannot be written for Node servers"),
            }
        }
        self.state.borrow_mut().out.append(&mut out);
    }

    /// If the cast wants answers: waits for so many servers'. The number it waits under.
    fn ask(&self, shard: u16, cast: &Cast, servers: usize) -> Option<u64> {
        let kind = Kind::of(&cast.deed)?;
        let begun = self.state.borrow_mut().asks.begin(shard, kind, servers, Instant::now());
        let (number, news) = begun;
        self.tell(news);
        number
    }

    fn tell(&self, news: impl IntoIterator<Item = (u16, News)>) {
        for (shard, news) in news {
            if let Some(shard) = self.office.shards.get(usize::from(shard)) {
                shard.tell(FromFleet::News(news));
            }
        }
    }
}

/// Whether a link has ended since Redis does not allow a subscription, or, before version 7, does
/// not know sharded ones.
fn is_refusal(why: &LinkError) -> bool {
    let why = why.0.to_lowercase();
    ["noperm", "unknown command"].iter().any(|refusal| why.contains(refusal))
}
