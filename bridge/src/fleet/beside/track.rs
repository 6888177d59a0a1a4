//! A shard's trail as another host reads it: which messages of a room a client has, from its
//! offset. Knows nothing of Redis.

use std::collections::HashMap;

use crate::fleet::words::Stay;

use super::steps::Steps;

/// What is known of a client's place in a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Has {
    /// It has this message and all before.
    Up(u64),
    /// The same, unless there are later ones: of those it may have some.
    AtLeast(u64),
    /// The steps since its offset must be read, up to a position that is told.
    Unread { offset: u64, end: u64 },
}

/// How much a client has of what it was told alone.
pub(super) enum Told {
    /// All: what comes after position `since` is to be looked at, beyond this message.
    All { since: u64, seq: u64 },
    /// This message and all before, and nothing after.
    Up(u64),
}

/// What a client that has read up to `position` has of what it was told alone in a room, in a
/// session that began at `since`.
pub(super) fn replayed((since, stay): (u64, &Stay), position: Option<u64>) -> Told {
    let (mut since, mut seq) = (since, stay.seq);
    // What Redis has may be nonsense: none of it may be taken to be too large to count with.
    for replay in stay.replays.iter().filter(|it| it.count > 0) {
        let read = match position {
            Some(position) if position >= replay.position => {
                (position - replay.position).saturating_add(1)
            }
            _ => 0,
        };
        if read < replay.count {
            let has = replay.seq.saturating_add(read - u64::from(read > 0));
            return Told::Up(if read == 0 { seq } else { has });
        }
        let more = replay.count - 1;
        (since, seq) = (replay.position.saturating_add(more), replay.seq.saturating_add(more));
    }
    Told::All { since, seq }
}

/// A client's place in a room by `passed` alone. `last`: the last message passed of the room,
/// position and `seq`. `whole`: the position up to which `passed` tells all. `since`: the position
/// at which the session began. `stay`: the last message before it came into the room.
pub(super) fn place(
    offset: Option<u64>,
    (since, stay): (u64, u64),
    last: Option<(u64, u64)>,
    whole: Option<u64>,
) -> Has {
    let Some(offset) = offset.filter(|offset| *offset > since) else {
        return Has::Up(stay);
    };
    let is_told = whole.is_some_and(|whole| offset <= whole);
    match last {
        Some((end, _)) if offset < end => Has::Unread { offset, end },
        Some((_, seq)) if is_told => Has::Up(seq.max(stay)),
        Some((_, seq)) => Has::AtLeast(seq.max(stay)),
        None if is_told => Has::Up(stay),
        None => Has::AtLeast(stay),
    }
}

/// Of a room's steps in a row: position and `seq` of each, and the `seq` before them.
type Run = (u64, Vec<(u64, u64)>);

/// The steps of a shard that have been read.
#[derive(Default)]
pub(super) struct Track {
    /// The position from which it tells all.
    from: u64,
    /// And up to which.
    to: u64,
    rooms: HashMap<Box<str>, Vec<Run>>,
    steps_count: usize,
}

impl Track {
    /// The position up to which it has been read.
    pub(super) fn end(&self) -> u64 {
        self.to
    }

    /// How many steps it holds.
    pub(super) fn steps_count(&self) -> usize {
        self.steps_count
    }

    /// Takes in the next entry. Where one is missing before it, all begins anew with it.
    pub(super) fn push(&mut self, (from, to): (u64, u64), steps: Vec<Steps>) {
        if self.to == 0 || from > self.to {
            *self = Self { from, to: from, ..Self::default() };
        }
        for Steps(room, mut before, pairs) in steps {
            let mut run = Vec::with_capacity(pairs.len() / 2);
            for pair in pairs.chunks_exact(2) {
                if pair[0] > self.to {
                    run.push((pair[0], pair[1]));
                } else {
                    before = pair[1];
                }
            }
            self.steps_count += run.len();
            if !run.is_empty() {
                self.rooms.entry(room).or_default().push((before, run));
            }
        }
        self.to = self.to.max(to);
    }

    /// The last message of a room that a client with this offset has, 0 for none: the one before
    /// the first that was passed after the offset. `None`: that is not told.
    pub(super) fn has(&self, room: &str, offset: u64) -> Option<u64> {
        if offset < self.from {
            return None;
        }
        let runs = self.rooms.get(room)?;
        let next = runs.partition_point(|(_, run)| run.last().is_none_or(|it| it.0 <= offset));
        let (before, run) = runs.get(next)?;
        let index = run.partition_point(|(position, _)| *position <= offset);
        Some(if index == 0 { *before } else { run[index - 1].1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::words::Replay;

    fn steps(room: &str, before: u64, pairs: &[u64]) -> Steps {
        Steps(room.into(), before, pairs.to_vec())
    }

    #[test]
    fn an_offset_tells_the_last_message_that_was_read() {
        let mut track = Track::default();
        track.push((0, 20), vec![steps("a", 0, &[5, 1, 20, 2]), steps("b", 7, &[10, 8])]);
        track.push((20, 40), vec![steps("a", 2, &[30, 3, 40, 9])]);
        let has = |room, offset| track.has(room, offset);
        assert_eq!(has("a", 4), Some(0), "none was passed before");
        assert_eq!((has("a", 5), has("a", 19), has("a", 20)), (Some(1), Some(1), Some(2)));
        assert_eq!((has("a", 30), has("a", 39)), (Some(3), Some(3)), "before a leap");
        assert_eq!(has("a", 40), None, "nothing was passed later");
        assert_eq!((has("b", 9), has("b", 10), has("c", 0)), (Some(7), None, None));
    }

    #[test]
    fn nonsense_in_a_session_is_counted_with() {
        let numbers = [0, 1, 2, u64::MAX - 1, u64::MAX];
        for (position, seq, count) in numbers.into_iter().flat_map(|position| {
            numbers.map(|seq| numbers.map(|count| (position, seq, count))).into_iter().flatten()
        }) {
            let replays = vec![Replay { position, seq, count }; 2];
            let (room, member) = ("r".into(), "{}".into());
            let stay = Stay { room, member, listens: true, seq: 7, replays };
            for read in numbers {
                let told = replayed((0, &stay), Some(read));
                if count == 0 {
                    assert!(matches!(told, Told::All { since: 0, seq: 7 }), "nothing was told");
                }
            }
        }
    }

    #[test]
    fn a_missing_entry_is_noticed_and_a_repeated_one_is_not_counted_twice() {
        let mut track = Track::default();
        track.push((10, 20), vec![steps("a", 1, &[20, 2])]);
        assert_eq!((track.has("a", 9), track.has("a", 10)), (None, Some(1)));
        // The link broke before the answer came: the same again, with what has come since.
        track.push((10, 30), vec![steps("a", 1, &[20, 2, 30, 3])]);
        assert_eq!((track.has("a", 10), track.has("a", 20)), (Some(1), Some(2)));
        assert_eq!((track.end(), track.steps_count()), (30, 2));
        track.push((40, 50), vec![steps("a", 4, &[50, 5])]);
        assert_eq!((track.has("a", 20), track.has("a", 40)), (None, Some(4)));
    }

    #[test]
    fn what_was_passed_last_tells_the_place_of_those_who_have_read_it() {
        let last = Some((100, 6));
        assert_eq!(place(None, (3, 2), last, Some(100)), Has::Up(2), "it has read nothing");
        assert_eq!(place(Some(3), (3, 2), last, Some(100)), Has::Up(2));
        assert_eq!(place(Some(100), (3, 2), last, Some(120)), Has::Up(6));
        assert_eq!(place(Some(110), (3, 8), last, Some(120)), Has::Up(8), "it came in later");
        assert_eq!(place(Some(121), (3, 2), last, Some(120)), Has::AtLeast(6));
        assert_eq!(place(Some(110), (3, 2), last, None), Has::AtLeast(6));
        assert_eq!(place(Some(99), (3, 2), last, Some(120)), Has::Unread { offset: 99, end: 100 });
        assert_eq!(place(Some(99), (3, 2), None, Some(120)), Has::Up(2));
        assert_eq!(place(Some(99), (3, 2), None, None), Has::AtLeast(2));
    }
}
