//! What the control thread asks of the fleet.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};

use redis::cmd;
use tokio::sync::Semaphore;

use super::batch::{Batch, read};
use super::desk::Desk;
use crate::fleet::inquiry::Inquiry;
use crate::fleet::keys::PARTITIONS;
use crate::fleet::link::{Link, LinkError};
use crate::fleet::order::read_page;

/// Inquiries under way at once; others wait.
const AT_ONCE_MAX: usize = 8;

/// Rooms of one answer.
const ROOMS_MAX: usize = 10_000;

/// One partition's rooms, as far as they have been read.
struct Part {
    partition: u16,
    /// After which the next ones come.
    after: Option<String>,
    is_over: bool,
}

impl Desk {
    async fn next_inquiry(&self) -> Inquiry {
        poll_fn(|context| match ready!(self.inquiries.borrow_mut().poll_recv(context)) {
            Some(inquiry) => Poll::Ready(inquiry),
            None => Poll::Pending,
        })
        .await
    }

    /// Refuses inquiries. Never ends.
    pub(super) async fn refuse_inquiries(&self) {
        loop {
            drop(self.next_inquiry().await);
        }
    }

    /// Answers inquiries. Never ends: they have no share in the link's fate.
    pub(super) async fn serve_inquiries(self: &Rc<Self>, link: &Rc<Link>) {
        let at_once = Rc::new(Semaphore::new(AT_ONCE_MAX));
        loop {
            let inquiry = self.next_inquiry().await;
            let (desk, link, at_once) = (Rc::clone(self), Rc::clone(link), Rc::clone(&at_once));
            tokio::task::spawn_local(async move {
                if let Ok(_permit) = at_once.acquire().await {
                    desk.answer(&link, inquiry).await;
                }
            });
        }
    }

    async fn answer(&self, link: &Link, inquiry: Inquiry) {
        match inquiry {
            Inquiry::Rooms { after, limit, answer } => {
                let rooms = self.rooms(link, after.as_deref(), limit.min(ROOMS_MAX)).await;
                let _ = answer.send(rooms.ok().flatten());
            }
            Inquiry::Summary { room, answer } => {
                let key = self.office.keys.summary(&room);
                let found = self.one(link, &key, cmd("GET").arg(&key).take()).await;
                let summary = found.ok().and_then(|it| read::<Option<String>>(&it));
                let _ = answer.send(summary.map(|it| it.map(Into::into)));
            }
            Inquiry::Messages { room, range, answer } => {
                let _ = answer
                    .send(read_page(link, &self.office.keys, &room, range).await.ok().flatten());
            }
        }
    }

    /// The rooms after one, in their order. `None`: Redis refuses to tell.
    async fn rooms(
        &self,
        link: &Link,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<Box<str>>>, LinkError> {
        // A partition has its share of the rooms, more or less.
        let count = limit / usize::from(PARTITIONS) * 2 + 8;
        let after = after.map(str::to_owned);
        let mut parts: Vec<Part> = (0..PARTITIONS)
            .map(|partition| Part { partition, after: after.clone(), is_over: false })
            .collect();
        let mut found: BTreeSet<Box<str>> = BTreeSet::new();
        loop {
            while found.len() > limit {
                found.pop_last();
            }
            let last = found.last().filter(|_| found.len() == limit).cloned();
            // Those that may have a room which comes before the last one found.
            let open = |part: &&mut Part| {
                let is_behind = match (&last, &part.after) {
                    (Some(last), Some(after)) => **after < **last,
                    _ => true,
                };
                !part.is_over && is_behind && limit > 0
            };
            let mut open: Vec<&mut Part> = parts.iter_mut().filter(open).collect();
            if open.is_empty() {
                return Ok(Some(found.into_iter().collect()));
            }
            let mut batch = Batch::default();
            for part in &open {
                let key = self.office.keys.rooms(part.partition);
                let from = part.after.as_ref().map_or("-".to_owned(), |after| format!("({after}"));
                let mut range = cmd("ZRANGEBYLEX");
                range.arg(&key).arg(from).arg("+").arg("LIMIT").arg(0).arg(count);
                batch.push(link, &key, range);
            }
            let answers = batch.send(link, &self.scripts).await?;
            for (part, answer) in open.iter_mut().zip(&answers) {
                let Some(rooms) = read::<Vec<String>>(answer) else { return Ok(None) };
                part.is_over = rooms.len() < count;
                if let Some(last) = rooms.last() {
                    part.after = Some(last.clone());
                }
                found.extend(rooms.into_iter().map(String::into_boxed_str));
            }
        }
    }
}
