//! How what a shard has passed stands in Redis ([`super::trail`] says where).

use serde::{Deserialize, Serialize};

use super::batch::read;

/// The field of `passed` that is no room's: no room's name has a control character.
pub(super) const WHOLE: &str = "\u{1}";

/// Of one room in an entry: its key, the `seq` passed before, positions and `seq`s by turns.
#[derive(Serialize, Deserialize)]
pub(super) struct Steps(pub(super) Box<str>, pub(super) u64, pub(super) Vec<u64>);

/// A room's last message passed, as `passed` has it: position and `seq`.
pub(super) fn read_passed(value: &redis::Value) -> Option<(u64, u64)> {
    let text: String = read(value)?;
    let (position, seq) = text.split_once(':')?;
    Some((position.parse().ok()?, seq.parse().ok()?))
}
