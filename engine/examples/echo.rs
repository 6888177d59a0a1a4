//! A WebSocket echo on the engine's own stack, for conformance suites: `echo --port 9001`.
//!
//! The smallest application there is: every WebSocket on `/` gets each of its messages back.
#![forbid(unsafe_code)]

use std::error::Error;

use mimalloc::MiMalloc;
use throng::app::{Event, Handshake, Message, Protocol, Refusal, Reply, Room, Socket};
use throng::config::{Config, CorsOrigins};
use throng::host::{Host, without_history};
use throng::ids::Sid;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Conformance suites send messages of 16 MiB, and 4 MiB in fragments of 64 bytes.
const MESSAGE_BYTES_MAX: usize = 32 << 20;
const FRAGMENTS_MAX: u32 = 1 << 17;

struct Echo;

impl throng::app::App for Echo {
    type Session = ();
    type Member = ();
    type Room = ();
    type Request = ();
    type Ticket = ();

    fn speaks(path: &str) -> Option<Protocol> {
        (path == "/").then_some(Protocol::WebSocket)
    }

    fn message(&mut self, message: Message<'_>, out: &mut Vec<Reply>) {
        out.push(message.into());
    }

    fn connect(&mut self, _handshake: &Handshake<'_>) -> Result<(), Refusal> {
        Err(Refusal::new("this server speaks plain WebSocket"))
    }

    fn member(&mut self, _sid: Sid, (): &()) {}

    fn event(&mut self, _socket: &mut Socket<'_, Self>, _event: Event<'_>) {}

    fn request(&mut self, _room: &mut Room<'_, Self>, _from: Sid, (): ()) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let port = match (args.next().as_deref(), args.next()) {
        (None, _) => 9001,
        (Some("--port"), Some(port)) => port.parse()?,
        _ => return Err("usage: echo [--port N]".into()),
    };
    let config = Config {
        port,
        workers: 1,
        connections_max: 1000,
        connections_per_ip_max: 0,
        payload_bytes_max: MESSAGE_BYTES_MAX,
        fragments_max: FRAGMENTS_MAX,
        outbox_bytes_max: 2 * MESSAGE_BYTES_MAX,
        cors_origins: CorsOrigins::Any,
        // Suites judge how each message is compressed, short ones too.
        compression: true,
        compression_bytes_min: 0,
        ..Config::default()
    };
    let host = Host::start(config, |_| Echo, &without_history)?;
    println!("echo on ws://localhost:{}/", host.port());
    host.run()
}
