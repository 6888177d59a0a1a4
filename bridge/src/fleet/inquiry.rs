//! What the control thread asks of the fleet.

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::message::{Page, Range};

/// One question with its way back. `None` in an answer: Redis does not answer.
#[derive(Debug)]
pub(crate) enum Inquiry {
    Rooms { after: Option<Box<str>>, limit: usize, answer: oneshot::Sender<Option<Vec<Box<str>>>> },
    Summary { room: Box<str>, answer: oneshot::Sender<Option<Option<Box<str>>>> },
    Messages { room: Box<str>, range: Range, answer: oneshot::Sender<Option<Page>> },
}

/// Asks the fleet's thread, from any thread.
#[derive(Clone, Debug)]
pub struct Inquiries(pub(super) UnboundedSender<Inquiry>);

impl Inquiries {
    /// The keys of rooms that have members on any host, in their order, those after `after`.
    /// `None`: Redis does not answer.
    pub async fn rooms(&self, after: Option<&str>, limit: usize) -> Option<Vec<Box<str>>> {
        let after = after.map(Into::into);
        self.ask(|answer| Inquiry::Rooms { after, limit, answer }).await
    }

    /// A room's JSON as [`super::Word::Show`] gave it; the inner `None`: there is none. `None`:
    /// Redis does not answer.
    pub async fn summary(&self, room: &str) -> Option<Option<Box<str>>> {
        let room = room.into();
        self.ask(|answer| Inquiry::Summary { room, answer }).await
    }

    /// A room's recent messages. `None`: Redis does not answer.
    pub async fn messages(&self, room: &str, range: Range) -> Option<Page> {
        let room = room.into();
        self.ask(|answer| Inquiry::Messages { room, range, answer }).await
    }

    async fn ask<T>(
        &self,
        inquiry: impl FnOnce(oneshot::Sender<Option<T>>) -> Inquiry,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.0.send(inquiry(answer)).ok()?;
        answered.await.ok().flatten()
    }
}
