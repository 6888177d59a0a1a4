//! Handlers of events by name, with their arguments already read.

use hashbrown::HashMap;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{App, Event, Socket};

/// One event for a typed handler.
#[derive(Debug)]
pub struct Call<'a, T> {
    /// The arguments, as a tuple: `(String, u64)` for two, `()` for none.
    pub args: T,
    /// The binary parts; a [`serde_json::Value`] among the arguments refers to them.
    pub attachments: &'a [Box<[u8]>],
    /// The client wants an answer under this id.
    pub ack: Option<u64>,
}

type Handle<A> = Box<dyn Fn(&mut A, &mut Socket<'_, A>, Event<'_>) + Send + Sync>;

/// An application's handlers. Events that none is for go to the catch-all; without one they are
/// ignored, as Socket.IO does. Where arguments do not fit their handler, who waits for an answer
/// gets `{"error"}`.
pub struct Handlers<A: App> {
    by_name: HashMap<&'static str, Handle<A>>,
    others: Option<Handle<A>>,
}

impl<A: App> Default for Handlers<A> {
    fn default() -> Self {
        Self { by_name: HashMap::new(), others: None }
    }
}

impl<A: App> Handlers<A> {
    /// Calls `handle` for events of this name whose arguments are a `T`. More arguments than `T`
    /// has are left out; a later handler of the same name replaces an earlier one.
    #[must_use]
    pub fn on<T: DeserializeOwned + 'static>(
        mut self,
        name: &'static str,
        handle: impl Fn(&mut A, &mut Socket<'_, A>, Call<'_, T>) + Send + Sync + 'static,
    ) -> Self {
        let typed = move |app: &mut A, socket: &mut Socket<'_, A>, event: Event<'_>| {
            let Event { args, attachments, ack, .. } = event;
            if let Some(args) = read(args) {
                handle(app, socket, Call { args, attachments, ack });
            } else {
                // Nobody waits for ever: an answer says that there is none.
                if let Some(id) = ack {
                    socket.ack(id, r#"{"error":"invalid arguments"}"#);
                }
            }
        };
        self.by_name.insert(name, Box::new(typed));
        self
    }

    /// Calls `handle` for every event that no other handler is for.
    #[must_use]
    pub fn on_any(
        mut self,
        handle: impl Fn(&mut A, &mut Socket<'_, A>, Event<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.others = Some(Box::new(handle));
        self
    }

    /// Calls the event's handler; from [`App::event`].
    pub fn handle(&self, app: &mut A, socket: &mut Socket<'_, A>, event: Event<'_>) {
        if let Some(handle) = self.by_name.get(event.name).or(self.others.as_ref()) {
            handle(app, socket, event);
        }
    }
}

/// Places of the longest tuple that serde reads.
const PLACES_MAX: usize = 16;

/// The arguments as a tuple, as many of them as it has places.
fn read<T: DeserializeOwned>(args: &str) -> Option<T> {
    let array = format!("[{args}]");
    if let Ok(args) = serde_json::from_str(&array) {
        return Some(args);
    }
    let all: Vec<&RawValue> = serde_json::from_str(&array).ok()?;
    if all.is_empty() {
        // `()` reads from `null` alone.
        return serde_json::from_str("null").ok();
    }
    let fewer = (0..all.len()).rev().skip_while(|count| *count > PLACES_MAX);
    fewer.into_iter().find_map(|count| {
        let some: Vec<_> = all[..count].iter().map(|arg| arg.get()).collect();
        serde_json::from_str(&format!("[{}]", some.join(","))).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn arguments_become_tuples() {
        assert_eq!(read::<(String, u64)>(r#""a",1"#), Some(("a".to_owned(), 1)));
        assert_eq!(read::<(String,)>(r#""a",1,[2]"#), Some(("a".to_owned(),)));
        assert_eq!(read::<()>(""), Some(()));
        assert_eq!(read::<(u64,)>(r#""a""#), None);
        let many = vec!["1"; 400_000].join(",");
        assert_eq!((read::<(u64, u64)>(&many), read::<(bool,)>(&many)), (Some((1, 1)), None));
        assert_eq!(read::<(String, u64)>(r#""a""#), None);
        assert_eq!(read::<(String, Option<u64>)>(r#""a",null"#), Some(("a".to_owned(), None)));
    }
}
