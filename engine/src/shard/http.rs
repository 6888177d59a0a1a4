//! The connection's side of HTTP: requests in, answers out, one at a time.
//!
//! A request of a polling client is passed to its session, wherever that is, and the connection
//! waits for the outcome. It stays on its shard: proxies put requests of many sessions on one.

use throng_protocol::engineio::ErrorCode;
use throng_protocol::http::{Body, BodyError};
use throng_ring::{Conn, Frame};

use super::Core;
use crate::app::{Adopted, App, Envelope, Outcome, Place, Poll, Polled, Protocol, Told};
use crate::close::Reason;
use crate::ids::SessionKey;
use crate::limits::{BODY_MS, KEEP_ALIVE_MS, PIPELINED_BYTES_MAX};
use crate::outbox::Class;
use crate::request::{self, Asking, Decision, Meta, Site, Upgrade, Verb};
use crate::table::{Exchange, Phase};

const TEXT: &str = "Content-Type: text/plain; charset=UTF-8\r\n";
const HTML: &str = "Content-Type: text/html\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

impl<A: App> Core<A> {
    /// Handles the bytes of requests received so far, as many as are whole and can be answered.
    pub(super) fn on_request(&mut self, conn: Conn, bytes: &mut [u8]) {
        let mut start = 0;
        while let Some(used) = self.on_one_request(conn, &mut bytes[start..]) {
            start += used;
        }
    }

    /// Handles one request; how long it was, if the next one may follow.
    fn on_one_request(&mut self, conn: Conn, bytes: &mut [u8]) -> Option<usize> {
        let Self { app, config, seal, .. } = self;
        let site = Site { config, seal, speaks: A::speaks };
        let decision = match bytes.is_empty() {
            true => Decision::More,
            false => request::decide(bytes, &site, |head| app.allow(head)),
        };
        let row = self.table.get(conn).filter(|row| matches!(row.phase, Phase::Request(_)))?;
        match decision {
            Decision::More => row.phase = Phase::Request((&*bytes).into()),
            Decision::Refuse(answer) => {
                self.cells.refused_request.add(1);
                self.refuse(conn.slot, answer);
            }
            Decision::Say { answer, used } => {
                self.cells.refused_request.add(1);
                return self.respond(conn, answer, true).then_some(used);
            }
            Decision::HandOver if self.http.has_place() => {
                row.phase = Phase::HandingOver((&*bytes).into());
                self.table.mark(conn.slot);
            }
            Decision::HandOver => {
                self.cells.http_refused.add(1);
                let busy = "503 Service Unavailable";
                self.refuse(conn.slot, request::answer(busy, "text/plain", "", "busy, try again"));
            }
            Decision::Upgrade(upgrade) => self.on_upgrade(conn, *upgrade, bytes),
            Decision::Ask(asking) => return self.on_asking(conn, *asking, bytes),
        }
        None
    }

    fn on_upgrade(&mut self, conn: Conn, upgrade: Upgrade, bytes: &mut [u8]) {
        let (used, slot) = (upgrade.used, conn.slot);
        match upgrade.session {
            None => self.upgrade(slot, upgrade),
            Some(key) => match self.whereabouts(key) {
                Some(shard) if shard != self.mesh.index() => {
                    let request = Adopted::Request(bytes.to_vec());
                    return self.begin_move(slot, shard, request);
                }
                Some(_) => self.take_over(slot, key, upgrade),
                None => self.refuse_unknown(slot),
            },
        }
        if bytes.len() > used {
            self.on_frames(slot, &mut bytes[used..]);
        }
    }

    /// An upgrade for a session that is not there.
    pub(super) fn refuse_unknown(&mut self, slot: u32) {
        self.cells.refused_request.add(1);
        let message = ErrorCode::SessionIdUnknown.message();
        self.refuse(slot, request::answer("400 Bad Request", "text/html", "", message));
    }

    fn on_asking(&mut self, conn: Conn, asking: Asking, bytes: &[u8]) -> Option<usize> {
        let Asking { used, meta, protocol, verb } = asking;
        let rest = &bytes[used..];
        let (session, told) = match verb {
            Verb::Open => {
                return self.open_session(conn, &meta, protocol).then_some(used);
            }
            Verb::Get(session) => (session, Told::Get),
            Verb::Other(session) => (session, Told::Other),
            Verb::Post(session, _, false) => {
                let meta = meta.closing();
                self.exchange(conn, meta, session, (None, &[]));
                self.tell(conn, session, Told::Post(None));
                return None;
            }
            Verb::Post(session, framing, true) => {
                match Body::new(framing, self.config.payload_bytes_max) {
                    Ok(body) => {
                        self.exchange(conn, meta, session, (Some(body), &[]));
                        self.on_body(conn, rest);
                    }
                    Err(error) => self.refuse_body(conn, &meta, error),
                }
                return None;
            }
        };
        self.exchange(conn, meta, session, (None, rest));
        self.tell(conn, session, told);
        None
    }

    /// A polling client's first request: its session begins here. True if another may follow.
    fn open_session(&mut self, conn: Conn, meta: &Meta, protocol: Protocol) -> bool {
        let Some(ip) = self.table.get(conn).map(|row| row.ip) else { return false };
        let answer = match self.begin_polling(ip, protocol) {
            Ok(open) => meta.respond("200 OK", TEXT, &open),
            Err(message) => {
                meta.respond("503 Service Unavailable", "Retry-After: 5\r\n", message.as_bytes())
            }
        };
        self.respond(conn, answer, meta.keep_alive)
    }

    fn exchange(
        &mut self,
        conn: Conn,
        meta: Meta,
        session: SessionKey,
        (body, behind): (Option<Body>, &[u8]),
    ) {
        self.exchanges = self.exchanges.wrapping_add(1);
        let number = self.exchanges;
        let behind = behind.into();
        let exchange = Exchange { number, meta, session, body, begun: false, behind };
        if let Some(row) = self.table.get(conn) {
            row.phase = Phase::Exchange(Box::new(exchange));
            self.wheel.disarm(conn.slot);
        }
    }

    fn tell(&mut self, conn: Conn, session: SessionKey, told: Told) {
        let Some(row) = self.table.get(conn) else { return };
        let Phase::Exchange(exchange) = &row.phase else { return };
        let from = Place { shard: self.mesh.index(), conn, exchange: exchange.number };
        let poll = Box::new(Poll { session, from, told });
        match self.whereabouts(session) {
            Some(shard) => self.out.push((shard, Envelope::Poll(poll))),
            None => {
                let polled = Polled { to: from, outcome: Outcome::Unknown };
                self.out.push((from.shard, Envelope::Polled(Box::new(polled))));
            }
        }
    }

    /// Bytes while a request is unanswered: of its body, or behind it.
    pub(super) fn on_exchange(&mut self, conn: Conn, bytes: &[u8]) {
        let Some(row) = self.table.get(conn) else { return };
        let Phase::Exchange(exchange) = &mut row.phase else { return };
        if exchange.body.is_some() {
            return self.on_body(conn, bytes);
        }
        exchange.behind.extend_from_slice(bytes);
        if exchange.behind.len() > PIPELINED_BYTES_MAX {
            self.close(conn.slot, Reason::Error);
        }
    }

    fn on_body(&mut self, conn: Conn, bytes: &[u8]) {
        let now_ms = self.now.ms();
        let Some(row) = self.table.get(conn) else { return };
        let Phase::Exchange(exchange) = &mut row.phase else { return };
        let Some(body) = &mut exchange.body else { return };
        let session = exchange.session;
        let begins = !std::mem::replace(&mut exchange.begun, true);
        let read = body.read(bytes);
        match read {
            Ok(used) if body.is_done() => {
                exchange.behind.extend_from_slice(&bytes[used..]);
                let body = exchange.body.take().map(Body::into_bytes).unwrap_or_default();
                self.wheel.disarm(conn.slot);
                self.tell(conn, session, Told::Post(Some(body.into_boxed_slice())));
            }
            Ok(_) if begins => {
                self.wheel.arm(conn.slot, now_ms.wrapping_add(BODY_MS));
                self.tell(conn, session, Told::PostBegins);
            }
            Ok(_) => {}
            Err(error) => {
                let meta = exchange.meta.clone();
                self.tell(conn, session, Told::PostRefused);
                self.refuse_body(conn, &meta, error);
            }
        }
    }

    /// A body that is not taken; the session is spared.
    fn refuse_body(&mut self, conn: Conn, meta: &Meta, error: BodyError) {
        self.cells.refused_request.add(1);
        let meta = meta.clone().closing();
        let status = match error {
            BodyError::TooLarge => "413 Content Too Large",
            BodyError::Malformed => "400 Bad Request",
        };
        if let Some(row) = self.table.get(conn) {
            row.phase = Phase::Request(Box::default());
        }
        self.refuse(conn.slot, meta.respond(status, "", b""));
    }

    /// The session has answered.
    pub(super) fn on_polled(&mut self, polled: Polled) {
        let conn = polled.to.conn;
        let Some(row) = self.table.get(conn) else { return };
        let Phase::Exchange(exchange) = &mut row.phase else { return };
        if exchange.number != polled.to.exchange {
            // It has been answered; this is another.
            return;
        }
        self.cells.polls_answered.add(1);
        let (meta, mut behind) = (exchange.meta.clone(), std::mem::take(&mut exchange.behind));
        let unread = exchange.body.is_some();
        let error = |code| request::error_body(code);
        let answer = match polled.outcome {
            Outcome::Packets(packets) => meta.respond("200 OK", TEXT, &packets),
            Outcome::Taken => meta.respond("200 OK", HTML, b"ok"),
            Outcome::Refused => meta.respond("400 Bad Request", "", b""),
            Outcome::Failed => meta.respond("500 Internal Server Error", "", b""),
            Outcome::Unknown => {
                meta.respond("400 Bad Request", JSON, &error(ErrorCode::SessionIdUnknown))
            }
            Outcome::Mismatch => {
                meta.respond("400 Bad Request", JSON, &error(ErrorCode::BadRequest))
            }
            Outcome::Cut => {
                row.phase = Phase::Request(Box::default());
                return self.close(conn.slot, Reason::Error);
            }
        };
        if self.respond(conn, answer, meta.keep_alive && !unread) && !behind.is_empty() {
            self.on_request(conn, &mut behind);
        }
    }

    /// Sends an answer; true if another request may follow. Whoever asks and does not read is
    /// closed, when it is owed as much as any connection may be.
    fn respond(&mut self, conn: Conn, answer: Vec<u8>, keep_alive: bool) -> bool {
        let Some(row) = self.table.get(conn) else { return false };
        row.phase = Phase::Request(Box::default());
        if !self.queue(conn.slot, Frame::from(answer), Class::Reply) {
            self.close(conn.slot, Reason::SlowConsumer);
            return false;
        }
        if keep_alive {
            self.wheel.arm(conn.slot, self.now.ms().wrapping_add(KEEP_ALIVE_MS));
        } else {
            self.close(conn.slot, Reason::Answered);
        }
        keep_alive
    }

    /// The connection of an unanswered request ends: tells the session.
    pub(super) fn abort_exchange(&mut self, slot: u32) {
        let conn = self.table.conn(slot);
        if let Some(row) = self.table.row(slot)
            && let Phase::Exchange(exchange) = &row.phase
        {
            let session = exchange.session;
            self.tell(conn, session, Told::Aborted);
        }
    }
}
