//! A blocking client, and what several of them hear.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use throng_protocol::ws::{Incoming, Limits, Opcode, Reader, Role, write_masked_frame};

use crate::recovery::SETTLED;
use crate::stage::ANSWER_MAX;

/// A client that speaks Socket.IO by hand. Pings are answered and not shown.
pub(crate) struct Client {
    stream: TcpStream,
    reader: Reader,
    pub(crate) inbox: VecDeque<String>,
    pub(crate) sid: String,
    /// What recovers its first socket, and how far that has read.
    pid: Value,
    offset: Value,
    acks: u64,
}

impl Client {
    /// A WebSocket session, not in any namespace.
    pub(crate) fn open(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(ANSWER_MAX)).expect("an option");
        stream.set_nodelay(true).expect("an option");
        let head = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: h\r\n\
                    Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("a write");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        let mut client = Self {
            stream,
            reader: Reader::default(),
            inbox: VecDeque::new(),
            sid: String::new(),
            pid: Value::Null,
            offset: Value::Null,
            acks: 0,
        };
        assert!(client.next().starts_with("0{"));
        client
    }

    pub(crate) fn connect(port: u16, auth: &Value) -> Self {
        let mut client = Self::open(port);
        client.sid = client.enter("/", auth);
        client
    }

    /// Breaks the connection; what it takes to come back.
    pub(crate) fn breaks(self) -> (String, Value) {
        (self.sid, json!({"pid": self.pid, "offset": self.offset}))
    }

    /// A client that was `(sid, what it takes)`, and what it had missed.
    pub(crate) fn returns(port: u16, (sid, auth): &(String, Value)) -> (Self, Vec<Value>) {
        let mut client = Self::open(port);
        client.send(&format!("40{auth}"));
        let mut missed = Vec::new();
        loop {
            let packet = client.next();
            if let Some(reply) = packet.strip_prefix("40") {
                let reply: Value = serde_json::from_str(reply).expect("JSON");
                assert_eq!(reply, json!({"sid": sid, "pid": auth["pid"]}), "it is recovered");
                (client.sid, client.pid) = (sid.clone(), auth["pid"].clone());
                return (client, missed);
            }
            let event = client.event(&packet);
            if event[0] != SETTLED {
                missed.push(event);
            }
        }
    }

    /// An event's name and arguments without its offset, which is kept.
    pub(crate) fn event(&mut self, packet: &str) -> Value {
        let event = packet.strip_prefix("42").unwrap_or_else(|| panic!("{packet}"));
        let mut event: Vec<Value> = serde_json::from_str(event).expect("JSON");
        self.offset = event.pop().expect("an offset");
        assert!(self.offset.is_string(), "{packet}");
        json!(event)
    }

    /// Enters a namespace; the socket's id there.
    pub(crate) fn enter(&mut self, namespace: &str, auth: &Value) -> String {
        let prefix = prefix(namespace);
        self.send(&format!("40{prefix}{auth}"));
        let reply = self.next();
        let reply = reply.strip_prefix(&format!("40{prefix}")).unwrap_or_else(|| panic!("{reply}"));
        let reply: Value = serde_json::from_str(reply).expect("JSON");
        if namespace == "/" {
            self.pid = reply["pid"].clone();
        }
        reply["sid"].as_str().expect("an id").to_owned()
    }

    pub(crate) fn send(&mut self, text: &str) {
        let mut frame = Vec::new();
        write_masked_frame(&mut frame, Opcode::Text, [1, 2, 3, 4], text.as_bytes());
        self.stream.write_all(&frame).expect("a write");
    }

    /// The next packet; binary as `b` and its bytes, the connection's end as `closed`.
    pub(crate) fn next(&mut self) -> String {
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            match self.inbox.pop_front() {
                Some(ping) if ping == "2" => self.send("3"),
                Some(packet) => return packet,
                None => self.receive(),
            }
            assert!(Instant::now() < deadline, "nothing came");
        }
    }

    fn receive(&mut self) {
        let mut bytes = [0; 1 << 16];
        let count = match self.stream.read(&mut bytes) {
            Ok(0) => return self.inbox.push_back("closed".into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return self.inbox.push_back("closed".into());
            }
            // The executors' timers.
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            Err(error) => panic!("{error}"),
        };
        let limits = Limits { message_bytes_max: 1 << 24, fragments_max: 1 };
        let Self { reader, inbox, .. } = self;
        let read = reader.read(Role::Client, &limits, None, &mut bytes[..count], |incoming| {
            match incoming {
                Incoming::Text(text) => inbox.push_back(text.to_owned()),
                Incoming::Binary(bytes) => inbox.push_back(format!("b{bytes:?}")),
                Incoming::Close(_) => inbox.push_back("closed".into()),
                Incoming::Ping(_) | Incoming::Pong(_) => {}
            }
            ControlFlow::Continue(())
        });
        read.expect("frames");
    }

    pub(crate) fn expect(&mut self, packet: &str) {
        assert_eq!(self.next(), packet);
    }

    /// Emits an event that is not answered.
    pub(crate) fn emit(&mut self, namespace: &str, name: &str, args: &[Value]) {
        let event = json!([[json!(name)].as_slice(), args].concat());
        self.send(&format!("42{}{event}", prefix(namespace)));
    }

    /// Emits one that is; the arguments of the answer. What comes before it is kept.
    pub(crate) fn ask_in(&mut self, namespace: &str, name: &str, args: &[Value]) -> Value {
        self.acks += 1;
        let (id, prefix) = (self.acks, prefix(namespace));
        let event = json!([[json!(name)].as_slice(), args].concat());
        self.send(&format!("42{prefix}{id}{event}"));
        let head = format!("43{prefix}{id}[");
        let mut before = VecDeque::new();
        let answer = loop {
            let packet = self.next();
            assert_ne!(packet, "closed", "before the answer to {event}");
            if packet.starts_with(&head) {
                break packet;
            }
            before.push_back(packet);
        };
        before.append(&mut self.inbox);
        self.inbox = before;
        serde_json::from_str(&answer[head.len() - 1..]).expect("JSON")
    }

    pub(crate) fn ask(&mut self, name: &str, args: &[Value]) -> Value {
        self.ask_in("/", name, args)
    }

    pub(crate) fn join(&mut self, room: &str) {
        self.join_in("/", room);
    }

    pub(crate) fn join_in(&mut self, namespace: &str, room: &str) {
        assert_eq!(self.ask_in(namespace, "join", &[json!(room)]), json!([]), "{room}");
    }

    pub(crate) fn order(&mut self, order: Value) {
        self.emit("/", "order", &[order]);
    }

    /// Waits until it is in exactly these rooms.
    pub(crate) fn until_in(&mut self, rooms: &[&str]) {
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            let told = self.ask("rooms", &[]);
            if told == json!([rooms]) {
                return;
            }
            assert!(Instant::now() < deadline, "in {told}, not in {rooms:?}");
            sleep(Duration::from_millis(5));
        }
    }
}

/// How packets of a namespace begin, behind their type.
pub(crate) fn prefix(namespace: &str) -> String {
    if namespace == "/" { String::new() } else { format!("{namespace},") }
}

pub(crate) fn emission(to: &[&str], except: &[&str], args: Value) -> Value {
    json!({"to": to, "except": except, "verb": "emit", "what": "x", "args": args})
}

/// Who of the clients, by number, has heard what, after the first of them had each order carried
/// out. What an order says goes by way of its first room, and so does what ends it.
pub(crate) fn heard(clients: &mut [Client], orders: &[Value]) -> Vec<Vec<usize>> {
    let sids: Vec<_> = clients.iter().map(|client| client.sid.clone()).collect();
    let mut all = Vec::new();
    for order in orders {
        let mut order = order.clone();
        order["verb"] = json!("emit");
        order["what"] = json!("x");
        let mut end = json!({"verb": "emit", "what": "end"});
        if let Some(first) = order["to"].get(0) {
            let mut to = vec![first.clone()];
            to.extend(sids.iter().map(|sid| json!(sid)));
            end["to"] = json!(to);
        }
        clients[0].order(order);
        clients[0].order(end);
        let mut who = Vec::new();
        for (number, client) in clients.iter_mut().enumerate() {
            loop {
                match &*client.next() {
                    r#"42["x"]"# => who.push(number),
                    r#"42["end"]"# => break,
                    other => panic!("client {number} got {other}"),
                }
            }
        }
        all.push(who);
    }
    all
}
