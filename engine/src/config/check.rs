//! Relations between settings that each parse alone.

use super::{AckLevel, Config, Problem, Settings};

/// `IORING_MAX_FIXED_FILES`: the largest table of direct descriptors one ring can have.
const RING_SLOTS_MAX: u64 = 1 << 20;

/// What must hold between two settings, and why.
struct Relation {
    small: &'static str,
    large: &'static str,
    holds: fn(&Config) -> bool,
    reason: &'static str,
}

const RELATIONS: &[Relation] = &[
    Relation {
        small: "MAX_MESSAGE_BYTES",
        large: "MAX_PAYLOAD",
        holds: |c| c.message_bytes_max <= c.payload_bytes_max,
        reason: "a message must fit into a packet",
    },
    Relation {
        small: "MAX_MESSAGE_BYTES",
        large: "OUTBOX_BYTES",
        holds: |c| c.message_bytes_max <= c.outbox_bytes_max,
        reason: "a message must fit into an empty outbox",
    },
    Relation {
        small: "MAX_CONNECTIONS",
        large: "MAX_WORKERS",
        holds: |c| u64::from(c.connections_max) <= RING_SLOTS_MAX * c.workers as u64,
        reason: "a worker holds at most 1048576 connections",
    },
    Relation {
        small: "FLUSH_INTERVAL",
        large: "PING_TIMEOUT",
        holds: |c| c.flush_interval < c.ping_timeout,
        reason: "a ping must leave before its answer is due",
    },
    Relation {
        small: "ACK_LEVEL",
        large: "DATA_DIR",
        holds: |c| c.has_store() || c.ack_level != AckLevel::Store,
        reason: "without a store nothing can be committed to it",
    },
];

/// Adds the relations that don't hold, but those of values that did not parse.
pub(super) fn relations(config: &Config, settings: &Settings, problems: &mut Vec<Problem>) {
    let failed: Vec<_> = problems.iter().map(|problem| problem.setting.clone()).collect();
    let parsed = |name: &str| !failed.iter().any(|failed| failed == name);
    for relation in RELATIONS.iter().filter(|r| parsed(r.small) && parsed(r.large)) {
        if !(relation.holds)(config) {
            let (small, large) =
                (settings.describe(relation.small), settings.describe(relation.large));
            let line = format!("{small} is too much for {large}: {}", relation.reason);
            problems.push(Problem::new(relation.small, line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::refusal;

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let line = "MAX_MESSAGE_BYTES=65536 (default) is too much for OUTBOX_BYTES=1KiB \
                    (environment): a message must fit into an empty outbox";
        assert!(refusal(&[("OUTBOX_BYTES", "1KiB")]).contains(line));
        for (name, value, other) in [
            ("MAX_PAYLOAD", "65535", "MAX_MESSAGE_BYTES"),
            ("PING_TIMEOUT", "1ms", "FLUSH_INTERVAL"),
            ("MAX_WORKERS", "1", "MAX_CONNECTIONS"),
        ] {
            let pairs = [(name, value), ("FLUSH_INTERVAL", "1ms"), ("MAX_CONNECTIONS", "1048577")];
            let text = refusal(&pairs);
            assert!(
                text.contains(&format!("{other}=")) && text.contains(&format!("{name}={value}")),
                "{text}"
            );
        }
        let both = refusal(&[("OUTBOX_BYTES", "1KiB"), ("MAX_MESSAGE_BYTES", "x")]);
        assert!(
            !both.contains("too much"),
            "a relation to what did not parse says nothing: {both}"
        );
    }
}
