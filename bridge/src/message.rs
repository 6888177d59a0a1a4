//! A message as everybody keeps it: the store, the cache, other hosts; and which ones are wanted.

use std::sync::Arc;

/// Who wrote a message, as receivers see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Author {
    /// Socket id, 20 characters.
    pub id: Box<str>,
    /// User id.
    pub user: Box<str>,
    /// Name to show.
    pub name: Box<str>,
}

/// A message before the room's order has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// Who wrote it.
    pub from: Author,
    /// The body: valid JSON text. Binary parts are placeholders
    /// (`{"_placeholder":true,"num":i}`) into `attachments`.
    pub body: Box<str>,
    /// Binary parts of the body, in order.
    pub attachments: Vec<Box<[u8]>>,
    /// The client's own id of it; a second draft with the same one is the same message.
    pub client_id: Option<Box<str>>,
}

/// A message with its place in the room's order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Unique id, made when the message was numbered.
    pub id: Box<str>,
    /// Position in the room: 1, 2, 3, … without a gap.
    pub seq: u64,
    /// When it was numbered: milliseconds since 1970.
    pub at_ms: u64,
    /// What was written.
    pub draft: Draft,
}

/// Which messages of a room are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Only messages with a greater `seq`.
    pub after: Option<u64>,
    /// Only messages with a smaller `seq`.
    pub before: Option<u64>,
    /// At most so many, the newest of the range.
    pub limit: usize,
}

impl Draft {
    /// Bytes of user memory it holds, its own struct included.
    pub fn held_bytes(&self) -> usize {
        let Self { from, body, attachments, client_id } = self;
        let author = from.id.len() + from.user.len() + from.name.len();
        let parts: usize = attachments.iter().map(|part| part.len() + size_of::<Box<[u8]>>()).sum();
        let client_id = client_id.as_ref().map_or(0, |id| id.len());
        size_of::<Self>() + author + body.len() + parts + client_id
    }
}

impl Message {
    /// Bytes of user memory it holds, its own struct included.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() - size_of::<Draft>() + self.id.len() + self.draft.held_bytes()
    }
}

/// Messages that were read, by rising `seq`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Arc<Message>>,
    /// The room's last `seq` at the time of reading; 0 for a room without messages.
    pub last_seq: u64,
    /// Whether all messages of the range are here: false where some are gone or did not fit. Always
    /// true without `after`, which asks for no beginning.
    pub complete: bool,
    /// Whether older messages than the first one here can still be read, as far as is known.
    pub more: bool,
    /// What the store has of the range could not be read now.
    pub partial: bool,
}
