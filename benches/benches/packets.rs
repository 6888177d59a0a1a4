//! Engine.IO and Socket.IO packets alone: a client's event taken apart, an event put into words.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use throng::codec::{Dialect, Encoder, Heading, Packet};
use throng_protocol::socketio::{Assembler, Event, Limits};
use throng_protocol::{engineio, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of a chat message's body: the comparison's, and a long one.
const BODIES: [usize; 2] = [100, 10_000];
const HEADING: Heading<'static> = Heading { namespace: "/", ack: None, offset: None };
/// As the engine has them: depth and names are the application's to judge.
const LIMITS: Limits = Limits {
    attachments_max: 10,
    depth_max: usize::MAX,
    namespace_bytes_max: 128,
    event_name_bytes_max: usize::MAX,
    packet_bytes_max: 1_000_000,
};
/// Shorter messages are not compressed: the engine's default.
const COMPRESS_FROM: usize = 1024;

/// Words, since a body of one letter compresses to nothing.
fn body(len: usize) -> String {
    let words = (0u32..).flat_map(|it| format!("{:x} ", it.wrapping_mul(0x9e37_79b9)).into_bytes());
    words.take(len).map(char::from).collect()
}

/// What a client sends, as the engine gets it out of a frame.
fn request(len: usize) -> String {
    format!(r#"4217["message",{{"room":"r7","body":"{}"}}]"#, body(len))
}

/// What the engine tells the room of it.
fn event(len: usize) -> Packet {
    let from = r#"{"id":"AAAAAQAAAAAB2c3d4e5f","name":"ann","userId":"ann"}"#;
    let head = r#"{"room":"r7","id":"m1-17","seq":17,"from":"#;
    Packet::event(
        "message",
        &format!(r#"{head}{from},"body":"{}","at":1763800000000}}"#, body(len)),
    )
}

fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("packets/decode");
    for len in BODIES {
        let text = request(len);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("event", len), |b| {
            let mut assembler = Assembler::default();
            b.iter(|| {
                let (_, data) = engineio::decode_text(black_box(&text)).expect("Engine.IO");
                let packet = assembler.text(data, &LIMITS).expect("Socket.IO").expect("whole");
                let event = Event::parse(packet.data).expect("an event");
                (event.name.len(), event.first_arg().map(str::len))
            });
        });
    }
    let (head, part) =
        (r#"51-["message",{"room":"r7","body":{"_placeholder":true,"num":0}}]"#, [7; 1024]);
    group.throughput(Throughput::Bytes((head.len() + part.len()) as u64));
    group.bench_function("event with 1 KiB binary", |b| {
        let mut assembler = Assembler::default();
        b.iter(|| {
            let owed = assembler.text(black_box(head), &LIMITS).expect("Socket.IO");
            assert!(owed.is_none());
            let mut parts = 0;
            let read =
                assembler.binary(black_box(&part), &LIMITS, |it| parts = it.attachments.len());
            read.map(|()| parts)
        });
    });
    group.finish();
}

fn validating(c: &mut Criterion) {
    let mut group = c.benchmark_group("packets/json");
    for len in BODIES {
        let text = request(len)[4..].to_owned();
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("valid", len), |b| {
            b.iter(|| json::is_valid(black_box(&text)));
        });
        group.bench_function(BenchmarkId::new("depth", len), |b| {
            b.iter(|| json::depth_within(black_box(&text), 32));
        });
    }
    group.finish();
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("packets/encode");
    let dialects = [
        ("Socket.IO", Dialect::new(false, None)),
        ("JSON", Dialect::new(true, None)),
        ("Socket.IO compressed", Dialect::new(false, Some(15))),
    ];
    for (name, dialect) in dialects {
        for len in
            BODIES.into_iter().filter(|&len| len >= COMPRESS_FROM || !dialect.is_compressed())
        {
            let packet = event(len);
            let mut encoder = Encoder::new(COMPRESS_FROM);
            group.throughput(Throughput::Bytes(len as u64));
            group.bench_function(BenchmarkId::new(name, len), |b| {
                b.iter(|| encoder.frame(black_box(&packet), &HEADING, dialect).len());
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = decoding, validating, encoding
}
criterion_main!(benches);
