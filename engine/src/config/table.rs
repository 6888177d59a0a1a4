//! Every setting: its name, default, meaning and parser. All other lists follow from it.

use std::ops::RangeInclusive;
use std::time::Duration;

use throng_bridge::fleet::{Adapter, Mode};

use super::types::{AckLevel, LogFormat, SlowConsumer};
use super::{Config, parse};
use Preset::{Cores, Text, Unset};

/// A setting. The file's key and the flag follow from its name, the environment variable's.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable, such as `MAX_WORKERS`.
    pub name: &'static str,
    /// Its default.
    pub preset: Preset,
    /// One line for the help text.
    pub meaning: &'static str,
    /// Whether its value must never be printed.
    pub secret: bool,
    apply: Option<Apply>,
}

/// Parses a value into its place; the error says what it must be.
type Apply = fn(&mut Config, &str) -> Result<(), String>;

/// What holds where nothing is written.
#[derive(Clone, Copy, Debug)]
pub enum Preset {
    /// As if this had been written.
    Text(&'static str),
    /// As if the number of available cores had been written.
    Cores,
    /// Nothing, which means this.
    Unset(&'static str),
}

/// Settings that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The heading in the help text.
    pub title: &'static str,
    /// Its settings.
    pub settings: &'static [Setting],
}

impl Setting {
    /// The key in the TOML file, such as `max_workers`.
    #[must_use]
    pub fn key(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    /// The flag without its dashes, such as `max-workers`.
    #[must_use]
    pub fn flag(&self) -> String {
        self.key().replace('_', "-")
    }

    /// Parses `text` into `config`. What is not supported yet may only ask for what holds anyway.
    pub(super) fn apply(&self, config: &mut Config, text: &str) -> Result<(), String> {
        match (self.apply, self.preset) {
            (Some(apply), _) => apply(config, text),
            (None, Text(only)) if text == only => Ok(()),
            (None, Text(only)) => Err(format!("not supported by this version yet, only {only} is")),
            (None, _) => Err("not supported by this version yet, leave it out".to_owned()),
        }
    }

    const fn new(
        name: &'static str,
        preset: Preset,
        meaning: &'static str,
        apply: Option<Apply>,
    ) -> Self {
        Self { name, preset, meaning, secret: false, apply }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }
}

/// Every setting, in the order of the help text.
pub(super) fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// The most shards a host may have.
pub(super) const WORKERS_MAX: usize = 1024;

pub(super) const RESERVED_NAMES: &str = "admin,administrator,moderator,root,server,system,throng";

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const SECOND: Duration = Duration::from_secs(1);

/// Zero would close every connection at once, an hour holds on to every dead one.
const TIMEOUT: RangeInclusive<Duration> = ms(1)..=HOUR;

/// A parser of the field's type, with its bounds.
macro_rules! set {
    ($($field:ident).+, $parser:ident $(, $bounds:expr)?) => {
        Some(|config, text| {
            config.$($field).+ = parse::$parser(text $(, $bounds)?)?;
            Ok(())
        })
    };
}

/// Every setting, grouped.
#[rustfmt::skip] // One setting, one or two lines.
pub const GROUPS: &[Group] = &[
    Group { title: "Server", settings: &[
        Setting::new("HOST", Unset("all addresses, IPv4 and IPv6"), "IP address clients connect to",
            set!(host, address)),
        Setting::new("PORT", Text("5000"), "where clients connect; 0 = any free port",
            set!(port, number, 0..=65535)),
        Setting::new("MAX_WORKERS", Cores, "shards; more than cores are placed round robin",
            set!(workers, number, 1..=WORKERS_MAX)),
        Setting::new("DRAIN_TIMEOUT", Text("30s"), "how long a shutdown may take",
            set!(drain_timeout, duration, Duration::ZERO..=DAY)),
        Setting::new("LOG", Text("info"), "level, or target=level, comma-separated",
            set!(log, log_filter)),
        Setting::new("LOG_FORMAT", Text("text"), "text or json",
            set!(log_format, choice, &[("text", LogFormat::Text), ("json", LogFormat::Json)])),
    ]},
    Group { title: "Limits", settings: &[
        Setting::new("MAX_CONNECTIONS", Text("1000000"), "of this host; refused with 503 above it",
            set!(connections_max, number, 1..=100_000_000)),
        Setting::new("MAX_CONNECTIONS_PER_IP", Text("50"), "IPv6 counted per /64; 0 = no limit",
            set!(connections_per_ip_max, number, 0..=u32::MAX)),
        Setting::new("MESSAGE_RATE_LIMIT", Text("30/m"), "per user: N/s, N/m or 0 = no limit",
            set!(message_rate, rate)),
        Setting::new("TYPING_RATE_LIMIT", Text("10/m"), "typing events, likewise",
            set!(typing_rate, rate)),
        Setting::new("MAX_MESSAGE_BYTES", Text("65536"), "one message's body",
            set!(message_bytes_max, bytes, 1..=1 << 20)),
        Setting::new("MAX_PAYLOAD", Text("1000000"), "one Engine.IO packet, in bytes",
            set!(payload_bytes_max, bytes, 1..=64 << 20)),
        Setting::new("OUTBOX_BYTES", Text("1MiB"), "unsent bytes a connection may owe",
            set!(outbox_bytes_max, bytes, 1..=1 << 30)),
        Setting::new("SLOW_CONSUMER", Text("disconnect"), "if more: disconnect or drop-oldest",
            set!(slow_consumer, choice, SLOW_CONSUMERS)),
        Setting::new("ROOMS_PER_SOCKET", Text("100"), "rooms one connection may be in",
            set!(rooms_per_socket_max, number, 1..=10_000)),
    ]},
    Group { title: "Timing", settings: &[
        Setting::new("PING_INTERVAL", Text("25s"), "between two pings of Engine.IO",
            set!(ping_interval, duration, TIMEOUT)),
        Setting::new("PING_TIMEOUT", Text("20s"), "how long a client may take to answer a ping",
            set!(ping_timeout, duration, TIMEOUT)),
        Setting::new("CONNECT_TIMEOUT", Text("45s"), "how long it may take to join a namespace",
            set!(connect_timeout, duration, TIMEOUT)),
        Setting::new("HANDSHAKE_TIMEOUT", Text("5s"), "how long until its first request",
            set!(handshake_timeout, duration, TIMEOUT)),
        Setting::new("FLUSH_INTERVAL", Text("0"), "extra delay in which frames are gathered",
            set!(flush_interval, duration, Duration::ZERO..=SECOND)),
        Setting::new("PRESENCE_INTERVAL", Text("100ms"), "how long presence changes are gathered",
            set!(presence_interval, duration, Duration::ZERO..=HOUR)),
    ]},
    Group { title: "Rooms", settings: &[
        Setting::new("HISTORY_SIZE", Text("100"), "messages kept per room; 0 = none",
            set!(history_size, number, 0..=10_000)),
        Setting::new("HISTORY_TTL", Text("24h"), "how long they are kept",
            set!(history_ttl, duration, SECOND..=Duration::from_secs(365 * 24 * 60 * 60))),
    ]},
    Group { title: "Connections", settings: &[
        Setting::new("RECOVERY_WINDOW", Text("0"), "how long a broken connection is kept; 0 = not",
            set!(recovery_window, duration, Duration::ZERO..=HOUR)),
        Setting::new("COMPRESSION", Text("off"), "on: compress WebSocket messages if clients can",
            set!(compression, choice, &[("off", false), ("on", true)])),
        Setting::new("COMPRESSION_MIN_BYTES", Text("1KiB"), "smaller ones are sent as they are",
            set!(compression_bytes_min, bytes, 0..=1 << 30)),
    ]},
    Group { title: "Access", settings: &[
        Setting::new("CORS_ORIGINS", Unset("none"), "pages that may connect, comma-separated, or *",
            set!(cors_origins, origins)),
        Setting::new("RESERVED_NAMES", Text(RESERVED_NAMES), "names nobody may take",
            set!(reserved_names, names)),
        Setting::new("BLOCKED_NAMES", Unset("none"), "further ones, comma-separated",
            set!(blocked_names, names)),
        Setting::new("API_KEY", Unset("none"), "opens the writing part of /api",
            set!(api_key, secret)).secret(),
    ]},
    Group { title: "Store", settings: &[
        Setting::new("DATA_DIR", Text("./data"), "where messages live; none = nowhere",
            set!(data_dir, data_dir)),
        Setting::new("MONGODB_URI", Unset("none"), "where they live instead: mongodb://…",
            set!(mongodb_uri, mongodb_uri)).secret(),
        Setting::new("MONGODB_POOL_SIZE", Text("50"), "connections to it",
            set!(mongodb_pool_size, number, 1..=10_000)),
        Setting::new("ACK_LEVEL", Unset("strongest configured"), "acks wait: memory, redis, store",
            set!(ack_level, choice, ACK_LEVELS)),
        Setting::new("MESSAGE_RETENTION", Text("off"), "older messages are deleted",
            set!(message_retention, retention)),
        Setting::new("USER_RETENTION", Text("off"), "users not seen for longer are deleted",
            set!(user_retention, retention)),
    ]},
    Group { title: "Fleet", settings: &[
        Setting::new("REDIS_URL", Unset("none"), "what makes hosts one: redis://…, see README.md",
            set!(redis, redis_url)).secret(),
        Setting::new("REDIS_HOST", Unset("none"), "the same in parts",
            Some(|_, text| parse::redis_host(text))),
        Setting::new("REDIS_PORT", Unset("6379"), "the same in parts",
            Some(|_, text| parse::redis_port(text).map(drop))),
        Setting::new("REDIS_PASSWORD", Unset("none"), "the same in parts",
            Some(|_, _| Ok(()))).secret(),
        Setting::new("REDIS_POOL_SIZE", Text("1"), "2: history has one of its own",
            set!(redis_pool_size, number, 1..=16)),
        Setting::new("REDIS_KEY_PREFIX", Unset("none"), "put before every key and channel",
            set!(redis_key_prefix, redis_key_prefix)),
        Setting::new("SOCKETIO_ADAPTER", Text("off"),
            "Node servers: on, sharded[-static|-dynamic-private]",
            set!(socketio_adapter, choice, ADAPTERS)),
    ]},
    Group { title: "Alerts", settings: &[
        Setting::new("ALERT_MEMORY_PERCENT", Text("80"), "alert above so much of memory",
            set!(alerts.memory_percent, alert, 1..=100)),
        Setting::new("ALERT_CONNECTIONS_PERCENT", Text("80"), "likewise, of what it can hold",
            set!(alerts.connections_percent, alert, 1..=100)),
        Setting::new("ALERT_QUEUE_DEPTH", Text("1000"), "above so many waiting for the store",
            set!(alerts.queue_depth, alert, 0..=u32::MAX)),
        Setting::new("ALERT_STORE_MS", Text("100"), "above so many ms of the store",
            set!(alerts.store_ms, alert, 1..=3_600_000)),
        Setting::new("ALERT_SLOW_CONSUMERS", Text("100"), "above so many closed per minute",
            set!(alerts.slow_consumers, alert, 0..=u32::MAX)),
        Setting::new("ALERT_BACKUP_AGE", Text("off"), "when the newest backup is older",
            set!(alerts.backup_age, retention)),
        Setting::new("ALERT_ECHO_MS", Text("3000"), "when nothing came back from Redis for longer",
            set!(alerts.echo_ms, alert, 1..=3_600_000)),
        Setting::new("ALERT_OUTBOX", Text("1000"), "above so many waiting for Redis",
            set!(alerts.outbox, alert, 0..=u32::MAX)),
    ]},
    Group { title: "Not supported by this version yet", settings: &[
        Setting::new("JWT_SECRET", Unset("none"), "clients must present a token", None).secret(),
        Setting::new("JWT_PUBLIC_KEY", Unset("none"), "the same with a key pair", None),
        Setting::new("PROXY_PROTOCOL", Text("off"), "connections start with a PROXY header", None),
        Setting::new("SANITIZE", Text("off"), "html: message bodies lose any HTML", None),
        Setting::new("TLS_CERT", Unset("none"), "serve TLS on PORT", None),
        Setting::new("TLS_KEY", Unset("none"), "its key's file", None),
    ]},
];

const SLOW_CONSUMERS: &[(&str, SlowConsumer)] =
    &[("disconnect", SlowConsumer::Disconnect), ("drop-oldest", SlowConsumer::DropOldest)];

const ACK_LEVELS: &[(&str, AckLevel)] =
    &[("memory", AckLevel::Memory), ("redis", AckLevel::Redis), ("store", AckLevel::Store)];

const ADAPTERS: &[(&str, Adapter)] = &[
    ("off", Adapter::Off),
    ("on", Adapter::Classic),
    ("sharded", Adapter::Sharded(Mode::Dynamic)),
    ("sharded-static", Adapter::Sharded(Mode::Static)),
    ("sharded-dynamic-private", Adapter::Sharded(Mode::DynamicPrivate)),
];
