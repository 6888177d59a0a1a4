//! Where an axis is marked, and what it says there.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;

use crate::outcome::human;

/// Steps of a time axis, in seconds, that people count in.
const TIME_STEPS: [f64; 21] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0,
    3600.0, 7200.0, 14_400.0, 21_600.0, 43_200.0, 86_400.0,
];
const TIME_COUNT_MAX: f64 = 12.0;
const VALUE_COUNT_MAX: f64 = 5.0;

/// Decades up to which a logarithmic axis is marked between its powers of ten.
const FINE_DECADES_MAX: i32 = 2;

/// An axis that is marked where it is told to, and not where the library would.
pub(super) struct Axis {
    inner: RangedCoordf64,
    marks: Vec<f64>,
}

impl Axis {
    pub(super) fn new(range: Range<f64>, marks: Vec<f64>) -> Self {
        Self { inner: range.into(), marks }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.inner.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.inner.range()
    }
}

/// Only asked for where the plot has no formatter of its own.
impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        value.to_string()
    }
}

/// Marks of a time axis from 0 to `end_s`.
pub(super) fn times(end_s: f64) -> Vec<f64> {
    let fits = |step: &f64| end_s / step <= TIME_COUNT_MAX;
    let days = (end_s / 86_400.0 / TIME_COUNT_MAX).ceil() * 86_400.0;
    steps(TIME_STEPS.into_iter().find(fits).unwrap_or(days), end_s)
}

/// A time on an axis with such marks: `30 s`, `2:30`, `1:30 h`.
pub(super) fn time(at_s: f64, marks: &[f64]) -> String {
    let step = marks.get(1).copied().unwrap_or(1.0);
    let end = marks.last().copied().unwrap_or(0.0);
    let whole = at_s.round() as i64;
    match (end, step) {
        (..=120.0, ..1.0) => format!("{at_s:.1} s"),
        (..=120.0, _) => format!("{whole} s"),
        (_, 3600.0..) => format!("{} h", whole / 3600),
        (3600.0.., 60.0..) => format!("{}:{:02} h", whole / 3600, whole / 60 % 60),
        _ => format!("{}:{:02}", whole / 60, whole % 60),
    }
}

/// Marks of an axis from 0 to at least `highest`; the last one is its end.
pub(super) fn values(highest: f64, unit: &str) -> Vec<f64> {
    // A tenth of a connection is no connection.
    let least = if unit.is_empty() { VALUE_COUNT_MAX } else { f64::MIN_POSITIVE };
    let highest = if highest > 0.0 { highest.max(least) } else { VALUE_COUNT_MAX };
    let rough = highest / VALUE_COUNT_MAX;
    let decade = 10f64.powf(rough.log10().floor());
    let fits = |factor: &f64| factor * decade >= rough * (1.0 - 1e-9);
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(fits).unwrap_or(10.0) * decade;
    steps(step, (highest / step - 1e-9).ceil() * step)
}

/// Marks of a logarithmic axis around `lowest` and `highest`, as logarithms; the ends are marks.
pub(super) fn logarithms(lowest: f64, highest: f64) -> Vec<f64> {
    let from = (lowest.log10() + 1e-9).floor() as i32;
    let to = ((highest.log10() - 1e-9).ceil() as i32).max(from + 1);
    let factors: &[f64] = if to - from <= FINE_DECADES_MAX { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let decade = |power: i32| factors.iter().map(move |it| f64::from(power) + it.log10());
    (from..to).flat_map(decade).chain([f64::from(to)]).collect()
}

/// A number on an axis.
pub(super) fn value(value: f64, unit: &str) -> String {
    // What was computed from steps may be a hair beside a round number.
    let text = format!("{value:.9e}");
    human(text.parse().unwrap_or(value), unit)
}

fn steps(step: f64, end: f64) -> Vec<f64> {
    let count = (end / step + 1e-9).floor() as usize;
    (0..=count).map(|index| index as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_few() {
        assert_eq!(times(60.0), [0., 5., 10., 15., 20., 25., 30., 35., 40., 45., 50., 55., 60.]);
        assert_eq!(times(7200.0).len(), 13);
        assert_eq!(times(30.0 * 86_400.0).len(), 11);
        assert_eq!(values(4.3, ""), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(values(0.0, "/s").last(), Some(&5.0));
        assert_eq!(values(1.0, "").last(), Some(&5.0));
        assert_eq!(values(1e6, "/s"), [0.0, 2e5, 4e5, 6e5, 8e5, 1e6]);
        assert_eq!(values(0.3, "cores").len(), 4);
        assert_eq!(logarithms(120.0, 90_000.0), [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(logarithms(1.0, 1.0).len(), 4);
    }

    #[test]
    fn marks_are_named_as_people_count() {
        let named = |end| times(end).into_iter().map(|at| time(at, &times(end))).nth(1);
        assert_eq!(named(1.0).as_deref(), Some("0.1 s"));
        assert_eq!(named(60.0).as_deref(), Some("5 s"));
        assert_eq!(named(600.0).as_deref(), Some("1:00"));
        assert_eq!(named(7200.0).as_deref(), Some("0:10 h"));
        assert_eq!(named(86_400.0).as_deref(), Some("2 h"));
        assert_eq!(value(0.1 + 0.2, "cores"), "0.30 cores");
    }
}
