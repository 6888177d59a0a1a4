//! Reading a room from Redis, open or not: its messages, its settings.

use std::rc::Rc;

use tokio::time::Instant;

use super::orders::Orders;
use super::page::read_page;
use super::reads::{Wanted, What};
use super::settings::kept;
use crate::fleet::link::{Link, LinkError, together};
use crate::fleet::words::Ordered;
use crate::store::RoomSettings;

impl Orders {
    /// Reads what is wanted until the link ends.
    pub(super) async fn read_wanted(&self, link: &Rc<Link>) -> Result<(), LinkError> {
        loop {
            let wanted = self.reads.borrow_mut().take();
            if wanted.is_empty() {
                self.reads_due.notified().await;
                continue;
            }
            let found = together(wanted.iter().map(|it| self.read(link, it))).await;
            // What a lost link leaves unanswered is asked again over the next one.
            let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
            self.reads.borrow_mut().under_way.clear();
            for (it, found) in wanted.iter().zip(found) {
                self.tell(it.shard, found);
            }
            self.wake();
        }
    }

    async fn read(&self, link: &Link, wanted: &Wanted) -> Result<Ordered, LinkError> {
        let Wanted { ticket, room, .. } = wanted;
        let (keys, ticket) = (&self.office.keys, *ticket);
        Ok(match wanted.what {
            What::Messages(range) => {
                Ordered::Read { ticket, page: read_page(link, keys, room, range).await? }
            }
            What::Settings => {
                Ordered::Settings { ticket, found: self.read_settings(link, room).await? }
            }
        })
    }

    /// A room's settings, if it has any; the outer `None`: Redis refuses, or has what is none.
    async fn read_settings(
        &self,
        link: &Link,
        room: &str,
    ) -> Result<Option<Option<RoomSettings>>, LinkError> {
        let key = self.office.keys.settings(room);
        let get = redis::cmd("HGETALL").arg(&key).take();
        let answers = link.send_on(1, link.node_of(&key), &[get]).await?;
        Ok(answers.first().and_then(|hash| kept(room, hash)))
    }

    /// Gives up reads that have waited since before `before`.
    pub(super) fn refuse_wanted(&self, before: Instant) {
        let mut reads = self.reads.borrow_mut();
        while reads.waiting.front().is_some_and(|it| it.since <= before)
            && let Some(it) = reads.waiting.pop_front()
        {
            self.tell(it.shard, it.refusal());
        }
    }
}
