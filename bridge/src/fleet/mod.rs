//! The fleet: many hosts as one, by way of one Redis.
//!
//! One thread of the process speaks to Redis, on a tokio runtime of its own, and never touches a
//! shard's state: words come over [`FleetLine`]s and go back over them. `link` is one time of
//! being connected; `run` makes one after the other, for ever. Over each, `order` keeps the order
//! of messages, `beside` who is where, `casts` what servers say to sockets at large.
//!
//! Invariants: every message of an open room is delivered once, by rising `seq`, without a gap, or
//! the break is told; a message is acknowledged only by Redis's own
//! answer; whatever breaks a connection ends in the same routine, the repair of every room.

mod beside;
mod casts;
mod check;
mod clock;
mod inquiry;
mod keys;
mod line;
mod link;
mod office;
mod order;
mod plan;
#[cfg(test)]
#[path = "../../tests/redis/mod.rs"]
mod processes;
mod run;
mod stats;
mod target;
mod words;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;
use tracing::{info, warn};

pub use check::probe;
pub use inquiry::Inquiries;
pub use line::FleetLine;
pub(crate) use line::FromFleet;
pub use plan::{Adapter, FleetPlan};
pub use stats::FleetStats;
pub use target::Target;
pub use throng_protocol::adapter::sharded::Mode;
pub use words::{
    Cast, CastAnswer, Deed, Gone, HostId, News, Offset, Reach, Recovered, Replay, Session, Stay,
    Word, room_tag,
};
pub(crate) use words::{Joined, Order, Ordered};

use keys::Keys;
use line::{Senders, line};
use office::Office;

/// The fleet's thread.
pub struct Fleet {
    stats: Arc<FleetStats>,
    inquiries: Inquiries,
    end: UnboundedSender<()>,
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Fleet {
    /// Starts the thread, whether Redis is there or not. There is a [`FleetLine`] for each shard.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn start(plan: FleetPlan, shards_count: u16) -> io::Result<(Self, Vec<FleetLine>)> {
        let (orders, ordered) = unbounded_channel();
        let (words, told) = unbounded_channel();
        let (casts, cast) = unbounded_channel();
        let (inquiries, inquired) = unbounded_channel();
        let (end, ending) = unbounded_channel();
        let (over, ended) = mpsc::sync_channel::<()>(1);
        let stats = Arc::new(FleetStats::default());
        let senders = Senders { orders, words, casts };
        let (lines, shards) =
            (0..shards_count).map(|shard| line(shard, senders.clone(), &stats)).unzip();
        let shared = Arc::clone(&stats);
        let thread = std::thread::Builder::new().name("fleet".to_owned()).spawn(move || {
            let keys = Keys::new(&plan.prefix);
            let office = Rc::new(Office { plan, keys, stats: shared, shards });
            let casts = Rc::new(casts::Casts::new(Rc::clone(&office), cast));
            let told_rooms = Rc::clone(&casts);
            let on_room = move |room: &str, is_open: bool| told_rooms.on_room(room, is_open);
            let orders = order::Orders::new(Rc::clone(&office), ordered, on_room);
            let beside = beside::Beside::new(Rc::clone(&office), told, inquired);
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => LocalSet::new()
                    .block_on(&runtime, run::run(&office, (&orders, &beside, &casts), ending)),
                Err(error) => warn!(%error, "the fleet's thread has no runtime"),
            }
            let _ = over.send(());
        })?;
        Ok((Self { stats, inquiries: Inquiries(inquiries), end, ended, thread }, lines))
    }

    /// What it counts.
    pub fn stats(&self) -> &Arc<FleetStats> {
        &self.stats
    }

    /// The way to ask it.
    pub fn inquiries(&self) -> Inquiries {
        self.inquiries.clone()
    }

    /// Publishes what still waits and leaves the fleet. What is left after `patience` is lost,
    /// which is logged; none of it was acknowledged.
    pub fn finish(self, patience: Duration) {
        let _ = self.end.send(());
        if self.ended.recv_timeout(patience).is_ok() {
            let _ = self.thread.join();
            return info!("left the fleet");
        }
        let left = self.stats.outbox_messages.load(Relaxed);
        warn!(left, ?patience, "Redis does not answer; messages that are left are lost");
    }
}
