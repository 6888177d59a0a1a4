//! A hop of the mesh: an envelope put into a batch, the batch through the queue, and out again.
//!
//! Within one thread that is the work of both ends and nothing else. Between two threads it is the
//! time of the way there and back with both sides awake: what the cores need to see each other's
//! writes, most of it. The wake-up of a sleeping shard is not in it.

#![forbid(unsafe_code)]

use std::hint::{black_box, spin_loop};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use throng::app::{Audience, Envelope};
use throng::chat::Chat;
use throng::codec::Packet;
use throng::ids::RoomId;
use throng::mesh::Mesh;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 64;

type Shard = Mesh<Envelope<Chat>>;

fn pair() -> (Shard, Shard) {
    let (mut meshes, _) = Mesh::new(2);
    let two = meshes.pop().expect("two ends");
    (meshes.pop().expect("two ends"), two)
}

/// A message on its way to a shard with members.
fn envelope() -> Envelope<Chat> {
    let args = format!(r#"{{"room":"r7","seq":17,"body":"{}"}}"#, "x".repeat(100));
    let packet = Packet::event("message", &args);
    Envelope::Deliver {
        room: RoomId::new(0, 1),
        audience: Audience::All,
        packet,
        seq: 0,
        since_ns: 0,
    }
}

fn send(from: &mut Shard, envelopes: impl IntoIterator<Item = Envelope<Chat>>) {
    let to = 1 - from.index();
    for envelope in envelopes {
        assert!(from.send(to, envelope).is_ok(), "a peer");
    }
    from.flush();
}

/// Hands the same envelopes from end to end, so that making them does not count.
fn within_a_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("mesh/hop");
    for count in [1, BATCH] {
        let (mut from, mut to) = pair();
        let mut batch: Vec<_> = (0..count).map(|_| envelope()).collect();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("batch of {count}"), |b| {
            b.iter(|| {
                send(&mut from, batch.drain(..));
                batch = to.receive().expect("what was sent");
                mem::swap(&mut from, &mut to);
            });
        });
        black_box(batch.len());
    }
    group.finish();
}

/// Sends everything back until it is told to stop.
fn echo(mut own: Shard, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match own.receive() {
            Some(batch) => send(&mut own, batch),
            None => spin_loop(),
        }
    }
}

fn between_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("mesh/there and back");
    for count in [1, BATCH] {
        let (mut own, other) = pair();
        let stop = AtomicBool::new(false);
        let mut batch: Vec<_> = (0..count).map(|_| envelope()).collect();
        group.throughput(Throughput::Elements(count as u64));
        thread::scope(|scope| {
            scope.spawn(|| echo(other, &stop));
            group.bench_function(format!("batch of {count}"), |b| {
                b.iter(|| {
                    send(&mut own, batch.drain(..));
                    batch = loop {
                        match own.receive() {
                            Some(batch) => break batch,
                            None => spin_loop(),
                        }
                    };
                });
            });
            stop.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = within_a_thread, between_threads
}
criterion_main!(benches);
