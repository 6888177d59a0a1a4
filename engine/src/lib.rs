//! Throng: a realtime connection engine for rooms, over the Socket.IO protocol.
//!
//! The modules stand in the order in which a message meets them: from the settings and limits,
//! through a connection's first request, its table and timers, to the application, the rooms, the
//! mesh between shards, the shard that drives it all, and the control thread beside them.
//! `keep` looks after the store when no shard runs.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod limits;
pub mod tuning;

pub mod clock;
pub mod ids;
pub mod metrics;

pub mod close;
pub mod limiter;
pub mod outbox;
pub mod recovery;
pub mod request;
pub mod spaces;
pub mod table;
pub mod wheel;

pub mod app;
pub mod chat;
pub mod codec;
pub mod control;
pub mod handover;
pub mod host;
pub mod keep;
pub mod mesh;
pub mod outside;
pub mod room;
pub mod shard;
