//! What a run came to: figures, each with what it must be, and whether the run is to be trusted.

use serde::Serialize;
use serde_json::Value;

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The subcommand.
    pub workload: &'static str,
    /// What it was asked to do, in one line.
    pub what: String,
    /// The figures, in the order in which they are shown.
    pub figures: Vec<Figure>,
    /// Why this run says nothing about the server: the generator was its own bottleneck.
    pub bottleneck: Option<String>,
    /// What should be known beside the figures.
    pub notes: Vec<String>,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Its name in JSON: letters and underscores, the unit last.
    pub key: &'static str,
    /// Its name for people.
    pub label: String,
    /// The number; `None` where it could not be measured.
    pub value: Option<f64>,
    /// Its unit for people: `µs`, `bytes`, `/s`, or nothing.
    pub unit: &'static str,
    /// What it must be, if anything.
    pub bound: Option<Bound>,
}

/// What a figure must be.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Exactly this.
    Exactly(f64),
}

impl Figure {
    /// A figure that must be nothing in particular.
    pub fn new(
        key: &'static str,
        label: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) -> Self {
        Self { key, label: label.into(), value: Some(value), unit, bound: None }
    }

    /// The same where the number may be missing.
    pub fn maybe(
        key: &'static str,
        label: impl Into<String>,
        value: Option<f64>,
        unit: &'static str,
    ) -> Self {
        Self { key, label: label.into(), value, unit, bound: None }
    }

    /// What it must be.
    #[must_use]
    pub fn must_be(mut self, bound: Bound) -> Self {
        self.bound = Some(bound);
        self
    }

    /// Whether it is what it must be; `None` where nothing is asked or nothing was measured.
    pub fn is_met(&self) -> Option<bool> {
        let (bound, value) = (self.bound?, self.value?);
        Some(match bound {
            Bound::AtMost(limit) => value <= limit,
            Bound::AtLeast(limit) => value >= limit,
            Bound::Exactly(wanted) => value == wanted,
        })
    }
}

impl Outcome {
    /// Whether every figure is what it must be.
    pub fn is_met(&self) -> bool {
        self.figures.iter().all(|figure| figure.is_met() != Some(false))
    }

    /// The outcome for programs: the figures by key, beside everything else.
    pub fn to_json(&self) -> Value {
        let figures: serde_json::Map<_, _> =
            self.figures.iter().map(|it| (it.key.to_owned(), it.value.into())).collect();
        serde_json::json!({
            "workload": self.workload,
            "what": self.what,
            "ok": self.is_met(),
            "bottleneck": self.bottleneck,
            "figures": figures,
            "bounds": self.figures.iter().filter(|it| it.bound.is_some()).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

/// A number as people read it, with its unit: `1,000,000`, `4.67 GB`, `12.3 µs`, `1.25 s`.
pub fn human(value: f64, unit: &str) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    match unit {
        "" => plain(value),
        "ns" => time(value),
        "µs" | "us" => time(value * 1e3),
        "ms" => time(value * 1e6),
        "s" => time(value * 1e9),
        "bytes" | "B" => bytes(value),
        "bytes/s" | "B/s" => format!("{}/s", bytes(value)),
        _ if unit.starts_with('/') => format!("{}{unit}", plain(value)),
        _ => format!("{} {unit}", plain(value)),
    }
}

/// Three digits that matter, all of those before the point, in groups.
fn plain(value: f64) -> String {
    let digits = if value.fract() == 0.0 { 0 } else { decimals(value) };
    grouped(&format!("{value:.digits$}"))
}

/// How many decimals make three digits; the number may still round up to one digit more.
fn decimals(value: f64) -> usize {
    match value.abs() {
        ..0.0995 => 3,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    }
}

fn grouped(number: &str) -> String {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let whole = number.find('.').unwrap_or(number.len());
    let mut text = sign.to_owned();
    for (index, digit) in number.char_indices() {
        if index > 0 && index < whole && (whole - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn time(ns: f64) -> String {
    match ns.abs() {
        0.0 => "0 s".to_owned(),
        ..999.5 => scaled(ns, "ns"),
        ..999.5e3 => scaled(ns / 1e3, "µs"),
        ..999.5e6 => scaled(ns / 1e6, "ms"),
        ..120e9 => scaled(ns / 1e9, "s"),
        _ => minutes(ns / 1e9),
    }
}

fn minutes(seconds: f64) -> String {
    let seconds = seconds.round() as i64;
    match seconds {
        3600.. => {
            format!("{} h {:02} min", grouped(&(seconds / 3600).to_string()), seconds / 60 % 60)
        }
        _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

fn bytes(value: f64) -> String {
    match value.abs() {
        ..999.5 => scaled(value, "bytes"),
        ..999.5e3 => scaled(value / 1e3, "kB"),
        ..999.5e6 => scaled(value / 1e6, "MB"),
        ..999.5e9 => scaled(value / 1e9, "GB"),
        _ => scaled(value / 1e12, "TB"),
    }
}

fn scaled(value: f64, unit: &str) -> String {
    format!("{} {unit}", plain(value))
}

impl Bound {
    /// As people read it: `≤ 5 ms`.
    pub fn human(self, unit: &str) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {}", human(limit, unit)),
            Self::AtLeast(limit) => format!("≥ {}", human(limit, unit)),
            Self::Exactly(wanted) => format!("= {}", human(wanted, unit)),
        }
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GOOD: &str = "32";
const BAD: &str = "1;31";
const WARN: &str = "1;33";

/// Text in the terminal's colours, or as it is.
fn painted(text: &str, style: &str, colour: bool) -> String {
    if colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
}

/// A figure's cells: name, value, what it must be, whether it is.
pub(crate) fn cells(figure: &Figure) -> [String; 4] {
    let value = figure.value.map_or("not measured".to_owned(), |it| human(it, figure.unit));
    let bound = figure.bound.map_or(String::new(), |it| it.human(figure.unit));
    let mark = match (figure.is_met(), figure.bound) {
        (Some(true), _) => "✓",
        (Some(false), _) => "✗",
        (None, Some(_)) => "–",
        (None, None) => "",
    };
    [figure.label.clone(), value, bound, mark.to_owned()]
}

impl Outcome {
    /// The outcome for people: aligned lines, each figure with what it must be, then notes and,
    /// where there is one, the generator's own bottleneck.
    pub fn table(&self, colour: bool) -> String {
        let title = painted(self.workload, BOLD, colour);
        let mut text = format!("{title}  {}\n\n", self.what);
        let rows: Vec<_> = self.figures.iter().map(cells).collect();
        let wide =
            |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [wide(0), wide(1), wide(2)];
        for (row, figure) in rows.iter().zip(&self.figures) {
            text.push_str(&line(row, widths, figure.is_met(), colour));
        }
        text.push('\n');
        for note in &self.notes {
            text.push_str(&painted(&format!("  note: {note}\n"), DIM, colour));
        }
        if let Some(why) = &self.bottleneck {
            text.push_str(&painted("  THE GENERATOR WAS THE BOTTLENECK", WARN, colour));
            text.push_str(&format!(
                ": {why}\n  This run says nothing about the server's limits.\n"
            ));
        }
        text.push_str(&self.verdict(colour));
        text
    }

    /// One line that says whether all is well.
    pub(crate) fn verdict(&self, colour: bool) -> String {
        let bounded = || self.figures.iter().filter(|it| it.bound.is_some());
        let count = |met| bounded().filter(|it| it.is_met() == met).count();
        let (held, missed, unmeasured) = (count(Some(true)), count(Some(false)), count(None));
        let rest =
            if unmeasured > 0 { format!(", {unmeasured} not measured") } else { String::new() };
        let verdict = match (held, missed, unmeasured) {
            (0, 0, 0) => return String::new(),
            (_, 0, 0) => painted(&format!("  ✓ all {held} bounds held"), GOOD, colour),
            (0, 0, _) => "  – no bound held or missed".to_owned(),
            (_, 0, _) => painted(&format!("  ✓ {held} bounds held"), GOOD, colour),
            _ => painted(&format!("  ✗ {missed} missed, {held} held"), BAD, colour),
        };
        format!("{verdict}{rest}\n")
    }
}

fn line(cells: &[String; 4], widths: [usize; 3], met: Option<bool>, colour: bool) -> String {
    let [label, value, bound, mark] = cells;
    let [wide, value_wide, bound_wide] = widths;
    let style = match met {
        Some(true) => GOOD,
        Some(false) => BAD,
        None => DIM,
    };
    let value = format!("{value:>value_wide$}");
    let value = if met == Some(false) { painted(&value, BAD, colour) } else { value };
    let bound = painted(&format!("{bound:<bound_wide$}"), DIM, colour);
    let mark = painted(mark, style, colour && !mark.is_empty());
    format!("{}\n", format!("  {label:<wide$}  {value}  {bound}  {mark}").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let figures = vec![
            Figure::new("ready", "connections", 1e6, "").must_be(Bound::Exactly(1e6)),
            Figure::new("bytes_each", "memory per connection", 467.4, "bytes"),
            Figure::new("latency_p99_us", "latency p99", 5432.0, "µs").must_be(Bound::AtMost(5e3)),
            Figure::maybe("cores", "server's cores", None, "cores").must_be(Bound::AtMost(2.0)),
        ];
        Outcome {
            workload: "fanout",
            what: "1,000 rooms of 100".to_owned(),
            figures,
            bottleneck: None,
            notes: vec!["both ends are here".to_owned()],
        }
    }

    #[test]
    fn numbers_are_readable() {
        let cases = [
            (1e6, "", "1,000,000"),
            (-1234.0, "", "-1,234"),
            (0.0, "", "0"),
            (0.123_4, "", "0.12"),
            (0.012_3, "", "0.012"),
            (99.96, "cores", "100 cores"),
            (1_234_567.8, "/s", "1,234,568/s"),
            (4.67e9, "bytes", "4.67 GB"),
            (999.7, "bytes", "1.00 kB"),
            (12.0, "bytes", "12 bytes"),
            (5e6, "bytes/s", "5 MB/s"),
            (12.34, "µs", "12.3 µs"),
            (0.5, "µs", "500 ns"),
            (1_250_000.0, "µs", "1.25 s"),
            (999_700.0, "µs", "1.00 s"),
            (330.0, "s", "5 min 30 s"),
            (7_500.0, "s", "2 h 05 min"),
            (0.0, "µs", "0 s"),
            (99.5, "%", "99.5 %"),
            (f64::NAN, "", "–"),
        ];
        for (value, unit, expected) in cases {
            assert_eq!(human(value, unit), expected, "{value} {unit}");
        }
    }

    #[test]
    fn table_is_aligned_and_marks_what_is_missed() {
        let expected = "fanout  1,000 rooms of 100\n\n\
            \x20 connections               1,000,000  = 1,000,000  ✓\n\
            \x20 memory per connection     467 bytes\n\
            \x20 latency p99                 5.43 ms  ≤ 5 ms       ✗\n\
            \x20 server's cores         not measured  ≤ 2 cores    –\n\n\
            \x20 note: both ends are here\n\
            \x20 ✗ 1 missed, 1 held, 1 not measured\n";
        assert_eq!(outcome().table(false), expected);
        let painted = outcome().table(true);
        assert!(painted.contains("\x1b[1;31m     5.43 ms\x1b[0m"), "{painted}");
    }

    #[test]
    fn bottleneck_is_said_in_full() {
        let mut outcome = outcome();
        outcome.bottleneck = Some("it lagged by 20 ms".to_owned());
        let table = outcome.table(false);
        assert!(table.contains("THE GENERATOR WAS THE BOTTLENECK: it lagged by 20 ms"), "{table}");
        outcome.figures.clear();
        assert!(!outcome.table(true).contains("held"));
    }
}
