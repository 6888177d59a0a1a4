//! A host: its shards, each pinned to a core, and the control thread beside them.

use std::error::Error;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement};
use throng_bridge::{Memory, MemoryLimits, Port};
use throng_ring::preflight::{self, Host as HostFacts};
use throng_ring::{Address, Config as RingConfig, Listener, Ring, memory};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{info, warn};

use crate::app::{App, Envelope};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::{Control, FleetView, Line, Signals, StoreView};
use crate::handover::{self, HandedOver, HttpDoor};
use crate::ids::{Entropy, Seal};
use crate::limiter::Limiter;
use crate::limits::{
    CONTROL_REQUESTS_MAX, PORT_CLAIM_MS, RING_PARTS_MAX, SLOT_SPREAD_PERCENT, SPARE_SLOTS,
};
use crate::mesh::{Door, Mesh};
use crate::metrics::Cells;
use crate::shard::{Parts, Shard};

/// Memory glommio sets aside per executor for file I/O, which shards do not do.
const EXECUTOR_IO_BYTES: usize = 1 << 16;
/// Entries of the executor's own rings, which only carry its sleep.
const EXECUTOR_RING_DEPTH: usize = 16;
/// How often a busy executor looks at its own I/O, of which there is none but a shard's sleep.
///
/// Long on purpose: glommio 0.9 goes to sleep with tasks that could run if this timer fires before
/// the first of them had its turn. With its 100 ms, shards that shared a core with 26 others did
/// so, and never woke.
const EXECUTOR_PREEMPT: Duration = Duration::from_secs(10);
/// How often an executor wakes whatever happens, should that have befallen it all the same.
const EXECUTOR_WAKE: Duration = Duration::from_secs(5);

/// What an application and a bridge are made from, on each shard.
pub struct Seat<'a> {
    /// The settings.
    pub config: &'a Arc<Config>,
    /// The limits over all shards.
    pub limiter: &'a Arc<Limiter>,
    /// The shard's counters.
    pub cells: &'a Arc<Cells>,
    /// A prefix for ids that no other shard and no other start uses.
    pub id_prefix: &'a str,
    doors: &'a Arc<[Door]>,
    shard: u16,
}

impl Seat<'_> {
    /// What tells the shard, from any thread, that its bridge has something for it.
    pub fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let (doors, shard) = (Arc::clone(self.doors), self.shard);
        move || doors[usize::from(shard)].call(shard)
    }
}

/// A host whose shards run.
pub struct Host<A: App> {
    control: Arc<Control<A>>,
    handed_over: UnboundedReceiver<HandedOver>,
    shards: Vec<ExecutorJoinHandle<io::Result<()>>>,
    port: u16,
    facts: Facts,
}

/// What the host can hold, for the start-up lines.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Kernel release.
    pub kernel: String,
    /// Shards.
    pub shards: usize,
    /// Connections all tables together can hold.
    pub connections_max: u64,
    /// What bounds that below `MAX_CONNECTIONS`, if anything does.
    pub shortfall: Option<String>,
}

impl Facts {
    /// What this host can hold under these settings.
    pub fn new(config: &Config, host: &HostFacts) -> Self {
        let slots = slots_per_shard(config, host);
        let capacity =
            (u64::from(slots).saturating_sub(SPARE_SLOTS)).max(1) * config.workers as u64;
        let wanted = u64::from(config.connections_max);
        let shortfall = (capacity < wanted).then(|| {
            format!(
                "{wanted} connections were asked for (MAX_CONNECTIONS); a shard's table has room \
                 for {slots} (RLIMIT_NOFILE is {}): raise that (LimitNOFILE= in systemd, \
                 ulimit -n) or MAX_WORKERS",
                host.open_files_max,
            )
        });
        Self {
            kernel: host.kernel.clone(),
            shards: config.workers,
            connections_max: capacity.min(wanted),
            shortfall,
        }
    }
}

/// Looks whether this host can run the engine.
///
/// # Errors
/// All that it lacks, each with the way to mend it.
pub fn examine() -> Result<HostFacts, String> {
    preflight::check().map_err(|faults| {
        let lines = faults.iter().map(|fault| format!("\n  {}: {}", fault.what, fault.mend));
        format!("this host cannot run the engine:{}", lines.collect::<String>())
    })
}

fn slots_per_shard(config: &Config, host: &HostFacts) -> u32 {
    let share = u64::from(config.connections_max).div_ceil(config.workers as u64);
    let wanted = share * SLOT_SPREAD_PERCENT / 100 + SPARE_SLOTS;
    preflight::slots_within(wanted, host.open_files_max)
}

/// A bridge for applications that publish nothing which others could read later.
pub fn without_history(seat: &Seat<'_>) -> Box<dyn Port> {
    let limits = MemoryLimits { messages_per_room: 0, ttl_ms: 0, bytes_max: 0 };
    Box::new(Memory::new(limits, seat.id_prefix))
}

/// What gives each shard its end of the bridge.
pub trait Ports {
    /// The end of the shard that sits here; called once for each.
    fn port(&self, seat: &Seat<'_>) -> Box<dyn Port>;

    /// What the control thread may say of the store, if there is one.
    fn store(&self) -> Option<StoreView> {
        None
    }

    /// What it may say of the fleet, if there is one, and ask of it.
    fn fleet(&self) -> Option<FleetView> {
        None
    }

    /// The number by which the fleet knows this host; `None`: any will do.
    fn host_number(&self) -> Option<u32> {
        None
    }
}

impl<F: Fn(&Seat<'_>) -> Box<dyn Port>> Ports for F {
    fn port(&self, seat: &Seat<'_>) -> Box<dyn Port> {
        self(seat)
    }
}

impl<A: App + Send> Host<A> {
    /// Starts the shards. `app` and `bridge` are called once for each. Keeps the whole process from
    /// using huge pages.
    ///
    /// # Errors
    /// What the host lacks, the port that is taken, or what the kernel refused.
    pub fn start(
        config: Config,
        app: impl Fn(&Seat<'_>) -> A,
        bridge: &impl Ports,
    ) -> Result<Self, Box<dyn Error>> {
        memory::refuse_huge_pages();
        let host = examine()?;
        let config = Arc::new(config);
        let slots = slots_per_shard(&config, &host);
        let listeners = listen(&config)?;
        let port = listeners[0].local_addr()?.port();
        let (meshes, doors) = Mesh::<Envelope<A>>::new(config.workers as u16);
        let (http, handed_over) = handover::door();
        let shared = Shared {
            limiter: Arc::new(Limiter::new(&config)),
            clock: Clock::start(),
            host: bridge.host_number().unwrap_or_else(|| Entropy::default().number() as u32),
            cpus: cpus(),
            slots,
            http,
            seal: Seal::new(&mut Entropy::default()),
            rings: (0..config.workers).map(|_| OnceLock::new()).collect(),
            doors: Arc::clone(&doors),
            config,
        };
        let mut lines = Vec::new();
        let mut shards = Vec::new();
        for (mesh, listener) in meshes.into_iter().zip(listeners) {
            let (line, shard) = shared.start_shard(mesh, listener, &app, bridge)?;
            lines.push(line);
            shards.push(shard);
        }
        let facts = Facts::new(&shared.config, &host);
        let doors = Arc::clone(&doors) as Arc<[Door]>;
        let views = (bridge.store(), bridge.fleet());
        let control = Control::new(shared.config, lines, doors, facts.connections_max, views);
        Ok(Self { control, handed_over, shards, port, facts })
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the host can hold.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Runs the control thread on the calling thread until SIGTERM or SIGINT, drains, and returns
    /// when all shards have ended.
    ///
    /// # Errors
    /// What ended a shard before its time.
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let signals = ProcessSignals {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            };
            self.control.run(self.handed_over, signals).await;
            io::Result::Ok(())
        })?;
        // All have ended before the first error is told: their bridge waits for each.
        let ended: Vec<_> = self.shards.into_iter().map(ExecutorJoinHandle::join).collect();
        for shard in ended {
            shard.map_err(|error| error.to_string())??;
        }
        info!("stopped");
        Ok(())
    }
}

/// What all shards are started with.
struct Shared {
    config: Arc<Config>,
    limiter: Arc<Limiter>,
    clock: Clock,
    host: u32,
    cpus: Vec<usize>,
    slots: u32,
    http: HttpDoor,
    seal: Seal,
    rings: Arc<[OnceLock<Address>]>,
    doors: Arc<[Door]>,
}

type Started<A> = (Line<A>, ExecutorJoinHandle<io::Result<()>>);

impl Shared {
    /// Shards that share a core share its turns: what arrives at each meanwhile is the less.
    fn ring_config(&self) -> RingConfig {
        let whole = RingConfig { slots: self.slots, ..RingConfig::default() };
        let per_core = self.config.workers.div_ceil(self.cpus.len()).next_power_of_two();
        let part = (per_core as u32).min(RING_PARTS_MAX);
        RingConfig {
            // As many, since heartbeats come together; what is longer comes in several.
            buffer_bytes: whole.buffer_bytes / part as usize,
            submissions: whole.submissions / part,
            accepts: whole.accepts / part,
            ..whole
        }
    }

    fn start_shard<A: App + Send>(
        &self,
        mesh: Mesh<Envelope<A>>,
        listener: Listener,
        app: impl Fn(&Seat<'_>) -> A,
        bridge: &impl Ports,
    ) -> Result<Started<A>, GlommioError<()>> {
        let index = usize::from(mesh.index());
        let cells = Arc::new(Cells::default());
        let (sender, commands) = sync_channel(CONTROL_REQUESTS_MAX);
        let id_prefix = format!("{:08x}{index:x}-", self.host);
        let seat = Seat {
            config: &self.config,
            limiter: &self.limiter,
            cells: &cells,
            id_prefix: &id_prefix,
            doors: &self.doors,
            shard: mesh.index(),
        };
        let parts = Parts {
            app: app(&seat),
            port: bridge.port(&seat),
            config: Arc::clone(&self.config),
            mesh,
            cells: Arc::clone(&cells),
            limiter: Arc::clone(&self.limiter),
            http: self.http.clone(),
            commands,
            clock: self.clock,
            host: self.host,
            seal: self.seal.clone(),
            rings: Arc::clone(&self.rings),
            slots: self.slots,
        };
        let ring = self.ring_config();
        let shard = LocalExecutorBuilder::new(Placement::Fixed(self.cpus[index % self.cpus.len()]))
            .name(&format!("shard-{index}"))
            .io_memory(EXECUTOR_IO_BYTES)
            .ring_depth(EXECUTOR_RING_DEPTH)
            .preempt_timer(EXECUTOR_PREEMPT)
            .spawn(move || run_shard(ring, listener, parts))?;
        Ok((Line { commands: sender, cells }, shard))
    }
}

async fn run_shard<A: App>(
    config: RingConfig,
    listener: Listener,
    parts: Parts<A>,
) -> io::Result<()> {
    let wake = glommio::spawn_local(wake_now_and_then());
    let ended = drive_shard(config, listener, parts).await;
    wake.cancel().await;
    ended
}

async fn drive_shard<A: App>(
    config: RingConfig,
    listener: Listener,
    parts: Parts<A>,
) -> io::Result<()> {
    let mut ring = Ring::new(config)?;
    ring.listen(listener, config.accepts)?;
    Shard::new(ring, parts)?.run().await
}

/// See [`EXECUTOR_PREEMPT`].
async fn wake_now_and_then() {
    loop {
        glommio::timer::sleep(EXECUTOR_WAKE).await;
    }
}

/// A listener per shard, all on one port.
fn listen(config: &Config) -> Result<Vec<Listener>, Box<dyn Error>> {
    let named = |error: io::Error| match config.host {
        Some(host) => {
            format!("cannot listen on {host}, port {} (HOST, PORT): {error}", config.port)
        }
        None => format!("cannot listen on port {} (PORT): {error}", config.port),
    };
    if config.port != 0 {
        claim(config).map_err(named)?;
    }
    let first = Listener::bind(config.host, config.port).map_err(named)?;
    let port = first.local_addr()?.port();
    let mut listeners = vec![first];
    for _ in 1..config.workers {
        listeners.push(Listener::bind(config.host, port).map_err(named)?);
    }
    if let Err(error) = listeners[0].spread_over(config.workers as u16) {
        warn!(%error, "connections are spread over shards by hash, which may be uneven");
    }
    Ok(listeners)
}

/// Makes sure that nobody else listens on the port: listeners share it with each other, and would
/// share it with another engine as well. One that has just ended may hold it a moment longer, until
/// the kernel has taken its rings apart.
fn claim(config: &Config) -> io::Result<()> {
    let host = config.host.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let deadline = Instant::now() + Duration::from_millis(PORT_CLAIM_MS);
    loop {
        match TcpListener::bind((host, config.port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(50));
            }
            bound => return bound.map(drop),
        }
    }
}

/// The cores this process may use.
fn cpus() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    let cpus: Vec<_> =
        list.unwrap_or_default().trim().split(',').filter_map(range).flatten().collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

struct ProcessSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals for ProcessSignals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
