//! Plain lines, for logs: one at each phase that begins, else one every few seconds.

use std::fmt;
use std::io::Write;

use super::{Progress, View, print_table};
use crate::outcome::{Outcome, human};
use crate::sample::Sample;
use crate::stats::Totals;

const PERIOD_S: f64 = 5.0;

/// Lines on a stream.
pub struct Lines<W> {
    out: W,
    phase: &'static str,
    /// When the last line was written, and what was counted then.
    at_s: f64,
    totals: Totals,
    /// The longest latency since then.
    latency_us_max: u64,
}

impl<W> fmt::Debug for Lines<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

impl<W: Write> Lines<W> {
    /// Writes them to `out`.
    pub fn new(out: W) -> Self {
        Self { out, phase: "", at_s: 0.0, totals: Totals::default(), latency_us_max: 0 }
    }

    /// A log that went away is no fault of the run.
    fn write(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }

    fn line(&self, sample: &Sample, progress: &Progress) -> String {
        let done = (progress.fraction * 100.0).floor().clamp(0.0, 100.0);
        let head = format!("{:>6.0} s  {} {done:.0} %:", sample.at_s, sample.phase);
        let parts = [
            Some(connections(sample)),
            self.messages(sample),
            self.latency(sample),
            wrong(&sample.totals),
            Some(format!("generator {:.2} cores", sample.load_cores)),
            server(sample),
        ];
        format!("{head} {}", parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }

    /// Rates since the line before.
    fn messages(&self, sample: &Sample) -> Option<String> {
        let period = sample.totals - self.totals;
        let seconds = (sample.at_s - self.at_s).max(1e-3);
        let rate = |count: u64| human((count as f64 / seconds).round(), "/s");
        (period.sent + period.delivered > 0)
            .then(|| format!("sent {}, delivered {}", rate(period.sent), rate(period.delivered)))
    }

    fn latency(&self, sample: &Sample) -> Option<String> {
        let times = sample.latency.as_ref()?;
        let us = |value: u64| human(value as f64, "µs");
        let max = us(self.latency_us_max);
        Some(format!("p50 {}, p99 {}, max {max}", us(times.p50_us), us(times.p99_us)))
    }
}

impl<W: Write> View for Lines<W> {
    fn on_sample(&mut self, sample: &Sample, progress: &Progress) {
        let longest = sample.latency.map_or(0, |times| times.max_us);
        self.latency_us_max = self.latency_us_max.max(longest);
        // Half a second less: samples are a second apart, but not to the millisecond.
        let is_due = sample.at_s - self.at_s >= PERIOD_S - 0.5;
        if !is_due && sample.phase == self.phase {
            return;
        }
        let line = self.line(sample, progress);
        self.write(&line);
        self.phase = sample.phase;
        (self.at_s, self.totals, self.latency_us_max) = (sample.at_s, sample.totals, 0);
    }

    fn note(&mut self, line: &str) {
        self.write(line);
    }

    fn finish(&mut self, outcome: &Outcome) {
        print_table(outcome);
    }
}

fn connections(sample: &Sample) -> String {
    let mut text = format!("{} up", human(sample.totals.ready as f64, ""));
    let rest = [
        (sample.opening, "opening"),
        (sample.totals.lost, "LOST"),
        (sample.totals.refused, "refused"),
    ];
    for (count, word) in rest.into_iter().filter(|&(count, _)| count > 0) {
        text.push_str(&format!(", {} {word}", human(count as f64, "")));
    }
    text
}

fn wrong(totals: &Totals) -> Option<String> {
    let counts = [
        (totals.gaps, "gaps"),
        (totals.duplicates, "duplicates"),
        (totals.reordered, "reordered"),
        (totals.errors, "errors"),
        (totals.foreign, "foreign"),
    ];
    let named = counts.into_iter().filter(|&(count, _)| count > 0);
    let named: Vec<_> = named.map(|(count, word)| format!("{count} {word}")).collect();
    (!named.is_empty()).then(|| format!("WRONG: {}", named.join(", ")))
}

fn server(sample: &Sample) -> Option<String> {
    let server = sample.server.as_ref()?;
    let parts = [
        server.cores.map(|cores| format!("{cores:.2} cores")),
        server.user_bytes.map(|bytes| human(bytes as f64, "bytes")),
        server.kernel_bytes.map(|bytes| format!("{} kernel", human(bytes as f64, "bytes"))),
    ];
    let told: Vec<_> = parts.into_iter().flatten().collect();
    (!told.is_empty()).then(|| format!("server {}", told.join(", ")))
}
