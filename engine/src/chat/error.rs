//! What can be wrong with a request, as clients are told.

/// Why a request is refused; the codes are part of the public contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Error {
    /// The request's form; with what is wrong.
    Invalid(&'static str),
    /// Not for this user; with what would help.
    Forbidden(&'static str),
    /// The sender is not in the room.
    NotInRoom,
    /// What was addressed does not exist.
    NotFound,
    /// Over a rate limit.
    RateLimited,
    /// The body is larger than allowed.
    TooLarge,
    /// No more members fit.
    RoomFull,
    /// Something behind cannot take it now; try again.
    Unavailable,
    /// No event is called so.
    UnknownEvent,
}

impl Error {
    fn code(self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Forbidden(_) => "forbidden",
            Self::NotInRoom => "not_in_room",
            Self::NotFound => "not_found",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::RoomFull => "room_full",
            Self::Unavailable => "unavailable",
            Self::UnknownEvent => "unknown_event",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Invalid(what) | Self::Forbidden(what) => what,
            Self::NotInRoom => "join the room first",
            Self::NotFound => "nobody has this id",
            Self::RateLimited => "too many in a short time; wait a little",
            Self::TooLarge => "larger than the server allows",
            Self::RoomFull => "the room is full, or you are in too many rooms",
            Self::Unavailable => "the server cannot take it now; try again",
            Self::UnknownEvent => "there is no such event",
        }
    }

    /// The acknowledgement that tells it.
    pub(super) fn to_json(self) -> String {
        // Codes and messages are our own: nothing in them needs escaping.
        let (code, message) = (self.code(), self.message());
        format!(r#"{{"ok":false,"error":{{"code":"{code}","message":"{message}"}}}}"#)
    }
}
