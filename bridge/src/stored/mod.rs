//! A shard's end of the bridge on a host that keeps its messages in a store, or belongs to a fleet.
//!
//! Alone, it numbers messages at once, from memory, and lets the bridge's thread keep them; only
//! opening a room that is not in memory waits for the store, since its numbers must go on. In a
//! fleet (`fleet`) Redis numbers them, and what it delivers is held here and kept. What memory does
//! not hold is read through. A `client_id` that memory does not know is looked up before its
//! message is numbered, if the room has a past beyond memory; later messages of the room wait for
//! it. If that fails, the message is refused where the store was promised, else it counts as new.
//!
//! Bounded: messages that wait for their commit, their bytes, and questions under way. What is
//! beyond is refused, and so is a message that could not be acknowledged as promised.

mod fleet;
mod membership;
mod open;
mod port;
mod publish;
mod read;
mod state;
mod waiting;

pub use state::{Stored, StoredLimits};
