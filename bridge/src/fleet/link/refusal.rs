//! What an error of Redis means.

use redis::Value;

/// Why Redis has not done something.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It does not know the script.
    NoScript,
    /// It will not: the caller may try again, or report it.
    Refused(String),
}

/// Errors that end the link: this Redis cannot serve, or not what it is asked for.
///
/// `READONLY`, `MASTERDOWN`, `UNBLOCKED`: it has become a replica. `LOADING`: it has just started.
/// `BUSY`: a script never ends. `NOAUTH`: the user is gone. The others: the topology is another.
const AWAY: [&str; 10] = [
    "READONLY",
    "MASTERDOWN",
    "UNBLOCKED",
    "LOADING",
    "BUSY",
    "NOAUTH",
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "CLUSTERDOWN",
];

impl Refusal {
    /// The refusal that an answer is; `None`: it is not an error. Of those that end the link no
    /// caller hears ([`away`]).
    pub(crate) fn of(answer: &Value) -> Option<Self> {
        let Value::ServerError(error) = answer else { return None };
        match error.code() {
            "NOSCRIPT" => Some(Self::NoScript),
            code => Some(Self::Refused(format!("{code} {}", error.details().unwrap_or_default()))),
        }
    }
}

/// Why one of these answers ends the link.
pub(super) fn away(answers: &[Value]) -> Option<String> {
    answers.iter().find_map(|answer| {
        let Value::ServerError(error) = answer else { return None };
        let (code, details) = (error.code(), error.details().unwrap_or_default());
        // Within a script, older servers wrap the error that stopped it.
        let is_away = |it: &&str| code == *it || details.contains(&format!("-{it} "));
        AWAY.iter().any(is_away).then(|| format!("{code} {details}"))
    })
}
