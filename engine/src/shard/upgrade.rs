//! Sessions that change their transport, and connections that change their shard.
//!
//! A WebSocket that is to take a polling session over must be on the session's shard, and so must a
//! client that comes back to one of its sockets. The ring hands the socket itself to the other
//! ring; what the connection is follows as an envelope, and the two meet under one token.

use std::io;
use std::mem;
use std::ops::ControlFlow;

use throng_protocol::engineio::{CLOSE, PROBE_ANSWER, is_probe};
use throng_protocol::ws::{Incoming, Reader, Role};
use throng_ring::{Conn, Frame};

use super::Core;
use crate::app::{Adopt, Adopted, App, Connect, Envelope, Outcome, Traveller};
use crate::clock::has_come;
use crate::close::Reason;
use crate::codec::{self, Dialect};
use crate::ids::SessionKey;
use crate::limits::{HEAD_BYTES_MAX, PIPELINED_BYTES_MAX, UPGRADE_MS};
use crate::outbox::Class;
use crate::request::Upgrade;
use crate::table::{Link, Live, Moving, Phase, Polling, Probe};

/// How long half of a connection waits for the other, in milliseconds: much longer than any
/// envelope takes.
const ARRIVAL_MS: u32 = 60_000;

/// Half of a connection that moves here: the other half is on its way.
pub(super) enum Arrival {
    /// The socket has come.
    Socket(Conn),
    /// What it is has come.
    State(Box<Adopt>),
}

impl<A: App> Core<A> {
    /// A WebSocket wants to take a session of this shard over.
    pub(super) fn take_over(&mut self, slot: u32, key: SessionKey, upgrade: Upgrade) {
        let Some(session) = self.session_slot(key) else { return self.refuse_unknown(slot) };
        let conn = self.table.conn(slot);
        let dialect = upgrade.dialect();
        let open = match self.table.row(session).map(|row| &mut row.phase) {
            Some(Phase::Polling(polling)) if polling.ended_until_ms.is_some() => {
                return self.refuse_unknown(slot);
            }
            Some(Phase::Polling(polling)) if polling.probe.is_none() => {
                polling.probe = Some(conn);
                true
            }
            // It has one already.
            _ => false,
        };
        self.queue(slot, Frame::from(upgrade.answer), Class::Control);
        let Some(row) = self.table.row(slot) else { return };
        let probe = Probe { reader: Reader::default(), session, dialect, probed: false };
        row.phase = Phase::Probe(Box::new(probe));
        if !open {
            return self.close(slot, Reason::Superfluous);
        }
        self.wheel.arm(slot, self.now.ms().wrapping_add(UPGRADE_MS));
    }

    /// Frames of a WebSocket that wants to take a session over: `2probe`, then `5`.
    pub(super) fn on_probe(&mut self, slot: u32, bytes: &mut [u8]) {
        let Some(row) = self.table.row(slot) else { return };
        let Phase::Probe(mut probe) = mem::replace(&mut row.phase, Phase::Vacant) else { return };
        let mut inflater = self.inflater(probe.dialect);
        let limits = self.bounds.frames;
        let (mut end, mut comes_over) = (None, false);
        let read =
            probe.reader.read(Role::Server, &limits, inflater.as_deref_mut(), bytes, |incoming| {
                match incoming {
                    Incoming::Text(text) if is_probe(text) && probe.probed => {}
                    Incoming::Text(text) if is_probe(text) => {
                        self.queue(
                            slot,
                            codec::text_frame(PROBE_ANSWER.as_bytes()),
                            Class::Control,
                        );
                        probe.probed = true;
                        self.on_probed(probe.session);
                    }
                    Incoming::Text("5") if probe.probed => comes_over = true,
                    Incoming::Ping(payload) => {
                        self.queue(slot, codec::pong_frame(payload), Class::Reply);
                    }
                    Incoming::Pong(_) => {}
                    Incoming::Text(_) | Incoming::Binary(_) => end = Some(Reason::BadPacket),
                    Incoming::Close(_) => end = Some(Reason::Peer),
                }
                if end.is_some() || comes_over {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        self.inflater = inflater.or(self.inflater.take());
        let used = read.as_ref().copied().unwrap_or(bytes.len());
        if let Err(violation) = read {
            end = Some(Reason::Violation(violation.close_code()));
        }
        let (session, dialect) = (probe.session, probe.dialect);
        if let Some(row) = self.table.row(slot) {
            row.phase = Phase::Probe(probe);
        }
        if let Some(reason) = end {
            return self.close(slot, reason);
        }
        if comes_over {
            self.come_over(session, slot, dialect);
            let rest = &mut bytes[used..];
            match self.table.row(slot).map(|row| &row.phase) {
                // To where one of its sockets can be recovered.
                Some(Phase::Moving(_)) => self.on_moving(self.table.conn(slot), rest),
                _ if rest.is_empty() => {}
                _ => self.on_frames(slot, rest),
            }
        }
    }

    fn on_probed(&mut self, session: u32) {
        if let Some(polling) = self.polling(session) {
            polling.upgrading = true;
            if polling.get.is_some() {
                self.answer_noop(session);
            }
        }
    }

    /// The session goes from polling to the WebSocket.
    fn come_over(&mut self, session: u32, slot: u32, dialect: Dialect) {
        let Some(row) = self.table.row(session) else { return };
        let Phase::Polling(polling) = mem::replace(&mut row.phase, Phase::Upgraded(slot)) else {
            return;
        };
        let ip = row.ip;
        let Polling { mut link, key, get, held, .. } = *polling;
        if let Some(get) = get {
            self.answer(get, Outcome::Packets(CLOSE.into()));
        }
        link.extra().stub = Some(key);
        self.reseat(link.sockets(), slot);
        self.move_returning(session, slot);
        self.table.move_queue(session, slot);
        if let Some(row) = self.table.row(slot) {
            row.dialect = dialect;
            row.phase = Phase::Live(Box::new(Live { reader: Reader::default(), link }));
        }
        self.limiter.release_session(ip);
        self.cells.sessions_polling.sub(1);
        self.cells.upgraded.add(1);
        self.wheel.disarm(session);
        self.arm(slot);
        if let Some(connect) = held {
            self.connect_held(slot, connect);
        }
    }

    /// The WebSocket of a session that has not come over is gone; the session polls on.
    pub(super) fn probe_ended(&mut self, session: u32, conn: Conn) {
        let Some(polling) = self.polling(session) else { return };
        if polling.probe != Some(conn) {
            return;
        }
        polling.probe = None;
        polling.upgrading = false;
        polling.noop_at_ms = None;
        let held = polling.held.take();
        self.table.mark(session);
        match held {
            Some(connect) => self.connect_held(session, connect),
            None => self.arm(session),
        }
    }

    /// Begins to move a connection; it leaves when what it owes has been sent.
    pub(super) fn begin_move(&mut self, slot: u32, shard: u16, state: Adopted) {
        let Some(row) = self.table.row(slot) else { return };
        row.phase = Phase::Moving(Box::new(Moving { shard, token: None, state }));
        self.wheel.arm(slot, self.now.ms().wrapping_add(UPGRADE_MS));
        self.table.mark(slot);
    }

    /// Sends a WebSocket without sockets to the shard where one of its own can be recovered.
    pub(super) fn send_live(&mut self, slot: u32, shard: u16, connect: Connect, rest: Vec<u8>) {
        let Some(row) = self.table.row(slot) else { return };
        let dialect = row.dialect;
        let Phase::Live(live) = mem::replace(&mut row.phase, Phase::Vacant) else { return };
        let Live { reader, link } = *live;
        let stub = link.stub();
        let begun = link.into_begun();
        let traveller = Traveller { reader, begun, dialect, connect, rest };
        if let Some(key) = stub {
            self.release_stub(key);
        }
        self.begin_move(slot, shard, Adopted::Live(Box::new(traveller)));
    }

    /// Frees what is left of the polling session that a WebSocket was.
    pub(super) fn release_stub(&mut self, key: SessionKey) {
        if let Some(slot) = self.session_slot(key)
            && matches!(self.table.row(slot).map(|row| &row.phase), Some(Phase::Upgraded(_)))
        {
            self.free_session(slot, key);
        }
    }

    /// Bytes of a connection on its way.
    pub(super) fn on_moving(&mut self, conn: Conn, bytes: &[u8]) {
        let Some(row) = self.table.get(conn) else { return };
        let held = match &mut row.phase {
            Phase::Moving(moving) => match &mut moving.state {
                Adopted::Request(held) => held,
                Adopted::Live(traveller) => &mut traveller.rest,
            },
            Phase::Arriving(held) => held,
            _ => return,
        };
        held.extend_from_slice(bytes);
        if held.len() > HEAD_BYTES_MAX + PIPELINED_BYTES_MAX + self.config.payload_bytes_max {
            self.close(conn.slot, Reason::Error);
        }
    }

    /// The other ring has the socket, or cannot have it.
    pub(super) fn on_transferred(&mut self, conn: Conn, result: io::Result<()>) {
        let Some(row) = self.table.get(conn) else { return };
        let ip = row.ip;
        let Phase::Moving(moving) = mem::replace(&mut row.phase, Phase::Vacant) else { return };
        let Moving { shard, token, state } = *moving;
        match (result, token) {
            (Ok(()), Some(token)) => {
                self.cells.moved_out.add(1);
                // The count goes along.
                row.counted = false;
                let adopt = Box::new(Adopt { token, ip, state });
                self.out.push((shard, Envelope::Adopt(adopt)));
            }
            _ => {
                self.cells.move_failed.add(1);
                self.on_stranded(conn, state);
            }
        }
    }

    /// A connection could not move: it makes do with what there is here.
    pub(super) fn on_stranded(&mut self, conn: Conn, state: Adopted) {
        match state {
            Adopted::Request(_) => {
                if let Some(row) = self.table.get(conn) {
                    row.phase = Phase::Request(Box::default());
                }
                self.refuse_unknown(conn.slot);
            }
            Adopted::Live(traveller) => self.on_traveller(conn, *traveller),
        }
    }

    /// A socket has come from another ring.
    pub(super) fn on_adopted(&mut self, conn: Conn, token: u64) {
        self.cells.connections.add(1);
        self.table.open_arriving(conn);
        self.wheel.arm(conn.slot, self.now.ms().wrapping_add(UPGRADE_MS));
        match self.arrivals.remove(&token) {
            Some((Arrival::State(adopt), _)) => self.on_arrived(conn, *adopt),
            _ => self.await_other_half(token, Arrival::Socket(conn)),
        }
    }

    /// What a socket is has come.
    pub(super) fn on_adopt(&mut self, adopt: Box<Adopt>) {
        match self.arrivals.remove(&adopt.token) {
            Some((Arrival::Socket(conn), _)) => self.on_arrived(conn, *adopt),
            _ => self.await_other_half(adopt.token, Arrival::State(adopt)),
        }
    }

    fn await_other_half(&mut self, token: u64, arrival: Arrival) {
        self.arrivals.insert(token, (arrival, self.now.ms().wrapping_add(ARRIVAL_MS)));
    }

    /// Drops halves whose other half never came: its connection ended on the way.
    pub(super) fn sweep_arrivals(&mut self) {
        let Self { arrivals, limiter, now, .. } = self;
        arrivals.retain(|_, (arrival, until_ms)| {
            let waits = !has_come(*until_ms, now.ms());
            if let (false, Arrival::State(adopt)) = (waits, arrival) {
                limiter.release(adopt.ip);
            }
            waits
        });
    }

    fn on_arrived(&mut self, conn: Conn, adopt: Adopt) {
        let Adopt { ip, state, .. } = adopt;
        let row = self.table.get(conn).filter(|row| matches!(row.phase, Phase::Arriving(_)));
        // It ended before it had come.
        let Some(row) = row else { return self.limiter.release(ip) };
        (row.ip, row.counted) = (ip, true);
        let phase = mem::replace(&mut row.phase, Phase::Request(Box::default()));
        let Phase::Arriving(mut later) = phase else { return };
        self.cells.moved_in.add(1);
        self.wheel.arm(conn.slot, self.now.ms().wrapping_add(self.bounds.handshake_timeout_ms));
        match state {
            Adopted::Request(mut bytes) => {
                bytes.append(&mut later);
                self.on_request(conn, &mut bytes);
            }
            Adopted::Live(mut traveller) => {
                traveller.rest.append(&mut later);
                self.on_traveller(conn, *traveller);
            }
        }
    }

    /// A WebSocket goes on: connects, here as one that may be recovered, and reads what follows.
    fn on_traveller(&mut self, conn: Conn, traveller: Traveller) {
        let Traveller { reader, begun, dialect, connect, mut rest } = traveller;
        let link = Link::from_begun(begun);
        if let Some(row) = self.table.get(conn) {
            row.dialect = dialect;
            row.phase = Phase::Live(Box::new(Live { reader, link }));
        }
        self.connect_held(conn.slot, connect);
        self.on_frames(conn.slot, &mut rest);
    }
}
