//! The bare epoll server that Throng is compared with.

#![forbid(unsafe_code)]

use std::io;

use clap::Parser;
use throng_benches::floor::Floor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The least a chat server can do: epoll, one thread, one send() per member.
#[derive(Parser)]
struct Args {
    /// Port to listen on, on all IPv4 addresses.
    #[arg(long, default_value_t = 5100)]
    port: u16,
}

fn main() -> io::Result<()> {
    Floor::bind(Args::parse().port)?.run()
}
