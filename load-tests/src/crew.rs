//! The workers of a run, led from one place: orders go out, counters and times come back, and a
//! sample is taken once a second for the view and the plots.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use throng_ring::{Config as RingConfig, Ring, Waker, preflight};

use crate::addresses::Addresses;
use crate::board::Board;
use crate::cli::Common;
use crate::clock::{Clock, SECOND};
use crate::dialect::Dialect;
use crate::outcome::human;
use crate::procfs::{self, Cpu};
use crate::sample::Sample;
use crate::server::{Reading, Watch};
use crate::stats::{Percentiles, Times, Totals};
use crate::view::{self, Progress, View, Wanted};
use crate::worker::{Order, Shared, Visible, Worker, WorkerTimes};

/// Slots of a ring beyond its clients: connections that are closing hold theirs a moment longer.
const SPARE_SLOTS: u64 = 512;
/// Share of a ring's table that is planned with.
const FILL: f64 = 0.95;
/// How often a phase looks whether it is over.
const LOOK: Duration = Duration::from_millis(10);
/// Share of its cores above which the generator is what was measured.
const BUSY_MAX: f64 = 0.95;
/// The same for its lag behind the schedule, in microseconds, if it is also a good part of the
/// latency.
const LAG_US_MAX: u64 = 1000;

struct Member {
    orders: Sender<Order>,
    waker: Waker,
    visible: Arc<Visible>,
    thread: JoinHandle<io::Result<()>>,
}

/// The workers of a run.
pub struct Crew {
    /// What they share.
    pub shared: Arc<Shared>,
    /// One per second since the start.
    pub samples: Vec<Sample>,
    members: Vec<Member>,
    view: Box<dyn View>,
    watch: Watch,
    stop: Arc<AtomicBool>,
    sampled: Sampled,
    orders: u32,
    /// Of the phase that runs.
    times: WorkerTimes,
    phase: &'static str,
    /// Where the phase begins that has been announced.
    begin: Option<Mark>,
}

/// The state at the last sample.
#[derive(Default)]
struct Sampled {
    at_ns: u64,
    totals: Totals,
    cpu: Cpu,
    cores: Vec<(u64, u64)>,
}

/// What a phase came to.
pub struct Phase {
    /// How long it took.
    pub seconds: f64,
    /// What was counted in it; gauges as they are at its end.
    pub totals: Totals,
    /// Due time to arrival.
    pub latency: Option<Percentiles>,
    /// Begun to in its room.
    pub connect: Option<Percentiles>,
    /// Due time to sent.
    pub lag: Option<Percentiles>,
    /// Cores that the generator kept busy.
    pub load_cores: f64,
    /// CPU that the server used.
    pub server_cpu: Option<Cpu>,
    /// Why the generator was what was measured.
    pub bottleneck: Option<String>,
}

impl Crew {
    /// Starts the workers; nothing is sent yet.
    ///
    /// # Errors
    /// What the host lacks, or what is wrong with the settings.
    pub fn start(common: &Common, connections: u64, rooms: u32) -> io::Result<Self> {
        let host = preflight::check().map_err(|faults| {
            let lines = faults.iter().map(|fault| format!("\n  {}: {}", fault.what, fault.mend));
            io::Error::other(format!("this host cannot run it:{}", lines.collect::<String>()))
        })?;
        let slots = preflight::slots_within(u64::MAX, host.open_files_max);
        let workers = workers(common, connections, slots)?;
        let slots = slots.min((connections / u64::from(workers) + 1 + SPARE_SLOTS) as u32 * 2);
        let (name, port) = host_and_port(&common.url)?;
        check_files(common)?;
        let addresses = Addresses::new(
            (name.trim_matches(['[', ']']), port),
            &common.targets,
            &common.sources,
            connections,
        )
        .map_err(io::Error::other)?;
        let path = common.path.clone();
        let path = path.unwrap_or_else(|| Dialect::default_path(common.protocol).into());
        let shared = Arc::new(Shared {
            clock: Clock::start(),
            addresses,
            dialect: Dialect { protocol: common.protocol, host: format!("{name}:{port}"), path },
            board: Board::new(rooms),
            workers,
            clients: connections,
            timeout: common.timeout,
            spin: common.spin,
            seed: common.seed,
        });
        let members = (0..workers)
            .map(|index| start_worker(&shared, index, slots))
            .collect::<io::Result<_>>()?;
        let metrics = match common.metrics.as_deref() {
            Some("off") => None,
            Some(url) => Some(url.to_owned()),
            None => Some(format!("http://{name}:{port}/metrics")),
        };
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        Ok(Self {
            shared,
            samples: Vec::new(),
            members,
            view: view::open(if common.json { Wanted::Json } else { Wanted::Live }),
            watch: Watch::start(common.server_pid, metrics),
            stop,
            sampled: Sampled::default(),
            orders: 0,
            times: WorkerTimes::default(),
            phase: "starting",
            begin: None,
        })
    }

    /// How many workers there are.
    pub fn workers(&self) -> u32 {
        self.members.len() as u32
    }

    /// Gives each worker an order, and waits until all have taken it up.
    ///
    /// # Errors
    /// When a worker has ended.
    pub fn order(&mut self, order: impl Fn(u32) -> Order) -> io::Result<()> {
        self.orders += 1;
        for (index, member) in (0..).zip(&self.members) {
            let _ = member.orders.send(order(index));
            member.waker.wake();
        }
        while self.members.iter().any(|it| it.visible.followed.load(Relaxed) < self.orders) {
            self.check_workers()?;
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Begins a phase before its orders are given: what they lead to belongs to it.
    pub fn announce(&mut self, name: &'static str) {
        self.phase = name;
        self.view.note(name);
        self.take_times();
        self.times = WorkerTimes::default();
        self.begin = Some(self.mark());
    }

    /// Why connections and requests have failed, and how often.
    pub fn reasons(&self) -> Vec<String> {
        let mut all = BTreeMap::new();
        for member in &self.members {
            let reasons = member.visible.reasons.lock().unwrap_or_else(PoisonError::into_inner);
            for (why, count) in reasons.iter() {
                *all.entry(why.clone()).or_insert(0) += count;
            }
        }
        all.into_iter().map(|(why, count)| format!("{why} ({count} times)")).collect()
    }

    /// Runs a phase until `is_over`, which is given what was counted in it, and how long it has
    /// taken. Ends early when the user stops the run.
    ///
    /// # Errors
    /// When a worker has ended.
    pub fn phase(
        &mut self,
        name: &'static str,
        progress: impl Fn(&Totals, f64) -> Progress,
        mut is_over: impl FnMut(&Totals, f64) -> bool,
    ) -> io::Result<Phase> {
        if self.begin.is_none() {
            self.announce(name);
        }
        let begin = self.begin.take().expect("announced above");
        loop {
            self.check_workers()?;
            let totals = self.since(&begin.totals);
            let seconds = (self.shared.clock.now() - begin.at_ns) as f64 / SECOND as f64;
            if self.shared.clock.now() >= self.sampled.at_ns + SECOND {
                self.sample(&progress(&totals, seconds));
            }
            if is_over(&totals, seconds) || self.is_stopped() {
                break;
            }
            thread::sleep(LOOK);
        }
        let end = self.mark();
        self.take_times();
        Ok(self.result(&begin, &end))
    }

    /// Whether the user has asked for the end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// What the server says and costs now.
    pub fn look_at_server(&self) -> Reading {
        self.watch.now()
    }

    /// All that has been counted.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.members.iter().for_each(|member| member.visible.cells.add_to(&mut totals));
        totals
    }

    /// Says something that stays.
    pub fn note(&mut self, line: &str) {
        self.view.note(line);
    }

    /// Ends the workers and gives the view back.
    ///
    /// # Errors
    /// What ended a worker before its time.
    pub fn finish(self) -> io::Result<(Vec<Sample>, Box<dyn View>)> {
        for member in &self.members {
            let _ = member.orders.send(Order::Finish);
            member.waker.wake();
        }
        for member in self.members {
            member.thread.join().map_err(|_| io::Error::other("a worker panicked"))??;
        }
        Ok((self.samples, self.view))
    }

    fn since(&self, begin: &Totals) -> Totals {
        let now = self.totals();
        Totals { ready: now.ready, ..now - *begin }
    }

    fn check_workers(&self) -> io::Result<()> {
        match self.members.iter().any(|member| member.thread.is_finished()) {
            true => Err(io::Error::other("a worker has ended before its time")),
            false => Ok(()),
        }
    }

    fn take_times(&mut self) {
        for member in &self.members {
            let mut seen = member.visible.times.lock().unwrap_or_else(PoisonError::into_inner);
            seen.move_to(&mut self.times);
        }
    }

    /// Takes a sample and shows it.
    fn sample(&mut self, progress: &Progress) {
        let before = std::mem::take(&mut self.times);
        self.take_times();
        let percentiles = |times: &Times| times.percentiles();
        let now_ns = self.shared.clock.now();
        let now = Sampled {
            at_ns: now_ns,
            totals: self.totals(),
            cpu: procfs::cpu(std::process::id()).unwrap_or_default(),
            cores: procfs::cores().unwrap_or_default(),
        };
        let last = std::mem::replace(&mut self.sampled, now);
        let now = &self.sampled;
        let period_ns = (now.at_ns - last.at_ns).max(1);
        let sample = Sample {
            at_s: now_ns as f64 / SECOND as f64,
            phase: self.phase,
            period_s: period_ns as f64 / SECOND as f64,
            totals: now.totals,
            period: now.totals - last.totals,
            opening: self
                .members
                .iter()
                .map(|it| u64::from(it.visible.opening.load(Relaxed)))
                .sum(),
            latency: percentiles(&self.times.latency),
            connect: percentiles(&self.times.connect),
            lag: percentiles(&self.times.lag),
            load_cores: now.cpu.since(last.cpu).total_ns as f64 / period_ns as f64,
            cores: procfs::busy_shares(&last.cores, &now.cores),
            server: self.watch.latest(),
        };
        self.view.on_sample(&sample, progress);
        self.samples.push(sample);
        let mut these = std::mem::replace(&mut self.times, before);
        these.move_to(&mut self.times);
    }

    fn mark(&self) -> Mark {
        Mark {
            at_ns: self.shared.clock.now(),
            totals: self.totals(),
            cpu: procfs::cpu(std::process::id()).unwrap_or_default(),
            server: self.watch.cpu(),
            idle_ns: self.members.iter().map(|it| it.visible.idle_ns.load(Relaxed)).collect(),
        }
    }

    fn result(&self, begin: &Mark, end: &Mark) -> Phase {
        let wall_ns = (end.at_ns - begin.at_ns).max(1);
        let latency = self.times.latency.percentiles();
        let lag = self.times.lag.percentiles();
        let load_cores = end.cpu.since(begin.cpu).total_ns as f64 / wall_ns as f64;
        let busy = match self.shared.spin {
            true => begin.busiest(end, wall_ns),
            false => load_cores / procfs::cores_allowed() as f64,
        };
        Phase {
            seconds: wall_ns as f64 / SECOND as f64,
            totals: Totals { ready: end.totals.ready, ..end.totals - begin.totals },
            bottleneck: bottleneck(busy, lag, latency),
            latency,
            connect: self.times.connect.percentiles(),
            lag,
            load_cores,
            server_cpu: end.server.zip(begin.server).map(|(end, begin)| end.since(begin)),
        }
    }
}

/// One end of a phase.
struct Mark {
    at_ns: u64,
    totals: Totals,
    cpu: Cpu,
    server: Option<Cpu>,
    idle_ns: Vec<u64>,
}

impl Mark {
    /// Share of the time that the busiest spinning worker had something to do.
    fn busiest(&self, end: &Self, wall_ns: u64) -> f64 {
        let idle_ns = self.idle_ns.iter().zip(&end.idle_ns).map(|(begin, end)| end - begin);
        1.0 - idle_ns.min().unwrap_or(0) as f64 / wall_ns as f64
    }
}

fn bottleneck(busy: f64, lag: Option<Percentiles>, latency: Option<Percentiles>) -> Option<String> {
    if busy > BUSY_MAX {
        let percent = busy * 100.0;
        return Some(format!("the generator was busy for {percent:.0} % of the time of its cores"));
    }
    let (lag, latency) = (lag?.p99_us, latency.map_or(0, |latency| latency.p99_us));
    (lag > LAG_US_MAX && lag > latency / 4).then(|| {
        let lag = human(lag as f64, "µs");
        format!("messages left the generator late: {lag} behind schedule at the 99th percentile")
    })
}

fn workers(common: &Common, connections: u64, slots: u32) -> io::Result<u32> {
    let per_ring = ((f64::from(slots) * FILL) as u64).saturating_sub(SPARE_SLOTS).max(1);
    let needed = connections.div_ceil(per_ring).max(1) as u32;
    match common.rings {
        None => Ok(needed.max((procfs::cores_allowed() as u32).min(connections.max(1) as u32))),
        Some(0) => Err(io::Error::other("--rings must be at least 1")),
        Some(rings) if rings < needed => Err(io::Error::other(format!(
            "{connections} connections need {needed} rings here: each holds {per_ring}, by the \
             limit on open files"
        ))),
        Some(rings) => Ok(rings),
    }
}

/// Frames come whole where buffers are large; many rings share what one would have.
fn ring_config(slots: u32, workers: u32) -> RingConfig {
    let whole = RingConfig { slots, buffers: 512, buffer_bytes: 16 << 10, ..RingConfig::default() };
    match workers {
        0..=4 => whole,
        _ => RingConfig { buffers: 128, buffer_bytes: 4 << 10, ..whole },
    }
}

fn start_worker(shared: &Arc<Shared>, index: u32, slots: u32) -> io::Result<Member> {
    let (orders, inbox) = mpsc::channel();
    let (hand_over, started): (Sender<io::Result<Waker>>, Receiver<_>) = mpsc::channel();
    let visible = Arc::new(Visible::default());
    let (seen, shared) = (Arc::clone(&visible), Arc::clone(shared));
    let config = ring_config(slots, shared.workers);
    let thread = thread::Builder::new().name(format!("ring-{index}")).spawn(move || {
        let ring = match Ring::new(config) {
            Ok(ring) => ring,
            Err(error) => {
                let _ = hand_over.send(Err(error));
                return Ok(());
            }
        };
        let _ = hand_over.send(Ok(ring.waker()));
        Worker::new(ring, shared, index, seen, inbox).run()
    })?;
    let waker = started.recv().map_err(|_| io::Error::other("a worker did not start"))??;
    Ok(Member { orders, waker, visible, thread })
}

/// What would otherwise be found out at the end of a run: a report that cannot be written, a server
/// that is not there.
fn check_files(common: &Common) -> io::Result<()> {
    if let Some(path) = &common.report {
        std::fs::File::create(path)
            .map_err(|error| io::Error::other(format!("--report {}: {error}", path.display())))?;
    }
    match common.server_pid {
        Some(pid) if !Path::new(&format!("/proc/{pid}")).exists() => {
            Err(io::Error::other(format!("--server-pid {pid}: there is no such process here")))
        }
        _ => Ok(()),
    }
}

/// The host and port of `ws://host:port`; IPv6 keeps its brackets.
fn host_and_port(url: &str) -> io::Result<(String, u16)> {
    let wrong = || {
        io::Error::other(format!("{url}: a server is given as ws://HOST:PORT (TLS is not spoken)"))
    };
    let rest =
        url.strip_prefix("ws://").or_else(|| url.strip_prefix("http://")).ok_or_else(wrong)?;
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_given_by_url() {
        let read = |url| host_and_port(url).ok();
        assert_eq!(read("ws://127.0.0.1:5000"), Some(("127.0.0.1".into(), 5000)));
        assert_eq!(read("http://[::1]:80/"), Some(("[::1]".into(), 80)));
        for wrong in ["wss://x:1", "ws://x", "ws://x:y", "x:1"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_generator_says_when_it_is_the_limit() {
        let p99 = |p99_us| Some(Percentiles { p99_us, ..Percentiles::default() });
        assert!(bottleneck(0.97, None, None).is_some());
        assert!(bottleneck(0.5, p99(2000), p99(3000)).is_some());
        assert!(bottleneck(0.5, p99(2000), p99(30_000)).is_none());
        assert!(bottleneck(0.5, p99(200), p99(300)).is_none());
    }
}
