//! What is outside the shards: the store that the settings name, and each shard's way to it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use throng_bridge::store::{Mongo, Retention, Sqlite, Store, StoreError};
use throng_bridge::{Bridge, Line, Memory, MemoryLimits, Plan, Port, Stored, StoredLimits, Users};

use crate::config::{AckLevel, Config};
use crate::control::StoreView;
use crate::host::{Ports, Seat};
use crate::limits::{
    HISTORY_BYTES_PER_SHARD_MAX, STORE_QUESTIONS_MAX, STORE_QUEUE_BYTES_MAX, STORE_QUEUE_MAX,
};

/// The embedded store's file in `DATA_DIR`.
pub(crate) const FILE: &str = "throng.db";
/// Where in `DATA_DIR` messages go that the store refuses.
const PARKED: &str = "parked.ndjson";
/// The folder of backups in `DATA_DIR`.
const BACKUPS: &str = "backups";

/// The bridge, with the shards' lines until they are taken.
pub struct Outside {
    bridge: Option<Bridge>,
    lines: RefCell<VecDeque<Line>>,
    users: Option<Users>,
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

/// Whether the settings name a store.
pub fn has_store(config: &Config) -> bool {
    config.mongodb_uri.is_some() || config.data_dir.is_some()
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
    let place = match (&config.mongodb_uri, &config.data_dir) {
        (Some(_), _) => "in MongoDB (MONGODB_URI)".to_owned(),
        (None, Some(folder)) => format!("in {}", folder.join(FILE).display()),
        (None, None) => return "in memory alone (DATA_DIR=none)".to_owned(),
    };
    match config.ack_level {
        Some(AckLevel::Memory) => format!("{place}; acknowledged before that (ACK_LEVEL=memory)"),
        _ => format!("{place}; acknowledged once they are there"),
    }
}

/// Opens the store and closes it again, for `throng check`; what it found.
///
/// # Errors
/// The store's, with the setting that names it.
pub fn try_out(config: &Config) -> Result<String, Box<dyn Error>> {
    if !has_store(config) {
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

fn refusal(config: &Config, error: &StoreError) -> String {
    let setting = if config.mongodb_uri.is_some() { "MONGODB_URI" } else { "DATA_DIR" };
    format!("the store cannot be used ({setting}): {error}")
}

impl Outside {
    /// Starts the bridge's thread, if there is something to keep.
    ///
    /// # Errors
    /// The store's, with the setting that names it.
    pub fn start(config: &Config) -> Result<Self, Box<dyn Error>> {
        if !has_store(config) {
            let (lines, config) = (RefCell::default(), config.clone());
            return Ok(Self { bridge: None, lines, users: None, config });
        }
        let parked = config.data_dir.as_ref().map(|folder| folder.join(PARKED));
        let is_lazy = config.ack_level == Some(AckLevel::Memory);
        let plan = Plan { retention: retention(config), parked, is_lazy };
        let owned = config.clone();
        let open =
            move || -> throng_bridge::Opening { Box::pin(async move { open(&owned).await }) };
        let (bridge, lines, users) = Bridge::start(open, plan, config.workers as u16)
            .map_err(|error| refusal(config, &error))?;
        let lines = RefCell::new(lines.into());
        let config = config.clone();
        Ok(Self { bridge: Some(bridge), lines, users: Some(users), config })
    }

    /// Where to note who was here.
    pub fn users(&self) -> Option<Users> {
        self.users.clone()
    }

    /// Waits until everything is kept; the shards must have ended.
    pub fn finish(self, patience: Duration) {
        let Self { bridge, lines, users, .. } = self;
        drop((lines, users));
        if let Some(bridge) = bridge {
            bridge.finish(patience);
        }
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
        let Some(line) = self.lines.borrow_mut().pop_front() else {
            return Box::new(Memory::new(memory, seat.id_prefix));
        };
        line.wake_by(seat.waker());
        let limits = StoredLimits {
            memory,
            settles_at_commit: config.ack_level != Some(AckLevel::Memory),
            queued_messages_max: STORE_QUEUE_MAX.div_ceil(config.workers),
            queued_bytes_max: STORE_QUEUE_BYTES_MAX.div_ceil(config.workers),
            questions_max: STORE_QUESTIONS_MAX,
            retention_ms: retention(config).messages_ms,
        };
        Box::new(Stored::new(limits, line, seat.id_prefix))
    }

    fn store(&self) -> Option<StoreView> {
        let bridge = self.bridge.as_ref()?;
        let (kind, stats) = (bridge.kind(), Arc::clone(bridge.stats()));
        Some(StoreView { kind, stats, backups: backups_dir(&self.config) })
    }
}
