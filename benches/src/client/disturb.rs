//! Others that misbehave, beside a steady load: what do they do to its latency and to the server?

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};
use serde_json::{Value, json};

use super::conn::{dial, upgrade_request};
use super::fanout::{self, Driver};
use super::swarm::{NoSink, Swarm};
use super::{SECOND, Target};
use crate::procfs;

/// How a disturber behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Joins a room and never reads again.
    Stalled,
    /// Sends bytes that are no protocol, is replaced after a quarter of a second.
    Garbage,
    /// Opens a TCP connection and says nothing.
    Silent,
}

/// Who disturbs.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// What they do.
    #[arg(long, value_enum)]
    pub kind: Kind,
    /// How many at a time.
    #[arg(long, default_value_t = 100)]
    pub count: usize,
    /// Seed of the garbage.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

const TICK: u64 = SECOND / 1000;
const GARBAGE_LIFE: u64 = SECOND / 4;
/// New connections per tick: few, because the load waits meanwhile.
const DIALS_MAX: usize = 5;
const CATCH_UP: u64 = 5 * SECOND;

/// Measures the load alone, then with the disturbers, then the server's memory after they left.
///
/// # Errors
/// When the load's own connections do not come up.
pub fn run(target: &Target, load: &fanout::Options, options: &Options) -> io::Result<Value> {
    let pss = || target.server_pid.map(procfs::pss_bytes).transpose();
    let mut swarm = Swarm::new(target)?;
    swarm.bring_up(0)?;
    let mut driver = Driver::new(swarm, target, load)?;
    let alone = driver.measure(&mut |_| Ok(()))?;
    let pss_alone = pss()?;
    let (disturbed, pss_disturbed, fate) = match options.kind {
        Kind::Stalled => {
            let mut stalled = stall(target, options.count)?;
            let result = driver.measure(&mut |_| Ok(()))?;
            let pss = pss()?;
            (result, pss, fate_of_stalled(&mut stalled)?)
        }
        Kind::Garbage | Kind::Silent => {
            let mut crowd = Crowd::new(target, options);
            let result = driver.measure(&mut |now| crowd.tick(now))?;
            let pss = pss()?;
            (result, pss, crowd.fate())
        }
    };
    driver.measure(&mut |_| Ok(())).map(|after| {
        json!({
            "kind": format!("{:?}", options.kind).to_lowercase(),
            "count": options.count,
            "alone": alone,
            "disturbed": disturbed,
            "after": after,
            "disturbers": fate,
            "pss_alone": pss_alone,
            "pss_disturbed": pss_disturbed,
            "pss_after": pss().ok().flatten(),
        })
    })
}

fn stall(target: &Target, count: usize) -> io::Result<Swarm> {
    let mut stalled = Swarm::new(&Target { connections: count, ..target.clone() })?;
    stalled.bring_up(0)?;
    Ok(stalled)
}

/// Reads on at last, to see whom the server had given up.
fn fate_of_stalled(stalled: &mut Swarm) -> io::Result<Value> {
    let end = stalled.clock.now() + CATCH_UP;
    while stalled.clock.now() < end && stalled.joined > 0 {
        stalled.poll(SECOND / 100, &mut NoSink)?;
    }
    Ok(json!({"cut_by_server": stalled.lost, "kept": stalled.joined}))
}

/// Connections without a protocol.
struct Crowd {
    address: SocketAddrV4,
    options: Options,
    request: Vec<u8>,
    open: Vec<(u64, OwnedFd)>,
    next_tick: u64,
    dialled: usize,
    failed: usize,
    state: u64,
}

impl Crowd {
    fn new(target: &Target, options: &Options) -> Self {
        let address = SocketAddrV4::new(target.host, target.port);
        Self {
            address,
            options: options.clone(),
            request: upgrade_request(address),
            open: Vec::with_capacity(options.count),
            next_tick: 0,
            dialled: 0,
            failed: 0,
            state: options.seed | 1,
        }
    }

    fn tick(&mut self, now: u64) -> io::Result<()> {
        if now < self.next_tick {
            return Ok(());
        }
        self.next_tick = now + TICK;
        if self.options.kind == Kind::Garbage {
            self.open.retain(|(since, _)| now - since < GARBAGE_LIFE);
        }
        for _ in 0..DIALS_MAX.min(self.options.count - self.open.len()) {
            self.dialled += 1;
            let source = Ipv4Addr::new(127, 0, 1, (self.dialled % 8) as u8 + 1);
            let Ok(fd) = dial(self.address, source) else {
                self.failed += 1;
                continue;
            };
            if self.options.kind == Kind::Garbage {
                let bytes = self.garbage();
                let _ = net::send(&fd, &bytes, SendFlags::NOSIGNAL);
            }
            self.open.push((now, fd));
        }
        Ok(())
    }

    /// In turn: noise, half a request, a long header, and noise or hostile frames once upgraded.
    fn garbage(&mut self) -> Vec<u8> {
        let noise = self.noise(512);
        match self.dialled % 7 {
            0 => noise,
            1 => self.request[..self.request.len() / 2].to_vec(),
            2 => [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 16_384]].concat(),
            3 => [&self.request, noise.as_slice()].concat(),
            4 => [&self.request, b"\x81\x05hello".as_slice()].concat(),
            5 => [&self.request, b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff".as_slice()].concat(),
            _ => [&self.request, b"\x8f\x80\x00\x00\x00\x00".as_slice()].concat(),
        }
    }

    /// Xorshift64: the same seed, the same garbage.
    fn noise(&mut self, bytes: usize) -> Vec<u8> {
        let mut next = || {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            self.state as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    /// Who is still connected; they leave with this.
    fn fate(self) -> Value {
        let mut byte = [0; 4096];
        let still = |fd: &OwnedFd| loop {
            match net::recv(fd, &mut byte[..], RecvFlags::empty()) {
                Err(Errno::AGAIN) => return true,
                Ok((len, _)) if len > 0 => {}
                _ => return false,
            }
        };
        let kept = self.open.iter().map(|(_, fd)| fd).filter({
            let mut still = still;
            move |fd| still(fd)
        });
        json!({"dialled": self.dialled, "not_dialled": self.failed, "kept": kept.count()})
    }
}
