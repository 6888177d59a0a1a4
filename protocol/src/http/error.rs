//! Why a request is refused, and the status that says so.

use std::fmt;

/// A head that is not taken. Always the peer's fault; where the next request would begin is
/// unknown, so the connection has to be closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Over [`HeadLimits`](super::HeadLimits), in bytes or in fields.
    TooLarge,
    /// What stands in the version's place is neither `HTTP/1.0` nor `HTTP/1.1`.
    Version,
    /// Not HTTP, or HTTP that readers could understand differently.
    Malformed,
}

impl HeadError {
    /// Status of the answer: 431, 505 or 400.
    pub fn status(self) -> u16 {
        match self {
            HeadError::TooLarge => 431,
            HeadError::Version => 505,
            HeadError::Malformed => 400,
        }
    }
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => HeadError::TooLarge,
            httparse::Error::Version => HeadError::Version,
            _ => HeadError::Malformed,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeadError::TooLarge => "request head too large",
            HeadError::Version => "unsupported HTTP version",
            HeadError::Malformed => "malformed request",
        })
    }
}

impl std::error::Error for HeadError {}

/// A body that is not taken. Always the peer's fault; the connection has to be closed after the
/// answer, since the rest of the body is still to come or its end is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Longer than the limit, announced or counted.
    TooLarge,
    /// Chunks that break RFC 9112 §7.1, or too much around them.
    Malformed,
}

impl BodyError {
    /// Status of the answer: 413 or 400.
    pub fn status(self) -> u16 {
        match self {
            BodyError::TooLarge => 413,
            BodyError::Malformed => 400,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyError::TooLarge => "request body too large",
            BodyError::Malformed => "malformed chunks",
        })
    }
}

impl std::error::Error for BodyError {}
