//! Servers that Throng is compared with; the benchmarks of its own parts stand in `benches/`.
//!
//! Owns the bare epoll server that is the yardstick ([`floor`]); the peer on socketioxide is a
//! binary of its own. Neither shares code with the engine: a yardstick made of the engine's parts
//! would measure them against themselves.

#![forbid(unsafe_code)]

pub mod floor;
