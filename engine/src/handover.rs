//! The way of a connection from a shard to the control thread.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::limits::HTTP_CONNECTIONS_MAX;

/// A connection that is not for a shard, with the bytes read so far.
pub struct HandedOver {
    /// The socket, still in blocking mode.
    pub stream: TcpStream,
    /// What has been read from it.
    pub head: Box<[u8]>,
    /// Its place among those served; freed when dropped.
    pub place: Place,
}

/// A place among the connections that the control thread serves at once.
pub struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A shard's side. The queue needs no bound of its own: places are bounded.
#[derive(Clone)]
pub struct HttpDoor {
    sender: UnboundedSender<HandedOver>,
    taken: Arc<AtomicUsize>,
}

/// Both sides.
pub fn door() -> (HttpDoor, UnboundedReceiver<HandedOver>) {
    let (sender, receiver) = unbounded_channel();
    (HttpDoor { sender, taken: Arc::default() }, receiver)
}

impl HttpDoor {
    /// Whether another connection may be handed over.
    pub fn has_place(&self) -> bool {
        self.taken.load(Ordering::Relaxed) < HTTP_CONNECTIONS_MAX
    }

    /// Passes a connection on.
    pub fn pass(&self, fd: OwnedFd, head: Box<[u8]>) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.taken));
        // Without a receiver the host is shutting down; the socket closes with the message.
        let _ = self.sender.send(HandedOver { stream: TcpStream::from(fd), head, place });
    }
}
