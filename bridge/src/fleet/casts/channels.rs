//! The channels of single rooms and sockets, where the adapter has some.
//!
//! Owns which of them this host wants to hear, and what has changed since it last told Redis. Never
//! speaks to Redis.
//!
//! Invariants: a channel is wanted as long as a room or a socket of its name is here, also where
//! both are; one that has come and gone between two looks is told as gone, never twice; nothing is
//! kept of what is gone and told.

use std::collections::HashMap;

/// Why a channel is wanted.
#[derive(Clone, Copy)]
pub(super) enum By {
    /// A room has members here.
    Room = 1,
    /// A socket is here.
    Socket = 2,
}

/// See the module.
#[derive(Default)]
pub(super) struct Channels {
    /// By name: the bits of [`By`], at least one.
    wanted: HashMap<String, u8>,
    /// Those that have come (true) or gone since.
    changed: HashMap<String, bool>,
    /// Redis does not let this host subscribe to them.
    are_refused: bool,
}

impl Channels {
    /// Something of this name has come or gone.
    pub(super) fn want(&mut self, channel: String, by: By, is_here: bool) {
        if self.are_refused {
            return;
        }
        let before = self.wanted.get(&channel).copied().unwrap_or(0);
        let after = if is_here { before | by as u8 } else { before & !(by as u8) };
        match after {
            0 => drop(self.wanted.remove(&channel)),
            _ => drop(self.wanted.insert(channel.clone(), after)),
        }
        if (before == 0) != (after == 0) {
            self.changed.insert(channel, after != 0);
        }
    }

    /// There is no link: what changes is not kept, however long that lasts.
    pub(super) fn lose(&mut self) {
        self.changed.clear();
    }

    /// Nothing of what is wanted is subscribed to.
    pub(super) fn restart(&mut self) {
        self.changed = self.wanted.keys().map(|channel| (channel.clone(), true)).collect();
    }

    /// What is to be subscribed to, and what no longer.
    pub(super) fn take_changed(&mut self) -> (Vec<String>, Vec<String>) {
        let (come, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.changed).into_iter().partition(|(_, is_here)| *is_here);
        let names = |of: Vec<(String, bool)>| of.into_iter().map(|(name, _)| name).collect();
        (names(come), names(gone))
    }

    /// Gives up those of one namespace: they begin so.
    pub(super) fn forget(&mut self, beginning: &str) {
        self.wanted.retain(|channel, _| !channel.starts_with(beginning));
    }

    /// Gives up all, for good.
    pub(super) fn refuse(&mut self) {
        *self = Self { are_refused: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(channels: &mut Channels) -> (Vec<String>, Vec<String>) {
        let (mut come, mut gone) = channels.take_changed();
        come.sort();
        gone.sort();
        (come, gone)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_channel_is_wanted_until_nothing_of_its_name_is_here() {
        let mut channels = Channels::default();
        let mut want = |by, is_here| {
            channels.want("p#/#a#".into(), by, is_here);
            changed(&mut channels)
        };
        let (come, gone) = ((names(&["p#/#a#"]), vec![]), (vec![], names(&["p#/#a#"])));
        assert_eq!(want(By::Socket, true), come);
        assert_eq!(want(By::Room, true), (vec![], vec![]));
        assert_eq!(want(By::Room, true), (vec![], vec![]));
        assert_eq!(want(By::Room, false), (vec![], vec![]), "the socket is still here");
        assert_eq!(want(By::Room, false), (vec![], vec![]));
        assert_eq!(want(By::Socket, false), gone);
        assert_eq!(want(By::Socket, false), (vec![], vec![]));
        assert_eq!(want(By::Room, true), come);
    }

    #[test]
    fn many_changes_are_told_as_the_last() {
        let mut channels = Channels::default();
        for is_here in [true, false, true] {
            channels.want("kept".into(), By::Socket, is_here);
            channels.want("gone".into(), By::Socket, !is_here);
        }
        assert_eq!(changed(&mut channels), (names(&["kept"]), names(&["gone"])));
        for is_here in [true, false] {
            channels.want("short-lived".into(), By::Socket, is_here);
        }
        channels.lose();
        assert_eq!(changed(&mut channels), (vec![], vec![]), "there is no link");
        channels.restart();
        assert_eq!(changed(&mut channels), (names(&["kept"]), vec![]), "on a new link");
    }

    #[test]
    fn what_is_given_up_is_not_asked_for_again() {
        let mut channels = Channels::default();
        channels.want("p#/n#a#".into(), By::Room, true);
        channels.want("p#/#a#".into(), By::Room, true);
        channels.forget("p#/n#");
        channels.restart();
        assert_eq!(changed(&mut channels).0, names(&["p#/#a#"]));
        channels.refuse();
        channels.want("p#/#b#".into(), By::Room, true);
        channels.restart();
        assert_eq!(changed(&mut channels), (vec![], vec![]));
    }
}
