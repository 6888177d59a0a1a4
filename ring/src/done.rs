//! A completion, apart from the queue it came in.

use std::io;

use io_uring::cqueue;

use crate::tag::Tag;

/// One completion, copied out of the queue.
#[derive(Clone, Copy)]
pub(crate) struct Done {
    pub(crate) tag: Tag,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Done {
    /// The result, or the error it stands for.
    pub(crate) fn value(self) -> io::Result<u32> {
        match self.result {
            0.. => Ok(self.result as u32),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        }
    }
}

impl From<cqueue::Entry> for Done {
    fn from(cqe: cqueue::Entry) -> Self {
        Self { tag: cqe.user_data().into(), result: cqe.result(), flags: cqe.flags() }
    }
}
