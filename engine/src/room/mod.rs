//! Rooms: their home, where everything single is kept, and their members on each shard.

mod comers;
mod fleet;
mod handle;
mod home;
mod local;
mod marks;
mod parts;

pub use handle::{Answer, Room, Unavailable};
pub use home::Homes;
pub use local::{LocalRooms, Membership, Moved, Seat};
pub use marks::Marks;
pub use parts::HomeRoom;
