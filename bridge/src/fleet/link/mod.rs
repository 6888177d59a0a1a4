//! One time of being connected to Redis: a connection for commands and one for subscriptions to
//! every node, with one fate.
//!
//! Owns the connections, their subscriptions' confirmations and the knowledge of which node has
//! what. Never connects again: whatever goes wrong ends the whole link, and the next one begins
//! from nothing. Reading never waits for anybody: what arrives is queued, up to a bound.
//!
//! What ends a link: an I/O error or the end of any connection; a connection that is silent for
//! [`ANSWER_TIMEOUT`] while an answer is awaited; a node that is no master any more; another master
//! by the Sentinels' word; a changed topology; a reader too far behind; and an answer that tells
//! that this Redis cannot serve at all ([`refusal`]). Any other error of Redis is an answer like
//! any other: the caller's.

mod cluster;
mod fate;
mod keeper;
mod node;
mod refusal;
mod sentinel;
mod slots;
mod together;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::{Cmd, Value, cmd};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

use super::target::{Address, Place, Target};
use fate::Fate;
use node::{Entrance, Node};
use sentinel::Sentinels;
use slots::slot_of;

pub(crate) use fate::Pushes;
pub(crate) use refusal::Refusal;
pub(crate) use together::together;

/// How long a connection may be silent while an answer is awaited.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the Sentinels' master is tried before [`Link::open`] fails, and how often.
const MASTER_PATIENCE: Duration = Duration::from_secs(3);
const MASTER_RETRY: Duration = Duration::from_millis(100);

/// Channels per command: Redis serves nobody else while it carries out one.
const CHANNELS_PER_COMMAND: usize = 512;

/// And commands at once: more make confirmations no faster, and wait for longer.
const COMMANDS_PER_ROUND: usize = 16;

/// Why a link cannot be had, or has ended.
#[derive(Clone, Debug)]
pub(crate) struct LinkError(pub(crate) String);

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What arrives unasked.
#[derive(Debug)]
pub(crate) enum Push {
    /// A message on a channel.
    Message { channel: Vec<u8>, payload: Vec<u8> },
    /// The link has ended; nothing follows.
    Lost(LinkError),
}

/// One time of being connected. Dropping it closes all its connections.
pub(crate) struct Link {
    fate: Arc<Fate>,
    /// Of a cluster: the node of each slot.
    slots: Option<Box<[u16]>>,
    nodes: Box<[Address]>,
    keepers: Vec<AbortHandle>,
    /// See [`Link::time_by`].
    round_trips: OnceLock<Box<Timer>>,
}

/// Is told a pipeline's first command, in lower case, and how long the pipeline took.
type Timer = dyn Fn(&str, Duration) + Send + Sync;

impl Link {
    /// Connects to every node, `pool_size` times for commands and once for subscriptions. `name` is
    /// what Redis shows of the connections.
    ///
    /// # Errors
    /// When a node cannot be reached, lets nobody in, or is no master.
    pub(crate) async fn open(
        target: &Target,
        name: &str,
        pool_size: u16,
    ) -> Result<(Self, Pushes), LinkError> {
        let entrance = Entrance {
            login: target.login.clone(),
            tls: target.tls.clone(),
            database: target.database,
            name: name.into(),
            pool_size,
        };
        let round_trips = OnceLock::new();
        match &target.place {
            Place::Standalone(address) => {
                let (fate, pushes) = Fate::new();
                let node = connect(address, &entrance, &fate, "standalone").await?;
                let nodes = [node.address.clone()].into();
                fate.hold(vec![node])?;
                let keepers = vec![keep(&fate, 1)];
                Ok((Self { fate, slots: None, nodes, keepers, round_trips }, pushes))
            }
            Place::Sentinel { sentinels, master, login, is_tls } => {
                let tls = if *is_tls { target.tls.clone() } else { None };
                let login = login.clone();
                let to_sentinels =
                    Entrance { login, tls, database: 0, name: name.into(), pool_size: 1 };
                let sentinels = Sentinels::listen(sentinels, &to_sentinels, master);
                Self::open_master(sentinels, &entrance).await
            }
            Place::Cluster(seeds) => Self::open_cluster(seeds, &entrance).await,
        }
    }

    /// Connects to the master that Sentinels name, and to another if meanwhile they name another.
    async fn open_master(
        sentinels: Sentinels,
        entrance: &Entrance,
    ) -> Result<(Self, Pushes), LinkError> {
        let patience = Instant::now() + MASTER_PATIENCE;
        let round_trips = OnceLock::new();
        loop {
            let master = sentinels.master().await?;
            let (fate, pushes) = Fate::new();
            let node = tokio::select! {
                node = connect(&master.address, entrance, &fate, "standalone") => node,
                to = sentinels.moved_from(&master) => {
                    Err(LinkError(format!("{}: the master is now {to}", master.address)))
                }
            };
            match node {
                Ok(node) => {
                    let nodes = [node.address.clone()].into();
                    fate.hold(vec![node])?;
                    let ours = Arc::clone(&fate);
                    let listener = tokio::spawn(async move {
                        let to = sentinels.moved_from(&master).await;
                        ours.end(&format!("{}: the master is now {to}", master.address));
                    });
                    let keepers = vec![keep(&fate, 1), listener.abort_handle()];
                    return Ok((Self { fate, slots: None, nodes, keepers, round_trips }, pushes));
                }
                Err(why) if Instant::now() > patience => return Err(why),
                Err(_) => sleep(MASTER_RETRY).await,
            }
        }
    }

    /// Connects to all masters of a cluster.
    async fn open_cluster(
        seeds: &[Address],
        entrance: &Entrance,
    ) -> Result<(Self, Pushes), LinkError> {
        let topology = cluster::discover(seeds, entrance).await?;
        let (fate, pushes) = Fate::new();
        fate.hold(connect_all(&topology.masters, entrance, &fate).await?)?;
        let nodes: Box<[Address]> = topology.masters.clone().into();
        let slots = Some(topology.slots.clone());
        let watcher = tokio::spawn(keeper::watch(Arc::clone(&fate), topology));
        let keepers = vec![keep(&fate, nodes.len()), watcher.abort_handle()];
        Ok((Self { fate, slots, nodes, keepers, round_trips: OnceLock::new() }, pushes))
    }

    /// Names who is told how long each of [`Link::send`]'s round trips took; once.
    pub(crate) fn time_by(&self, note: impl Fn(&str, Duration) + Send + Sync + 'static) {
        let _ = self.round_trips.set(Box::new(note));
    }

    /// Whether it is a cluster: then channels of rooms are sharded (SSUBSCRIBE, SPUBLISH).
    pub(crate) fn is_cluster(&self) -> bool {
        self.slots.is_some()
    }

    /// How many nodes there are.
    pub(crate) fn nodes_count(&self) -> usize {
        self.nodes.len()
    }

    /// Where it is connected to, for people.
    pub(crate) fn place(&self) -> String {
        self.nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Which node a key or a channel belongs to. A plain channel that is published at this node is
    /// not passed from node to node on its way here.
    pub(crate) fn node_of(&self, key: &str) -> usize {
        let slot = usize::from(slot_of(key.as_bytes()));
        self.slots.as_ref().and_then(|slots| slots.get(slot)).copied().unwrap_or(0).into()
    }

    /// Sends commands to one node in one go and waits for all answers; an answer may be
    /// [`Value::ServerError`]. Calls reach the node in the order in which they are first polled.
    ///
    /// # Errors
    /// When the link is lost, or has just been given up since no answer came in time, or since one
    /// came that tells that this Redis cannot serve ([`refusal`]). Whether the commands were
    /// carried out is unknown then.
    pub(crate) async fn send(
        &self,
        node: usize,
        commands: &[Cmd],
    ) -> Result<Vec<Value>, LinkError> {
        self.send_on(0, node, commands).await
    }

    /// The same, where calls need an order only among those of their lane: each lane has one of the
    /// connections of the pool.
    ///
    /// # Errors
    /// See [`Link::send`].
    pub(crate) async fn send_on(
        &self,
        lane: usize,
        node: usize,
        commands: &[Cmd],
    ) -> Result<Vec<Value>, LinkError> {
        let node = self.fate.node(node)?;
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let begun = Instant::now();
        let answers = self.answer(node.send(lane, commands)).await?;
        if let Some(note) = self.round_trips.get() {
            note(&name_of(commands), begun.elapsed());
        }
        match refusal::away(&answers) {
            Some(why) => Err(self.fate.end(&format!("{}: {why}", node.address))),
            None => Ok(answers),
        }
    }

    /// Subscribes to channels; returns when Redis has confirmed all. On a cluster each at the node
    /// of its name, `sharded` or not.
    ///
    /// # Errors
    /// When the link is lost, or given up since Redis refuses.
    pub(crate) async fn subscribe(
        &self,
        channels: &[String],
        sharded: bool,
    ) -> Result<(), LinkError> {
        self.change(channels, if sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" }).await
    }

    /// Ends subscriptions.
    ///
    /// # Errors
    /// See [`Link::subscribe`].
    pub(crate) async fn unsubscribe(
        &self,
        channels: &[String],
        sharded: bool,
    ) -> Result<(), LinkError> {
        self.change(channels, if sharded { "SUNSUBSCRIBE" } else { "UNSUBSCRIBE" }).await
    }

    /// Subscribes to patterns (never sharded), at one node.
    ///
    /// # Errors
    /// See [`Link::subscribe`].
    pub(crate) async fn subscribe_patterns(&self, patterns: &[String]) -> Result<(), LinkError> {
        let node = self.fate.node(0)?;
        for some in patterns.chunks(CHANNELS_PER_COMMAND) {
            let some: Vec<&String> = some.iter().collect();
            self.confirm(&node, "PSUBSCRIBE", &[&some]).await?;
        }
        Ok(())
    }

    /// Gives it up: [`Push::Lost`] follows with this reason.
    pub(crate) fn give_up(&self, why: &str) {
        self.fate.end(why);
    }

    /// Carries out a command on channels, each at its node, in batches.
    async fn change(&self, channels: &[String], word: &str) -> Result<(), LinkError> {
        let is_sharded = matches!(word, "SSUBSCRIBE" | "SUNSUBSCRIBE");
        let mut nodes = vec![Vec::new(); self.nodes.len()];
        for channel in channels {
            if let Some(its) = nodes.get_mut(self.node_of(channel)) {
                its.push(channel);
            }
        }
        let nodes = nodes.into_iter().enumerate().filter(|(_, its)| !its.is_empty());
        let changes = nodes.map(|(node, its)| self.change_at(node, its, (word, is_sharded)));
        together(changes).await.into_iter().collect()
    }

    /// The same at one node.
    async fn change_at(
        &self,
        node: usize,
        mut its: Vec<&String>,
        (word, is_sharded): (&str, bool),
    ) -> Result<(), LinkError> {
        let node = self.fate.node(node)?;
        // One command's sharded channels must be of one slot, in a cluster.
        let by_slot = is_sharded && self.is_cluster();
        if by_slot {
            its.sort_by_cached_key(|channel| slot_of(channel.as_bytes()));
        }
        let same =
            |a: &&String, b: &&String| !by_slot || slot_of(a.as_bytes()) == slot_of(b.as_bytes());
        let commands = its.chunk_by(same).flat_map(|its| its.chunks(CHANNELS_PER_COMMAND));
        let commands: Vec<&[&String]> = commands.collect();
        for some in commands.chunks(COMMANDS_PER_ROUND) {
            if word == "SUNSUBSCRIBE" {
                some.iter().for_each(|channels| self.fate.leave(channels));
            }
            self.confirm(&node, word, some).await?;
        }
        Ok(())
    }

    /// Sends commands, each with its channels, and waits for the confirmation of each channel.
    ///
    /// A refusal is one error instead of one confirmation per channel, so that it could not be told
    /// how many answers follow: the first channel of each command goes ahead alone.
    async fn confirm(
        &self,
        node: &Node,
        word: &str,
        commands: &[&[&String]],
    ) -> Result<(), LinkError> {
        let ahead = commands.iter().map(|channels| &channels[..channels.len().min(1)]);
        let after = commands.iter().map(|channels| &channels[channels.len().min(1)..]);
        for part in [ahead.collect::<Vec<_>>(), after.collect()] {
            let mut pipeline = redis::Pipeline::new();
            let mut channels_count = 0;
            for channels in part.into_iter().filter(|channels| !channels.is_empty()) {
                pipeline.add_command(cmd(word).arg(channels).take());
                channels_count += channels.len();
            }
            if channels_count == 0 {
                continue;
            }
            let answers = self.answer(node.subscribe(&pipeline, channels_count)).await?;
            let refusal = answers.iter().find_map(|answer| match answer {
                Value::ServerError(error) => Some(format!("{}: {word}: {error}", node.address)),
                _ => None,
            });
            if let Some(why) = refusal {
                return Err(self.fate.end(&why));
            }
        }
        Ok(())
    }

    /// Waits for an answer or for the link's end; a failure is the link's end.
    async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, LinkError> {
        tokio::select! {
            biased;
            why = self.fate.lost() => Err(why),
            answer = answer => answer.map_err(|LinkError(why)| self.fate.end(&why)),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for keeper in &self.keepers {
            keeper.abort();
        }
        self.fate.end("the link is dropped");
    }
}

/// Begins to look after a link's nodes.
fn keep(fate: &Arc<Fate>, nodes_count: usize) -> AbortHandle {
    tokio::spawn(keeper::keep(Arc::clone(fate), nodes_count)).abort_handle()
}

/// Connects to all nodes of a cluster at once.
async fn connect_all(
    addresses: &[Address],
    entrance: &Entrance,
    fate: &Arc<Fate>,
) -> Result<Vec<Node>, LinkError> {
    let mut connecting = JoinSet::new();
    for (index, address) in addresses.iter().cloned().enumerate() {
        let (entrance, fate) = (entrance.clone(), Arc::clone(fate));
        connecting.spawn(async move {
            let node = connect(&address, &entrance, &fate, "cluster").await?;
            Ok::<_, LinkError>((index, node))
        });
    }
    let mut nodes = Vec::with_capacity(addresses.len());
    while let Some(node) = connecting.join_next().await {
        nodes.push(node.map_err(|error| LinkError(error.to_string()))??);
    }
    nodes.sort_unstable_by_key(|(index, _)| *index);
    Ok(nodes.into_iter().map(|(_, node)| node).collect())
}

/// Connects to a node, if it can be worked with: a master, of the expected kind, and loaded.
async fn connect(
    address: &Address,
    entrance: &Entrance,
    fate: &Arc<Fate>,
    kind: &str,
) -> Result<Node, LinkError> {
    let node = Node::connect(address, entrance, fate).await?;
    let failed = |why: &dyn fmt::Display| LinkError(format!("{address}: {why}"));
    let commands = [cmd("ROLE"), cmd("PING"), cmd("INFO").arg("server").take()];
    let answers = node.send(0, &commands).await?;
    keeper::is_master(&answers).map_err(|why| failed(&why))?;
    let info = match answers.last() {
        Some(Value::VerbatimString { text, .. }) => text.clone(),
        Some(Value::BulkString(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Value::ServerError(error)) => return Err(failed(&format!("INFO: {error}"))),
        _ => String::new(),
    };
    match info.lines().find_map(|line| line.strip_prefix("redis_mode:")) {
        Some(mode) if mode != kind => Err(failed(&match mode {
            "cluster" => "is a node of a cluster: REDIS_URL must name several of its nodes",
            "sentinel" => "is a Sentinel: REDIS_URL must begin with redis-sentinel://",
            _ => "is no node of a cluster: REDIS_URL must name it alone",
        })),
        _ => Ok(node),
    }
}

/// What a pipeline is called by: its first command.
fn name_of(commands: &[Cmd]) -> String {
    match commands.first().and_then(|it| it.args_iter().next()) {
        Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).to_ascii_lowercase(),
        _ => String::new(),
    }
}
