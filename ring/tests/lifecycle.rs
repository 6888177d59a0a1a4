//! Proves that slots come and go cleanly: close with operations in flight, stale handles, full
//! tables, hand-over to a normal descriptor, wake-ups, connecting out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use throng_ring::{Bed, Config, Conn, Event, Frame, Listener, Ring};

fn listening(config: Config) -> (Ring, SocketAddr) {
    let mut ring = Ring::new(config).expect("a ring");
    let listener = Listener::bind(None, 0).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    ring.listen(listener, config.accepts).expect("accepting");
    (ring, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Drives the ring until `take` returns something for an event.
fn wait<T>(ring: &mut Ring, mut take: impl FnMut(Event<'_>) -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut found = None;
    while found.is_none() {
        assert!(Instant::now() < deadline, "the event never came");
        ring.park(Duration::from_millis(5), |event| {
            if found.is_none() {
                found = take(event);
            }
        })
        .expect("a turn");
    }
    found.expect("just found")
}

fn accepted(event: Event<'_>) -> Option<(Conn, SocketAddr)> {
    match event {
        Event::Accepted { conn, peer } => Some((conn, peer)),
        _ => None,
    }
}

fn closed(conn: Conn) -> impl FnMut(Event<'_>) -> Option<()> {
    move |event| matches!(event, Event::Closed { conn: it } if it == conn).then_some(())
}

#[test]
fn peers_of_a_dual_stack_listener_are_ipv4() {
    let (mut ring, addr) = listening(Config::default());
    let client = TcpStream::connect(addr).expect("a connection");
    let (_, peer) = wait(&mut ring, accepted);
    assert_eq!(peer, client.local_addr().expect("an address"));
}

#[test]
fn closing_cancels_a_send_that_the_peer_does_not_read() {
    let (mut ring, addr) = listening(Config::default());
    let client = TcpStream::connect(addr).expect("a connection");
    let (conn, _) = wait(&mut ring, accepted);
    assert!(ring.send(conn, [Frame::from(vec![0; 64 << 20])]).expect("a send"));
    assert!(!ring.send(conn, [Frame::from(vec![0; 1])]).expect("a second send is refused"));
    ring.close(conn).expect("a close");
    wait(&mut ring, closed(conn));
    assert_eq!(ring.open_count(), 0);
    drop(client);
}

#[test]
fn a_recycled_slot_is_another_connection() {
    let (mut ring, addr) = listening(Config { slots: 1, ..Config::default() });
    let first_client = TcpStream::connect(addr).expect("a connection");
    let (first, _) = wait(&mut ring, accepted);
    ring.close(first).expect("a close");
    wait(&mut ring, closed(first));
    drop(first_client);
    let mut second_client = TcpStream::connect(addr).expect("a connection");
    let (second, _) = wait(&mut ring, accepted);
    assert_eq!(first.slot, second.slot);
    assert_ne!(first, second);
    assert!(!ring.send(first, [Frame::from(vec![1])]).expect("stale handles do nothing"));
    ring.close(first).expect("stale handles do nothing");
    assert!(ring.send(second, [Frame::from(b"hi".to_vec())]).expect("a send"));
    ring.drive(|_| {}).expect("a turn");
    let mut got = [0; 2];
    second_client.read_exact(&mut got).expect("bytes");
    assert_eq!(&got, b"hi");
}

#[test]
fn a_full_table_refuses_and_recovers() {
    let (mut ring, addr) = listening(Config { slots: 2, accepts: 4, ..Config::default() });
    let _one = TcpStream::connect(addr).expect("a connection");
    let (first, _) = wait(&mut ring, accepted);
    let _two = TcpStream::connect(addr).expect("a connection");
    wait(&mut ring, accepted);
    let mut third = TcpStream::connect(addr).expect("the kernel completes the handshake");
    wait(&mut ring, |event| matches!(event, Event::AcceptFailed(_)).then_some(()));
    assert_eq!(third.read(&mut [0]).unwrap_or(0), 0, "the refused one is closed");
    ring.close(first).expect("a close");
    wait(&mut ring, closed(first));
    let _four = TcpStream::connect(addr).expect("a connection");
    wait(&mut ring, accepted);
}

#[test]
fn hand_over_keeps_the_connection_and_its_bytes() {
    let (mut ring, addr) = listening(Config::default());
    let mut client = TcpStream::connect(addr).expect("a connection");
    let (conn, _) = wait(&mut ring, accepted);
    client.write_all(b"before").expect("a write");
    let mut seen = Vec::new();
    wait(&mut ring, |event| match event {
        Event::Received { bytes, .. } => {
            seen.extend_from_slice(bytes);
            (seen.len() == 6).then_some(())
        }
        _ => None,
    });
    ring.hand_over(conn).expect("a hand-over");
    let fd: OwnedFd = wait(&mut ring, |event| match event {
        Event::HandedOver { fd, .. } => Some(fd.expect("a descriptor")),
        _ => None,
    });
    wait(&mut ring, closed(conn));
    let mut stream = TcpStream::from(fd);
    client.write_all(b"after").expect("a write");
    let mut got = [0; 5];
    stream.read_exact(&mut got).expect("bytes on the normal descriptor");
    assert_eq!((&seen[..], &got), (&b"before"[..], b"after"));
}

#[test]
fn shutdown_sends_fin_and_receiving_goes_on() {
    let (mut ring, addr) = listening(Config::default());
    let mut client = TcpStream::connect(addr).expect("a connection");
    let (conn, _) = wait(&mut ring, accepted);
    ring.shutdown(conn).expect("a shutdown");
    ring.drive(|_| {}).expect("a turn");
    assert_eq!(client.read(&mut [0]).expect("end of file"), 0);
    client.write_all(b"late").expect("a write");
    wait(&mut ring, |event| matches!(event, Event::Received { .. }).then_some(()));
}

#[test]
fn connects_out_from_a_chosen_address() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = server.local_addr().expect("an address");
    let mut ring = Ring::new(Config::default()).expect("a ring");
    ring.connect(to, Some(SocketAddr::from(([127, 0, 0, 9], 0))), 77).expect("a connect");
    let conn = wait(&mut ring, |event| match event {
        Event::Connected { conn, tag: 77 } => Some(conn),
        _ => None,
    });
    let (mut stream, peer) = server.accept().expect("a connection");
    assert_eq!(peer.ip().to_string(), "127.0.0.9");
    assert!(ring.send(conn, [Frame::from(b"x".to_vec())]).expect("a send"));
    ring.drive(|_| {}).expect("a turn");
    stream.read_exact(&mut [0]).expect("the byte");
    drop(server);
    ring.connect(to, None, 78).expect("a connect");
    let failed = |event: Event<'_>| matches!(event, Event::ConnectFailed { tag: 78, .. });
    wait(&mut ring, |event| failed(event).then_some(()));
    ring.close(conn).expect("a close");
    wait(&mut ring, closed(conn));
    assert_eq!(ring.open_count(), 0);
}

#[test]
fn wakes_end_a_wait_and_the_sleep_in_glommio() {
    glommio::LocalExecutor::default().run(async {
        let mut ring = Ring::new(Config::default()).expect("a ring");
        let bed = Bed::new().expect("a bed");
        for _ in 0..3 {
            let waker = ring.waker();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                waker.wake();
            });
            bed.sleep(&mut ring, Duration::from_secs(20)).await.expect("a sleep");
            wait(&mut ring, |event| matches!(event, Event::Woken).then_some(()));
            thread.join().expect("the waker");
        }
        let start = Instant::now();
        bed.sleep(&mut ring, Duration::from_millis(30)).await.expect("a sleep");
        assert!(start.elapsed() < Duration::from_secs(10), "an earlier deadline moves the timer");
        bed.close().await;
    });
}

#[test]
fn stopping_closes_the_listener() {
    let (mut ring, addr) = listening(Config::default());
    let _client = TcpStream::connect(addr).expect("a connection");
    wait(&mut ring, accepted);
    ring.stop_accepting().expect("a stop");
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(addr).is_ok() {
        assert!(Instant::now() < deadline, "the listener is still open");
        ring.park(Duration::from_millis(5), |_| {}).expect("a turn");
    }
}
