//! The connection ring: a core's sockets on one io_uring.
//!
//! Owns listeners, direct descriptors, receive buffers and sends; yields events to a handler and
//! holds no policy. It never knows what the bytes mean. This crate holds all `unsafe` code of the
//! workspace; its public surface is safe. A [`Ring`] belongs to the thread that made it; only its
//! [`Waker`] and its [`Address`] may travel.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
#![allow(unsafe_code)]

mod accepts;
mod buffers;
mod by_slot;
mod dials;
mod done;
mod enter;
mod event;
mod frame;
mod listen;
pub mod memory;
mod park;
pub mod preflight;
mod reap;
mod ring;
mod sends;
mod slots;
mod tag;
mod transfer;
mod transfers;
mod wake;

pub use by_slot::BySlot;
pub use event::Event;
pub use frame::Frame;
pub use listen::Listener;
pub use park::Bed;
pub use ring::{Config, Counters, Ring};
pub use sends::FRAMES_PER_SEND_MAX;
pub use slots::Conn;
pub use transfers::Address;
pub use wake::Waker;
