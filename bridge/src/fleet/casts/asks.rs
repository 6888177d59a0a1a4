//! This host's casts that wait for answers of other servers.
//!
//! Owns what has been answered so far and who is still missing. Tells the shard that cast, under
//! the number it gave: of [`CastAnswer::Asked`], [`CastAnswer::Sockets`] and [`CastAnswer::Rooms`]
//! exactly one, the sum of all servers, as soon as all have answered, or when their time is up, or
//! the link is lost; each [`CastAnswer::Acked`] and [`CastAnswer::ServerSide`] as it comes. A cast
//! to the servers themselves begins with `Asked`: how many servers may answer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::super::words::{CastAnswer, Deed, News};
use super::{ANSWER_PATIENCE, LISTED_BYTES_MAX, PENDING_MAX};

/// How long after a client's time is up its answer may still be under way.
const SLACK: Duration = Duration::from_millis(500);

/// What kind of answers a cast is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Of clients, within so long.
    Clients(Duration),
    Sockets,
    Rooms,
    Servers,
}

impl Kind {
    /// Of a cast that wants answers: which, and its own number.
    pub(super) fn of(deed: &Deed) -> Option<(Self, u64)> {
        match deed {
            Deed::Emit { answers: Some((id, ms)), .. } => {
                Some((Kind::Clients(Duration::from_millis(u64::from(*ms))), *id))
            }
            Deed::Fetch(id) => Some((Kind::Sockets, *id)),
            Deed::Rooms(id) => Some((Kind::Rooms, *id)),
            Deed::ServerSide { answer: Some(id), .. } => Some((Kind::Servers, *id)),
            Deed::Emit { answers: None, .. }
            | Deed::ServerSide { answer: None, .. }
            | Deed::Join(_)
            | Deed::Leave(_)
            | Deed::Disconnect(_) => None,
        }
    }

    /// How long its answers are waited for.
    pub(super) fn patience(self) -> Duration {
        match self {
            Kind::Clients(patience) => patience.min(super::EMIT_PATIENCE_MAX) + SLACK,
            Kind::Sockets | Kind::Rooms | Kind::Servers => ANSWER_PATIENCE,
        }
    }
}

/// One cast that waits.
struct Ask {
    shard: u16,
    id: u64,
    kind: Kind,
    /// Servers that have not answered.
    missing: usize,
    asked: usize,
    acked: usize,
    listed: Listed,
    is_told: bool,
    until: Instant,
}

/// Names or objects, up to a size.
#[derive(Default)]
pub(super) struct Listed {
    items: Vec<Box<str>>,
    bytes: usize,
}

impl Listed {
    /// Leaves out what goes beyond [`LISTED_BYTES_MAX`].
    pub(super) fn extend(&mut self, items: Vec<Box<str>>) {
        for item in items {
            self.bytes += item.len() + 1;
            if self.bytes > LISTED_BYTES_MAX {
                return tracing::warn!(count = self.items.len(), "cut a list that is too long");
            }
            self.items.push(item);
        }
    }

    /// Each once.
    pub(super) fn names(mut self) -> Vec<Box<str>> {
        self.items.sort_unstable();
        self.items.dedup();
        self.items
    }

    pub(super) fn items(self) -> Vec<Box<str>> {
        self.items
    }
}

impl Ask {
    /// What all servers together have answered, once.
    fn sum(&mut self) -> Option<(u16, News)> {
        if std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        let listed = std::mem::take(&mut self.listed);
        Some(self.news(match self.kind {
            Kind::Clients(_) | Kind::Servers => CastAnswer::Asked(self.asked),
            Kind::Sockets => CastAnswer::Sockets(listed.items()),
            Kind::Rooms => CastAnswer::Rooms(listed.names()),
        }))
    }

    fn news(&self, answer: CastAnswer) -> (u16, News) {
        (self.shard, News::Answered { id: self.id, answer })
    }

    /// Whether nothing more is to come.
    fn is_over(&self) -> bool {
        let clients = matches!(self.kind, Kind::Clients(_)) && self.acked < self.asked;
        self.missing == 0 && self.is_told && !clients
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Asks {
    waiting: HashMap<u64, Ask>,
    last: u64,
}

impl Asks {
    /// Numbers go on above this one, so that no answer to a cast before a restart fits.
    pub(super) fn new(last: u64) -> Self {
        Self { waiting: HashMap::new(), last }
    }

    /// A cast that so many servers will answer. `None` for its number: nobody will, or too many
    /// wait already; it has its answer at once then, as with nobody there.
    pub(super) fn begin(
        &mut self,
        shard: u16,
        (kind, id): (Kind, u64),
        servers: usize,
        now: Instant,
    ) -> (Option<u64>, Option<(u16, News)>) {
        let is_servers = kind == Kind::Servers;
        let is_full = self.waiting.len() >= PENDING_MAX;
        let missing = if is_full { 0 } else { servers };
        let asked = if is_servers { missing } else { 0 };
        let until = now + kind.patience();
        let (is_told, listed) = (false, Listed::default());
        let mut ask = Ask { shard, id, kind, missing, asked, acked: 0, listed, is_told, until };
        if missing == 0 {
            return (None, ask.sum());
        }
        let news = if is_servers { ask.sum() } else { None };
        self.last += 1;
        self.waiting.insert(self.last, ask);
        (Some(self.last), news)
    }

    /// A server has answered, or one of its clients; an answer that does not fit is dropped.
    pub(super) fn on_answer(&mut self, number: u64, answer: CastAnswer) -> Option<(u16, News)> {
        let ask = self.waiting.get_mut(&number)?;
        let news = match (ask.kind, answer) {
            (Kind::Clients(_), answer @ CastAnswer::Acked(..)) => {
                ask.acked += 1;
                Some(ask.news(answer))
            }
            (Kind::Servers, CastAnswer::ServerSide(value)) => {
                ask.missing = ask.missing.saturating_sub(1);
                Some(ask.news(CastAnswer::ServerSide(value)))
            }
            (Kind::Clients(_), CastAnswer::Asked(count)) => {
                ask.asked = ask.asked.saturating_add(count);
                ask.missing = ask.missing.saturating_sub(1);
                if ask.missing == 0 { ask.sum() } else { None }
            }
            (Kind::Sockets, CastAnswer::Sockets(items))
            | (Kind::Rooms, CastAnswer::Rooms(items)) => {
                ask.listed.extend(items);
                ask.missing = ask.missing.saturating_sub(1);
                if ask.missing == 0 { ask.sum() } else { None }
            }
            _ => None,
        };
        if ask.is_over() {
            self.waiting.remove(&number);
        }
        news
    }

    /// Ends those whose time is up.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(u16, News)> {
        self.waiting
            .extract_if(|_, ask| ask.until <= now)
            .filter_map(|(_, mut it)| it.sum())
            .collect()
    }

    /// Ends all: nobody answers any more.
    pub(super) fn end(&mut self) -> Vec<(u16, News)> {
        self.waiting.drain().filter_map(|(_, mut ask)| ask.sum()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(news: Option<(u16, News)>) -> Option<CastAnswer> {
        match news {
            Some((3, News::Answered { id: 7, answer })) => Some(answer),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    fn texts(items: &[&str]) -> Vec<Box<str>> {
        items.iter().map(|it| (*it).into()).collect()
    }

    #[test]
    fn lists_are_told_once_when_all_have_answered() {
        let (mut asks, now) = (Asks::new(10), Instant::now());
        let (number, news) = asks.begin(3, (Kind::Rooms, 7), 2, now);
        assert!(number == Some(11) && news.is_none());
        assert_eq!(answer(asks.on_answer(11, CastAnswer::Rooms(texts(&["b", "a"])))), None);
        let all = CastAnswer::Rooms(texts(&["a", "b", "c"]));
        assert_eq!(answer(asks.on_answer(11, CastAnswer::Rooms(texts(&["c", "a"])))), Some(all));
        assert!(asks.waiting.is_empty());
    }

    #[test]
    fn nobody_there_is_an_answer_too() {
        let (mut asks, now) = (Asks::default(), Instant::now());
        for (kind, nothing) in [
            (Kind::Clients(Duration::from_secs(1)), CastAnswer::Asked(0)),
            (Kind::Sockets, CastAnswer::Sockets(Vec::new())),
            (Kind::Rooms, CastAnswer::Rooms(Vec::new())),
            (Kind::Servers, CastAnswer::Asked(0)),
        ] {
            let (number, news) = asks.begin(3, (kind, 7), 0, now);
            assert_eq!((number, answer(news)), (None, Some(nothing)));
        }
    }

    #[test]
    fn clients_may_answer_before_they_are_counted() {
        let (mut asks, now) = (Asks::default(), Instant::now());
        let (number, _) = asks.begin(3, (Kind::Clients(Duration::from_secs(1)), 7), 2, now);
        let number = number.expect("it waits");
        let mut tell = |it| answer(asks.on_answer(number, it));
        let acked = CastAnswer::Acked("1".into(), vec![]);
        assert_eq!(tell(acked.clone()), Some(acked.clone()));
        assert_eq!(tell(CastAnswer::Asked(1)), None);
        assert_eq!(tell(CastAnswer::Asked(1)), Some(CastAnswer::Asked(2)));
        assert_eq!(tell(acked.clone()), Some(acked.clone()));
        assert_eq!(tell(acked), None, "nothing more was asked");
    }

    #[test]
    fn time_and_the_links_end_tell_what_there_is() {
        let (mut asks, now) = (Asks::default(), Instant::now());
        for end in [true, false] {
            let (number, _) = asks.begin(3, (Kind::Sockets, 7), 2, now);
            let number = number.expect("it waits");
            asks.on_answer(number, CastAnswer::Sockets(texts(&["{}"])));
            assert!(asks.expire(now).is_empty());
            let mut news = if end { asks.end() } else { asks.expire(now + ANSWER_PATIENCE) };
            let sockets = CastAnswer::Sockets(texts(&["{}"]));
            assert_eq!((news.len(), answer(news.pop())), (1, Some(sockets)));
        }
        let (number, news) = asks.begin(3, (Kind::Servers, 7), 2, now);
        assert_eq!(answer(news), Some(CastAnswer::Asked(2)));
        let said = CastAnswer::ServerSide("1".into());
        assert_eq!(answer(asks.on_answer(number.expect("it waits"), said.clone())), Some(said));
        assert!(asks.end().is_empty(), "it was told how many");
    }

    #[test]
    fn only_so_many_wait() {
        let (mut asks, now) = (Asks::default(), Instant::now());
        for _ in 0..PENDING_MAX {
            assert!(asks.begin(3, (Kind::Rooms, 7), 1, now).0.is_some());
        }
        let (number, news) = asks.begin(3, (Kind::Rooms, 7), 1, now);
        assert_eq!((number, answer(news)), (None, Some(CastAnswer::Rooms(Vec::new()))));
    }
}
