//! Memory of idle connections that are connected, named and in a room.
//!
//! User memory is the growth of the server's proportional set size. Kernel memory is the host's, so
//! both ends of each connection are in it; the client's end is measured first, on bare socket pairs
//! of this process, and taken off.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{self, RecvFlags, SendFlags};
use serde_json::{Value, json};

use super::conn::dial;
use super::swarm::{NoSink, Swarm};
use super::{SECOND, Target, report};
use crate::procfs::{self, Kernel};

const SETTLE_SECONDS: u64 = 3;
const LEAVE_SECONDS: u64 = 10;
const PAIRS: usize = 2000;

/// Measures before, with and after the connections.
///
/// # Errors
/// When no pid was given or the process is gone.
pub fn run(target: &Target) -> io::Result<Value> {
    let pid = target.server_pid.ok_or_else(|| io::Error::other("memory needs --pid"))?;
    let client_end = bare_socket_bytes()?;
    let mut swarm = Swarm::new(target)?;
    let (pss_before, kernel_before) = (procfs::pss_bytes(pid)?, procfs::kernel()?);
    swarm.bring_up(0)?;
    idle(&mut swarm, SETTLE_SECONDS)?;
    let (pss_with, kernel_with) = (procfs::pss_bytes(pid)?, procfs::kernel()?);
    let (joined, refused, lost) = (swarm.joined, swarm.refused, swarm.lost);
    let each = |bytes: f64| report::round(bytes / joined.max(1) as f64, 1);
    let grown =
        |field: fn(&Kernel) -> u64| field(&kernel_with) as f64 - field(&kernel_before) as f64;
    swarm.close_all();
    let (after, seconds) = wait_for_return(pid, pss_before, pss_with)?;
    let both_ends = grown(|kernel| kernel.slab);
    Ok(json!({
        "joined": joined,
        "refused": refused,
        "lost": lost,
        "pss_before": pss_before,
        "pss_with": pss_with,
        "pss_after_they_left": after,
        "seconds_until_returned": seconds,
        "user_bytes_each": each(pss_with as f64 - pss_before as f64),
        "user_bytes_each_kept": each(after as f64 - pss_before as f64),
        "kernel_bytes_each_server": report::round(each(both_ends) - client_end, 1),
        "kernel_bytes_each_client": report::round(client_end, 1),
        "slab_bytes_each_both_ends": each(both_ends),
        "slab_unreclaimable_each_both_ends": each(grown(|kernel| kernel.slab_unreclaimable)),
        "tcp_buffers_each_both_ends": each(grown(|kernel| kernel.tcp_buffers)),
        "host_memory_each_both_ends": each(grown(|kernel| kernel.used)),
    }))
}

fn idle(swarm: &mut Swarm, seconds: u64) -> io::Result<()> {
    let end = swarm.clock.now() + seconds * SECOND;
    while swarm.clock.now() < end {
        swarm.poll(SECOND / 10, &mut NoSink)?;
    }
    Ok(())
}

/// Waits until nine tenths of the growth are given back, or ten seconds.
fn wait_for_return(pid: u32, before: u64, with: u64) -> io::Result<(u64, Option<u64>)> {
    let enough = before + with.saturating_sub(before) / 10;
    let mut pss = with;
    for second in 1..=LEAVE_SECONDS {
        std::thread::sleep(Duration::from_secs(1));
        pss = procfs::pss_bytes(pid)?;
        if pss <= enough {
            return Ok((pss, Some(second)));
        }
    }
    Ok((pss, None))
}

/// A byte each way: a connection that was used holds more than one that was not.
fn exchange(one: &OwnedFd, other: &OwnedFd) -> io::Result<()> {
    let mut byte = [0];
    for (from, to) in [(one, other), (other, one)] {
        net::send(from, b"x", SendFlags::NOSIGNAL)?;
        net::recv(to, &mut byte[..], RecvFlags::empty())?;
    }
    Ok(())
}

/// Kernel bytes of one connected socket of this process, watched by epoll: the client's share.
fn bare_socket_bytes() -> io::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, listener.local_addr()?.port());
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut sockets: Vec<OwnedFd> = Vec::with_capacity(2 * PAIRS);
    let before = procfs::kernel()?;
    for _ in 0..PAIRS {
        let fd = dial(target, Ipv4Addr::LOCALHOST)?;
        net::sockopt::set_socket_linger(&fd, Some(Duration::ZERO))?; // leaves no TIME_WAIT behind
        let other: OwnedFd = listener.accept()?.0.into();
        exchange(&fd, &other)?;
        sockets.extend([fd, other]);
    }
    for fd in &sockets {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&epoll, fd, EventData::new_u64(0), flags)?;
    }
    let after = procfs::kernel()?;
    Ok(after.slab.saturating_sub(before.slab) as f64 / sockets.len() as f64)
}
