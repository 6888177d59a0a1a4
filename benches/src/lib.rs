//! Instruments that compare Throng with its peers over real sockets.
//!
//! Owns a load client ([`client`]), the bare epoll server that is the yardstick ([`floor`]) and the
//! readings taken from `/proc` ([`procfs`]). It shares no code with the engine: a client built from
//! server code shares its bugs.

#![forbid(unsafe_code)]

pub mod client;
pub mod floor;
pub mod procfs;
pub mod wire;
