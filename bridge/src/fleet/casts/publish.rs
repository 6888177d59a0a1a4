//! The commands: publishing in order, and counting who listens.

use std::collections::HashMap;
use std::rc::Rc;

use redis::{Cmd, Value, cmd};
use tracing::debug;

use super::super::link::{Link, LinkError};
use super::dialect::Spoken;

/// Publishes in one go, in order for each channel of the fleet and of the classic adapter; sharded
/// channels go to the nodes of their names.
pub(super) async fn publish(
    link: &Rc<Link>,
    words: impl IntoIterator<Item = (Spoken, Vec<u8>)>,
) -> Result<(), LinkError> {
    let mut nodes: Vec<Vec<Cmd>> = Vec::new();
    for (Spoken { channel, is_sharded }, payload) in words {
        let (word, node) = match is_sharded {
            true => ("SPUBLISH", link.node_of(&channel)),
            false => ("PUBLISH", 0), // every node passes it on
        };
        if nodes.len() <= node {
            nodes.resize_with(node + 1, Vec::new);
        }
        if let Some(commands) = nodes.get_mut(node) {
            commands.push(cmd(word).arg(channel).arg(payload).take());
        }
    }
    for (node, commands) in nodes.iter().enumerate().filter(|(_, commands)| !commands.is_empty()) {
        for answer in link.send(node, commands).await? {
            if let Value::ServerError(error) = answer {
                debug!(%error, "Redis does not publish a cast");
            }
        }
    }
    Ok(())
}

/// How many connections subscribe to each channel, over all nodes.
pub(super) async fn count(
    link: &Rc<Link>,
    channels: &[Spoken],
) -> Result<HashMap<Spoken, usize>, LinkError> {
    let mut counts = HashMap::new();
    for node in 0..link.nodes_count() {
        let (mut asked, mut commands) = (Vec::new(), Vec::new());
        for spoken in channels {
            if spoken.is_sharded && link.node_of(&spoken.channel) != node {
                continue;
            }
            let word = if spoken.is_sharded { "SHARDNUMSUB" } else { "NUMSUB" };
            commands.push(cmd("PUBSUB").arg(word).arg(&spoken.channel).take());
            asked.push(spoken);
        }
        for (spoken, answer) in asked.into_iter().zip(link.send(node, &commands).await?) {
            *counts.entry(spoken.clone()).or_default() += number(&answer);
        }
    }
    Ok(counts)
}

/// The number in `[channel, number]`; 0 if it is refused.
fn number(answer: &Value) -> usize {
    let value = match answer {
        Value::Array(items) => items.get(1),
        Value::Map(pairs) => pairs.first().map(|(_, value)| value),
        _ => None,
    };
    match value {
        Some(Value::Int(count)) => usize::try_from(*count).unwrap_or(0),
        Some(Value::BulkString(text)) => {
            std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
        }
        _ => 0,
    }
}
