//! Sessions whose clients poll: they have a row but no connection, and speak when they are asked.
//!
//! One GET and one POST at a time; whatever breaks that ends the session, as in Node's server. All
//! requests come as envelopes, from this shard's connections too.

use std::mem;

use throng_protocol::engineio::{
    CLOSE, Heartbeat, NOOP, PayloadError, PayloadLimits, Record, decode_payload,
    write_binary_packet, write_separator, write_text_packet,
};
use throng_protocol::ws::{Opcode, server_frames};

use super::Core;
use super::packets::Halt;
use crate::app::{App, Connect, Envelope, Ghost, Outcome, Place, Poll, Polled, Protocol, Told};
use crate::close::Reason;
use crate::codec;
use crate::ids::SessionKey;
use crate::limiter::{IpKey, Refused};
use crate::limits::{
    LAST_WORDS_MS, NOOP_INTERVAL_MS, POLL_BYTES_MAX, POLL_PACKETS_MAX, POST_PACKETS_MAX,
    TOMBSTONE_MS,
};
use crate::outbox::Class;
use crate::table::{Link, Phase, Polling};

impl<A: App> Core<A> {
    /// Begins a session; the packet that says so, or why not.
    pub(super) fn begin_polling(
        &mut self,
        ip: IpKey,
        protocol: Protocol,
    ) -> Result<Vec<u8>, &'static str> {
        if let Err(refused) = self.limiter.admit_session(ip) {
            self.limiter.release_session(ip);
            return Err(match refused {
                Refused::Full => {
                    self.cells.refused_full.add(1);
                    "the server is full"
                }
                Refused::Ip => {
                    self.cells.refused_ip.add(1);
                    "too many sessions from your address"
                }
            });
        }
        let now_ms = self.now.ms();
        let heartbeat = Heartbeat::new(now_ms, self.first_ping_ms());
        let link =
            Link::new(protocol, heartbeat, now_ms.wrapping_add(self.bounds.connect_timeout_ms));
        let Some(key) = self.place_polling(ip, link, None) else {
            self.limiter.release_session(ip);
            return Err("the server is full");
        };
        let timing = self.bounds.timing;
        let times = (timing.ping_interval_ms.into(), timing.ping_timeout_ms.into());
        let sid = self.seal.session_id(key);
        Ok(codec::open_text(&sid, &["websocket"], times, self.config.payload_bytes_max))
    }

    /// Gives a session a row; under its own key if it comes from another shard.
    fn place_polling(
        &mut self,
        ip: IpKey,
        link: Link<A>,
        key: Option<SessionKey>,
    ) -> Option<SessionKey> {
        let (slot, serial) = self.table.open_session(ip)?;
        let shard = self.mesh.index();
        let key = match key {
            Some(key) => {
                self.guests.insert(key, slot);
                key
            }
            None => SessionKey { shard, slot, serial },
        };
        let polling = Polling {
            link,
            key,
            get: None,
            post: None,
            probe: None,
            upgrading: false,
            noop_at_ms: None,
            ended_until_ms: None,
            last_post: None,
            held: None,
        };
        if let Some(row) = self.table.row(slot) {
            row.phase = Phase::Polling(Box::new(polling));
        }
        self.cells.sessions_polling.add(1);
        self.sessions_churn += 1;
        self.arm(slot);
        Some(key)
    }

    /// The shard that knows where a session is: this one, or the one it began on.
    pub(super) fn whereabouts(&mut self, key: SessionKey) -> Option<u16> {
        if self.guests.contains_key(&key) {
            return Some(self.mesh.index());
        }
        if key.shard != self.mesh.index() {
            return (key.shard < self.mesh.shards()).then_some(key.shard);
        }
        let row = self.table.row(key.slot)?;
        match row.phase {
            _ if row.generation != key.serial => None,
            Phase::Elsewhere(shard) => Some(shard),
            _ => Some(key.shard),
        }
    }

    /// The row of a session that is on this shard.
    pub(super) fn session_slot(&mut self, key: SessionKey) -> Option<u32> {
        if let Some(&slot) = self.guests.get(&key) {
            return Some(slot);
        }
        let row = self.table.row(key.slot)?;
        (key.shard == self.mesh.index() && row.generation == key.serial).then_some(key.slot)
    }

    pub(super) fn polling(&mut self, slot: u32) -> Option<&mut Polling<A>> {
        match &mut self.table.row(slot)?.phase {
            Phase::Polling(polling) => Some(polling),
            _ => None,
        }
    }

    /// Says what becomes of a polling client's request.
    pub(super) fn answer(&mut self, to: Place, outcome: Outcome) {
        let polled = Box::new(Polled { to, outcome });
        self.out.push((to.shard, Envelope::Polled(polled)));
    }

    /// A request for a session.
    pub(super) fn on_poll(&mut self, poll: Box<Poll>) {
        match self.whereabouts(poll.session) {
            Some(shard) if shard != self.mesh.index() => {
                return self.out.push((shard, Envelope::Poll(poll)));
            }
            Some(_) => {}
            None => return self.answer_unless_gone(&poll, Outcome::Unknown),
        }
        let Some(slot) = self.session_slot(poll.session) else { return };
        let Some(polling) = self.polling(slot) else {
            // It is, or has become, a WebSocket.
            return self.answer_unless_gone(&poll, Outcome::Mismatch);
        };
        let ended = polling.ended_until_ms.is_some();
        match poll.told {
            Told::Get => self.on_get(slot, poll.from),
            Told::Aborted | Told::PostRefused if ended => {}
            _ if ended => self.answer(poll.from, Outcome::Unknown),
            Told::PostBegins => self.on_post_begins(slot, poll.from),
            Told::Post(body) => self.on_post(slot, poll.from, body),
            Told::PostRefused => polling.post = polling.post.filter(|post| *post != poll.from),
            Told::Aborted => {
                if polling.get == Some(poll.from) || polling.post == Some(poll.from) {
                    self.close(slot, Reason::Error);
                }
            }
            Told::Other => self.answer(poll.from, Outcome::Failed),
        }
    }

    fn answer_unless_gone(&mut self, poll: &Poll, outcome: Outcome) {
        if matches!(poll.told, Told::Get | Told::Post(_) | Told::Other) {
            self.answer(poll.from, outcome);
        }
    }

    fn on_get(&mut self, slot: u32, from: Place) {
        let now_ms = self.now.ms();
        let Some(polling) = self.polling(slot) else { return };
        if let Some(first) = polling.get.take() {
            self.answer(from, Outcome::Refused);
            self.answer(first, Outcome::Packets(CLOSE.into()));
            return self.close(slot, Reason::Error);
        }
        polling.get = Some(from);
        if polling.upgrading {
            // Its client shall come over: nothing is worth waiting for here.
            let due_ms = polling.noop_at_ms.unwrap_or(now_ms);
            polling.noop_at_ms = Some(due_ms);
            self.wheel.arm(slot, due_ms);
        }
        self.table.mark(slot);
    }

    fn on_post_begins(&mut self, slot: u32, from: Place) {
        let Some(polling) = self.polling(slot) else { return };
        match polling.post {
            None => polling.post = Some(from),
            // Its head came, then the first bytes of its body.
            Some(first) if first == from => {}
            Some(first) => {
                self.answer(from, Outcome::Refused);
                self.answer(first, Outcome::Cut);
                self.close(slot, Reason::Error);
            }
        }
    }

    fn on_post(&mut self, slot: u32, from: Place, body: Option<Box<[u8]>>) {
        let Some(polling) = self.polling(slot) else { return };
        if polling.post.is_some_and(|post| post != from) {
            return self.on_post_begins(slot, from);
        }
        polling.post = None;
        let Some(body) = body else {
            self.answer(from, Outcome::Refused);
            return self.close(slot, Reason::Error);
        };
        self.on_payload(slot, &body);
        match self.polling(slot) {
            Some(polling) if polling.ended_until_ms.is_some() => polling.last_post = Some(from),
            _ => self.answer(from, Outcome::Taken),
        }
    }

    /// Packets of the client.
    fn on_payload(&mut self, slot: u32, body: &[u8]) {
        let Some(row) = self.table.row(slot) else { return };
        let Phase::Polling(mut polling) = mem::replace(&mut row.phase, Phase::Vacant) else {
            return;
        };
        let mut halt = match &mut polling.held {
            Some(held) => self.hold(&mut held.records, body),
            None => self.read_records(slot, &mut polling.link, body),
        };
        if polling.probe.is_some()
            && let Some(Halt::Claim { .. }) = &halt
            && let Some(Halt::Claim { connect, .. }) = halt.take()
        {
            // It moves when its transport is settled.
            polling.held = Some(connect);
        }
        if let Some(row) = self.table.row(slot)
            && matches!(row.phase, Phase::Vacant)
        {
            row.phase = Phase::Polling(polling);
        }
        self.settle_session(slot, halt);
    }

    /// Keeps packets until the CONNECT before them has been dealt with.
    fn hold(&self, held: &mut Vec<u8>, body: &[u8]) -> Option<Halt> {
        if !held.is_empty() {
            write_separator(held);
        }
        held.extend_from_slice(body);
        let too_many = held.len() > self.config.payload_bytes_max;
        too_many.then_some(Halt::Close(Reason::BadPacket))
    }

    /// Reads a payload, as far as nothing stops that; a CONNECT that does takes the rest along.
    fn read_records(&mut self, slot: u32, link: &mut Link<A>, body: &[u8]) -> Option<Halt> {
        let record_bytes_max = self.config.payload_bytes_max;
        let limits = PayloadLimits { records_max: POST_PACKETS_MAX, record_bytes_max };
        let mut records = decode_payload(body, &limits);
        while let Some(record) = records.next() {
            self.cells.packets_received.add(1);
            let halt = match record {
                Ok(Record::Text(text)) => self.on_packet(slot, link, text),
                Ok(Record::Binary(bytes)) => self.on_binary(slot, link, &bytes),
                Err(_) => Some(Halt::Close(Reason::BadPacket)),
            };
            match halt {
                Some(Halt::Claim { shard, mut connect }) => {
                    connect.records = rewritten(records);
                    return Some(Halt::Claim { shard, connect });
                }
                Some(halt) => return Some(halt),
                None => {}
            }
        }
        None
    }

    /// What follows from a session's packets.
    fn settle_session(&mut self, slot: u32, halt: Option<Halt>) {
        match halt {
            Some(Halt::Close(reason)) => self.close(slot, reason),
            Some(Halt::Claim { shard, connect }) => match self.polling(slot) {
                Some(_) => self.send_ghost(slot, shard, connect),
                None => self.send_live(slot, shard, connect, Vec::new()),
            },
            None => self.arm(slot),
        }
    }

    /// Answers the poll that waits, if there is something to say.
    pub(super) fn flush_polling(&mut self, slot: u32) {
        let Some(polling) = self.polling(slot) else { return };
        let Some(get) = polling.get else { return };
        let ended = polling.ended_until_ms.is_some();
        // What a client missed and the answer to its CONNECT belong together: it does not count
        // what it has read until it is connected. Only clients without a bound recover.
        let packets_max = match polling.link.takes_many() {
            true => usize::MAX,
            false => POLL_PACKETS_MAX,
        };
        let mut body = Vec::new();
        let mut packets = 0;
        while let Some(frame) = self.table.first_frame(slot) {
            let more = server_frames(frame).count();
            let full = packets + more > packets_max || body.len() > POLL_BYTES_MAX;
            if packets > 0 && full {
                break;
            }
            let Some(frame) = self.table.pop_frame(slot) else { break };
            packets += more;
            push_frames(&mut body, &frame);
        }
        if body.is_empty() {
            return;
        }
        self.cells.frames_sent.add(packets as u64);
        let more = self.table.first_frame(slot).is_some();
        if let Some(polling) = self.polling(slot) {
            polling.get = None;
        }
        self.answer(get, Outcome::Packets(body));
        if ended && !more {
            self.remove_session(slot);
        }
    }

    /// Lets the poll that waits go, for nothing.
    pub(super) fn answer_noop(&mut self, slot: u32) {
        let next = self.now.ms().wrapping_add(NOOP_INTERVAL_MS);
        let Some(polling) = self.polling(slot) else { return };
        polling.noop_at_ms = Some(next);
        if let Some(get) = polling.get.take() {
            self.answer(get, Outcome::Packets(NOOP.into()));
        }
    }

    /// Ends a polling session. What its client is told last, it fetches with its next poll.
    pub(super) fn end_polling(&mut self, slot: u32, reason: Reason) {
        let now_ms = self.now.ms();
        let Some(polling) = self.polling(slot) else { return };
        let (held, probe) = (polling.get.is_some(), polling.probe.take());
        let (last, wait_ms) = match reason {
            Reason::Peer => (NOOP, TOMBSTONE_MS),
            reason if reason.is_deliberate() => (CLOSE, LAST_WORDS_MS),
            _ => (CLOSE, 0),
        };
        polling.ended_until_ms = Some(now_ms.wrapping_add(wait_ms));
        if let Some(probe) = probe {
            self.close(probe.slot, Reason::Refused);
        }
        if reason == Reason::Peer {
            self.table.drop_waiting(slot);
        }
        self.queue(slot, codec::text_frame(last.as_bytes()), Class::Control);
        // The last word may not fit into the poll that waits.
        self.wheel.arm(slot, now_ms.wrapping_add(wait_ms.max(TOMBSTONE_MS)));
        if held {
            self.flush_polling(slot);
        } else if wait_ms == 0 {
            self.remove_session(slot);
        }
    }

    /// Frees the row of a polling session that has ended.
    pub(super) fn remove_session(&mut self, slot: u32) {
        let Some(polling) = self.polling(slot) else { return };
        let key = polling.key;
        let (get, post) = (polling.get, polling.last_post);
        if let Some(get) = get {
            self.answer(get, Outcome::Unknown);
        }
        if let Some(post) = post {
            self.answer(post, Outcome::Taken);
        }
        let Some(ip) = self.table.row(slot).map(|row| row.ip) else { return };
        self.limiter.release_session(ip);
        self.cells.sessions_polling.sub(1);
        self.free_session(slot, key);
    }

    /// Frees a session's row, and what the shard it came from keeps of it.
    pub(super) fn free_session(&mut self, slot: u32, key: SessionKey) {
        self.sessions_churn += 1;
        self.wheel.disarm(slot);
        self.table.close_session(slot);
        if self.guests.remove(&key).is_some() {
            self.out.push((key.shard, Envelope::Forget(key)));
        }
    }

    /// A session that moved away has ended.
    pub(super) fn on_forget(&mut self, key: SessionKey) {
        if let Some(row) = self.table.row(key.slot)
            && row.generation == key.serial
            && matches!(row.phase, Phase::Elsewhere(_))
        {
            self.table.close_session(key.slot);
        }
    }

    /// Sends a session to the shard where one of its sockets can be recovered.
    fn send_ghost(&mut self, slot: u32, shard: u16, connect: Connect) {
        let Some(row) = self.table.row(slot) else { return };
        let ip = row.ip;
        let Phase::Polling(polling) = mem::replace(&mut row.phase, Phase::Elsewhere(shard)) else {
            return;
        };
        let Polling { link, key, get, post, .. } = *polling;
        let mut frames: Vec<Box<[u8]>> = Vec::new();
        while let Some(frame) = self.table.pop_frame(slot) {
            frames.push((*frame).into());
        }
        let ghost = Ghost { key, ip, begun: link.into_begun(), get, post, frames, connect };
        self.wheel.disarm(slot);
        self.cells.sessions_polling.sub(1);
        self.cells.moved_out.add(1);
        self.out.push((shard, Envelope::Rehome(Box::new(ghost))));
    }

    /// A session comes from another shard, to recover a socket here.
    pub(super) fn on_rehome(&mut self, ghost: Ghost) {
        let link = Link::from_begun(ghost.begun);
        if self.place_polling(ghost.ip, link, Some(ghost.key)).is_none() {
            self.limiter.release_session(ghost.ip);
            if let Some(get) = ghost.get {
                self.answer(get, Outcome::Unknown);
            }
            return self.out.push((ghost.key.shard, Envelope::Forget(ghost.key)));
        }
        self.cells.moved_in.add(1);
        let Some(slot) = self.session_slot(ghost.key) else { return };
        for frame in ghost.frames {
            self.queue(slot, throng_ring::Frame::new(frame), Class::Reply);
        }
        if let Some(polling) = self.polling(slot) {
            (polling.get, polling.post) = (ghost.get, ghost.post);
        }
        self.connect_held(slot, ghost.connect);
        self.table.mark(slot);
    }

    /// Lets a session connect with a CONNECT that has waited, and reads what came behind it.
    pub(super) fn connect_held(&mut self, slot: u32, connect: Connect) {
        let Some(row) = self.table.row(slot) else { return };
        if matches!(&row.phase, Phase::Polling(polling) if polling.ended_until_ms.is_some()) {
            return;
        }
        let mut phase = mem::replace(&mut row.phase, Phase::Vacant);
        let halt = match &mut phase {
            Phase::Polling(polling) => self.connect_link(slot, &mut polling.link, connect),
            Phase::Live(live) => self.connect_link(slot, &mut live.link, connect),
            _ => None,
        };
        if let Some(row) = self.table.row(slot) {
            row.phase = phase;
        }
        self.settle_session(slot, halt);
    }

    fn connect_link(&mut self, slot: u32, link: &mut Link<A>, connect: Connect) -> Option<Halt> {
        let Connect { namespace, auth, records } = connect;
        match self.on_connect(slot, link, &namespace, &auth) {
            Some(Halt::Claim { shard, mut connect }) => {
                connect.records = records;
                Some(Halt::Claim { shard, connect })
            }
            None if !records.is_empty() => self.read_records(slot, link, &records),
            halt => halt,
        }
    }
}

/// WebSocket frames of this side as records of a payload.
fn push_frames(body: &mut Vec<u8>, frame: &[u8]) {
    for (opcode, payload) in server_frames(frame) {
        if !body.is_empty() {
            write_separator(body);
        }
        match opcode {
            Opcode::Binary => write_binary_packet(body, payload),
            _ => write_text_packet(body, payload),
        }
    }
}

/// Records as the payload they came from; a bad one as one that is bad for certain.
fn rewritten<'a>(records: impl Iterator<Item = Result<Record<'a>, PayloadError>>) -> Vec<u8> {
    let mut body = Vec::new();
    for record in records {
        if !body.is_empty() {
            write_separator(&mut body);
        }
        match record {
            Ok(Record::Text(text)) => write_text_packet(&mut body, text.as_bytes()),
            Ok(Record::Binary(bytes)) => write_binary_packet(&mut body, &bytes),
            Err(_) => write_text_packet(&mut body, b"?"),
        }
    }
    body
}
