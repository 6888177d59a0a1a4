//! Stripping the text equals stripping every string of the value.
#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use throng_protocol::json::{depth_within, is_valid, strip_control};

fn strip_value(value: Value) -> Value {
    let clean = |text: String| -> String {
        text.chars().filter(|c| !c.is_control() || matches!(c, '\t' | '\n')).collect()
    };
    match value {
        Value::String(text) => Value::String(clean(text)),
        Value::Array(items) => items.into_iter().map(strip_value).collect(),
        // Keys that become equal: the later one wins, as in the text.
        Value::Object(map) => {
            map.into_iter().map(|(key, value)| (clean(key), strip_value(value))).collect()
        }
        other => other,
    }
}

/// Keys that become equal are ordered differently by a sorted map: such values are left out.
fn key_count(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(key_count).sum(),
        Value::Object(map) => map.len() + map.values().map(key_count).sum::<usize>(),
        _ => 0,
    }
}

fuzz_target!(|text: &str| {
    let stripped = strip_control(text);
    if !is_valid(text) {
        return;
    }
    assert!(is_valid(&stripped));
    assert!(matches!(strip_control(&stripped), Cow::Borrowed(_)));
    assert_eq!(depth_within(text, 16), depth_within(&stripped, 16));
    // With `raw_value`, serde_json takes an object with this key for something of its own: it is
    // JSON, and stays so, but perhaps no `Value`.
    if stripped.contains("$serde_json::private") || text.contains("$serde_json::private") {
        return;
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    let Ok(back) = serde_json::from_str::<Value>(&stripped) else { panic!("no longer a value") };
    let keys = key_count(&value);
    let expected = strip_value(value);
    if key_count(&expected) == keys {
        assert_eq!(back, expected);
    }
});
