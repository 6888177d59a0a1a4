//! Readings from `/proc`: CPU and memory of a process, kernel memory of the host.

use std::fs;
use std::io;

/// `utime` and `stime` count in these (`USER_HZ` is 100 on every Linux).
const TICK_NS: u64 = 10_000_000;

/// A dentry and the security module's part come with each inode of `/proc`.
const PROC_INODE_EXTRA: u64 = 192 + 32;

/// CPU time of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// All threads, in nanoseconds, from the scheduler.
    pub total_ns: u64,
    /// In user space, to 10 ms.
    pub user_ns: u64,
    /// In the kernel, to 10 ms.
    pub system_ns: u64,
}

impl Cpu {
    /// What was used since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            total_ns: self.total_ns.saturating_sub(earlier.total_ns),
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
        }
    }
}

/// CPU that a process has used so far. Threads that ended are missing from `total_ns`.
///
/// # Errors
/// When there is no such process.
pub fn cpu(pid: u32) -> io::Result<Cpu> {
    let mut total_ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path().join("schedstat");
        let first = fs::read_to_string(path).ok().and_then(|text| field(&text, 0));
        total_ns += first.unwrap_or(0);
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |index| field(after_name, index).unwrap_or(0) * TICK_NS;
    Ok(Cpu { total_ns, user_ns: ticks(11), system_ns: ticks(12) })
}

/// Proportional set size of a process, bytes.
///
/// # Errors
/// When there is no such process.
pub fn pss_bytes(pid: u32) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(labelled(&rollup, "Pss:") * 1024)
}

/// Time that each core of this host has been busy, and in all, in ticks.
///
/// # Errors
/// When `/proc` is not there.
pub fn cores() -> io::Result<Vec<(u64, u64)>> {
    let stat = fs::read_to_string("/proc/stat")?;
    let of_core = |line: &str| line.starts_with("cpu") && !line.starts_with("cpu ");
    let read = |line: &str| {
        let ticks = |index| field(line, index).unwrap_or(0);
        let idle = ticks(4) + ticks(5);
        let all: u64 = (1..=8).map(ticks).sum();
        (all - idle, all)
    };
    Ok(stat.lines().filter(|line| of_core(line)).map(read).collect())
}

/// How busy each core was between two readings of [`cores`], 0 to 1.
#[must_use]
pub fn busy_shares(before: &[(u64, u64)], after: &[(u64, u64)]) -> Vec<f64> {
    let share = |(before, after): (&(u64, u64), &(u64, u64))| {
        let (busy, all) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
        busy as f64 / all.max(1) as f64
    };
    before.iter().zip(after).map(share).collect()
}

/// Connections that full backlogs have dropped on this host so far.
///
/// # Errors
/// When `/proc` is not there.
pub fn listen_overflows() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/net/netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let index = names.split_ascii_whitespace().position(|name| name == "ListenOverflows");
    Ok(index.and_then(|index| field(values, index)).unwrap_or(0))
}

/// How many cores this process may use.
#[must_use]
pub fn cores_allowed() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Kernel memory of the host, bytes: both ends of a loopback connection are in it.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Objects in use in all slabs; whole slabs where `/proc/slabinfo` may not be read.
    pub slab: u64,
    /// Slabs that cannot be reclaimed.
    pub slab_unreclaimable: u64,
    /// Socket buffers of TCP.
    pub tcp_buffers: u64,
    /// Everything in use.
    pub used: u64,
}

/// Reads [`Kernel`].
///
/// # Errors
/// When `/proc` is not there.
pub fn kernel() -> io::Result<Kernel> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let sockets = fs::read_to_string("/proc/net/sockstat")?;
    let tcp = sockets.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = tcp.split(" mem ").nth(1).and_then(|rest| field(rest, 0)).unwrap_or(0);
    let bytes = |label| labelled(&info, label) * 1024;
    Ok(Kernel {
        slab: slab_in_use().unwrap_or_else(|_| bytes("Slab:")),
        slab_unreclaimable: bytes("SUnreclaim:"),
        tcp_buffers: pages * 4096,
        used: bytes("MemTotal:").saturating_sub(bytes("MemAvailable:")),
    })
}

/// Slabs keep freed objects' pages, so the objects are counted, not the pages. What somebody's look
/// at `/proc/<pid>/fd` leaves behind is taken out: it would be as much as a third.
fn slab_in_use() -> io::Result<u64> {
    let info = fs::read_to_string("/proc/slabinfo")?;
    let bytes = |line: &str| Some(field(line, 1)? * field(line, 3)?);
    let all: u64 = info.lines().skip(2).filter_map(bytes).sum();
    let inodes = info.lines().find(|line| line.starts_with("proc_inode_cache"));
    let each = |line: &str| Some(field(line, 1)? * (field(line, 3)? + PROC_INODE_EXTRA));
    Ok(all.saturating_sub(inodes.and_then(each).unwrap_or(0)))
}

fn labelled(text: &str, label: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(label));
    line.and_then(|line| field(line, 1)).unwrap_or(0)
}

fn field(text: &str, index: usize) -> Option<u64> {
    text.split_ascii_whitespace().nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_uses_cpu_and_memory() {
        let own = cpu(std::process::id()).expect("own process");
        assert!(own.total_ns > 0);
        assert!(pss_bytes(std::process::id()).expect("own process") > 4096);
        assert!(kernel().expect("procfs").slab > 0);
    }
}
