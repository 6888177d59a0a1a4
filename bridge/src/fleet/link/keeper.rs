//! Looks after a link while it stands: whether its nodes answer and are still masters.

use std::sync::Arc;
use std::time::Duration;

use redis::{Value, cmd};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::cluster::{self, Topology};
use super::fate::Fate;
use super::node::Node;
use super::{LinkError, refusal};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Between two looks at a cluster's topology.
const SURVEY: Duration = Duration::from_secs(5);

/// Asks one node after the other for the cluster's topology; ends the link when it has changed.
pub(super) async fn watch(fate: Arc<Fate>, topology: Topology) {
    for index in (0..topology.masters.len()).cycle() {
        sleep(SURVEY).await;
        let Ok(node) = fate.node(index) else { return };
        let why = match node.send(0, &cluster::questions()).await {
            Ok(answers) => match cluster::read(&answers, &node.address) {
                Ok(found) if found == topology => continue,
                Ok(_) => format!("{}: the cluster's topology has changed", node.address),
                Err(why) => format!("{}: {why}", node.address),
            },
            Err(LinkError(why)) => why,
        };
        fate.end(&why);
        return;
    }
}

/// Asks all nodes for their role, for ever; ends the link where one is no master or is silent.
pub(super) async fn keep(fate: Arc<Fate>, nodes_count: usize) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for index in 0..nodes_count {
            let Ok(node) = fate.node(index) else { return };
            if let Err(LinkError(why)) = look(&node).await {
                fate.end(&why);
                return;
            }
        }
    }
}

/// Whether a node is a master, and all its connections answer.
async fn look(node: &Node) -> Result<(), LinkError> {
    let role = [cmd("ROLE")];
    let (answers, pushes) = tokio::join!(node.send(0, &role), node.ping_pushes());
    pushes?;
    is_master(&answers?).map_err(|why| LinkError(format!("{}: {why}", node.address)))?;
    for lane in 1..node.lanes_count() {
        node.send(lane, &role).await?;
    }
    Ok(())
}

/// Whether the first of these answers, to ROLE, is that of a master.
pub(super) fn is_master(answers: &[Value]) -> Result<(), String> {
    if let Some(why) = refusal::away(answers) {
        return Err(why);
    }
    let role = match answers.first() {
        Some(Value::Array(parts)) => parts.first(),
        Some(Value::ServerError(error)) => return Err(format!("ROLE: {error}")),
        _ => None,
    };
    match role {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        Some(Value::BulkString(role)) => Err(format!("is a {}", String::from_utf8_lossy(role))),
        _ => Err("gives no role".to_owned()),
    }
}
