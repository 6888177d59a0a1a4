//! Where Redis is, from the settings that say it in one or in parts, and what needs it.
//!
//! Invariant: what is written counts or is refused. Parts beside `REDIS_URL` must say the same, and
//! none may stand where no host is named.

use throng_bridge::fleet::{Adapter, Target};

use super::{AckLevel, Config, Problem, Settings, parse};

/// The parts, the one that names the host first.
const PARTS: [&str; 3] = ["REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD"];

/// Puts the parts together into `config`, and adds a problem for each setting that is left in the
/// air. Values that did not parse have their problems already.
pub(super) fn join(config: &mut Config, settings: &Settings, problems: &mut Vec<Problem>) {
    let failed: Vec<_> = problems.iter().map(|problem| problem.setting.clone()).collect();
    let is_good = |name: &str| !failed.iter().any(|failed| failed == name);
    let has_url = settings.find("REDIS_URL").is_some();
    let written: Vec<_> = PARTS.into_iter().filter(|part| settings.find(part).is_some()).collect();
    if !is_good("REDIS_URL") || !PARTS.into_iter().all(is_good) {
        return;
    }
    let mut refuse = |name: &str, reason: &str| {
        let line = format!("{} {reason}", settings.describe(name));
        problems.push(Problem::new(name, line));
    };
    match (parts(settings), written.first()) {
        (Some(Err(reason)), _) => refuse("REDIS_HOST", &reason),
        (Some(Ok(target)), _) if !has_url => config.redis = Some(target),
        (Some(Ok(target)), _) if config.redis.as_ref() != Some(&target) => {
            let url = settings.describe("REDIS_URL");
            refuse("REDIS_HOST", &format!("contradicts {url}: say in one way where Redis is"));
        }
        (None, Some(part)) if has_url => {
            refuse(part, "says nothing beside REDIS_URL: put it into that");
        }
        (None, Some(part)) => refuse(part, "needs REDIS_HOST"),
        (Some(Ok(_)) | None, _) => {}
    }
    if config.redis.is_some() {
        return;
    }
    let needs = "needs Redis: set REDIS_URL or REDIS_HOST";
    if config.socketio_adapter != Adapter::Off {
        refuse("SOCKETIO_ADAPTER", needs);
    }
    if config.ack_level == AckLevel::Redis {
        refuse("ACK_LEVEL", needs);
    }
}

/// What the parts say, if one names a host.
fn parts(settings: &Settings) -> Option<Result<Target, String>> {
    let text = |name| settings.find(name).map(|written| written.text.as_str());
    let host = text("REDIS_HOST")?.trim();
    let port = text("REDIS_PORT").map_or(Ok(6379), |port| parse::redis_port(port.trim()));
    Some(port.map(|port| Target::from_parts(host, port, text("REDIS_PASSWORD"))))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, refusal};
    use super::*;

    #[test]
    fn redis_is_named_in_one_or_in_parts() {
        let by_url = config(&[("REDIS_URL", "redis://:hunter2@cache:6380")]).redis;
        let target = Target::parse("redis://:hunter2@cache:6380").expect("a good one");
        assert_eq!(by_url, Some(target));
        let parts =
            [("REDIS_HOST", "cache"), ("REDIS_PORT", "6380"), ("REDIS_PASSWORD", "hunter2")];
        assert_eq!(config(&parts).redis, by_url);
        let plain = Some(Target::from_parts("cache", 6379, None));
        assert_eq!(config(&[("REDIS_HOST", "cache")]).redis, plain);
        let both = [&parts[..], &[("REDIS_URL", "redis://:hunter2@cache:6380")]].concat();
        assert_eq!(config(&both).redis, by_url, "they say the same");
        let shown = format!("{:?}", config(&both));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn what_says_nothing_or_something_else_is_refused() {
        let url = ("REDIS_URL", "redis://:hunter2@cache:6380");
        for (pairs, name, reason) in [
            (&[url, ("REDIS_HOST", "other")][..], "REDIS_HOST=other", "contradicts REDIS_URL=***"),
            (&[url, ("REDIS_HOST", "cache")], "REDIS_HOST=cache", "contradicts REDIS_URL=***"),
            (&[url, ("REDIS_PASSWORD", "hunter2")], "REDIS_PASSWORD=***", "into that"),
            (&[("REDIS_PASSWORD", "hunter2")], "REDIS_PASSWORD=***", "needs REDIS_HOST"),
            (&[("REDIS_PORT", "6380")], "REDIS_PORT=6380", "needs REDIS_HOST"),
            (&[("REDIS_HOST", "cache:6379")], "REDIS_HOST=cache:6379", "without a port"),
            (&[("REDIS_PORT", "tcp://10.0.0.1:6379")], "REDIS_PORT=", "enableServiceLinks"),
            (&[("SOCKETIO_ADAPTER", "on")], "SOCKETIO_ADAPTER=on", "set REDIS_URL or REDIS_HOST"),
            (&[("ACK_LEVEL", "redis")], "ACK_LEVEL=redis", "set REDIS_URL or REDIS_HOST"),
        ] {
            let text = refusal(pairs);
            assert!(text.contains(name) && text.contains(reason), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        let text = refusal(&[("REDIS_URL", "hunter2"), ("SOCKETIO_ADAPTER", "on")]);
        assert!(!text.contains("SOCKETIO_ADAPTER"), "one fault, one line: {text}");
    }

    #[test]
    fn messages_are_as_safe_as_what_is_configured() {
        let redis = ("REDIS_URL", "redis://cache");
        let (nowhere, mongo) = (("DATA_DIR", "none"), ("MONGODB_URI", "mongodb://db"));
        for (pairs, level) in [
            (&[][..], AckLevel::Store),
            (&[nowhere], AckLevel::Memory),
            (&[nowhere, redis], AckLevel::Redis),
            (&[redis], AckLevel::Store),
            (&[nowhere, mongo, redis], AckLevel::Store),
            (&[redis, ("ACK_LEVEL", "redis")], AckLevel::Redis),
            (&[redis, ("ACK_LEVEL", "memory")], AckLevel::Memory),
        ] {
            assert_eq!(config(pairs).ack_level, level, "{pairs:?}");
        }
    }
}
