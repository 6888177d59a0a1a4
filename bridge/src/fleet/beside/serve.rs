//! How words are carried out, batch by batch, and what is done with them while there is no link.
//!
//! Invariant: the members, words and messages of one batch are with Redis before its summaries,
//! sessions and users are written, and those before the next batch. The words that wait are
//! bounded.

use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use redis::Value;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use super::batch::{Batch, read, verb};
use super::desk::Desk;
use super::events;
use super::members::Aftermath;
use crate::fleet::link::{Link, LinkError};
use crate::fleet::words::{News, Word};

/// Words carried out at once.
const WORDS_AT_ONCE: usize = 512;

/// Words that wait while Redis is slow; beyond, those that are kept nowhere are dropped, and those
/// that are state are kept as state. The rest may be as many again: then members are kept as state
/// as well, and their rooms get their rosters.
const WORDS_MAX: usize = 1 << 16;

/// How often it is looked how many there are.
const LOOK: Duration = Duration::from_millis(50);

/// How often it is looked for what has to be renewed.
const RENEW: Duration = Duration::from_secs(1);

/// How often trails, which are few, are renewed: far more often than needed.
const RENEW_TRAILS: u32 = 20;

impl Desk {
    fn some_held(&self) -> Vec<(u16, Word)> {
        let mut held = self.held.borrow_mut();
        let count = held.len().min(WORDS_AT_ONCE);
        held.drain(..count).collect()
    }

    /// The next words, at least one.
    async fn next_words(&self) -> Vec<(u16, Word)> {
        let mut words = self.some_held();
        if !words.is_empty() {
            return words;
        }
        poll_fn(|context| {
            let mut queue = self.words.borrow_mut();
            let count = ready!(queue.poll_recv_many(context, &mut words, WORDS_AT_ONCE));
            // Without shards there is nothing to do any more, but also no reason to end.
            if count == 0 { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        words
    }

    pub(super) async fn serve_words(self: &Rc<Self>, link: &Rc<Link>) -> LinkError {
        match self.serve_words_until(link).await {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }

    async fn serve_words_until(self: &Rc<Self>, link: &Rc<Link>) -> Result<Infallible, LinkError> {
        self.flush_left(link).await?;
        let mut renewals = tokio::time::interval(RENEW);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = 0_u32;
        loop {
            tokio::select! {
                words = self.next_words() => {
                    words.into_iter().for_each(|(shard, word)| self.sort(Some(link), shard, word));
                }
                () = self.tidy.notified() => {}
                _ = renewals.tick() => {
                    turn = turn.wrapping_add(1);
                    self.renew(link, turn).await?;
                }
            }
            self.flush(link).await?;
        }
    }

    /// Puts a word where it is carried out from. Without a link: where it is kept, if it is.
    fn sort(self: &Rc<Self>, link: Option<&Rc<Link>>, shard: u16, word: Word) {
        match (word, link) {
            (Word::Show { room, summary }, Some(_)) => self.summaries.show(room, summary),
            (Word::Remember { pid, session: Some(session) }, _) => self.sessions.keep(pid, session),
            (Word::Remember { pid, session: None }, _) => self.sessions.end(pid),
            (Word::Forget { pid, sid }, _) => self.sessions.forget(pid, sid),
            (Word::Release { pid, session }, _) => self.sessions.release(pid, session),
            (Word::Trail { shard, steps }, _) => {
                if self.office.plan.recovery_window_ms > 0 {
                    self.trails.note(shard, steps);
                }
            }
            (Word::User { id, connections, shard }, _) => self.users.note(&id, shard, connections),
            (Word::Recover { ticket, pid, offset }, Some(link)) => {
                let task = Rc::clone(self).recover(Rc::clone(link), (shard, ticket), pid, offset);
                tokio::task::spawn_local(task);
            }
            (Word::Recover { ticket, .. }, None) => self.tell_recovered(shard, ticket, None),
            (Word::Tell { host, words, .. }, None) => {
                self.tell(shard, News::Untold { host, words });
            }
            (word @ (Word::Enter { .. } | Word::Leave { .. }), None) => {
                self.members.set_aside(shard, word);
            }
            (
                word @ (Word::Enter { .. }
                | Word::Leave { .. }
                | Word::Say { .. }
                | Word::Tell { .. }),
                Some(_),
            ) => {
                self.members.came(&word);
                self.in_hand.borrow_mut().push((shard, word));
            }
            (Word::Show { .. } | Word::Say { .. }, None) => {}
            // These have a line of their own.
            (Word::Cast { .. } | Word::Answer { .. } | Word::Socket { .. }, _) => {}
        }
    }

    /// There is no link: what was under way may have been carried out or not.
    pub(super) fn set_aside(self: &Rc<Self>) {
        for (shard, word) in self.in_hand.take() {
            self.sort(None, shard, word);
        }
        for (shard, word) in self.held.take() {
            self.sort(None, shard, word);
        }
        self.summaries.drop_waiting();
        self.users.drop_waiting();
    }

    pub(super) async fn refuse_words(self: &Rc<Self>) {
        loop {
            for (shard, word) in self.next_words().await {
                self.sort(None, shard, word);
            }
            self.users.drop_waiting();
        }
    }

    /// Sees to it that no more words wait than may, however slow Redis is. Never ends.
    pub(super) async fn bound_words(self: &Rc<Self>, link: &Rc<Link>) -> Infallible {
        let mut is_over = false;
        loop {
            tokio::time::sleep(LOOK).await;
            let was_over = std::mem::replace(&mut is_over, self.words.borrow().len() > WORDS_MAX);
            if is_over {
                self.shed(link);
                if !was_over {
                    warn!("Redis is slow: too many words wait, and some of them are dropped");
                }
            }
        }
    }

    /// Takes in words that have not got their turn.
    fn shed(self: &Rc<Self>, link: &Rc<Link>) {
        while let Some((shard, word)) = self.try_word() {
            match word {
                Word::Say { .. } => {}
                Word::Enter { .. } | Word::Leave { .. } | Word::Tell { .. } => {
                    self.held.borrow_mut().push_back((shard, word));
                }
                // A summary, a session, a user: the newest of each takes the place of others.
                word => self.sort(Some(link), shard, word),
            }
        }
        if self.held.borrow().len() <= WORDS_MAX {
            return;
        }
        // In their order, and all: what is told of a member last must count.
        for (shard, word) in self.held.take() {
            if let Word::Enter { room, .. } | Word::Leave { room, .. } = &word {
                self.members.set_due(room, shard);
            }
            self.sort(None, shard, word);
        }
    }

    /// The next word that waits, if there is one.
    fn next_waiting(&self) -> Option<(u16, Word)> {
        let held = self.held.borrow_mut().pop_front();
        held.or_else(|| self.try_word())
    }

    fn try_word(&self) -> Option<(u16, Word)> {
        self.words.borrow_mut().try_recv().ok()
    }

    async fn flush(&self, link: &Link) -> Result<(), LinkError> {
        self.flush_words(link).await?;
        self.flush_summaries(link).await?;
        self.flush_sessions(link).await?;
        self.flush_users(link).await
    }

    /// Carries out what is in hand.
    async fn flush_words(&self, link: &Link) -> Result<(), LinkError> {
        let batch = self.words_batch(link, &self.in_hand.borrow());
        if batch.is_empty() {
            return Ok(());
        }
        let answers = batch.send(link, &self.scripts).await?;
        let mut aftermath = Aftermath::default();
        for ((shard, word), answer) in self.in_hand.take().into_iter().zip(answers) {
            self.members.on_answer(shard, &word, &answer, &mut aftermath);
            if let Word::Tell { host, words, .. } = word
                && read::<i64>(&answer).unwrap_or(0) == 0
            {
                self.tell(shard, News::Untold { host, words });
            }
        }
        self.follow(aftermath);
        Ok(())
    }

    /// A command for each word.
    fn words_batch(&self, link: &Link, words: &[(u16, Word)]) -> Batch {
        let host = self.office.plan.host;
        let mut batch = Batch::default();
        for (_, word) in words {
            match word {
                Word::Say { room, words } => {
                    let channel = self.office.keys.events(room);
                    let mut say = redis::cmd(verb(link));
                    say.arg(&channel).arg(events::said(host, words));
                    batch.push(link, &channel, say);
                }
                Word::Tell { host: to, shard, words } => {
                    let channel = self.office.keys.to_host(*to);
                    let mut tell = redis::cmd("PUBLISH");
                    tell.arg(&channel).arg(events::tell(host, *shard, words));
                    batch.push(link, &channel, tell);
                }
                _ => self.push_member(link, &mut batch, word),
            }
        }
        batch
    }

    /// Tells Redis who has left while there was no link.
    async fn flush_left(&self, link: &Link) -> Result<(), LinkError> {
        for words in self.members.all_left().chunks(WORDS_AT_ONCE) {
            let answers = self.words_batch(link, words).send(link, &self.scripts).await?;
            let mut aftermath = Aftermath::default();
            self.members.forget_left(words);
            for ((shard, word), answer) in words.iter().zip(&answers) {
                self.members.on_answer(*shard, word, answer, &mut aftermath);
            }
            self.follow(aftermath);
            if answers.iter().all(|it| matches!(it, Value::ServerError(_))) {
                break; // a little later again
            }
        }
        Ok(())
    }

    fn follow(&self, aftermath: Aftermath) {
        for room in aftermath.closed {
            self.summaries.forget(&room);
            self.trails.close(&room, Instant::now());
        }
        aftermath.empty.into_iter().for_each(|room| self.summaries.end(room));
    }

    async fn renew(&self, link: &Link, turn: u32) -> Result<(), LinkError> {
        let now = Instant::now();
        self.begin_anew(link).await?;
        self.flush_left(link).await?;
        self.sessions.retry(now);
        self.renew_summaries(link, now).await?;
        self.renew_sessions(link, now).await?;
        self.renew_users(link, now).await?;
        self.recoveries.expire(now);
        if turn.is_multiple_of(RENEW_TRAILS) {
            self.renew_trails(link, now).await?;
        }
        Ok(())
    }

    pub(super) async fn leave(self: &Rc<Self>, link: &Rc<Link>) -> Result<(), LinkError> {
        self.flush_left(link).await?;
        loop {
            let mut some = 0;
            while some < WORDS_AT_ONCE
                && let Some((shard, word)) = self.next_waiting()
            {
                self.sort(Some(link), shard, word);
                some += 1;
            }
            self.flush(link).await?;
            if some == 0 {
                break;
            }
        }
        self.flush_trails(link).await?;
        self.end(link).await
    }
}
