//! A look at Redis before a host is started: whether it lets us in, what it is, how fast it is.
//!
//! It goes the way a host goes, over a [`Link`], and keeps nothing and changes nothing there.

use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue, Value, cmd};
use tokio::time::timeout;

use super::link::{Link, LinkError};
use super::target::{Place, Target};

/// How long the whole look may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Round trips of which the fastest counts: the first ones pay for what is cold.
const ROUNDS: usize = 5;

impl Target {
    /// What it is, in one word: `standalone`, `sentinel` or `cluster`.
    pub fn kind(&self) -> &'static str {
        match self.place {
            Place::Standalone(_) => "standalone",
            Place::Sentinel { .. } => "sentinel",
            Place::Cluster(_) => "cluster",
        }
    }
}

/// Connects as a host does, asks each node what it is, and leaves. Needs a tokio `LocalSet`.
/// Answers with what it found, such as `standalone 7.0.15, 0.31 ms`.
///
/// # Errors
/// What Redis or the way to it says, that it does not answer; without secrets.
pub async fn probe(target: &Target) -> Result<String, String> {
    match timeout(PATIENCE, look(target)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(LinkError(reason))) => Err(reason),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

async fn look(target: &Target) -> Result<String, LinkError> {
    let (link, _pushes) = Link::open(target, "throng-check", 1).await?;
    let mut infos = Vec::new();
    for node in 0..link.nodes_count() {
        infos.push(Info::parse(&ask(&link, node, &cmd("INFO")).await?));
    }
    let mut fastest = Duration::MAX;
    for _ in 0..ROUNDS {
        let since = Instant::now();
        ask(&link, 0, &cmd("PING")).await?;
        fastest = fastest.min(since.elapsed());
    }
    Ok(describe(target.kind(), &infos, fastest))
}

async fn ask(link: &Link, node: usize, command: &Cmd) -> Result<Value, LinkError> {
    let answers = link.send(node, std::slice::from_ref(command)).await?;
    answers.into_iter().next().ok_or_else(|| LinkError("an answer is missing".to_owned()))
}

/// What a node says of itself.
#[derive(Default)]
struct Info {
    version: Option<String>,
    policy: Option<String>,
}

impl Info {
    fn parse(answer: &Value) -> Self {
        let text = String::from_redis_value_ref(answer).unwrap_or_default();
        let find = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        Self { version: find("redis_version"), policy: find("maxmemory_policy") }
    }
}

fn describe(kind: &str, infos: &[Info], round_trip: Duration) -> String {
    let mut versions: Vec<_> = infos.iter().filter_map(|it| it.version.as_deref()).collect();
    versions.sort_unstable();
    versions.dedup();
    let nodes = match infos.len() {
        1 => String::new(),
        count => format!(" of {count} nodes"),
    };
    let version = match versions.as_slice() {
        [] => " of unknown version".to_owned(),
        versions => format!(" {}", versions.join(" and ")),
    };
    // Within one machine it is some hundredths.
    let ms = round_trip.as_secs_f64() * 1000.0;
    let mut text = format!("{kind}{nodes}{version}, {ms:.2} ms");
    // What is evicted was acknowledged.
    let evicts = |it: &&str| *it != "noeviction";
    if let Some(policy) = infos.iter().filter_map(|it| it.policy.as_deref()).find(evicts) {
        text += &format!("; maxmemory-policy is {policy}, noeviction is safe");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_said_in_one_line() {
        let info = |text: &str| Info::parse(&Value::BulkString(text.as_bytes().to_vec()));
        let one = info("# Server\r\nredis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\n");
        let trip = Duration::from_micros(312);
        let said = describe("standalone", std::slice::from_ref(&one), trip);
        assert_eq!(said, "standalone 7.0.15, 0.31 ms");
        let other = info("redis_version:7.2.4\r\nmaxmemory_policy:allkeys-lru\r\n");
        let said = describe("cluster", &[one, other, info("")], trip);
        let expected = "cluster of 3 nodes 7.0.15 and 7.2.4, 0.31 ms; maxmemory-policy is \
                        allkeys-lru, noeviction is safe";
        assert_eq!(said, expected);
        let said = describe("sentinel", &[Info::default()], trip);
        assert_eq!(said, "sentinel of unknown version, 0.31 ms");
    }
}
