//! Listening sockets: one per shard on the same port, spread by the kernel (`SO_REUSEPORT`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

/// Pending connections the kernel may hold per listener; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

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
