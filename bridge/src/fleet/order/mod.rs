//! The order of messages across hosts: publishing, rooms, repair.
//!
//! Redis gives the numbers, in one script; this host publishes into it ([`publish`]), reads what
//! comes back from it ([`arrive`]), and proves of each room that nothing is missing ([`course`]) or
//! reads what is ([`repair`]). The state is in [`orders`] and below it; what acts on it knows it,
//! never the other way, and [`serve`] runs all of it side by side. Never delivers what has not come
//! back from Redis, and never acknowledges what Redis has not answered. All state outlives the link
//! it was used over; whatever runs may be dropped at any await.

mod arrive;
mod configure;
mod course;
mod echo;
mod flight;
mod intake;
mod orders;
mod outbox;
mod page;
mod probe;
mod publish;
mod read;
mod reads;
mod repair;
mod room;
mod rooms;
mod rosters;
mod script;
mod serve;
mod settings;
mod sweep;
#[cfg(test)]
mod tests;
mod wire;

pub(super) use orders::Orders;
pub(super) use page::read_page;
