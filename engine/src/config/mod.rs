//! The settings: what was written, and what the program needs.
//!
//! [`Settings`] is what was written, as text and with its origin: defaults < TOML file <
//! environment < flags. [`Config`] is what the program needs, parsed from it into types once, at
//! start-up. One table ([`GROUPS`]) names every setting with its default, meaning and parser; the
//! environment, the flags, the help text, the file's keys and `throng config` all follow from it.
//!
//! Invariants: nothing written is ignored (an unknown key in the file and a setting whose feature
//! is not there yet are errors); all problems are reported together, each naming its setting; a
//! secret is never printed; [`Config::default`] is what the table's defaults parse to.

mod check;
mod parse;
mod redis;
mod settings;
mod show;
mod table;
mod types;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{error, fmt, thread};

use throng_bridge::fleet::{Adapter, Target};

use crate::limits::FRAGMENTS_MAX;

pub use settings::{Settings, Written};
pub use table::{GROUPS, Group, Preset, Setting};
pub use types::{
    AckLevel, AlertLimits, CorsOrigins, LogFormat, Origin, Rate, Secret, SlowConsumer,
};

/// What the program needs to know, in types. Its documented defaults are [`Config::default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `HOST`: the address clients connect to; none means all of them, IPv4 and IPv6.
    pub host: Option<IpAddr>,
    /// `PORT`; 0 lets the kernel choose one.
    pub port: u16,
    /// `MAX_WORKERS`: how many shards, at least one.
    pub workers: usize,
    /// `MAX_CONNECTIONS` of the whole host.
    pub connections_max: u32,
    /// `MAX_CONNECTIONS_PER_IP`, an IPv6 address being its /64; 0 means no limit.
    pub connections_per_ip_max: u32,
    /// `MESSAGE_RATE_LIMIT` of one user.
    pub message_rate: Rate,
    /// `TYPING_RATE_LIMIT` of one user.
    pub typing_rate: Rate,
    /// `MAX_MESSAGE_BYTES`: one message's body.
    pub message_bytes_max: usize,
    /// `MAX_PAYLOAD`: one Engine.IO packet, in bytes.
    pub payload_bytes_max: usize,
    /// Fragments one WebSocket message may come in. Not a setting: only conformance suites need
    /// more than the default.
    pub fragments_max: u32,
    /// `PING_INTERVAL` of Engine.IO.
    pub ping_interval: Duration,
    /// `PING_TIMEOUT` of Engine.IO.
    pub ping_timeout: Duration,
    /// `CONNECT_TIMEOUT`: how long a client may take to join its first namespace.
    pub connect_timeout: Duration,
    /// `HANDSHAKE_TIMEOUT`: how long a connection may take to send its first request.
    pub handshake_timeout: Duration,
    /// `OUTBOX_BYTES`: what a connection may owe before the slow-consumer policy acts.
    pub outbox_bytes_max: usize,
    /// `SLOW_CONSUMER`: that policy.
    pub slow_consumer: SlowConsumer,
    /// `FLUSH_INTERVAL`: extra delay in which frames are gathered; with zero they leave each turn.
    pub flush_interval: Duration,
    /// `PRESENCE_INTERVAL`: how long presence changes of a room are gathered.
    pub presence_interval: Duration,
    /// `HISTORY_SIZE`: how many messages of a room are kept for those who join.
    pub history_size: usize,
    /// `HISTORY_TTL`: and for how long.
    pub history_ttl: Duration,
    /// `ROOMS_PER_SOCKET`: how many rooms one connection may be in.
    pub rooms_per_socket_max: usize,
    /// `RECOVERY_WINDOW`: how long a client whose connection broke may come back and miss nothing;
    /// zero: it comes back as a new one.
    pub recovery_window: Duration,
    /// `COMPRESSION`: whether WebSocket messages may be compressed (RFC 7692).
    pub compression: bool,
    /// `COMPRESSION_MIN_BYTES`: those of at least so many bytes.
    pub compression_bytes_min: usize,
    /// `CORS_ORIGINS`: whose pages may connect, besides the engine's own.
    pub cors_origins: CorsOrigins,
    /// `RESERVED_NAMES`: user names nobody may take, in lower case.
    pub reserved_names: Vec<String>,
    /// `BLOCKED_NAMES`: further ones, in lower case.
    pub blocked_names: Vec<String>,
    /// `DRAIN_TIMEOUT`: how long a shutdown may take.
    pub drain_timeout: Duration,
    /// `LOG`: a filter in the syntax of `tracing_subscriber::EnvFilter`, known to be valid.
    pub log: String,
    /// `LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `DATA_DIR`: where the embedded store and messages no store takes live; `None`: nowhere.
    pub data_dir: Option<PathBuf>,
    /// `MONGODB_URI`: where messages, rooms and users live instead.
    pub mongodb_uri: Option<Secret>,
    /// `MONGODB_POOL_SIZE`: connections to it, unless the URI says.
    pub mongodb_pool_size: u32,
    /// `REDIS_URL`, or `REDIS_HOST` with `REDIS_PORT` and `REDIS_PASSWORD`: the fleet's Redis;
    /// `None`: this host is alone.
    pub redis: Option<Target>,
    /// `REDIS_POOL_SIZE`: command connections to each of its nodes.
    pub redis_pool_size: u16,
    /// `REDIS_KEY_PREFIX`: put before every key and channel.
    pub redis_key_prefix: Box<str>,
    /// `SOCKETIO_ADAPTER`: how Node servers are spoken to.
    pub socketio_adapter: Adapter,
    /// `ACK_LEVEL`; where nothing is written, the strongest that is configured.
    pub ack_level: AckLevel,
    /// `MESSAGE_RETENTION`: older messages are deleted; `None`: none are.
    pub message_retention: Option<Duration>,
    /// `USER_RETENTION`: users who were not here for longer are deleted; `None`: none are.
    pub user_retention: Option<Duration>,
    /// `API_KEY`: what opens the writing part of `/api`.
    pub api_key: Option<Secret>,
    /// `ALERT_…`: when `/alerts` and the log say that something is wrong.
    pub alerts: AlertLimits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: None,
            port: 5000,
            workers: cores(),
            connections_max: 1_000_000,
            connections_per_ip_max: 50,
            message_rate: Rate::per_minute(30),
            typing_rate: Rate::per_minute(10),
            message_bytes_max: 64 << 10,
            payload_bytes_max: 1_000_000,
            fragments_max: FRAGMENTS_MAX,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(45),
            handshake_timeout: Duration::from_secs(5),
            outbox_bytes_max: 1 << 20,
            slow_consumer: SlowConsumer::Disconnect,
            flush_interval: Duration::ZERO,
            presence_interval: Duration::from_millis(100),
            history_size: 100,
            history_ttl: Duration::from_secs(24 * 60 * 60),
            rooms_per_socket_max: 100,
            recovery_window: Duration::ZERO,
            compression: false,
            compression_bytes_min: 1024,
            cors_origins: CorsOrigins::None,
            reserved_names: parse::list(table::RESERVED_NAMES),
            blocked_names: Vec::new(),
            drain_timeout: Duration::from_secs(30),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            data_dir: Some(PathBuf::from("./data")),
            mongodb_uri: None,
            mongodb_pool_size: 50,
            redis: None,
            redis_pool_size: 1,
            redis_key_prefix: "".into(),
            socketio_adapter: Adapter::Off,
            ack_level: AckLevel::Store,
            message_retention: None,
            user_retention: None,
            api_key: None,
            alerts: AlertLimits::default(),
        }
    }
}

impl Config {
    /// Parses what was written; a value that does not parse leaves its default and a problem.
    fn parse(settings: &Settings, problems: &mut Vec<Problem>) -> Self {
        let mut config = Self::default();
        for (setting, written) in settings.iter() {
            if let Err(reason) = setting.apply(&mut config, written.text.trim()) {
                let line = format!("{}: {reason}", written.describe(setting));
                problems.push(Problem::new(setting.name, line));
            }
        }
        redis::join(&mut config, settings, problems);
        if settings.find("ACK_LEVEL").is_none() {
            config.ack_level = config.strongest();
        }
        config
    }

    /// Whether messages, rooms and users are kept in a store.
    #[must_use]
    pub fn has_store(&self) -> bool {
        self.mongodb_uri.is_some() || self.data_dir.is_some()
    }

    /// The level at which a message is as safe as it can be here.
    fn strongest(&self) -> AckLevel {
        match (self.has_store(), &self.redis) {
            (true, _) => AckLevel::Store,
            (false, Some(_)) => AckLevel::Redis,
            (false, None) => AckLevel::Memory,
        }
    }
}

/// How long a room's messages stay, as `MESSAGE_RETENTION` is written but never `off`.
///
/// # Errors
/// What it must be.
pub fn retention(text: &str) -> Result<Duration, String> {
    let off = || "must be a time with its unit (90m, 24h, 365d) of at least 1s".to_owned();
    parse::retention(text).ok().flatten().ok_or_else(off)
}

/// The cores this process may use, cgroup limits and affinity included.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(table::WORKERS_MAX)
}

/// Settings that passed every check.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the program needs.
    pub config: Config,
    /// What was written, and where; its `Display` is what `throng config` prints.
    pub settings: Settings,
}

/// Reads the settings of all four sources, the later ones winning; `env` and `flag` are asked by a
/// setting's name.
///
/// An empty environment variable counts as not set, since that is how deployment tools write it; an
/// empty value in the file or as a flag is a value.
///
/// # Errors
/// Every problem found, not only the first; each names the setting that mends it.
pub fn load(
    file: Option<&Path>,
    env: impl Fn(&str) -> Option<OsString>,
    flag: impl Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let settings = Settings::merge(file, env, flag, &mut problems);
    let config = Config::parse(&settings, &mut problems);
    check::relations(&config, &settings, &mut problems);
    if problems.is_empty() { Ok(Loaded { config, settings }) } else { Err(Problems(problems)) }
}

/// What is wrong with one setting: the operator's fault, and no use to retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting's name, or the file's key or path if it is none of the settings.
    pub setting: String,
    line: String,
}

impl Problem {
    fn new(setting: impl Into<String>, line: String) -> Self {
        Self { setting: setting.into(), line }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// All that is wrong with the settings, at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings need attention:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl error::Error for Problems {}
