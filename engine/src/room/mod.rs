//! Rooms: their home, where everything single is kept, and their members on each shard.

mod home;
mod local;
mod marks;

pub use home::{Answer, HomeRoom, Homes, Room, Unavailable};
pub use local::{LocalRooms, Membership, Moved, Seat};
pub use marks::Marks;
