//! Proves what one link to Redis promises, over real Redis processes: commands and pushes in order,
//! confirmed subscriptions, one fate of all connections, and that every fault ends the link, once
//! and soon.
//!
//! The link is no public interface, so that its sources are compiled into this test.

#![allow(missing_docs)]

#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../src/fleet/link/mod.rs"]
mod link;
#[path = "redis/mod.rs"]
mod processes;
#[allow(dead_code, unreachable_pub)]
#[path = "../src/fleet/target.rs"]
mod target;

mod fleet_link {
    mod access;
    mod cluster;
    mod faults;
    mod malformed;
    mod sentinel;
    mod standalone;
    mod support;
}
