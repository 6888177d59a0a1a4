//! Who is in each room: read after it was opened, and after every link. Beside the repair, so that
//! one room's many members delay no other room.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::Instant;

use super::orders::Orders;
use super::rooms::What;
use crate::fleet::beside::Beside;
use crate::fleet::line::FromFleet;
use crate::fleet::link::{Link, LinkError};
use crate::fleet::words::News;

/// Rosters read at a time.
const SIDE_BY_SIDE: usize = 64;

type Members = Vec<(Box<str>, Box<str>)>;

/// A roster's room, its number, and what was read.
type Answer = (Arc<str>, u64, Result<Option<Members>, LinkError>);

impl Orders {
    /// Reads rosters until the link ends.
    pub(super) async fn tend_rosters(
        &self,
        link: &Rc<Link>,
        beside: &Beside,
    ) -> Result<(), LinkError> {
        let mut running: Vec<Pin<Box<dyn Future<Output = Answer> + '_>>> = Vec::new();
        loop {
            while running.len() < SIDE_BY_SIDE
                && let Some((key, number)) = self.rooms.borrow_mut().take_roster()
            {
                running.push(Box::pin(async move {
                    let members = beside.roster(link, &key).await;
                    (key, number, members)
                }));
            }
            let read = poll_fn(|context| {
                let mut read = Vec::new();
                running.retain_mut(|it| match it.as_mut().poll(context) {
                    Poll::Ready(answer) => {
                        read.push(answer);
                        false
                    }
                    Poll::Pending => true,
                });
                if read.is_empty() { Poll::Pending } else { Poll::Ready(read) }
            });
            tokio::select! {
                read = read => {
                    for answer in read {
                        self.on_roster(beside, answer)?;
                    }
                    self.wake();
                }
                () = self.rosters_due.notified() => {}
            }
        }
    }

    /// Tells a roster, and then what has come since it was asked for.
    fn on_roster(&self, beside: &Beside, answer: Answer) -> Result<(), LinkError> {
        let (key, number, members) = answer;
        let Some(members) = members? else {
            // Redis refuses this room alone: others must not suffer.
            self.rooms.borrow_mut().refuse(&key, What::Roster(number), Instant::now());
            return Ok(());
        };
        let mut rooms = self.rooms.borrow_mut();
        if rooms.map.get(&key).is_some_and(|room| self.is_full(room.shard)) {
            rooms.postpone_roster(&key, number);
            return Ok(());
        }
        let Some((shard, others)) = rooms.on_roster(&key, number) else { return Ok(()) };
        drop(rooms);
        let news = News::Roster { room: Arc::clone(&key), members };
        self.queue(shard, FromFleet::News(news));
        others.iter().for_each(|it| self.on_other(beside, shard, &key, it));
        self.rooms_due.notify_one();
        Ok(())
    }
}
