//! What the server says, and what a client answers.

use std::ops::ControlFlow;

use serde::Deserialize;
use throng_protocol::ws::{Incoming, Limits, Role};
use throng_ring::Conn;

use super::{Core, Stage};
use crate::checks::Fault;
use crate::dialect::{self, Heard, Protocol, last_number, seq_before};
use crate::stamp::Stamp;

/// What a server may send; more than any sends in order.
const LIMITS: Limits = Limits { message_bytes_max: 64 << 20, fragments_max: 1 << 16 };
/// Bytes of the upgrade's answer.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The answer to a join that told the last message seen.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Joined {
    last_seq: u32,
    complete: bool,
    messages: Vec<Missed>,
}

#[derive(Deserialize)]
struct Missed {
    seq: u32,
}

impl Core {
    pub(super) fn on_received(&mut self, conn: Conn, bytes: &mut [u8]) {
        self.visible.cells.bytes_in.add(bytes.len() as u64);
        let Some(row) = self.row(conn) else { return };
        if matches!(row.stage, Stage::Vacant | Stage::Closing) {
            return;
        }
        if row.stage == Stage::Upgrading {
            return self.on_head(conn, bytes);
        }
        self.on_frames(conn, bytes);
    }

    /// The answer to the upgrade, and what comes behind it.
    fn on_head(&mut self, conn: Conn, bytes: &[u8]) {
        let Some(row) = self.row(conn) else { return };
        row.head.extend_from_slice(bytes);
        let Some(end) = memchr::memmem::find(&row.head, b"\r\n\r\n") else {
            if row.head.len() > HEAD_BYTES_MAX {
                self.on_ended(conn);
            }
            return;
        };
        let mut head = std::mem::take(&mut row.head);
        if !head.starts_with(b"HTTP/1.1 101") {
            let status = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
            self.blame(&String::from_utf8_lossy(status));
            return self.on_ended(conn);
        }
        row.stage = Stage::Opening;
        let client = row.client;
        match self.shared.dialect.protocol {
            Protocol::Socketio => {}
            Protocol::Ws => self.introduce(conn.slot, client),
            Protocol::Plain => self.on_ready(conn.slot),
        }
        self.on_frames(conn, &mut head[end + 4..]);
    }

    fn on_frames(&mut self, conn: Conn, bytes: &mut [u8]) {
        let Some(row) = self.row(conn) else { return };
        let mut reader = std::mem::take(&mut row.reader);
        let mut is_open = true;
        let read = reader.read(Role::Client, &LIMITS, None, bytes, |incoming| {
            is_open = self.on_message(conn, incoming);
            if is_open { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if read.is_err() || !is_open {
            return self.on_ended(conn);
        }
        if let Some(row) = self.row(conn) {
            row.reader = reader;
        }
    }

    /// False when the connection has come to its end.
    fn on_message(&mut self, conn: Conn, incoming: Incoming<'_>) -> bool {
        let text = match incoming {
            Incoming::Text(text) => text,
            Incoming::Ping(payload) => {
                self.visible.cells.pings.add(1);
                self.say(conn.slot, dialect::pong_frame(payload).into());
                return true;
            }
            Incoming::Close(_) => return false,
            _ => return true,
        };
        let Some(row) = self.row(conn) else { return false };
        let (client, stage) = (row.client, row.stage);
        match self.shared.dialect.hear(text) {
            Heard::Message(text) if stage == Stage::Ready => self.on_room_message(client, text),
            Heard::Message(text) if stage == Stage::Joining => self.keep_early(conn, text),
            Heard::Message(_) => {} // on its way when the client left
            Heard::Ping => {
                self.visible.cells.pings.add(1);
                self.say(conn.slot, self.pong.clone());
            }
            Heard::Presence => self.visible.cells.presence.add(1),
            Heard::Typing => self.visible.cells.typing.add(1),
            Heard::Opened => self.introduce(conn.slot, client),
            Heard::Connected => self.join(conn.slot, client),
            Heard::Refused => {
                self.blame(text);
                return false;
            }
            Heard::Answer(dialect::JOIN, answer) if stage == Stage::Joining => {
                return self.on_joined(conn.slot, client, answer);
            }
            Heard::Answer(id, answer) => self.on_answer(client, id, answer),
            Heard::Other => {}
        }
        true
    }

    fn introduce(&mut self, slot: u32, client: u32) {
        self.enter_stage(slot, Stage::Naming);
        let name = format!("u{}", self.global(client));
        let connect = self.shared.dialect.connect(&name);
        self.say_text(slot, &connect);
    }

    /// Asks to be in its room, and for what it has missed of it.
    pub(super) fn join(&mut self, slot: u32, client: u32) {
        self.enter_stage(slot, Stage::Joining);
        let since = self.clients[client as usize].receiver.last_seq();
        let presence = self.ascent.wants_presence();
        let join = self.shared.dialect.join(self.room_of(client), since, presence);
        self.say_text(slot, &join);
    }

    pub(super) fn enter_stage(&mut self, slot: u32, stage: Stage) {
        if let Some(row) = self.rows.get_mut(slot) {
            row.stage = stage;
        }
    }

    /// False where the join was refused.
    fn on_joined(&mut self, slot: u32, client: u32, answer: &str) -> bool {
        if !answer.contains(r#""ok":true"#) {
            self.blame(answer);
            return false;
        }
        let receiver = &mut self.clients[client as usize].receiver;
        match receiver.last_seq() {
            None => {
                if let Some(last) = last_number(answer, r#""lastSeq":"#) {
                    receiver.begin_after(last);
                }
            }
            Some(_) => self.on_rejoined(client, answer),
        }
        self.check_early(slot, client);
        self.on_ready(slot);
        true
    }

    /// What a room says to one whose answer is still on its way comes before that answer.
    fn keep_early(&mut self, conn: Conn, text: &str) {
        if let (Some(seq), Some(row)) = (seq_before(text.as_bytes()), self.row(conn)) {
            row.early.push(seq);
        }
    }

    /// Some of it may be in the answer as well.
    fn check_early(&mut self, slot: u32, client: u32) {
        let Some(row) = self.rows.get_mut(slot) else { return };
        for seq in std::mem::take(&mut row.early) {
            let receiver = &mut self.clients[client as usize].receiver;
            if receiver.last_seq().is_none_or(|last| seq > last) {
                let fault = receiver.note_seq(seq);
                self.count(fault);
            }
        }
    }

    /// Checks that the answer brings all that was said since.
    fn on_rejoined(&mut self, client: u32, answer: &str) {
        let object = answer.trim_start_matches('[').trim_end_matches(']');
        let data =
            object.find(r#""data":"#).map_or(object, |at| object[at + 7..].trim_end_matches('}'));
        let closed = if data.len() < object.len() { format!("{data}}}") } else { data.to_owned() };
        let Ok(joined) = serde_json::from_str::<Joined>(&closed) else {
            return self.visible.cells.errors.add(1);
        };
        let mut receiver = self.clients[client as usize].receiver;
        let since = receiver.last_seq().unwrap_or(0);
        if !joined.complete {
            let missing = joined.last_seq.saturating_sub(since) as usize;
            self.visible.cells.announced.add(missing.saturating_sub(joined.messages.len()) as u64);
            receiver.begin_after(joined.messages.first().map_or(joined.last_seq, |it| it.seq - 1));
        }
        for missed in &joined.messages {
            let fault = receiver.note_seq(missed.seq);
            self.count(fault);
        }
        if receiver.last_seq().is_some_and(|last| last < joined.last_seq) {
            let gap = u64::from(joined.last_seq - receiver.last_seq().unwrap_or(0));
            self.visible.cells.gaps.add(gap);
            receiver.begin_after(joined.last_seq);
        }
        self.clients[client as usize].receiver = receiver;
    }

    fn on_answer(&mut self, client: u32, id: u8, answer: &str) {
        self.visible.cells.acks.add(1);
        if !answer.contains(r#""ok":true"#) {
            if answer.contains(r#""rate_limited""#) {
                return self.visible.cells.limited.add(1);
            }
            self.visible.cells.errors.add(1);
            return self.blame(answer);
        }
        if id == dialect::MESSAGE
            && let Some(seq) = seq_before(answer.as_bytes())
        {
            self.shared.board.note_seq(self.room_of(client), seq);
        }
    }

    /// A message has come to a client that is in its room.
    fn on_room_message(&mut self, client: u32, text: &str) {
        let room = self.room_of(client);
        let found = Stamp::find(text.as_bytes()).filter(|(_, stamp)| stamp.room == room);
        let Some((at, stamp)) = found else { return self.visible.cells.foreign.add(1) };
        let receiver = &mut self.clients[client as usize].receiver;
        let fault = match seq_before(&text.as_bytes()[..at]) {
            Some(seq) => receiver.note_seq(seq),
            None => receiver.note_number(stamp.number),
        };
        self.visible.cells.delivered.add(1);
        let now_ns = self.shared.clock.now();
        if stamp.due_ns >= self.loading.counted_from_ns {
            self.times.latency.note_ns(now_ns.saturating_sub(stamp.due_ns));
        }
        self.count(fault);
        if !fault.duplicate
            && self.loading.is_closed_loop()
            && self.shared.board.arrived(room, stamp.number)
        {
            self.send_next(client);
        }
    }

    fn count(&mut self, fault: Fault) {
        if fault == Fault::default() {
            return;
        }
        let cells = &self.visible.cells;
        cells.gaps.add(fault.gap);
        cells.duplicates.add(fault.duplicate.into());
        cells.reordered.add(fault.reordered.into());
    }

    /// Counts what clients lack of the messages that were acknowledged to their senders.
    pub(super) fn check_tails(&mut self) {
        for client in 0..self.clients.len() as u32 {
            let it = self.clients[client as usize];
            let last = self.shared.board.last_seq(self.room_of(client));
            if it.slot.is_some()
                && let Some(seq) = it.receiver.last_seq()
            {
                self.visible.cells.gaps.add(last.saturating_sub(seq).into());
            }
        }
    }
}
