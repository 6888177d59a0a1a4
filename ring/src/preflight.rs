//! What a host must offer before a ring can work, each with the way to mend it.
//!
//! Behaviour is tried, not guessed from versions; the version is only the floor below which
//! nothing is tried.

use std::fs;
use std::io;

use io_uring::{IoUring, Probe, opcode};

use crate::buffers::Buffers;

/// Oldest kernel: the first that installs a direct descriptor as a normal one.
const KERNEL_MIN: (u32, u32) = (6, 8);

/// Slots one ring's table can have (`IORING_MAX_FIXED_FILES`).
pub const SLOTS_MAX: u32 = 1 << 20;

/// One requirement that the host does not meet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What is missing, with the value found.
    pub what: String,
    /// What it must be and where to set it.
    pub mend: String,
}

/// What was found on the host, for the start-up lines.
#[derive(Clone, Debug)]
pub struct Host {
    /// Kernel release as `uname -r` has it.
    pub kernel: String,
    /// `RLIMIT_NOFILE` (soft): bounds each ring's table, not their sum.
    pub open_files_max: u64,
    /// `net.core.somaxconn`: bounds each listener's backlog.
    pub backlog_max: u64,
}

/// Looks at the host and raises the soft limit on open files to the hard one.
///
/// # Errors
/// Every requirement that is not met, not only the first.
pub fn check() -> Result<Host, Vec<Fault>> {
    let host = Host {
        kernel: read("/proc/sys/kernel/osrelease"),
        open_files_max: raise_open_files().unwrap_or(0),
        backlog_max: read("/proc/sys/net/core/somaxconn").parse().unwrap_or(0),
    };
    let mut faults = Vec::new();
    faults.extend(old_kernel(&host.kernel));
    faults.extend(disabled());
    if faults.is_empty() {
        faults.extend(missing_operations());
        faults.extend(buffer_rings_refused());
    }
    if faults.is_empty() { Ok(host) } else { Err(faults) }
}

/// Slots a ring may have here: `wanted`, within the table's bound and the open-file limit.
pub fn slots_within(wanted: u64, open_files_max: u64) -> u32 {
    wanted.clamp(1, open_files_max.clamp(1, u64::from(SLOTS_MAX))) as u32
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn old_kernel(release: &str) -> Option<Fault> {
    let mut parts = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (parts.next()?, parts.next()?);
    (version < KERNEL_MIN).then(|| Fault {
        what: format!("the kernel is {release}"),
        mend: format!("Linux {}.{} or newer is needed", KERNEL_MIN.0, KERNEL_MIN.1),
    })
}

fn disabled() -> Option<Fault> {
    let value = read("/proc/sys/kernel/io_uring_disabled");
    (value == "2" || (value == "1" && IoUring::new(2).is_err())).then(|| Fault {
        what: format!("kernel.io_uring_disabled is {value}"),
        mend: "it must be 0, or 1 with this user in kernel.io_uring_group (sysctl)".into(),
    })
}

fn missing_operations() -> Option<Fault> {
    let needed = [
        ("accept", opcode::Accept::CODE),
        ("recv", opcode::RecvMulti::CODE),
        ("send", opcode::Send::CODE),
        ("sendmsg", opcode::SendMsg::CODE),
        ("async_cancel", opcode::AsyncCancel2::CODE),
        ("close", opcode::Close::CODE),
        ("shutdown", opcode::Shutdown::CODE),
        ("fixed_fd_install", opcode::FixedFdInstall::CODE),
        ("timeout", opcode::Timeout::CODE),
        ("msg_ring", opcode::MsgRingSendFd::CODE),
    ];
    let mut probe = Probe::new();
    if let Err(error) = IoUring::new(2).and_then(|io| io.submitter().register_probe(&mut probe)) {
        return Some(refused("io_uring_setup", &error));
    }
    let missing: Vec<_> = needed
        .iter()
        .filter(|(_, code)| !probe.is_supported(*code))
        .map(|(name, _)| *name)
        .collect();
    (!missing.is_empty()).then(|| Fault {
        what: format!("io_uring lacks {}", missing.join(", ")),
        mend: "run a kernel of 6.8 or newer with io_uring's network operations".into(),
    })
}

fn buffer_rings_refused() -> Option<Fault> {
    let tried =
        IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(2).and_then(|io| {
            Buffers::register(&io, 8, 64).map(|buffers| buffers.unregister(&io.submitter()))
        });
    tried.err().map(|error| refused("registering a buffer ring", &error))
}

fn refused(what: &str, error: &io::Error) -> Fault {
    let mend = match error.raw_os_error() {
        Some(libc::ENOMEM) => "raise RLIMIT_MEMLOCK (LimitMEMLOCK= in systemd, ulimit -l)",
        Some(libc::EPERM) => "allow io_uring in the container's seccomp profile",
        Some(libc::EMFILE | libc::ENFILE) => "raise RLIMIT_NOFILE (LimitNOFILE= in systemd)",
        _ => "run a kernel whose io_uring is not patched or restricted",
    };
    Fault { what: format!("{what} was refused: {error}"), mend: mend.into() }
}

fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: std has no resource limits. Both calls take a pointer to one `rlimit` that lives
    // through them.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) == 0 {
            limit.rlim_cur = limit.rlim_max;
        }
    }
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_named_and_new_ones_pass() {
        for release in ["5.15.0-91-generic", "6.7.9", "6.1.0-18-amd64"] {
            assert!(old_kernel(release).is_some_and(|fault| fault.what.contains(release)));
        }
        for release in ["6.8.0", "6.18.44-fc", "7.0-rc1"] {
            assert_eq!(old_kernel(release), None, "{release}");
        }
    }

    #[test]
    fn slots_respect_the_open_file_limit() {
        assert_eq!(slots_within(500_000, 20_000), 20_000);
        assert_eq!(slots_within(1_000, 20_000), 1_000);
        assert_eq!(slots_within(5_000_000, u64::MAX), SLOTS_MAX);
    }

    #[test]
    fn this_host_can_run_a_ring() {
        assert!(check().is_ok_and(|host| host.open_files_max > 0));
    }
}
