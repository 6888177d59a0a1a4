//! What a ring tells its handler.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::slots::Conn;

/// One thing that happened; the handler decides what it means.
///
/// Order per connection: `Accepted`, `Connected` or `Adopted`, any number of `Received` and `Sent`,
/// at most one `Ended` and `SendFailed` each, then `Closed` once [`crate::Ring::close`] or
/// [`crate::Ring::hand_over`] was called, or [`crate::Ring::transfer`] succeeded; nothing after it.
#[derive(Debug)]
pub enum Event<'a> {
    /// A peer connected; receiving is already armed.
    Accepted {
        /// The new connection.
        conn: Conn,
        /// The peer; IPv4 as IPv4 even on a dual-stack listener.
        peer: SocketAddr,
    },
    /// An accept failed; the connection, if there was one, is gone. The ring keeps the accept back
    /// until a slot frees or [`crate::Ring::resume_accepts`] is called where that can help.
    AcceptFailed(io::Error),
    /// [`crate::Ring::connect`] succeeded; receiving is armed.
    Connected {
        /// The new connection.
        conn: Conn,
        /// What `connect` was given.
        tag: u64,
    },
    /// [`crate::Ring::connect`] failed; its slot is being released.
    ConnectFailed {
        /// What `connect` was given.
        tag: u64,
        /// The system's error.
        error: io::Error,
    },
    /// Bytes arrived. They lie in the ring's buffer, which is reused when the handler returns.
    Received {
        /// Whose bytes.
        conn: Conn,
        /// At least one byte; may be changed in place (unmasking).
        bytes: &'a mut [u8],
    },
    /// Nothing more will arrive: the peer finished (`None`) or the connection failed.
    Ended {
        /// Which connection.
        conn: Conn,
        /// Why, unless the peer finished in order.
        error: Option<io::Error>,
    },
    /// The send in flight has been taken whole by the kernel; the next one may start.
    Sent {
        /// Which connection.
        conn: Conn,
    },
    /// The send in flight failed; the connection is of no more use.
    SendFailed {
        /// Which connection.
        conn: Conn,
        /// The system's error.
        error: io::Error,
    },
    /// [`crate::Ring::hand_over`] made a normal descriptor; the slot closes by itself.
    HandedOver {
        /// Which connection it was.
        conn: Conn,
        /// The socket; blocking mode, close-on-exec. An error when the process has no descriptor
        /// left.
        fd: io::Result<OwnedFd>,
    },
    /// [`crate::Ring::transfer`] has ended: the slot closes by itself, or the connection stays.
    Transferred {
        /// Which connection it was, or still is after an error.
        conn: Conn,
        /// Why it stays.
        result: io::Result<()>,
    },
    /// Another ring's [`crate::Ring::transfer`] brought a connection; receiving is already armed.
    Adopted {
        /// The connection, as this ring names it.
        conn: Conn,
        /// What `transfer` was given.
        token: u64,
    },
    /// The slot is free again; the handle is stale from now on.
    Closed {
        /// Which connection it was.
        conn: Conn,
    },
    /// A [`crate::Waker`] was used.
    Woken,
}
