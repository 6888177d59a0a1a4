//! Rooms' settings as they stand in Redis and in events, and changes that wait to be told.
//!
//! Only what changes is written, so that two changes of different fields both last. What another
//! version has written is read as far as it is known here.

use std::sync::Arc;

use redis::Value;
use serde_json::{Map, Value as Json};
use tokio::time::Instant;
use tracing::warn;

use super::wire;
use crate::store::RoomSettings;
use crate::ticket::Ticket;

/// Settings that Redis is to be told.
#[derive(Clone, PartialEq)]
pub(super) struct Change {
    /// As they were when they were changed.
    pub(super) before: RoomSettings,
    pub(super) settings: RoomSettings,
}

/// Who waits until Redis knows a room's settings.
pub(super) struct Configuring {
    pub(super) shard: u16,
    pub(super) ticket: Ticket,
    pub(super) room: Arc<str>,
    pub(super) since: Instant,
}

/// A room's settings as HGETALL has them, if it has any; the outer `None`: they cannot be read.
pub(super) fn kept(room: &str, hash: &Value) -> Option<Option<RoomSettings>> {
    match joined(hash) {
        Some(text) if text == "{}" => Some(None),
        text => text.and_then(|text| read(room, &text)).map(Some),
    }
}

/// Reads an event: `C`, the host in eight hexadecimal digits, the settings' JSON.
pub(super) fn read_event(room: &str, payload: &[u8]) -> Option<RoomSettings> {
    read(room, std::str::from_utf8(payload).ok()?.get(9..)?)
}

/// Fields and their values as JSON, in turn: those that a change has changed, or all. One that is
/// no longer set is `null`.
pub(super) fn written(change: &Change, only_changed: bool) -> Vec<String> {
    let object = |settings| match serde_json::to_value(settings) {
        Ok(Json::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (before, mut fields) = (object(&change.before), object(&change.settings));
    if only_changed {
        for name in before.keys() {
            fields.entry(name.clone()).or_insert(Json::Null);
        }
        fields.retain(|name, value| before.get(name) != Some(value));
    }
    fields.into_iter().flat_map(|(name, value)| [name, value.to_string()]).collect()
}

/// A hash of fields as JSON, as one object.
fn joined(hash: &Value) -> Option<String> {
    let pairs: Vec<(&Value, &Value)> = match hash {
        Value::Array(parts) => parts.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        Value::Map(pairs) => pairs.iter().map(|(name, value)| (name, value)).collect(),
        _ => return None,
    };
    let field = |(name, value)| Some(format!("\"{}\":{}", wire::text(name)?, wire::text(value)?));
    let fields: Option<Vec<_>> = pairs.into_iter().map(field).collect();
    Some(format!("{{{}}}", fields?.join(",")))
}

/// Fields that are unknown here, or cannot be read, are left out; that is told.
pub(super) fn read(room: &str, text: &str) -> Option<RoomSettings> {
    let Ok(Json::Object(mut fields)) = serde_json::from_str(text) else {
        warn!(room, "a room's settings in Redis cannot be read");
        return None;
    };
    fields.retain(|_, value| !value.is_null());
    let is_known = |name: &String, value: &Json| {
        let alone = Json::Object(Map::from_iter([(name.clone(), value.clone())]));
        serde_json::from_value::<RoomSettings>(alone).is_ok()
    };
    let (known, left_out): (Map<_, _>, Map<_, _>) =
        fields.into_iter().partition(|(name, value)| is_known(name, value));
    if !left_out.is_empty() {
        let left_out: Vec<&String> = left_out.keys().collect();
        warn!(room, ?left_out, "some of a room's settings are of another version");
    }
    serde_json::from_value(Json::Object(known)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_another_version_are_read_as_far_as_they_are_known() {
        let text = r#"{"private":true,"capacity":3,"later":{"a":1},"retentionMs":"soon"}"#;
        let settings = read("a", text).expect("settings");
        let expected = RoomSettings { private: true, capacity: Some(3), ..RoomSettings::default() };
        assert_eq!(settings, expected);
        assert_eq!(read("a", "[]"), None);
        assert_eq!(read_event("a", b"C0000000\xc3\xa9{}"), None, "no character is cut");
    }
}
