//! Connections being opened from this side: socket, bind (if asked), connect.
//!
//! Addresses are boxed and stay in place until the dial has ended.

use std::net::SocketAddr;

use io_uring::{opcode, squeue, types};
use socket2::{Domain, SockAddr};

use crate::slots::Conn;

pub(crate) struct Dial {
    to: SockAddr,
    from: Option<SockAddr>,
    pub(crate) tag: u64,
    pub(crate) conn: Option<Conn>,
}

/// The dials of one ring.
#[derive(Default)]
pub(crate) struct Dials {
    /// Boxed: their addresses are given to the kernel and must not move.
    dials: Vec<Option<Box<Dial>>>,
    free: Vec<u32>,
}

impl Dials {
    /// Remembers the dial; returns its index and the submission that makes its socket.
    pub(crate) fn start(
        &mut self,
        to: SocketAddr,
        from: Option<SocketAddr>,
        tag: u64,
    ) -> (u32, squeue::Entry) {
        let dial = Dial { to: to.into(), from: from.map(SockAddr::from), tag, conn: None };
        let index = self.free.pop().unwrap_or(self.dials.len() as u32);
        if index as usize == self.dials.len() {
            self.dials.push(None);
        }
        self.dials[index as usize] = Some(Box::new(dial));
        let domain = i32::from(Domain::for_address(to));
        let socket = opcode::Socket::new(domain, libc::SOCK_STREAM, libc::IPPROTO_TCP)
            .file_index(Some(types::DestinationSlot::auto_target()))
            .build();
        (index, socket)
    }

    pub(crate) fn dial(&mut self, index: u32) -> &mut Dial {
        self.dials[index as usize].as_mut().expect("a completion names a dial that has not ended")
    }

    pub(crate) fn finish(&mut self, index: u32) -> Box<Dial> {
        self.free.push(index);
        self.dials[index as usize].take().expect("a dial ends once")
    }
}

impl Dial {
    /// Binds to the wanted source address, if there is one.
    pub(crate) fn bind(&self, slot: u32) -> Option<squeue::Entry> {
        let from = self.from.as_ref()?;
        Some(opcode::Bind::new(types::Fixed(slot), from.as_ptr().cast(), from.len()).build())
    }

    pub(crate) fn connect(&self, slot: u32) -> squeue::Entry {
        opcode::Connect::new(types::Fixed(slot), self.to.as_ptr().cast(), self.to.len()).build()
    }
}
