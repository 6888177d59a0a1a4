//! How far events have gone that were for a member, without remembering them: for each kind of
//! audience where the last one ended, exact for members that single events leave out.

use crate::app::Audience;
use crate::ids::Sid;

/// Where the last event ended, and the last one that left out somebody else.
#[derive(Clone, Copy, Default, Debug)]
struct Latest {
    end: u64,
    except: Option<Sid>,
    /// Where the last one ended that did not leave out `except`.
    end_for_except: u64,
}

impl Latest {
    fn note(&mut self, except: Option<Sid>, end: u64) {
        if except.is_none() || except != self.except {
            // Whom the new one leaves out got all before it, unless that left it out as well.
            self.end_for_except = if except.is_none() { end } else { self.end };
            self.except = except;
        }
        self.end = end;
    }

    fn end_for(&self, sid: Sid) -> u64 {
        if self.except == Some(sid) { self.end_for_except } else { self.end }
    }
}

/// How far a room's events have gone.
#[derive(Clone, Copy, Default, Debug)]
pub struct Marks {
    members: Latest,
    listeners: Latest,
}

impl Marks {
    /// An event to this audience ends here.
    pub fn note(&mut self, audience: Audience, end: u64) {
        match audience {
            Audience::All => self.members.note(None, end),
            Audience::Except(sid) => self.members.note(Some(sid), end),
            Audience::Listeners(except) => self.listeners.note(except, end),
        }
    }

    /// Where the last event ended that was for this member.
    pub fn end_for(&self, sid: Sid, listens: bool) -> u64 {
        let heard = if listens { self.listeners.end_for(sid) } else { 0 };
        self.members.end_for(sid).max(heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sid(number: u64) -> Sid {
        Sid::new(1, 0, 0, number)
    }

    #[test]
    fn agrees_with_a_list_of_all_events_for_whom_the_last_left_out() {
        let audiences = [
            Audience::All,
            Audience::Except(sid(1)),
            Audience::Except(sid(2)),
            Audience::Listeners(None),
            Audience::Listeners(Some(sid(1))),
        ];
        let reaches = |audience, to, listens| match audience {
            Audience::All => true,
            Audience::Except(other) => other != to,
            Audience::Listeners(except) => listens && except != Some(to),
        };
        // Every sequence of five events.
        for number in 0..audiences.len().pow(5) {
            let events: Vec<_> =
                (0..5).map(|at| audiences[number / audiences.len().pow(at) % 5]).collect();
            let mut marks = Marks::default();
            for (end, audience) in (1..).zip(&events) {
                marks.note(*audience, end);
            }
            for (to, listens) in [(1, true), (1, false), (2, true), (3, true), (3, false)] {
                let last = (1..)
                    .zip(&events)
                    .filter(|(_, audience)| reaches(**audience, sid(to), listens))
                    .map(|(end, _)| end)
                    .last()
                    .unwrap_or(0);
                let marked = marks.end_for(sid(to), listens);
                // Never less than the truth: what may have been missed is never denied.
                assert!(marked >= last, "{events:?} for {to}: {marked} < {last}");
                if to == 3 {
                    assert_eq!(marked, last, "{events:?}");
                }
            }
        }
    }

    #[test]
    fn who_alone_is_left_out_missed_nothing() {
        let mut marks = Marks::default();
        marks.note(Audience::All, 1);
        for end in 2..9 {
            marks.note(Audience::Except(sid(1)), end);
            marks.note(Audience::Listeners(Some(sid(1))), end);
        }
        assert_eq!((marks.end_for(sid(1), true), marks.end_for(sid(2), true)), (1, 8));
    }
}
