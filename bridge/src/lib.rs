//! Everything outside the host's shards, behind traits: the order of a room's messages across
//! hosts and where messages are kept.
//!
//! Owns what a message is and who may number it. Never sees the engine: a shard submits requests
//! to its [`Port`] and polls outcomes, in the order it likes. For now there is one implementation,
//! [`Memory`]: rooms live in the shard's own memory and nothing leaves the host. Every
//! implementation passes the same contract tests (`tests/contract.rs`).
#![forbid(unsafe_code)]

mod memory;
mod message;
mod port;

pub use memory::{Memory, MemoryLimits};
pub use message::{Author, Draft, Message};
pub use port::{Full, Outcome, Page, Port, Range, Request, Ticket};
