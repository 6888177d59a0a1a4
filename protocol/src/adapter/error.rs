//! Why a packet of another server could not be read or written.

use std::fmt;

/// Why a packet could not be read or written. What was read is dropped; the sender is not told, as
/// it would not be by Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It ends within a value.
    Short,
    /// Something follows the value.
    Trailing,
    /// Nests too deeply, or is too long.
    Limit,
    /// A type byte or extension that `notepack.io` does not know either.
    Type,
    /// Text that is no JSON.
    Json,
    /// Not the fields that such a packet has, or a kind that is not known.
    Shape,
    /// A placeholder that points at no attachment, or an attachment outside of the event.
    Placeholder,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Short => "ends within a value",
            Malformed::Trailing => "something follows the value",
            Malformed::Limit => "nests too deeply or is too long",
            Malformed::Type => "a type that is not known",
            Malformed::Json => "no JSON",
            Malformed::Shape => "not the fields of a packet",
            Malformed::Placeholder => "binary data where none can be",
        })
    }
}

impl std::error::Error for Malformed {}

impl From<serde_json::Error> for Malformed {
    fn from(_: serde_json::Error) -> Self {
        Malformed::Shape
    }
}
