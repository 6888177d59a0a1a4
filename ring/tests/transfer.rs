//! Proves that a connection moves between rings with every byte once and in order: under traffic
//! both ways, to a sleeping ring, a full one, one that is gone; with closes on the way.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use throng_ring::{Address, Bed, Config, Conn, Event, Frame, Listener, Ring};

const PATIENCE: Duration = Duration::from_secs(60);

fn ring(slots: u32) -> Ring {
    Ring::new(Config { slots, ..Config::default() }).expect("a ring")
}

fn listening(slots: u32) -> (Ring, SocketAddr) {
    let mut ring = ring(slots);
    let listener = Listener::bind(Some([127, 0, 0, 1].into()), 0).expect("a port");
    let addr = listener.local_addr().expect("an address");
    ring.listen(listener, 8).expect("accepting");
    (ring, addr)
}

/// A ring with one accepted connection, and its peer.
fn connected(slots: u32) -> (Ring, Conn, TcpStream) {
    let (mut ring, addr) = listening(slots);
    let (conn, client) = connect(&mut ring, addr);
    (ring, conn, client)
}

fn connect(ring: &mut Ring, addr: SocketAddr) -> (Conn, TcpStream) {
    let client = TcpStream::connect(addr).expect("a connection");
    client.set_read_timeout(Some(PATIENCE)).expect("an option");
    client.set_nodelay(true).expect("an option");
    (wait(ring, accepted), client)
}

/// Drives the ring until `take` returns something for an event.
fn wait<T>(ring: &mut Ring, mut take: impl FnMut(Event<'_>) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
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

fn accepted(event: Event<'_>) -> Option<Conn> {
    match event {
        Event::Accepted { conn, .. } => Some(conn),
        _ => None,
    }
}

fn adopted(event: Event<'_>) -> Option<(Conn, u64)> {
    match event {
        Event::Adopted { conn, token } => Some((conn, token)),
        _ => None,
    }
}

fn transferred(conn: Conn) -> impl FnMut(Event<'_>) -> Option<Option<i32>> {
    move |event| match event {
        Event::Transferred { conn: it, result } if it == conn => {
            Some(result.err().and_then(|error| error.raw_os_error()))
        }
        _ => None,
    }
}

fn ended(conn: Conn) -> impl FnMut(Event<'_>) -> Option<()> {
    move |event| matches!(event, Event::Ended { conn: it, .. } if it == conn).then_some(())
}

/// Waits for `Closed` and asserts that nothing else is told of `conn` before it.
fn closed(ring: &mut Ring, conn: Conn) {
    wait(ring, |event| match event {
        Event::Closed { conn: it } if it == conn => Some(()),
        Event::Transferred { conn: it, .. } if it == conn => panic!("told after the close"),
        _ => None,
    });
}

fn receive(ring: &mut Ring, conn: Conn, expected: &[u8]) {
    let mut got = Vec::new();
    wait(ring, |event| {
        if let Event::Received { conn: it, bytes } = event {
            assert_eq!(it, conn);
            got.extend_from_slice(bytes);
        }
        (got.len() >= expected.len()).then_some(())
    });
    assert_eq!(got, expected);
}

/// The connection works in both directions.
fn check(ring: &mut Ring, conn: Conn, client: &mut TcpStream) {
    client.write_all(b"question").expect("a write");
    receive(ring, conn, b"question");
    assert!(ring.send(conn, [Frame::from(b"answer".to_vec())]).expect("a send"));
    let sent = |event: Event<'_>| matches!(event, Event::Sent { .. }).then_some(());
    wait(ring, sent);
    let mut got = [0; 6];
    client.read_exact(&mut got).expect("the answer");
    assert_eq!(&got, b"answer");
}

/// Moves `conn` from one ring to another, both on this thread.
fn carry(from: &mut Ring, conn: Conn, to: &mut Ring, token: u64) -> Conn {
    let address = to.address().expect("an address");
    from.transfer(conn, &address, token).expect("a transfer");
    drop(address);
    assert_eq!(wait(from, transferred(conn)), None);
    closed(from, conn);
    let (there, brought) = wait(to, adopted);
    assert_eq!(brought, token);
    there
}

#[test]
fn a_moved_connection_lives_on_in_the_other_ring_alone() {
    let (mut one, conn, mut client) = connected(16);
    let mut two = ring(16);
    check(&mut one, conn, &mut client);
    let there = carry(&mut one, conn, &mut two, 0xfedc_ba98_7654);
    assert_eq!((one.open_count(), two.open_count()), (0, 1));
    check(&mut two, there, &mut client);
    assert!(!one.send(conn, [Frame::from(vec![1])]).expect("stale handles do nothing"));
    one.transfer(conn, &two.address().expect("an address"), 0).expect("nor here");
    drop(one);
    check(&mut two, there, &mut client);
    two.close(there).expect("a close");
    closed(&mut two, there);
    assert_eq!(client.read(&mut [0]).expect("end of file"), 0);
}

#[test]
fn what_arrives_between_the_rings_is_received_by_the_second() {
    let (mut one, conn, mut client) = connected(16);
    let mut two = ring(16);
    let address = two.address().expect("an address");
    one.transfer(conn, &address, 1).expect("a transfer");
    assert_eq!(wait(&mut one, transferred(conn)), None);
    client.write_all(b"between").expect("a write");
    let mut got = Vec::new();
    let mut there = None;
    wait(&mut two, |event| {
        match event {
            Event::Adopted { conn, .. } => there = Some(conn),
            Event::Received { conn, bytes } => {
                assert_eq!(there, Some(conn), "adopted first");
                got.extend_from_slice(bytes);
            }
            _ => {}
        }
        (got == b"between").then_some(())
    });
}

#[test]
fn there_and_back_a_thousand_times_uses_two_slots() {
    let (mut one, mut conn, mut client) = connected(2);
    let mut two = ring(1);
    for round in 0..500 {
        let there = carry(&mut one, conn, &mut two, round);
        conn = carry(&mut two, there, &mut one, round);
        if round % 100 == 0 {
            check(&mut one, conn, &mut client);
        }
    }
    assert_eq!((one.open_count(), two.open_count()), (1, 0));
    check(&mut one, conn, &mut client);
}

#[test]
fn a_send_in_flight_is_waited_for() {
    const BYTES: usize = 16 << 20; // more than the socket buffers hold
    let (mut one, conn, mut client) = connected(16);
    let mut two = ring(16);
    let address = two.address().expect("an address");
    assert!(one.send(conn, [Frame::from(vec![5; BYTES])]).expect("a send"));
    one.drive(|_| {}).expect("a turn");
    one.transfer(conn, &address, 1).expect("a transfer");
    assert!(!one.send(conn, [Frame::from(vec![1])]).expect("refused on the way"));
    one.shutdown(conn).expect("ignored on the way");
    for _ in 0..20 {
        let told = |event: Event<'_>| assert!(!matches!(event, Event::Transferred { .. }));
        one.park(Duration::from_millis(5), told).expect("a turn");
    }
    let reader = thread::spawn(move || {
        let mut got = vec![0; BYTES];
        client.read_exact(&mut got).expect("the bytes");
        assert!(got.iter().all(|&byte| byte == 5));
        client
    });
    assert_eq!(wait(&mut one, transferred(conn)), None);
    let mut client = reader.join().expect("the reader");
    let (there, _) = wait(&mut two, adopted);
    check(&mut two, there, &mut client);
}

#[test]
fn a_full_table_refuses_and_the_connection_stays() {
    let (mut one, conn, mut client) = connected(16);
    let (mut two, addr) = listening(1);
    let (occupant, _other) = connect(&mut two, addr);
    let address = two.address().expect("an address");
    for token in 0..3 {
        one.transfer(conn, &address, token).expect("a transfer");
        client.write_all(b"meanwhile").expect("a write");
        let mut errno = None;
        let mut got = Vec::new();
        wait(&mut one, |event| {
            match event {
                Event::Transferred { result, .. } => errno = Some(result),
                Event::Received { bytes, .. } => got.extend_from_slice(bytes),
                _ => {}
            }
            (errno.is_some() && got == b"meanwhile").then_some(())
        });
        let error = errno.expect("told").expect_err("the table is full");
        assert_eq!(error.raw_os_error(), Some(23), "ENFILE");
        check(&mut one, conn, &mut client);
    }
    two.close(occupant).expect("a close");
    closed(&mut two, occupant);
    let there = carry(&mut one, conn, &mut two, 3);
    check(&mut two, there, &mut client);
}

#[test]
fn after_a_refusal_the_connection_can_be_closed_or_handed_over() {
    let (mut one, addr) = listening(16);
    let own = one.address().expect("an address");
    for hand_over in [false, true] {
        let (conn, mut client) = connect(&mut one, addr);
        one.transfer(conn, &own, 0).expect("a transfer");
        assert_eq!(wait(&mut one, transferred(conn)), Some(22), "EINVAL");
        if hand_over {
            one.hand_over(conn).expect("a hand-over");
            let fd = wait(&mut one, |event| match event {
                Event::HandedOver { fd, .. } => Some(fd.expect("a descriptor")),
                _ => None,
            });
            TcpStream::from(fd).write_all(b"x").expect("a write");
            client.read_exact(&mut [0]).expect("the byte");
        } else {
            one.close(conn).expect("a close");
        }
        closed(&mut one, conn);
        assert_eq!(client.read(&mut [0]).expect("end of file"), 0);
    }
    assert_eq!(one.open_count(), 0);
}

#[test]
fn a_ring_that_is_gone_refuses() {
    let (mut one, conn, mut client) = connected(16);
    let dropped = ring(16).address().expect("an address");
    let parting = || ring(16).address().expect("an address");
    let ended = thread::spawn(parting).join().expect("the thread");
    for address in [dropped, ended] {
        one.transfer(conn, &address, 0).expect("a transfer");
        assert!(wait(&mut one, transferred(conn)).is_some());
        check(&mut one, conn, &mut client);
    }
}

#[test]
fn a_dropped_ring_lets_its_sockets_go_though_its_address_lives() {
    let (mut one, conn, mut client) = connected(16);
    let two = ring(16);
    let address = two.address().expect("an address");
    one.transfer(conn, &address, 0).expect("a transfer");
    assert_eq!(wait(&mut one, transferred(conn)), None);
    closed(&mut one, conn);
    drop(two); // has not even looked at the adoption
    assert_eq!(client.read(&mut [0]).expect("end of file"), 0);
    drop(address);
}

#[test]
fn a_close_before_the_message_gives_the_transfer_up() {
    let (mut one, addr) = listening(16);
    let mut two = ring(16);
    let address = two.address().expect("an address");
    for driven in [false, true] {
        let (conn, mut client) = connect(&mut one, addr);
        if driven {
            // A send that the peer does not read keeps the transfer waiting over the turn.
            assert!(one.send(conn, [Frame::from(vec![0; 64 << 20])]).expect("a send"));
        }
        one.transfer(conn, &address, 0).expect("a transfer");
        if driven {
            one.park(Duration::from_millis(20), |_| {}).expect("a turn");
        }
        one.close(conn).expect("a close");
        closed(&mut one, conn);
        let _ = client.read_to_end(&mut Vec::new());
    }
    let told = |event: Event<'_>| assert!(!matches!(event, Event::Adopted { .. }));
    two.park(Duration::from_millis(20), told).expect("a turn");
    assert_eq!((one.open_count(), two.open_count()), (0, 0));
}

#[test]
fn a_close_after_the_message_closes_this_side_alone() {
    let (mut one, conn, mut client) = connected(16);
    let mut two = ring(16);
    let address = two.address().expect("an address");
    one.transfer(conn, &address, 9).expect("a transfer");
    let deadline = Instant::now() + PATIENCE;
    // The first turn ends the receive and queues the message; it is not told before the next.
    while one.drive(|event| assert!(!matches!(event, Event::Transferred { .. }))).expect("a turn")
        == 0
    {
        assert!(Instant::now() < deadline, "the receive never ended");
    }
    one.close(conn).expect("a close");
    closed(&mut one, conn);
    let (there, token) = wait(&mut two, adopted);
    assert_eq!(token, 9);
    check(&mut two, there, &mut client);
    assert_eq!((one.open_count(), two.open_count()), (0, 1));
}

#[test]
fn closes_at_any_moment_lose_no_slot() {
    let (mut one, addr) = listening(16);
    let (address, stop, adoptions) = sink();
    for round in 0..300 {
        let (conn, mut client) = connect(&mut one, addr);
        one.transfer(conn, &address, round).expect("a transfer");
        let mut over = false;
        for _ in 0..round % 5 {
            one.drive(|event| over |= matches!(event, Event::Closed { .. })).expect("a turn");
        }
        if !over {
            one.close(conn).expect("a close");
            wait(&mut one, |event| matches!(event, Event::Closed { .. }).then_some(()));
        }
        assert_eq!(one.open_count(), 0, "round {round}");
        // Closed here, or adopted and closed there.
        assert_eq!(client.read(&mut [0]).expect("end of file"), 0);
    }
    stop.send(()).expect("the sink");
    let adopted = adoptions.join().expect("the sink");
    assert!((60..300).contains(&adopted), "{adopted} of 300 arrived");
}

/// A ring on another thread that closes what it adopts, until it is told to stop; returns how many
/// came.
fn sink() -> (Address, mpsc::Sender<()>, JoinHandle<usize>) {
    let (tell, told) = mpsc::channel();
    let (stop, stopped) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut ring = ring(16);
        tell.send(ring.address().expect("an address")).expect("a listener");
        let mut count = 0;
        while stopped.try_recv().is_err() || ring.open_count() > 0 {
            let mut come = Vec::new();
            ring.park(Duration::from_millis(5), |event| come.extend(adopted(event)))
                .expect("a turn");
            for (conn, _) in come {
                count += 1;
                ring.close(conn).expect("a close");
            }
        }
        assert_eq!(ring.open_count(), 0);
        count
    });
    (told.recv().expect("an address"), stop, thread)
}

#[test]
fn a_peer_that_leaves_on_the_way_is_seen_by_the_ring_that_has_the_connection() {
    let (mut one, addr) = listening(16);
    let mut two = ring(1);
    let address = two.address().expect("an address");
    for reset in [false, true] {
        let (conn, client) = connect(&mut one, addr);
        one.transfer(conn, &address, 0).expect("a transfer");
        leave(client, reset);
        let no_end = |event: Event<'_>| {
            assert!(!matches!(event, Event::Ended { .. }), "told by the first ring");
            transferred(conn)(event)
        };
        assert_eq!(wait(&mut one, no_end), None);
        let mut there = None;
        let there = wait(&mut two, |event| {
            let ended = matches!(event, Event::Ended { .. });
            there = there.or(adopted(event));
            there.filter(|_| ended)
        });
        two.close(there.0).expect("a close");
        closed(&mut two, there.0);
    }
}

#[test]
fn an_end_on_the_way_to_a_full_table_is_told_at_last() {
    let (mut one, addr) = listening(16);
    let (mut two, other) = listening(1);
    let (_occupant, _stays) = connect(&mut two, other);
    let address = two.address().expect("an address");
    for reset in [false, true] {
        let (conn, client) = connect(&mut one, addr);
        one.transfer(conn, &address, 0).expect("a transfer");
        leave(client, reset);
        assert_eq!(wait(&mut one, transferred(conn)), Some(23), "ENFILE");
        wait(&mut one, ended(conn));
        one.close(conn).expect("a close");
        closed(&mut one, conn);
    }
}

/// Closes the peer's side, in order or by a reset.
fn leave(client: TcpStream, reset: bool) {
    let client = socket2::Socket::from(client);
    if reset {
        client.set_linger(Some(Duration::ZERO)).expect("an option");
    }
}

#[test]
fn a_parked_ring_wakes_for_an_adoption() {
    let (tell, told) = mpsc::channel();
    let sleeper = thread::spawn(move || {
        let mut two = ring(16);
        tell.send(two.address().expect("an address")).expect("a listener");
        let start = Instant::now();
        let mut there = None;
        two.park(Duration::from_secs(30), |event| there = adopted(event)).expect("a turn");
        assert!(start.elapsed() < Duration::from_secs(10), "slept through");
        let (conn, token) = there.expect("the first thing to wake it");
        assert_eq!(token, 4);
        two.close(conn).expect("a close");
        closed(&mut two, conn);
    });
    let address = told.recv().expect("an address");
    let (mut one, conn, mut client) = connected(16);
    thread::sleep(Duration::from_millis(300));
    one.transfer(conn, &address, 4).expect("a transfer");
    // The source sleeps as well, until the other thread has answered.
    assert_eq!(wait(&mut one, transferred(conn)), None);
    closed(&mut one, conn);
    sleeper.join().expect("the sleeper");
    assert_eq!(client.read(&mut [0]).expect("end of file"), 0);
}

#[test]
fn a_ring_asleep_in_glommio_wakes_for_an_adoption() {
    const TIMES: u64 = 5;
    let (tell, told) = mpsc::channel();
    let sleeper = thread::spawn(move || {
        glommio::LocalExecutor::default().run(async {
            let mut two = ring(16);
            let bed = Bed::new().expect("a bed");
            tell.send(two.address().expect("an address")).expect("a listener");
            for round in 0..TIMES {
                let start = Instant::now();
                let mut token = None;
                while token.is_none() {
                    bed.sleep(&mut two, Duration::from_secs(30)).await.expect("a sleep");
                    two.drive(|event| token = token.or(adopted(event))).expect("a turn");
                }
                assert_eq!(token.map(|(_, token)| token), Some(round));
                assert!(start.elapsed() < Duration::from_secs(10), "slept through");
            }
            bed.close().await;
        });
    });
    let address = told.recv().expect("an address");
    let (mut one, addr) = listening(16);
    let mut clients = Vec::new();
    for token in 0..TIMES {
        let (conn, client) = connect(&mut one, addr);
        thread::sleep(Duration::from_millis(100));
        one.transfer(conn, &address, token).expect("a transfer");
        assert_eq!(wait(&mut one, transferred(conn)), None);
        clients.push(client);
    }
    sleeper.join().expect("the sleeper");
}

#[test]
fn one_busy_stream_survives_hundreds_of_moves() {
    shuttle(1, 400);
}

#[test]
fn many_busy_streams_survive_moves_at_once() {
    shuttle(40, 20);
}

/// Two for each of the connections that wander: one that comes straight back meets its old slot,
/// until the close is submitted.
const SLOTS: u32 = 128;

/// What the two rings share of one connection: bytes received and not yet echoed.
type Echoes = Mutex<VecDeque<u8>>;

/// What both rings' threads know.
struct Course {
    echoes: Vec<Echoes>,
    /// Moves each connection still has to make; its writer goes on until there are none.
    moves: Vec<AtomicUsize>,
    gone: AtomicUsize,
}

/// Lets `clients` connections wander between two rings, `moves` times each, at random moments,
/// while each client sends and checks the echo without pause.
fn shuttle(clients: usize, moves: usize) {
    let course = Arc::new(Course {
        echoes: (0..clients).map(|_| Echoes::default()).collect(),
        moves: (0..clients).map(|_| AtomicUsize::new(moves)).collect(),
        gone: AtomicUsize::new(0),
    });
    let ((one_out, two_in), (two_out, one_in)) = (mpsc::channel(), mpsc::channel());
    let (tell, told) = mpsc::channel();
    let (first, second) = (course.clone(), course.clone());
    let stations = [
        thread::spawn(move || {
            let (ring, addr) = listening(SLOTS);
            tell.send(addr).expect("a listener");
            Station::run(&first, ring, (one_out, one_in));
        }),
        thread::spawn(move || Station::run(&second, ring(SLOTS), (two_out, two_in))),
    ];
    let addr = told.recv().expect("an address");
    let clients: Vec<_> = (0..clients)
        .map(|id| {
            let course = course.clone();
            thread::spawn(move || talk(addr, id, &course))
        })
        .collect();
    for client in clients {
        client.join().expect("a client");
    }
    for station in stations {
        station.join().expect("a station");
    }
}

/// A client: sends its number, then bytes until all moves are made; checks the echo of all.
fn talk(addr: SocketAddr, id: usize, course: &Course) {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.set_nodelay(true).expect("an option");
    let mut reader = stream.try_clone().expect("a clone");
    let reading = thread::spawn(move || {
        let mut got = Vec::new();
        reader.read_to_end(&mut got).expect("the echo");
        got
    });
    let mut dice = Dice(id as u64 + 1);
    let mut sent = vec![id as u8];
    stream.write_all(&sent).expect("a write");
    while course.moves[id].load(Ordering::Relaxed) > 0 {
        let from = sent.len();
        let until = from + 1 + dice.roll(1500);
        sent.extend((from..until).map(|i| ((i * 31) ^ (i >> 8)) as u8));
        stream.write_all(&sent[from..]).expect("a write");
        thread::sleep(Duration::from_micros(dice.roll(300) as u64));
    }
    stream.shutdown(Shutdown::Write).expect("a shutdown");
    let got = reading.join().expect("the reader");
    assert_eq!(got.len(), sent.len(), "client {id}");
    assert!(got == sent, "client {id} got other bytes back");
}

/// Numbers that look random, for moments that are not always the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize % sides
    }
}

/// A connection that a station has.
struct Guest {
    conn: Conn,
    /// Known from its first byte, or from the token.
    id: Option<usize>,
    leaves: Instant,
    sending: bool,
    moving: bool,
    ended: bool,
}

/// One of two rings between which connections move.
struct Station<'a> {
    ring: Ring,
    other: Address,
    course: &'a Course,
    guests: Vec<Guest>,
    dice: Dice,
}

/// How two stations tell each other their addresses.
type Post = (mpsc::Sender<Address>, mpsc::Receiver<Address>);

impl Station<'_> {
    fn run(course: &Course, ring: Ring, post: Post) {
        post.0.send(ring.address().expect("an address")).expect("another station");
        let other = post.1.recv().expect("another station");
        Station { ring, other, course, guests: Vec::new(), dice: Dice(7) }.serve();
    }

    fn serve(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let clients = self.course.echoes.len();
        while self.course.gone.load(Ordering::Relaxed) < clients || self.ring.open_count() > 0 {
            assert!(Instant::now() < deadline, "the clients never finished");
            self.turn();
        }
    }

    fn turn(&mut self) {
        let Self { ring, guests, course, dice, .. } = self;
        let mut leaves = || Instant::now() + Duration::from_micros(dice.roll(2000) as u64);
        ring.park(Duration::from_micros(200), |event| match event {
            Event::Accepted { conn, .. } => guests.push(Guest::new(conn, None, leaves())),
            Event::Adopted { conn, token } => {
                guests.push(Guest::new(conn, Some(token as usize), leaves()));
            }
            Event::Received { conn, bytes } => {
                let guest = guest(guests, conn);
                let id = *guest.id.get_or_insert(usize::from(bytes[0]));
                course.echoes[id].lock().expect("the echoes").extend(bytes.iter());
            }
            Event::Sent { conn } => guest(guests, conn).sending = false,
            Event::Ended { conn, error } => {
                assert!(error.is_none(), "{error:?}");
                guest(guests, conn).ended = true;
            }
            Event::Transferred { conn, result } => {
                result.expect("room in the other ring");
                guests.retain(|guest| guest.conn != conn);
            }
            Event::SendFailed { error, .. } => panic!("{error}"),
            _ => {}
        })
        .expect("a turn");
        for at in (0..self.guests.len()).rev() {
            self.attend(at);
        }
    }

    /// Moves, echoes or closes a connection, as is due.
    fn attend(&mut self, at: usize) {
        let Guest { conn, id: Some(id), leaves, sending, moving, ended } = self.guests[at] else {
            return;
        };
        let left = &self.course.moves[id];
        let mut echoes = self.course.echoes[id].lock().expect("the echoes");
        if moving {
            // Its bytes may still arrive here, but only the other ring may answer.
        } else if Instant::now() >= leaves && left.load(Ordering::Relaxed) > 0 {
            left.fetch_sub(1, Ordering::Relaxed);
            self.ring.transfer(conn, &self.other, id as u64).expect("a transfer");
            self.guests[at].moving = true;
        } else if !sending && !echoes.is_empty() {
            let bytes: Vec<u8> = echoes.drain(..).collect();
            assert!(self.ring.send(conn, [Frame::from(bytes)]).expect("a send"));
            self.guests[at].sending = true;
        } else if !sending && ended {
            self.ring.close(conn).expect("a close");
            self.guests.swap_remove(at);
            self.course.gone.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Guest {
    fn new(conn: Conn, id: Option<usize>, leaves: Instant) -> Self {
        Self { conn, id, leaves, sending: false, moving: false, ended: false }
    }
}

fn guest(guests: &mut [Guest], conn: Conn) -> &mut Guest {
    guests.iter_mut().find(|guest| guest.conn == conn).expect("a known connection")
}
