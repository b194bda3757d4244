//! A replay through the rules of the sandbox host, with recorded times in place of a clock: in the
//! first forty minutes the predictions are the labels of held-out digits, then all are one class.

use std::iter::repeat;
use std::ops::Range;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use tensorgate_audit::record::Verdict;
use tensorgate_policy::release::TopClass;
use tensorgate_watch::time::Time;
use tensorgate_watch::{Alert, Monitor, Observation};

use crate::split::Split;

/// The rule that is shown.
const RULE: &str = "class-dominance";
/// When the attack starts, and when the replay ends.
const ATTACK_S: u64 = 2_400;
const END_S: u64 = 3_600;
/// Seconds between two predictions: sixty in each window of the rule.
const INTERVAL_S: usize = 5;
/// The class that the attack has predicted.
const CLASS: usize = 3;

/// Replays an hour. Returns the subject of the alert; an error if there is none, or one before the
/// attack.
pub fn class_dominance(split: &Split) -> Result<String> {
    let mut monitor = Monitor::default();
    let labels = (0..split.count()).map(|index| usize::from(split.label(index)));
    let usual = predict(&mut monitor, 0..ATTACK_S, labels.cycle());
    ensure!(usual.is_empty(), "an alert on usual predictions");
    let attack = predict(&mut monitor, ATTACK_S..END_S, repeat(CLASS));
    let alert = attack.iter().find(|alert| alert.rule == RULE);
    let alert = alert.context("no alert in the replay")?;
    Ok(alert.finding.subject.to_string())
}

/// Shows predictions of these classes to the rules. Returns all alerts.
fn predict(
    monitor: &mut Monitor,
    seconds: Range<u64>,
    classes: impl Iterator<Item = usize>,
) -> Vec<Alert> {
    let times = seconds.step_by(INTERVAL_S);
    let alerts = times.zip(classes).flat_map(|(second, class)| {
        let seen = Observation {
            model: Some("digits".to_owned()),
            is_inference: true,
            verdict: Verdict::Allow,
            status: 200,
            total_us: 1_000,
            top_class: Some(TopClass {
                class,
                confidence: 990_000,
            }),
            ..Observation::default()
        };
        monitor.observe(&seen, Time::from_s(second), SystemTime::UNIX_EPOCH)
    });
    alerts.collect()
}
