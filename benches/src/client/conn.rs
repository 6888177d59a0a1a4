//! One connection of the client: its socket, how far up it is, and bytes that wait.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SendFlags, SocketFlags, SocketType};

use crate::wire;

/// How far up a connection is; each stage waits for the server's answer to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Stage {
    /// TCP is on its way.
    Connecting,
    /// The upgrade was asked for.
    Upgrading,
    /// Upgraded; the Engine.IO open packet is awaited.
    Opening,
    /// CONNECT was sent.
    Naming,
    /// `join` was sent.
    Joining,
    /// In the room.
    Joined,
    /// Gone or refused.
    Closed,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    /// The socket; `None` once closed.
    pub fd: Option<OwnedFd>,
    /// How far up it is.
    pub stage: Stage,
    /// Which room it joins.
    pub room: usize,
    /// When `connect` was called.
    pub started: u64,
    /// Bytes of an unfinished frame.
    pub input: Vec<u8>,
    output: Vec<u8>,
}

impl Conn {
    /// A connection over `fd`, which is connecting.
    #[must_use]
    pub fn new(fd: OwnedFd, room: usize, started: u64) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        Self { fd: Some(fd), stage: Stage::Connecting, room, started, input, output }
    }

    /// Sends what the socket takes and keeps the rest for [`Conn::flush`].
    ///
    /// # Errors
    /// The socket's, when the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.output.is_empty() {
            self.output.extend_from_slice(bytes);
            return Ok(());
        }
        let sent = self.try_send(bytes)?;
        self.output.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Sends what waits, now that the socket takes bytes again.
    ///
    /// # Errors
    /// The socket's, when the connection is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            let sent = self.try_send(&self.output)?;
            self.output.drain(..sent);
        }
        Ok(())
    }

    fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(fd) = &self.fd else { return Ok(bytes.len()) };
        match net::send(fd, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => Ok(sent),
            Err(Errno::AGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a masked text frame.
    ///
    /// # Errors
    /// The socket's, when the connection is gone.
    pub fn send_text(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        wire::push_client(&mut frame, wire::TEXT, payload);
        self.send(&frame)
    }
}

/// Begins a TCP connection from the given source address (unspecified: the kernel chooses).
///
/// # Errors
/// Also when descriptors or ports run out.
pub fn dial(target: SocketAddrV4, source: Ipv4Addr) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    net::sockopt::set_tcp_nodelay(&fd, true)?;
    if !source.is_unspecified() {
        // Without it a port would have to be free for all targets, not just for this one.
        setsockopt(&fd, IpBindAddressNoPort, &true).map_err(io::Error::from)?;
        net::bind(&fd, &SocketAddrV4::new(source, 0))?;
    }
    match net::connect(&fd, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

/// The WebSocket upgrade request for Engine.IO.
#[must_use]
pub fn upgrade_request(target: SocketAddrV4) -> Vec<u8> {
    format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {target}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}
