//! What a person sees of a run while it goes, and how it ends.
//!
//! Progress goes to stderr, results to stdout, so either may be redirected. Three kinds: a live
//! panel where stderr is a terminal, plain lines where it is not, and nothing at all for `--json`,
//! where stdout holds the outcome as JSON alone. None reads the keyboard or changes the terminal's
//! mode: there is nothing to restore, however the run ends.

use std::env;
use std::io::{self, IsTerminal, Write};

use crate::outcome::Outcome;
use crate::sample::Sample;

mod lines;
mod live;
mod panel;
mod screen;

pub use lines::Lines;
pub use live::Live;

/// How far a phase has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// What it counts up to.
    pub goal: u64,
    /// What is counted: `connections`, `seconds`.
    pub label: String,
    /// How much of it is done, 0 to 1.
    pub fraction: f64,
}

/// Shows a run.
pub trait View {
    /// Takes what was seen once a second.
    fn on_sample(&mut self, sample: &Sample, progress: &Progress);

    /// Takes a line that stays: a phase that begins, a warning.
    fn note(&mut self, line: &str);

    /// Prints the result; the last call.
    fn finish(&mut self, outcome: &Outcome);
}

/// How a run is to be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// A live panel; lines where stderr is no terminal that can show one.
    Live,
    /// A line every few seconds.
    Lines,
    /// Nothing, then JSON on stdout.
    Json,
}

/// The view that fits.
pub fn open(wanted: Wanted) -> Box<dyn View> {
    match wanted {
        Wanted::Live if can_show_panel() => Box::new(Live::new(io::stderr(), terminal_size)),
        Wanted::Live | Wanted::Lines => Box::new(Lines::new(io::stderr())),
        Wanted::Json => Box::new(Json),
    }
}

/// Says nothing but the outcome, as JSON.
#[derive(Debug)]
struct Json;

impl View for Json {
    fn on_sample(&mut self, _: &Sample, _: &Progress) {}

    fn note(&mut self, _: &str) {}

    fn finish(&mut self, outcome: &Outcome) {
        print(&format!("{:#}\n", outcome.to_json()));
    }
}

fn print_table(outcome: &Outcome) {
    let colour = io::stdout().is_terminal() && may_colour();
    print(&format!("\n{}\n", outcome.table(colour)));
}

/// To stdout; a reader that went away is no fault of the run.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// <https://no-color.org>
fn may_colour() -> bool {
    env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()) && !is_dumb()
}

fn is_dumb() -> bool {
    env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

fn can_show_panel() -> bool {
    io::stderr().is_terminal() && !is_dumb() && terminal_size().is_some()
}

/// Columns and rows; `None` where there is no terminal or it is too small for a panel.
fn terminal_size() -> Option<(u16, u16)> {
    let (columns, rows) = terminal_size::terminal_size_of(io::stderr())?;
    (columns.0 >= 40 && rows.0 >= 8).then_some((columns.0, rows.0))
}

#[cfg(test)]
mod tests;
