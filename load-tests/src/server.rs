//! The server, watched from outside: `/proc` of its process where it runs on this host, and its
//! `/metrics` where it has them.
//!
//! Everything is optional: a server that cannot be seen makes figures that are missing, never an
//! error and never a line on the terminal. One thread reads once a second; readers take what it saw
//! last and wait for nothing.

use std::fs;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::procfs::{self, Cpu};
use crate::sample::ServerSample;

const PERIOD: Duration = Duration::from_secs(1);

/// In the live view a late answer is worth as much as none.
const METRICS_TIMEOUT: Duration = Duration::from_secs(1);

/// For the outcome it is worth waiting for a server under full load.
const READING_TIMEOUT: Duration = Duration::from_secs(20);

/// Counters that say that a client was refused, ended or passed over begin or end with these.
const TROUBLE_STARTS: [&str; 3] = ["refused_", "closed_", "undelivered_"];
const TROUBLE_END: &str = "failed";

/// Ways for a connection to end that are no trouble.
const CLOSED_WELL: [&str; 2] = ["closed_peer", "closed_answered"];

/// Watches a server until it is dropped.
#[derive(Debug)]
pub struct Watch {
    source: Source,
    latest: Arc<Mutex<Option<ServerSample>>>,
    /// The thread ends when this is gone.
    _alive: Sender<()>,
}

/// The server at one moment, for figures of before and after. What could not be read is `None`.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// CPU that its process has used.
    pub cpu: Option<Cpu>,
    /// Proportional set size of its process, in bytes.
    pub pss_bytes: Option<u64>,
    /// Slabs of this host, in bytes.
    pub slab_bytes: Option<u64>,
    /// Its `/metrics`.
    pub metrics: Option<Value>,
}

impl Watch {
    /// Begins: `pid` is its process on this host, `metrics` the address of its `/metrics`.
    ///
    /// # Panics
    /// When the system refuses another thread.
    pub fn start(pid: Option<u32>, metrics: Option<String>) -> Self {
        let source = Source::new(pid, metrics);
        let latest = Arc::<Mutex<Option<ServerSample>>>::default();
        let (alive, ended) = mpsc::channel();
        if source.sees_something() {
            let (source, latest) = (source.clone(), Arc::clone(&latest));
            let watching = move || watch(&source, &latest, &ended);
            let named = thread::Builder::new().name("watch".to_owned());
            named.spawn(watching).expect("the system refuses a thread");
        }
        Self { source, latest, _alive: alive }
    }

    /// What was seen last; `None` before the first second and where nothing can be seen.
    pub fn latest(&self) -> Option<ServerSample> {
        lock(&self.latest).clone()
    }

    /// CPU that its process has used so far.
    pub fn cpu(&self) -> Option<Cpu> {
        self.source.pid.and_then(|pid| procfs::cpu(pid).ok())
    }

    /// Reads everything, which may take a second, and some CPU for each mapping of its process.
    pub fn now(&self) -> Reading {
        let pid = self.source.pid;
        Reading {
            cpu: self.cpu(),
            pss_bytes: pid.and_then(|pid| procfs::pss_bytes(pid).ok()),
            slab_bytes: self.source.slab(),
            metrics: self.source.metrics(READING_TIMEOUT),
        }
    }
}

impl Reading {
    /// A number of its `/metrics`, by JSON pointer: `/total/accepted`.
    pub fn metric(&self, pointer: &str) -> Option<f64> {
        self.metrics.as_ref()?.pointer(pointer)?.as_f64()
    }
}

/// Where the figures come from.
#[derive(Clone, Debug)]
struct Source {
    pid: Option<u32>,
    url: Option<String>,
    agent: ureq::Agent,
}

impl Source {
    fn new(pid: Option<u32>, url: Option<String>) -> Self {
        // A proxy of the environment is not for the server under test.
        let config = ureq::Agent::config_builder().proxy(None);
        Self { pid, url, agent: config.build().into() }
    }

    fn sees_something(&self) -> bool {
        self.pid.is_some() || self.url.is_some()
    }

    fn metrics(&self, timeout: Duration) -> Option<Value> {
        let asked = self.agent.get(self.url.as_ref()?).header("accept", "application/json");
        let asked = asked.config().timeout_global(Some(timeout)).build();
        let text = asked.call().ok()?.body_mut().read_to_string().ok()?;
        serde_json::from_str::<Value>(&text).ok().filter(Value::is_object)
    }

    /// Only where the server is on this host: otherwise the slabs are the generator's alone.
    fn slab(&self) -> Option<u64> {
        self.pid?;
        procfs::kernel().ok().map(|kernel| kernel.slab).filter(|&bytes| bytes > 0)
    }

    fn resident(&self) -> Option<u64> {
        // As cheap as `statm`, and it says kilobytes where pages may be of any size.
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
    }

    fn cpu_ns(&self) -> Option<u64> {
        procfs::cpu(self.pid?).ok().map(|cpu| cpu.total_ns)
    }
}

/// What has to be remembered from one second to the next.
struct Before {
    slab: Option<u64>,
    cpu_ns: Option<u64>,
    at: Instant,
}

fn watch(source: &Source, latest: &Mutex<Option<ServerSample>>, ended: &Receiver<()>) {
    let mut before = Before { slab: source.slab(), cpu_ns: source.cpu_ns(), at: Instant::now() };
    let mut due = before.at + PERIOD;
    while ended.recv_timeout(due.saturating_duration_since(Instant::now()))
        == Err(RecvTimeoutError::Timeout)
    {
        let seen = see(source, &mut before);
        *lock(latest) = Some(seen);
        due = (due + PERIOD).max(Instant::now());
    }
}

fn see(source: &Source, before: &mut Before) -> ServerSample {
    let (cpu_ns, at) = (source.cpu_ns(), Instant::now());
    let used_ns = cpu_ns.zip(before.cpu_ns).map(|(now, then)| now.saturating_sub(then));
    let period_ns = at.duration_since(before.at).as_nanos().max(1);
    (before.cpu_ns, before.at) = (cpu_ns, at);
    let grown = source.slab().zip(before.slab).map(|(now, then)| now.saturating_sub(then));
    let mut seen =
        source.metrics(METRICS_TIMEOUT).map_or_else(ServerSample::default, |it| from_metrics(&it));
    seen.cores = used_ns.map(|ns| ns as f64 / period_ns as f64);
    seen.user_bytes = source.resident().or(seen.user_bytes);
    seen.kernel_bytes = grown;
    seen
}

/// What `/metrics` alone tells.
fn from_metrics(metrics: &Value) -> ServerSample {
    let number = |pointer| metrics.pointer(pointer).and_then(Value::as_u64);
    ServerSample {
        user_bytes: number("/memory/userBytes"),
        connections: number("/connections"),
        delivered_per_s: number("/messages/outPerSecond").map(|rate| rate as f64),
        latency_p99_us: number("/latency/p99").filter(|_| number("/latency/count") > Some(0)),
        troubles: troubles(metrics),
        ..ServerSample::default()
    }
}

/// Counters of refusals, ends and losses that are not zero, in the server's order.
pub fn troubles(metrics: &Value) -> Vec<(String, u64)> {
    let Some(total) = metrics.get("total").and_then(Value::as_object) else { return Vec::new() };
    let counted = total.iter().filter_map(|(name, value)| Some((name, value.as_u64()?)));
    counted
        .filter(|&(name, count)| count > 0 && is_trouble(name))
        .map(|(name, count)| (name.clone(), count))
        .collect()
}

fn is_trouble(name: &str) -> bool {
    let named = TROUBLE_STARTS.iter().any(|start| name.starts_with(start));
    (named || name.ends_with(TROUBLE_END)) && !CLOSED_WELL.contains(&name)
}

/// A sample is replaced whole, so one left by a thread that panicked is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    /// As `throng` answers, with counters that are not zero.
    const METRICS: &str = r#"{"uptime":1,"connections":12,"connectionsMax":1000000,
        "messages":{"inPerSecond":7,"outPerSecond":700},
        "latency":{"unit":"us","count":9,"p50":10,"p99":99,"p999":100,"max":101},
        "memory":{"userBytes":27234304,"kernelBytesEstimated":0},
        "total":{"connections":12,"accepted":13,"refused_full":2,"refused_ip":0,"closed_peer":5,
            "closed_answered":6,"closed_ping_timeout":3,"undelivered_dropped":4,"move_failed":0,
            "ring_accepts_failed":1,"recovery_refused":8},
        "shards":[]}"#;

    fn serve() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let _ = stream.read(&mut [0; 4096]);
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", METRICS.len());
                let _ = write!(stream, "{head}connection: close\r\n\r\n{METRICS}");
            }
        });
        address
    }

    fn first_of(watch: &Watch) -> ServerSample {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if let Some(seen) = watch.latest() {
                return seen;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("nothing was seen");
    }

    #[test]
    fn process_and_metrics_become_one_sample() {
        let url = format!("http://{}/metrics", serve());
        let watch = Watch::start(Some(std::process::id()), Some(url));
        let seen = first_of(&watch);
        assert!(seen.cores.is_some_and(|cores| cores >= 0.0));
        assert!(seen.user_bytes.is_some_and(|bytes| bytes > 100_000 && bytes != 27_234_304));
        assert!(seen.kernel_bytes.is_some());
        assert_eq!(seen.connections, Some(12));
        assert_eq!(seen.delivered_per_s, Some(700.0));
        assert_eq!(seen.latency_p99_us, Some(99));
        let troubles: Vec<_> = seen.troubles.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        let expected = [
            ("refused_full", 2),
            ("closed_ping_timeout", 3),
            ("undelivered_dropped", 4),
            ("ring_accepts_failed", 1),
        ];
        assert_eq!(troubles, expected);
        let now = watch.now();
        assert!(now.cpu.is_some() && now.pss_bytes.is_some() && now.slab_bytes.is_some());
        assert_eq!(now.metric("/total/accepted"), Some(13.0));
    }

    #[test]
    fn metrics_alone_tell_the_memory_but_no_cpu() {
        let watch = Watch::start(None, Some(format!("http://{}/metrics", serve())));
        let seen = first_of(&watch);
        assert_eq!((seen.cores, seen.user_bytes), (None, Some(27_234_304)));
        assert_eq!(seen.kernel_bytes, None);
    }

    #[test]
    fn a_server_that_cannot_be_seen_is_no_error() {
        let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let watch = Watch::start(Some(u32::MAX), Some(format!("http://{nobody}/metrics")));
        let seen = first_of(&watch);
        assert_eq!((seen.cores, seen.user_bytes, seen.connections), (None, None, None));
        let now = watch.now();
        assert!(now.cpu.is_none() && now.pss_bytes.is_none() && now.metrics.is_none());
        assert!(Watch::start(None, None).latest().is_none());
    }
}
