//! Reports of made-up runs: complete, escaped, and of themselves.

use serde_json::json;

use super::plot::{Point, thinned};
use super::*;
use crate::outcome::{Bound, Figure};
use crate::sample::ServerSample;
use crate::stats::{Percentiles, Totals};

fn sample(second: u64, cores: usize) -> Sample {
    let at_s = second as f64;
    let times = Percentiles {
        p50_us: 900 + second % 7,
        p90_us: 2_000,
        p99_us: 3_400,
        p999_us: 5_600 + 10 * (second % 90),
        max_us: if second == 77 { 250_000 } else { 12_345 },
        count: 10,
    };
    let totals = Totals { ready: second * 100, gaps: second / 50, ..Totals::default() };
    let server = ServerSample {
        cores: Some(1.5),
        user_bytes: Some(second * 46_000),
        kernel_bytes: (second > 5).then_some(second * 200_000),
        troubles: vec![("refused_<full>".to_owned(), 12)],
        ..ServerSample::default()
    };
    Sample {
        at_s,
        phase: if second < 60 { "connecting" } else { "sending" },
        period_s: 1.0,
        totals,
        period: Totals { sent: 100, delivered: 10_000, ..Totals::default() },
        opening: 10,
        latency: (second >= 60).then_some(times),
        connect: (second < 60).then_some(times),
        lag: None,
        load_cores: 0.75,
        cores: vec![0.5; cores],
        server: (second % 10 != 3).then_some(server),
    }
}

fn outcome() -> Outcome {
    let late = Figure::new("p99_us", "<b>late</b>", 3400.0, "µs").must_be(Bound::AtMost(5e3));
    Outcome {
        workload: "rooms",
        what: "a \"quick\" <script>alert(1)</script> & more".to_owned(),
        figures: vec![late],
        bottleneck: Some("it was <slow>".to_owned()),
        notes: vec!["a <note>".to_owned()],
    }
}

fn count(page: &str, part: &str) -> usize {
    page.matches(part).count()
}

fn assert_well_formed(page: &str) {
    let tags = [
        "html",
        "head",
        "body",
        "main",
        "header",
        "section",
        "figure",
        "figcaption",
        "svg",
        "table",
        "tbody",
        "tr",
        "td",
        "ul",
        "li",
        "div",
        "script",
        "style",
        "p",
        "text",
    ];
    for tag in tags {
        let opened = count(page, &format!("<{tag}>")) + count(page, &format!("<{tag} "));
        assert_eq!(opened, count(page, &format!("</{tag}>")), "<{tag}>");
    }
    let outside = ["http://", "https://", "url(", "@import", " src=", " href=", "NaN", "inf"];
    for part in outside {
        assert!(!page.contains(part), "{part}");
    }
}

#[test]
fn report_has_every_plot_and_nothing_from_outside() {
    let samples: Vec<_> = (1..=120).map(|second| sample(second, 2)).collect();
    let settings = json!({ "target": "ws://<host>", "rooms": 7, "pid": null });
    let page = page(&outcome(), &samples, &settings).expect("drawn");
    assert_well_formed(&page);
    assert_eq!(count(&page, "<svg"), 9, "all but the lag");
    for part in ["<h3>Latency</h3>", "\nconnecting\n", "\nsending\n", "core 1", "peak 250 ms"] {
        assert!(page.contains(part), "{part} is missing");
    }
    for escaped in ["&lt;script&gt;alert", "&lt;b&gt;late", "&lt;slow&gt;", "ws://&lt;host&gt;"] {
        assert!(page.contains(escaped), "{escaped} is missing");
    }
    assert!(!page.contains("<script>alert") && !page.contains("refused_<full>"));
}

#[test]
fn report_of_nothing_is_a_page() {
    let nothing = page(&outcome(), &[], &Value::Null).expect("drawn");
    assert_well_formed(&nothing);
    assert_eq!(count(&nothing, "<svg"), 0);
    for samples in [vec![sample(1, 0)], vec![sample(70, 0); 3]] {
        assert_well_formed(&page(&outcome(), &samples, &json!(["odd"])).expect("drawn"));
    }
}

#[test]
fn long_runs_and_many_cores_stay_small() {
    let samples: Vec<_> = (1..=30_000).map(|second| sample(second, 64)).collect();
    let page = page(&outcome(), &samples, &Value::Null).expect("drawn");
    assert_well_formed(&page);
    assert!(page.len() < 4_000_000, "{}", page.len());
    assert!(page.contains("peak 250 ms") && page.contains("least busy"));
}

#[test]
fn thinning_keeps_peaks_dips_and_gaps() {
    let flat = |index: usize| match index {
        12_345 => Some(9e9),
        54_321 => Some(-1.0),
        70_000..80_000 => None,
        _ => Some((index % 3) as f64),
    };
    let points: Vec<Point> = (0..100_000).map(|index| (index as f64, flat(index))).collect();
    let thin = thinned(&points, 2000);
    assert!(thin.len() <= 2000);
    assert!(thin.contains(&(12_345.0, Some(9e9))) && thin.contains(&(54_321.0, Some(-1.0))));
    assert!(thin.iter().filter(|(_, value)| value.is_none()).count() >= 99);
    assert!(thin.is_sorted_by(|a, b| a.0 < b.0));
    assert_eq!(thinned(&points[..2000], 2000), &points[..2000]);
    assert!(thinned(&[], 2000).is_empty());
}

#[test]
fn report_is_written_to_its_file() {
    let path = std::env::temp_dir().join(format!("throng-report-{}.html", std::process::id()));
    write(&path, &outcome(), &[sample(1, 1)], &Value::Null).expect("written");
    let written = fs::read_to_string(&path).expect("there");
    fs::remove_file(&path).expect("ours");
    assert!(written.starts_with("<!doctype html>") && written.ends_with("</html>\n"));
}
