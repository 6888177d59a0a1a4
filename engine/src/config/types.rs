//! The types of settings that std has none for.

use std::time::Duration;

/// How many events one user may cause per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events per window; 0 means no limit.
    pub count: u32,
    /// The window.
    pub window: Duration,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self::per_second(0);

    /// `count` events per second, 0 meaning no limit.
    #[must_use]
    pub const fn per_second(count: u32) -> Self {
        Self { count, window: Duration::from_secs(1) }
    }

    /// `count` events per minute, 0 meaning no limit.
    #[must_use]
    pub const fn per_minute(count: u32) -> Self {
        Self { count, window: Duration::from_secs(60) }
    }

    /// Whether there is no limit.
    #[must_use]
    pub const fn is_unlimited(self) -> bool {
        self.count == 0
    }
}

/// What happens to a connection that owes more than the outbox may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowConsumer {
    /// It is closed; the client reconnects and asks for what it missed.
    Disconnect,
    /// Its oldest unsent frames are dropped.
    DropOldest,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// A web origin (RFC 6454) as browsers serialise it: lower case, no default port, no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(pub(super) String);

impl Origin {
    /// The text an `Origin` header must equal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whose pages may connect, besides those the engine serves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    /// No other's.
    None,
    /// Everyone's.
    Any,
    /// These, compared exactly; at least one.
    List(Vec<Origin>),
}

impl CorsOrigins {
    /// Whether everyone's pages may connect.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self == Self::Any
    }

    /// Whether the list allows this `Origin` header; the engine's own origin is not its business.
    #[must_use]
    pub fn allows(&self, origin: &[u8]) -> bool {
        match self {
            Self::None => false,
            Self::Any => true,
            Self::List(origins) => origins.iter().any(|o| o.as_str().as_bytes() == origin),
        }
    }
}

/// When a message's sender is told that it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckLevel {
    /// Once it has its number.
    Memory,
    /// Once Redis has it.
    Redis,
    /// Once the store has committed it.
    Store,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) String);

impl Secret {
    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Above which value of each reading an alert is raised; `None`: never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlertLimits {
    /// `ALERT_MEMORY_PERCENT`: how full the memory is that the process may use.
    pub memory_percent: Option<u32>,
    /// `ALERT_CONNECTIONS_PERCENT`: of the connections the host can hold.
    pub connections_percent: Option<u32>,
    /// `ALERT_QUEUE_DEPTH`: messages that wait for the store.
    pub queue_depth: Option<u32>,
    /// `ALERT_STORE_MS`: how long the store takes to answer, in milliseconds.
    pub store_ms: Option<u32>,
    /// `ALERT_SLOW_CONSUMERS`: connections closed for it per minute.
    pub slow_consumers: Option<u32>,
    /// `ALERT_BACKUP_AGE`: how old the newest backup is.
    pub backup_age: Option<Duration>,
    /// `ALERT_ECHO_MS`: how long ago something published last came back from Redis, in
    /// milliseconds.
    pub echo_ms: Option<u32>,
    /// `ALERT_OUTBOX`: messages that wait for Redis.
    pub outbox: Option<u32>,
}

impl Default for AlertLimits {
    fn default() -> Self {
        Self {
            memory_percent: Some(80),
            connections_percent: Some(80),
            queue_depth: Some(1000),
            store_ms: Some(100),
            slow_consumers: Some(100),
            backup_age: None,
            echo_ms: Some(3000),
            outbox: Some(1000),
        }
    }
}
