//! Answering questions: reads that are the same as one under way wait for that one's answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::{ANSWER, Done, Found, Office, Question};
use crate::message::{Message, Range};
use crate::password;
use crate::store::{RoomRecord, StoreError};
use crate::ticket::Ticket;

/// Questions asked of the store at once.
const CONCURRENT_MAX: usize = 64;

/// One read, whoever wants it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Wanted {
    room: Arc<str>,
    after: Option<u64>,
    before: Option<u64>,
    limit: usize,
    wants_record: bool,
}

/// What the tasks that answer share.
struct Desk {
    office: Rc<Office>,
    reads: RefCell<HashMap<Wanted, Vec<(u16, Ticket)>>>,
    store: Semaphore,
    /// One password at a time: hashing is slow on purpose.
    passwords: Semaphore,
}

/// Until no shard can ask any more.
pub(super) async fn run(office: Rc<Office>, mut asked: UnboundedReceiver<(u16, Question)>) {
    let desk = Rc::new(Desk {
        office,
        reads: RefCell::default(),
        store: Semaphore::new(CONCURRENT_MAX),
        passwords: Semaphore::new(1),
    });
    let mut answering = JoinSet::new();
    loop {
        tokio::select! {
            question = asked.recv() => match question {
                Some((shard, question)) => {
                    if let Some(question) = desk.merged(shard, question) {
                        answering.spawn_local(Rc::clone(&desk).answer(shard, question));
                    }
                }
                None => break,
            },
            Some(_) = answering.join_next() => {}
        }
    }
    answering.join_all().await;
}

impl Desk {
    /// The question, unless it is a read that is under way: its answer is for this one, too.
    fn merged(&self, shard: u16, question: Question) -> Option<Question> {
        if let Question::Read { ticket, room, range, wants_record } = &question {
            let mut reads = self.reads.borrow_mut();
            let waiting = reads.entry(Wanted::new(room, *range, *wants_record)).or_default();
            waiting.push((shard, *ticket));
            if waiting.len() > 1 {
                self.office.stats.reads_merged.fetch_add(1, Relaxed);
                return None;
            }
        }
        Some(question)
    }

    async fn answer(self: Rc<Self>, shard: u16, question: Question) {
        let done = match question {
            Question::Read { room, range, wants_record, .. } => {
                return self.answer_read(room, range, wants_record).await;
            }
            Question::Verify { ticket, password, hash } => {
                let right = self.verify(password, hash).await;
                Done::Verified { ticket, right }
            }
            Question::Open { room, limit } => {
                let found = self.open(&room, limit).await.ok();
                Done::Opened { room, found }
            }
            Question::Find { room, client_ids, patience } => {
                let messages = self.find(&room, &client_ids, patience).await;
                Done::Found { room, messages }
            }
            Question::Record { ticket, room } => {
                let record = self.record(&room).await.ok();
                Done::Record { ticket, record }
            }
            Question::Configure { ticket, room, settings, now_ms } => {
                let store = &self.office.store;
                let record = self.ask(store.configure(&room, &settings, now_ms)).await.ok();
                Done::Configured { ticket, room, record }
            }
        };
        self.office.shards[usize::from(shard)].tell(done);
    }

    async fn ask<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let in_turn = async {
            let _turn = self.store.acquire().await;
            self.office.ask(answer).await
        };
        let late = || StoreError::Unavailable("too many questions wait for the store".to_owned());
        let result = timeout(ANSWER, in_turn).await.unwrap_or_else(|_| Err(late()));
        let stats = &self.office.stats;
        stats.reads.fetch_add(1, Relaxed);
        match result {
            Ok(_) => stats.note_read(begun.elapsed()),
            Err(_) => drop(stats.reads_failed.fetch_add(1, Relaxed)),
        }
        result
    }

    async fn answer_read(&self, room: Arc<str>, range: Range, wants_record: bool) {
        let found = self.read(&room, range, wants_record).await.ok();
        let wanted = Wanted::new(&room, range, wants_record);
        for (shard, ticket) in self.reads.borrow_mut().remove(&wanted).unwrap_or_default() {
            let found = found.clone();
            self.office.shards[usize::from(shard)].tell(Done::Read { ticket, found });
        }
    }

    async fn read(&self, room: &str, range: Range, record: bool) -> Result<Found, StoreError> {
        let record = if record { Some(self.record(room).await?) } else { None };
        let messages = self.ask(self.office.store.read(room, range)).await?;
        Ok((messages.into_iter().map(Arc::new).collect(), record))
    }

    /// What is kept of a room; a new one's if nothing is.
    async fn record(&self, room: &str) -> Result<RoomRecord, StoreError> {
        self.ask(self.office.store.room(room)).await.map(Option::unwrap_or_default)
    }

    async fn open(
        &self,
        room: &str,
        limit: usize,
    ) -> Result<(RoomRecord, Vec<Message>), StoreError> {
        let record = self.record(room).await?;
        let messages = match (record.last_seq, limit) {
            (0, _) | (_, 0) => Vec::new(),
            (last_seq, limit) => {
                let range = Range { after: None, before: Some(last_seq + 1), limit };
                self.ask(self.office.store.read(room, range)).await?
            }
        };
        Ok((record, messages))
    }

    async fn find(
        &self,
        room: &str,
        client_ids: &[Box<str>],
        patience: Duration,
    ) -> Option<Vec<Message>> {
        let found = timeout(patience, self.ask(self.office.store.find(room, client_ids))).await;
        let found = found.ok().and_then(Result::ok);
        if found.is_none() {
            let failed = client_ids.len() as u64;
            self.office.stats.lookups_failed.fetch_add(failed, Relaxed);
        }
        found
    }

    async fn verify(&self, password: Box<str>, hash: Box<str>) -> Option<bool> {
        let _turn = self.passwords.acquire().await;
        spawn_blocking(move || password::is_right(&password, &hash)).await.ok()
    }
}

impl Wanted {
    fn new(room: &Arc<str>, range: Range, wants_record: bool) -> Self {
        let Range { after, before, limit } = range;
        Self { room: Arc::clone(room), after, before, limit, wants_record }
    }
}
