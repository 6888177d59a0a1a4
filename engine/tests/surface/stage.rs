//! Hosts on one shard and on three, and their clients.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use throng::config::Config;
use throng::host::{Host, without_history};
use throng::ids::Sid;

use crate::application::{Gone, Surface};
use crate::client::Client;

pub(crate) const ROOMS_MAX: usize = 20;
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A host with its clients to be.
pub(crate) struct Stage {
    pub(crate) port: u16,
    pub(crate) shards: u16,
    pub(crate) gone: Gone,
}

/// Plays `scene` on one shard and on three.
pub(crate) fn play(scene: impl Fn(&Stage)) {
    play_with(Duration::ZERO, scene);
}

/// The same where clients that come back within `recovery_window` are recovered.
pub(crate) fn play_with(recovery_window: Duration, scene: impl Fn(&Stage)) {
    for shards in [1, 3] {
        eprintln!("{shards} shards");
        let gone = Gone::default();
        let config = Config {
            port: 0,
            workers: shards.into(),
            connections_max: 200,
            connections_per_ip_max: 0,
            rooms_per_socket_max: ROOMS_MAX,
            outbox_bytes_max: 256 << 20,
            recovery_window,
            ..Config::default()
        };
        let host = Host::start(config, |_| Surface::new(&gone), &without_history).expect("a host");
        let port = host.port();
        // Its shards run until the process ends.
        std::mem::forget(host);
        scene(&Stage { port, shards, gone });
    }
}

impl Stage {
    /// Clients in the main namespace, on all shards alike.
    pub(crate) fn clients(&self, count: usize) -> Vec<Client> {
        let share = count.div_ceil(self.shards.into());
        let mut taken = vec![0; self.shards.into()];
        let mut clients = Vec::new();
        for _ in 0..1000 {
            if clients.len() == count {
                return clients;
            }
            let client = Client::connect(self.port, &json!({"name": clients.len()}));
            let shard = usize::from(Sid::parse(&client.sid).expect("an id").shard());
            if taken[shard] < share {
                taken[shard] += 1;
                clients.push(client);
            }
        }
        panic!("the kernel does not spread connections: {taken:?}");
    }

    /// What the application has been told of the end of the socket with this session.
    pub(crate) fn why_gone(&self, session: &Value) -> &'static str {
        eventually(|| {
            let gone = self.gone.lock().expect("a lock");
            gone.iter().find(|it| it.0 == *session).map(|it| it.1)
        })
    }
}

pub(crate) fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + ANSWER_MAX;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}
