//! A broadcast within one shard, without sockets: the walk over a room's seats, the frame that
//! members share, their queues, and what a turn's end takes out of them.
//!
//! It does with the engine's own parts what `shard/delivery.rs` and `shard/output.rs` do between
//! a room's envelope and the ring.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use throng::chat::Chat;
use throng::codec::{Dialect, Encoder, Frames, Heading, Packet};
use throng::config::SlowConsumer;
use throng::ids::RoomId;
use throng::outbox::Class;
use throng::room::LocalRooms;
use throng::table::{Queued, Table};
use throng_ring::Conn;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OUTBOX_BYTES: usize = 1 << 20;
const COMPRESS_FROM: usize = 1024;
const HEADING: Heading<'static> = Heading { namespace: "/", ack: None, offset: None };

/// A shard's side of one room.
struct Shard {
    table: Table<Chat>,
    rooms: LocalRooms,
    room: RoomId,
    encoder: Encoder,
    packet: Packet,
}

impl Shard {
    /// A room of so many members; every second one speaks JSON if `mixed`.
    fn new(members: u32, mixed: bool) -> Self {
        let mut table = Table::new(members, OUTBOX_BYTES, SlowConsumer::Disconnect);
        let mut rooms = LocalRooms::default();
        let (room, name) = (RoomId::new(0, 1), Arc::from("r7"));
        for slot in 0..members {
            table.open(Conn { slot, generation: 0 }, IpAddr::from(Ipv4Addr::LOCALHOST).into());
            rooms.add(room, &name, slot, false);
            if let Some(row) = table.row(slot) {
                row.dialect = Dialect::new(mixed && slot % 2 == 1, None);
            }
        }
        let args = format!(r#"{{"room":"r7","seq":17,"body":"{}"}}"#, "x".repeat(100));
        let packet = Packet::event("message", &args);
        Self { table, rooms, room, encoder: Encoder::new(COMPRESS_FROM), packet }
    }

    /// One message to everybody.
    fn deliver(&mut self) {
        let mut made = Frames::default();
        for seat in self.rooms.seats(self.room) {
            let Some(row) = self.table.row(seat.slot()) else { continue };
            let frame = self.encoder.shared(&mut made, (&self.packet, &HEADING), row.dialect);
            let queued = self.table.queue(seat.slot(), frame, Class::Event);
            assert_eq!(queued, Queued::Yes);
        }
    }

    /// The end of a turn, as if every send had succeeded at once. How many frames left.
    fn flush(&mut self) -> usize {
        let mut frames = 0;
        while let Some(slot) = self.table.next_dirty() {
            frames += self.table.take_frames(slot).count();
            if let Some(row) = self.table.row(slot) {
                (row.sending_bytes, row.sending_events) = (0, 0);
            }
        }
        frames
    }
}

fn broadcasts(c: &mut Criterion) {
    let mut group = c.benchmark_group("fanout");
    for members in [10, 100, 1000] {
        let mut shard = Shard::new(members, false);
        group.throughput(Throughput::Elements(members.into()));
        group.bench_function(BenchmarkId::new("one message", members), |b| {
            b.iter(|| {
                shard.deliver();
                shard.flush()
            });
        });
    }
    let mut shard = Shard::new(1000, true);
    group.bench_function(BenchmarkId::new("one message, two dialects", 1000), |b| {
        b.iter(|| {
            shard.deliver();
            shard.flush()
        });
    });
    let mut shard = Shard::new(100, false);
    group.throughput(Throughput::Elements(16 * 100));
    group.bench_function(BenchmarkId::new("16 messages in one turn", 100), |b| {
        b.iter(|| {
            (0..16).for_each(|_| shard.deliver());
            shard.flush()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = broadcasts
}
criterion_main!(benches);
