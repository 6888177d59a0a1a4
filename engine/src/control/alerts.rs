//! `/alerts`: what an operator should look at, evaluated once a second.
//!
//! Invariants: an alert is raised by the first reading above its threshold and ends only after
//! [`ALERT_CLEAR_S`] good ones in a row; each raising and each end is one line of the log.

use std::collections::VecDeque;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use throng_bridge::Stats;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::{Control, memory, stats};
use crate::app::App;
use crate::clock::wall_ms;
use crate::limits::{ALERT_CLEAR_S, ALERT_RETENTION_S, ALERT_SLOW_WINDOW_S, ALERT_STORE_WINDOW_S};

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// Something gets lost, or soon will.
    Critical,
    /// It can go on for a while.
    Warning,
}

/// One look at something that can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Reading {
    name: &'static str,
    severity: Severity,
    /// `None`: there is nothing where something ought to be.
    value: Option<u64>,
    threshold: u64,
}

impl Reading {
    fn is_bad(&self) -> bool {
        self.value.is_none_or(|value| value > self.threshold)
    }
}

/// An alert as it is shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Alert {
    name: &'static str,
    severity: Severity,
    value: Option<u64>,
    threshold: u64,
    /// When it was raised: milliseconds since 1970.
    since: u64,
    #[serde(skip)]
    good_for_s: u32,
}

/// The alerts that are raised, oldest first.
#[derive(Default)]
pub(super) struct Board {
    raised: Vec<Alert>,
}

impl Board {
    pub(super) fn raised(&self) -> &[Alert] {
        &self.raised
    }

    /// Takes in a second's readings; says what they have raised and ended. What is not read any
    /// more counts as good.
    fn observe(&mut self, readings: &[Reading], now_ms: u64) -> (Vec<Alert>, Vec<Alert>) {
        for alert in &mut self.raised {
            let reading = readings.iter().find(|it| it.name == alert.name);
            alert.value = reading.map_or(alert.value, |it| it.value);
            let is_bad = reading.is_some_and(Reading::is_bad);
            alert.good_for_s = if is_bad { 0 } else { alert.good_for_s + 1 };
        }
        let mut ended = mem::take(&mut self.raised);
        self.raised = ended.extract_if(.., |it| it.good_for_s < ALERT_CLEAR_S).collect();
        let is_new = |it: &&Reading| !self.raised.iter().any(|alert| alert.name == it.name);
        let new = readings.iter().filter(|it| it.is_bad()).filter(is_new).map(|it| Alert {
            name: it.name,
            severity: it.severity,
            value: it.value,
            threshold: it.threshold,
            since: now_ms,
            good_for_s: 0,
        });
        let new: Vec<_> = new.collect();
        self.raised.extend(new.iter().cloned());
        (new, ended)
    }
}

/// By how much a count has risen over the last seconds.
struct Rise {
    totals: VecDeque<u64>,
    seconds: usize,
}

impl Rise {
    fn over(seconds: usize) -> Self {
        Self { totals: VecDeque::new(), seconds }
    }

    /// Takes in the total of this second. One that has fallen was begun anew.
    fn push(&mut self, total: u64) -> u64 {
        if self.totals.back().is_some_and(|last| *last > total) {
            self.totals = VecDeque::from([0]);
        }
        self.totals.push_back(total);
        while self.totals.len() > self.seconds + 1 {
            self.totals.pop_front();
        }
        self.totals.front().map_or(0, |first| total - first)
    }
}

/// The mean of what a histogram has taken in over the last seconds.
struct Mean {
    count: Rise,
    sum: Rise,
}

impl Mean {
    fn new() -> Self {
        let rise = || Rise::over(ALERT_STORE_WINDOW_S);
        Self { count: rise(), sum: rise() }
    }

    fn push(&mut self, histogram: &Histogram<u64>) -> u64 {
        let sum = (histogram.mean() * histogram.len() as f64) as u64;
        let (count, sum) = (self.count.push(histogram.len()), self.sum.push(sum));
        sum.checked_div(count).unwrap_or(0)
    }
}

/// What readings need of earlier seconds.
struct Watch {
    slow: Rise,
    appends_us: Mean,
    reads_us: Mean,
}

/// Watches, once a second.
pub(super) async fn watch<A: App>(control: Arc<Control<A>>) {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let slow = Rise::over(ALERT_SLOW_WINDOW_S);
    let mut watch = Watch { slow, appends_us: Mean::new(), reads_us: Mean::new() };
    loop {
        tick.tick().await;
        let now_ms = wall_ms();
        let mut readings = Vec::new();
        watch.read_host(&control, &mut readings);
        watch.read_store(&control, now_ms, &mut readings);
        read_fleet(&control, now_ms, &mut readings);
        let (raised, ended) = control.board().observe(&readings, now_ms);
        for Alert { name, value, threshold, .. } in raised {
            warn!(alert = name, value, threshold, "alert");
        }
        for Alert { name, since, .. } in ended {
            let seconds = now_ms.saturating_sub(since) / 1000;
            info!(alert = name, seconds, "alert is over");
        }
    }
}

/// Adds a reading that has a threshold.
fn add(
    readings: &mut Vec<Reading>,
    (name, severity): (&'static str, Severity),
    value: Option<u64>,
    threshold: Option<u32>,
) {
    let reading = |threshold| Reading { name, severity, value, threshold: u64::from(threshold) };
    readings.extend(threshold.map(reading));
}

impl Watch {
    fn read_host<A: App>(&mut self, control: &Control<A>, readings: &mut Vec<Reading>) {
        let limits = &control.config.alerts;
        let slow = self.slow.push(stats::sum(control, |cells| cells.closed_slow_consumer.read()));
        let connections = control.connections() * 100 / control.connections_max.max(1);
        // Where the kernel does not say how full it is, there is nothing to say.
        if let Some(percent) = memory::percent() {
            let kind = ("memory", Severity::Critical);
            add(readings, kind, Some(percent), limits.memory_percent);
        }
        let kind = ("connections", Severity::Warning);
        add(readings, kind, Some(connections), limits.connections_percent);
        add(readings, ("slow_consumers", Severity::Warning), Some(slow), limits.slow_consumers);
    }

    fn read_store<A: App>(
        &mut self,
        control: &Control<A>,
        now_ms: u64,
        readings: &mut Vec<Reading>,
    ) {
        let Some(store) = &control.store else { return };
        let (limits, stats) = (&control.config.alerts, &store.stats);
        let count = |count: &std::sync::atomic::AtomicU64| Some(count.load(Ordering::Relaxed));
        let answers =
            [(&mut self.appends_us, &stats.append_us), (&mut self.reads_us, &stats.read_us)];
        let means = answers.map(|(mean, histogram)| mean.push(&stats::locked(histogram)));
        let slowest_ms = means.into_iter().max().map(|us| us / 1000);
        let queued = count(&stats.queued_messages);
        add(readings, ("queue_depth", Severity::Warning), queued, limits.queue_depth);
        add(readings, ("store_response", Severity::Warning), slowest_ms, limits.store_ms);
        let down = down_seconds(stats, now_ms);
        add(readings, ("store_down", Severity::Critical), Some(down), Some(0));
        add(readings, ("parked_messages", Severity::Warning), count(&stats.parked), Some(0));
        add(readings, ("unparked_messages", Severity::Critical), count(&stats.unparked), Some(0));
        if control.config.message_retention.or(control.config.user_retention).is_some() {
            let swept_at_ms = stats.swept_at_ms.load(Ordering::Relaxed).max(control.started_ms);
            let age = now_ms.saturating_sub(swept_at_ms) / 1000;
            let limit = Some(ALERT_RETENTION_S as u32);
            add(readings, ("retention", Severity::Warning), Some(age), limit);
        }
        if let (Some(age), Some(folder)) = (limits.backup_age, &store.backups) {
            let limit = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
            let age = backup_age_s(folder);
            add(readings, ("backup_age", Severity::Warning), age, Some(limit));
        }
    }
}

fn read_fleet<A: App>(control: &Control<A>, now_ms: u64, readings: &mut Vec<Reading>) {
    let Some(fleet) = &control.fleet else { return };
    let limits = &control.config.alerts;
    let down = fleet.down_seconds(now_ms);
    add(readings, ("redis_down", Severity::Critical), Some(down), Some(0));
    // A host that has never heard itself has been deaf since its start.
    let deaf_ms = now_ms.saturating_sub(control.started_ms);
    let age_ms = fleet.echo_age_ms(now_ms).unwrap_or(deaf_ms);
    add(readings, ("redis_echo_late", Severity::Critical), Some(age_ms), limits.echo_ms);
    let waiting = fleet.stats.outbox_messages.load(Ordering::Relaxed);
    add(readings, ("redis_outbox", Severity::Warning), Some(waiting), limits.outbox);
}

/// Seconds since the store has last answered, at least one; 0: it does.
pub(super) fn down_seconds(stats: &Stats, now_ms: u64) -> u64 {
    match stats.down_since_ms.load(Ordering::Relaxed) {
        0 => 0,
        since_ms => (now_ms.saturating_sub(since_ms) / 1000).max(1),
    }
}

/// Seconds since the newest backup of a folder was made. One from the future is new.
pub(super) fn backup_age_s(folder: &Path) -> Option<u64> {
    let made_ms = throng_bridge::backup::last_backup_ms(folder)?;
    Some(wall_ms().saturating_sub(made_ms) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(value: u64) -> Reading {
        Reading { name: "load", severity: Severity::Warning, value: Some(value), threshold: 80 }
    }

    #[test]
    fn an_alert_is_raised_above_its_threshold_and_says_since_when() {
        let mut board = Board::default();
        assert_eq!(board.observe(&[reading(80)], 1000), (vec![], vec![]));
        let (raised, _) = board.observe(&[reading(81)], 2000);
        assert_eq!(raised, board.raised());
        assert_eq!(board.observe(&[reading(99)], 3000), (vec![], vec![]), "it is raised once");
        let shown = serde_json::to_string(board.raised()).expect("JSON");
        let expected =
            r#"[{"name":"load","severity":"warning","value":99,"threshold":80,"since":2000}]"#;
        assert_eq!(shown, expected);
    }

    #[test]
    fn it_ends_only_after_good_seconds_in_a_row() {
        let mut board = Board::default();
        board.observe(&[reading(81)], 0);
        for second in 1..u64::from(ALERT_CLEAR_S) {
            assert_eq!(board.observe(&[reading(80)], second), (vec![], vec![]));
        }
        board.observe(&[reading(81)], 100);
        for second in 1..u64::from(ALERT_CLEAR_S) {
            assert_eq!(board.observe(&[reading(0)], 100 + second), (vec![], vec![]));
        }
        assert_eq!((board.raised().len(), board.raised()[0].since), (1, 0), "it was never over");
        let (raised, ended) = board.observe(&[reading(0)], 200);
        assert_eq!((raised.len(), ended.len(), board.raised().len()), (0, 1, 0));
        let (raised, _) = board.observe(&[reading(81)], 300);
        assert_eq!(raised[0].since, 300, "it is another one");
    }

    #[test]
    fn what_is_no_longer_read_ends_and_what_is_missing_is_bad() {
        let mut board = Board::default();
        let missing = Reading { value: None, ..reading(0) };
        assert_eq!(board.observe(&[missing], 0).0.len(), 1);
        let ended: usize = (0..ALERT_CLEAR_S).map(|_| board.observe(&[], 1).1.len()).sum();
        assert_eq!((ended, board.raised().len()), (1, 0));
    }

    #[test]
    fn a_rise_is_over_the_last_seconds_alone() {
        let mut rise = Rise::over(2);
        let rises: Vec<_> = [5, 7, 10, 10, 11, 3, 4].map(|total| rise.push(total)).into();
        assert_eq!(rises, [0, 2, 5, 3, 1, 3, 4], "what falls was begun anew");
    }

    #[test]
    fn the_mean_forgets_what_is_long_past() {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("valid");
        let mut mean = Mean::new();
        mean.push(&histogram);
        histogram.record_n(500_000, 10).expect("within bounds");
        let high = mean.push(&histogram);
        assert!((490_000..510_000).contains(&high), "{high}");
        for _ in 0..ALERT_STORE_WINDOW_S {
            mean.push(&histogram);
        }
        assert_eq!(mean.push(&histogram), 0, "nothing was asked since");
        histogram.record_n(1000, 10).expect("within bounds");
        let low = mean.push(&histogram);
        assert!((900..1200).contains(&low), "{low}");
    }

    #[test]
    fn a_store_that_is_down_is_down_for_a_second_at_least() {
        let stats = Stats::default();
        assert_eq!(down_seconds(&stats, 5000), 0);
        stats.down_since_ms.store(5000, Ordering::Relaxed);
        assert_eq!((down_seconds(&stats, 5000), down_seconds(&stats, 65_000)), (1, 60));
    }
}
