//! The connections of a ring that are on their way to another, and the names of rings.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::slots::Conn;

/// Names a ring to others, which may [`crate::Ring::transfer`] connections to it; may be cloned and
/// sent to any thread.
///
/// It outlives its ring harmlessly: a transfer to a ring that is gone fails. It is a descriptor,
/// and keeps the memory of a dropped ring's queues in the kernel, but none of its sockets.
#[derive(Clone, Debug)]
pub struct Address(Arc<OwnedFd>);

impl Address {
    pub(crate) fn new(ring: OwnedFd) -> Self {
        Self(Arc::new(ring))
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A transfer that has not ended. Its address is held until then: the submission names it.
struct Transfer {
    to: Address,
    token: u64,
}

/// The transfers out of one ring, by slot.
#[derive(Default)]
pub(crate) struct Transfers(HashMap<u32, Transfer>);

impl Transfers {
    pub(crate) fn start(&mut self, conn: Conn, to: Address, token: u64) {
        self.0.insert(conn.slot, Transfer { to, token });
    }

    /// Where a connection goes, and under which token.
    pub(crate) fn get(&self, conn: Conn) -> Option<(&Address, u64)> {
        self.0.get(&conn.slot).map(|transfer| (&transfer.to, transfer.token))
    }

    pub(crate) fn finish(&mut self, conn: Conn) {
        self.0.remove(&conn.slot);
    }
}
