//! Outstanding accepts, each with room for the peer's address.
//!
//! Single-shot on purpose: a multishot accept has one address buffer for all, and a direct
//! descriptor cannot be asked for its peer. Addresses are boxed once and never move.

use std::mem;
use std::net::SocketAddr;

use io_uring::{opcode, squeue, types};
use socket2::{SockAddr, SockAddrStorage};

use crate::listen::Listener;

struct Accept {
    storage: SockAddrStorage,
    length: libc::socklen_t,
}

/// The accepts of one ring and its listener.
pub(crate) struct Accepts {
    listener: Listener,
    accepts: Box<[Accept]>,
    /// Accepts that failed for lack of room and wait for [`Accepts::take_paused`].
    paused: Vec<u32>,
    stopped: bool,
}

impl Accepts {
    pub(crate) fn new(listener: Listener, count: u32) -> Self {
        let length = SockAddrStorage::zeroed().size_of();
        let accept = || Accept { storage: SockAddrStorage::zeroed(), length };
        let accepts = (0..count).map(|_| accept()).collect();
        Self { listener, accepts, paused: (0..count).collect(), stopped: false }
    }

    /// The submission of accept `index` into a slot that the kernel chooses.
    pub(crate) fn submission(&mut self, index: u32) -> squeue::Entry {
        let accept = &mut self.accepts[index as usize];
        accept.length = accept.storage.size_of();
        let address = (&raw mut accept.storage).cast();
        opcode::Accept::new(types::Fd(self.listener.raw_fd()), address, &raw mut accept.length)
            .file_index(Some(types::DestinationSlot::auto_target()))
            .build()
    }

    /// The peer that accept `index` completed with. IPv4 peers of a dual-stack listener come as
    /// IPv4.
    pub(crate) fn peer(&mut self, index: u32) -> Option<SocketAddr> {
        let accept = &mut self.accepts[index as usize];
        let storage = mem::replace(&mut accept.storage, SockAddrStorage::zeroed());
        // SAFETY: socket2 has no safe constructor from kernel-written storage. The accept has
        // completed successfully, so the kernel wrote an address of `length` bytes there.
        let address = unsafe { SockAddr::new(storage, accept.length) };
        let peer = address.as_socket()?;
        Some(SocketAddr::new(peer.ip().to_canonical(), peer.port()))
    }

    pub(crate) fn pause(&mut self, index: u32) {
        self.paused.push(index);
    }

    /// An accept to submit again, unless accepting has stopped.
    pub(crate) fn take_paused(&mut self) -> Option<u32> {
        if self.stopped { None } else { self.paused.pop() }
    }

    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether no accept is in flight.
    pub(crate) fn is_quiet(&self) -> bool {
        self.paused.len() == self.accepts.len()
    }

    pub(crate) fn listener(&self) -> &Listener {
        &self.listener
    }
}
