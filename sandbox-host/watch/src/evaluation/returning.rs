//! Loads that return or grow, with the numbers that operators complain about. They are replayed by
//! a monitor for weeks, with a few minutes a day.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests"
)]

use std::time::UNIX_EPOCH;

use tensorgate_policy::values::WatchRule;

use crate::observation::Observation;
use crate::rules;
use crate::time::Time;
use crate::{Alert, Monitor};

const MINUTE_S: u64 = 60;
const HOUR: u64 = 60;
const DAY: u64 = 24 * HOUR;

/// The logged alerts about the volume of a client that sends so many requests in a minute of a day:
/// the day and the minute.
fn alerts(days: u64, volume: impl Fn(u64, u64) -> u32) -> Vec<(u64, u64)> {
    let rules = rules::all().into_iter();
    let rules = rules.filter(|rule| rule.id() == WatchRule::Volume);
    let mut monitor = Monitor::new(rules.collect());
    let seen = Observation {
        client: Some("batch".to_owned()),
        ..Observation::default()
    };
    let mut alerts = Vec::new();
    for minute in 0..days * DAY {
        let now = Time::of_window(minute, MINUTE_S);
        for _ in 0..volume(minute / DAY, minute % DAY) {
            let raised = monitor.observe(&seen, now, UNIX_EPOCH);
            if raised.iter().any(|alert: &Alert| alert.is_logged) {
                alerts.push((minute / DAY, minute % DAY));
            }
        }
    }
    alerts
}

#[test]
fn a_nightly_batch_is_reported_in_three_of_28_nights_and_a_thief_who_repeats_it_by_day() {
    let batch = |day: u64, minute: u64| match minute {
        120..124 if day > 0 => 400,
        // By day, when the client has sent its usual requests.
        540..720 => 20,
        840..844 if day == 20 => 400,
        _ => 0,
    };
    let expected = [(1, 123), (2, 123), (3, 123), (20, 843)];
    assert_eq!(alerts(28, batch), expected);
}

#[test]
fn an_hourly_job_is_reported_three_times_in_14_days_though_it_was_not_learned_at_the_start() {
    let job = |_: u64, minute: u64| match minute % HOUR {
        40..43 => 120,
        _ => 2,
    };
    assert_eq!(alerts(14, job), [(0, 43), (0, 103), (0, 163)]);
}

#[test]
fn a_thief_who_sends_more_each_day_stays_below_twofold_a_week_or_is_reported() {
    let thief = |growth: f64| {
        move |day: u64, minute: u64| {
            let days = day.saturating_sub(7) as f64;
            let requests = 20.0 * growth.powf(days);
            if (600..630).contains(&minute) {
                requests as u32
            } else {
                0
            }
        }
    };
    // 1.1 is 1.95 times a week, and 1.25 is 4.8 times.
    assert!(alerts(28, thief(1.1)).is_empty());
    assert_eq!(alerts(20, thief(1.25)), [(19, 603)]);
    assert_eq!(alerts(13, thief(1.5)), [(12, 603)]);
}
