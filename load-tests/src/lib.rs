//! Load generators for Throng and servers like it: out-of-process clients on the same ring that the
//! engine uses, and nothing else of it, since a client built from server code shares its bugs.
//!
//! The modules stand in the order in which a run meets them: the command line, addresses and words,
//! the workers with their clients and checks, the crew that leads them, the workloads, and what a
//! person sees.
#![forbid(unsafe_code)]

pub mod cli;

pub mod addresses;
pub mod clock;
pub mod dialect;
pub mod random;
pub mod stamp;

pub mod board;
pub mod checks;
pub mod stats;
pub mod worker;

pub mod procfs;
pub mod sample;
pub mod server;

pub mod crew;
pub mod workload;

pub mod outcome;
pub mod report;
pub mod view;
