//! Casts of other servers that this host's shards answer, each for itself: gathered here into one
//! answer of this host.
//!
//! Invariant: whoever asks hears a sum (`Asked`, `Sockets`, `Rooms`) once, and only when every
//! shard has answered; clients' answers follow their sum; a server's own answer is the first of
//! any shard, and none comes if no shard has one.

use std::collections::HashMap;
use std::time::Instant;

use throng_protocol::adapter::Form;

use super::super::words::{CastAnswer, HostId};
use super::PENDING_MAX;
use super::asks::{Kind, Listed};

/// Who asks, and what an answer must name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    /// A host of the fleet.
    Host(HostId, u64),
    /// A Node server.
    Node { namespace: Box<str>, uid: Option<Box<str>>, request: Box<str>, form: Form },
}

struct Gathering {
    asker: Asker,
    kind: Kind,
    /// Shards that have not answered.
    missing: u16,
    asked: usize,
    acked: usize,
    listed: Listed,
    /// Clients' answers that came before all shards had counted theirs.
    held: Vec<CastAnswer>,
    until: Instant,
}

impl Gathering {
    fn sum(&mut self) -> Option<CastAnswer> {
        let listed = std::mem::take(&mut self.listed);
        match self.kind {
            Kind::Clients(_) => Some(CastAnswer::Asked(self.asked)),
            Kind::Sockets => Some(CastAnswer::Sockets(listed.items())),
            Kind::Rooms => Some(CastAnswer::Rooms(listed.names())),
            Kind::Servers => None,
        }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Gatherings {
    open: HashMap<u64, Gathering>,
    last: u64,
}

impl Gatherings {
    /// A cast that every shard will answer under this number. `None`: too many are open; the cast
    /// is not carried out.
    pub(super) fn begin(
        &mut self,
        asker: Asker,
        kind: Kind,
        shards: usize,
        now: Instant,
    ) -> Option<u64> {
        if self.open.len() >= PENDING_MAX {
            return None;
        }
        self.last += 1;
        let missing = u16::try_from(shards).unwrap_or(u16::MAX);
        let (until, listed) = (now + kind.patience(), Listed::default());
        let (asked, acked, held) = (0, 0, Vec::new());
        let gathering = Gathering { asker, kind, missing, asked, acked, listed, held, until };
        self.open.insert(self.last, gathering);
        Some(self.last)
    }

    /// A shard has answered; what is to be said to whom.
    pub(super) fn on_answer(
        &mut self,
        number: u64,
        answer: CastAnswer,
    ) -> Option<(Asker, Vec<CastAnswer>)> {
        let it = self.open.get_mut(&number)?;
        let mut said = Vec::new();
        match (it.kind, answer) {
            (Kind::Clients(_), answer @ CastAnswer::Acked(..)) => {
                it.acked += 1;
                if it.missing == 0 { &mut said } else { &mut it.held }.push(answer);
            }
            (Kind::Servers, answer @ CastAnswer::ServerSide(_)) => {
                let it = self.open.remove(&number)?;
                return Some((it.asker, vec![answer]));
            }
            (kind, answer) if it.missing > 0 => {
                it.missing -= 1;
                match (kind, answer) {
                    (Kind::Clients(_), CastAnswer::Asked(count)) => it.asked += count,
                    (Kind::Sockets, CastAnswer::Sockets(items))
                    | (Kind::Rooms, CastAnswer::Rooms(items)) => it.listed.extend(items),
                    _ => {} // nothing to say
                }
                if it.missing == 0 {
                    said.extend(it.sum());
                    said.append(&mut it.held);
                }
            }
            _ => {}
        }
        let is_over = it.missing == 0 && it.acked >= it.asked;
        let asker = if is_over { self.open.remove(&number)?.asker } else { it.asker.clone() };
        (!said.is_empty()).then_some((asker, said))
    }

    /// Forgets those whose time is up: who asked waits no longer either.
    pub(super) fn expire(&mut self, now: Instant) {
        self.open.retain(|_, it| it.until > now);
    }

    /// Forgets all: there is no way to answer.
    pub(super) fn end(&mut self) {
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CLIENTS: Kind = Kind::Clients(Duration::from_secs(1));
    const ASKER: Asker = Asker::Host(1, 2);

    fn acked() -> CastAnswer {
        CastAnswer::Acked("1".into(), vec![])
    }

    #[test]
    fn the_sum_of_all_shards_goes_first() {
        let mut open = Gatherings::default();
        let number = open.begin(ASKER, CLIENTS, 2, Instant::now()).expect("room for it");
        assert_eq!(open.on_answer(number, CastAnswer::Asked(1)), None);
        assert_eq!(open.on_answer(number, acked()), None);
        let said = open.on_answer(number, CastAnswer::Asked(1));
        assert_eq!(said, Some((ASKER, vec![CastAnswer::Asked(2), acked()])));
        assert_eq!(open.on_answer(number, acked()), Some((ASKER, vec![acked()])));
        assert!(open.open.is_empty());
    }

    #[test]
    fn nothing_is_an_answer_too() {
        let mut open = Gatherings::default();
        let number = open.begin(ASKER, CLIENTS, 1, Instant::now()).expect("room for it");
        let said = open.on_answer(number, CastAnswer::Asked(0));
        assert_eq!(said, Some((ASKER, vec![CastAnswer::Asked(0)])));
        let number = open.begin(ASKER, Kind::Sockets, 2, Instant::now()).expect("room for it");
        assert_eq!(open.on_answer(number, CastAnswer::Asked(0)), None);
        let said = open.on_answer(number, CastAnswer::Sockets(vec!["{}".into()]));
        assert_eq!(said, Some((ASKER, vec![CastAnswer::Sockets(vec!["{}".into()])])));
        assert!(open.open.is_empty());
    }

    #[test]
    fn a_server_answers_once_or_never() {
        let mut open = Gatherings::default();
        let said = CastAnswer::ServerSide("1".into());
        let number = open.begin(ASKER, Kind::Servers, 2, Instant::now()).expect("room for it");
        assert_eq!(open.on_answer(number, CastAnswer::Asked(0)), None);
        assert_eq!(open.on_answer(number, said.clone()), Some((ASKER, vec![said.clone()])));
        assert_eq!(open.on_answer(number, said), None);
        let number = open.begin(ASKER, Kind::Servers, 1, Instant::now()).expect("room for it");
        assert_eq!(open.on_answer(number, CastAnswer::Asked(0)), None);
        assert!(open.open.is_empty());
    }

    #[test]
    fn they_end_by_time_and_are_bounded() {
        let (mut open, now) = (Gatherings::default(), Instant::now());
        for _ in 0..PENDING_MAX {
            assert!(open.begin(ASKER, Kind::Rooms, 1, now).is_some());
        }
        assert_eq!(open.begin(ASKER, Kind::Rooms, 1, now), None);
        open.expire(now);
        assert_eq!(open.open.len(), PENDING_MAX);
        open.expire(now + Kind::Rooms.patience());
        assert!(open.open.is_empty());
    }
}
