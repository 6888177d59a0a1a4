//! The timer wheel with the timers of 20,000 connections.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use throng::wheel::{Ticks, Wheel};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TIMERS: u32 = 20_000;
/// The engine's default ping interval: deadlines lie within it.
const SPAN_MS: u32 = 25_000;

/// Deadlines without order, each within the span.
fn deadline_ms(slot: u32) -> u32 {
    slot.wrapping_mul(0x9e37_79b9) % SPAN_MS
}

fn armed() -> Wheel {
    let mut wheel = Wheel::new(0, Ticks::new(16, 0, 1));
    (0..TIMERS).for_each(|slot| wheel.arm(slot, deadline_ms(slot)));
    wheel
}

fn timers(c: &mut Criterion) {
    let mut group = c.benchmark_group("wheel");
    group.throughput(Throughput::Elements(TIMERS.into()));
    group.bench_function("arm 20000", |b| {
        let arm =
            |wheel: &mut Wheel| (0..TIMERS).for_each(|slot| wheel.arm(slot, deadline_ms(slot)));
        b.iter_batched_ref(|| Wheel::new(0, Ticks::new(16, 0, 1)), arm, BatchSize::LargeInput);
    });
    group.bench_function("re-arm 20000", |b| {
        let (mut wheel, mut round) = (armed(), 0u32);
        b.iter(|| {
            round = round.wrapping_add(1);
            (0..TIMERS).for_each(|slot| wheel.arm(slot, deadline_ms(slot ^ round)));
        });
    });
    group.bench_function("expire 20000 over 25000 ms", |b| {
        // A turn per millisecond, which usually finds nothing or one.
        let expire = |wheel: &mut Wheel| {
            let mut expired = 0;
            for now_ms in 0..SPAN_MS {
                while wheel.poll_expired(now_ms).is_some() {
                    expired += 1;
                }
            }
            assert_eq!(expired, TIMERS);
        };
        b.iter_batched_ref(armed, expire, BatchSize::LargeInput);
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("one turn a millisecond", |b| {
        let (mut wheel, mut now_ms) = (armed(), 0u32);
        b.iter(|| {
            now_ms = now_ms.wrapping_add(1);
            while let Some(slot) = wheel.poll_expired(now_ms) {
                wheel.arm(slot, now_ms.wrapping_add(SPAN_MS));
            }
            wheel.due_within_ms(black_box(now_ms), 10)
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = timers
}
criterion_main!(benches);
