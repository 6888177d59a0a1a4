//! A WebSocket echo on the engine's own stack, for conformance suites: `echo --port 9001`.
//!
//! The smallest application there is: every WebSocket on `/` gets each of its messages back.
#![forbid(unsafe_code)]

use std::error::Error;

use mimalloc::MiMalloc;
use throng::app::{Event, Plain, Refusal, Room, Socket};
use throng::clock::Now;
use throng::codec::{binary_frame, message_frame};
use throng::config::{Config, CorsOrigins};
use throng::host::Host;
use throng::ids::Sid;
use throng_bridge::{Memory, MemoryLimits};

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

    fn speaks_plain(path: &str) -> bool {
        path == "/"
    }

    fn plain(&mut self, message: Plain<'_>, out: &mut Vec<Box<[u8]>>) {
        out.push(match message {
            Plain::Text(text) => message_frame(text.as_bytes(), &[]),
            Plain::Binary(bytes) => binary_frame(bytes),
        });
    }

    fn connect(&mut self, _now: Now, _sid: Sid, _auth: &str) -> Result<(), Refusal> {
        Err(Refusal { code: "forbidden", message: "this server speaks plain WebSocket".into() })
    }

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
        ..Config::default()
    };
    let limits = MemoryLimits { messages_per_room: 0, ttl_ms: 0, bytes_max: 0 };
    let host = Host::start(config, |_| Echo, |seat| Box::new(Memory::new(limits, seat.id_prefix)))?;
    println!("echo on ws://localhost:{}/", host.port());
    host.run()
}
