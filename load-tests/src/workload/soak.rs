//! Does it stay as it is for hours: does memory grow, is anything ever lost?

use std::io;
use std::time::Duration;

use super::Run;
use super::chat::{self, People};
use crate::cli::{Common, some_time};
use crate::outcome::{Bound, Figure, Outcome};
use crate::sample::Sample;

/// Share of the run that does not count for the slope: caches fill, pages are touched.
const WARM: f64 = 0.2;

/// Its options.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// What all workloads have in common.
    #[command(flatten)]
    pub common: Common,
    /// What people do.
    #[command(flatten)]
    pub people: People,
    /// How long
    #[arg(long, default_value = "1h", value_parser = some_time)]
    pub time: Duration,
    /// Growth of the server's user memory above which the run fails, in MiB per hour
    #[arg(long, default_value_t = 16.0)]
    pub slope_max: f64,
}

/// Lets people do what they do for hours.
///
/// # Errors
/// When a worker has ended, or the settings are wrong.
pub fn run(options: &Options) -> io::Result<bool> {
    let mut run = Run::start(&options.common, 1000)?;
    run.bring_up("connecting", options.people.ascent())?;
    options.people.start(&mut run)?;
    let begin_s = run.crew.samples.last().map_or(0.0, |sample| sample.at_s);
    let measured = run.pass("soaking", options.time)?;
    let from_s = begin_s + WARM * measured.seconds;
    let user = slope(&run.crew.samples, from_s, |server| server.user_bytes);
    let kernel = slope(&run.crew.samples, from_s, |server| server.kernel_bytes);
    chat::settle(&mut run)?;
    let mib = |slope: Slope| slope.per_hour / f64::from(1 << 20);
    // Noise is not growth: what counts is what the slope surely is.
    let surely = user.map(|it| (it.per_hour - 2.0 * it.error_per_hour) / f64::from(1 << 20));
    let mut figures = vec![
        Figure::maybe(
            "user_mib_per_hour",
            "growth of the server's user memory",
            user.map(mib),
            "MiB/h",
        ),
        Figure::maybe(
            "user_mib_per_hour_surely",
            "of it beyond doubt (two standard errors)",
            surely,
            "MiB/h",
        )
        .must_be(Bound::AtMost(options.slope_max)),
        Figure::maybe(
            "kernel_mib_per_hour",
            "growth of the host's slabs",
            kernel.map(mib),
            "MiB/h",
        ),
    ];
    figures.extend(chat::figures(&run.crew.totals(), &measured, run.connections));
    let mut notes = Vec::new();
    if user.is_none() {
        notes.push("the server's memory was not seen: give --server-pid or --metrics".into());
    } else if measured.seconds < 600.0 {
        notes.push("a slope over less than ten minutes says little".into());
    }
    let outcome = Outcome {
        workload: "soak",
        what: run.what(&format!(", {:?}", options.time)),
        figures,
        bottleneck: measured.bottleneck,
        notes,
    };
    run.finish(outcome)
}

#[derive(Clone, Copy, Debug)]
struct Slope {
    per_hour: f64,
    error_per_hour: f64,
}

/// The line through what the server's memory was from `from_s` on, by least squares.
fn slope(
    samples: &[Sample],
    from_s: f64,
    of: impl Fn(&crate::sample::ServerSample) -> Option<u64>,
) -> Option<Slope> {
    let points: Vec<(f64, f64)> = samples
        .iter()
        .filter(|sample| sample.at_s >= from_s)
        .filter_map(|sample| Some((sample.at_s / 3600.0, of(sample.server.as_ref()?)? as f64)))
        .collect();
    if points.len() < 3 {
        return None;
    }
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let per_hour = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    let rest: f64 =
        points.iter().map(|point| (point.1 - y - per_hour * (point.0 - x)).powi(2)).sum();
    Some(Slope { per_hour, error_per_hour: (rest / (count - 2.0) / spread).sqrt() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ServerSample;
    use crate::stats::Totals;

    fn sample(at_s: f64, user_bytes: u64) -> Sample {
        Sample {
            at_s,
            phase: "soaking",
            period_s: 1.0,
            totals: Totals::default(),
            period: Totals::default(),
            opening: 0,
            latency: None,
            connect: None,
            lag: None,
            load_cores: 0.0,
            cores: Vec::new(),
            server: Some(ServerSample { user_bytes: Some(user_bytes), ..ServerSample::default() }),
        }
    }

    #[test]
    fn a_leak_is_told_from_noise() {
        let noise = |second: u64| second * 7919 % 1000;
        let leaking: Vec<_> =
            (0..600).map(|s| sample(s as f64, 1_000_000 + s * 1000 + noise(s))).collect();
        let steady: Vec<_> = (0..600).map(|s| sample(s as f64, 1_000_000 + noise(s))).collect();
        let leak = slope(&leaking, 60.0, |it| it.user_bytes).expect("points");
        assert!((leak.per_hour - 3_600_000.0).abs() < 20_000.0, "{leak:?}");
        let none = slope(&steady, 60.0, |it| it.user_bytes).expect("points");
        assert!(none.per_hour - 2.0 * none.error_per_hour < 3000.0, "{none:?}");
        assert!(slope(&steady, 1e9, |it| it.user_bytes).is_none());
    }
}
