//! Where Redis is: standalone, behind Sentinels, or a cluster.
//!
//! Owns what `REDIS_URL` says, parsed once. Never prints a secret: neither its errors nor its
//! `Debug` and `Display` contain what stood in the URL before an `@`, or a password parameter.

use std::fmt;
use std::path::{Path, PathBuf};

/// The port of Redis where none is given.
const REDIS_PORT: u16 = 6379;

/// The port of a Sentinel where none is given.
const SENTINEL_PORT: u16 = 26379;

/// Where Redis is and how one gets in. Printing it shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) place: Place,
    pub(super) login: Login,
    pub(super) tls: Option<Tls>,
    /// The database; a cluster has but 0.
    pub(super) database: u16,
}

/// A host and a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Address {
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

/// What there is to connect to.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// One Redis.
    Standalone(Address),
    /// The master of this name, which the Sentinels know.
    Sentinel {
        sentinels: Vec<Address>,
        master: Box<str>,
        login: Login,
        /// Whether the Sentinels themselves are spoken to with TLS.
        is_tls: bool,
    },
    /// Some nodes of a cluster, which know the others.
    Cluster(Vec<Address>),
}

/// User and password; either may be missing.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Login {
    pub(super) user: Option<Box<str>>,
    pub(super) password: Option<Box<str>>,
}

/// How the other side of a TLS connection is known.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Tls {
    /// A file of certificates (PEM) to trust instead of the system's.
    pub(super) ca: Option<PathBuf>,
}

impl Target {
    /// Reads `REDIS_URL`: `redis://[user:password@]host[:port][/database]`, `rediss://…` the same
    /// with TLS (`?ca=<file>`: trusts this PEM file, not the system's certificates),
    /// `redis-sentinel://[user:password@]host[:port],…/master[/database]` (`?tls=all`, or
    /// `?tls=redis` where only the Sentinels have no TLS; `ca`; `sentinel_user` and
    /// `sentinel_password`), or several `redis://` or `rediss://` separated by commas: a cluster.
    /// User, password and parameters are percent-encoded.
    ///
    /// # Errors
    /// What is wrong with it, without its secrets.
    pub fn parse(url: &str) -> Result<Self, String> {
        let url = url.trim();
        if url.starts_with("redis-sentinel://") {
            return sentinels(&Parts::of(url)?);
        }
        let urls: Vec<&str> = url.split(",redis").collect();
        let nodes = urls.iter().enumerate().map(|(index, url)| match index {
            0 => single(&Parts::of(url)?),
            _ => single(&Parts::of(&format!("redis{url}"))?),
        });
        let mut nodes = nodes.collect::<Result<Vec<Self>, String>>()?;
        if nodes.len() > 1 { cluster(nodes) } else { nodes.pop().ok_or_else(|| "empty".to_owned()) }
    }

    /// One Redis without TLS (`REDIS_HOST`, `REDIS_PORT`, `REDIS_PASSWORD`).
    pub fn from_parts(host: &str, port: u16, password: Option<&str>) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']').into();
        Self {
            place: Place::Standalone(Address { host, port }),
            login: Login {
                user: None,
                password: password.filter(|it| !it.is_empty()).map(Into::into),
            },
            tls: None,
            database: 0,
        }
    }

    /// Whether it is a cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }

    /// For people, in a line: what it is, where, as whom, with TLS or not. No secret.
    pub fn describe(&self) -> String {
        let list =
            |all: &[Address]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut text = match &self.place {
            Place::Standalone(address) => format!("Redis at {address}"),
            Place::Sentinel { sentinels, master, .. } => {
                format!("Redis master {master} of the Sentinels at {}", list(sentinels))
            }
            Place::Cluster(seeds) => format!("Redis cluster with nodes at {}", list(seeds)),
        };
        if self.database > 0 {
            text += &format!(", database {}", self.database);
        }
        if let Some(user) = &self.login.user {
            text += &format!(", as {user}");
        }
        match &self.tls {
            Some(Tls { ca: Some(ca) }) => text += &format!(", TLS trusting {}", ca.display()),
            Some(Tls { ca: None }) => text += ", TLS",
            None => {}
        }
        text
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.describe())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A URL's parts, decoded.
struct Parts {
    is_tls: bool,
    login: Login,
    addresses: Vec<Address>,
    path: Vec<String>,
    parameters: Vec<(String, String)>,
}

impl Parts {
    fn of(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("it has no scheme, such as redis://")?;
        let (is_tls, port) = match scheme {
            "redis" => (false, REDIS_PORT),
            "rediss" => (true, REDIS_PORT),
            "redis-sentinel" => (false, SENTINEL_PORT),
            _ => return Err("its scheme is none of redis, rediss, redis-sentinel".to_owned()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if rest.contains('@') || rest.contains('#') {
            return Err("special characters in it must be percent-encoded, such as %40 for @, \
                        %2F for /, %3F for ? and %23 for #"
                .to_owned());
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Login::parse(login)?, hosts),
            None => (Login::default(), authority),
        };
        let addresses = hosts.split(',').map(|host| Address::parse(host, port));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = path.split('/').filter(|it| !it.is_empty()).map(decode);
        let parameters = query.split('&').filter(|it| !it.is_empty()).map(|it| {
            let (name, value) = it.split_once('=').ok_or("a parameter has no value")?;
            Ok((decode(name)?, decode(value)?))
        });
        Ok(Self {
            is_tls,
            login,
            addresses: addresses.collect::<Result<_, String>>()?,
            path: path.collect::<Result<_, _>>()?,
            parameters: parameters.collect::<Result<_, String>>()?,
        })
    }

    /// The value of a parameter.
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    fn allow(&self, names: &[&str]) -> Result<(), String> {
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            if !names.contains(&name.as_str()) {
                return Err(match names {
                    [] => format!("the parameter {name:?} is not known here"),
                    _ => format!("the parameter {name:?} is none of {}", names.join(", ")),
                });
            }
            if self.parameters[..index].iter().any(|(it, _)| it == name) || value.is_empty() {
                return Err(format!("the parameter {name} is there twice or empty"));
            }
        }
        Ok(())
    }

    /// The database's number, if the path has it at `index` and nothing after.
    fn database(&self, index: usize) -> Result<u16, String> {
        match &self.path[index.min(self.path.len())..] {
            [] => Ok(0),
            [number] => number.parse().map_err(|_| "its database is no number".to_owned()),
            _ => Err("its path has too many parts".to_owned()),
        }
    }

    fn tls(&self) -> Tls {
        Tls { ca: self.parameter("ca").map(|path| Path::new(path).to_owned()) }
    }
}

impl Login {
    fn parse(text: &str) -> Result<Self, String> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (text, None),
        };
        let some = |text: &str| -> Result<Option<Box<str>>, String> {
            Ok(if text.is_empty() { None } else { Some(decode(text)?.into()) })
        };
        Ok(Self { user: some(user)?, password: some(password.unwrap_or_default())? })
    }
}

impl Address {
    fn parse(text: &str, port: u16) -> Result<Self, String> {
        let (host, rest) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
            Some((host, rest)) => (host, rest),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port > 0),
            None => Some(port).filter(|_| rest.is_empty()),
        };
        match port {
            _ if host.is_empty() => Err("a host is missing".to_owned()),
            Some(port) => Ok(Self { host: host.into(), port }),
            None => Err("a port is no number from 1 to 65535".to_owned()),
        }
    }
}

/// `redis://` or `rediss://`.
fn single(parts: &Parts) -> Result<Target, String> {
    parts.allow(if parts.is_tls { &["ca"] } else { &[] })?;
    let [address] = &parts.addresses[..] else {
        return Err("each node of a cluster needs its own redis://".to_owned());
    };
    Ok(Target {
        place: Place::Standalone(address.clone()),
        login: parts.login.clone(),
        tls: parts.is_tls.then(|| parts.tls()),
        database: parts.database(0)?,
    })
}

/// Several of them. Who gets in how is said at the first, and may be left out at the others.
fn cluster(nodes: Vec<Target>) -> Result<Target, String> {
    let mut nodes = nodes.into_iter();
    let mut all = nodes.next().ok_or("it is empty")?;
    let mut seeds = Vec::new();
    let first = all.clone();
    for node in std::iter::once(first).chain(nodes) {
        if node.database > 0 {
            return Err("a cluster has no other database than 0".to_owned());
        }
        if node.login != Login::default() && node.login != all.login {
            return Err("all nodes must have the same user and password".to_owned());
        }
        if node.tls.is_some() != all.tls.is_some()
            || node.tls.as_ref().is_some_and(|tls| tls.ca.is_some() && node.tls != all.tls)
        {
            return Err("all nodes must have the same scheme and ca".to_owned());
        }
        if let Place::Standalone(address) = node.place {
            seeds.push(address);
        }
    }
    all.place = Place::Cluster(seeds);
    Ok(all)
}

/// `redis-sentinel://`.
fn sentinels(parts: &Parts) -> Result<Target, String> {
    parts.allow(&["tls", "ca", "sentinel_user", "sentinel_password"])?;
    let Some(master) = parts.path.first() else {
        return Err("the master's name is missing after the Sentinels".to_owned());
    };
    let some = |name| parts.parameter(name).map(Into::into);
    let (is_tls, sentinels_tls) = match parts.parameter("tls") {
        None => (false, false),
        Some("all") => (true, true),
        Some("redis") => (true, false),
        Some(_) => return Err("tls is none of all, redis".to_owned()),
    };
    if !is_tls && parts.parameter("ca").is_some() {
        return Err("ca needs tls".to_owned());
    }
    Ok(Target {
        place: Place::Sentinel {
            sentinels: parts.addresses.clone(),
            master: master.as_str().into(),
            login: Login { user: some("sentinel_user"), password: some("sentinel_password") },
            is_tls: sentinels_tls,
        },
        login: parts.login.clone(),
        tls: is_tls.then(|| parts.tls()),
        database: parts.database(1)?,
    })
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, String> {
    let wrong = || "its percent-encoding is wrong".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let digits = digits.filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit()));
        let code = digits.and_then(|it| u8::from_str_radix(it, 16).ok());
        bytes.push(code.ok_or_else(wrong)?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        let refused = Target::parse(url).err();
        refused.unwrap_or_else(|| panic!("{url} is accepted"))
    }

    fn described(url: &str) -> String {
        Target::parse(url).unwrap_or_else(|why| panic!("{url}: {why}")).describe()
    }

    #[test]
    fn every_kind_is_read() {
        for (url, text) in [
            ("redis://cache", "Redis at cache:6379"),
            ("redis://:pw@cache:6380/3", "Redis at cache:6380, database 3"),
            ("redis://app:pw@[::1]:6380", "Redis at [::1]:6380, as app"),
            ("rediss://cache/", "Redis at cache:6379, TLS"),
            ("rediss://cache?ca=/etc/ca%20.pem", "Redis at cache:6379, TLS trusting /etc/ca .pem"),
            ("redis://a:1,redis://b:2", "Redis cluster with nodes at a:1, b:2"),
            (
                "rediss://u:p@a,rediss://u:p@b,rediss://c",
                "Redis cluster with nodes at a:6379, b:6379, c:6379, as u, TLS",
            ),
            ("redis-sentinel://a,b:2/main", "Redis master main of the Sentinels at a:26379, b:2"),
            (
                "redis-sentinel://u:p@a/main/2?tls=redis&sentinel_user=s&sentinel_password=q",
                "Redis master main of the Sentinels at a:26379, database 2, as u, TLS",
            ),
        ] {
            assert_eq!(described(url), text);
        }
        assert!(Target::parse("redis://a,redis://b").is_ok_and(|it| it.is_cluster()));
        assert!(Target::parse("redis://a").is_ok_and(|it| !it.is_cluster()));
    }

    #[test]
    fn parts_and_url_say_the_same() {
        let url = "redis://:p%40ss%2Fw%3Ard%23@cache:6380";
        let parts = Target::from_parts("cache", 6380, Some("p@ss/w:rd#"));
        assert_eq!(Target::parse(url), Ok(parts));
        assert_eq!(Target::parse("redis://[::1]"), Ok(Target::from_parts("::1", 6379, Some(""))));
    }

    #[test]
    fn sentinels_have_credentials_and_tls_of_their_own() {
        let text = "redis-sentinel://u:p@a/m?tls=all&ca=/x&sentinel_user=s&sentinel_password=q%26";
        let target = Target::parse(text).expect("a good one");
        let Place::Sentinel { login, is_tls, .. } = target.place else { panic!("no Sentinel") };
        assert!(login == Login { user: Some("s".into()), password: Some("q&".into()) });
        assert!(is_tls && target.tls.is_some_and(|tls| tls.ca == Some("/x".into())));
    }

    #[test]
    fn what_is_wrong_is_refused_without_secrets() {
        for (url, reason) in [
            ("", "no scheme"),
            ("cache:6379", "no scheme"),
            ("http://u:hunter2@cache", "none of redis, rediss, redis-sentinel"),
            ("redis://", "a host is missing"),
            ("redis://:hunter2@", "a host is missing"),
            ("redis://:hunter2@cache:x", "a port is no number"),
            ("redis://:hunter2@cache:0", "a port is no number"),
            ("redis://:hunter2@[::1", "a port is no number"),
            ("redis://:hunter2@cache/x", "database is no number"),
            ("redis://:hunter2@cache/1/2", "too many parts"),
            ("redis://:hun/ter2@cache", "percent-encoded"),
            ("redis://:hunter2?x@cache", "percent-encoded"),
            ("redis://:hunter2#x@cache", "percent-encoded"),
            ("redis://:hunter2%zz@cache", "percent-encoding is wrong"),
            ("redis://:hunter2%ff@cache", "percent-encoding is wrong"),
            ("redis://:hunter2@cache?ca=/x", "\"ca\" is not known here"),
            ("rediss://:hunter2@cache?verify=no", "is none of ca"),
            ("rediss://:hunter2@cache?ca=", "twice or empty"),
            ("rediss://:hunter2@cache?ca", "no value"),
            ("redis://:hunter2@a,b", "its own redis://"),
            ("redis://:hunter2@a,rediss://b", "same scheme"),
            ("redis://:hunter2@a,redis://:hunter3@b", "same user and password"),
            ("redis://:hunter2@a/1,redis://b", "no other database"),
            ("redis-sentinel://:hunter2@a", "master's name is missing"),
            ("redis-sentinel://:hunter2@a/m?tls=on", "tls is none of all, redis"),
            ("redis-sentinel://:hunter2@a/m?ca=/x", "ca needs tls"),
            ("redis-sentinel://:hunter2@a/m?sentinel_password=hunter2&x=y", "\"x\" is none of"),
        ] {
            let text = refusal(url);
            assert!(text.contains(reason), "{url}: {text}");
            assert!(!text.contains("hun") && !text.contains("ter2"), "{url}: {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_written_ends_the_process(
            scheme in "(redis|rediss|redis-sentinel)://",
            rest in "[a-c@:/?#%,.\\[\\]=&0-9é]{0,40}",
            anything in ".*",
        ) {
            let both = [format!("{scheme}{rest}"), format!("{scheme}{anything}"), anything];
            for text in both {
                let _ = Target::parse(&text);
                let _ = Target::parse(&format!("redis://a,{text}"));
            }
        }
    }

    #[test]
    fn printing_shows_no_secret() {
        let text = "redis-sentinel://app:hunter2@a/m?sentinel_user=s&sentinel_password=hunter3";
        let target = Target::parse(text).expect("a good one");
        let shown = format!("{target:?} {target} {}", target.describe());
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
