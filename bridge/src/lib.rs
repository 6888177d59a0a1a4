//! Everything outside the host's shards, behind traits: the order of a room's messages across
//! hosts and where messages are kept.
//!
//! Owns what a message is and who may number it. Never sees the engine: a shard submits requests
//! to its [`Port`] and polls outcomes, in the order it likes. [`Memory`] alone keeps rooms in the
//! shard's own memory and nothing leaves the host; every implementation of a port passes the same
//! contract tests (`tests/contract.rs`), and every [`store::Store`] those of `tests/store.rs`.
#![forbid(unsafe_code)]

pub mod backup;
pub mod fleet;
mod keep;
mod log;
mod memory;
mod message;
pub mod password;
mod port;
mod stats;
pub mod store;
mod stored;
mod ticket;

pub use keep::{Bridge, Line, Opening, Plan, Users};
pub use log::MemoryLimits;
pub use memory::Memory;
pub use message::{Author, Draft, Message, Page, Range};
pub use port::{Full, Outcome, Port, Request};
pub use stats::Stats;
pub use stored::{Stored, StoredLimits};
pub use ticket::Ticket;
