//! The floor: the least a chat server over WebSocket can do on one thread with epoll and `send(2)`.
//!
//! It owns a slab of connections indexed by file descriptor, and rooms as lists of descriptors. It
//! reads a message, builds its frame once and calls `send` for each member. It has no limits,
//! timers or presence, no history, validation or sequence numbers: what a real server spends beyond
//! it is what its features cost.
//!
//! Invariant: a connection with a non-empty `output` waits for `EPOLLOUT`; nothing is sent past
//! that output.

mod packet;
mod wire;

use std::collections::HashMap;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use packet::Packet;

const EVENTS: usize = 1024;
const BACKLOG: i32 = 4096;
const READ_BYTES: usize = 256 * 1024;
/// Unsent bytes after which a member that does not read is dropped; Throng's default.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
const LISTENER: u64 = u64::MAX;
const OPEN: &[u8] = concat!(
    r#"0{"sid":"AAAAAAAAAAAAAAAAAAAA","upgrades":[],"pingInterval":25000,"#,
    r#""pingTimeout":20000,"maxPayload":1000000}"#
)
.as_bytes();
const CONNECTED: &[u8] = br#"40{"sid":"BBBBBBBBBBBBBBBBBBBB"}"#;

struct Conn {
    fd: OwnedFd,
    upgraded: bool,
    rooms: Vec<usize>,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// The server; [`Floor::run`] drives it for ever.
pub struct Floor {
    epoll: OwnedFd,
    listener: OwnedFd,
    conns: Vec<Option<Conn>>,
    names: HashMap<Vec<u8>, usize>,
    members: Vec<Vec<u32>>,
    buffer: Vec<u8>,
    frame: Vec<u8>,
}

impl Floor {
    /// Listens on `port` of all IPv4 addresses.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub fn bind(port: u16) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        net::sockopt::set_socket_reuseaddr(&listener, true)?;
        net::sockopt::set_tcp_nodelay(&listener, true)?; // inherited by what it accepts
        net::bind(&listener, &std::net::SocketAddr::from(([0, 0, 0, 0], port)))?;
        net::listen(&listener, BACKLOG)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            conns: Vec::new(),
            names: HashMap::new(),
            members: Vec::new(),
            buffer: vec![0; READ_BYTES],
            frame: Vec::new(),
        })
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// When epoll itself fails.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept_all(),
                    id => self.on_event(id as usize, event.flags),
                }
            }
        }
    }

    fn accept_all(&mut self) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        while let Ok(fd) = net::accept_with(&self.listener, flags) {
            let id = fd.as_raw_fd() as usize;
            if epoll::add(&self.epoll, &fd, EventData::new_u64(id as u64), EventFlags::IN).is_err()
            {
                continue;
            }
            if self.conns.len() <= id {
                self.conns.resize_with(id + 1, || None);
            }
            let (rooms, input, output) = (Vec::new(), Vec::new(), Vec::new());
            self.conns[id] = Some(Conn { fd, upgraded: false, rooms, input, output });
        }
    }

    fn on_event(&mut self, id: usize, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.flush(id);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.read(id);
        }
    }

    fn read(&mut self, id: usize) {
        let Some(conn) = &mut self.conns[id] else { return };
        let len = match net::recv(&conn.fd, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((len, _)) if len > 0 => len,
            Err(Errno::AGAIN | Errno::INTR) => return,
            _ => return self.close(id),
        };
        if conn.input.is_empty() {
            let mut buffer = mem::take(&mut self.buffer);
            let used = self.take_bytes(id, &mut buffer[..len]);
            self.keep(id, &buffer[used.min(len)..len]);
            self.buffer = buffer;
        } else {
            conn.input.extend_from_slice(&self.buffer[..len]);
            let mut input = mem::take(&mut conn.input);
            let used = self.take_bytes(id, &mut input);
            self.keep(id, &input[used.min(input.len())..]);
        }
    }

    fn keep(&mut self, id: usize, rest: &[u8]) {
        if let Some(conn) = self.conns[id].as_mut().filter(|_| !rest.is_empty()) {
            conn.input.extend_from_slice(rest);
        }
    }

    /// Handles what is complete in `bytes` and says how much that was.
    fn take_bytes(&mut self, id: usize, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        if self.conns[id].as_ref().is_some_and(|conn| !conn.upgraded) {
            match packet::upgrade(bytes) {
                Some((len, answer)) => {
                    at = len;
                    self.welcome(id, answer);
                }
                None => return 0,
            }
        }
        while let Some(head) = wire::header(&bytes[at..]) {
            let start = at + head.start;
            let Some(payload) = bytes.get_mut(start..start + head.len) else { break };
            wire::unmask(payload, head.mask.unwrap_or_default());
            self.on_frame(id, head.opcode, payload);
            at = start + head.len;
        }
        at
    }

    fn welcome(&mut self, id: usize, mut answer: Vec<u8>) {
        wire::push_server(&mut answer, wire::TEXT, OPEN, b"");
        if let Some(conn) = &mut self.conns[id] {
            conn.upgraded = true;
            send(&self.epoll, conn, &answer);
        }
    }

    fn on_frame(&mut self, id: usize, opcode: u8, payload: &[u8]) {
        match (opcode, packet::parse(payload)) {
            (wire::CLOSE, _) => self.close(id),
            (wire::PING, _) => self.reply(id, wire::PONG, payload),
            (wire::TEXT, Packet::Connect) => self.reply(id, wire::TEXT, CONNECTED),
            (wire::TEXT, Packet::Join { ack, room }) => self.join(id, ack, room),
            (wire::TEXT, Packet::Message { ack, room, json }) => self.publish(id, ack, room, json),
            _ => {}
        }
    }

    fn reply(&mut self, id: usize, opcode: u8, payload: &[u8]) {
        let Some(conn) = &mut self.conns[id] else { return };
        self.frame.clear();
        wire::push_server(&mut self.frame, opcode, payload, b"");
        send(&self.epoll, conn, &self.frame);
    }

    fn join(&mut self, id: usize, ack: &[u8], room: &[u8]) {
        let index = match self.names.get(room) {
            Some(&index) => index,
            None => {
                self.members.push(Vec::new());
                self.names.insert(room.to_vec(), self.members.len() - 1);
                self.members.len() - 1
            }
        };
        let Some(conn) = &mut self.conns[id] else { return };
        if !conn.rooms.contains(&index) {
            conn.rooms.push(index);
            self.members[index].push(id as u32);
        }
        let answer = [b"43", ack, br#"[{"ok":true,"room":""#, room, br#""}]"#].concat();
        self.reply(id, wire::TEXT, &answer);
    }

    fn publish(&mut self, id: usize, ack: &[u8], room: &[u8], json: &[u8]) {
        if let Some(&index) = self.names.get(room) {
            self.frame.clear();
            wire::push_server(&mut self.frame, wire::TEXT, b"42", json);
            for &member in &self.members[index] {
                if let Some(conn) = &mut self.conns[member as usize] {
                    send(&self.epoll, conn, &self.frame);
                }
            }
        }
        if !ack.is_empty() {
            self.reply(id, wire::TEXT, &[b"43", ack, br#"[{"ok":true}]"#].concat());
        }
    }

    fn flush(&mut self, id: usize) {
        let Some(conn) = &mut self.conns[id] else { return };
        if let Ok(sent) = net::send(&conn.fd, &conn.output, SendFlags::NOSIGNAL) {
            conn.output.drain(..sent);
        }
        if conn.output.is_empty() {
            conn.output = Vec::new();
            interest(&self.epoll, conn, EventFlags::IN);
        }
    }

    fn close(&mut self, id: usize) {
        let Some(conn) = self.conns[id].take() else { return };
        for room in conn.rooms {
            self.members[room].retain(|&member| member as usize != id);
        }
    }
}

/// Sends at once what the socket takes; keeps the rest.
#[inline]
fn send(epoll: &OwnedFd, conn: &mut Conn, frame: &[u8]) {
    if !conn.output.is_empty() {
        return owe(epoll, conn, frame);
    }
    match net::send(&conn.fd, frame, SendFlags::NOSIGNAL) {
        Ok(sent) if sent == frame.len() => {}
        Ok(sent) => owe(epoll, conn, &frame[sent..]),
        Err(Errno::AGAIN) => owe(epoll, conn, frame),
        Err(_) => {} // the read side sees the end
    }
}

#[cold]
fn owe(epoll: &OwnedFd, conn: &mut Conn, rest: &[u8]) {
    if conn.output.len() + rest.len() > OUTPUT_BYTES_MAX {
        let _ = net::shutdown(&conn.fd, net::Shutdown::Both);
        return;
    }
    if conn.output.is_empty() {
        interest(epoll, conn, EventFlags::IN | EventFlags::OUT);
    }
    conn.output.extend_from_slice(rest);
}

fn interest(epoll: &OwnedFd, conn: &Conn, flags: EventFlags) {
    let id = conn.fd.as_raw_fd() as u64;
    let _ = epoll::modify(epoll, &conn.fd, EventData::new_u64(id), flags);
}
