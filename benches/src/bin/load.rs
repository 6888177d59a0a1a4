//! `bench-load`: one measurement against a running server, printed as JSON.

#![forbid(unsafe_code)]

use std::io;

use clap::{Parser, Subcommand};
use throng_benches::client::{Target, connect, disturb, fanout, memory};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load client: Socket.IO over WebSocket, one thread.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Subcommand)]
enum Workload {
    /// Bring up connections that are named and in a room.
    Connect {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        options: connect::Options,
    },
    /// Send messages to rooms, open or closed loop.
    Fanout {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        options: fanout::Options,
    },
    /// Memory of idle connections; needs --pid.
    Memory {
        #[command(flatten)]
        target: Target,
    },
    /// A steady load, alone and beside clients that misbehave.
    Disturb {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        load: fanout::Options,
        #[command(flatten)]
        options: disturb::Options,
    },
}

fn main() -> io::Result<()> {
    let result = match Args::parse().workload {
        Workload::Connect { target, options } => connect::run(&target, &options),
        Workload::Fanout { target, options } => fanout::run(&target, &options),
        Workload::Memory { target } => memory::run(&target),
        Workload::Disturb { target, load, options } => disturb::run(&target, &load, &options),
    }?;
    println!("{}", serde_json::to_string_pretty(&result)?);
    Ok(())
}
