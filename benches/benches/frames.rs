//! The WebSocket codec alone: frames of a client read, frames for clients written.
//!
//! Reading unmasks in place. The mask is zeros, which costs what any mask costs and leaves the
//! input as it was, so that nothing has to be copied between two readings.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use throng_protocol::ws::{Limits, Opcode, Reader, Role, write_frame, write_masked_frame};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIMITS: Limits = Limits { message_bytes_max: 1_000_000, fragments_max: 1024 };
/// On both sides of each length class of the header, and what chats, histories and files need.
const SIZES: [usize; 5] = [16, 125, 1024, 16 * 1024, 64 * 1024];
/// A receive buffer of the ring holds so many messages of 100 bytes.
const CHUNK_FRAMES: usize = 19;

fn masked(len: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    write_masked_frame(&mut frame, Opcode::Text, [0; 4], &vec![b'x'; len]);
    frame
}

/// Reads `input` and counts the bytes of its messages.
fn read(reader: &mut Reader, input: &mut [u8]) -> usize {
    let mut len = 0;
    let read = reader.read(Role::Server, &LIMITS, None, input, |message| {
        if let throng_protocol::ws::Incoming::Text(text) = message {
            len += text.len();
        }
        ControlFlow::Continue(())
    });
    assert_eq!(read, Ok(input.len()));
    len
}

fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("frames/read");
    for size in SIZES {
        let mut frame = masked(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            let mut reader = Reader::default();
            b.iter(|| read(&mut reader, black_box(&mut frame)));
        });
    }
    let mut chunk = masked(100).repeat(CHUNK_FRAMES);
    group.throughput(Throughput::Elements(CHUNK_FRAMES as u64));
    group.bench_function("chunk of 19 x 100", |b| {
        let mut reader = Reader::default();
        b.iter(|| read(&mut reader, black_box(&mut chunk)));
    });
    let mut cut = masked(1024);
    group.throughput(Throughput::Bytes(1024));
    group.bench_function("1024 in two pieces", |b| {
        let mut reader = Reader::default();
        let (head, tail) = cut.split_at_mut(500);
        b.iter(|| read(&mut reader, black_box(head)) + read(&mut reader, black_box(tail)));
    });
    group.finish();
}

fn writing(c: &mut Criterion) {
    let mut group = c.benchmark_group("frames/write");
    for size in SIZES {
        let payload = vec![b'x'; size];
        let mut out = Vec::with_capacity(size + 16);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                out.clear();
                write_frame(&mut out, Opcode::Text, black_box(&payload));
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = reading, writing
}
criterion_main!(benches);
