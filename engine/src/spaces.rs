//! The namespaces that sockets of this shard are in, by small numbers.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::codec::MAIN;

/// A namespace on one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Namespace(u16);

impl Namespace {
    /// `/`
    pub const MAIN: Self = Self(0);
}

/// The names. One that an application declares by pattern exists as long as a socket is in it.
pub struct Spaces {
    /// By number: its name, and the sockets in it.
    names: Vec<(Arc<str>, u32)>,
    by_name: HashMap<Arc<str>, u16>,
    free: Vec<u16>,
}

impl Default for Spaces {
    fn default() -> Self {
        Self { names: vec![(MAIN.into(), 0)], by_name: HashMap::new(), free: Vec::new() }
    }
}

impl Spaces {
    /// The namespace of this name, if a socket is in it.
    pub fn find(&self, name: &str) -> Option<Namespace> {
        if name == MAIN {
            return Some(Namespace::MAIN);
        }
        self.by_name.get(name).copied().map(Namespace)
    }

    /// Counts a socket in; `None` when there are more namespaces than numbers.
    pub fn enter(&mut self, name: &str) -> Option<Namespace> {
        let number = match self.find(name) {
            Some(Namespace(number)) => number,
            None => self.open(name)?,
        };
        self.names[usize::from(number)].1 += 1;
        Some(Namespace(number))
    }

    /// Counts a socket out.
    pub fn leave(&mut self, Namespace(number): Namespace) {
        let (name, sockets) = &mut self.names[usize::from(number)];
        *sockets -= 1;
        if *sockets == 0 && number != Namespace::MAIN.0 {
            self.by_name.remove(name);
            self.free.push(number);
        }
    }

    /// Its name.
    pub fn name(&self, Namespace(number): Namespace) -> &Arc<str> {
        &self.names[usize::from(number)].0
    }

    fn open(&mut self, name: &str) -> Option<u16> {
        let name: Arc<str> = name.into();
        let number = match self.free.pop() {
            Some(number) => number,
            None => u16::try_from(self.names.len()).ok()?,
        };
        let place = (Arc::clone(&name), 0);
        match self.names.get_mut(usize::from(number)) {
            Some(old) => *old = place,
            None => self.names.push(place),
        }
        self.by_name.insert(name, number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_exist_as_long_as_a_socket_is_in_them() {
        let mut spaces = Spaces::default();
        assert_eq!(spaces.enter("/"), Some(Namespace::MAIN));
        let one = spaces.enter("/one").expect("room");
        assert_eq!(spaces.enter("/one"), Some(one));
        assert_eq!(&**spaces.name(one), "/one");
        spaces.leave(one);
        assert_eq!(spaces.find("/one"), Some(one));
        spaces.leave(one);
        assert_eq!(spaces.find("/one"), None);
        assert_eq!(spaces.enter("/two"), Some(one), "its number is used again");
        spaces.leave(Namespace::MAIN);
        assert_eq!(spaces.find("/"), Some(Namespace::MAIN));
    }
}
