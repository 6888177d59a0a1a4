//! What tells a request from others until it is answered.

/// What the shard calls a request by; it comes back with the outcome.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);
