//! What the kernel should be set to for very many connections, beside what it is set to.
//!
//! It owns the reading of `sysctl/60-throng.conf`, whose head says how it is written; the scripts
//! beside that file read the same list. It never changes a setting, and it only advises: whether a
//! host can run the engine at all is for `throng_ring::preflight` to say. Each number is compared
//! by itself, as the list asks.

use std::fmt;
use std::fs;

/// Connections from which on a host is compared with the list, which is made for a million. Below,
/// a kernel's own values do: each shard's backlog, the buffers and the counts of closed connections
/// they allow are made for tens of thousands.
pub const CONNECTIONS_MIN: u32 = 50_000;

/// The list for a host that serves.
pub const LIST: &str = include_str!("../../sysctl/60-throng.conf");

/// How the kernel's value is compared with the one that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `>=`: more is as good.
    AtLeast,
    /// `<=`: less is as good.
    AtMost,
    /// `=`
    Exactly,
}

/// One setting of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<'a> {
    /// Its name as `sysctl` has it.
    pub key: &'a str,
    /// Whether it only matters on hosts that have it.
    pub optional: bool,
    /// How it is compared.
    pub rule: Rule,
    /// Its numbers, mostly one.
    pub wanted: Vec<i64>,
    /// Why, in one line.
    pub reason: String,
}

/// A setting that is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding<'a> {
    /// What is wanted, and why.
    pub setting: Setting<'a>,
    /// The kernel's value; `None` where it cannot be seen, as a host's from inside a container.
    pub actual: Option<String>,
}

/// Compares the list with the kernel this process runs on.
pub fn findings() -> Vec<Finding<'static>> {
    compare(LIST, |key| fs::read_to_string(format!("/proc/sys/{}", key.replace('.', "/"))).ok())
}

/// What of a list is not so. `read` gives a setting's value, if there is such a setting.
pub fn compare<'a>(list: &'a str, read: impl Fn(&str) -> Option<String>) -> Vec<Finding<'a>> {
    // The unit tests prove that every line of the list parses.
    let settings = parse(list).into_iter().flatten();
    let finding = |setting: Setting<'a>| {
        let actual =
            read(setting.key).map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        let fine = match &actual {
            Some(actual) => setting.is_met_by(actual),
            None => setting.optional,
        };
        (!fine).then_some(Finding { setting, actual })
    };
    settings.filter_map(finding).collect()
}

/// Reads a list: each setting, or the line that is none.
pub fn parse(list: &str) -> Vec<Result<Setting<'_>, String>> {
    let mut settings = Vec::new();
    let mut comment: Option<(Rule, String)> = None;
    for line in list.lines() {
        if let Some(said) = line.strip_prefix('#') {
            comment = match (opening(said), comment) {
                (Some(opened), _) => Some(opened),
                (None, Some((rule, reason))) if said.starts_with("   ") => {
                    Some((rule, reason + " " + said.trim()))
                }
                (None, _) => None,
            };
        } else if !line.trim().is_empty() {
            settings.push(setting(line, comment.take()).ok_or_else(|| line.to_owned()));
        }
    }
    settings
}

/// A comment that says how a setting is compared, and why.
fn opening(comment: &str) -> Option<(Rule, String)> {
    let (rule, reason) = comment.strip_prefix(' ')?.split_once(' ')?;
    let rule = match rule {
        ">=" => Rule::AtLeast,
        "<=" => Rule::AtMost,
        "=" => Rule::Exactly,
        _ => return None,
    };
    Some((rule, reason.trim().to_owned()))
}

fn setting(line: &str, comment: Option<(Rule, String)>) -> Option<Setting<'_>> {
    let (key, value) = line.split_once('=')?;
    let (rule, reason) = comment?;
    let (key, optional) = match key.trim().strip_prefix('-') {
        Some(key) => (key, true),
        None => (key.trim(), false),
    };
    let wanted = numbers(value)?;
    (!key.is_empty() && !wanted.is_empty() && !reason.is_empty()).then_some(Setting {
        key,
        optional,
        rule,
        wanted,
        reason,
    })
}

fn numbers(text: &str) -> Option<Vec<i64>> {
    text.split_whitespace().map(|number| number.parse().ok()).collect()
}

impl Setting<'_> {
    fn is_met_by(&self, actual: &str) -> bool {
        let Some(actual) = numbers(actual) else { return false };
        let fine = |(actual, wanted): (&i64, &i64)| match self.rule {
            Rule::AtLeast => actual >= wanted,
            Rule::AtMost => actual <= wanted,
            Rule::Exactly => actual == wanted,
        };
        actual.len() == self.wanted.len() && actual.iter().zip(&self.wanted).all(fine)
    }
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting { key, rule, wanted, reason, .. } = &self.setting;
        match &self.actual {
            Some(actual) => write!(f, "{key} is {actual}, wanted")?,
            None => write!(f, "{key} is not to be seen from here, wanted")?,
        }
        match rule {
            Rule::AtLeast => write!(f, " at least")?,
            Rule::AtMost => write!(f, " at most")?,
            Rule::Exactly => {}
        }
        for number in wanted {
            write!(f, " {number}")?;
        }
        write!(f, ": {reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: &str = include_str!("../../sysctl/60-throng-load.conf");
    const ONE: &str = "# >= a backlog\n#    per shard\nnet.core.somaxconn = 1000\n";

    fn told(list: &str, actual: Option<&str>) -> Vec<String> {
        compare(list, |_| actual.map(str::to_owned)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_line_of_the_lists_parses_and_has_a_reason() {
        for (list, least) in [(LIST, 20), (LOAD, 10)] {
            let settings = parse(list);
            assert!(settings.len() >= least);
            let mut keys = Vec::new();
            for setting in settings {
                let setting = setting.unwrap_or_else(|line| panic!("not a setting: {line}"));
                assert!(setting.reason.len() > 20, "{}: {}", setting.key, setting.reason);
                assert!(!keys.contains(&setting.key), "{} stands there twice", setting.key);
                keys.push(setting.key);
            }
        }
    }

    #[test]
    fn a_finding_says_what_is_wanted_and_why() {
        let said = ["net.core.somaxconn is 128, wanted at least 1000: a backlog per shard"];
        assert_eq!(told(ONE, Some("128\n")), said);
        assert!(told(ONE, Some("1000\n")).is_empty());
        assert!(told(ONE, Some("9223372036854775807\n")).is_empty());
    }

    #[test]
    fn numbers_are_compared_one_by_one() {
        let list = "# <= buffers\nnet.ipv4.tcp_wmem = 4096 16384 131072\n";
        assert!(told(list, Some("4096\t16384\t131072\n")).is_empty());
        assert!(told(list, Some("4096\t8192\t65536\n")).is_empty());
        for more in ["4096\t16384\t4194304\n", "4096\t87380\t131072\n", "4096\n", "none\n"] {
            assert_eq!(told(list, Some(more)).len(), 1, "{more}");
        }
        let exactly = "# = retries\nnet.ipv4.tcp_orphan_retries = 3\n";
        assert_eq!((told(exactly, Some("0")).len(), told(exactly, Some("3")).len()), (1, 0));
        assert_eq!(
            told(exactly, Some("0")),
            ["net.ipv4.tcp_orphan_retries is 0, wanted 3: retries"]
        );
    }

    #[test]
    fn what_only_some_hosts_have_is_not_missed() {
        let optional = ONE.replace("net.core", "-net.core");
        assert!(told(&optional, None).is_empty());
        assert_eq!(told(&optional, Some("1")).len(), 1);
        assert!(told(ONE, None)[0].starts_with("net.core.somaxconn is not to be seen from here"));
    }

    #[test]
    fn a_line_without_comparison_reason_or_number_is_no_setting() {
        for list in [
            "net.core.somaxconn = 1",
            "# a comment\nnet.core.somaxconn = 1",
            "# >= a reason\n# another comment\nnet.core.somaxconn = 1",
            "# >= a reason\nnet.core.somaxconn",
            "# >= a reason\nnet.core.somaxconn =",
            "# >= a reason\nnet.core.somaxconn = many",
            "# >=\nnet.core.somaxconn = 1",
        ] {
            let settings = parse(list);
            assert!(settings.len() == 1 && settings[0].is_err(), "{list}: {settings:?}");
        }
    }
}
