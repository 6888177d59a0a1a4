//! A way to Redis that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Passes bytes on to a Redis, until it is told otherwise.
pub(super) struct Way {
    pub(super) port: u16,
    to: Arc<AtomicU16>,
    /// Connections so far, and how many of them swallow what Redis answers.
    count: Arc<AtomicU64>,
    mute_count: Arc<AtomicU64>,
    /// Bytes per second and connection that come from Redis; 0: as fast as it goes.
    pace: Arc<AtomicU64>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Way {
    pub(super) fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let way = Self {
            port: listener.local_addr().expect("an address").port(),
            to: Arc::new(AtomicU16::new(port)),
            count: Arc::default(),
            mute_count: Arc::default(),
            pace: Arc::default(),
            streams: Arc::default(),
        };
        let (to, count) = (Arc::clone(&way.to), Arc::clone(&way.count));
        let mute_count = Arc::clone(&way.mute_count);
        let pace = Arc::clone(&way.pace);
        let streams = Arc::clone(&way.streams);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(("127.0.0.1", to.load(Ordering::SeqCst)));
                let Ok(far) = far else { continue };
                let copies = |stream: &TcpStream| stream.try_clone().expect("a copy");
                let mut all = streams.lock().expect("a lock");
                all.extend([copies(&near), copies(&far)]);
                let (from_near, to_far) = (copies(&near), copies(&far));
                let number = count.fetch_add(1, Ordering::SeqCst);
                let mute_count = Arc::clone(&mute_count);
                thread::spawn(move || pass(from_near, to_far, || false, &AtomicU64::new(0)));
                let is_mute = move || number < mute_count.load(Ordering::SeqCst);
                let pace = Arc::clone(&pace);
                thread::spawn(move || pass(far, near, is_mute, &pace));
            }
        });
        way
    }

    /// What Redis answers is swallowed, on the connections there are.
    pub(super) fn mute(&self) {
        self.mute_count.store(self.count.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// What Redis answers comes slowly: so many bytes a second.
    pub(super) fn slow_down(&self, pace: u64) {
        self.pace.store(pace, Ordering::SeqCst);
    }

    /// Cuts every connection; new ones lead to `port`.
    pub(super) fn cut(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
        for stream in self.streams.lock().expect("a lock").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_mute: impl Fn() -> bool, pace: &AtomicU64) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        let is_over = count == 0;
        if is_over || (!is_mute() && to.write_all(&buffer[..count]).is_err()) {
            break;
        }
        if let Some(us) = (count as u64 * 1_000_000).checked_div(pace.load(Ordering::SeqCst)) {
            thread::sleep(Duration::from_micros(us));
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
