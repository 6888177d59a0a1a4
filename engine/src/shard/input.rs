//! What the ring yields: connections come, send bytes, and go.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use throng_protocol::engineio::Heartbeat;
use throng_protocol::socketio;
use throng_protocol::ws::{Incoming, Reader, Role};
use throng_ring::{Conn, Event, Frame};

use super::Core;
use crate::app::{App, Plain};
use crate::close::Reason;
use crate::codec;
use crate::limiter::{IpKey, Refused};
use crate::limits::{LINGER_BYTES_MAX, LINGER_MS, PONGS_PER_CHUNK_MAX};
use crate::outbox::Class;
use crate::request::{self, Decision};
use crate::table::{Link, Live, Phase};

/// Sessions shorter than this are pinged by the clock; longer ones are spread.
const SPREAD_PINGS_FROM_MS: u32 = 1000;

impl<A: App> Core<A> {
    /// Handles one event of the ring.
    pub(super) fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Received { conn, bytes } => self.on_received(conn, bytes),
            Event::Sent { conn } => self.on_sent(conn),
            Event::Accepted { conn, peer } => self.on_accepted(conn, peer),
            Event::Ended { conn, error } => self.on_ended(conn, error),
            Event::SendFailed { conn, .. } => self.close(conn.slot, Reason::Error),
            Event::HandedOver { conn, fd } => self.on_handed_over(conn, fd),
            Event::Closed { conn } => self.on_closed(conn),
            Event::AcceptFailed(_) => self.cells.refused_slots.add(1),
            Event::Connected { .. } | Event::ConnectFailed { .. } | Event::Woken => {}
        }
        self.route();
    }

    fn on_accepted(&mut self, conn: Conn, peer: SocketAddr) {
        let ip = IpKey::from(peer.ip());
        self.cells.accepted.add(1);
        self.cells.connections.add(1);
        self.table.open(conn, ip);
        let refused = match self.limiter.admit(ip) {
            Ok(()) => {
                let deadline = self.now.ms().wrapping_add(self.bounds.handshake_timeout_ms);
                return self.wheel.arm(conn.slot, deadline);
            }
            Err(Refused::Full) => (&self.cells.refused_full, "the server is full"),
            Err(Refused::Ip) => (&self.cells.refused_ip, "too many connections from your address"),
        };
        refused.0.add(1);
        self.refuse(
            conn.slot,
            request::answer(
                "503 Service Unavailable",
                "text/plain",
                "Retry-After: 5\r\n",
                refused.1,
            ),
        );
    }

    fn on_closed(&mut self, conn: Conn) {
        self.wheel.disarm(conn.slot);
        if let Some(ip) = self.table.close(conn) {
            self.limiter.release(ip);
            self.cells.connections.sub(1);
        }
    }

    /// The peer will send nothing more.
    fn on_ended(&mut self, conn: Conn, error: Option<io::Error>) {
        let Some(row) = self.table.get(conn) else { return };
        match row.phase {
            // The request has been read; the control thread answers it.
            Phase::HandingOver(_) => {}
            Phase::Closing { .. } => self.closes.push(conn),
            _ if error.is_some() => self.close(conn.slot, Reason::Error),
            _ => {
                self.close(conn.slot, Reason::Peer);
                self.closes.push(conn);
            }
        }
    }

    fn on_received(&mut self, conn: Conn, bytes: &mut [u8]) {
        self.cells.bytes_received.add(bytes.len() as u64);
        let Some(row) = self.table.get(conn) else { return };
        match &mut row.phase {
            Phase::Live(_) => self.on_frames(conn.slot, bytes),
            Phase::Request(held) if held.is_empty() => self.on_request(conn, bytes),
            Phase::Request(held) => {
                let mut bytes = [&held[..], bytes].concat();
                self.on_request(conn, &mut bytes);
            }
            Phase::HandingOver(held) => *held = [&held[..], bytes].concat().into(),
            Phase::Closing { ignored_bytes, .. } => {
                *ignored_bytes = ignored_bytes.saturating_add(bytes.len() as u32);
                if *ignored_bytes > LINGER_BYTES_MAX {
                    self.closes.push(conn);
                }
            }
            Phase::Vacant => {}
        }
    }

    /// Decides about all bytes of a request received so far.
    fn on_request(&mut self, conn: Conn, bytes: &mut [u8]) {
        let decision = request::decide(bytes, &self.config.cors_origins, A::speaks_plain);
        let Some(row) = self.table.get(conn) else { return };
        match decision {
            Decision::More => row.phase = Phase::Request((&*bytes).into()),
            Decision::Refuse(answer) => {
                self.cells.refused_request.add(1);
                self.refuse(conn.slot, answer);
            }
            Decision::HandOver if self.http.has_place() => {
                row.phase = Phase::HandingOver((&*bytes).into());
                self.hand_overs.push(conn);
            }
            Decision::HandOver => {
                self.cells.http_refused.add(1);
                let busy = "503 Service Unavailable";
                self.refuse(conn.slot, request::answer(busy, "text/plain", "", "busy, try again"));
            }
            Decision::Upgrade { answer, head_bytes, plain } => {
                self.upgrade(conn.slot, answer, plain);
                if bytes.len() > head_bytes {
                    self.on_frames(conn.slot, &mut bytes[head_bytes..]);
                }
            }
        }
    }

    /// Switches to WebSocket and, unless plain, opens an Engine.IO session.
    fn upgrade(&mut self, slot: u32, mut answer: Vec<u8>, plain: bool) {
        let now_ms = self.now.ms();
        let timing = self.bounds.timing;
        if !plain {
            // The session id is secret and, on WebSocket alone, never asked for again.
            let sid = self.entropy.session_id();
            let (interval, timeout) = (timing.ping_interval_ms, timing.ping_timeout_ms);
            let payload = self.config.payload_bytes_max;
            answer.extend(codec::open_frame(
                sid.as_str(),
                interval.into(),
                timeout.into(),
                payload,
            ));
        }
        let link = Link {
            assembler: socketio::Assembler::default(),
            heartbeat: Heartbeat::new(now_ms, self.first_ping_ms()),
            connect_by_ms: now_ms.wrapping_add(self.bounds.connect_timeout_ms),
            plain,
            socket: None,
        };
        if let Some(row) = self.table.row(slot) {
            row.phase = Phase::Live(Box::new(Live { reader: Reader::default(), link }));
        }
        self.queue(slot, Frame::from(answer), Class::Control);
        self.arm(slot);
    }

    /// Sessions that began together must not be pinged together for ever.
    fn first_ping_ms(&mut self) -> u32 {
        let interval = self.bounds.timing.ping_interval_ms;
        if interval < SPREAD_PINGS_FROM_MS {
            return interval;
        }
        let half = interval / 2;
        half + (self.entropy.number() % u64::from(interval - half)) as u32
    }

    /// Handles received bytes of a WebSocket connection.
    fn on_frames(&mut self, slot: u32, bytes: &mut [u8]) {
        let Some(row) = self.table.row(slot) else { return };
        // Taken out while it is handled: handling needs the rest of the shard.
        let Phase::Live(mut live) = mem::replace(&mut row.phase, Phase::Vacant) else { return };
        let limits = self.bounds.frames;
        let Live { reader, link } = &mut *live;
        let (mut end, mut pongs) = (None, 0);
        let read = reader.read(Role::Server, &limits, bytes, |incoming| {
            end = match incoming {
                Incoming::Text(text) => self.on_text(slot, link, text),
                Incoming::Binary(bytes) => self.on_binary(slot, link, bytes),
                Incoming::Ping(payload) => {
                    pongs += 1;
                    if pongs <= PONGS_PER_CHUNK_MAX {
                        self.queue(slot, Frame::new(codec::pong_frame(payload)), Class::Reply);
                    }
                    None
                }
                Incoming::Pong(_) => None,
                Incoming::Close(close) => {
                    let code = close.map(|close| close.code);
                    self.queue(slot, Frame::new(codec::close_frame(code)), Class::Control);
                    Some(Reason::Peer)
                }
            };
            if end.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Err(violation) = read {
            end = Some(Reason::Violation(violation.close_code()));
        }
        if let Some(row) = self.table.row(slot)
            && matches!(row.phase, Phase::Vacant)
        {
            row.phase = Phase::Live(live);
        }
        if let Some(reason) = end {
            self.close(slot, reason);
        }
    }

    fn on_text(&mut self, slot: u32, link: &mut Link<A>, text: &str) -> Option<Reason> {
        self.cells.packets_received.add(1);
        if link.plain {
            self.on_plain(slot, Plain::Text(text))
        } else {
            self.on_packet(slot, link, text)
        }
    }

    fn on_binary(&mut self, slot: u32, link: &mut Link<A>, bytes: &[u8]) -> Option<Reason> {
        self.cells.packets_received.add(1);
        if link.plain {
            self.on_plain(slot, Plain::Binary(bytes))
        } else {
            self.on_attachment(slot, link, bytes)
        }
    }

    fn on_plain(&mut self, slot: u32, message: Plain<'_>) -> Option<Reason> {
        let mut frames = mem::take(&mut self.frames);
        self.app.plain(message, &mut frames);
        let end = self.reply(slot, &mut frames);
        self.frames = frames;
        end
    }

    /// Queues answers of the application; a reason to close if they exceed the quota.
    pub(super) fn reply(&mut self, slot: u32, frames: &mut Vec<Box<[u8]>>) -> Option<Reason> {
        let mut end = None;
        for frame in frames.drain(..) {
            if !self.queue(slot, Frame::new(frame), Class::Reply) {
                end = Some(Reason::SlowConsumer);
            }
        }
        end
    }

    /// Answers an HTTP error and closes.
    fn refuse(&mut self, slot: u32, answer: Vec<u8>) {
        self.queue(slot, Frame::from(answer), Class::Control);
        self.close(slot, Reason::Refused);
    }

    fn on_handed_over(&mut self, conn: Conn, fd: io::Result<OwnedFd>) {
        let Some(row) = self.table.get(conn) else { return };
        let Phase::HandingOver(head) = mem::replace(&mut row.phase, Phase::Vacant) else { return };
        match fd {
            Ok(fd) => {
                self.cells.http_requests.add(1);
                self.http.pass(fd, head);
            }
            Err(_) => self.cells.http_refused.add(1),
        }
    }

    /// Sets the connection's timer by what it waits for.
    pub(super) fn arm(&mut self, slot: u32) {
        let now_ms = self.now.ms();
        let Some(row) = self.table.row(slot) else { return };
        match &row.phase {
            Phase::Live(live) if live.link.plain => self.wheel.disarm(slot),
            Phase::Live(live) => {
                let beat = live.link.heartbeat.deadline_ms();
                let connect = live.link.connect_by_ms;
                let first = (connect.wrapping_sub(beat) as i32) < 0;
                let waits = live.link.socket.is_none() && first;
                self.wheel.arm(slot, if waits { connect } else { beat });
            }
            Phase::Closing { .. } => self.wheel.arm(slot, now_ms.wrapping_add(LINGER_MS)),
            Phase::Vacant | Phase::Request(_) | Phase::HandingOver(_) => {}
        }
    }
}
