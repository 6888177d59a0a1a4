//! The live panel and the lines, fed samples as a run would.

use super::*;
use crate::outcome::human;
use crate::sample::ServerSample;
use crate::stats::{Percentiles, Totals};

fn sample(at_s: f64, phase: &'static str) -> Sample {
    let times = Percentiles {
        p50_us: 1_200,
        p90_us: 2_000,
        p99_us: 3_400,
        p999_us: 5_600,
        max_us: 12_345,
        count: 10,
    };
    let totals = Totals {
        ready: 420_000,
        sent: (at_s * 100.0) as u64,
        delivered: (at_s * 1e4) as u64,
        ..Totals::default()
    };
    let period = Totals { sent: 100, delivered: 10_000, ..Totals::default() };
    let server = ServerSample {
        cores: Some(1.5),
        user_bytes: Some(196_000_000),
        connections: Some(420_000),
        troubles: vec![("refused_full".to_owned(), 12)],
        ..ServerSample::default()
    };
    Sample {
        at_s,
        phase,
        period_s: 1.0,
        totals,
        period,
        opening: 1_024,
        latency: Some(times),
        connect: None,
        lag: Some(times),
        load_cores: 0.75,
        cores: vec![0.0, 0.5, 1.0],
        server: Some(server),
    }
}

fn progress() -> Progress {
    Progress { goal: 1_000_000, label: "connections".to_owned(), fraction: 0.42 }
}

fn live(size: fn() -> Option<(u16, u16)>) -> String {
    let mut out = Vec::new();
    let mut view = Live::new(&mut out, size);
    view.note("begun");
    for second in 1..200 {
        view.on_sample(&sample(second.into(), "connecting"), &progress());
    }
    view.note("holding");
    String::from_utf8(out).expect("text")
}

/// Without the terminal's control sequences.
fn bare(text: &str) -> String {
    let parts = text.split('\x1b').enumerate().map(|(index, part)| match index {
        0 => part,
        _ => part.split_once(|end: char| end.is_ascii_alphabetic()).map_or("", |(_, rest)| rest),
    });
    parts.collect()
}

#[test]
fn live_panel_shows_the_figures() {
    let text = bare(&live(|| Some((120, 40))));
    let last = &text[text.rfind("holding").expect("the last note")..];
    let expected = [
        "connecting  ━",
        "42 % of 1,000,000 connections",
        "420,000 up",
        "1,024 opening",
        "10,000/s delivered",
        "3.40 ms p99",
        "12.3 ms max",
        "connect     –",
        "0.75 cores busy",
        "467 bytes each",
        "12 refused_full",
        "▁▅█",
        "50 % busy",
    ];
    for part in expected {
        assert!(last.contains(part), "{part} is missing in\n{last}");
    }
}

#[test]
fn live_panel_takes_back_exactly_what_it_drew() {
    for size in [|| Some((120, 40)), || Some((80, 24)), || Some((40, 8)), || None] {
        let text = live(size);
        let (_, last) = text.rsplit_once("\x1b[?2026h").expect("drawn");
        let rows = last.lines().count() - 1; // without the note, and with what follows the last
        let up = format!("\x1b[{}A\x1b[J", rows - 1);
        assert!(last.contains(&up), "{rows} rows, but {last:?}");
        let wide = usize::from(size().map_or(40, |(columns, _)| columns));
        let is_inside = |line: &str| line.trim().chars().count() < wide;
        assert!(bare(&text).lines().all(is_inside));
        assert!(rows < size().map_or(8, |(_, rows)| usize::from(rows)) + 2);
    }
}

#[test]
fn wrong_counts_are_red_only_when_there_are_some() {
    let mut out = Vec::new();
    let mut bad = sample(1.0, "sending");
    Live::new(&mut out, || Some((120, 40))).on_sample(&bad, &progress());
    assert!(!String::from_utf8_lossy(&out).contains("\x1b[0;1;31m"));
    bad.totals.gaps = 3;
    out.clear();
    let mut screen = Live::new(&mut out, || Some((120, 40)));
    screen.on_sample(&bad, &progress());
    let is_red = String::from_utf8_lossy(&out).contains("\x1b[0;1;31m          3");
    assert_eq!(is_red, may_colour());
}

#[test]
fn lines_come_every_five_seconds_and_with_each_phase() {
    let mut out = Vec::new();
    let mut view = Lines::new(&mut out);
    for second in 1..=12 {
        view.on_sample(&sample(second.into(), "connecting"), &progress());
    }
    view.note("all are in");
    let mut bad = sample(13.0, "sending");
    bad.totals.gaps = 3;
    view.on_sample(&bad, &progress());
    let text = String::from_utf8(out).expect("text");
    let lines: Vec<_> = text.lines().collect();
    let starts =
        ["     1 s  connecting 42 %", "     6 s", "    11 s", "all are in", "    13 s  sending"];
    assert_eq!(lines.len(), starts.len(), "{text}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line} begins otherwise than {start}");
    }
    assert!(lines[1].contains("sent 100/s, delivered 10,000/s; p50 1.20 ms"), "{text}");
    assert!(lines[4].contains("WRONG: 3 gaps"), "{text}");
}

#[test]
fn samples_of_nothing_are_shown() {
    let nothing = Sample {
        at_s: f64::NAN,
        period_s: 0.0,
        totals: Totals::default(),
        period: Totals::default(),
        opening: 0,
        latency: None,
        lag: None,
        load_cores: 0.0,
        cores: Vec::new(),
        server: None,
        ..sample(0.0, "")
    };
    let progress = Progress { goal: 0, label: String::new(), fraction: f64::NAN };
    Live::new(Vec::new(), || Some((120, 40))).on_sample(&nothing, &progress);
    Lines::new(Vec::new()).on_sample(&nothing, &progress);
    assert_eq!(human(f64::INFINITY, "s"), "–");
}
