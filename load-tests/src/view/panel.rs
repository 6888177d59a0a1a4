//! The panel's rows: how far the run is, what the clients see, what the server says.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Sparkline, Widget};

use super::live::{HISTORY_COUNT, Shown};
use crate::outcome::human;
use crate::sample::{Sample, ServerSample};
use crate::stats::Percentiles;

const WIDTH_MAX: u16 = 112;
const LABEL_WIDTH: usize = 12;
const CURVE_ROWS: u16 = 2;

/// Below this width, figures follow each other without columns.
const COLUMNS_WIDTH_MIN: u16 = 100;
const VALUE_WIDTH: usize = 11;
const WORD_WIDTH: usize = 12;

/// Fewer connections than this don't carry what the process needs anyway.
const EACH_CONNECTIONS_MIN: u64 = 1000;

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const WARN: Style = Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD);

/// One figure of a row.
struct Piece {
    value: String,
    word: &'static str,
    style: Style,
}

/// A panel without a row.
pub(super) fn empty(width: u16) -> Buffer {
    Buffer::empty(Rect::new(0, 0, width.max(1), 0))
}

/// Draws what is `shown`, at most `width` by `height`; what does not fit is left out from below.
pub(super) fn render(shown: &Shown, width: u16, height: u16) -> Buffer {
    let width = width.clamp(1, WIDTH_MAX);
    let sample = &shown.sample;
    let server = sample.server.as_ref();
    let lines = [
        progress(shown, width),
        row("connections", &connections(sample), width),
        row("messages", &messages(sample), width),
        row("latency", &times(sample.latency.as_ref()), width),
        row("connect", &times(sample.connect.as_ref()), width),
        row("wrong", &wrong(sample), width),
        row("generator", &generator(sample), width),
        row("server", &server.map_or_else(Vec::new, seen), width),
        row("memory", &server.map_or_else(Vec::new, |it| memory(sample, it)), width),
        troubles(server),
        cores(&sample.cores),
    ];
    let curves = if height >= lines.len() as u16 + CURVE_ROWS { CURVE_ROWS } else { 0 };
    let rows = (lines.len() as u16).min(height);
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, rows + curves));
    for (y, line) in (0..rows).zip(&lines) {
        buffer.set_line(0, y, line, width);
    }
    if curves > 0 {
        draw_curves(&mut buffer, shown, rows);
    }
    buffer
}

fn progress(shown: &Shown, width: u16) -> Line<'static> {
    let (progress, sample) = (&shown.progress, &shown.sample);
    let fraction = if progress.fraction.is_nan() { 0.0 } else { progress.fraction.clamp(0.0, 1.0) };
    let goal = match progress.label.as_str() {
        "seconds" => human(progress.goal as f64, "s"),
        label => format!("{} {label}", human(progress.goal as f64, "")),
    };
    let told = format!(" {:>3.0} % of {goal} ", (fraction * 100.0).floor());
    let time = format!(" {}", human(sample.at_s.floor(), "s"));
    let phase = format!("{:<1$} ", sample.phase, LABEL_WIDTH - 1);
    let taken = phase.chars().count() + told.chars().count() + time.chars().count();
    let bar = usize::from(width).saturating_sub(taken);
    let done = (bar as f64 * fraction).round() as usize;
    Line::from(vec![
        Span::styled(phase, BOLD),
        Span::styled("━".repeat(done), Style::new().fg(Color::Green)),
        Span::styled("─".repeat(bar - done), DIM),
        Span::raw(told),
        Span::styled(time, DIM),
    ])
}

/// Its name and those of its figures that have room; without a figure it says so.
fn row(label: &str, pieces: &[Piece], width: u16) -> Line<'static> {
    let mut spans = vec![name(label)];
    if pieces.is_empty() {
        spans.push(Span::styled("–", DIM));
    }
    let mut taken = LABEL_WIDTH;
    for Piece { value, word, style } in pieces {
        let (value, word) = match width {
            COLUMNS_WIDTH_MIN.. => {
                (format!("{value:>VALUE_WIDTH$}"), format!(" {word:<WORD_WIDTH$}"))
            }
            _ => (value.clone(), format!(" {word}  ")),
        };
        taken += value.chars().count() + word.trim_end().chars().count();
        if taken > width.into() {
            break;
        }
        taken += word.chars().count() - word.trim_end().chars().count();
        spans.extend([Span::styled(value, *style), Span::styled(word, DIM)]);
    }
    Line::from(spans)
}

fn name(label: &str) -> Span<'static> {
    Span::styled(format!("{label:<LABEL_WIDTH$}"), DIM)
}

fn piece(value: String, word: &'static str) -> Piece {
    Piece { value, word, style: Style::new() }
}

/// A count that should be nothing.
fn fault(count: u64, word: &'static str, style: Style) -> Piece {
    let style = if count > 0 { style } else { DIM };
    Piece { value: human(count as f64, ""), word, style }
}

fn connections(sample: &Sample) -> Vec<Piece> {
    let totals = &sample.totals;
    vec![
        Piece { value: human(totals.ready as f64, ""), word: "up", style: BOLD },
        piece(human(sample.opening as f64, ""), "opening"),
        fault(totals.lost, "lost", BAD),
        fault(totals.refused, "refused", WARN),
    ]
}

fn messages(sample: &Sample) -> Vec<Piece> {
    let rate = |count: u64| (count as f64 / sample.period_s.max(1e-3)).round();
    vec![
        piece(human(rate(sample.period.sent), "/s"), "sent"),
        Piece { value: human(rate(sample.period.delivered), "/s"), word: "delivered", style: BOLD },
        piece(human(rate(sample.period.acks), "/s"), "answered"),
        piece(human(rate(sample.period.bytes_in), "bytes/s"), "in"),
    ]
}

fn times(times: Option<&Percentiles>) -> Vec<Piece> {
    let Some(times) = times else { return Vec::new() };
    let us = |value: u64| human(value as f64, "µs");
    vec![
        piece(us(times.p50_us), "p50"),
        Piece { value: us(times.p99_us), word: "p99", style: BOLD },
        piece(us(times.p999_us), "p99.9"),
        piece(us(times.max_us), "max"),
    ]
}

fn wrong(sample: &Sample) -> Vec<Piece> {
    let totals = &sample.totals;
    vec![
        fault(totals.gaps, "gaps", BAD),
        fault(totals.duplicates, "duplicates", BAD),
        fault(totals.reordered, "reordered", BAD),
        fault(totals.errors + totals.foreign, "errors", BAD),
    ]
}

fn generator(sample: &Sample) -> Vec<Piece> {
    let mut pieces = vec![piece(format!("{:.2}", sample.load_cores), "cores busy")];
    if let Some(lag) = &sample.lag {
        pieces.push(piece(human(lag.p99_us as f64, "µs"), "late p99"));
        pieces.push(piece(human(lag.max_us as f64, "µs"), "late max"));
    }
    pieces
}

fn seen(server: &ServerSample) -> Vec<Piece> {
    let counted = |count: u64| human(count as f64, "");
    [
        server.cores.map(|cores| piece(format!("{cores:.2}"), "cores busy")),
        server.connections.map(|count| piece(counted(count), "connections")),
        server.delivered_per_s.map(|rate| piece(human(rate, "/s"), "delivered")),
        server.latency_p99_us.map(|us| piece(human(us as f64, "µs"), "p99, own")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn memory(sample: &Sample, server: &ServerSample) -> Vec<Piece> {
    let connections = server.connections.unwrap_or(sample.totals.ready);
    let each = |bytes: u64| {
        let each = bytes as f64 / connections as f64;
        (connections >= EACH_CONNECTIONS_MIN).then(|| piece(human(each.round(), "bytes"), "each"))
    };
    let mut pieces = Vec::new();
    for (bytes, word) in [(server.user_bytes, "user"), (server.kernel_bytes, "kernel")] {
        let Some(bytes) = bytes else { continue };
        pieces.push(piece(human(bytes as f64, "bytes"), word));
        pieces.extend(each(bytes));
    }
    pieces
}

fn troubles(server: Option<&ServerSample>) -> Line<'static> {
    let mut spans = vec![name("troubles")];
    match server.map(|it| it.troubles.as_slice()) {
        None => spans.push(Span::styled("–", DIM)),
        Some([]) => spans.push(Span::styled("none", DIM)),
        Some(troubles) => spans.extend(troubles.iter().flat_map(|(cause, count)| {
            let cause = Span::styled(format!(" {cause}   "), DIM);
            [Span::styled(human(*count as f64, ""), WARN), cause]
        })),
    }
    Line::from(spans)
}

/// Each core as one bar.
fn cores(cores: &[f64]) -> Line<'static> {
    if cores.is_empty() {
        return Line::from(vec![name("host cores"), Span::styled("–", DIM)]);
    }
    let mean = cores.iter().sum::<f64>() / cores.len() as f64;
    let busiest = cores.iter().copied().fold(0.0, f64::max);
    Line::from(vec![
        name("host cores"),
        Span::styled(cores.iter().map(|it| level(*it)).collect::<String>(), Color::Cyan),
        Span::raw(format!("  {:.0} %", mean * 100.0)),
        Span::styled(" busy  ", DIM),
        Span::raw(format!("{:.0} %", busiest * 100.0)),
        Span::styled(" the busiest", DIM),
    ])
}

fn level(busy: f64) -> char {
    let index = (busy.clamp(0.0, 1.0) * LEVELS.len() as f64) as usize;
    LEVELS[index.min(LEVELS.len() - 1)]
}

/// Connections on the left, deliveries on the right.
fn draw_curves(buffer: &mut Buffer, shown: &Shown, top: u16) {
    let label = LABEL_WIDTH as u16;
    let half = (buffer.area.width / 2).max(label + 1);
    let curves = [
        (0, "connections", &shown.connections, Color::Green),
        (half, "delivered/s", &shown.delivered_per_s, Color::Blue),
    ];
    for (left, text, history, colour) in curves {
        let width = (half - label - 1).min(buffer.area.width.saturating_sub(left + label));
        let width = width.min(HISTORY_COUNT as u16);
        buffer.set_span(left, top, &name(text), label);
        let skipped = history.len().saturating_sub(width.into());
        let values: Vec<_> = history.iter().skip(skipped).copied().collect();
        let highest = values.iter().copied().max().unwrap_or(0);
        let peak = Span::styled(format!("{:<LABEL_WIDTH$}", human(highest as f64, "")), DIM);
        buffer.set_span(left, top + 1, &peak, label);
        let curve = Sparkline::default().data(&values).max(highest.max(1)).style(colour);
        curve.render(Rect::new(left + label, top, width, CURVE_ROWS), buffer);
    }
}
