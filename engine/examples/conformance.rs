//! What conformance suites of Engine.IO and Socket.IO expect of a server.
//!
//! Socket.IO on `/socket.io/`, with namespaces `/` and `/custom`: on connect the event `auth` with
//! the CONNECT payload; `message` comes back as `message-back`, `message-with-ack` is answered,
//! with the same arguments. Engine.IO on `/engine.io/`: every message comes back.
#![forbid(unsafe_code)]

use std::error::Error;
use std::time::Duration;

use clap::Parser;
use mimalloc::MiMalloc;
use throng::app::{
    App, Event, Handshake, Message, Namespaces, Protocol, Refusal, Reply, Room, Socket,
};
use throng::config::{Config, CorsOrigins};
use throng::host::{Host, without_history};
use throng::ids::Sid;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A server for conformance suites.
#[derive(Parser)]
struct Args {
    /// Port to listen on, all addresses
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Milliseconds between a pong and the next ping
    #[arg(long, default_value_t = 300)]
    ping_interval: u64,
    /// Milliseconds a client may take to answer a ping
    #[arg(long, default_value_t = 200)]
    ping_timeout: u64,
    /// Bytes of one message
    #[arg(long, default_value_t = 1_000_000)]
    max_payload: usize,
    /// Milliseconds a client may take to join a namespace
    #[arg(long, default_value_t = 1000)]
    connect_timeout: u64,
    /// Milliseconds a broken connection is kept for its client; 0: not
    #[arg(long, default_value_t = 0)]
    recovery: u64,
    /// An origin whose pages may connect, or *
    #[arg(long)]
    cors: Option<String>,
    /// Shards
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Compress WebSocket messages if the client can
    #[arg(long)]
    compression: bool,
}

struct Conformance;

impl App for Conformance {
    /// The CONNECT payload.
    type Session = Box<str>;
    type Member = ();
    type Room = ();
    type Request = ();
    type Ticket = ();

    fn speaks(path: &str) -> Option<Protocol> {
        if path.starts_with("/socket.io/") {
            return Some(Protocol::SocketIo);
        }
        path.starts_with("/engine.io/").then_some(Protocol::EngineIo)
    }

    fn namespaces() -> Namespaces {
        Namespaces::default().with("/custom")
    }

    fn connect(&mut self, handshake: &Handshake<'_>) -> Result<Box<str>, Refusal> {
        Ok(handshake.auth.into())
    }

    fn connected(&mut self, socket: &mut Socket<'_, Self>) {
        let auth = socket.session().clone();
        socket.emit("auth", &auth);
    }

    fn event(&mut self, socket: &mut Socket<'_, Self>, event: Event<'_>) {
        match (event.name, event.ack) {
            ("message", _) => socket.emit_binary("message-back", event.args, event.attachments),
            ("message-with-ack", Some(id)) => socket.ack_binary(id, event.args, event.attachments),
            _ => {}
        }
    }

    fn message(&mut self, message: Message<'_>, out: &mut Vec<Reply>) {
        out.push(message.into());
    }

    fn member(&mut self, _sid: Sid, _auth: &Box<str>) {}

    fn request(&mut self, _room: &mut Room<'_, Self>, _from: Sid, (): ()) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let ms = Duration::from_millis;
    let cors_origins = match args.cors.as_deref() {
        None => CorsOrigins::None,
        Some(origins) => origins.parse()?,
    };
    let config = Config {
        port: args.port,
        workers: args.workers,
        connections_max: 10_000,
        connections_per_ip_max: 0,
        ping_interval: ms(args.ping_interval),
        ping_timeout: ms(args.ping_timeout),
        payload_bytes_max: args.max_payload,
        outbox_bytes_max: 16 * args.max_payload,
        connect_timeout: ms(args.connect_timeout),
        recovery_window: ms(args.recovery),
        compression: args.compression,
        cors_origins,
        ..Config::default()
    };
    let host = Host::start(config, |_| Conformance, &without_history)?;
    println!("conformance on http://localhost:{}", host.port());
    host.run()
}
