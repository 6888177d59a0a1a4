//! `/metrics` as JSON: sums, rates, latency and memory, then every counter per shard.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::{Control, Line};
use crate::app::App;
use crate::clock::wall_ms;
use crate::metrics::{Cells, METRICS};

/// Kernel memory of an idle connection: socket, inode, dentry, file, table slot (3.81 KB) and an
/// armed multishot receive (0.86 KB). Read from slab sizes on Linux 6.18; buffers come on top.
const KERNEL_BYTES_PER_CONNECTION: u64 = 4_670;

/// Events per second over the last whole second.
#[derive(Default)]
pub(super) struct Rates {
    received: AtomicU64,
    delivered: AtomicU64,
}

/// Measures the rates, once a second.
pub(super) async fn sample<A: App>(control: Arc<Control<A>>) {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = [0; 2];
    loop {
        tick.tick().await;
        let now = [
            sum(&control, |cells| cells.events_received.read()),
            sum(&control, |cells| cells.deliveries.read()),
        ];
        control.rates.received.store(now[0] - before[0], Ordering::Relaxed);
        control.rates.delivered.store(now[1] - before[1], Ordering::Relaxed);
        before = now;
    }
}

pub(super) fn sum<A: App>(control: &Control<A>, read: fn(&Cells) -> u64) -> u64 {
    control.lines.iter().map(|line| read(&line.cells)).sum()
}

/// Everything, as one JSON object.
pub(super) async fn report<A: App>(control: &Control<A>) -> Value {
    let connections = sum(control, |cells| cells.connections.read());
    let user_bytes = user_bytes();
    let shard = |line: &Line<A>| cells(|read| read(&line.cells));
    json!({
        "uptime": control.started.elapsed().as_secs(),
        "connections": connections,
        "connectionsMax": control.config.connections_max,
        "sockets": sum(control, |cells| cells.sockets.read()),
        "rooms": rooms(control).await,
        "memberships": sum(control, |cells| cells.memberships.read()),
        "messages": {
            "inPerSecond": control.rates.received.load(Ordering::Relaxed),
            "outPerSecond": control.rates.delivered.load(Ordering::Relaxed),
        },
        "latency": latency(control).await,
        "memory": {
            "userBytes": user_bytes,
            "kernelBytesEstimated": connections * KERNEL_BYTES_PER_CONNECTION,
            "userBytesPerConnection": user_bytes / connections.max(1),
        },
        "redis": control.fleet.as_ref().map(|fleet| fleet.report(wall_ms())),
        "store": control.store.as_ref().map(|store| store.report(&control.config)),
        "total": cells(|read| sum(control, read)),
        "shards": control.lines.iter().map(shard).collect::<Value>(),
    })
}

/// Rooms with a member, from the shards themselves: the gauge is written once a second.
async fn rooms<A: App>(control: &Control<A>) -> usize {
    control.ask_all(|_, homes, _| homes.count()).await.into_iter().sum()
}

fn cells(value: impl Fn(fn(&Cells) -> u64) -> u64) -> Value {
    let pairs = METRICS.iter().map(|metric| (metric.name.to_owned(), value(metric.read).into()));
    Value::Object(pairs.collect::<Map<_, _>>())
}

/// From the arrival of a message to the hand-over of its deliveries to the kernel.
async fn latency<A: App>(control: &Control<A>) -> Value {
    let Some(histogram) = control.latency_us().await else { return Value::Null };
    json!({
        "unit": "us",
        "count": histogram.len(),
        "p50": histogram.value_at_quantile(0.5),
        "p99": histogram.value_at_quantile(0.99),
        "p999": histogram.value_at_quantile(0.999),
        "max": histogram.max(),
    })
}

/// What a lock guards here is a plain value, good whatever its last holder came to.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resident memory of the process in bytes.
pub(super) fn user_bytes() -> u64 {
    let pages = |text: String| text.split(' ').nth(1)?.parse::<u64>().ok();
    let statm = fs::read_to_string("/proc/self/statm").ok();
    statm.and_then(pages).unwrap_or(0) * 4096
}
