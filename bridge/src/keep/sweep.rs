//! Retention: in small steps between other work, through everything again and again.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::info;

use super::{Office, now_ms};

/// After the start, and after a step that failed.
const FIRST: Duration = Duration::from_secs(1);
/// Between two rounds, at the most: a room may have a retention of its own.
const ROUND_MAX: Duration = Duration::from_secs(600);
/// Pause after a step, in times of its length: so much of the store's time is others'.
const PAUSE_TIMES: u32 = 9;

/// For ever.
pub(super) async fn run(office: Rc<Office>) {
    let shortest_ms = office.retention.messages_ms.into_iter().chain(office.retention.users_ms);
    let tenth = shortest_ms.min().map(|ms| Duration::from_millis(ms / 10));
    let pause = tenth.unwrap_or(ROUND_MAX).clamp(FIRST, ROUND_MAX);
    loop {
        sleep(FIRST).await;
        if round(&office).await {
            office.stats.swept_at_ms.store(now_ms(), Relaxed);
            sleep(pause - FIRST).await;
        }
    }
}

/// Once through everything; false if the store failed.
async fn round(office: &Office) -> bool {
    let (mut messages, mut users, mut from) = (0, 0, None);
    loop {
        let begun = Instant::now();
        let step = office.store.sweep(office.retention, now_ms(), from);
        let Ok(swept) = office.ask(step).await else { return false };
        messages += swept.messages;
        users += swept.users;
        office.stats.swept_messages.fetch_add(swept.messages, Relaxed);
        office.stats.swept_users.fetch_add(swept.users, Relaxed);
        from = swept.next;
        if from.is_none() {
            break;
        }
        sleep(begun.elapsed() * PAUSE_TIMES).await;
    }
    if messages + users > 0 {
        info!(messages, users, "retention has deleted");
    }
    true
}
