//! Evaluates the rules on many generated days: false alarms a week, minutes until an attack is
//! reported, and what is missed. Thresholds, attacks and changes were fixed on one seed.
//!
//! The short form is a test of each build. The full one prints the tables of
//! `docs/explanation/alerts.md`: two weeks of normal days, then each attack on a day of its own.
//!
//! ```sh
//! WATCH_EVALUATION=full cargo test --release -p tensorgate-watch evaluation -- --nocapture
//! ```

#![allow(clippy::arithmetic_side_effects, reason = "tests")]

mod attacks;
mod changes;

use std::collections::BTreeMap;
use std::iter::{Peekable, from_fn};
use std::time::{Duration, UNIX_EPOCH};

use attacks::{ATTACKS, Attack, Day};

use super::{Alert, Monitor};
use crate::day::{Random, Request, days};
use crate::rules;

/// The seed of the days on which all was fixed.
const FIXED_ON: u64 = 1;
/// The seeds of the days that report on it.
const REPORTED: [u64; 5] = [2, 3, 4, 5, 6];
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 1_440 * MINUTE_MS;
const WEEK: u64 = 7;
/// Selects the full form.
const FORM: &str = "WATCH_EVALUATION";

/// What was reported on the days of a seed.
#[derive(Default)]
struct Outcome {
    /// The alerts of days without an attack, by rule and week.
    false_alarms: BTreeMap<(&'static str, u64), usize>,
    /// The minutes until each attack was reported.
    delays: Vec<Option<u64>>,
}

/// Replays days without an attack, then a day with each attack.
fn evaluate(seed: u64, normal_days: u64, attacks: &[&Attack]) -> Outcome {
    let mut monitor = Monitor::default();
    let mut outcome = Outcome::default();
    let attack_days = u64::try_from(attacks.len()).unwrap_or_default();
    let mut requests = days(seed, normal_days + attack_days).peekable();
    for number in 0..normal_days {
        let day = next_day(&mut requests, seed, number);
        for (_, alert) in replay(&mut monitor, day.requests) {
            let false_alarms = &mut outcome.false_alarms;
            *false_alarms.entry((alert.rule, number / WEEK)).or_default() += 1;
        }
    }
    for (number, attack) in (normal_days..).zip(attacks) {
        let mut day = next_day(&mut requests, seed, number);
        day.start_ms += attack.start * MINUTE_MS;
        let start_ms = day.start_ms;
        (attack.add)(&mut day);
        let mut alerts = replay(&mut monitor, day.requests).into_iter();
        let report = alerts.find(|(ms, alert)| {
            let finding = &alert.finding;
            let text = format!("{} {}", finding.subject, finding.what);
            let is_about_it = attack.rules.contains(&alert.rule) && text.contains(attack.subject);
            *ms >= start_ms && is_about_it
        });
        let delay = report.map(|(ms, _)| (ms - start_ms) / MINUTE_MS);
        outcome.delays.push(delay);
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

/// The logged alerts of a day, with their times.
fn replay(monitor: &mut Monitor, mut requests: Vec<Request>) -> Vec<(u64, Alert)> {
    requests.sort_by_key(|request| request.ms);
    let mut logged = Vec::new();
    for Request { ms, seen } in &requests {
        let time = crate::time::Time::from_ms(*ms);
        let alerts = monitor.observe(seen, time, UNIX_EPOCH + Duration::from_millis(*ms));
        let alerts = alerts.into_iter().filter(|alert| alert.is_logged);
        logged.extend(alerts.map(|alert| (*ms, alert)));
    }
    logged
}

/// Prints the tables of some seeds.
fn print(outcomes: &[Outcome]) {
    println!("| rule | false alarms in the first week | in the second |\n|---|---|---|");
    for rule in rules::all() {
        let name = rule.id().name();
        let of_week = |week| {
            let counts = outcomes.iter().map(|outcome| {
                let count = outcome.false_alarms.get(&(name, week));
                count.copied().unwrap_or_default().to_string()
            });
            counts.collect::<Vec<_>>().join(" ")
        };
        println!("| `{name}` | {} | {} |", of_week(0), of_week(1));
    }
    println!("\n| attack | rules | minutes until it is reported |\n|---|---|---|");
    for (number, attack) in ATTACKS.iter().enumerate() {
        let delays = outcomes.iter().map(|outcome| {
            let delay = outcome.delays.get(number).copied().flatten();
            delay.map_or_else(|| "missed".to_owned(), |minutes| minutes.to_string())
        });
        let delays = delays.collect::<Vec<_>>().join(" ");
        let rules: Vec<_> = attack
            .rules
            .iter()
            .map(|rule| format!("`{rule}`"))
            .collect();
        println!("| {} | {} | {delays} |", attack.name, rules.join(", "));
    }
}

/// Fails if an attack that rules report was reported late, or not at all.
fn check(seed: u64, attacks: &[&Attack], outcome: &Outcome) {
    for (attack, delay) in attacks.iter().zip(&outcome.delays) {
        let is_in_time = |within: u64| delay.is_some_and(|delay| delay <= within);
        let is_reported = attack.within.is_none_or(is_in_time);
        assert!(is_reported, "seed {seed}, {}: {delay:?}", attack.name);
    }
}

#[test]
fn evaluation() {
    if std::env::var_os(FORM).is_some() {
        let all: Vec<_> = ATTACKS.iter().collect();
        let seeds = [FIXED_ON].into_iter().chain(REPORTED);
        let outcomes: Vec<_> = seeds.map(|seed| evaluate(seed, 2 * WEEK, &all)).collect();
        print(outcomes.get(1..).unwrap_or_default());
        for (seed, outcome) in (FIXED_ON..).zip(&outcomes) {
            check(seed, &all, outcome);
        }
        return;
    }
    let short: Vec<_> = ATTACKS.iter().filter(|attack| attack.is_in_short).collect();
    let outcome = evaluate(FIXED_ON, 2, &short);
    check(FIXED_ON, &short, &outcome);
    // On the second day, rules about models, sources and the gateway are quiet.
    for rule in [
        "server-errors",
        "latency",
        "spraying-clients",
        "spraying-sources",
        "credential-guessing",
        "probing",
        "management",
        "class-dominance",
        "prediction-drift",
    ] {
        let false_alarms = outcome.false_alarms.get(&(rule, 0));
        assert_eq!(false_alarms, None, "{rule}");
    }
}
