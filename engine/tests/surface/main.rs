//! Proves what an application can do with the sockets of a host: every verb of `Socket`, `Io` and
//! `Cast`, namespaces, typed handlers, refusals, per-socket data and recovery, on one shard and on
//! three, seen by clients that speak Socket.IO by hand.
#![forbid(unsafe_code)]

mod application;
mod casts;
mod client;
mod recovery;
mod sockets;
mod stage;
