//! Which plots a report has, made of the samples of a run.

use super::plot::{Curve, Plot};
use crate::sample::{Sample, ServerSample};
use crate::stats::{Percentiles, Totals};

/// More phases than this would be stripes, not bands.
const PHASES_COUNT_MAX: usize = 60;

/// More cores than this are told by the least busy, the mean and the busiest.
const CORES_COUNT_MAX: usize = 8;

/// What the run was doing, and from when to when.
#[derive(Debug, PartialEq)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) from_s: f64,
    pub(super) to_s: f64,
}

/// The phases in order, each beginning where the one before ended.
pub(super) fn phases(samples: &[Sample]) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    for sample in samples {
        match phases.last_mut() {
            Some(last) if last.name == sample.phase => last.to_s = sample.at_s,
            last => {
                let from_s = last.map_or(sample.at_s - sample.period_s, |last| last.to_s);
                phases.push(Phase {
                    name: sample.phase,
                    from_s: from_s.max(0.0),
                    to_s: sample.at_s,
                });
            }
        }
    }
    if phases.len() > PHASES_COUNT_MAX { Vec::new() } else { phases }
}

/// Every plot, also those without a value.
pub(super) fn plots(samples: &[Sample]) -> Vec<Plot> {
    vec![
        connections(samples),
        rate(samples, "Messages delivered", 0, |it| it.delivered),
        rate(samples, "Messages sent", 1, |it| it.sent),
        times(
            samples,
            "Latency",
            "from when a message was due to when it came, each second",
            |it| it.latency,
        ),
        times(
            samples,
            "Time to connect",
            "from the first step to being in the room, each second",
            |it| it.connect,
        ),
        memory(samples),
        busy(samples),
        host(samples),
        times(
            samples,
            "Lag of the generator",
            "how late messages left it; it is not the server's",
            |it| it.lag,
        ),
        wrong(samples),
    ]
}

fn curve(
    samples: &[Sample],
    name: impl Into<String>,
    colour: usize,
    value: impl Fn(&Sample) -> Option<f64>,
) -> Curve {
    let points = samples.iter().map(|it| (it.at_s, value(it))).collect();
    Curve { name: name.into(), colour, points }
}

fn connections(samples: &[Sample]) -> Plot {
    Plot {
        title: "Connections",
        about: "those in their rooms, and those on their way",
        unit: "",
        log: false,
        curves: vec![
            curve(samples, "up", 0, |it| Some(it.totals.ready as f64)),
            curve(samples, "opening", 1, |it| Some(it.opening as f64)),
        ],
    }
}

/// One plot each: a message may come to thousands of deliveries.
fn rate(samples: &[Sample], title: &'static str, colour: usize, of: fn(&Totals) -> u64) -> Plot {
    let name = title.rsplit(' ').next().unwrap_or(title);
    let value = |it: &Sample| Some(of(&it.period) as f64 / it.period_s.max(1e-3));
    let curves = vec![curve(samples, name, colour, value)];
    Plot { title, about: "per second", unit: "/s", log: false, curves }
}

fn times(
    samples: &[Sample],
    title: &'static str,
    about: &'static str,
    of: fn(&Sample) -> Option<Percentiles>,
) -> Plot {
    let percentile = |name, colour, which: fn(Percentiles) -> u64| {
        curve(samples, name, colour, move |it| of(it).map(|times| which(times) as f64))
    };
    Plot {
        title,
        about,
        unit: "µs",
        log: true,
        curves: vec![
            percentile("max", 7, |it| it.max_us),
            percentile("p99.9", 3, |it| it.p999_us),
            percentile("p99", 2, |it| it.p99_us),
            percentile("p50", 0, |it| it.p50_us),
        ],
    }
}

fn of_server(
    samples: &[Sample],
    name: &str,
    colour: usize,
    value: fn(&ServerSample) -> Option<f64>,
) -> Curve {
    curve(samples, name, colour, |it| it.server.as_ref().and_then(value))
}

fn memory(samples: &[Sample]) -> Plot {
    Plot {
        title: "Memory",
        about: "the server's process, and the growth of the kernel's slabs: both ends, where both \
                are on this host",
        unit: "bytes",
        log: false,
        curves: vec![
            of_server(samples, "server, user", 0, |it| it.user_bytes.map(|count| count as f64)),
            of_server(samples, "kernel", 6, |it| it.kernel_bytes.map(|count| count as f64)),
        ],
    }
}

fn busy(samples: &[Sample]) -> Plot {
    Plot {
        title: "CPU",
        about: "cores that each side kept busy",
        unit: "cores",
        log: false,
        curves: vec![
            of_server(samples, "server", 0, |it| it.cores),
            curve(samples, "generator", 1, |it| Some(it.load_cores)),
        ],
    }
}

fn host(samples: &[Sample]) -> Plot {
    let count = samples.iter().map(|it| it.cores.len()).max().unwrap_or(0);
    let percent = |busy: f64| busy * 100.0;
    let curves = if count <= CORES_COUNT_MAX {
        let core = |index: usize| {
            let value = move |it: &Sample| it.cores.get(index).copied().map(percent);
            curve(samples, format!("core {index}"), index, value)
        };
        (0..count).map(core).collect()
    } else {
        let of = |name, colour, value: fn(&[f64]) -> f64| {
            let value =
                move |it: &Sample| (!it.cores.is_empty()).then(|| percent(value(&it.cores)));
            curve(samples, name, colour, value)
        };
        vec![
            of("busiest", 7, |cores| cores.iter().copied().fold(0.0, f64::max)),
            of("mean", 0, |cores| cores.iter().sum::<f64>() / cores.len() as f64),
            of("least busy", 2, |cores| cores.iter().copied().fold(f64::MAX, f64::min)),
        ]
    };
    let about = "how busy each core of the host was, whoever used it";
    Plot { title: "CPU per core", about, unit: "%", log: false, curves }
}

/// Counts since the run began; those that stay zero are left out.
fn wrong(samples: &[Sample]) -> Plot {
    type Count = (&'static str, usize, fn(&Totals) -> u64);
    let counts: [Count; 8] = [
        ("gaps", 7, |it| it.gaps),
        ("duplicates", 6, |it| it.duplicates),
        ("reordered", 4, |it| it.reordered),
        ("foreign", 5, |it| it.foreign),
        ("answers that say no", 1, |it| it.errors),
        ("connections lost", 0, |it| it.lost),
        ("connections refused", 3, |it| it.refused),
        ("announced as missing", 2, |it| it.announced),
    ];
    let some = counts.iter().filter(|(_, _, count)| samples.iter().any(|it| count(&it.totals) > 0));
    let curves = some
        .map(|&(name, colour, count)| {
            curve(samples, name, colour, move |it| Some(count(&it.totals) as f64))
        })
        .collect();
    Plot { title: "What went wrong", about: "since the run began", unit: "", log: false, curves }
}
