//! Evaluates the rules on many generated days: false alarms a week, minutes until an attack is
//! reported, and what is missed. Thresholds, attacks and changes were fixed on one seed.
//!
//! The short form is a test of each build: a day with some of the attacks. The full one prints the
//! tables of `docs/explanation/alerts.md`: two weeks of normal days, then each attack on a day of
//! its own. It fails if a rule is late on the seed on which all was fixed.
//!
//! ```sh
//! WATCH_EVALUATION=full cargo test --release -p tensorgate-watch evaluation -- --nocapture
//! ```

#![allow(clippy::arithmetic_side_effects, reason = "tests")]

mod attacks;
mod changes;
mod returning;

use std::collections::{BTreeMap, BTreeSet};
use std::iter::{Peekable, from_fn};
use std::time::{Duration, UNIX_EPOCH};

use attacks::{ATTACKS, Attack, Day};

use super::{Alert, Monitor};
use crate::day::{Random, Request, days};
use crate::time::Time;

/// The seed of the days on which all was fixed.
const FIXED_ON: u64 = 1;
/// The seeds of the days that report on it.
const REPORTED: [u64; 5] = [2, 3, 4, 5, 6];
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// The days of a week.
const WEEK: u64 = 7;
/// The weeks without an attack.
const WEEKS: usize = 2;
/// Selects the full form.
const FORM: &str = "WATCH_EVALUATION";
/// The most minutes until an attack of the short form is reported.
const SHORT_WITHIN: u64 = 120;
/// Rules that are quiet in the first night, when others learn the jobs.
const QUIET: [&str; 9] = [
    "server-errors",
    "spraying-clients",
    "spraying-sources",
    "credential-guessing",
    "probing",
    "management",
    "handler-faults",
    "class-dominance",
    "prediction-drift",
];

/// An alert with the time of the request that raised it.
type Timed = (u64, Alert);

/// What was reported on the days of a seed.
#[derive(Default)]
struct Outcome {
    /// The alerts of days without an attack in each week, by rule and subject.
    false_alarms: BTreeMap<(&'static str, String), [usize; WEEKS]>,
    /// The minutes until each attack was reported.
    delays: Vec<Option<u64>>,
}

impl Outcome {
    /// Counts the alerts of a day without an attack, by its number.
    fn count(&mut self, alerts: &[Timed], number: u64) {
        let week = usize::try_from(number / WEEK).unwrap_or_default();
        for (_, alert) in alerts {
            let subject = &alert.finding.subject;
            let about = if subject.is_source() {
                "a source".to_owned()
            } else {
                subject.to_string()
            };
            let weeks = self.false_alarms.entry((alert.rule, about)).or_default();
            if let Some(count) = weeks.get_mut(week) {
                *count += 1;
            }
        }
    }
}

/// Replays days without an attack, then a day with each attack.
fn evaluate(seed: u64) -> Outcome {
    let mut monitor = Monitor::default();
    let mut outcome = Outcome::default();
    let normal_days = WEEK * WEEKS as u64;
    let mut requests = days(seed, normal_days + ATTACKS.len() as u64).peekable();
    for number in 0..normal_days {
        let day = next_day(&mut requests, seed, number);
        outcome.count(&replay(&mut monitor, number, day.requests), number);
    }
    for (number, attack) in (normal_days..).zip(ATTACKS) {
        let mut day = next_day(&mut requests, seed, number);
        day.start_ms += attack.start * MINUTE_MS;
        let start_ms = day.start_ms;
        (attack.add)(&mut day);
        let alerts = replay(&mut monitor, number, day.requests);
        outcome.delays.push(delay(&alerts, attack, start_ms));
    }
    outcome
}

/// The next day, with the changes of its operator. Its attack starts with it.
fn next_day(requests: &mut Peekable<impl Iterator<Item = Request>>, seed: u64, number: u64) -> Day {
    let end_ms = (number + 1) * DAY_MS;
    let mut day = Day {
        requests: from_fn(|| requests.next_if(|request| request.ms < end_ms)).collect(),
        random: Random(seed.wrapping_mul(1_000_003).wrapping_add(number)),
        start_ms: number * DAY_MS,
    };
    changes::add(&mut day, number);
    day
}

/// The logged alerts of a day, with their times. So they are those that go out after joining.
fn replay(monitor: &mut Monitor, number: u64, mut requests: Vec<Request>) -> Vec<Timed> {
    let start = Time::from_ms(number * DAY_MS);
    monitor.set_clients(&changes::new_clients(number), start);
    requests.sort_by_key(|request| request.ms);
    let mut logged = Vec::new();
    for request in &requests {
        let ms = request.ms;
        let clock = UNIX_EPOCH + Duration::from_millis(ms);
        let alerts = monitor.observe(&request.seen, request.time(), clock);
        let alerts = alerts.into_iter().filter(|alert| alert.is_logged);
        logged.extend(alerts.map(|alert| (ms, alert)));
    }
    logged
}

/// The minutes until an attack was reported.
fn delay(alerts: &[Timed], attack: &Attack, start_ms: u64) -> Option<u64> {
    let mut alerts = alerts.iter();
    let report = alerts.find(|(ms, alert)| {
        let finding = &alert.finding;
        let text = format!("{} {}", finding.subject, finding.what);
        let is_about_it = attack.rules.contains(&alert.rule) && text.contains(attack.subject);
        *ms >= start_ms && is_about_it
    });
    report.map(|(ms, _)| (ms - start_ms) / MINUTE_MS)
}

/// Prints the tables of some seeds, as the page has them.
fn print(outcomes: &[Outcome]) {
    println!("\n---- false alarms ----\n");
    println!("| rule | alerts about | in the first week | in the second |\n|---|---|---|---|");
    let rows = outcomes.iter().flat_map(|it| it.false_alarms.keys());
    for row in rows.collect::<BTreeSet<_>>() {
        let of_week = |week: usize| {
            in_line(outcomes.iter().map(|outcome| {
                let weeks = outcome.false_alarms.get(row);
                let count = weeks.and_then(|weeks| weeks.get(week));
                count.copied().unwrap_or_default().to_string()
            }))
        };
        let (rule, about) = row;
        println!("| `{rule}` | {about} | {} | {} |", of_week(0), of_week(1));
    }
    let all = |week: usize| {
        in_line(outcomes.iter().map(|outcome| {
            let weeks = outcome.false_alarms.values();
            let counts = weeks.filter_map(|weeks| weeks.get(week));
            counts.sum::<usize>().to_string()
        }))
    };
    println!("| all | | {} | {} |", all(0), all(1));
    println!("\n---- attacks ----\n");
    println!("| attack | rules | minutes until it is reported |\n|---|---|---|");
    for (number, attack) in ATTACKS.iter().enumerate() {
        let delays = in_line(outcomes.iter().map(|outcome| {
            let delay = outcome.delays.get(number).copied().flatten();
            delay.map_or_else(|| "missed".to_owned(), |minutes| minutes.to_string())
        }));
        let rules = attack.rules.iter().map(|rule| format!("`{rule}`"));
        let rules = rules.collect::<Vec<_>>().join(", ");
        println!("| {} | {rules} | {delays} |", attack.name);
    }
    println!("\n---- end ----\n");
}

/// The values of all seeds.
fn in_line(values: impl Iterator<Item = String>) -> String {
    values.collect::<Vec<_>>().join(" ")
}

/// All seeds and attacks. The tables come before anything fails.
fn full() {
    let fixed = evaluate(FIXED_ON);
    print(&REPORTED.map(evaluate));
    for (attack, delay) in ATTACKS.iter().zip(&fixed.delays) {
        let is_in_time = |within: u64| delay.is_some_and(|delay| delay <= within);
        let is_reported = attack.within.is_none_or(is_in_time);
        assert!(is_reported, "{}: {delay:?}", attack.name);
    }
}

/// One day: after a night of jobs, some of the attacks at hours of their own.
fn short() {
    let mut requests = days(FIXED_ON, 1).peekable();
    let mut day = next_day(&mut requests, FIXED_ON, 0);
    let at_hours = |attack: &'static Attack| Some((attack.short_hour? * HOUR_MS, attack));
    let attacks: Vec<_> = ATTACKS.iter().filter_map(at_hours).collect();
    for (start_ms, attack) in &attacks {
        day.start_ms = *start_ms;
        (attack.add)(&mut day);
    }
    let alerts = replay(&mut Monitor::default(), 0, day.requests);
    for (start_ms, attack) in &attacks {
        let delay = delay(&alerts, attack, *start_ms);
        let is_in_time = delay.is_some_and(|delay| delay <= SHORT_WITHIN);
        assert!(is_in_time, "{}: {delay:?}", attack.name);
    }
    let first_ms = attacks.iter().map(|(start_ms, _)| *start_ms).min();
    let at_night = |(ms, _): &&Timed| Some(*ms) < first_ms;
    let rules = alerts.iter().filter(at_night).map(|(_, alert)| alert.rule);
    let false_alarms: Vec<_> = rules.filter(|rule| QUIET.contains(rule)).collect();
    assert_eq!(false_alarms, [""; 0]);
}

#[test]
fn evaluation() {
    if std::env::var_os(FORM).is_some() {
        full();
    } else {
        short();
    }
}
