//! One plot as SVG: curves over time, phases behind them.
//!
//! Its colours are those of a light page; the page's style names darker ones for each.

use std::io;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::json;

use super::curves::Phase;
use super::escape;
use super::ticks::{self, Axis};

/// Drawn twice as large as shown, since points are whole units here.
const SIZE: (u32, u32) = (2200, 580);
const ABOVE: u32 = 52;
const RIGHT: u32 = 64;
const LEFT: u32 = 200;
const BELOW: u32 = 54;
const FONT_SIZE: i32 = 28;
/// How far above the plot the phases' names stand, as a part of its height.
const NAME_LIFT: f64 = 0.015;
/// What a letter takes at most, on average.
const LETTER_WIDTH: f64 = 16.0;

/// Points of one curve: two for every unit it is wide come to no more than this.
const POINTS_COUNT_MAX: usize = 2000;

/// The colours of curves, as `page.css` has them.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x2A, 0x78, 0xD6),
    RGBColor(0xEB, 0x68, 0x34),
    RGBColor(0x1B, 0xAF, 0x7A),
    RGBColor(0xED, 0xA1, 0x00),
    RGBColor(0xE8, 0x7B, 0xA4),
    RGBColor(0x00, 0x83, 0x00),
    RGBColor(0x4A, 0x3A, 0xA7),
    RGBColor(0xE3, 0x49, 0x48),
];
const GRID: RGBColor = RGBColor(0xE1, 0xE0, 0xDB);
const AXIS: RGBColor = RGBColor(0xA8, 0xA7, 0xA1);
const BAND: RGBColor = RGBColor(0xF2, 0xF1, 0xEC);
const TEXT: RGBColor = RGBColor(0x52, 0x51, 0x4E);

/// Curves with one axis.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    pub(super) unit: &'static str,
    /// Whether the axis of values is logarithmic.
    pub(super) log: bool,
    pub(super) curves: Vec<Curve>,
}

/// One value over time.
#[derive(Debug)]
pub(super) struct Curve {
    pub(super) name: String,
    /// Index of its colour.
    pub(super) colour: usize,
    /// Seconds, and the value where there was one.
    pub(super) points: Vec<Point>,
}

pub(super) type Point = (f64, Option<f64>);

impl Curve {
    fn values(&self) -> impl Iterator<Item = f64> {
        self.points.iter().filter_map(|&(_, value)| value)
    }

    /// Its highest value.
    pub(super) fn peak(&self) -> Option<f64> {
        self.values().reduce(f64::max)
    }
}

/// Where everything lies: marks of both axes, the values' as they are drawn.
struct Axes {
    times: Vec<f64>,
    end_s: f64,
    values: Vec<f64>,
}

impl Plot {
    /// Whether there is anything to draw.
    pub(super) fn has_values(&self) -> bool {
        self.curves.iter().any(|curve| curve.values().next().is_some())
    }

    /// The drawing.
    ///
    /// # Errors
    /// When the library refuses, which it has no reason to.
    pub(super) fn svg(&self, phases: &[Phase]) -> io::Result<String> {
        let mut svg = String::new();
        self.draw(phases, &mut svg)?;
        let opening = svg.find('>').map_or(0, |end| end + 1);
        let (width, height) = SIZE;
        Ok(format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">{}",
            escape(self.title),
            &svg[opening..]
        ))
    }

    /// What the page's script needs to read values off the drawing, as JSON.
    pub(super) fn data(&self) -> String {
        let axes = self.axes();
        let (width, height) = SIZE;
        let curves = self.curves.iter().filter(|curve| curve.peak().is_some()).map(|curve| {
            let points = thinned(&curve.points, POINTS_COUNT_MAX);
            let points = points.into_iter().map(|(at, it)| json!([rounded(at), it.map(rounded)]));
            let points: Vec<_> = points.collect();
            json!({ "name": curve.name, "colour": curve.colour, "points": points })
        });
        json!({
            "size": [width, height],
            "left": LEFT,
            "right": width - RIGHT,
            "top": ABOVE,
            "bottom": height - BELOW,
            "end": axes.end_s,
            "unit": self.unit,
            "curves": curves.collect::<Vec<_>>(),
        })
        .to_string()
    }

    fn axes(&self) -> Axes {
        let values = || self.curves.iter().flat_map(Curve::values).filter(|it| it.is_finite());
        let highest = values().fold(0.0, f64::max);
        let times = self.curves.iter().flat_map(|curve| &curve.points).map(|&(at, _)| at);
        let end_s = times.fold(0.0, f64::max).max(1.0);
        let values = if self.log {
            let lowest = values().fold(f64::MAX, f64::min);
            ticks::logarithms(lowest.clamp(1.0, highest.max(1.0)), highest.max(1.0))
        } else {
            ticks::values(highest, self.unit)
        };
        Axes { times: ticks::times(end_s), end_s, values }
    }

    /// A value as it is drawn. Less than one unit of a logarithmic axis is as good as one.
    fn placed(&self, value: f64) -> f64 {
        if self.log { value.max(1.0).log10() } else { value }
    }

    fn label(&self, placed: f64) -> String {
        ticks::value(if self.log { 10f64.powf(placed) } else { placed }, self.unit)
    }

    fn draw(&self, phases: &[Phase], svg: &mut String) -> io::Result<()> {
        let axes = self.axes();
        let bottom = axes.values.first().copied().unwrap_or(0.0);
        let top = axes.values.last().copied().unwrap_or(1.0);
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_top(ABOVE)
            .margin_right(RIGHT)
            .x_label_area_size(BELOW)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(
                Axis::new(0.0..axes.end_s, axes.times.clone()),
                Axis::new(bottom..top, axes.values.clone()),
            )
            .map_err(told)?;
        chart.draw_series(bands(phases, bottom, top)).map_err(told)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(2))
            .axis_style(AXIS.stroke_width(2))
            .x_labels(axes.times.len() + 1)
            .y_labels(axes.values.len() + 1)
            .x_label_formatter(&|at| ticks::time(*at, &axes.times))
            .y_label_formatter(&|placed| self.label(*placed))
            .label_style(("sans-serif", FONT_SIZE, &TEXT))
            .draw()
            .map_err(told)?;
        for curve in &self.curves {
            let colour = COLOURS[curve.colour % COLOURS.len()];
            for run in self.runs(curve) {
                let line = LineSeries::new(run.clone(), colour.stroke_width(4));
                let drawn = match run[..] {
                    [only] => chart.draw_series([Circle::new(only, 4, colour.filled())]).map(drop),
                    _ => chart.draw_series(line).map(drop),
                };
                drawn.map_err(told)?;
            }
        }
        chart
            .draw_series(names(phases, axes.end_s, top + (top - bottom) * NAME_LIFT))
            .map_err(told)?;
        root.present().map_err(told)
    }

    /// What there is to draw of a curve: where it has values, in one piece each.
    fn runs(&self, curve: &Curve) -> Vec<Vec<(f64, f64)>> {
        let points = thinned(&curve.points, POINTS_COUNT_MAX);
        let place = |&(at, value): &Point| (at, self.placed(value.unwrap_or(0.0)));
        let runs = points.split(|(_, value)| value.is_none()).filter(|run| !run.is_empty());
        runs.map(|run| run.iter().map(place).collect()).collect()
    }
}

/// Every second phase is shaded.
fn bands(phases: &[Phase], bottom: f64, top: f64) -> impl Iterator<Item = Rectangle<(f64, f64)>> {
    let shaded = phases.iter().skip(1).step_by(2);
    shaded.map(move |it| Rectangle::new([(it.from_s, top), (it.to_s, bottom)], BAND.filled()))
}

/// The names of the phases that have room for them, above the plot.
fn names(phases: &[Phase], end_s: f64, top: f64) -> Vec<Text<'static, (f64, f64), &'static str>> {
    let units_per_s = f64::from(SIZE.0 - LEFT - RIGHT) / end_s;
    let wide = |phase: &&Phase| (phase.to_s - phase.from_s) * units_per_s;
    let fits = |phase: &&Phase| wide(phase) > phase.name.len() as f64 * LETTER_WIDTH;
    let font = TextStyle::from(("sans-serif", FONT_SIZE).into_font()).color(&TEXT);
    let style = font.pos(Pos::new(HPos::Left, VPos::Bottom));
    let start = |phase: &Phase| (phase.from_s, top);
    let named = phases.iter().filter(fits);
    named.map(|phase| Text::new(phase.name, start(phase), style.clone())).collect()
}

/// At most `count_max` points of many: of each stretch the lowest and the highest, so that no peak
/// is lost. A stretch without a value stays a gap.
pub(super) fn thinned(points: &[Point], count_max: usize) -> Vec<Point> {
    if points.len() <= count_max {
        return points.to_vec();
    }
    let stretches = (count_max / 2).max(1);
    let stretch = |index: usize| index * points.len() / stretches;
    (0..stretches).flat_map(|it| extremes(&points[stretch(it)..stretch(it + 1)])).collect()
}

/// The lowest and the highest, in order of time.
fn extremes(stretch: &[Point]) -> Vec<Point> {
    let with_values = || stretch.iter().filter(|(_, value)| value.is_some());
    let lowest = with_values().min_by(|a, b| by_value(a, b));
    let highest = with_values().max_by(|a, b| by_value(a, b));
    let (Some(&lowest), Some(&highest)) = (lowest, highest) else {
        return stretch.first().map(|&(at, _)| (at, None)).into_iter().collect();
    };
    if lowest.1 == highest.1 {
        vec![lowest]
    } else if lowest.0 <= highest.0 {
        vec![lowest, highest]
    } else {
        vec![highest, lowest]
    }
}

fn by_value(a: &Point, b: &Point) -> std::cmp::Ordering {
    a.1.unwrap_or(0.0).total_cmp(&b.1.unwrap_or(0.0))
}

/// To three decimals, which is enough to be read.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn told(error: DrawingAreaErrorKind<io::Error>) -> io::Error {
    io::Error::other(error.to_string())
}
