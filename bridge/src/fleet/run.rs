//! One link after the other, for ever.
//!
//! While there is a link, all parts serve over it and what arrives is passed to them, in batches;
//! when it is lost all stop at once, and keep or refuse what comes until there is the next. No
//! error ends this, and none makes it wait for longer than [`PAUSE_MAX`].

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::beside::Beside;
use super::casts::Casts;
use super::clock::now_ms;
use super::link::{Link, LinkError, Push, Pushes};
use super::office::Office;
use super::order::Orders;
use super::stats::FleetStats;

/// Between attempts to connect, at first and at most; by half more or less.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(1000);

/// A link that was lost sooner is no reason to try again at once.
const YOUNG: Duration = Duration::from_secs(2);

/// How long one attempt may take; each of its steps has a bound of its own.
const DIAL_TIMEOUT: Duration = Duration::from_secs(20);

/// Pushes between two wake-ups of the shards.
const PUSHES_MAX: usize = 1024;

/// How long it is remembered how long things took.
const LATENCY_WINDOW: Duration = Duration::from_secs(30);

/// How long taking leave may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The parts that work over a link.
type Parts<'a> = (&'a Orders, &'a Beside, &'a Casts);

/// Connects, serves until the link is lost, and connects again, until told to end and nothing
/// waits to be published.
pub(super) async fn run(office: &Rc<Office>, parts: Parts<'_>, mut ending: UnboundedReceiver<()>) {
    let mut is_ending = false;
    let mut pause = Duration::ZERO;
    tokio::task::spawn_local(forget_latencies(Arc::clone(&office.stats)));
    loop {
        let dialled = tokio::select! {
            link = dial(office, &mut pause) => Some(link),
            () = wait(parts) => None,
            () = ended(parts, &mut ending, &mut is_ending) => None,
        };
        let Some((link, mut pushes)) = dialled else { return };
        office.stats.connects.fetch_add(1, Relaxed);
        office.stats.down_since_ms.store(0, Relaxed);
        let (link, began) = (Rc::new(link), Instant::now());
        let lost = tokio::select! {
            lost = serve(&link, &mut pushes, parts) => lost,
            () = ended(parts, &mut ending, &mut is_ending) => {
                return leave(&link, pushes, parts).await;
            }
        };
        office.stats.breaks.fetch_add(1, Relaxed);
        office.stats.down_since_ms.store(now_ms().max(1), Relaxed);
        office.stats.is_fresh.store(false, Relaxed);
        if began.elapsed() > YOUNG {
            pause = Duration::ZERO;
        }
        warn!(reason = lost.0, "the link to Redis is lost");
    }
}

/// What took long a while ago is no news. Never ends.
async fn forget_latencies(stats: Arc<FleetStats>) {
    loop {
        sleep(LATENCY_WINDOW).await;
        stats.forget_latencies();
    }
}

/// Returns when the fleet may be left: it is to end, and nothing waits. Whoever sends the end has
/// sent everything else before.
async fn ended(parts: Parts<'_>, ending: &mut UnboundedReceiver<()>, is_ending: &mut bool) {
    if !*is_ending {
        ending.recv().await;
        *is_ending = true;
    }
    while !parts.0.is_idle() {
        sleep(Duration::from_millis(5)).await;
    }
}

async fn wait((orders, beside, casts): Parts<'_>) {
    tokio::select! {
        () = orders.wait() => {}
        () = beside.wait() => {}
        () = casts.wait() => {}
    }
}

/// Connects, however often it takes. `pause` is how long to wait before, and grows.
async fn dial(office: &Office, pause: &mut Duration) -> (Link, Pushes) {
    let plan = &office.plan;
    let name = format!("throng-{:08x}", plan.host);
    let mut told = String::new();
    loop {
        sleep(jittered(*pause)).await;
        *pause = (*pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        let opening = Link::open(&plan.target, &name, plan.pool_size);
        match timeout(DIAL_TIMEOUT, opening).await {
            Ok(Ok((link, pushes))) => {
                info!(place = link.place(), "connected to Redis");
                let stats = Arc::clone(&office.stats);
                link.time_by(move |command, time| stats.note_round_trip(command, time));
                return (link, pushes);
            }
            Ok(Err(error)) => tell_news(&mut told, &error.0),
            Err(_) => tell_news(&mut told, "no answer"),
        }
    }
}

/// By half more or less, so that not all hosts do the same at the same time.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + (RandomState::new().hash_one(0) % 1024) as f64 / 1024.0)
}

/// Says why there is no link, when that is not what was said last.
fn tell_news(told: &mut String, reason: &str) {
    if told != reason {
        warn!(reason, "Redis cannot be used; trying on");
        reason.clone_into(told);
    }
}

/// All parts over one link, until it is lost.
async fn serve(link: &Rc<Link>, pushes: &mut Pushes, parts: Parts<'_>) -> LinkError {
    let (orders, beside, casts) = parts;
    let lost = tokio::select! {
        lost = pass(pushes, parts) => lost,
        lost = orders.serve(link, beside) => lost,
        lost = beside.serve(link) => lost,
        lost = casts.serve(link) => lost,
    };
    link.give_up(&lost.0);
    lost
}

/// Takes leave of the fleet. What still arrives is for nobody, but a link that nobody reads ends.
async fn leave(link: &Rc<Link>, mut pushes: Pushes, parts: Parts<'_>) {
    let read = async { while pushes.recv().await.is_some() {} };
    tokio::select! {
        _ = timeout(LEAVE_TIMEOUT, parts.1.leave(link)) => {}
        () = read => {}
    }
}

/// Passes on what arrives, until nothing will.
async fn pass(pushes: &mut Pushes, parts: Parts<'_>) -> LinkError {
    while let Some(first) = pushes.recv().await {
        let mut next = Some(first);
        let mut count = 0;
        while let Some(push) = next {
            match push {
                Push::Message { channel, payload } => pass_one(&channel, &payload, parts),
                Push::Lost(why) => {
                    parts.0.wake();
                    return why;
                }
            }
            count += 1;
            // What is taken out must be passed on: so it is not taken before its turn is sure.
            next = if count < PUSHES_MAX { pushes.try_recv().ok() } else { None };
        }
        parts.0.note_passed(count);
        parts.0.wake();
        tokio::task::yield_now().await;
    }
    LinkError("nothing arrives any more".to_owned())
}

fn pass_one(channel: &[u8], payload: &[u8], (orders, beside, casts): Parts<'_>) {
    let Ok(name) = std::str::from_utf8(channel) else {
        casts.on_push(channel, payload);
        return;
    };
    if let Some(room) = orders.room_of(name) {
        return orders.on_event(beside, room, payload);
    }
    let known = orders.on_push(name, payload)
        || beside.on_push(name, payload)
        || casts.on_push(channel, payload);
    if !known {
        debug!(channel = name, "nobody knows this channel");
    }
}
