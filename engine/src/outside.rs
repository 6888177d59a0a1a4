//! What is outside the shards: the store and the fleet that the settings name, and each shard's way
//! to them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use throng_bridge::fleet::{self, Fleet, FleetLine, FleetPlan, HostId};
use throng_bridge::store::{Mongo, Retention, Sqlite, Store, StoreError};
use throng_bridge::{Bridge, Line, Memory, MemoryLimits, Plan, Port, Stored, StoredLimits, Users};
use tokio::task::LocalSet;

use crate::config::{AckLevel, Config};
use crate::control::{FleetView, StoreView};
use crate::host::{Ports, Seat};
use crate::ids::Entropy;
use crate::limits::{
    HISTORY_BYTES_PER_SHARD_MAX, STORE_QUESTIONS_MAX, STORE_QUEUE_BYTES_MAX, STORE_QUEUE_MAX,
};

/// The embedded store's file in `DATA_DIR`.
pub(crate) const FILE: &str = "throng.db";
/// Where in `DATA_DIR` messages go that the store refuses.
const PARKED: &str = "parked.ndjson";
/// The folder of backups in `DATA_DIR`.
const BACKUPS: &str = "backups";

/// The bridge and the fleet, with the shards' lines until they are taken.
pub struct Outside {
    bridge: Option<Bridge>,
    lines: RefCell<VecDeque<Line>>,
    users: Option<Users>,
    fleet: Option<(HostId, Fleet)>,
    fleet_lines: RefCell<VecDeque<FleetLine>>,
    config: Config,
}

/// How long things stay.
pub fn retention(config: &Config) -> Retention {
    let ms = |time: Duration| time.as_millis() as u64;
    let messages_ms = config.message_retention.map(ms);
    Retention { messages_ms, users_ms: config.user_retention.map(ms) }
}

/// Where backups stand unless a backup is told otherwise; `None` without a `DATA_DIR`.
pub fn backups_dir(config: &Config) -> Option<PathBuf> {
    config.data_dir.as_ref().map(|folder| folder.join(BACKUPS))
}

/// Opens the store that the settings name, within a tokio runtime.
///
/// # Errors
/// What the store says; that there is none.
pub async fn open(config: &Config) -> Result<Arc<dyn Store>, StoreError> {
    if let Some(uri) = &config.mongodb_uri {
        let (uri, pool_size) = (uri.reveal(), config.mongodb_pool_size);
        return Ok(Arc::new(Mongo::open(uri, pool_size, retention(config)).await?));
    }
    match &config.data_dir {
        Some(folder) => Ok(Arc::new(Sqlite::open(&folder.join(FILE)).await?)),
        None => Err(StoreError::Unusable("no store is configured (DATA_DIR=none)".to_owned())),
    }
}

/// Where messages go and when their senders are told so, for the start-up lines.
pub fn describe(config: &Config) -> String {
    let place = match (&config.mongodb_uri, &config.data_dir, &config.redis) {
        (Some(_), ..) => "in MongoDB (MONGODB_URI)".to_owned(),
        (None, Some(folder), _) => format!("in {}", folder.join(FILE).display()),
        (None, None, Some(_)) => "the latest in Redis (DATA_DIR=none)".to_owned(),
        (None, None, None) => return "in memory alone (DATA_DIR=none)".to_owned(),
    };
    match config.ack_level {
        AckLevel::Memory => format!("{place}; acknowledged before that (ACK_LEVEL=memory)"),
        AckLevel::Redis if config.has_store() => {
            format!("{place}; acknowledged once Redis has them (ACK_LEVEL=redis)")
        }
        AckLevel::Redis | AckLevel::Store => format!("{place}; acknowledged once they are there"),
    }
}

/// Which Redis makes this host one of many, for the start-up lines.
pub fn describe_fleet(config: &Config) -> String {
    match &config.redis {
        None => "off; this host is alone (REDIS_URL)".to_owned(),
        Some(target) => format!("{target} (REDIS_URL)"),
    }
}

/// Opens the store and closes it again, for `throng check`; what it found.
///
/// # Errors
/// The store's, with the setting that names it.
pub fn try_out(config: &Config) -> Result<String, Box<dyn Error>> {
    if !config.has_store() {
        return Ok("off (DATA_DIR=none)".to_owned());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        let store = open(config).await?;
        let found = store.check().await.map(|()| format!("ok ({})", store.kind()));
        store.close().await;
        found
    });
    Ok(found.map_err(|error| refusal(config, &error))?)
}

/// Connects to Redis as a host does and leaves again, for `throng check`; what it found.
///
/// # Errors
/// Redis's, with the setting that names it.
pub fn try_out_redis(config: &Config) -> Result<String, Box<dyn Error>> {
    let Some(target) = &config.redis else { return Ok("off".to_owned()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = LocalSet::new().block_on(&runtime, fleet::probe(target));
    match found {
        Ok(found) => Ok(format!("ok ({found})")),
        Err(error) => Err(format!("Redis cannot be used (REDIS_URL or its parts): {error}").into()),
    }
}

fn refusal(config: &Config, error: &StoreError) -> String {
    let setting = if config.mongodb_uri.is_some() { "MONGODB_URI" } else { "DATA_DIR" };
    format!("the store cannot be used ({setting}): {error}")
}

/// The store's thread, if there is something to keep, and each shard's line to it.
type Kept = (Option<Bridge>, VecDeque<Line>, Option<Users>);

fn start_bridge(config: &Config) -> Result<Kept, Box<dyn Error>> {
    if !config.has_store() {
        return Ok((None, VecDeque::new(), None));
    }
    let parked = config.data_dir.as_ref().map(|folder| folder.join(PARKED));
    let is_lazy = config.ack_level == AckLevel::Memory;
    let plan = Plan { retention: retention(config), parked, is_lazy };
    let owned = config.clone();
    let open = move || -> throng_bridge::Opening { Box::pin(async move { open(&owned).await }) };
    let (bridge, lines, users) = Bridge::start(open, plan, config.workers as u16)
        .map_err(|error| refusal(config, &error))?;
    Ok((Some(bridge), lines.into(), Some(users)))
}

/// The fleet's thread, this host's number in it, and each shard's line to it.
type Joined = (Option<(HostId, Fleet)>, VecDeque<FleetLine>);

/// Joins the fleet under a random number. Redis need not be there yet.
fn start_fleet(config: &Config) -> io::Result<Joined> {
    let Some(target) = &config.redis else { return Ok((None, VecDeque::new())) };
    let host = Entropy::default().number() as u32;
    let plan = FleetPlan {
        target: target.clone(),
        prefix: config.redis_key_prefix.clone(),
        host,
        pool_size: config.redis_pool_size,
        history_size: config.history_size,
        history_ttl_ms: config.history_ttl.as_millis() as u64,
        recovery_window_ms: config.recovery_window.as_millis() as u64,
        adapter: config.socketio_adapter,
    };
    let (fleet, lines) = Fleet::start(plan, config.workers as u16)?;
    Ok((Some((host, fleet)), lines.into()))
}

impl Outside {
    /// Starts the threads of what the settings name.
    ///
    /// # Errors
    /// The store's, with the setting that names it; the system's.
    pub fn start(config: &Config) -> Result<Self, Box<dyn Error>> {
        let (bridge, lines, users) = start_bridge(config)?;
        let (fleet, fleet_lines) = start_fleet(config)?;
        let (lines, fleet_lines) = (RefCell::new(lines), RefCell::new(fleet_lines));
        Ok(Self { bridge, lines, users, fleet, fleet_lines, config: config.clone() })
    }

    /// Where to note who was here.
    pub fn users(&self) -> Option<Users> {
        self.users.clone()
    }

    /// Waits until everything is published and kept; the shards must have ended. Neither waits for
    /// the other: one that is away leaves all of `patience` to the other.
    pub fn finish(self, patience: Duration) {
        let Self { bridge, lines, users, fleet, fleet_lines, .. } = self;
        drop((lines, users, fleet_lines));
        thread::scope(|scope| {
            if let Some((_, fleet)) = fleet {
                scope.spawn(move || fleet.finish(patience));
            }
            if let Some(bridge) = bridge {
                bridge.finish(patience);
            }
        });
    }
}

impl Ports for Outside {
    /// The next line at each call.
    fn port(&self, seat: &Seat<'_>) -> Box<dyn Port> {
        let config = seat.config;
        let memory = MemoryLimits {
            messages_per_room: config.history_size,
            ttl_ms: config.history_ttl.as_millis() as u64,
            bytes_max: HISTORY_BYTES_PER_SHARD_MAX,
        };
        let line = self.lines.borrow_mut().pop_front();
        if let Some(line) = &line {
            line.wake_by(seat.waker());
        }
        let limits = StoredLimits {
            memory,
            settles_at_commit: config.ack_level == AckLevel::Store,
            queued_messages_max: STORE_QUEUE_MAX.div_ceil(config.workers),
            queued_bytes_max: STORE_QUEUE_BYTES_MAX.div_ceil(config.workers),
            questions_max: STORE_QUESTIONS_MAX,
            retention_ms: retention(config).messages_ms,
        };
        match (line, self.fleet_lines.borrow_mut().pop_front()) {
            (line, Some(fleet)) => {
                fleet.wake_by(seat.waker());
                // A file of this host's own has to have what other hosts publish as well.
                let keeps_all = config.mongodb_uri.is_none();
                Box::new(Stored::in_fleet(limits, line, (fleet, keeps_all), seat.id_prefix))
            }
            (Some(line), None) => Box::new(Stored::new(limits, line, seat.id_prefix)),
            (None, None) => Box::new(Memory::new(memory, seat.id_prefix)),
        }
    }

    fn store(&self) -> Option<StoreView> {
        let bridge = self.bridge.as_ref()?;
        let (kind, stats) = (bridge.kind(), Arc::clone(bridge.stats()));
        Some(StoreView { kind, stats, backups: backups_dir(&self.config) })
    }

    fn fleet(&self) -> Option<FleetView> {
        let (_, fleet) = self.fleet.as_ref()?;
        let kind = self.config.redis.as_ref()?.kind();
        Some(FleetView { kind, stats: Arc::clone(fleet.stats()), inquiries: fleet.inquiries() })
    }

    fn host_number(&self) -> Option<HostId> {
        self.fleet.as_ref().map(|(host, _)| *host)
    }
}
