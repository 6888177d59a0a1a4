//! Listening sockets: one per shard on the same port, spread by the kernel (`SO_REUSEPORT`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

/// Pending connections the kernel may hold per listener; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// `BPF_RVAL` of the accumulator (linux/bpf_common.h), which libc does not name.
const BPF_A: u32 = 0x10;

/// A bound, listening TCP socket. Accepted sockets inherit its options (`TCP_NODELAY`).
#[derive(Debug)]
pub struct Listener(Socket);

impl Listener {
    /// Listens on `port` of `host`; `None` means every address of IPv4 and IPv6, or of IPv4 alone
    /// where the host has no IPv6. Port 0 takes a free one.
    ///
    /// # Errors
    /// The system's error: address in use, not available, or a port that needs a capability.
    pub fn bind(host: Option<IpAddr>, port: u16) -> io::Result<Self> {
        match host {
            Some(ip) => Self::bind_to(SocketAddr::new(ip, port)),
            None => match Self::bind_to((Ipv6Addr::UNSPECIFIED, port).into()) {
                Err(error) if lacks_ipv6(&error) => {
                    Self::bind_to((Ipv4Addr::UNSPECIFIED, port).into())
                }
                bound => bound,
            },
        }
    }

    fn bind_to(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self(socket))
    }

    /// Lets chance spread connections over the `listeners` of this port, of which this is one. The
    /// kernel's own way, a hash of addresses and ports, left shards up to a tenth above their share
    /// where many connections come from few addresses, as from a load balancer.
    ///
    /// # Errors
    /// The system's error; the kernel's own way stays then.
    pub fn spread_over(&self, listeners: u16) -> io::Result<()> {
        let step = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
        let random = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;
        let mut steps = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, random),
            step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, u32::from(listeners.max(1))),
            step(libc::BPF_RET | BPF_A, 0),
        ];
        let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
        // SAFETY: socket2 has no such option. `program` and the steps it points to have the
        // kernel's layout, outlive the call, and are copied by it.
        let result = unsafe {
            libc::setsockopt(
                self.raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_REUSEPORT_CBPF,
                (&raw const program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The address it listens on, with the port that was taken.
    ///
    /// # Errors
    /// The system's error, which a listening socket does not give.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = self.0.local_addr()?;
        addr.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}
