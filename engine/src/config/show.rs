//! `throng config`: the effective settings as a TOML file that means the same, secrets masked.

use std::fmt;

use super::settings::Settings;
use super::table::{GROUPS, Preset, Setting};

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# The effective settings and where each comes from.")?;
        writeln!(f, "# Usable with --config, once the secrets are filled in.")?;
        for group in GROUPS {
            writeln!(f, "\n# {}", group.title)?;
            group.settings.iter().try_for_each(|setting| writeln!(f, "{}", self.line(setting)))?;
        }
        Ok(())
    }
}

/// As `Display`, so that no secret gets out this way either.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Settings {
    /// A setting without a value, and a secret, which must not be mistaken for one, are comments.
    fn line(&self, setting: &Setting) -> String {
        let key = setting.key();
        match self.find(setting.name) {
            Some(written) if setting.secret => format!("# {key} = \"***\" # {}", written.origin),
            Some(written) => {
                let pair = format!("{key} = {}", literal(&written.text));
                format!("{pair:<40} # {}", written.origin)
            }
            None => format!("# {key}: {}", setting.preset),
        }
    }
}

/// The default, as the help text and `throng config` put it.
impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(text) | Self::Unset(text) => text,
            Self::Cores => "available cores",
        })
    }
}

/// A TOML value that reads back as this text: a number where that is exact, else a string, since
/// JSON's escapes are TOML's too.
fn literal(text: &str) -> String {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => text.to_owned(),
        _ => serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f"),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::table;
    use super::super::tests::{TempFile, read, refusal};
    use super::*;

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let written = [
            ("HOST", "::"),
            ("CORS_ORIGINS", "https://a.example,http://localhost:3000"),
            ("BLOCKED_NAMES", "tab\tquote\"backslash\\ü\u{7f}"),
            ("HISTORY_SIZE", "007"),
        ];
        let first = read(None, &written, &[]).expect("these are good");
        let file = TempFile::new("round-trip", &first.settings.to_string());
        let second = read(Some(&file), &[], &[]).expect("what is printed is good");
        assert_eq!(first.config, second.config);
        for ((setting, a), (_, b)) in first.settings.iter().zip(second.settings.iter()) {
            assert_eq!(a.text, b.text, "{}", setting.name);
        }
        assert!(first.settings.to_string().contains("port = 5000"));
        assert!(first.settings.to_string().contains("# redis_url: none"));
    }

    #[test]
    fn no_secret_is_ever_printed() {
        for setting in table::all().filter(|setting| setting.secret) {
            let pair = (setting.name, "hunter2");
            let text = refusal(&[pair]);
            assert!(text.contains(&format!("{}=*** (environment)", setting.name)), "{text}");
            let env = |name: &str| (name == pair.0).then(|| OsString::from(pair.1));
            let settings = Settings::merge(None, env, |_| None, &mut Vec::new());
            let shown = format!("{settings} {settings:?}");
            assert!(shown.contains(&format!("# {} = \"***\"", setting.key())), "{shown}");
            assert!(!shown.contains("hunter2"));
        }
    }
}
