//! What the tasks of this part share, and how shards are told.
//!
//! Owns the words that are under way, and those that wait while Redis is slow. Whatever acts on it
//! stands in a file of its own.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;

use super::batch::Scripts;
use super::hosts::{Hosts, Pace};
use super::members::Members;
use super::recoveries::Recoveries;
use super::sessions::Sessions;
use super::summaries::Summaries;
use super::trails::Trails;
use super::users::Users;
use crate::fleet::inquiry::Inquiry;
use crate::fleet::line::FromFleet;
use crate::fleet::office::Office;
use crate::fleet::words::{News, Word};

/// What the tasks of this part share.
pub(super) struct Desk {
    pub(super) office: Rc<Office>,
    pub(super) scripts: Scripts,
    pub(super) members: Members,
    pub(super) summaries: Summaries,
    pub(super) sessions: Sessions,
    pub(super) users: Users,
    pub(super) trails: Trails,
    pub(super) hosts: Hosts,
    pub(super) recoveries: Recoveries,
    pub(super) words: RefCell<UnboundedReceiver<(u16, Word)>>,
    pub(super) inquiries: RefCell<UnboundedReceiver<Inquiry>>,
    /// Words that come before those, since there were too many.
    pub(super) held: RefCell<VecDeque<(u16, Word)>>,
    /// Words that are being carried out: if the link ends, it is unknown which have been.
    pub(super) in_hand: RefCell<Vec<(u16, Word)>>,
    /// There is a summary to end, which no word has brought.
    pub(super) tidy: Notify,
    /// Shards that have news and have not been woken.
    pub(super) asleep: RefCell<HashSet<u16>>,
    pub(super) news: Notify,
    /// The channel on which others tell this host something.
    pub(super) channel: String,
}

impl Desk {
    pub(super) fn new(
        office: Rc<Office>,
        words: UnboundedReceiver<(u16, Word)>,
        inquiries: UnboundedReceiver<Inquiry>,
        pace: Pace,
    ) -> Self {
        let (office_host, window_ms) = (office.plan.host, office.plan.recovery_window_ms);
        let channel = office.keys.to_host(office.plan.host);
        Self {
            office,
            scripts: Scripts::new(),
            members: Members::default(),
            summaries: Summaries::default(),
            sessions: Sessions::new(office_host, window_ms),
            users: Users::default(),
            trails: Trails::default(),
            hosts: Hosts::new(pace),
            recoveries: Recoveries::default(),
            words: RefCell::new(words),
            inquiries: RefCell::new(inquiries),
            held: RefCell::default(),
            in_hand: RefCell::default(),
            tidy: Notify::new(),
            asleep: RefCell::default(),
            news: Notify::new(),
            channel,
        }
    }

    /// Queues news for a shard; it is woken once for many.
    pub(super) fn tell(&self, shard: u16, news: News) {
        if let Some(end) = self.office.shards.get(usize::from(shard)) {
            end.queue(FromFleet::News(news));
            if self.asleep.borrow_mut().insert(shard) {
                self.news.notify_one();
            }
        }
    }

    pub(super) async fn wake_shards(&self) {
        loop {
            self.news.notified().await;
            self.wake_asleep();
        }
    }

    pub(super) fn wake_asleep(&self) {
        for shard in self.asleep.take() {
            if let Some(end) = self.office.shards.get(usize::from(shard)) {
                end.wake();
            }
        }
    }

    #[cfg(test)]
    pub(super) fn words_count(&self) -> usize {
        self.words.borrow().len() + self.held.borrow().len()
    }
}
