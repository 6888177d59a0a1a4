//! Throng's codecs: HTTP requests, WebSocket frames, Engine.IO packets, Socket.IO packets, what
//! Socket.IO servers tell each other by Redis, and the JSON text that travels in all of them.
//!
//! Sans-IO: bytes come in as slices, bytes go out into a `Vec` of the caller's, time is an
//! argument. Nothing here opens a socket, reads a clock, starts a task or blocks.
//!
//! Invariants:
//! * No input of a peer panics; it is decoded or answered with an error that says what broke.
//! * Memory held between calls is bounded by the limits passed in and grows with what has
//!   arrived, never with what a header announces. A connection that is between messages holds
//!   nothing: [`ws::Reader`] and [`socketio::Assembler`] are one pointer each.
//! * How the input was cut into pieces never changes what comes out.
//! * JSON that is only relayed is validated once and passed on as the bytes that came.
#![forbid(unsafe_code)]

pub mod adapter;
pub mod engineio;
pub mod gzip;
pub mod http;
pub mod json;
pub mod socketio;
pub mod ws;
