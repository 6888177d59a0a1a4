//! What the parts that work over a link share: the plan, the keys, the counters, the shards.

use std::sync::Arc;

use super::keys::Keys;
use super::line::ShardEnd;
use super::plan::FleetPlan;
use super::stats::FleetStats;

/// What the thread's tasks share.
pub(super) struct Office {
    pub(super) plan: FleetPlan,
    pub(super) keys: Keys,
    pub(super) stats: Arc<FleetStats>,
    pub(super) shards: Vec<ShardEnd>,
}
