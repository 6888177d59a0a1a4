//! A room's settings over HTTP: what a request wants changed, and how they are shown.
//!
//! Pure. Invariants: a key that is absent changes nothing, one that nobody knows is refused by its
//! name; neither a password nor its hash is ever shown, nor a value in a refusal.

use indexmap::IndexSet;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::{Deserialize as Read, Serialize};
use serde_json::value::RawValue;
use throng_bridge::store::RoomSettings;
use throng_protocol::json::depth_within;

use crate::config::retention;
use crate::limits::{
    JSON_DEPTH_MAX, ROOM_MEMBERS_MAX, ROOM_METADATA_BYTES_MAX, ROOM_PASSWORD_BYTES_MAX,
    ROOM_USERS_MAX, USER_NAME_CHARS_MAX,
};

/// What is to be changed: of what may be cleared, the inner `None` clears it.
#[derive(Default)]
pub(super) struct Patch {
    private: Option<bool>,
    users: Option<Vec<Box<str>>>,
    capacity: Option<Option<u32>>,
    retention_ms: Option<Option<u64>>,
    metadata: Option<Option<Box<str>>>,
    /// In plain text, until it is hashed.
    pub(super) password: Option<Option<Box<str>>>,
}

/// The keys of a request, their values unread.
#[derive(Read)]
#[serde(deny_unknown_fields)]
struct Keys<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    private: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    password: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    users: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    capacity: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    retention: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    metadata: Option<&'a RawValue>,
}

/// `null` is a value too.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Patch {
    /// Reads a request's body; the error names the key that is wrong.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        // As a sequence its values would be taken in the order of the keys.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err("the body must be a JSON object".to_owned());
        }
        let keys: Keys<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        Ok(Self {
            private: read(keys.private, "private must be true or false", Some)?,
            password: read(keys.password, "password has 1 to 128 bytes, or is null", password)?,
            users: read(keys.users, "users are up to 1000 names of users, or null", users)?,
            capacity: read(keys.capacity, "capacity is 1 to 1048576, or null", capacity)?,
            retention_ms: read(
                keys.retention,
                "retention must be a time with its unit (90m, 24h, 365d) of at least 1s, or null",
                retention_ms,
            )?,
            metadata: keys.metadata.map(metadata).transpose()?,
        })
    }

    /// Changes `settings`; `hash` is that of the password, if there is to be one.
    pub(super) fn apply(self, settings: &mut RoomSettings, hash: Option<Box<str>>) {
        let Self { private, users, capacity, retention_ms, metadata, password } = self;
        settings.private = private.unwrap_or(settings.private);
        settings.capacity = capacity.unwrap_or(settings.capacity);
        settings.retention_ms = retention_ms.unwrap_or(settings.retention_ms);
        if let Some(users) = users {
            settings.users = users;
        }
        if let Some(metadata) = metadata {
            settings.metadata = metadata;
        }
        if password.is_some() {
            settings.password = hash;
        }
    }
}

/// A value as `T`, then as `check` likes it.
fn read<T: DeserializeOwned, R>(
    value: Option<&RawValue>,
    wrong: &str,
    check: impl FnOnce(T) -> Option<R>,
) -> Result<Option<R>, String> {
    let Some(value) = value else { return Ok(None) };
    let read = serde_json::from_str(value.get()).ok().and_then(check);
    read.map(Some).ok_or_else(|| wrong.to_owned())
}

fn password(text: Option<Box<str>>) -> Option<Option<Box<str>>> {
    let bytes = text.as_ref().map(|text| text.len());
    bytes.is_none_or(|it| (1..=ROOM_PASSWORD_BYTES_MAX).contains(&it)).then_some(text)
}

fn capacity(members: Option<u32>) -> Option<Option<u32>> {
    let fits = |members: u32| (1..=ROOM_MEMBERS_MAX).contains(&(members as usize));
    members.is_none_or(fits).then_some(members)
}

fn retention_ms(text: Option<String>) -> Option<Option<u64>> {
    match text {
        None => Some(None),
        Some(text) => retention(&text).ok().map(|time| Some(time.as_millis() as u64)),
    }
}

/// User ids, each once.
fn users(names: Option<Vec<String>>) -> Option<Vec<Box<str>>> {
    let names = names.unwrap_or_default();
    let few = names.len() <= ROOM_USERS_MAX;
    let ids = names.iter().map(|name| user_id(name)).collect::<Option<IndexSet<_>>>()?;
    few.then(|| ids.into_iter().collect())
}

/// The id of the user of this name: 1 to 32 letters, digits, `_`, `-`, `.`, or spaces inside,
/// folded as names are compared.
fn user_id(name: &str) -> Option<Box<str>> {
    let allowed = |it: char| it.is_alphanumeric() || matches!(it, '_' | '-' | '.' | ' ');
    let is_name = (1..=USER_NAME_CHARS_MAX).contains(&name.chars().count())
        && name.chars().all(allowed)
        && name.trim() == name;
    is_name.then(|| name.to_lowercase().into())
}

/// An object's text, as it is: what a program writes it reads back, great numbers too.
fn metadata(value: &RawValue) -> Result<Option<Box<str>>, String> {
    match value.get() {
        "null" => Ok(None),
        text if !text.starts_with('{') => Err("metadata must be an object, or null".to_owned()),
        text if text.len() > ROOM_METADATA_BYTES_MAX => {
            Err("metadata has at most 16384 bytes".to_owned())
        }
        text if !depth_within(text, JSON_DEPTH_MAX) => {
            Err("metadata is nested too deep".to_owned())
        }
        text => Ok(Some(text.into())),
    }
}

/// Settings as `GET` and `POST` show them.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    private: bool,
    users: &'a [Box<str>],
    capacity: Option<u32>,
    retention: Option<String>,
    metadata: Option<&'a RawValue>,
    /// Whether there is one.
    password: bool,
}

impl<'a> From<&'a RoomSettings> for Shown<'a> {
    fn from(settings: &'a RoomSettings) -> Self {
        Self {
            private: settings.private,
            users: &settings.users,
            capacity: settings.capacity,
            retention: settings.retention_ms.map(time),
            metadata: settings.metadata.as_deref().and_then(|it| serde_json::from_str(it).ok()),
            password: settings.password.is_some(),
        }
    }
}

/// A time as it is written, in the greatest unit that tells it exactly.
fn time(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    match units.into_iter().find(|(unit, _)| ms.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<RoomSettings, String> {
        patched(body, RoomSettings::default())
    }

    fn patched(body: &str, mut settings: RoomSettings) -> Result<RoomSettings, String> {
        let patch = Patch::parse(body.as_bytes())?;
        let hash = patch.password.clone().flatten().map(|it| format!("hash of {it}").into());
        patch.apply(&mut settings, hash);
        Ok(settings)
    }

    fn all() -> RoomSettings {
        let body = r#"{"private":true,"password":"hunter2","users":["Ann","ann","Bob B."],
            "capacity":5,"retention":"7d","metadata":{"n":123456789012345678901234567890}}"#;
        parse(body).expect("all are good")
    }

    #[test]
    fn every_key_reaches_its_setting() {
        let expected = RoomSettings {
            private: true,
            password: Some("hash of hunter2".into()),
            users: vec!["ann".into(), "bob b.".into()],
            capacity: Some(5),
            retention_ms: Some(7 * 86_400_000),
            metadata: Some(r#"{"n":123456789012345678901234567890}"#.into()),
        };
        assert_eq!(all(), expected);
    }

    #[test]
    fn what_is_absent_stays_and_null_clears() {
        assert_eq!(patched("{}", all()), Ok(all()));
        let open = RoomSettings { private: false, ..all() };
        assert_eq!(patched(r#"{"private":false}"#, all()), Ok(open));
        for (key, cleared) in [
            ("password", RoomSettings { password: None, ..all() }),
            ("users", RoomSettings { users: Vec::new(), ..all() }),
            ("capacity", RoomSettings { capacity: None, ..all() }),
            ("retention", RoomSettings { retention_ms: None, ..all() }),
            ("metadata", RoomSettings { metadata: None, ..all() }),
        ] {
            assert_eq!(patched(&format!(r#"{{"{key}":null}}"#), all()), Ok(cleared), "{key}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_never_quoted() {
        let many = format!(r#"{{"users":[{}"ann"]}}"#, r#""ann","#.repeat(ROOM_USERS_MAX));
        let long = format!(r#"{{"metadata":{{"a":"{}"}}}}"#, "x".repeat(ROOM_METADATA_BYTES_MAX));
        let deep = format!(r#"{{"metadata":{}1{}}}"#, r#"{"a":"#.repeat(40), "}".repeat(40));
        let passphrase = format!(r#"{{"password":"{}"}}"#, "s3cret".repeat(30));
        for (key, body) in [
            ("colour", r#"{"colour":"s3cret"}"#),
            ("private", r#"{"private":null}"#),
            ("private", r#"{"private":"s3cret"}"#),
            ("private", r#"{"private":true,"private":false}"#),
            ("password", r#"{"password":""}"#),
            ("password", r#"{"password":["s3cret"]}"#),
            ("password", &passphrase),
            ("users", r#"{"users":"s3cret"}"#),
            ("users", r#"{"users":[" ann"]}"#),
            ("users", r#"{"users":[{"$ne":null}]}"#),
            ("users", r#"{"users":["a\u0000b"]}"#),
            ("users", &many),
            ("capacity", r#"{"capacity":0}"#),
            ("capacity", r#"{"capacity":1048577}"#),
            ("capacity", r#"{"capacity":1.5}"#),
            ("capacity", r#"{"capacity":-1}"#),
            ("retention", r#"{"retention":"off"}"#),
            ("retention", r#"{"retention":"999ms"}"#),
            ("retention", r#"{"retention":7}"#),
            ("metadata", r#"{"metadata":[1]}"#),
            ("metadata", r#"{"metadata":"s3cret"}"#),
            ("metadata", &long),
            ("metadata", &deep),
            ("object", r#"["s3cret"]"#),
            ("object", "null"),
            ("column", r#"{"private":tru"#),
            ("object", ""),
            ("column", "{} {}"),
        ] {
            let reason = parse(body).expect_err(body);
            assert!(reason.contains(key), "{body}: {reason}");
            assert!(!reason.contains("s3cret"), "{body}: {reason}");
        }
    }

    #[test]
    fn they_are_shown_without_the_password() {
        let shown = serde_json::to_string(&Shown::from(&all())).expect("JSON");
        let expected = r#"{"private":true,"users":["ann","bob b."],"capacity":5,"retention":"7d","#
            .to_owned()
            + r#""metadata":{"n":123456789012345678901234567890},"password":true}"#;
        assert_eq!(shown, expected);
        for (ms, text) in [(1000, "1s"), (5_400_000, "90m"), (1001, "1001ms"), (7_200_000, "2h")] {
            assert_eq!(time(ms), text);
        }
    }
}
