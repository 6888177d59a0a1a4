//! The settings' whole way, from the four sources to types, and what is refused on it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, process};

use throng_bridge::fleet::{Adapter, Mode, Target};

use super::table::{self, Preset};
use super::{
    AckLevel, AlertLimits, Config, CorsOrigins, Loaded, LogFormat, Problems, Rate, Secret,
    SlowConsumer, load, retention,
};

type Pairs<'a> = &'a [(&'a str, &'a str)];

/// A file that is gone when the test is.
pub(super) struct TempFile(PathBuf);

impl TempFile {
    pub(super) fn new(test: &str, content: &str) -> Self {
        let path = env::temp_dir().join(format!("throng-{}-{test}.toml", process::id()));
        fs::write(&path, content).expect("the temporary directory is writable");
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _gone_already = fs::remove_file(&self.0);
    }
}

pub(super) fn read(
    file: Option<&TempFile>,
    env: Pairs<'_>,
    flags: Pairs<'_>,
) -> Result<Loaded, Problems> {
    let env: HashMap<_, _> = env.iter().copied().collect();
    let flags: HashMap<_, _> = flags.iter().copied().collect();
    load(
        file.map(|file| file.0.as_path()),
        |name| env.get(name).map(OsString::from),
        |name| flags.get(name).map(ToString::to_string),
    )
}

pub(super) fn config(env: Pairs<'_>) -> Config {
    read(None, env, &[]).expect("these settings are good").config
}

pub(super) fn refusal(env: Pairs<'_>) -> String {
    read(None, env, &[]).expect_err("these settings are bad").to_string()
}

#[test]
fn nothing_written_gives_the_documented_defaults() {
    assert_eq!(config(&[]), Config::default());
}

#[test]
fn every_setting_of_connections_and_rooms_reaches_its_own_field() {
    let parsed = config(&[
        ("HOST", "::1"),
        ("PORT", "6000"),
        ("MAX_WORKERS", "3"),
        ("MAX_CONNECTIONS", "4"),
        ("MAX_CONNECTIONS_PER_IP", "0"),
        ("MESSAGE_RATE_LIMIT", "5/s"),
        ("TYPING_RATE_LIMIT", "0"),
        ("MAX_MESSAGE_BYTES", "1KiB"),
        ("MAX_PAYLOAD", "2KiB"),
        ("PING_INTERVAL", "300ms"),
        ("PING_TIMEOUT", "200ms"),
        ("CONNECT_TIMEOUT", "1s"),
        ("HANDSHAKE_TIMEOUT", "2s"),
        ("OUTBOX_BYTES", "3KiB"),
        ("SLOW_CONSUMER", "drop-oldest"),
        ("FLUSH_INTERVAL", "1ms"),
        ("PRESENCE_INTERVAL", "0"),
        ("HISTORY_SIZE", "7"),
        ("HISTORY_TTL", "1h"),
        ("RECOVERY_WINDOW", "90s"),
        ("COMPRESSION", "on"),
        ("COMPRESSION_MIN_BYTES", "2KiB"),
        ("ROOMS_PER_SOCKET", "8"),
        ("CORS_ORIGINS", "*"),
        ("RESERVED_NAMES", "Root"),
        ("BLOCKED_NAMES", "Mallory, eve"),
        ("DRAIN_TIMEOUT", "1m"),
        ("LOG", "throng=debug,warn"),
        ("LOG_FORMAT", "json"),
    ]);
    let expected = Config {
        fragments_max: Config::default().fragments_max,
        host: Some([0, 0, 0, 0, 0, 0, 0, 1].into()),
        port: 6000,
        workers: 3,
        connections_max: 4,
        connections_per_ip_max: 0,
        message_rate: Rate::per_second(5),
        typing_rate: Rate::UNLIMITED,
        message_bytes_max: 1024,
        payload_bytes_max: 2048,
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        connect_timeout: Duration::from_secs(1),
        handshake_timeout: Duration::from_secs(2),
        outbox_bytes_max: 3072,
        slow_consumer: SlowConsumer::DropOldest,
        flush_interval: Duration::from_millis(1),
        presence_interval: Duration::ZERO,
        history_size: 7,
        history_ttl: Duration::from_secs(3600),
        rooms_per_socket_max: 8,
        recovery_window: Duration::from_secs(90),
        compression: true,
        compression_bytes_min: 2048,
        cors_origins: CorsOrigins::Any,
        reserved_names: vec!["root".to_owned()],
        blocked_names: vec!["mallory".to_owned(), "eve".to_owned()],
        drain_timeout: Duration::from_secs(60),
        log: "throng=debug,warn".to_owned(),
        log_format: LogFormat::Json,
        ..Config::default()
    };
    assert_eq!(parsed, expected);
}

#[test]
fn every_setting_of_the_store_and_alerts_reaches_its_own_field() {
    let parsed = config(&[
        ("DATA_DIR", "/var/lib/throng"),
        ("MONGODB_URI", "mongodb://user:hunter2@db:27017/?tls=true"),
        ("MONGODB_POOL_SIZE", "7"),
        ("ACK_LEVEL", "memory"),
        ("MESSAGE_RETENTION", "30d"),
        ("USER_RETENTION", "90m"),
        ("API_KEY", "correct horse"),
        ("ALERT_MEMORY_PERCENT", "1"),
        ("ALERT_CONNECTIONS_PERCENT", "2"),
        ("ALERT_QUEUE_DEPTH", "0"),
        ("ALERT_STORE_MS", "off"),
        ("ALERT_SLOW_CONSUMERS", "5"),
        ("ALERT_BACKUP_AGE", "26h"),
        ("ALERT_ECHO_MS", "6"),
        ("ALERT_OUTBOX", "0"),
    ]);
    let uri = "mongodb://user:hunter2@db:27017/?tls=true";
    let expected = Config {
        data_dir: Some(PathBuf::from("/var/lib/throng")),
        mongodb_uri: Some(Secret(uri.to_owned())),
        mongodb_pool_size: 7,
        ack_level: AckLevel::Memory,
        message_retention: Some(Duration::from_secs(30 * 86_400)),
        user_retention: Some(Duration::from_secs(90 * 60)),
        api_key: Some(Secret("correct horse".to_owned())),
        alerts: AlertLimits {
            memory_percent: Some(1),
            connections_percent: Some(2),
            queue_depth: Some(0),
            store_ms: None,
            slow_consumers: Some(5),
            backup_age: Some(Duration::from_secs(26 * 3600)),
            echo_ms: Some(6),
            outbox: Some(0),
        },
        ..Config::default()
    };
    assert_eq!(parsed, expected);
    let shown = format!("{parsed:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("horse"), "{shown}");
    let nowhere = config(&[("DATA_DIR", "none")]);
    assert_eq!((nowhere.data_dir, nowhere.ack_level), (None, AckLevel::Memory));
}

#[test]
fn every_setting_of_the_fleet_reaches_its_own_field() {
    let url = "rediss://throng:hunter2@cache:6380/0";
    let parsed = config(&[
        ("REDIS_URL", url),
        ("REDIS_POOL_SIZE", "3"),
        ("REDIS_KEY_PREFIX", "staging:"),
        ("SOCKETIO_ADAPTER", "sharded"),
        ("ACK_LEVEL", "redis"),
    ]);
    let expected = Config {
        redis: Target::parse(url).ok(),
        redis_pool_size: 3,
        redis_key_prefix: "staging:".into(),
        socketio_adapter: Adapter::Sharded(Mode::Dynamic),
        ack_level: AckLevel::Redis,
        ..Config::default()
    };
    assert_eq!(parsed, expected);
    assert!(parsed.redis.is_some());
    let shown = format!("{parsed:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    for (text, adapter) in [
        ("off", Adapter::Off),
        ("on", Adapter::Classic),
        ("sharded-static", Adapter::Sharded(Mode::Static)),
        ("sharded-dynamic-private", Adapter::Sharded(Mode::DynamicPrivate)),
    ] {
        let parsed = config(&[("REDIS_URL", url), ("SOCKETIO_ADAPTER", text)]);
        assert_eq!(parsed.socketio_adapter, adapter, "{text}");
    }
}

#[test]
fn the_fleet_is_refused_what_it_cannot_mean() {
    let long = "x".repeat(65);
    for (name, value, reason) in [
        ("REDIS_URL", "http://cache", "redis, rediss, redis-sentinel"),
        ("REDIS_POOL_SIZE", "0", "from 1 to 16"),
        ("REDIS_POOL_SIZE", "17", "from 1 to 16"),
        ("REDIS_KEY_PREFIX", "{a}", "control characters"),
        ("REDIS_KEY_PREFIX", "a*", "control characters"),
        ("REDIS_KEY_PREFIX", "a\nb", "control characters"),
        ("REDIS_KEY_PREFIX", &long, "at most 64 bytes"),
        ("SOCKETIO_ADAPTER", "classic", "must be off or on or sharded or sharded-static or "),
        ("SOCKETIO_ADAPTER", "sharded-dynamic", "or sharded-dynamic-private"),
        ("ALERT_ECHO_MS", "0", "or off"),
    ] {
        let text = refusal(&[(name, value)]);
        assert!(text.contains(name) && text.contains(reason), "{text}");
    }
}

#[test]
fn the_store_is_refused_what_it_cannot_mean() {
    for (name, value, reason) in [
        ("ACK_LEVEL", "disk", "must be memory or redis or store"),
        ("MONGODB_URI", "db:27017", "must begin with mongodb://"),
        ("MONGODB_POOL_SIZE", "0", "from 1 to 10000"),
        ("MESSAGE_RETENTION", "30", "of at least 1s, or off"),
        ("USER_RETENTION", "1ms", "of at least 1s, or off"),
        ("DATA_DIR", " ", "must be a path, or none"),
        ("API_KEY", "short", "at least 8 characters"),
        ("ALERT_MEMORY_PERCENT", "101", "from 1 to 100, or off"),
        ("ALERT_BACKUP_AGE", "never", "or off"),
    ] {
        let text = refusal(&[(name, value)]);
        assert!(text.contains(name) && text.contains(reason), "{text}");
    }
    let text = refusal(&[("ACK_LEVEL", "store"), ("DATA_DIR", "none")]);
    assert!(text.contains("ACK_LEVEL=store") && text.contains("DATA_DIR=none"), "{text}");
    let elsewhere = [("DATA_DIR", "none"), ("MONGODB_URI", "mongodb://db"), ("ACK_LEVEL", "store")];
    assert_eq!(config(&elsewhere).ack_level, AckLevel::Store);
}

#[test]
fn a_room_keeps_its_messages_for_a_time() {
    assert_eq!(retention("7d"), Ok(Duration::from_secs(7 * 86_400)));
    for text in ["off", "", "0", "7", "999ms", "40000d"] {
        assert!(retention(text).is_err(), "{text}");
    }
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let content = "port = 1\nmax_workers = 2\nhistory_size = 3\nreserved_names = ['a', 'b']";
    let file = TempFile::new("precedence", content);
    let env = [("MAX_WORKERS", "4"), ("HISTORY_SIZE", "5"), ("PORT", "")];
    let loaded = read(Some(&file), &env, &[("HISTORY_SIZE", "6")]).expect("all are good");
    let Config { port, workers, history_size, .. } = loaded.config;
    assert_eq!((port, workers, history_size), (1, 4, 6), "and an empty variable is not set");
    assert_eq!(loaded.config.reserved_names, ["a", "b"]);
    let origin = |name| loaded.settings.find(name).map(|written| written.origin.as_str());
    assert_eq!(origin("PORT"), file.0.to_str());
    assert_eq!(origin("MAX_WORKERS"), Some("environment"));
    assert_eq!(origin("HISTORY_SIZE"), Some("flag"));
    assert_eq!(origin("LOG"), Some("default"));
}

#[test]
fn an_unknown_key_is_named_with_its_nearest_neighbour() {
    let file = TempFile::new("unknown", "max_worker = 2\nPORT = 1\n[redis]\nx = 1\n[log]\ny = 1");
    let text = read(Some(&file), &[], &[]).expect_err("four are bad").to_string();
    let path = file.0.display();
    assert!(text.contains(&format!(
        "max_worker ({path}): there is no such setting; did you mean max_workers?"
    )));
    assert!(text.contains(&format!("PORT ({path}): there is no such setting; did you mean port?")));
    assert!(text.ends_with(&format!("redis ({path}): there is no such setting")));
    assert!(text.contains(&format!("LOG ({path}): must be a plain value")));
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_hides_nothing_else() {
    let file = TempFile::new("syntax", "jwt_secret = hunter2");
    let text = read(Some(&file), &[("PORT", "x")], &[]).expect_err("both are bad").to_string();
    assert!(text.contains(&format!("{}: TOML parse error at line 1", file.0.display())), "{text}");
    assert!(text.contains("PORT=x (environment)"), "{text}");
    assert!(!text.contains("hunter2"), "what a secret may be is not quoted: {text}");

    let missing = load(Some("/no/such/file".as_ref()), |_| None, |_| None);
    let text = missing.expect_err("it is missing").to_string();
    assert!(text.contains("/no/such/file: No such file"), "{text}");
}

#[test]
fn what_is_not_supported_yet_is_refused_never_ignored() {
    let on = [
        "JWT_SECRET=s",
        "JWT_PUBLIC_KEY=k",
        "PROXY_PROTOCOL=on",
        "SANITIZE=html",
        "TLS_CERT=c",
        "TLS_KEY=k",
    ];
    for (name, value) in on.iter().filter_map(|pair| pair.split_once('=')) {
        let text = refusal(&[(name, value)]);
        assert!(
            text.contains(name) && text.contains("not supported by this version yet"),
            "{text}"
        );
    }
    let off = ["PROXY_PROTOCOL", "SANITIZE"];
    let harmless: Vec<_> = off.iter().map(|name| (*name, "off")).collect();
    assert_eq!(config(&harmless), Config::default());
    let file = TempFile::new("harmless", "proxy_protocol = false");
    assert!(read(Some(&file), &[], &[]).is_ok());
    assert!(refusal(&[("SLOW_CONSUMER", "latest-only")]).contains("disconnect or drop-oldest"));
}

#[test]
fn all_problems_are_reported_together() {
    let env = [("PORT", "70000"), ("LOG", "a=b"), ("TLS_KEY", "k"), ("MAX_PAYLOAD", "1000")];
    let flags = [("MAX_WORKERS", "0")];
    let Problems(problems) = read(None, &env, &flags).expect_err("five are bad");
    let names: Vec<_> = problems.iter().map(|problem| problem.setting.as_str()).collect();
    assert_eq!(names, ["PORT", "MAX_WORKERS", "LOG", "TLS_KEY", "MAX_MESSAGE_BYTES"]);
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(lines[0], "PORT=70000 (environment): must be a whole number from 0 to 65535");
    assert_eq!(lines[1], "MAX_WORKERS=0 (flag): must be a whole number from 1 to 1024");
}

#[test]
#[cfg(unix)]
fn a_variable_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let env = |name: &str| (name == "DATA_DIR").then(|| OsString::from_vec(vec![0xff]));
    let text = load(None, env, |_| None).expect_err("it is not UTF-8").to_string();
    assert!(text.contains("DATA_DIR (environment): must be UTF-8"), "{text}");
}

#[test]
fn the_table_has_each_name_once_and_a_meaning() {
    let mut names: Vec<_> = table::all().map(|setting| setting.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for setting in table::all() {
        assert!(!setting.meaning.is_empty() && !setting.preset.to_string().is_empty());
        assert!(!(setting.secret && matches!(setting.preset, Preset::Text(_))), "a public secret");
    }
}
