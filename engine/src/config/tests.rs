//! The settings' whole way, from the four sources to types, and what is refused on it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, process};

use super::table::{self, Preset};
use super::{Config, CorsOrigins, Loaded, LogFormat, Problems, Rate, SlowConsumer, load};

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

fn config(env: Pairs<'_>) -> Config {
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
fn every_parsed_setting_reaches_its_own_field() {
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
        ("DATA_DIR", "/var/lib/throng"),
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
        data_dir: PathBuf::from("/var/lib/throng"),
    };
    assert_eq!(parsed, expected);
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
        "ACK_LEVEL=redis",
        "ACK_LEVEL=store",
        "API_KEY=k",
        "JWT_SECRET=s",
        "JWT_PUBLIC_KEY=k",
        "MESSAGE_RETENTION=30d",
        "USER_RETENTION=1d",
        "MONGODB_URI=mongodb://h",
        "MONGODB_POOL_SIZE=50",
        "PROXY_PROTOCOL=on",
        "REDIS_URL=redis://h",
        "REDIS_HOST=h",
        "REDIS_PORT=6379",
        "REDIS_PASSWORD=p",
        "REDIS_POOL_SIZE=1",
        "REDIS_KEY_PREFIX=x",
        "SANITIZE=html",
        "SOCKETIO_ADAPTER=on",
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
    let off = ["SOCKETIO_ADAPTER", "PROXY_PROTOCOL", "SANITIZE", "MESSAGE_RETENTION"];
    let mut harmless: Vec<_> = off.iter().map(|name| (*name, "off")).collect();
    harmless.push(("ACK_LEVEL", "memory"));
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
