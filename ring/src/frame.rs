//! The unit of sending: bytes that many connections of one core may share.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

/// Immutable bytes, ready for the wire, shared by reference count within a core.
///
/// Cloning costs a non-atomic increment: a broadcast is encoded once and every recipient's send
/// points into the same memory. The handle is one pointer wide, so queues of frames stay small.
#[derive(Clone)]
pub struct Frame(Rc<Box<[u8]>>);

impl Frame {
    /// Takes the bytes without copying them.
    pub fn new(bytes: Box<[u8]>) -> Self {
        Self(Rc::new(bytes))
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes.into_boxed_slice())
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.len())
    }
}
