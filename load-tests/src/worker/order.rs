//! What a worker is asked to do.

use std::time::Duration;

/// An order; one of a kind replaces the one before.
#[derive(Clone, Debug)]
pub enum Order {
    /// Bring all clients up.
    Open(Opening),
    /// Send messages until told otherwise.
    Load(Load),
    /// Stop sending.
    Quiet,
    /// Close every connection; clients stay down until the next [`Order::Open`].
    Drop,
    /// Check that each client has its room's last message.
    CheckTails,
    /// End.
    Finish,
}

/// How to bring clients up.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Connections on their way up at one time, of this worker.
    pub window: u32,
    /// Connections begun per second by this worker at most; `None` for as fast as it goes.
    pub per_s: Option<f64>,
    /// Failed ones are tried again, after a random time around this.
    pub retry: Option<Duration>,
    /// Whether joiners want presence.
    pub presence: bool,
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// How it is paced.
    pub pace: Pace,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Ask for an answer to each message.
    pub answers: bool,
}

/// When messages are sent.
#[derive(Clone, Debug)]
pub enum Pace {
    /// Messages per second of this worker on a constant schedule, whatever the server does. The
    /// first is due this long after the order, so that workers take turns.
    Open {
        /// Messages per second.
        per_s: f64,
        /// When the first is due.
        after: Duration,
    },
    /// A room's next message follows once everybody has the last; so many in flight per room.
    Closed {
        /// At most [`crate::board::IN_FLIGHT_MAX`].
        in_flight: u32,
    },
    /// People: each client does these things at random moments.
    Mix(Mix),
}

/// What one client does, in times per second.
#[derive(Clone, Copy, Default, Debug)]
pub struct Mix {
    /// Messages.
    pub messages: f64,
    /// Typing, on and later off.
    pub typing: f64,
    /// Leaves its room and comes back later.
    pub leaves: f64,
    /// Loses its connection and comes back.
    pub reconnects: f64,
}

impl Mix {
    /// All that one client does.
    pub fn total(&self) -> f64 {
        self.messages + self.typing + self.leaves + self.reconnects
    }
}
