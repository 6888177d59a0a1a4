//! A person, and a person in a room.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use throng_bridge::Author;

use super::json::{push_number, push_string};
use crate::ids::Sid;

/// Who a socket belongs to.
#[derive(Clone, Debug)]
pub struct Identity {
    name: Box<str>,
    /// Where it is not the name itself.
    user: Option<Box<UserId>>,
}

/// Boxed once more, since few have one.
#[derive(Clone, Debug)]
struct UserId(Box<str>);

/// How the names of guests begin.
const GUEST: &str = "guest-";

impl Identity {
    /// Somebody known by name alone: the name, folded, is the user id.
    pub fn new(name: &str) -> Self {
        let user = name.to_lowercase();
        let user = (user != name).then(|| Box::new(UserId(user.into())));
        Self { name: name.into(), user }
    }

    /// Somebody without a name.
    pub fn guest(tail: &str) -> Self {
        Self::new(&format!("{GUEST}{tail}"))
    }

    /// Whether it is called as those without a name are.
    pub fn is_guest(&self) -> bool {
        self.name.starts_with(GUEST)
    }

    /// The name to show.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The user id.
    pub fn user(&self) -> &str {
        self.user.as_ref().map_or(&*self.name, |user| &*user.0)
    }

    /// Reads what [`Identity::to_json`] wrote.
    pub(super) fn parse(json: &str) -> Option<Self> {
        let Known { user, name } = serde_json::from_str(json).ok()?;
        Some(Self::known(user, name))
    }

    /// `{"user","name"}`
    pub(super) fn to_json(&self) -> String {
        let mut out = String::from(r#"{"user":"#);
        push_string(&mut out, self.user());
        out.push_str(r#","name":"#);
        push_string(&mut out, self.name());
        out.push('}');
        out
    }

    fn known(user: Cow<'_, str>, name: Cow<'_, str>) -> Self {
        let user = (user != name).then(|| Box::new(UserId(user.into_owned().into())));
        Self { name: name.into_owned().into(), user }
    }

    /// Writes `{"id","user","name"}`.
    pub(super) fn push_json(&self, sid: Sid, out: &mut String) {
        self.push_fields(sid, out);
        out.push('}');
    }

    fn push_fields(&self, sid: Sid, out: &mut String) {
        out.push_str(r#"{"id":""#);
        out.push_str(sid.encode().as_str());
        out.push_str(r#"","user":"#);
        push_string(out, self.user());
        out.push_str(r#","name":"#);
        push_string(out, self.name());
    }
}

/// A member of a room.
#[derive(Clone, Debug)]
pub struct Participant {
    /// Who it is.
    pub identity: Identity,
    /// What it says of itself: JSON.
    pub metadata: Option<Box<str>>,
    /// Milliseconds since 1970.
    pub joined_at_ms: u64,
    /// Whether it shares its screen.
    pub sharing: bool,
}

/// An identity's JSON.
#[derive(Deserialize)]
struct Known<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// A participant's JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    metadata: &'a RawValue,
    sharing: bool,
    joined_at: u64,
}

impl Participant {
    /// Reads what [`Participant::push_json`] wrote.
    pub(super) fn parse(json: &str) -> Option<Self> {
        let Shown { user, name, metadata, sharing, joined_at } = serde_json::from_str(json).ok()?;
        let metadata = (metadata.get() != "null").then(|| metadata.get().into());
        let identity = Identity::known(user, name);
        Some(Self { identity, metadata, joined_at_ms: joined_at, sharing })
    }

    /// The writer of a message.
    pub(super) fn author(&self, sid: Sid) -> Author {
        let Self { identity, .. } = self;
        let id = sid.encode().as_str().into();
        Author { id, user: identity.user().into(), name: identity.name().into() }
    }

    /// Writes it as others see it.
    pub(super) fn push_json(&self, sid: Sid, out: &mut String) {
        self.identity.push_fields(sid, out);
        out.push_str(r#","metadata":"#);
        out.push_str(self.metadata.as_deref().unwrap_or("null"));
        out.push_str(if self.sharing { r#","sharing":true"# } else { r#","sharing":false"# });
        out.push_str(r#","joinedAt":"#);
        push_number(out, self.joined_at_ms);
        out.push('}');
    }
}
