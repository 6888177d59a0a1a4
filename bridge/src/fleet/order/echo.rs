//! The echo that must come back from every node, and what has come meanwhile.

use std::cell::{Cell, RefCell};

use tokio::sync::Notify;

use crate::fleet::keys::PARTITIONS;
use crate::fleet::link::Link;
use crate::fleet::office::Office;

/// What must come back.
pub(super) struct Echo {
    /// What all channels of probes of this host begin with.
    prefix: String,
    /// The word that must come back, from each of these channels.
    pub(super) expected: RefCell<(String, Vec<String>)>,
    pub(super) came: Notify,
    /// Pushes that were passed on.
    pub(super) passed: Cell<u64>,
}

impl Echo {
    pub(super) fn new(office: &Office) -> Self {
        let prefix = office.keys.probe(office.plan.host);
        let came = Notify::new();
        Self { prefix, expected: RefCell::default(), came, passed: Cell::default() }
    }

    /// False if it is no probe.
    pub(super) fn on_push(&self, channel: &str, payload: &[u8]) -> bool {
        if !channel.starts_with(&self.prefix) {
            return false;
        }
        let mut expected = self.expected.borrow_mut();
        if expected.0.as_bytes() == payload {
            expected.1.retain(|it| it != channel);
            if expected.1.is_empty() {
                self.came.notify_one();
            }
        }
        true
    }

    /// A channel that belongs to each node.
    pub(super) fn channels(&self, link: &Link) -> Vec<String> {
        let mut channels = vec![None; link.nodes_count()];
        for partition in 0..PARTITIONS {
            let channel = format!("{}:{{p{partition:03}}}", self.prefix);
            if let Some(its) = channels.get_mut(link.node_of(&channel)) {
                its.get_or_insert(channel);
            }
        }
        channels.into_iter().flatten().collect()
    }
}
