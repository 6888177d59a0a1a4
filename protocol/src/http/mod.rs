//! HTTP/1.1 requests, as much as Engine.IO needs (RFC 9112): heads, how long a body is, bodies.
//!
//! Owns the rules by which two readers of one byte stream agree where a request ends: whatever
//! can be read in two ways is refused. Never owns a receive buffer, a timeout or an answer; never
//! decodes percent signs or normalises paths.
//!
//! Invariants:
//! * The verdict on a stream does not depend on how it was cut: a prefix is answered with "more"
//!   or with what the whole would be answered with.
//! * Nothing beyond the end of a request is looked at; what follows is the next request, or
//!   frames after an upgrade.
//! * A head is read in place. A body holds what has arrived, never what a header announces.

mod body;
mod error;
mod fields;
mod framing;
mod head;
#[cfg(test)]
mod tests;

pub use body::Body;
pub use error::{BodyError, HeadError};
pub use fields::parameter;
pub use framing::Framing;
pub use head::{HEADERS_MAX, Head, HeadLimits, Version, parse_head};
