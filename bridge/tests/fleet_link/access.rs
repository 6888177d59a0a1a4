//! Who gets in, and what they may do: TLS, and the users of `deploy/redis`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use redis::Value;

use super::support::{
    assert_is_dead, command, lost, message, on_one_thread, open, redial, send, try_open,
};
use crate::processes::{Redis, Sentinels, free_port, until};

/// Makes an authority and a certificate of it for 127.0.0.1; returns the authority's.
fn certificates(folder: &Path) -> PathBuf {
    let openssl = |words: &str| {
        let mut command = Command::new("openssl");
        let command = command.args(words.split(' ')).current_dir(folder);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("openssl is installed").success(), "{words}");
    };
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("written");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.crt"));
    openssl(&format!("req {key} -subj /CN=redis -keyout redis.key -out redis.csr"));
    openssl(
        "x509 -req -in redis.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
         -extfile names -out redis.crt",
    );
    folder.join("ca.crt")
}

/// Arguments for a TLS port.
fn tls(folder: &Path, port: u16) -> Vec<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    let port = port.to_string();
    let words = [
        ("--tls-port", port),
        ("--tls-cert-file", path("redis.crt")),
        ("--tls-key-file", path("redis.key")),
        ("--tls-ca-cert-file", path("ca.crt")),
        ("--tls-auth-clients", "no".to_owned()),
    ];
    words.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}

/// A folder that is gone with the test.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("throng-{name}-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn tls_lets_in_whom_the_certificate_names_and_nobody_else() {
    let folder = Temporary::new("tls");
    let ca = certificates(&folder.0);
    let port = free_port();
    let arguments = tls(&folder.0, port);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let redis = Redis::start_with(&arguments);
    on_one_thread(async {
        let ca = ca.display();
        let (link, mut pushes) = open(&format!("rediss://127.0.0.1:{port}?ca={ca}")).await;
        link.subscribe(&["c".to_owned()], false).await.expect("confirmed");
        // More than a TLS record, both ways.
        let long = "x".repeat(100_000);
        send(&link, &["PUBLISH", "c", &long]).await;
        assert_eq!(message(&mut pushes).await, ("c".to_owned(), long));
        for (url, reason) in [
            (format!("rediss://127.0.0.1:{port}"), "certificate"),
            (format!("rediss://localhost:{port}?ca={ca}"), "certificate"),
            (format!("rediss://127.0.0.1:{port}?ca=/nowhere"), "ca=/nowhere"),
            (format!("rediss://127.0.0.1:{}?ca={ca}", redis.port()), ""),
            (format!("redis://127.0.0.1:{port}"), ""),
        ] {
            let error = try_open(&url).await.err().unwrap_or_else(|| panic!("{url} works"));
            assert!(error.to_string().contains(reason), "{url}: {error}");
        }
    });
}

#[test]
fn sentinels_are_reached_by_tls_too() {
    let folder = Temporary::new("tls-sentinel");
    let ca = certificates(&folder.0);
    let start = |config: &str, more: &[&str]| {
        let port = free_port();
        let mut arguments = tls(&folder.0, port);
        arguments.extend(["--tls-replication".to_owned(), "yes".to_owned()]);
        arguments.extend(more.iter().map(|it| (*it).to_owned()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        (Redis::start_config(config, &arguments), port)
    };
    let (_redis, redis_port) = start("save \"\"\n", &[]);
    let name = Sentinels::MASTER;
    let config = format!("sentinel monitor {name} 127.0.0.1 {redis_port} 1\n");
    let (sentinel, sentinel_port) = start(&config, &["--sentinel"]);
    on_one_thread(async {
        for (port, tls) in [(sentinel_port, "all"), (sentinel.port(), "redis")] {
            let ca = ca.display();
            let url = format!("redis-sentinel://127.0.0.1:{port}/{name}?tls={tls}&ca={ca}");
            let (link, _pushes) = open(&url).await;
            assert_eq!(send(&link, &["SET", "a", tls]).await, Value::Okay);
        }
    });
}

/// Its files, as they are.
fn deploy(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/redis").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A Redis as `deploy/redis` has it, with another password, and with more arguments.
fn deployed(arguments: &[&str]) -> (Redis, Temporary) {
    let folder = Temporary::new("acl");
    fs::create_dir_all(&folder.0).expect("a folder");
    let acl = folder.0.join("users.acl").display().to_string();
    let users = deploy("users.acl").replace(">change-me ", ">p@ss/w?rd# ");
    // The tests' own way in.
    fs::write(&acl, users.replace("default off", "default on nopass ~* &* +@all"))
        .expect("written");
    let config = deploy("redis.conf").replace("/etc/redis/users.acl", &acl);
    (Redis::start_config(&config, arguments), folder)
}

fn url(redis: &Redis) -> String {
    format!("redis://throng:p%40ss%2Fw%3Frd%23@127.0.0.1:{}", redis.port())
}

fn is_refused(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOPERM")
}

/// What hosts do, or could as well.
const ALLOWED: [&str; 17] = [
    "SET room:x 1",
    "GET room:x",
    "EXPIRE user:x 9",
    "HSET user:x a b",
    "SET host:1 x",
    "SET session:x y",
    "DEL session:x",
    "ROLE",
    "TIME",
    "INFO",
    "PING",
    "PUBSUB NUMSUB socket.io#/#",
    "PUBSUB SHARDNUMSUB socket.io#/#",
    "XRANGE throng:x - +",
    "SCRIPT LOAD return",
    "SPUBLISH throng:x y",
    "PUBLISH socket.io-response#/# y",
];

/// What they never do.
const REFUSED: [&str; 23] = [
    "GET other",
    "SET other 1",
    "KEYS *",
    "EVAL return 0",
    "WAIT 0 0",
    "SCAN 0",
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG GET x",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal",
    "SHUTDOWN",
    "MONITOR",
    "REPLICAOF NO ONE",
    "ACL LIST",
    "SCRIPT FLUSH",
    "PUBLISH other x",
    "SPUBLISH other x",
    "CLUSTER RESET",
    "CLUSTER FAILOVER",
    "SAVE",
    "SWAPDB 0 1",
    "RENAME throng:x throng:y",
];

#[test]
fn hosts_may_do_what_they_need_and_no_more() {
    let (redis, _folder) = deployed(&[]);
    on_one_thread(async {
        let (link, mut pushes) = open(&url(&redis)).await;
        let channels =
            ["throng:{p001}:events:x", "throng:all", "socket.io#/#", "socket.io-request#/#"];
        let channels = channels.map(str::to_owned);
        link.subscribe(&channels, false).await.expect("allowed");
        link.subscribe(&channels[..1], true).await.expect("allowed");
        link.subscribe_patterns(&["socket.io#/#*".to_owned()]).await.expect("allowed");
        let script = "redis.call('SET', KEYS[1], 1) redis.call('PUBLISH', 'throng:all', 'x') \
                      return redis.call('XADD', KEYS[2], '1-0', 'a', 'b')";
        let keys = ["2", "throng:{p001}:meta:x", "throng:{p001}:stream:x"];
        let Value::BulkString(hash) = send(&link, &["SCRIPT", "LOAD", script]).await else {
            panic!("no hash");
        };
        let hash = str::from_utf8(&hash).expect("hexadecimal digits");
        let answer = send(&link, &[&["EVALSHA", hash][..], &keys[..]].concat()).await;
        assert_eq!(answer, Value::BulkString(b"1-0".to_vec()));
        assert_eq!(message(&mut pushes).await, ("throng:all".to_owned(), "x".to_owned()));
        for allowed in ALLOWED {
            let words: Vec<&str> = allowed.split(' ').collect();
            let answer = send(&link, &words).await;
            assert!(!matches!(answer, Value::ServerError(_)), "{allowed}: {answer:?}");
        }
        for refused in REFUSED {
            let words: Vec<&str> = refused.split(' ').collect();
            let answer = send(&link, &words).await;
            assert!(is_refused(&answer), "{refused}: {answer:?}");
        }
        let error = link.subscribe(&["other".to_owned()], false).await.expect_err("refused");
        assert!(error.to_string().contains("SUBSCRIBE"), "{error}");
    });
}

#[test]
fn sentinels_and_replicas_get_in_as_they_are_deployed() {
    let gets_in = ["--masteruser", "replica", "--masterauth", "change-me-too"];
    let (mut master, _folder) = deployed(&gets_in);
    let port = master.port().to_string();
    let (replica, _other_folder) = deployed(&gets_in);
    replica.cli(&["replicaof", "127.0.0.1", &port]);
    let in_step = "the replica is in step";
    until(in_step, || master.cli(&["info", "replication"]).contains("state=online"));
    for redis in [&master, &replica] {
        redis.cli(&["config", "set", "min-replicas-max-lag", "10"]);
    }
    master.cli(&["config", "set", "min-replicas-to-write", "1"]);
    let config = deploy("sentinel.conf")
        .replace("monitor throng 10.0.0.1 6379 2", &format!("monitor throng 127.0.0.1 {port} 1"))
        .replace("throng 3000", "throng 1000")
        .replace("port 26379\n", "");
    let sentinel = Redis::start_config(&config, &["--sentinel"]);
    let url = format!(
        "redis-sentinel://throng:p%40ss%2Fw%3Frd%23@127.0.0.1:{}/throng\
         ?sentinel_user=throng&sentinel_password=change-me-here",
        sentinel.port()
    );
    on_one_thread(async {
        let (link, mut pushes) = open(&url).await;
        assert_eq!(send(&link, &["SET", "throng:a", "1"]).await, Value::Okay);
        let wrong = url.replace("=change-me-here", "=hunter2");
        let error = try_open(&wrong).await.err().expect("wrong");
        let text = error.to_string();
        assert!(text.contains("WRONGPASS") && !text.contains("hunter2"), "{text}");
        // It has found the replica by now or finds it, or there is nothing to promote.
        let words = ["--user", "peer", "--pass", "change-me-here-too", "--no-auth-warning"];
        let ask = [&words[..], &["sentinel", "replicas", "throng"]].concat();
        until("the Sentinel knows the replica", || {
            sentinel.cli(&ask).contains("master-link-status\nok")
        });
        master.kill();
        lost(&mut pushes).await;
        let (link, _pushes) = redial(&url).await;
        assert_eq!(send(&link, &["SET", "throng:a", "2"]).await, Value::Okay);
    });
}

/// Every command that stands in the sources is one that the user may send.
#[test]
fn every_command_of_the_fleet_is_allowed() {
    let users = deploy("users.acl");
    let throng = users.lines().find(|line| line.starts_with("user throng ")).expect("the user");
    let mut seen = 0;
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fleet")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source");
            for start in ["cmd(\"", "redis.call('", "redis.pcall('"] {
                for rest in text.split(start).skip(1) {
                    let name: String = rest.chars().take_while(|it| it.is_alphanumeric()).collect();
                    let name = name.to_lowercase();
                    let whole = format!(" +{name} ");
                    let is_there = format!("{throng} ").contains(&whole)
                        || throng.contains(&format!(" +{name}|"));
                    assert!(is_there || name == "sentinel", "{name} in {}", path.display());
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 5, "only {seen} commands were found");
}

#[test]
fn a_wrong_password_is_told_without_it_and_a_removed_user_is_out() {
    let (redis, _folder) = deployed(&[]);
    on_one_thread(async {
        let wrong = format!("redis://throng:hunter2@127.0.0.1:{}", redis.port());
        let error = try_open(&wrong).await.err().expect("wrong");
        let text = error.to_string();
        assert!(text.contains("WRONGPASS") && !text.contains("hunter2"), "{text}");
        let (link, mut pushes) = open(&url(&redis)).await;
        redis.cli(&["acl", "deluser", "throng"]);
        lost(&mut pushes).await;
        assert_is_dead(&link).await;
    });
}

#[test]
fn a_redis_that_wants_a_password_says_so() {
    let redis = Redis::start_with(&["--requirepass", "hunter2"]);
    on_one_thread(async {
        let error = try_open(&redis.url()).await.err().expect("no password");
        assert!(error.to_string().contains("NOAUTH"), "{error}");
        let (link, _pushes) = open(&redis.url().replace("://", "://:hunter2@")).await;
        assert_eq!(link.send(0, &[command(&["SET", "a", "1"])]).await.expect("sent").len(), 1);
        let database = format!("{}/3", redis.url().replace("://", "://:hunter2@"));
        let (link, _pushes) = open(&database).await;
        assert_eq!(send(&link, &["GET", "a"]).await, Value::Nil, "another database");
    });
}
