//! Proves that the ring moves bytes in order between real sockets, whatever the kernel's mood:
//! connects, echoes, exhausted buffers, a completion queue that overflows, partial sends.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use throng_ring::{Config, Conn, Event, Frame, Listener, Ring};

/// A ring that echoes whatever it receives, driven until `done` says so.
struct Echo {
    ring: Ring,
    addr: SocketAddr,
    queues: HashMap<Conn, Vec<Frame>>,
    closed: usize,
}

impl Echo {
    fn new(config: Config) -> Self {
        let mut ring = Ring::new(config).expect("a ring");
        let listener = Listener::bind(Some([127, 0, 0, 1].into()), 0).expect("a port");
        let addr = listener.local_addr().expect("an address");
        ring.listen(listener, config.accepts).expect("accepting");
        Self { ring, addr, queues: HashMap::new(), closed: 0 }
    }

    fn turn(&mut self) {
        let Self { ring, queues, closed, .. } = self;
        let mut ended = Vec::new();
        let mut ready = Vec::new();
        ring.park(Duration::from_millis(5), |event| match event {
            Event::Received { conn, bytes } => {
                queues.entry(conn).or_default().push(Frame::from(bytes.to_vec()));
                ready.push(conn);
            }
            Event::Sent { conn } => ready.push(conn),
            Event::Ended { conn, .. } | Event::SendFailed { conn, .. } => ended.push(conn),
            Event::Closed { .. } => *closed += 1,
            _ => {}
        })
        .expect("a turn");
        for conn in ready {
            let Some(queue) = queues.get_mut(&conn) else {
                continue;
            };
            let count = queue.len().min(throng_ring::FRAMES_PER_SEND_MAX);
            if ring.send(conn, queue.iter().take(count).cloned()).expect("a send") {
                queue.drain(..count);
            }
        }
        for conn in ended {
            ring.close(conn).expect("a close");
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done(self) {
            assert!(Instant::now() < deadline, "timed out: {what}");
            self.turn();
        }
    }
}

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31) ^ (i >> 8) ^ seed) as u8).collect()
}

/// Sends `bytes` on each of `clients` connections from other threads and checks the echo.
fn echo_all(config: Config, clients: usize, bytes: usize) -> Echo {
    let mut echo = Echo::new(config);
    let addr = echo.addr;
    let threads: Vec<_> = (0..clients)
        .map(|seed| {
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(addr).expect("a connection");
                let sent = pattern(seed, bytes);
                let mut writer = stream.try_clone().expect("a clone");
                let copy = sent.clone();
                let writing = std::thread::spawn(move || writer.write_all(&copy));
                let mut got = vec![0; bytes];
                stream.read_exact(&mut got).expect("the echo");
                writing.join().expect("writer").expect("a write");
                assert!(got == sent, "client {seed} got other bytes back");
                stream.shutdown(Shutdown::Both).expect("a shutdown");
            })
        })
        .collect();
    echo.until("all connections closed", |echo| echo.closed == clients);
    for thread in threads {
        thread.join().expect("a client");
    }
    assert_eq!(echo.ring.open_count(), 0);
    echo
}

#[test]
fn many_connections_echo_in_order() {
    echo_all(Config::default(), 50, 100_000);
}

#[test]
fn exhausted_buffers_are_refilled_and_receives_armed_again() {
    let config = Config { buffers: 2, buffer_bytes: 512, ..Config::default() };
    let echo = echo_all(config, 30, 50_000);
    assert!(echo.ring.counters().buffers_exhausted > 0, "the test never ran out of buffers");
}

#[test]
fn overflowing_completions_lose_nothing() {
    let config = Config { submissions: 4, completions: 8, accepts: 64, ..Config::default() };
    let echo = echo_all(config, 100, 20_000);
    assert!(echo.ring.counters().receives_rearmed > 0, "the test never overflowed");
}

#[test]
fn partial_sends_are_resumed() {
    let mut echo = Echo::new(Config { wait_all: false, ..Config::default() });
    let mut client = TcpStream::connect(echo.addr).expect("a connection");
    let sent = pattern(1, 32 << 20); // more than both ends' socket buffers hold
    let copy = sent.clone();
    let mut writer = client.try_clone().expect("a clone");
    let reading = std::thread::spawn(move || {
        std::thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&copy).expect("a write"));
            std::thread::sleep(Duration::from_millis(500));
            let mut got = vec![0; copy.len()];
            client.read_exact(&mut got).expect("the echo");
            got
        })
    });
    echo.until("the echo arrived", |_| reading.is_finished());
    assert!(reading.join().expect("the reader") == sent);
    assert!(echo.ring.counters().sends_resumed > 0, "no send was partial");
}

#[test]
fn one_flooding_socket_does_not_starve_the_others() {
    let config = Config { buffers: 16, buffer_bytes: 1024, ..Config::default() };
    let mut echo = Echo::new(config);
    let addr = echo.addr;
    let flood = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).expect("a connection");
        stream.set_write_timeout(Some(Duration::from_millis(200))).expect("an option");
        let chunk = [7; 65_536];
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until && stream.write(&chunk).is_ok() {}
    });
    let polite = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("an option");
        for round in 0..200u8 {
            stream.write_all(&[round; 16]).expect("a write");
            let mut got = [0; 16];
            stream.read_exact(&mut got).expect("an answer beside the flood");
            assert_eq!(got, [round; 16]);
        }
    });
    echo.until("the polite client finished", |_| polite.is_finished());
    polite.join().expect("the polite client");
    echo.until("the flood ended", |_| flood.is_finished());
}
