//! A run as one HTML file: figures, plots over time, settings.
//!
//! The file asks for nothing outside itself, and its own policy forbids that it could. Whatever
//! came from outside is escaped.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use serde_json::Value;

use crate::outcome::{Outcome, cells, human};
use crate::sample::Sample;
use plot::Plot;

mod curves;
mod plot;
mod ticks;

const STYLE: &str = include_str!("report/page.css");
const SCRIPT: &str = include_str!("report/page.js");

/// Writes the report to `path`.
///
/// # Errors
/// When the file cannot be written.
pub fn write(
    path: &Path,
    outcome: &Outcome,
    samples: &[Sample],
    settings: &Value,
) -> io::Result<()> {
    fs::write(path, page(outcome, samples, settings)?)
}

fn page(outcome: &Outcome, samples: &[Sample], settings: &Value) -> io::Result<String> {
    let title = escape(&format!("{}: {}", outcome.workload, outcome.what));
    let style = STYLE.trim();
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{style}\n</style>\n</head>\n<body>\n<main>\n\
         {}{}{}{}{}</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        heading(outcome),
        figures(outcome),
        plots(samples)?,
        troubles(samples),
        settings_table(settings),
    ))
}

fn heading(outcome: &Outcome) -> String {
    let class = match (&outcome.bottleneck, outcome.is_met()) {
        (Some(_), _) => "unsure",
        (None, true) => "good",
        (None, false) => "bad",
    };
    let verdict = escape(outcome.verdict(false).trim());
    let mut text = format!(
        "<header>\n<p class=\"tool\">throng-load {}</p>\n<h1>{}</h1>\n\
         <p class=\"verdict {class}\">{verdict}</p>\n</header>\n",
        escape(outcome.workload),
        escape(&outcome.what),
    );
    if let Some(why) = &outcome.bottleneck {
        let why = escape(why);
        let _ = writeln!(
            text,
            "<p class=\"banner\"><strong>The generator was its own bottleneck:</strong> {why}. \
             This run says nothing about the server's limits.</p>"
        );
    }
    text
}

fn figures(outcome: &Outcome) -> String {
    let mut text = "<section>\n<h2>Figures</h2>\n<div class=\"scroll\"><table>\n\
        <thead><tr><th>figure</th><th class=\"number\">value</th><th>must be</th><th></th></tr>\
        </thead>\n<tbody>\n"
        .to_owned();
    for figure in &outcome.figures {
        let [label, value, bound, mark] = cells(figure).map(|cell| escape(&cell));
        let class = match figure.is_met() {
            Some(true) => "good",
            Some(false) => "bad",
            None => "open",
        };
        let _ = writeln!(
            text,
            "<tr class=\"{class}\"><td>{label}</td><td class=\"number\">{value}</td>\
             <td>{bound}</td><td class=\"mark\">{mark}</td></tr>"
        );
    }
    text.push_str("</tbody>\n</table></div>\n");
    if !outcome.notes.is_empty() {
        let notes = outcome.notes.iter().map(|note| format!("<li>{}</li>\n", escape(note)));
        let _ = write!(text, "<ul class=\"notes\">\n{}</ul>\n", notes.collect::<String>());
    }
    text.push_str("</section>\n");
    text
}

fn plots(samples: &[Sample]) -> io::Result<String> {
    let phases = curves::phases(samples);
    let mut text = "<section>\n<h2>Over time</h2>\n".to_owned();
    let plots: Vec<_> = curves::plots(samples).into_iter().filter(Plot::has_values).collect();
    if plots.is_empty() {
        text.push_str("<p>There was no second to show.</p>\n");
    }
    for plot in &plots {
        text.push_str(&figure(plot, &plot.svg(&phases)?));
    }
    text.push_str("</section>\n");
    Ok(text)
}

/// A plot with its title and its legend.
fn figure(plot: &Plot, svg: &str) -> String {
    let mut legend = String::new();
    for curve in &plot.curves {
        let Some(peak) = curve.peak() else { continue };
        let _ = writeln!(
            legend,
            "<li><i class=\"c{}\"></i>{} <span>peak {}</span></li>",
            curve.colour,
            escape(&curve.name),
            escape(&human(peak, plot.unit)),
        );
    }
    let (title, about) = (escape(plot.title), escape(plot.about));
    format!(
        "<figure>\n<figcaption>\n<h3>{title}</h3>\n<p>{about}</p>\n\
         <ul class=\"legend\">\n{legend}</ul>\n</figcaption>\n\
         <div class=\"scroll\"><div class=\"plot\">\n{svg}\
         <script type=\"application/json\">{}</script>\n</div></div>\n</figure>\n",
        plot.data().replace('<', "\\u003c"),
    )
}

fn troubles(samples: &[Sample]) -> String {
    let last = samples.iter().rev().find_map(|it| it.server.as_ref());
    let Some(server) = last.filter(|it| !it.troubles.is_empty()) else { return String::new() };
    let rows = server.troubles.iter().map(|(cause, count)| {
        let count = human(*count as f64, "");
        format!("<tr><td>{}</td><td class=\"number\">{count}</td></tr>\n", escape(cause))
    });
    format!(
        "<section>\n<h2>Refused, ended or not delivered, says the server</h2>\n\
         <div class=\"scroll\"><table>\n<tbody>\n{}</tbody>\n</table></div>\n</section>\n",
        rows.collect::<String>()
    )
}

fn settings_table(settings: &Value) -> String {
    let body = match settings {
        Value::Null => return String::new(),
        Value::Object(map) => {
            let rows = map.iter().map(|(key, value)| {
                let (key, value) = (escape(key), escape(&shown(value)));
                format!("<tr><td>{key}</td><td><code>{value}</code></td></tr>\n")
            });
            format!("<table>\n<tbody>\n{}</tbody>\n</table>", rows.collect::<String>())
        }
        other => format!("<pre>{}</pre>", escape(&shown(other))),
    };
    let body = format!("<div class=\"scroll\">{body}</div>");
    format!("<section>\n<h2>Settings</h2>\n{body}\n</section>\n")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Text for HTML, in elements and in quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
