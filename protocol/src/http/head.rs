//! The request line and the header fields (RFC 9112 §3, §5).
//!
//! httparse refuses line folding, space before a colon, lone CRs and control characters. It lets
//! a lone LF end a line (RFC 9112 §2.2 allows that); it is refused here, because a proxy in front
//! may take it for part of a value.

use super::HeadError;

/// Most header fields a [`Head`] has room for.
pub const HEADERS_MAX: usize = 64;

/// Bounds on one head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Longest head in bytes, from empty lines before it to the empty line that ends it.
    pub bytes_max: usize,
    /// Most header fields; at most [`HEADERS_MAX`] have room.
    pub headers_max: usize,
}

impl Default for HeadLimits {
    /// 8 KiB and 64 fields.
    fn default() -> Self {
        HeadLimits { bytes_max: 8 * 1024, headers_max: HEADERS_MAX }
    }
}

/// The version a request is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
}

/// One whole request head, borrowed from the bytes it came in.
///
/// Names of fields compare without case; values are bytes without the spaces and tabs around
/// them, and never hold control characters other than tabs.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    method: &'a str,
    target: &'a str,
    path: &'a str,
    query: &'a str,
    version: Version,
    headers: [httparse::Header<'a>; HEADERS_MAX],
    count: usize,
}

/// Reads the head at the start of the bytes received so far; with it comes its length in bytes.
///
/// `None` asks for more bytes, of which there are then fewer than `limits.bytes_max`. Empty lines
/// before the request line are skipped (RFC 9112 §2.2). The cost is linear in `bytes`.
///
/// Targets are taken in origin form (`/path?query`), as `OPTIONS *`, and in absolute form if
/// their authority is the `Host`, else the two could be believed by different readers
/// (RFC 9112 §3.2). There must be one `Host` that looks like a host; HTTP/1.0 may go without.
pub fn parse_head<'a>(
    bytes: &'a [u8],
    limits: &HeadLimits,
) -> Result<Option<(Head<'a>, usize)>, HeadError> {
    let visible = bytes.get(..limits.bytes_max).unwrap_or(bytes);
    let (lines, end) = head_lines(visible);
    match Head::parse(lines, limits.headers_max)? {
        Some(head) if end == End::Whole => Ok(Some((head, lines.len()))),
        None if end == End::Open && bytes.len() < limits.bytes_max => Ok(None),
        None if end == End::Open => Err(HeadError::TooLarge),
        _ => Err(HeadError::Malformed),
    }
}

/// Where the lines of a head stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// After the empty line.
    Whole,
    /// Before an LF that follows no CR.
    BareLf,
    /// Further bytes belong to the head too.
    Open,
}

/// The part of `bytes` that belongs to the head and is well cut into lines.
fn head_lines(bytes: &[u8]) -> (&[u8], End) {
    let up_to = |end: usize| bytes.get(..end).unwrap_or(bytes);
    let mut line_start = 0;
    let mut begun = false;
    let line_feeds = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    for (at, _) in line_feeds {
        let line = bytes.get(line_start..at).unwrap_or_default();
        match line.strip_suffix(b"\r") {
            None => return (up_to(at), End::BareLf),
            Some([]) if begun => return (up_to(at + 1), End::Whole),
            Some(line) => begun |= !line.is_empty(),
        }
        line_start = at + 1;
    }
    (bytes, End::Open)
}

impl<'a> Head<'a> {
    fn parse(lines: &'a [u8], headers_max: usize) -> Result<Option<Head<'a>>, HeadError> {
        let mut headers: [httparse::Header<'a>; HEADERS_MAX] =
            [httparse::EMPTY_HEADER; HEADERS_MAX];
        let slots = headers.get_mut(..headers_max.min(HEADERS_MAX)).unwrap_or_default();
        let mut request = httparse::Request::new(slots);
        if request.parse(lines)?.is_partial() {
            return Ok(None);
        }
        let count = request.headers.len();
        let (method, target) =
            (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        let version = if request.version == Some(1) { Version::Http11 } else { Version::Http10 };
        let mut head = Head { method, target, path: "", query: "", version, headers, count };
        let host = head.host()?;
        (head.path, head.query) = split_target(method, target, host).ok_or(HeadError::Malformed)?;
        Ok(Some(head))
    }

    /// The method as written; methods are case-sensitive.
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The whole target as written: visible ASCII and UTF-8.
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The target's path as written, beginning with `/`; `*` for `OPTIONS *`.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// What follows the target's first `?`, as written; empty without one.
    pub fn query(&self) -> &'a str {
        self.query
    }

    /// The version of the request line.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The values of every field of this name, in order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let fields = self.headers.iter().take(self.count);
        fields.filter(move |it| it.name.eq_ignore_ascii_case(name)).map(|it| it.value)
    }

    /// The value of the first field of this name.
    pub fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// How many fields there are of this name.
    pub fn count(&self, name: &str) -> usize {
        self.values(name).count()
    }

    /// The one `Host`, `None` if HTTP/1.0 goes without.
    fn host(&self) -> Result<Option<&'a [u8]>, HeadError> {
        let mut hosts = self.values("host");
        match (hosts.next(), hosts.next()) {
            (Some(host), None) if host.iter().all(is_host_byte) => Ok(Some(host)),
            (None, None) if self.version == Version::Http10 => Ok(None),
            _ => Err(HeadError::Malformed),
        }
    }
}

/// What may stand in `uri-host [":" port]` (RFC 3986 §3.2.2).
fn is_host_byte(byte: &u8) -> bool {
    byte.is_ascii_graphic() && !b"\"#/<>?@\\^`{|}".contains(byte)
}

/// Path and query of a target, `None` for a form that is not taken.
fn split_target<'a>(
    method: &str,
    target: &'a str,
    host: Option<&[u8]>,
) -> Option<(&'a str, &'a str)> {
    let is_own = target.starts_with('/') || (target == "*" && method == "OPTIONS");
    let resource = if is_own { target } else { after_authority(target, host?)? };
    let (path, query) = resource.split_once('?').unwrap_or((resource, ""));
    Some((if path.is_empty() { "/" } else { path }, query))
}

/// What follows scheme and authority in an absolute target whose authority is `host`.
fn after_authority<'a>(target: &'a str, host: &[u8]) -> Option<&'a str> {
    let (scheme, rest) = target.split_once("://")?;
    let is_web = ["http", "https"].iter().any(|it| scheme.eq_ignore_ascii_case(it));
    let (authority, resource) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let is_host = !authority.is_empty() && authority.as_bytes().eq_ignore_ascii_case(host);
    (is_web && is_host).then_some(resource)
}
