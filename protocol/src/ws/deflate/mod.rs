//! permessage-deflate (RFC 7692): negotiation for servers, and both directions of the data.
//!
//! Always with `server_no_context_takeover` and `client_no_context_takeover`: each message stands
//! alone, so no connection holds a window. [`Deflater`] and [`Inflater`], some hundred KiB
//! together, are shared by any number of connections that live on one thread.
//!
//! Owns what a compressed message is; which messages are worth it is the caller's decision.
//! Never holds a peer's bytes between messages, but for reused buffers of at most 64 KiB each.

mod deflater;
mod inflater;
mod negotiate;

pub use deflater::Deflater;
pub use inflater::Inflater;
pub use negotiate::{Negotiated, negotiate};

/// What ends each flushed message: the length fields of an empty stored block. Not sent, and
/// appended again before inflating (§7.2.1, §7.2.2).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Largest buffer kept for the next message, in bytes. What a longer message needed is given back
/// with it.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Gives back what a buffer has beyond [`KEPT_BYTES_MAX`].
fn trim(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT_BYTES_MAX {
        buffer.truncate(KEPT_BYTES_MAX);
        buffer.shrink_to_fit();
    }
}
