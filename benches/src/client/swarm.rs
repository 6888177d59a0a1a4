//! The connections of a load client and the epoll loop that drives them.
//!
//! Owns the sockets, the way up to "joined" and the answers to pings. It never looks into events: a
//! [`Sink`] does. Sockets are registered once, edge-triggered, and read until a short read.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use hdrhistogram::Histogram;
use memchr::memmem;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags};

use super::conn::{Conn, Stage, dial, upgrade_request};
use super::{Clock, SECOND, Target, report};
use crate::wire::{self, Header};

/// Few enough that a due message waits no longer than about 100 µs for the batch before it.
const EVENTS: usize = 64;
const READ_BYTES: usize = 256 * 1024;
/// A bring-up that makes no progress for this long is given up.
const STALL: u64 = 10 * SECOND;

/// Takes the events that reach joined connections.
pub trait Sink {
    /// A Socket.IO event: `42[…]`, received at `now`.
    fn on_event(&mut self, conn: usize, payload: &[u8], now: u64);
    /// An acknowledgement: `43<id>[…]`.
    fn on_ack(&mut self, _payload: &[u8]) {}
}

/// Ignores everything.
#[derive(Debug)]
pub struct NoSink;

impl Sink for NoSink {
    fn on_event(&mut self, _conn: usize, _payload: &[u8], _now: u64) {}
}

/// What bringing connections up came to.
#[derive(Debug)]
pub struct BringUp {
    /// From the first `connect` to the last join.
    pub seconds: f64,
    /// `connect` to joined, each connection, µs.
    pub latency: Histogram<u64>,
}

/// The connections.
pub struct Swarm {
    /// Every connection that was begun, by index.
    pub conns: Vec<Conn>,
    /// The time.
    pub clock: Clock,
    /// Connections in their rooms.
    pub joined: usize,
    /// Connections that failed on their way up.
    pub refused: usize,
    /// Connections that were joined and then ended by the server.
    pub lost: usize,
    /// Pings answered.
    pub pings: u64,
    /// Time spent in polls that found nothing.
    pub idle_ns: u64,
    target: Target,
    address: SocketAddrV4,
    request: Vec<u8>,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    latency: Histogram<u64>,
}

impl Swarm {
    /// A swarm without connections yet.
    ///
    /// # Errors
    /// When epoll cannot be had.
    pub fn new(target: &Target) -> io::Result<Self> {
        let address = SocketAddrV4::new(target.host, target.port);
        Ok(Self {
            conns: Vec::with_capacity(target.connections),
            clock: Clock::start(),
            joined: 0,
            refused: 0,
            lost: 0,
            pings: 0,
            idle_ns: 0,
            target: target.clone(),
            address,
            request: upgrade_request(address),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
            buffer: vec![0; READ_BYTES],
            latency: report::histogram()?,
        })
    }

    /// Brings all connections up, `rate` a second at most (0: as fast as it goes).
    ///
    /// # Errors
    /// When sockets cannot be made here. What the server refuses is counted instead.
    pub fn bring_up(&mut self, rate: u64) -> io::Result<BringUp> {
        let (started, total) = (self.clock.now(), self.target.connections);
        let (mut last_done, mut progress) = (0, started);
        while last_done < total {
            let now = self.clock.now();
            let due = match rate {
                0 => total,
                _ => total.min(((now - started) * rate / SECOND) as usize + 1),
            };
            while self.conns.len() < due && self.conns.len() - self.done() < self.target.outstanding
            {
                self.launch()?;
            }
            let wait = if self.conns.len() < total && rate > 0 { 1_000_000 } else { SECOND / 10 };
            self.poll(wait, &mut NoSink)?;
            if self.done() != last_done {
                (last_done, progress) = (self.done(), now);
            } else if now.saturating_sub(progress) > STALL {
                break;
            }
        }
        self.refused = self.conns.len() - self.joined - self.lost;
        let seconds = (self.clock.now() - started) as f64 / 1e9;
        Ok(BringUp { seconds, latency: self.latency.clone() })
    }

    fn done(&self) -> usize {
        self.joined + self.refused + self.lost
    }

    fn launch(&mut self) -> io::Result<()> {
        let index = self.conns.len();
        let source = match self.target.sources {
            0 => Ipv4Addr::UNSPECIFIED,
            sources => Ipv4Addr::new(127, 0, 0, (index % usize::from(sources)) as u8 + 1),
        };
        let started = self.clock.now();
        let fd = dial(self.address, source)?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &fd, EventData::new_u64(index as u64), flags)?;
        self.conns.push(Conn::new(fd, index % self.target.rooms.max(1), started));
        Ok(())
    }

    /// Handles what is ready, at most one batch; waits up to `wait_ns` for it unless spinning.
    ///
    /// # Errors
    /// When epoll itself fails.
    pub fn poll<S: Sink>(&mut self, wait_ns: u64, sink: &mut S) -> io::Result<()> {
        let wait = if self.target.spin { 0 } else { wait_ns };
        let timeout = Timespec { tv_sec: (wait / SECOND) as i64, tv_nsec: (wait % SECOND) as i64 };
        let before = self.clock.now();
        let mut events = mem::take(&mut self.events);
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if events.is_empty() {
            self.idle_ns += self.clock.now() - before;
        }
        for event in &events {
            self.on_ready(event.data.u64() as usize, event.flags, sink);
        }
        self.events = events;
        Ok(())
    }

    fn on_ready<S: Sink>(&mut self, index: usize, flags: EventFlags, sink: &mut S) {
        let conn = &mut self.conns[index];
        if flags.contains(EventFlags::OUT) {
            let sent = match conn.stage {
                Stage::Connecting if !flags.intersects(EventFlags::ERR | EventFlags::HUP) => {
                    conn.stage = Stage::Upgrading;
                    conn.send(&self.request)
                }
                _ => conn.flush(),
            };
            if sent.is_err() {
                return self.on_gone(index);
            }
        }
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::ERR | EventFlags::HUP);
        if ended || flags.contains(EventFlags::IN) {
            self.read(index, ended, sink);
        }
    }

    /// Reads until a short read, or to the end where the peer has `ended` the stream.
    fn read<S: Sink>(&mut self, index: usize, ended: bool, sink: &mut S) {
        let mut buffer = mem::take(&mut self.buffer);
        while let Some(fd) = &self.conns[index].fd {
            match net::recv(fd, &mut buffer[..], RecvFlags::empty()) {
                Ok((len, _)) if len > 0 => {
                    self.take_bytes(index, &buffer[..len], sink);
                    if len < buffer.len() && !ended {
                        break; // more would come with an edge of its own
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                _ => self.on_gone(index),
            }
        }
        self.buffer = buffer;
    }

    fn take_bytes<S: Sink>(&mut self, index: usize, bytes: &[u8], sink: &mut S) {
        if self.conns[index].input.is_empty() {
            let used = self.take_whole(index, bytes, sink);
            if used < bytes.len() {
                self.conns[index].input.extend_from_slice(&bytes[used..]);
            }
        } else {
            let mut input = mem::take(&mut self.conns[index].input);
            input.extend_from_slice(bytes);
            let used = self.take_whole(index, &input, sink);
            input.drain(..used);
            self.conns[index].input = input;
        }
    }

    /// Handles the complete frames in `bytes` and says how much that was.
    fn take_whole<S: Sink>(&mut self, index: usize, bytes: &[u8], sink: &mut S) -> usize {
        let (mut at, now) = (0, self.clock.now());
        if self.conns[index].stage < Stage::Opening {
            let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return 0 };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                self.on_gone(index);
                return bytes.len();
            }
            self.conns[index].stage = Stage::Opening;
            at = end + 4;
        }
        while let Some(head) = wire::header(&bytes[at..]) {
            let start = at + head.start;
            let Some(payload) = bytes.get(start..start + head.len) else { break };
            self.on_frame(index, head, payload, now, sink);
            at = start + head.len;
        }
        at
    }

    #[inline]
    fn on_frame<S: Sink>(&mut self, at: usize, head: Header, text: &[u8], now: u64, sink: &mut S) {
        match (head.opcode, text) {
            (wire::TEXT, [b'4', b'2', ..]) => sink.on_event(at, text, now),
            (wire::TEXT, [b'4', b'3', ..]) if self.conns[at].stage == Stage::Joined => {
                sink.on_ack(text);
            }
            _ => self.on_control(at, head, text, now),
        }
    }

    fn on_control(&mut self, index: usize, head: Header, text: &[u8], now: u64) {
        let conn = &mut self.conns[index];
        let sent = match (head.opcode, text, conn.stage) {
            (wire::TEXT, [b'2'], _) => {
                self.pings += 1;
                conn.send_text(b"3")
            }
            (wire::TEXT, [b'0', ..], Stage::Opening) => {
                conn.stage = Stage::Naming;
                conn.send_text(format!(r#"40{{"username":"u{index}"}}"#).as_bytes())
            }
            (wire::TEXT, [b'4', b'0', ..], Stage::Naming) => {
                conn.stage = Stage::Joining;
                let room = conn.room;
                let join = format!(r#"420["join",{{"room":"r{room}","presence":false}}]"#);
                conn.send_text(join.as_bytes())
            }
            (wire::TEXT, [b'4', b'3', ..], Stage::Joining) => {
                if memmem::find(text, br#""ok":true"#).is_none() {
                    return self.on_gone(index);
                }
                conn.stage = Stage::Joined;
                self.joined += 1;
                self.latency.saturating_record((now - conn.started) / 1000);
                Ok(())
            }
            (wire::TEXT, [b'4', b'1' | b'4', ..], _) | (wire::CLOSE, ..) => {
                return self.on_gone(index);
            }
            (wire::PING, ..) => {
                let mut pong = Vec::new();
                wire::push_client(&mut pong, wire::PONG, text);
                conn.send(&pong)
            }
            _ => Ok(()),
        };
        if sent.is_err() {
            self.on_gone(index);
        }
    }

    fn on_gone(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        conn.fd = None;
        match mem::replace(&mut conn.stage, Stage::Closed) {
            Stage::Closed => {}
            Stage::Joined => {
                self.joined -= 1;
                self.lost += 1;
            }
            _ => self.refused += 1,
        }
    }

    /// Closes every connection from this side and forgets them.
    pub fn close_all(&mut self) {
        self.conns.clear();
        self.joined = 0;
    }
}
