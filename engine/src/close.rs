//! Why connections end: a closed list, each reason with its manner, wire code and counter.

use crate::metrics::{Cell, Cells};

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The peer closed, by a close frame or in TCP.
    Peer,
    /// The transport failed.
    Error,
    /// No pong came in time.
    PingTimeout,
    /// No complete request came in time.
    HandshakeTimeout,
    /// No CONNECT came in time.
    ConnectTimeout,
    /// The peer broke RFC 6455, with the close code that says how.
    Violation(u16),
    /// A packet that Engine.IO or Socket.IO does not allow.
    BadPacket,
    /// It owed more than the outbox may hold.
    SlowConsumer,
    /// The application said so.
    Application,
    /// The host is shutting down.
    Draining,
    /// An HTTP error was answered.
    Refused,
    /// A request was answered, and its client wants no further one.
    Answered,
    /// Its client came back on another connection.
    Replaced,
    /// A WebSocket for a session that has one.
    Superfluous,
}

/// How a connection is taken down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// At once: nobody reads any more.
    Cut,
    /// Send what waits, then FIN; the peer may take a moment to close.
    Finish,
    /// The same after a close frame, perhaps with a code.
    CloseFrame(Option<u16>),
}

impl Reason {
    /// How the connection is taken down.
    pub fn manner(self) -> Manner {
        match self {
            Self::Error | Self::HandshakeTimeout | Self::SlowConsumer | Self::Replaced => {
                Manner::Cut
            }
            Self::Peer | Self::Refused | Self::Answered => Manner::Finish,
            Self::Violation(code) => Manner::CloseFrame(Some(code)),
            // "Service restart" (IANA): official clients reconnect, unlike after a DISCONNECT.
            Self::Draining => Manner::CloseFrame(Some(1012)),
            // As Node's server: no code, so the peer sees 1005.
            Self::PingTimeout
            | Self::ConnectTimeout
            | Self::BadPacket
            | Self::Application
            | Self::Superfluous => Manner::CloseFrame(None),
        }
    }

    /// What applications are told; Socket.IO's own words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Peer => "transport close",
            Self::Error | Self::Violation(_) | Self::SlowConsumer | Self::Replaced => {
                "transport error"
            }
            Self::PingTimeout => "ping timeout",
            Self::BadPacket => "parse error",
            Self::Application => "server namespace disconnect",
            Self::Draining => "server shutting down",
            Self::HandshakeTimeout
            | Self::ConnectTimeout
            | Self::Refused
            | Self::Answered
            | Self::Superfluous => "forced close",
        }
    }

    /// Whether its sockets may come back: neither side wanted it to end.
    pub fn is_recoverable(self) -> bool {
        matches!(self, Self::Peer | Self::Error | Self::PingTimeout | Self::Replaced)
    }

    /// Whether the engine wants the session to end, and its client to hear so.
    pub fn is_deliberate(self) -> bool {
        matches!(self, Self::Application | Self::Draining)
    }

    /// Its counter.
    pub fn cell(self, cells: &Cells) -> &Cell {
        match self {
            Self::Peer => &cells.closed_peer,
            Self::Error => &cells.closed_error,
            Self::PingTimeout => &cells.closed_ping_timeout,
            Self::HandshakeTimeout => &cells.closed_handshake_timeout,
            Self::ConnectTimeout => &cells.closed_connect_timeout,
            Self::Violation(_) => &cells.closed_violation,
            Self::BadPacket => &cells.closed_bad_packet,
            Self::SlowConsumer => &cells.closed_slow_consumer,
            Self::Application => &cells.closed_application,
            Self::Draining => &cells.closed_draining,
            Self::Refused | Self::Superfluous => &cells.closed_refused,
            Self::Answered => &cells.closed_answered,
            Self::Replaced => &cells.closed_replaced,
        }
    }
}
