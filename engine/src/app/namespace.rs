//! Namespaces an application has, and the names of rooms within them.

use std::borrow::Cow;

use crate::codec::MAIN;

/// The namespaces that clients may connect to: `/`, and those declared.
#[derive(Clone, Default, Debug)]
pub struct Namespaces {
    names: Vec<&'static str>,
    patterns: Vec<fn(&str) -> bool>,
}

impl Namespaces {
    /// Also this one, with its leading slash.
    #[must_use]
    pub fn with(mut self, name: &'static str) -> Self {
        debug_assert!(name.starts_with('/'), "a namespace begins with a slash");
        self.names.push(name);
        self
    }

    /// Also each whose name, with its slash, fits; it exists as long as a socket is in it.
    #[must_use]
    pub fn matching(mut self, fits: fn(&str) -> bool) -> Self {
        self.patterns.push(fits);
        self
    }

    /// Whether clients may connect to it.
    pub fn has(&self, name: &str) -> bool {
        name == MAIN || self.names.contains(&name) || self.patterns.iter().any(|fits| fits(name))
    }
}

/// Between a namespace and a room's name; no room is called so.
const BORDER: char = '\0';

/// The name under which a namespace's room is known to all shards: its own in the main namespace.
pub fn room_key<'a>(namespace: &str, room: &'a str) -> Cow<'a, str> {
    if namespace == MAIN && !room.contains(BORDER) {
        return Cow::Borrowed(room);
    }
    Cow::Owned(format!("{namespace}{BORDER}{room}"))
}

/// The namespace and the room's own name.
pub fn split_key(key: &str) -> (&str, &str) {
    key.split_once(BORDER).unwrap_or((MAIN, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_static_or_by_pattern() {
        let namespaces = Namespaces::default()
            .with("/custom")
            .matching(|name| name.strip_prefix("/tenant-").is_some_and(|id| id.len() == 3));
        for (name, has) in [
            ("/", true),
            ("/custom", true),
            ("/tenant-abc", true),
            ("/tenant-", false),
            ("/customer", false),
            ("", false),
        ] {
            assert_eq!(namespaces.has(name), has, "{name}");
        }
    }

    #[test]
    fn rooms_of_two_namespaces_never_meet() {
        let keys = [
            room_key("/", "lobby"),
            room_key("/chat", "lobby"),
            room_key("/", "/chat\0lobby"),
            room_key("/", "/chat,lobby"),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{key:?}");
        }
        assert_eq!(split_key(&keys[0]), ("/", "lobby"));
        assert_eq!(split_key(&keys[1]), ("/chat", "lobby"));
        assert_eq!(split_key(&keys[2]), ("/", "/chat\0lobby"));
    }
}
