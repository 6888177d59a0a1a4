//! Connections per second: from `connect` to the acknowledgement of `join`.

use std::io;

use serde_json::{Value, json};

use super::swarm::{NoSink, Swarm};
use super::{SECOND, Target, report};
use crate::procfs;

/// How to bring connections up.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Connections begun per second at most; 0 = as fast as it goes.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Seconds to hold the connections afterwards, answering pings.
    #[arg(long, default_value_t = 0.0)]
    pub hold: f64,
    /// Close them all at the end, while this process still runs.
    #[arg(long)]
    pub then_close: bool,
}

/// Brings the connections up and holds them.
///
/// # Errors
/// When sockets run out here or the server process is gone.
pub fn run(target: &Target, options: &Options) -> io::Result<Value> {
    let mut swarm = Swarm::new(target)?;
    let own = std::process::id();
    let (server, client) = (read(target.server_pid)?, procfs::cpu(own)?);
    let up = swarm.bring_up(options.rate)?;
    let joined = swarm.joined as u64;
    let client = procfs::cpu(own)?.since(client);
    let server = server.zip(read(target.server_pid)?).map(|(before, after)| after.since(before));
    let end = swarm.clock.now() + (options.hold * SECOND as f64) as u64;
    while swarm.clock.now() < end {
        swarm.poll(SECOND / 10, &mut NoSink)?;
    }
    let (refused, lost, pings) = (swarm.refused, swarm.lost, swarm.pings);
    if options.then_close {
        swarm.close_all();
    }
    Ok(json!({
        "seconds": report::round(up.seconds, 3),
        "joined": joined,
        "refused": refused,
        "lost": lost,
        "pings": pings,
        "connects_per_s": (joined as f64 / up.seconds).round(),
        "connect_to_joined": report::percentiles(&up.latency),
        "server_cpu": server.map(|cpu| report::server_cpu(cpu, joined)),
        "client": {
            "cpu_seconds": report::round(client.total_ns as f64 / 1e9, 3),
            "us_per_connection": report::per(client.total_ns, joined),
            "busy": report::round(client.total_ns as f64 / 1e9 / up.seconds, 3),
        },
    }))
}

fn read(pid: Option<u32>) -> io::Result<Option<procfs::Cpu>> {
    pid.map(procfs::cpu).transpose()
}
