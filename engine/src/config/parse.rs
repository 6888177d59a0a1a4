//! From text to types. A parser's error ends a sentence that begins with what was written.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use throng_bridge::fleet::Target;
use tracing_subscriber::EnvFilter;

use super::types::{CorsOrigins, Origin, Rate, Secret};

pub(super) type Parsed<T> = Result<T, String>;

/// Every key and every message's channel begins with it.
const REDIS_PREFIX_BYTES_MAX: usize = 64;

/// A whole number.
pub(super) fn number<T>(text: &str, bounds: RangeInclusive<T>) -> Parsed<T>
where
    T: FromStr + PartialOrd + Display,
{
    let (min, max) = (bounds.start(), bounds.end());
    text.parse()
        .ok()
        .filter(|number| bounds.contains(number))
        .ok_or_else(|| format!("must be a whole number from {min} to {max}"))
}

/// A size in bytes: `65536`, `64KiB`, `1MB`; case does not matter.
pub(super) fn bytes(text: &str, bounds: RangeInclusive<usize>) -> Parsed<usize> {
    let (min, max) = (bounds.start(), bounds.end());
    quantity(text, byte_unit)
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| bounds.contains(size))
        .ok_or_else(|| format!("must be a size (65536, 64KiB, 1MB) from {min} to {max} bytes"))
}

/// A time with its unit: `300ms`, `25s`; only zero needs none, since seconds and milliseconds would
/// be mistaken for each other.
pub(super) fn duration(text: &str, bounds: RangeInclusive<Duration>) -> Parsed<Duration> {
    let (min, max) = (bounds.start(), bounds.end());
    let zero = (text == "0").then_some(0);
    zero.or_else(|| quantity(text, millisecond_unit))
        .map(Duration::from_millis)
        .filter(|time| bounds.contains(time))
        .ok_or_else(|| {
            format!("must be a time with its unit (300ms, 25s, 5m, 24h) from {min:?} to {max:?}")
        })
}

/// `N/s`, `N/m`, bare N = per minute, 0 = no limit.
pub(super) fn rate(text: &str) -> Parsed<Rate> {
    let (count, window) = text.split_once('/').unwrap_or((text, "m"));
    let rate = match (count.trim().parse(), window.trim()) {
        (Ok(0), "s" | "m") => Some(Rate::UNLIMITED),
        (Ok(count), "s") => Some(Rate::per_second(count)),
        (Ok(count), "m") => Some(Rate::per_minute(count)),
        _ => None,
    };
    rate.ok_or_else(|| "must be a rate such as 5/s or 30/m, or 0 for no limit".to_owned())
}

/// One of a closed list of words.
pub(super) fn choice<T: Copy>(text: &str, words: &[(&str, T)]) -> Parsed<T> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("must be {}", words.join(" or "))
    })
}

/// An IP address to listen on; no name, since a name may mean several.
pub(super) fn address(text: &str) -> Parsed<Option<IpAddr>> {
    text.parse().map(Some).map_err(|_| {
        "must be an IP address such as 127.0.0.1 or ::1; leave it out to listen on all".to_owned()
    })
}

/// A folder; `none`: nowhere.
pub(super) fn data_dir(text: &str) -> Parsed<Option<PathBuf>> {
    match text {
        "" => Err("must be a path, or none".to_owned()),
        "none" => Ok(None),
        path => Ok(Some(path.into())),
    }
}

/// Above which an alert is raised: a whole number, or `off`.
pub(super) fn alert(text: &str, bounds: RangeInclusive<u32>) -> Parsed<Option<u32>> {
    match text {
        "off" => Ok(None),
        text => number(text, bounds).map(Some).map_err(|reason| reason + ", or off"),
    }
}

/// How long something is kept: a time with its unit, or `off`: for ever.
pub(super) fn retention(text: &str) -> Parsed<Option<Duration>> {
    const MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    match text {
        "off" => Ok(None),
        text => duration(text, Duration::from_secs(1)..=MAX).map(Some).map_err(|_| {
            "must be a time with its unit (90m, 24h, 365d) of at least 1s, or off".to_owned()
        }),
    }
}

/// A MongoDB connection string; its content is the driver's to judge.
pub(super) fn mongodb_uri(text: &str) -> Parsed<Option<Secret>> {
    if text.starts_with("mongodb://") || text.starts_with("mongodb+srv://") {
        return Ok(Some(Secret(text.to_owned())));
    }
    Err("must begin with mongodb:// or mongodb+srv://".to_owned())
}

/// Where Redis is.
pub(super) fn redis_url(text: &str) -> Parsed<Option<Target>> {
    Target::parse(text).map(Some)
}

/// A name or an address without a port; the rest is the resolver's to judge.
pub(super) fn redis_host(text: &str) -> Parsed<()> {
    let is_address = text.parse::<IpAddr>().is_ok();
    let is_plain =
        !text.is_empty() && text.chars().all(|it| it.is_alphanumeric() || "-._".contains(it));
    if is_address || is_plain {
        return Ok(());
    }
    Err("must be a host's name or address, without a port".to_owned())
}

/// A port. Kubernetes sets the variable itself where a service is called `redis`.
pub(super) fn redis_port(text: &str) -> Parsed<u16> {
    let hint = match text.starts_with("tcp://") {
        true => {
            " (Kubernetes sets this for a service named redis unless enableServiceLinks is off)"
        }
        false => "",
    };
    number(text, 1..=65535).map_err(|reason| reason + hint)
}

/// What keys and channels begin with. Braces would choose the slot of every key on a cluster, the
/// signs of patterns match others' channels.
pub(super) fn redis_key_prefix(text: &str) -> Parsed<Box<str>> {
    let is_refused = |it: char| it.is_control() || "{}*?[]\\".contains(it);
    if text.len() > REDIS_PREFIX_BYTES_MAX || text.contains(is_refused) {
        let max = REDIS_PREFIX_BYTES_MAX;
        return Err(format!(
            "must be at most {max} bytes, without control characters and {{}}*?[]\\"
        ));
    }
    Ok(text.into())
}

/// A secret of some length.
pub(super) fn secret(text: &str) -> Parsed<Option<Secret>> {
    match text.len() {
        8.. => Ok(Some(Secret(text.to_owned()))),
        _ => Err("must have at least 8 characters".to_owned()),
    }
}

/// A log filter.
pub(super) fn log_filter(text: &str) -> Parsed<String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("must be a level or target=level, comma-separated ({error})")),
    }
}

/// User names, folded as they are compared.
pub(super) fn names(text: &str) -> Parsed<Vec<String>> {
    Ok(list(&text.to_lowercase()))
}

/// Origins, or `*` alone.
pub(super) fn origins(text: &str) -> Parsed<CorsOrigins> {
    let origins = list(text);
    match origins.as_slice() {
        [] => Ok(CorsOrigins::None),
        [any] if any == "*" => Ok(CorsOrigins::Any),
        _ => origins.iter().map(|text| origin(text)).collect::<Parsed<_>>().map(CorsOrigins::List),
    }
}

impl FromStr for CorsOrigins {
    type Err = String;

    /// As `CORS_ORIGINS` is written.
    fn from_str(text: &str) -> Result<Self, String> {
        origins(text)
    }
}

/// The parts of a comma-separated list, without empty ones.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// One origin in the form browsers send: lower case, without the scheme's default port.
fn origin(text: &str) -> Parsed<Origin> {
    let text = text.to_ascii_lowercase();
    let normal = text.split_once("://").and_then(|(scheme, authority)| {
        let (host, port) = split_port(authority)?;
        let well_formed = is_scheme(scheme) && is_host(host);
        let default_port = matches!((scheme, port), ("http", Some(80)) | ("https", Some(443)));
        let port = port.filter(|_| !default_port).map(|port| format!(":{port}"));
        well_formed.then(|| format!("{scheme}://{host}{}", port.unwrap_or_default()))
    });
    normal.map(Origin).ok_or_else(|| {
        format!(
            "{text:?} must be an origin such as https://example.com or http://localhost:3000, \
             exact and without a path (or * alone, for every page)"
        )
    })
}

/// `host` or `host:port`; the colons of an IPv6 address stand in brackets.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            port.parse().ok().map(|port| (host, Some(port)))
        }
        _ => Some((authority, None)),
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

/// An address or a name in ASCII (international ones in their `xn--` form, as browsers send them).
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        }
    }
}

/// A whole number times its unit, none if either is unknown or the product overflows.
fn quantity(text: &str, unit: fn(&str) -> Option<u64>) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    number.parse::<u64>().ok()?.checked_mul(unit(suffix.trim())?)
}

fn byte_unit(suffix: &str) -> Option<u64> {
    Some(match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "kib" => 1 << 10,
        "mb" => 1_000_000,
        "mib" => 1 << 20,
        "gb" => 1_000_000_000,
        "gib" => 1 << 30,
        _ => return None,
    })
}

fn millisecond_unit(suffix: &str) -> Option<u64> {
    Some(match suffix {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60 * 1_000,
        "h" => 60 * 60 * 1_000,
        "d" => 24 * 60 * 60 * 1_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
