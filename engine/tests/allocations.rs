//! Proves that a delivery allocates nothing: what a message costs in allocations does not grow with
//! the number of its recipients.
#![forbid(unsafe_code)]

use std::alloc::System;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use throng::chat::Chat;
use throng::config::{Config, Rate};
use throng::host::{Host, Seat};
use throng_bridge::{Memory, MemoryLimits, Port};
use throng_protocol::ws::{Opcode, write_masked_frame};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: usize = 50;

/// A client that writes frames and looks for bytes in what it reads; it allocates nothing itself.
struct Client {
    stream: TcpStream,
    got: Box<[u8; 1 << 16]>,
}

impl Client {
    fn connect(port: u16, room: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
        let mut client = Self { stream, got: Box::new([0; 1 << 16]) };
        let head = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: h\r\n\
                    Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        client.stream.write_all(head.as_bytes()).expect("a write");
        client.until(b"maxPayload");
        client.send("40{\"username\":\"ann\"}");
        client.until(b"40{\"sid\"");
        client.send(&format!("420[\"join\",{{\"room\":\"{room}\",\"presence\":false}}]"));
        client.until(b"430[{\"ok\":true");
        client
    }

    fn send(&mut self, text: &str) {
        let mut frame = Vec::new();
        write_masked_frame(&mut frame, Opcode::Text, [1, 2, 3, 4], text.as_bytes());
        self.stream.write_all(&frame).expect("a write");
    }

    fn until(&mut self, wanted: &[u8]) {
        let mut len = 0;
        while !self.got[..len].windows(wanted.len()).any(|window| window == wanted) {
            match self.stream.read(&mut self.got[len..]) {
                Ok(0) => panic!("closed before {:?}", String::from_utf8_lossy(wanted)),
                Ok(count) => len += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} before {:?}", String::from_utf8_lossy(wanted)),
            }
        }
    }
}

fn memory(_seat: &Seat<'_>) -> Box<dyn Port> {
    let limits = MemoryLimits { messages_per_room: 0, ttl_ms: 1000, bytes_max: 0 };
    Box::new(Memory::new(limits, "m"))
}

/// Allocations of the whole process while `MESSAGES` are sent to a room of `members`.
fn allocations(port: u16, room: &str, members: usize) -> usize {
    let mut clients: Vec<_> = (0..members).map(|_| Client::connect(port, room)).collect();
    let mut wire = Vec::new();
    for id in 1..=MESSAGES {
        let text = format!("42{id}[\"message\",{{\"room\":\"{room}\",\"body\":\"{:-<90}\"}}]", id);
        write_masked_frame(&mut wire, Opcode::Text, [1, 2, 3, 4], text.as_bytes());
    }
    let last = format!("43{MESSAGES}[{{\"ok\":true");
    let sender = &mut clients[0];
    // Once to warm up what is kept for reuse.
    for _ in 0..2 {
        sender.stream.write_all(&wire).expect("a write");
        sender.until(last.as_bytes());
    }
    let region = Region::new(ALLOCATOR);
    sender.stream.write_all(&wire).expect("a write");
    sender.until(last.as_bytes());
    region.change().allocations
}

#[test]
fn deliveries_do_not_allocate() {
    let config = Config {
        port: 0,
        workers: 1,
        connections_per_ip_max: 0,
        message_rate: Rate::UNLIMITED,
        ..Config::default()
    };
    let app = |seat: &Seat<'_>| Chat::new(seat.config, seat.limiter, seat.cells, None);
    let host = Host::start(config, app, &memory).expect("a host");
    let few = allocations(host.port(), "few", 10);
    let many = allocations(host.port(), "many", 210);
    let more_deliveries = 200 * MESSAGES;
    eprintln!("{few} allocations to 10 members, {many} to 210, {more_deliveries} more deliveries");
    assert!(few < MESSAGES * 40, "{few} allocations for {MESSAGES} messages");
    assert!(many < few + more_deliveries / 50, "{few} to 10 members, {many} to 210");
}
