//! A panel at the bottom of a terminal that keeps its other lines.
//!
//! The cursor waits below the panel, and every change moves up by as many rows as were drawn:
//! the terminal is asked nothing, so a terminal that answers nothing cannot hold a run up.

use std::fmt::Write as _;
use std::io::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

/// Terminals that know this show a change at once, without flicker; the others ignore it.
const UPDATE_BEGINS: &str = "\x1b[?2026h";
const UPDATE_ENDS: &str = "\x1b[?2026l";

/// Where a panel is drawn.
#[derive(Debug)]
pub(super) struct Screen<W> {
    out: W,
    colour: bool,
    /// Columns that each row of the panel on the screen takes, from the top.
    drawn: Vec<usize>,
}

impl<W: Write> Screen<W> {
    pub(super) fn new(out: W, colour: bool) -> Self {
        Self { out, colour, drawn: Vec::new() }
    }

    /// Puts `panel` where the one before was, with `notes` above it for good.
    pub(super) fn draw(&mut self, notes: &[String], panel: &Buffer, columns: u16) {
        let mut text = UPDATE_BEGINS.to_owned();
        text.push_str(&self.erase(columns));
        for note in notes {
            let _ = writeln!(text, "{note}");
        }
        self.drawn.clear();
        for row in panel.content.chunks(panel.area.width.into()) {
            let row = trimmed(row);
            self.drawn.push(row.len());
            paint(&mut text, row, self.colour);
            text.push('\n');
        }
        text.push_str(UPDATE_ENDS);
        self.write(&text);
    }

    /// Takes the panel away.
    pub(super) fn clear(&mut self, columns: u16) {
        let text = self.erase(columns);
        self.drawn.clear();
        self.write(&text);
    }

    /// Moves to the panel's first row and erases everything from there. A terminal that became
    /// narrower has broken the rows into more.
    fn erase(&self, columns: u16) -> String {
        let columns = usize::from(columns).max(1);
        let rows: usize = self.drawn.iter().map(|length| length.div_ceil(columns).max(1)).sum();
        if rows == 0 { String::new() } else { format!("\r\x1b[{rows}A\x1b[J") }
    }

    /// A terminal that went away is no fault of the run.
    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// Without the blanks at its end.
fn trimmed(row: &[Cell]) -> &[Cell] {
    let end = row.iter().rposition(|cell| cell.symbol() != " ").map_or(0, |last| last + 1);
    &row[..end]
}

fn paint(text: &mut String, row: &[Cell], colour: bool) {
    let mut before = String::new();
    for cell in row {
        let style = sgr(cell, colour);
        if style != before {
            let _ = write!(text, "\x1b[0{style}m");
            before = style;
        }
        text.push_str(cell.symbol());
    }
    if !before.is_empty() {
        text.push_str("\x1b[0m");
    }
}

/// The style as parameters of "select graphic rendition", of the terminal's own sixteen colours.
fn sgr(cell: &Cell, colour: bool) -> String {
    let modifiers = [(Modifier::BOLD, ";1"), (Modifier::DIM, ";2")];
    let set = modifiers.iter().filter(|(modifier, _)| cell.modifier.contains(*modifier));
    let mut style: String = set.map(|(_, code)| *code).collect();
    style.push_str(match cell.fg {
        _ if !colour => "",
        Color::Red => ";31",
        Color::Green => ";32",
        Color::Yellow => ";33",
        Color::Blue => ";34",
        Color::Magenta => ";35",
        Color::Cyan => ";36",
        _ => "",
    });
    style
}
