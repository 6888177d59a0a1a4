//! How many recoveries are under way, and the trails that they have read.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};

use super::track::Track;
use crate::fleet::words::HostId;

/// Recoveries under way at once; others wait.
const AT_ONCE_MAX: usize = 64;

/// How long a trail that has been read is kept for the next session of the same shard.
const TRACK_KEPT: Duration = Duration::from_secs(30);

/// Trails that are kept at once.
const TRACKS_MAX: usize = 64;

type Tracks = HashMap<(HostId, u16), (Instant, Rc<Mutex<Track>>)>;

/// See the module.
pub(super) struct Recoveries {
    pub(super) at_once: Semaphore,
    tracks: RefCell<Tracks>,
}

impl Default for Recoveries {
    fn default() -> Self {
        Self { at_once: Semaphore::new(AT_ONCE_MAX), tracks: RefCell::default() }
    }
}

impl Recoveries {
    /// Lets go of trails that nobody has asked for lately.
    pub(super) fn expire(&self, now: Instant) {
        let mut tracks = self.tracks.borrow_mut();
        tracks.retain(|_, (at, _)| now.duration_since(*at) < TRACK_KEPT);
    }

    pub(super) fn track(&self, host: HostId, shard: u16) -> Rc<Mutex<Track>> {
        let mut tracks = self.tracks.borrow_mut();
        if tracks.len() >= TRACKS_MAX && !tracks.contains_key(&(host, shard)) {
            tracks.clear();
        }
        let (at, track) =
            tracks.entry((host, shard)).or_insert_with(|| (Instant::now(), Rc::default()));
        *at = Instant::now();
        Rc::clone(track)
    }
}
