//! What was written, merged from the four sources.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider, Source};

use super::table::{self, Preset, Setting};
use super::{Problem, cores};

/// One value as it was written.
#[derive(Clone)]
pub struct Written {
    /// The value.
    pub text: String,
    /// `default`, the file's path, `environment` or `flag`.
    pub origin: String,
}

impl Written {
    /// `NAME=value (origin)`, a secret masked.
    pub(super) fn describe(&self, setting: &Setting) -> String {
        let text = if setting.secret { "***" } else { &self.text };
        format!("{}={text} ({})", setting.name, self.origin)
    }
}

/// What was written, defaults included. Printing it masks secrets.
#[derive(Clone, Default)]
pub struct Settings {
    written: BTreeMap<&'static str, Written>,
}

impl Settings {
    /// What was written for the setting of this name, if anything was.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Written> {
        self.written.get(name)
    }

    /// Every setting that has a value, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Setting, &Written)> {
        table::all().filter_map(|setting| Some((setting, self.find(setting.name)?)))
    }

    /// How a message names the setting of this name.
    pub(super) fn describe(&self, name: &str) -> String {
        let mut found = self.iter().filter(|(setting, _)| setting.name == name);
        let described = found.next().map(|(setting, written)| written.describe(setting));
        described.unwrap_or_else(|| name.to_owned())
    }

    /// Merges the sources, the later ones winning; what cannot be read is left out, with a problem.
    pub(super) fn merge(
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<OsString>,
        flag: impl Fn(&str) -> Option<String>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut figment = Figment::from(Layer::new("default", default_text));
        if let Some(path) = file {
            figment = figment.merge(Layer::read(path, problems));
        }
        let figment = figment
            .merge(Layer::new("environment", |setting| variable(setting, &env, problems)))
            .merge(Layer::new("flag", |setting| flag(setting.name)));
        // All layers are in memory by now, and data in memory cannot fail.
        let values = figment.data().unwrap_or_default().into_values().flatten();
        let mut settings = Self::default();
        for (key, value) in values {
            let source = figment.get_metadata(value.tag()).and_then(|m| m.source.as_ref());
            if let Err(problem) = settings.add(&key, &value, source.map(origin).unwrap_or_default())
            {
                problems.push(problem);
            }
        }
        settings
    }

    fn add(&mut self, key: &str, value: &Value, origin: String) -> Result<(), Problem> {
        let setting = table::all().find(|setting| setting.key() == key);
        let setting = setting.ok_or_else(|| unknown(key, &origin))?;
        let text = text(value).ok_or_else(|| {
            let line = format!("{} ({origin}): must be a plain value", setting.name);
            Problem::new(setting.name, line)
        })?;
        self.written.insert(setting.name, Written { text, origin });
        Ok(())
    }
}

/// One source and its values, keyed like the file.
struct Layer {
    source: Source,
    values: Dict,
}

impl Layer {
    fn new(name: &str, mut value: impl FnMut(&Setting) -> Option<String>) -> Self {
        let entry = |setting: &Setting| Some((setting.key(), value(setting)?.into()));
        let values = table::all().filter_map(entry).collect();
        Self { source: Source::Custom(name.to_owned()), values }
    }

    fn read(path: &Path, problems: &mut Vec<Problem>) -> Self {
        let data = Toml::file_exact(path).data().unwrap_or_else(|error| {
            let path = path.display().to_string();
            let line = format!("{path}: {}", plain(&error));
            problems.push(Problem::new(path, line));
            Map::new()
        });
        Self { source: Source::from(path), values: data.into_values().flatten().collect() }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::from("settings", self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The file's path as it was given, or the layer's name.
fn origin(source: &Source) -> String {
    source.file_path().map_or_else(|| source.to_string(), |path| path.display().to_string())
}

fn default_text(setting: &Setting) -> Option<String> {
    match setting.preset {
        Preset::Text(text) => Some(text.to_owned()),
        Preset::Cores => Some(cores().to_string()),
        Preset::Unset(_) => None,
    }
}

fn variable(
    setting: &Setting,
    env: impl Fn(&str) -> Option<OsString>,
    problems: &mut Vec<Problem>,
) -> Option<String> {
    let value = env(setting.name).filter(|value| !value.is_empty())?;
    let refuse = |_| {
        let line = format!("{} (environment): must be UTF-8", setting.name);
        problems.push(Problem::new(setting.name, line));
    };
    value.into_string().map_err(refuse).ok()
}

/// A file's value as it would stand in the environment; none for a table.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, c) => Some(c.to_string()),
        Value::Bool(_, on) => Some(if *on { "on" } else { "off" }.to_owned()),
        Value::Num(_, n) => match n.to_i128() {
            Some(whole) => Some(whole.to_string()),
            None => n.to_f64().map(|n| n.to_string()),
        },
        Value::Array(_, items) => {
            items.iter().map(text).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        Value::Dict(..) | Value::Empty(..) => None,
    }
}

fn unknown(key: &str, origin: &str) -> Problem {
    let near = table::all().map(Setting::key).min_by_key(|known| distance(key, known));
    let hint = near.filter(|near| distance(key, near) <= 1 + key.len() / 4);
    let hint = hint.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Problem::new(key, format!("{key} ({origin}): there is no such setting{hint}"))
}

/// A parser's message without the lines it quotes, for they may hold a secret.
fn plain(error: &Error) -> String {
    let text = error.to_string();
    let is_margin = |c: char| c == ' ' || c.is_ascii_digit();
    let is_quote = |line: &&str| line.trim_start_matches(is_margin).starts_with('|');
    let lines: Vec<_> = text.lines().filter(|line| !is_quote(line)).map(str::trim).collect();
    lines.join(", ")
}

/// Levenshtein's distance, case ignored.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(!x.eq_ignore_ascii_case(&y));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
