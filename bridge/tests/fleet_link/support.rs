//! What the tests of a link share.

use std::future::Future;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use crate::link::{Link, LinkError, Push, Pushes};
use crate::target::Target;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test as the fleet's thread runs: everything on one thread.
pub(crate) fn on_one_thread<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let test = async { tokio::time::timeout(PATIENCE * 4, test).await.expect("in time") };
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

pub(crate) async fn open(url: &str) -> (Link, Pushes) {
    try_open(url).await.unwrap_or_else(|error| panic!("{url}: {error}"))
}

pub(crate) async fn try_open(url: &str) -> Result<(Link, Pushes), LinkError> {
    Link::open(&Target::parse(url).expect("a target"), "throng-test", 1).await
}

/// Opens again and again, as the fleet does.
pub(crate) async fn redial(url: &str) -> (Link, Pushes) {
    let start = Instant::now();
    loop {
        match try_open(url).await {
            Ok(link) => return link,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{url}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A command of words.
pub(crate) fn command(words: &[&str]) -> Cmd {
    let mut words = words.iter();
    let mut command = redis::cmd(words.next().expect("a name"));
    words.for_each(|word| {
        command.arg(*word);
    });
    command
}

pub(crate) async fn send(link: &Link, words: &[&str]) -> Value {
    let node = words.get(1).map_or(0, |key| link.node_of(key));
    let answers = link.send(node, &[command(words)]).await;
    answers.unwrap_or_else(|error| panic!("{words:?}: {error}")).remove(0)
}

/// The next message.
pub(crate) async fn message(pushes: &mut Pushes) -> (String, String) {
    match next(pushes).await {
        Push::Message { channel, payload } => (text(channel), text(payload)),
        Push::Lost(why) => panic!("the link is lost: {why}"),
    }
}

/// Why the link is lost, after whatever messages; and how long that took from now.
pub(crate) async fn lost(pushes: &mut Pushes) -> (String, Duration) {
    let start = Instant::now();
    let why = loop {
        if let Push::Lost(why) = next(pushes).await {
            break why.to_string();
        }
    };
    let time = start.elapsed();
    assert!(pushes.recv().await.is_none(), "nothing follows");
    (why, time)
}

async fn next(pushes: &mut Pushes) -> Push {
    let next = tokio::time::timeout(PATIENCE, pushes.recv()).await;
    next.expect("a push in time").expect("the link's end was told")
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

/// A lost link fails at once, whatever it is asked.
pub(crate) async fn assert_is_dead(link: &Link) {
    let start = Instant::now();
    assert!(link.send(0, &[command(&["PING"])]).await.is_err());
    assert!(link.subscribe(&["x".to_owned()], false).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(1), "not at once");
}
