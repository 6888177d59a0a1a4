//! Real Redis processes for tests: standalone, with Sentinels, a cluster. Each in its own folder,
//! on free ports, ended when dropped.

#![allow(dead_code)] // each test uses a part of it

pub(crate) mod proxy;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything here may take before the test fails: slow machines are busy ones.
const PATIENCE: Duration = Duration::from_secs(60);

/// One redis-server.
pub(crate) struct Redis {
    folder: Folder,
    port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// An empty one, which keeps nothing on disk.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments, as on the command line.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_config("save \"\"\nappendonly no\n", arguments)
    }

    /// With a configuration file.
    pub(crate) fn start_config(config: &str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|it| (*it).to_owned()).collect();
        let mut redis = Self { folder: Folder::new(), port: 0, arguments, child: None };
        fs::write(redis.config(), config).expect("written");
        for _ in 0..10 {
            // Another process may have taken the port before Redis could.
            redis.port = free_port();
            redis.restart_without_waiting();
            if redis.comes_up() {
                return redis;
            }
        }
        let log = fs::read_to_string(redis.folder.0.join("stdout")).unwrap_or_default();
        panic!("Redis does not start with {:?}:\n{log}", redis.arguments);
    }

    /// Waits until it answers; false if it has ended instead.
    fn comes_up(&mut self) -> bool {
        let mut ended = false;
        until("Redis answers", || {
            let child = self.child.as_mut().expect("it was started");
            ended = child.try_wait().expect("a child").is_some();
            // One that lets nobody in answers too; one that loads does not yet.
            let id = format!("process_id:{}\r", self.pid());
            ended
                || self.try_cli(&["ping"]).is_some_and(|it| match it.as_str() {
                    "PONG" => self.try_cli(&["info", "server"]).is_some_and(|it| it.contains(&id)),
                    other => other.starts_with("NOAUTH"),
                })
        });
        !ended
    }

    /// Its configuration file, which CONFIG REWRITE, ACL SAVE and a Sentinel may write.
    fn config(&self) -> PathBuf {
        self.folder.0.join("redis.conf")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its folder, for files of the test.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stands still, with all connections open, until [`Redis::cont`].
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    /// Goes on after [`Redis::stop`].
    pub(crate) fn cont(&self) {
        self.signal("-CONT");
    }

    /// Starts it again on the same port, in the same folder: with what an AOF has kept.
    pub(crate) fn restart(&mut self) {
        self.restart_without_waiting();
        assert!(self.comes_up(), "Redis does not start again");
    }

    /// The same, without waiting until it answers.
    pub(crate) fn restart_without_waiting(&mut self) {
        self.kill();
        let log = File::create(self.folder.0.join("stdout")).expect("a file");
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.arg(self.config()).args(["--port", &port]).arg("--dir").arg(&self.folder.0);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server is installed"));
    }

    /// What redis-cli prints, without colours; it must succeed.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        self.try_cli(arguments).unwrap_or_else(|| panic!("redis-cli {arguments:?} has failed"))
    }

    /// The same; nothing if it fails.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.try_cli(arguments).unwrap_or_default()
    }

    /// The same; `None` if it fails.
    pub(crate) fn try_cli(&self, arguments: &[&str]) -> Option<String> {
        cli(self.port, arguments)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.pid().to_string()]).status();
        assert!(done.expect("kill is installed").success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A master with replicas, and the Sentinels that watch them.
pub(crate) struct Sentinels {
    /// The first was the master at the start.
    pub(crate) redis: Vec<Redis>,
    pub(crate) sentinels: Vec<Redis>,
}

impl Sentinels {
    /// The name of the master that the Sentinels watch.
    pub(crate) const MASTER: &str = "mymaster";

    /// So many replicas and Sentinels; a master is down for them after so many milliseconds.
    pub(crate) fn start(replicas: usize, sentinels: usize, down_after_ms: u32) -> Self {
        Self::start_with(replicas, sentinels, down_after_ms, &[])
    }

    /// With more arguments for each Redis.
    pub(crate) fn start_with(
        replicas: usize,
        sentinels: usize,
        down_after_ms: u32,
        arguments: &[&str],
    ) -> Self {
        let master = Redis::start_with(arguments);
        let master_port = master.port.to_string();
        // Replicas are told once: on the command line it would outlast a failover.
        let mut redis = vec![master];
        for _ in 0..replicas {
            let replica = Redis::start_with(arguments);
            replica.cli(&["replicaof", "127.0.0.1", &master_port]);
            redis.push(replica);
        }
        redis[0].cli(&["config", "set", "repl-diskless-sync-delay", "0"]);
        let name = Self::MASTER;
        let config = format!(
            "sentinel monitor {name} 127.0.0.1 {master_port} {}\n\
             sentinel down-after-milliseconds {name} {down_after_ms}\n\
             sentinel failover-timeout {name} 10000\n\
             sentinel parallel-syncs {name} 5\n",
            sentinels / 2 + 1
        );
        let start = |_| Redis::start_config(&config, &["--sentinel"]);
        let all = Self { redis, sentinels: (0..sentinels).map(start).collect() };
        until("the replicas are in step", || {
            let text = all.redis[0].cli(&["info", "replication"]);
            text.matches("state=online").count() == replicas
        });
        until("the Sentinels know all", || {
            all.sentinels.iter().all(|sentinel| {
                let text = sentinel.cli(&["info", "sentinel"]);
                text.contains("status=ok")
                    && text.contains(&format!("slaves={replicas},sentinels={sentinels}"))
            })
        });
        all
    }

    pub(crate) fn url(&self) -> String {
        let places = self.sentinels.iter().map(|it| format!("127.0.0.1:{}", it.port));
        let places: Vec<_> = places.collect();
        format!("redis-sentinel://{}/{}", places.join(","), Self::MASTER)
    }

    /// The port of the master, as one Sentinel has it.
    pub(crate) fn master_port(&self, sentinel: usize) -> u16 {
        let words = ["sentinel", "get-master-addr-by-name", Self::MASTER];
        let text = self.sentinels[sentinel].cli(&words);
        text.lines().nth(1).and_then(|it| it.parse().ok()).expect("a port")
    }

    /// Which Redis has this port.
    pub(crate) fn at(&mut self, port: u16) -> &mut Redis {
        self.redis.iter_mut().find(|it| it.port == port).expect("one of them")
    }
}

/// A Redis Cluster.
pub(crate) struct Cluster {
    /// Masters first, then replicas.
    pub(crate) nodes: Vec<Redis>,
}

impl Cluster {
    /// So many masters.
    pub(crate) fn start(masters: usize) -> Self {
        Self::start_with(masters, 0)
    }

    /// With so many replicas each.
    pub(crate) fn start_with(masters: usize, replicas_each: usize) -> Self {
        let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let start = |_| Redis::start_with(&arguments);
        let nodes: Vec<Redis> = (0..masters * (1 + replicas_each)).map(start).collect();
        let places: Vec<_> = nodes.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect();
        let replicas_each = replicas_each.to_string();
        let mut words = vec!["--cluster", "create"];
        words.extend(places.iter().map(String::as_str));
        words.extend(["--cluster-replicas", &replicas_each, "--cluster-yes"]);
        let mut command = Command::new("redis-cli");
        let output = command.args(words).stdin(Stdio::null()).output().expect("redis-cli runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let all = Self { nodes };
        until("the cluster is whole", || {
            let count = format!("cluster_known_nodes:{}", all.nodes.len());
            all.nodes.iter().all(|node| {
                let text = node.cli(&["cluster", "info"]);
                text.contains("cluster_state:ok") && text.contains(&count)
            })
        });
        until("the replicas are in step", || {
            let texts = all.nodes.iter().map(|node| node.cli(&["info", "replication"]));
            let up = texts.filter(|text| text.contains("master_link_status:up")).count();
            up + masters == all.nodes.len()
        });
        all
    }

    /// Its first nodes, separated by commas.
    pub(crate) fn url(&self) -> String {
        self.nodes.iter().map(Redis::url).collect::<Vec<_>>().join(",")
    }

    /// Which node has a key's slot, by the first node's knowledge.
    pub(crate) fn node_of(&self, key: &str) -> usize {
        let slot: u16 = self.nodes[0].cli(&["cluster", "keyslot", key]).parse().expect("a slot");
        let places = self.nodes[0].cli(&["cluster", "nodes"]);
        let line = places.lines().find(|line| {
            line.split(' ').skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let bounds = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
                bounds.is_some_and(|(first, last)| (first..=last).contains(&slot))
            })
        });
        let line = line.expect("a node has the slot");
        let is_its = |node: &Redis| line.contains(&format!(":{}@", node.port));
        self.nodes.iter().position(is_its).expect("one of them")
    }

    /// Moves a key's slot, with all that is in it, to another node.
    pub(crate) fn move_slot_of(&self, key: &str, to: usize) {
        let from = self.node_of(key);
        let slot = self.nodes[0].cli(&["cluster", "keyslot", key]);
        let id = |node: usize| self.nodes[node].cli(&["cluster", "myid"]);
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        target.cli(&["cluster", "setslot", &slot, "importing", &id(from)]);
        source.cli(&["cluster", "setslot", &slot, "migrating", &id(to)]);
        let port = target.port.to_string();
        loop {
            let keys = source.cli(&["cluster", "getkeysinslot", &slot, "100"]);
            let keys: Vec<&str> = keys.lines().filter(|it| !it.is_empty()).collect();
            if keys.is_empty() {
                break;
            }
            let mut words = vec!["migrate", "127.0.0.1", &port, "", "0", "5000", "keys"];
            words.extend(keys);
            source.cli(&words);
        }
        for node in [to, from] {
            self.nodes[node].cli(&["cluster", "setslot", &slot, "node", &id(to)]);
        }
    }
}

/// What redis-cli prints about the Redis at a port; `None` if it fails.
pub(crate) fn cli(port: u16, arguments: &[&str]) -> Option<String> {
    // It has no limit of its own, and a Redis that stands still answers never.
    let mut command = Command::new("timeout");
    command.args(["10", "redis-cli", "-p", &port.to_string()]);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().expect("redis-cli is installed");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// Waits for a condition.
pub(crate) fn until(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// Waits for a condition, for so long; how long it took.
pub(crate) fn within(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < patience, "not in {patience:?}: {what}");
        sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

/// A port that is free now, below those that connections get; not given twice.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static GIVEN: Mutex<()> = Mutex::new(());
    let _given = GIVEN.lock().expect("no panic inside");
    // Test programs that run at the same time start at different places. A cluster's node also
    // takes the port 10,000 above.
    let base = std::process::id().wrapping_mul(97) % 9_000;
    loop {
        let port = 11_000 + (base + NEXT.fetch_add(1, Ordering::Relaxed)) % 9_000;
        let port = port as u16;
        let bus = port + 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok()
            && TcpListener::bind(("127.0.0.1", bus)).is_ok()
        {
            return port;
        }
    }
}

/// A folder of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("throng-redis-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
