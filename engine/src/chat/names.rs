//! Who somebody is: by name, for as long as no key is configured.

use std::borrow::Cow;

use serde::Deserialize;

use super::participant::Identity;
use crate::app::Refusal;
use crate::config::Config;
use crate::ids::Sid;
use crate::limits::USER_NAME_CHARS_MAX;

/// The names nobody may take.
pub(super) struct Names {
    taken: Vec<String>,
}

#[derive(Deserialize)]
struct Auth<'a> {
    #[serde(borrow)]
    username: Option<Cow<'a, str>>,
}

impl Names {
    pub(super) fn new(config: &Config) -> Self {
        Self { taken: [&config.reserved_names[..], &config.blocked_names].concat() }
    }

    /// The identity that a CONNECT payload asks for, or a guest's.
    pub(super) fn identify(&self, sid: Sid, auth: &str) -> Result<Identity, Refusal> {
        let refuse = |code, message: &str| Err(Refusal::coded(code, message));
        let Ok(auth) = serde_json::from_str::<Auth<'_>>(auth) else {
            return refuse("invalid", "username must be a string");
        };
        let Some(name) = auth.username else {
            let sid = sid.encode();
            let tail: String =
                sid.as_str().chars().skip(12).filter(char::is_ascii_alphanumeric).collect();
            return Ok(Identity::guest(&tail));
        };
        if !is_name(&name) {
            return refuse(
                "invalid",
                "a username has 1 to 32 letters, digits, '_', '-', '.', or spaces inside",
            );
        }
        let identity = Identity::new(&name);
        if self.taken.iter().any(|taken| taken == identity.user()) {
            return refuse("forbidden", "this username is reserved");
        }
        Ok(identity)
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |it: char| it.is_alphanumeric() || matches!(it, '_' | '-' | '.' | ' ');
    (1..=USER_NAME_CHARS_MAX).contains(&name.chars().count())
        && name.chars().all(allowed)
        && name.trim() == name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identify(auth: &str) -> Result<(String, String), String> {
        let config = Config { blocked_names: vec!["troll".into()], ..Config::default() };
        let identity = Names::new(&config).identify(Sid::new(1, 2, 3, 4), auth);
        let code = |it: Refusal| it.data.map(|data| data["code"].as_str().unwrap_or("").to_owned());
        identity
            .map(|it| (it.name().into(), it.user().into()))
            .map_err(|it| code(it).unwrap_or_default())
    }

    #[test]
    fn names_are_kept_and_compared_folded() {
        assert_eq!(identify(r#"{"username":"Zoë B."}"#), Ok(("Zoë B.".into(), "zoë b.".into())));
        assert_eq!(identify(r#"{"username":"ann","more":[1]}"#), Ok(("ann".into(), "ann".into())));
    }

    #[test]
    fn bad_and_reserved_names_are_refused() {
        let long = format!(r#"{{"username":"{}"}}"#, "x".repeat(33));
        for auth in [
            &long,
            r#"{"username":""}"#,
            r#"{"username":" ann"}"#,
            r#"{"username":"a<b"}"#,
            r#"{"username":"a\nb"}"#,
            r#"{"username":5}"#,
            r#"{"username":{"$ne":null}}"#,
        ] {
            assert_eq!(identify(auth), Err("invalid".into()), "{auth}");
        }
        for auth in [r#"{"username":"Admin"}"#, r#"{"username":"TROLL"}"#] {
            assert_eq!(identify(auth), Err("forbidden".into()), "{auth}");
        }
    }

    #[test]
    fn whoever_gives_none_is_a_guest() {
        let (name, _) = identify("{}").expect("a guest");
        assert!(name.starts_with("guest-") && name.len() > 8, "{name}");
        assert!(identify(r#"{"username":null,"token":"x"}"#).is_ok());
    }
}
