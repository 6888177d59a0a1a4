//! Stands between a client and a Redis, and does what networks and broken servers do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// How often a connection's thread looks up from its socket.
const TURN: Duration = Duration::from_millis(5);

/// One connection through it.
#[derive(Default)]
struct Way {
    /// Nothing passes, in either direction, and nobody is told.
    is_frozen: AtomicBool,
    is_cut: AtomicBool,
    /// For the client, as if Redis had sent it.
    forged: Mutex<Vec<u8>>,
}

/// Passes on until told otherwise; connections count from 0 in the order of their making.
pub(crate) struct Proxy {
    port: u16,
    ways: Arc<Mutex<Vec<Arc<Way>>>>,
    is_over: Arc<AtomicBool>,
}

impl Proxy {
    /// To the Redis at a port.
    pub(crate) fn start(to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let ways = Arc::<Mutex<Vec<Arc<Way>>>>::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let (all, over) = (Arc::clone(&ways), Arc::clone(&is_over));
        spawn(move || {
            for client in listener.incoming() {
                if over.load(SeqCst) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", to)))
                else {
                    continue;
                };
                let way = Arc::new(Way::default());
                all.lock().expect("no panic").push(Arc::clone(&way));
                for (from, to, is_to_client) in [
                    (client.try_clone(), server.try_clone(), false),
                    (server.try_clone(), client.try_clone(), true),
                ] {
                    let (from, to) = (from.expect("a socket"), to.expect("a socket"));
                    let (way, over) = (Arc::clone(&way), Arc::clone(&over));
                    spawn(move || pass(from, to, is_to_client, &way, &over));
                }
            }
        });
        Self { port, ways, is_over }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How many connections there have been.
    pub(crate) fn count(&self) -> usize {
        self.ways.lock().expect("no panic").len()
    }

    /// Lets nothing pass on a connection any more.
    pub(crate) fn freeze(&self, index: usize) {
        self.way(index).is_frozen.store(true, SeqCst);
    }

    /// Ends a connection on both sides.
    pub(crate) fn cut(&self, index: usize) {
        self.way(index).is_cut.store(true, SeqCst);
    }

    /// Sends bytes to a connection's client.
    pub(crate) fn forge(&self, index: usize, bytes: &[u8]) {
        self.way(index).forged.lock().expect("no panic").extend_from_slice(bytes);
    }

    fn way(&self, index: usize) -> Arc<Way> {
        Arc::clone(&self.ways.lock().expect("no panic")[index])
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_to_client: bool, way: &Way, over: &AtomicBool) {
    let mut buffer = [0; 65_536];
    from.set_read_timeout(Some(TURN)).expect("a socket");
    while !way.is_cut.load(SeqCst) && !over.load(SeqCst) {
        if way.is_frozen.load(SeqCst) {
            sleep(TURN);
            continue;
        }
        if is_to_client {
            let forged = std::mem::take(&mut *way.forged.lock().expect("no panic"));
            if to.write_all(&forged).is_err() {
                break;
            }
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) if to.write_all(&buffer[..length]).is_err() => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    way.is_cut.store(true, SeqCst);
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
