//! The text part of a packet: its header taken apart, its payload held to its kind's rules.

use super::{DecodeError, Event, Kind, Limits, Packet, check_placeholders};
use crate::json;

/// Takes a packet's text apart: the packet, without attachments yet, and how many it is owed.
///
/// Judges the header only; [`check`] judges the payload.
pub(super) fn split<'a>(text: &'a str, limits: &Limits) -> Result<(Packet<'a>, u32), DecodeError> {
    let (kind, rest) = take_kind(text)?;
    let (owed, rest) = match kind.is_binary() {
        true => take_attachments(rest, limits)?,
        false => (0, rest),
    };
    let (namespace, rest) = take_namespace(rest, limits)?;
    let (id, data) = take_id(rest)?;
    Ok((Packet { kind, namespace, id, data, attachments: &[] }, owed))
}

/// Validates the payload of a packet from [`split`] and trims the whitespace around it.
pub(super) fn check(
    packet: &mut Packet<'_>,
    owed: u32,
    limits: &Limits,
) -> Result<(), DecodeError> {
    if !packet.data.is_empty() {
        if !json::depth_within(packet.data, limits.depth_max) {
            return Err(DecodeError::TooDeep);
        }
        if !json::is_valid(packet.data) {
            return Err(DecodeError::Json);
        }
        packet.data = packet.data.trim_matches(json::WHITESPACE);
    }
    check_shape(packet.kind, packet.data, limits)?;
    match packet.kind.is_binary() {
        true => check_placeholders(packet.data, owed),
        false => Ok(()),
    }
}

/// Whether valid JSON, or nothing, is what the kind asks for.
fn check_shape(kind: Kind, data: &str, limits: &Limits) -> Result<(), DecodeError> {
    let fits = match kind {
        Kind::Connect => data.is_empty() || data.starts_with('{'),
        Kind::Disconnect => data.is_empty(),
        Kind::Ack | Kind::BinaryAck => data.starts_with('['),
        Kind::ConnectError => data.starts_with(['{', '"']),
        Kind::Event | Kind::BinaryEvent => {
            if Event::parse(data)?.name.len() > limits.event_name_bytes_max {
                return Err(DecodeError::EventNameTooLong);
            }
            true
        }
    };
    if fits { Ok(()) } else { Err(DecodeError::Payload) }
}

fn take_kind(text: &str) -> Result<(Kind, &str), DecodeError> {
    let kind = match text.as_bytes().first() {
        Some(b'0') => Kind::Connect,
        Some(b'1') => Kind::Disconnect,
        Some(b'2') => Kind::Event,
        Some(b'3') => Kind::Ack,
        Some(b'4') => Kind::ConnectError,
        Some(b'5') => Kind::BinaryEvent,
        Some(b'6') => Kind::BinaryAck,
        _ => return Err(DecodeError::UnknownKind),
    };
    Ok((kind, text.get(1..).unwrap_or_default()))
}

fn take_attachments<'a>(text: &'a str, limits: &Limits) -> Result<(u32, &'a str), DecodeError> {
    let (digits, rest) = take_digits(text);
    let rest = rest.strip_prefix('-').ok_or(DecodeError::Attachments)?;
    match digits.parse() {
        Ok(count) if (1..=limits.attachments_max).contains(&count) => Ok((count, rest)),
        _ => Err(DecodeError::Attachments),
    }
}

/// A namespace stands there only after a slash, and runs to a comma or to the end.
fn take_namespace<'a>(text: &'a str, limits: &Limits) -> Result<(&'a str, &'a str), DecodeError> {
    if !text.starts_with('/') {
        return Ok(("/", text));
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    match namespace.len() <= limits.namespace_bytes_max {
        true => Ok((namespace, rest)),
        false => Err(DecodeError::NamespaceTooLong),
    }
}

fn take_id(text: &str) -> Result<(Option<u64>, &str), DecodeError> {
    let (digits, rest) = take_digits(text);
    if digits.is_empty() {
        return Ok((None, rest));
    }
    let id = digits.parse().map_err(|_| DecodeError::Id)?;
    Ok((Some(id), rest))
}

fn take_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end) // digits are single bytes, so this is between characters
}
