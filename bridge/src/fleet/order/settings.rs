//! Rooms' settings: kept in Redis, told to all hosts that have the room open, read with the room.
//!
//! Redis's order counts: a host hears its own changes too, and takes them from there, so that all
//! end with the same ones whoever sets them at the same time; and only what changes is written, so
//! that two changes of different fields both last. What another version has written is read as far
//! as it is known here.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use serde_json::{Map, Value as Json};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{Link, LinkError, Ordered, Orders, wire};
use crate::fleet::link::{Refusal, together};
use crate::port::Ticket;
use crate::store::RoomSettings;

/// Rooms whose settings are told at a time.
const SIDE_BY_SIDE: usize = 64;

/// How long settings wait that Redis refuses.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Settings that Redis is to be told.
#[derive(Clone, PartialEq)]
pub(super) struct Change {
    /// As they were when they were changed.
    before: RoomSettings,
    settings: RoomSettings,
}

/// Who waits until Redis knows a room's settings.
pub(super) struct Configuring {
    pub(super) shard: u16,
    pub(super) ticket: Ticket,
    pub(super) room: Arc<str>,
    pub(super) since: Instant,
}

impl Orders {
    pub(super) fn configure(
        &self,
        (before, settings): (RoomSettings, RoomSettings),
        who: Configuring,
    ) {
        let mut configured = self.configured.borrow_mut();
        match configured.get_mut(&who.room) {
            // What has not been told yet is told with it, and outlasts what changes nothing.
            Some(waiting) if before != settings => waiting.settings = settings,
            Some(_) => {}
            None => {
                configured.insert(Arc::clone(&who.room), Change { before, settings });
            }
        }
        self.configuring.borrow_mut().push(who);
        self.configured_due.notify_one();
    }

    /// Gives up changes that have waited since before `before`; one that is under way may be
    /// carried out all the same.
    pub(super) fn refuse_configured(&self, before: Instant) {
        self.answer_configured(|it| it.since <= before, &None);
        let configuring = self.configuring.borrow();
        let is_awaited = |room: &Arc<str>| configuring.iter().any(|it| it.room == *room);
        self.configured.borrow_mut().retain(|room, _| is_awaited(room));
    }

    fn answer_configured(
        &self,
        is_answered: impl Fn(&Configuring) -> bool,
        found: &Option<Option<RoomSettings>>,
    ) {
        for it in self.configuring.borrow_mut().extract_if(.., |it| is_answered(it)) {
            self.tell(it.shard, Ordered::Settings { ticket: it.ticket, found: found.clone() });
        }
    }

    /// Tells Redis settings until the link ends.
    pub(super) async fn tell_settings(&self, link: &Rc<Link>) -> Result<(), LinkError> {
        loop {
            let rooms: Vec<Arc<str>> = self.configured.borrow().keys().cloned().collect();
            if rooms.is_empty() {
                self.configured_due.notified().await;
                continue;
            }
            let mut refused = false;
            for some in rooms.chunks(SIDE_BY_SIDE) {
                for told in together(some.iter().map(|room| self.tell_one(link, room))).await {
                    refused |= !told?;
                }
            }
            if refused {
                tokio::select! {
                    () = self.configured_due.notified() => {}
                    () = sleep(REFUSED_PAUSE) => {}
                }
            }
        }
    }

    /// False if Redis refuses, or does not know the script.
    async fn tell_one(&self, link: &Link, room: &Arc<str>) -> Result<bool, LinkError> {
        let Some(change) = self.configured.borrow().get(room).cloned() else { return Ok(true) };
        let (keys, begin) = (&self.office.keys, format!("C{:08x}", self.office.plan.host));
        let (key, channel) = (keys.settings(room), keys.events(room));
        let node = link.node_of(&key);
        let (changed, all) = (written(&change, true), written(&change, false));
        let cmd = self.scripts.settings([&key, self.verb(link), &channel, &begin], &changed, &all);
        let answers = link.send(node, &[cmd]).await?;
        match answers.first().and_then(Refusal::of) {
            Some(Refusal::NoScript) => {
                self.load_scripts(link, node).await?;
                return Ok(false);
            }
            Some(Refusal::Refused(why)) => {
                warn!(room = &**room, why, "Redis does not take a room's settings");
                return Ok(false);
            }
            None => {}
        }
        let mut configured = self.configured.borrow_mut();
        // They may have changed again meanwhile.
        if configured.get(room) == Some(&change) {
            configured.remove(room);
            let settings = answers.first().and_then(wire::text).and_then(|text| read(room, text));
            self.answer_configured(|it| it.room == *room, &Some(settings));
            self.wake();
        }
        Ok(true)
    }

    /// A room's settings, if it has any; the outer `None`: Redis refuses, or has what is none.
    pub(super) async fn read_settings(
        &self,
        link: &Link,
        room: &str,
    ) -> Result<Option<Option<RoomSettings>>, LinkError> {
        let key = self.office.keys.settings(room);
        let get = redis::cmd("HGETALL").arg(&key).take();
        let answers = link.send_on(1, link.node_of(&key), &[get]).await?;
        Ok(match answers.first().and_then(joined) {
            Some(text) if text == "{}" => Some(None),
            text => text.and_then(|text| read(room, &text)).map(Some),
        })
    }
}

/// What a read has found of a room's settings, if it has any.
pub(super) fn settings_found(room: &str, found: &Value) -> Option<RoomSettings> {
    read(room, &joined(found).filter(|text| text != "{}")?)
}

/// Reads an event: `C`, the host in eight hexadecimal digits, the settings' JSON.
pub(super) fn read_event(room: &str, payload: &[u8]) -> Option<RoomSettings> {
    read(room, std::str::from_utf8(payload).ok()?.get(9..)?)
}

/// Fields and their values as JSON, in turn: those that a change has changed, or all. One that is
/// no longer set is `null`.
fn written(change: &Change, only_changed: bool) -> Vec<String> {
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
fn read(room: &str, text: &str) -> Option<RoomSettings> {
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
