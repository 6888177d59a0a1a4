//! Everything of the fleet beside the order of messages: who is where, hosts, sessions, users, what
//! hosts tell each other, and what the control thread asks.
//!
//! Words are carried out batch by batch in the order in which they came; what is state is coalesced
//! and written after them. What takes long (a recovery, the end of a dead host, rosters) runs
//! beside them, so many at a time. Nothing here is acknowledged but a recovery; while there is no
//! link, what would be wrong for ever is kept, within bounds, and the rest is dropped.

mod batch;
mod desk;
mod events;
mod hosts;
mod inquiries;
mod members;
mod reap;
mod recover;
mod recoveries;
mod renewals;
mod roster;
mod serve;
mod sessions;
mod steps;
mod summaries;
#[cfg(test)]
mod tests;
mod track;
mod trail;
mod trails;
mod users;
mod write;

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tracing::warn;

use super::inquiry::Inquiry;
use super::link::{Link, LinkError};
use super::office::Office;
use super::words::{News, Word};
use desk::Desk;
use hosts::Pace;

/// See the module.
pub(super) struct Beside {
    desk: Rc<Desk>,
}

impl Beside {
    pub(super) fn new(
        office: Rc<Office>,
        words: UnboundedReceiver<(u16, Word)>,
        inquiries: UnboundedReceiver<Inquiry>,
    ) -> Self {
        Self::with_pace(office, words, inquiries, Pace::default())
    }

    fn with_pace(
        office: Rc<Office>,
        words: UnboundedReceiver<(u16, Word)>,
        inquiries: UnboundedReceiver<Inquiry>,
        pace: Pace,
    ) -> Self {
        Self { desk: Rc::new(Desk::new(office, words, inquiries, pace)) }
    }

    /// Carries out words and inquiries, beats, and removes dead hosts, until the link ends.
    pub(super) async fn serve(&self, link: &Rc<Link>) -> LinkError {
        self.desk.set_aside();
        tokio::select! {
            error = self.serve_all(link) => error,
            never = self.desk.bound_words(link) => match never {},
        }
    }

    async fn serve_all(&self, link: &Rc<Link>) -> LinkError {
        let desk = &self.desk;
        if let Err(error) = desk.begin(link).await {
            link.give_up(&error.0);
            return error;
        }
        if let Err(error) = link.subscribe(std::slice::from_ref(&desk.channel), false).await {
            return error;
        }
        tokio::select! {
            error = desk.serve_words(link) => error,
            error = desk.serve_beats(link) => error,
            error = desk.serve_trails(link) => error,
            () = desk.serve_inquiries(link) => LinkError("nobody asks any more".to_owned()),
            () = desk.wake_shards() => LinkError("nobody wakes any more".to_owned()),
        }
    }

    /// Refuses what cannot be done while there is no link. Never ends.
    pub(super) async fn wait(&self) {
        let desk = &self.desk;
        desk.set_aside();
        tokio::join!(desk.refuse_words(), desk.refuse_inquiries(), desk.wake_shards());
    }

    /// The host ends: says so in Redis, so that nobody waits for its TTL. What its shards have said
    /// before is carried out first.
    pub(super) async fn leave(&self, link: &Rc<Link>) {
        let desk = &self.desk;
        desk.set_aside();
        if let Err(LinkError(error)) = desk.leave(link).await {
            warn!(error, "others find out by themselves that this host has ended");
        }
        desk.wake_asleep();
    }

    /// Something came on a channel that is no room's; false if it is not ours either.
    pub(super) fn on_push(&self, channel: &str, payload: &[u8]) -> bool {
        if channel != self.desk.channel {
            return false;
        }
        if let Some((from, shard, words)) = events::read_tell(payload) {
            let is_there = usize::from(shard) < self.desk.office.shards.len();
            let shard = if is_there { shard } else { 0 };
            self.desk.tell(shard, News::Told { from, words: words.into() });
        }
        true
    }

    /// Something came on a room's channel that the order does not know: `E`, `L`, `S`.
    pub(super) fn on_event(&self, shard: u16, room: &Arc<str>, payload: &[u8]) {
        self.desk.on_event(shard, room, payload);
    }

    /// All members of a room as Redis has them; `None` where it refuses to tell.
    pub(super) async fn roster(
        &self,
        link: &Rc<Link>,
        room: &str,
    ) -> Result<Option<Vec<(Box<str>, Box<str>)>>, LinkError> {
        self.desk.roster(link, room).await
    }
}
