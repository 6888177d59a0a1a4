//! How fast it is. Not a test: `cargo test --release -p throng-bridge --lib speed -- --ignored
//! --nocapture --test-threads 1` prints what the machine can do.

use hdrhistogram::Histogram;
use redis::aio::MultiplexedConnection;

use super::super::script::{Publish, Scripts, Terms};
use super::super::wire;
use super::*;

const MESSAGES: u64 = 60_000;
const PIPELINE: usize = 512;

/// The same script in large pipelines, with nothing around it.
async fn bare(port: u16, keys: &Keys) -> f64 {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/?protocol=resp3"));
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(LONG));
    let client = client.expect("a client");
    let connection = client.get_multiplexed_async_connection_with_config(&patient).await;
    let connection = connection.expect("a connection");
    let scripts = Scripts::new();
    for cmd in scripts.loading() {
        let _: String = cmd.query_async(&mut connection.clone()).await.expect("loaded");
    }
    let record = wire::record(1, &draft(&"x".repeat(100), None));
    let (meta, stream, channel) = (keys.meta("bare"), keys.stream("bare"), keys.events("bare"));
    let began = Instant::now();
    let lane = |lane: usize| {
        let (mut connection, scripts, record) = (connection.clone(), &scripts, &record);
        let (meta, stream, channel) = (&meta, &stream, &channel);
        async move {
            for batch in 0..MESSAGES as usize / PIPELINE / 3 {
                let mut pipeline = redis::pipe();
                for at in 0..PIPELINE {
                    let id = format!("{lane}-{batch}-{at}");
                    let sent = keys.sent("bare", &id);
                    let publish = Publish {
                        meta,
                        stream,
                        sent: &sent,
                        after: None,
                        channel,
                        epoch: 1,
                        floor: 0,
                        id: &id,
                        record,
                        at_ms: 1,
                        at_us: 1,
                    };
                    let (history_size, history_ttl_ms) = (1000, 1_000_000);
                    let by_client = false;
                    let terms = Terms { history_size, history_ttl_ms, by_client, verb: "PUBLISH" };
                    pipeline.add_command(scripts.publish(&publish, &terms));
                }
                run(&mut connection, &pipeline).await;
            }
        }
    };
    tokio::join!(lane(0), lane(1), lane(2));
    (MESSAGES as usize / PIPELINE / 3 * PIPELINE * 3) as f64 / began.elapsed().as_secs_f64()
}

async fn run(connection: &mut MultiplexedConnection, pipeline: &redis::Pipeline) {
    let answers: Vec<redis::Value> = pipeline.query_async(connection).await.expect("answers");
    assert_eq!(answers.len(), PIPELINE);
}

fn fast(port: u16, host: u32) -> Host {
    Host::start_as(FleetPlan { history_size: 1000, ..plan(port, host) })
}

/// Publishes with a bounded number under way; messages per second.
fn through_a_fleet(port: u16, room: &str, opens: bool) -> f64 {
    let mut hosts = vec![fast(port, 9)];
    if opens {
        hosts[0].open(room);
        until(&mut hosts, "open", |hosts| hosts[0].is_open(room));
    } else {
        until(&mut hosts, "up", |hosts| hosts[0].fleet.stats().is_up());
    }
    let (line, body) = (&hosts[0].line, "x".repeat(100));
    let began = Instant::now();
    let (mut sent, mut published, mut delivered) = (0, 0, 0);
    while published < MESSAGES || (opens && delivered < MESSAGES) {
        while sent < MESSAGES && sent - published < 4096 {
            sent += 1;
            let (ticket, id) = (Ticket(sent), format!("f{opens}-{sent}").into());
            let (room, draft) = (room.into(), draft(&body, None));
            line.order(Order::Publish { ticket, room, id, at_ms: 1, draft, floor: 0 });
        }
        let mut idle = true;
        while let Some(told) = line.poll() {
            idle = false;
            match told {
                FromFleet::Ordered(Ordered::Published { .. }) => published += 1,
                FromFleet::Ordered(Ordered::Delivered { .. }) => delivered += 1,
                FromFleet::Ordered(Ordered::Refused { .. }) => panic!("refused"),
                FromFleet::Ordered(Ordered::Broken { .. }) => panic!("broken at {delivered}"),
                _ => {}
            }
        }
        if idle {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    let rate = MESSAGES as f64 / began.elapsed().as_secs_f64();
    let round_trips = hosts[0].fleet.stats().round_trip_us.lock().expect("no panic");
    let at = |quantile| round_trips.value_at_quantile(quantile);
    println!("at {rate:.0}/s a pipeline takes p50 {} µs, p99 {} µs", at(0.5), at(0.99));
    rate
}

#[test]
#[ignore = "a measurement"]
fn publishes_per_second() {
    let redis = Redis::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for _ in 0..3 {
        let bare = runtime.block_on(bare(redis.port(), &Keys::new("t:")));
        println!("bare {bare:.0}/s");
        let alone = through_a_fleet(redis.port(), "alone", false);
        println!("by a fleet {alone:.0}/s");
        let heard = through_a_fleet(redis.port(), "heard", true);
        redis.run(&["FLUSHALL"]);
        println!(
            "publishes/s: bare {bare:.0}, by a fleet {alone:.0} ({:.0} %), and delivered to it \
             {heard:.0} ({:.0} %)",
            100.0 * alone / bare,
            100.0 * heard / bare,
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn publish_to_delivery() {
    let redis = Redis::start();
    let mut hosts = vec![fast(redis.port(), 1), fast(redis.port(), 2)];
    hosts.iter_mut().for_each(|host| host.open("a"));
    until(&mut hosts, "open", |hosts| hosts.iter().all(|host| host.is_open("a")));
    let reader = hosts.pop().expect("two");
    let thread = std::thread::current();
    reader.line.wake_by(move || thread.unpark());
    let (began, count) = (Instant::now(), 15_000);
    let publisher = std::thread::spawn(move || {
        for at in 0..count {
            let due = Duration::from_millis(at);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            // The body says when it was handed over.
            let body = began.elapsed().as_micros().to_string();
            hosts[0].publish("a", &body, None);
            hosts[0].drain();
        }
        hosts
    });
    let mut took = Histogram::<u64>::new(3).expect("a histogram");
    let mut delivered = 0;
    while delivered < count {
        match reader.line.poll() {
            Some(FromFleet::Ordered(Ordered::Delivered { message, .. })) => {
                delivered += 1;
                let sent: u64 = message.draft.body.trim_matches('"').parse().expect("a time");
                took.saturating_record(began.elapsed().as_micros() as u64 - sent);
            }
            Some(_) => {}
            None => std::thread::park_timeout(Duration::from_millis(100)),
        }
    }
    drop(publisher.join().expect("published"));
    let at = |quantile| took.value_at_quantile(quantile);
    println!(
        "publish to delivery at another host, 1000/s: p50 {} µs, p99 {} µs, p99.9 {} µs",
        at(0.5),
        at(0.99),
        at(0.999)
    );
}

#[test]
#[ignore = "a measurement"]
fn ten_thousand_rooms_again() {
    let redis = Redis::start();
    let names: Vec<String> = (0..10_000).map(|at| format!("room-{at}")).collect();
    let mut hosts = vec![fast(redis.port(), 1), fast(redis.port(), 2)];
    let began = Instant::now();
    names.iter().for_each(|name| hosts[0].open(name));
    until(&mut hosts, "open", |hosts| names.iter().all(|name| hosts[0].is_open(name)));
    println!("10,000 rooms opened in {:?}", began.elapsed());
    for name in &names {
        hosts[1].publish(name, "x", None);
    }
    until(&mut hosts, "delivered", |hosts| hosts[0].stat(|it| &it.delivered) == 10_000);
    for _ in 0..3 {
        let before = hosts[0].stat(|it| &it.repairs);
        let began = Instant::now();
        redis.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        until(&mut hosts, "repaired", |hosts| hosts[0].stat(|it| &it.repairs) == before + 10_000);
        println!("10,000 rooms subscribed and repaired in {:?}", began.elapsed());
    }
    assert_eq!(hosts[0].stat(|it| &it.broken), 0);
}
