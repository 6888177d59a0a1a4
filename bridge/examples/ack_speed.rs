//! How fast messages are acknowledged once they are committed: a port over the embedded store, as a
//! shard uses it, under a constant rate.
//!
//! `cargo run --release -p throng-bridge --example ack_speed -- [RATE [ROOMS [SECONDS [FOLDER]]]]`
//!
//! Latency counts from when a message was due, so that a stall is not left out.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use throng_bridge::store::{Retention, Sqlite, Store};
use throng_bridge::{
    Author, Bridge, Draft, MemoryLimits, Opening, Outcome, Plan, Port, Request, Stored,
    StoredLimits, Ticket,
};

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number =
        |preset: u64| args.next().map_or(preset, |text| text.parse().expect("a whole number"));
    let (rate, rooms, seconds) = (number(20_000), number(1), number(10));
    let folder = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("throng-ack-speed-{}", std::process::id()));
    let file = folder.join("throng.db");
    let open = move || -> Opening {
        Box::pin(async move { Ok(Arc::new(Sqlite::open(&file).await?) as Arc<dyn Store>) })
    };
    let plan = Plan { retention: Retention::default(), parked: None, is_lazy: false };
    let (bridge, mut lines, users) = Bridge::start(open, plan, 1).expect("a store");
    let memory = MemoryLimits { messages_per_room: 100, ttl_ms: 86_400_000, bytes_max: 64 << 20 };
    let limits = StoredLimits {
        memory,
        settles_at_commit: true,
        queued_messages_max: 1 << 17,
        queued_bytes_max: 256 << 20,
        questions_max: 1024,
        retention_ms: None,
    };
    let line = lines.pop().expect("one line");
    let mut port = Stored::new(limits, line, "ack-");
    let names: Vec<Arc<str>> = (0..rooms).map(|room| format!("room {room}").into()).collect();
    for room in &names {
        port.try_submit(Request::Open { room: Arc::clone(room) }, 1).expect("space");
        while port.poll_outcome(1).is_none() {}
    }
    let mut due_times = VecDeque::new();
    let mut latency_us = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("bounds");
    let (begun, total) = (Instant::now(), rate * seconds);
    let (mut sent, mut settled, mut refused) = (0, 0, 0);
    while settled + refused < total {
        let due = (begun.elapsed().as_micros() as u64 * rate / 1_000_000).min(total);
        while sent < due {
            let request = message(sent, &names[(sent % rooms) as usize]);
            due_times.push_back(Duration::from_micros(sent * 1_000_000 / rate));
            refused += u64::from(port.try_submit(request, 1).is_err());
            sent += 1;
        }
        while let Some(outcome) = port.poll_outcome(1) {
            if let Outcome::Settled { ticket, kept, .. } = outcome {
                assert!(kept, "the store has refused a message");
                let due = due_times[ticket.0 as usize];
                latency_us.saturating_record((begun.elapsed() - due).as_micros() as u64);
                settled += 1;
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let per_second = settled as f64 / begun.elapsed().as_secs_f64();
    let batches = bridge.stats().batches.load(Ordering::Relaxed);
    println!(
        "{rooms} rooms, {rate}/s for {seconds} s: {per_second:.0} acknowledged per second, \
         {refused} refused; latency p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; {:.0} per commit",
        latency_us.value_at_quantile(0.5) as f64 / 1000.0,
        latency_us.value_at_quantile(0.99) as f64 / 1000.0,
        latency_us.max() as f64 / 1000.0,
        settled as f64 / batches as f64,
    );
    drop((port, users));
    bridge.finish(Duration::from_secs(30));
    std::fs::remove_dir_all(folder).expect("it was made");
}

fn message(number: u64, room: &Arc<str>) -> Request {
    let from = Author { id: "0123456789abcdefghij".into(), user: "u".into(), name: "U".into() };
    let body = format!(r#"{{"text":"{number:0100}"}}"#).into();
    let draft = Draft { from, body, attachments: vec![], client_id: None };
    Request::Publish { ticket: Ticket(number), room: Arc::clone(room), draft }
}
