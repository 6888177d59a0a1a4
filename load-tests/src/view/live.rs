//! The live panel: redrawn with every sample, with notes scrolling away above it.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;

use super::screen::Screen;
use super::{Progress, View, may_colour, panel, print_table};
use crate::outcome::Outcome;
use crate::sample::Sample;

/// Seconds that the curves show at most: as many as a panel has columns.
pub(super) const HISTORY_COUNT: usize = 120;

/// What a panel shows.
pub(super) struct Shown {
    pub(super) sample: Sample,
    pub(super) progress: Progress,
    pub(super) connections: VecDeque<u64>,
    pub(super) delivered_per_s: VecDeque<u64>,
}

/// A panel on a terminal.
pub struct Live<W> {
    screen: Screen<W>,
    /// Columns and rows of the terminal.
    size: fn() -> Option<(u16, u16)>,
    shown: Option<Shown>,
}

impl<W> fmt::Debug for Live<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl<W: Write> Live<W> {
    /// On the terminal behind `out`, which has the `size` asked for with each drawing.
    pub fn new(out: W, size: fn() -> Option<(u16, u16)>) -> Self {
        Self { screen: Screen::new(out, may_colour()), size, shown: None }
    }

    /// A terminal that has become too small is drawn upon as if it were just large enough.
    fn size(&self) -> (u16, u16) {
        (self.size)().unwrap_or((40, 8))
    }

    fn draw(&mut self, notes: &[String]) {
        let (columns, rows) = self.size();
        let buffer = match &self.shown {
            // The last column stays free: a cursor beyond it would wrap.
            Some(shown) => panel::render(shown, columns - 1, rows - 1),
            None => panel::empty(columns - 1),
        };
        self.screen.draw(notes, &buffer, columns);
    }
}

impl<W: Write> View for Live<W> {
    fn on_sample(&mut self, sample: &Sample, progress: &Progress) {
        let (mut connections, mut delivered_per_s) = match self.shown.take() {
            Some(shown) => (shown.connections, shown.delivered_per_s),
            None => Default::default(),
        };
        let delivered = sample.period.delivered as f64 / sample.period_s.max(1e-3);
        keep(&mut connections, sample.totals.ready);
        keep(&mut delivered_per_s, delivered as u64);
        let (sample, progress) = (sample.clone(), progress.clone());
        self.shown = Some(Shown { sample, progress, connections, delivered_per_s });
        self.draw(&[]);
    }

    fn note(&mut self, line: &str) {
        self.draw(&[line.to_owned()]);
    }

    fn finish(&mut self, outcome: &Outcome) {
        self.screen.clear(self.size().0);
        print_table(outcome);
    }
}

fn keep(history: &mut VecDeque<u64>, value: u64) {
    if history.len() == HISTORY_COUNT {
        history.pop_front();
    }
    history.push_back(value);
}
