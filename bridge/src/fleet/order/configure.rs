//! Rooms' settings: kept in Redis, told to all hosts that have the room open, read with the room.
//!
//! Redis's order counts: a host hears its own changes too, and takes them from there, so that all
//! end with the same ones whoever sets them at the same time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::orders::Orders;
use super::settings::{Configuring, read, written};
use super::wire;
use crate::fleet::link::{Link, LinkError, Refusal, together};
use crate::fleet::words::Ordered;
use crate::store::RoomSettings;

/// Rooms whose settings are told at a time.
const SIDE_BY_SIDE: usize = 64;

/// How long settings wait that Redis refuses.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

impl Orders {
    /// Gives up changes that have waited since before `before`; one that is under way may be
    /// carried out all the same.
    pub(super) fn refuse_configured(&self, before: Instant) {
        self.answer_configured(|it| it.since <= before, &None);
        let configuring = self.configuring.borrow();
        let is_awaited = |room: &Arc<str>| configuring.iter().any(|it| it.room == *room);
        self.configured.borrow_mut().retain(|room, _| is_awaited(room));
    }

    fn answer_configured(
        &self,
        is_answered: impl Fn(&Configuring) -> bool,
        found: &Option<Option<RoomSettings>>,
    ) {
        for it in self.configuring.borrow_mut().extract_if(.., |it| is_answered(it)) {
            self.tell(it.shard, Ordered::Settings { ticket: it.ticket, found: found.clone() });
        }
    }

    /// Tells Redis settings until the link ends.
    pub(super) async fn tell_settings(&self, link: &Rc<Link>) -> Result<(), LinkError> {
        loop {
            let rooms: Vec<Arc<str>> = self.configured.borrow().keys().cloned().collect();
            if rooms.is_empty() {
                self.configured_due.notified().await;
                continue;
            }
            let mut refused = false;
            for some in rooms.chunks(SIDE_BY_SIDE) {
                for told in together(some.iter().map(|room| self.tell_one(link, room))).await {
                    refused |= !told?;
                }
            }
            if refused {
                tokio::select! {
                    () = self.configured_due.notified() => {}
                    () = sleep(REFUSED_PAUSE) => {}
                }
            }
        }
    }

    /// False if Redis refuses, or does not know the script.
    async fn tell_one(&self, link: &Link, room: &Arc<str>) -> Result<bool, LinkError> {
        let Some(change) = self.configured.borrow().get(room).cloned() else { return Ok(true) };
        let (keys, begin) = (&self.office.keys, format!("C{:08x}", self.office.plan.host));
        let (key, channel) = (keys.settings(room), keys.events(room));
        let node = link.node_of(&key);
        let (changed, all) = (written(&change, true), written(&change, false));
        let cmd = self.scripts.settings([&key, self.verb(link), &channel, &begin], &changed, &all);
        let answers = link.send(node, &[cmd]).await?;
        match answers.first().and_then(Refusal::of) {
            Some(Refusal::NoScript) => {
                self.load_scripts(link, node).await?;
                return Ok(false);
            }
            Some(Refusal::Refused(why)) => {
                warn!(room = &**room, why, "Redis does not take a room's settings");
                return Ok(false);
            }
            None => {}
        }
        let mut configured = self.configured.borrow_mut();
        // They may have changed again meanwhile.
        if configured.get(room) == Some(&change) {
            configured.remove(room);
            let settings = answers.first().and_then(wire::text).and_then(|text| read(room, text));
            self.answer_configured(|it| it.room == *room, &Some(settings));
            self.wake();
        }
        Ok(true)
    }
}
