//! What the ring yields: connections come, send bytes, and go.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use throng_protocol::engineio::Heartbeat;
use throng_protocol::ws::{Incoming, Inflater, Opcode, Reader, Role};
use throng_ring::{Conn, Event, Frame};

use super::Core;
use super::packets::Halt;
use crate::app::{App, Message, Protocol, Reply};
use crate::close::Reason;
use crate::codec::{self, Dialect};
use crate::ids::SessionKey;
use crate::limiter::{IpKey, Refused};
use crate::limits::{LINGER_BYTES_MAX, LINGER_MS, PONGS_PER_CHUNK_MAX};
use crate::outbox::Class;
use crate::request::{self, Upgrade};
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
            Event::Transferred { conn, result } => self.on_transferred(conn, result),
            Event::Adopted { conn, token } => self.on_adopted(conn, token),
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
        let (was_open, counted) = self.table.close(conn);
        if was_open {
            self.cells.connections.sub(1);
        }
        if let Some(ip) = counted {
            self.limiter.release(ip);
        }
    }

    /// The peer will send nothing more.
    fn on_ended(&mut self, conn: Conn, error: Option<io::Error>) {
        let Some(row) = self.table.get(conn) else { return };
        match row.phase {
            // The request has been read; the control thread answers it.
            Phase::HandingOver(_) => {}
            // The other ring tells it too.
            Phase::Moving(_) if error.is_none() => {}
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
            Phase::Live(_) | Phase::Probe(_) => self.on_frames(conn.slot, bytes),
            Phase::Request(held) if held.is_empty() => {
                // Between two requests it had longer.
                let deadline = self.now.ms().wrapping_add(self.bounds.handshake_timeout_ms);
                self.wheel.arm(conn.slot, deadline);
                self.on_request(conn, bytes);
            }
            Phase::Request(held) => {
                let mut bytes = [&held[..], bytes].concat();
                self.on_request(conn, &mut bytes);
            }
            Phase::Exchange(_) => self.on_exchange(conn, bytes),
            Phase::HandingOver(held) => *held = [&held[..], bytes].concat().into(),
            Phase::Moving(_) | Phase::Arriving(_) => self.on_moving(conn, bytes),
            Phase::Closing { ignored_bytes, .. } => {
                *ignored_bytes = ignored_bytes.saturating_add(bytes.len() as u32);
                // The rest of a message that was too large must not cut the answer short.
                if *ignored_bytes > LINGER_BYTES_MAX + self.config.payload_bytes_max as u32 {
                    self.closes.push(conn);
                }
            }
            Phase::Vacant
            | Phase::Polling(_)
            | Phase::Upgraded(_)
            | Phase::Elsewhere(_)
            | Phase::Away(_) => {}
        }
    }

    /// Switches to WebSocket and, where Engine.IO is spoken, opens a session.
    pub(super) fn upgrade(&mut self, slot: u32, upgrade: Upgrade) {
        let dialect = upgrade.dialect();
        let Upgrade { mut answer, protocol, .. } = upgrade;
        let now_ms = self.now.ms();
        if protocol.is_engine_io() {
            let conn = self.table.conn(slot);
            let shard = self.mesh.index();
            let key = SessionKey { shard, slot, serial: conn.generation };
            let timing = self.bounds.timing;
            let times = (timing.ping_interval_ms.into(), timing.ping_timeout_ms.into());
            let payload_bytes_max = self.config.payload_bytes_max;
            let sid = self.seal.session_id(key);
            let text = codec::open_text(&sid, &[], times, payload_bytes_max);
            answer.extend_from_slice(&codec::text_frame(&text));
        }
        let heartbeat = Heartbeat::new(now_ms, self.first_ping_ms());
        let connect_by_ms = now_ms.wrapping_add(self.bounds.connect_timeout_ms);
        let link = Link::new(protocol, heartbeat, connect_by_ms);
        if let Some(row) = self.table.row(slot) {
            row.dialect = dialect;
            row.phase = Phase::Live(Box::new(Live { reader: Reader::default(), link }));
        }
        self.queue(slot, Frame::from(answer), Class::Control);
        self.arm(slot);
    }

    /// Sessions that began together must not be pinged together for ever.
    pub(super) fn first_ping_ms(&mut self) -> u32 {
        let interval = self.bounds.timing.ping_interval_ms;
        if interval < SPREAD_PINGS_FROM_MS {
            return interval;
        }
        let half = interval / 2;
        half + (self.entropy.number() % u64::from(interval - half)) as u32
    }

    /// What decompresses for connections that may compress; made when first needed.
    pub(super) fn inflater(&mut self, dialect: Dialect) -> Option<Box<Inflater>> {
        dialect.is_compressed().then(|| self.inflater.take().unwrap_or_default())
    }

    /// Handles received bytes of a WebSocket connection.
    pub(super) fn on_frames(&mut self, slot: u32, bytes: &mut [u8]) {
        let Some(row) = self.table.row(slot) else { return };
        let dialect = row.dialect;
        // Taken out while it is handled: handling needs the rest of the shard.
        let mut live = match mem::replace(&mut row.phase, Phase::Vacant) {
            Phase::Live(live) => live,
            other => {
                let is_probe = matches!(other, Phase::Probe(_));
                row.phase = other;
                return if is_probe {
                    self.on_probe(slot, bytes)
                };
            }
        };
        let limits = self.bounds.frames;
        let mut inflater = self.inflater(dialect);
        let Live { reader, link } = &mut *live;
        let (mut halt, mut pongs) = (None, 0);
        let read = reader.read(Role::Server, &limits, inflater.as_deref_mut(), bytes, |incoming| {
            halt = match incoming {
                Incoming::Text(text) => self.on_text(slot, link, text),
                Incoming::Binary(bytes) => self.on_bytes(slot, link, bytes),
                Incoming::Ping(payload) => {
                    pongs += 1;
                    if pongs <= PONGS_PER_CHUNK_MAX {
                        self.queue(slot, codec::pong_frame(payload), Class::Reply);
                    }
                    None
                }
                Incoming::Pong(_) => {
                    if !link.protocol.is_engine_io() {
                        self.on_pong(slot, link);
                    }
                    None
                }
                Incoming::Close(close) => {
                    let code = close.map(|close| close.code);
                    self.queue(slot, codec::close_frame(code), Class::Control);
                    Some(Halt::Close(Reason::Peer))
                }
            };
            if halt.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        self.inflater = inflater.or(self.inflater.take());
        if let Err(violation) = &read {
            halt = Some(Halt::Close(Reason::Violation(violation.close_code())));
        }
        if let Some(row) = self.table.row(slot)
            && matches!(row.phase, Phase::Vacant)
        {
            row.phase = Phase::Live(live);
        }
        match (halt, read) {
            (Some(Halt::Close(reason)), _) => self.close(slot, reason),
            (Some(Halt::Claim { shard, connect }), Ok(used)) => {
                self.send_live(slot, shard, connect, bytes[used..].to_vec());
            }
            _ => {}
        }
    }

    fn on_text(&mut self, slot: u32, link: &mut Link<A>, text: &str) -> Option<Halt> {
        self.cells.packets_received.add(1);
        match link.protocol {
            Protocol::SocketIo | Protocol::EngineIo => self.on_packet(slot, link, text),
            Protocol::Json => self.on_json(slot, link, text),
            Protocol::WebSocket => self.on_message(slot, link.protocol, Message::Text(text)),
        }
    }

    fn on_bytes(&mut self, slot: u32, link: &mut Link<A>, bytes: &[u8]) -> Option<Halt> {
        self.cells.packets_received.add(1);
        match link.protocol {
            Protocol::SocketIo | Protocol::EngineIo => self.on_binary(slot, link, bytes),
            Protocol::Json => self.object(slot, "messages are text"),
            Protocol::WebSocket => self.on_message(slot, link.protocol, Message::Binary(bytes)),
        }
    }

    /// A message of a protocol without sockets.
    pub(super) fn on_message(
        &mut self,
        slot: u32,
        protocol: Protocol,
        message: Message<'_>,
    ) -> Option<Halt> {
        let mut replies = mem::take(&mut self.replies);
        self.app.message(message, &mut replies);
        let dialect = self.table.row(slot).map(|row| row.dialect).unwrap_or_default();
        let mut halt = None;
        for reply in replies.drain(..) {
            let frame = match reply {
                Reply::Text(text) if protocol == Protocol::EngineIo => {
                    self.encoder.message(Opcode::Text, format!("4{text}").as_bytes(), dialect)
                }
                Reply::Text(text) => self.encoder.message(Opcode::Text, text.as_bytes(), dialect),
                Reply::Binary(bytes) => self.encoder.message(Opcode::Binary, &bytes, dialect),
            };
            if !self.queue(slot, frame, Class::Reply) {
                halt = Some(Halt::Close(Reason::SlowConsumer));
            }
        }
        self.replies = replies;
        halt
    }

    /// Answers an HTTP error and closes.
    pub(super) fn refuse(&mut self, slot: u32, answer: Vec<u8>) {
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

    /// Sets a session's or connection's timer by what it waits for.
    pub(super) fn arm(&mut self, slot: u32) {
        let now_ms = self.now.ms();
        let Some(row) = self.table.row(slot) else { return };
        match &row.phase {
            Phase::Live(live) => {
                let due_ms = self.beats.from(live.link.deadline_ms());
                self.wheel.arm(slot, due_ms);
            }
            Phase::Polling(polling) => self.wheel.arm(slot, polling.deadline_ms()),
            Phase::Closing { .. } => self.wheel.arm(slot, now_ms.wrapping_add(LINGER_MS)),
            _ => {}
        }
    }

    /// The same while the link is being handled: a polling session's timer is set afterwards.
    pub(super) fn rearm(&mut self, slot: u32, link: &Link<A>) {
        if !self.table.is_session(slot) {
            self.wheel.arm(slot, self.beats.from(link.deadline_ms()));
        }
    }
}
