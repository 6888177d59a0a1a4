//! Who was here: noted lazily, and each user once however often that was.

use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep_until};

use super::{Office, now_ms};
use crate::stats::Stats;
use crate::store::Seen;

/// How long notes are gathered.
const GATHER: Duration = Duration::from_secs(5);
/// Users written at once.
const BATCH_MAX: usize = 1000;
/// Users that may wait for a store that does not answer.
const WAITING_MAX: usize = 50_000;
/// Notes that may come while others are written.
const NOTES_MAX: usize = 1 << 16;

/// Takes notes of users, from any thread.
#[derive(Clone)]
pub struct Users {
    notes: Sender<Seen>,
    stats: Arc<Stats>,
}

impl Users {
    /// Notes that a user is here, and the metadata it has given, if it has; written within seconds.
    pub fn note(&self, user: &str, name: &str, metadata: Option<&str>) {
        let (user, name, metadata) = (user.into(), name.into(), metadata.map(Into::into));
        let seen = Seen { user, name, at_ms: now_ms(), metadata };
        if self.notes.try_send(seen).is_err() {
            self.stats.users_dropped.fetch_add(1, Relaxed);
        }
    }
}

pub(super) fn channel(stats: &Arc<Stats>) -> (Users, Receiver<Seen>) {
    let (notes, receiver) = mpsc::channel(NOTES_MAX);
    (Users { notes, stats: Arc::clone(stats) }, receiver)
}

/// Until nobody can note any more; then writes what is left, once.
pub(super) async fn run(office: Rc<Office>, mut seen: Receiver<Seen>) {
    let mut waiting: HashMap<Box<str>, Seen> = HashMap::new();
    let mut due = Instant::now() + GATHER;
    loop {
        tokio::select! {
            note = seen.recv() => match note {
                Some(note) => gather(&office, &mut waiting, note),
                None => break,
            },
            () = sleep_until(due) => {
                write(&office, &mut waiting).await;
                due = Instant::now() + GATHER;
            }
        }
    }
    write(&office, &mut waiting).await;
}

fn gather(office: &Office, waiting: &mut HashMap<Box<str>, Seen>, note: Seen) {
    let full = waiting.len() >= WAITING_MAX;
    match waiting.get_mut(&note.user) {
        Some(known) => {
            let metadata = note.metadata.or_else(|| known.metadata.take());
            *known = Seen { metadata, ..note };
        }
        None if full => drop(office.stats.users_dropped.fetch_add(1, Relaxed)),
        None => drop(waiting.insert(note.user.clone(), note)),
    }
}

async fn write(office: &Office, waiting: &mut HashMap<Box<str>, Seen>) {
    let all: Vec<Seen> = mem::take(waiting).into_values().collect();
    for batch in all.chunks(BATCH_MAX) {
        match office.ask(office.store.note_users(batch.into())).await {
            Ok(()) => drop(office.stats.users_noted.fetch_add(batch.len() as u64, Relaxed)),
            Err(_) => batch.iter().for_each(|note| gather(office, waiting, note.clone())),
        }
    }
}
