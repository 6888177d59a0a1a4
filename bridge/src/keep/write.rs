//! Keeping messages: whatever has come while the last batch was written is the next. Only where
//! senders are acknowledged before is more waited for.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep;
use tracing::warn;

use super::parked::Parked;
use super::{Done, Office};
use crate::store::{Entry, Refusal};

/// Messages written at once, at the most.
const BATCH_MAX: usize = 1024;
/// How long messages are gathered where nobody waits for their commit.
const GATHER: Duration = Duration::from_millis(100);
/// Between two tries with a store that fails: at first, and at the most.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Until no shard can send any more, and everything is kept.
pub(super) async fn run(
    office: &Office,
    mut appended: UnboundedReceiver<(u16, Entry)>,
    mut parked: Parked,
) {
    let mut taken = Vec::with_capacity(BATCH_MAX);
    loop {
        let count = appended.recv_many(&mut taken, BATCH_MAX).await;
        if count == 0 {
            return;
        }
        if office.is_lazy && count < BATCH_MAX {
            gather(&mut appended, &mut taken).await;
        }
        let count = taken.len();
        let (shards, entries): (Vec<u16>, Vec<Entry>) = taken.drain(..).unzip();
        let bytes: usize = entries.iter().map(|entry| entry.message.held_bytes()).sum();
        let batch: Arc<[Entry]> = entries.into();
        let refusals = keep(office, &batch).await;
        for refusal in &refusals {
            parked.park(&office.stats, &batch[refusal.index], &refusal.reason).await;
        }
        report(office, &shards, &batch, &refusals);
        let stats = &office.stats;
        stats.kept.fetch_add((count - refusals.len()) as u64, Relaxed);
        stats.batches.fetch_add(1, Relaxed);
        stats.last_batch.store(count as u64, Relaxed);
        stats.queued_messages.fetch_sub(count as u64, Relaxed);
        stats.queued_bytes.fetch_sub(bytes as u64, Relaxed);
    }
}

/// Lets more messages come: a commit costs as much for one as for hundreds. Nobody wakes this
/// thread for them meanwhile.
async fn gather(appended: &mut UnboundedReceiver<(u16, Entry)>, taken: &mut Vec<(u16, Entry)>) {
    sleep(GATHER).await;
    while taken.len() < BATCH_MAX
        && let Ok(next) = appended.try_recv()
    {
        taken.push(next);
    }
}

/// Tries until the store has the batch.
async fn keep(office: &Office, batch: &Arc<[Entry]>) -> Vec<Refusal> {
    let mut pause = RETRY_FIRST;
    loop {
        let begun = Instant::now();
        match office.append(Arc::clone(batch)).await {
            Ok(refusals) => {
                office.stats.note_append(begun.elapsed());
                return refusals;
            }
            Err(error) => {
                office.stats.retries.fetch_add(1, Relaxed);
                warn!(%error, messages = batch.len(), "messages wait for the store");
                sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Tells each shard what has become of its messages.
fn report(office: &Office, shards: &[u16], batch: &[Entry], refusals: &[Refusal]) {
    let mut kept = vec![true; batch.len()];
    for refusal in refusals {
        kept[refusal.index] = false;
    }
    let mut by_shard: Vec<Vec<(Entry, bool)>> = vec![Vec::new(); office.shards.len()];
    for ((shard, entry), kept) in shards.iter().zip(batch).zip(kept) {
        by_shard[usize::from(*shard)].push((entry.clone(), kept));
    }
    for (shard, entries) in office.shards.iter().zip(by_shard) {
        if !entries.is_empty() {
            shard.tell(Done::Kept(entries));
        }
    }
}
