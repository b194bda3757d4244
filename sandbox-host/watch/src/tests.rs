//! Replays generated days: attacks are detected, normal days are quiet, and floods and wrong times
//! do no harm.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, json};
use tensorgate_policy::Reason;
use tensorgate_policy::contract::NearBounds;
use tensorgate_policy::values::{AlertSeverity, WatchRule};
use tensorgate_policy_compiler::validate::validate;

use super::{Alert, Monitor, Observation};
use crate::alert::Finding;
use crate::attacks::{self, ATTACKS};
use crate::day::{self, Random, Request, address, deny, inference};
use crate::learned_file::{load_block, save_block};
use crate::rules::{self, Rule};
use crate::saved::Saved as _;
use crate::settings::{RuleSet, WatchSettings};
use crate::time::Time;

/// The day on which the thresholds were fixed, then the days that report on them.
const SEEDS: [u64; 6] = [1, 2, 3, 4, 5, 6];
/// The most alerts of a day without an attack.
const MAX_FALSE_ALARMS: usize = 1;
/// A minute in milliseconds.
const MINUTE_MS: u64 = 60_000;
/// The longest time until an attack is reported, in minutes.
const MAX_DELAY: u64 = 15;

/// The alerts of a day, with their times in milliseconds.
fn replay(requests: &[Request]) -> Vec<(u64, Alert)> {
    let mut monitor = Monitor::default();
    let alerts = requests.iter().flat_map(|request| {
        let clock = UNIX_EPOCH + Duration::from_millis(request.ms);
        let alerts = monitor.observe(&request.seen, request.time(), clock);
        alerts.into_iter().map(move |alert| (request.ms, alert))
    });
    alerts.collect()
}

/// The false alarms and the detection delays in minutes of all days, by rule and subject.
#[derive(Default)]
struct Row {
    false_alarms: Vec<usize>,
    delays: Vec<Option<u64>>,
}

#[test]
fn attacks_are_reported_and_busy_days_are_quiet() {
    let mut table: BTreeMap<(&str, &str), Row> = BTreeMap::new();
    for seed in SEEDS {
        let requests = day::busy(seed);
        let false_alarms = replay(&requests);
        let shown: Vec<_> = false_alarms
            .iter()
            .map(|(_, alert)| alert.to_string())
            .collect();
        assert!(shown.len() <= MAX_FALSE_ALARMS, "seed {seed}: {shown:#?}");
        let alerts = replay(&attacks::add_all(requests, seed));
        for attack in &ATTACKS {
            let row = table.entry((attack.rule, attack.subject)).or_default();
            let of_rule = |(_, alert): &&(u64, Alert)| alert.rule == attack.rule;
            row.false_alarms
                .push(false_alarms.iter().filter(of_rule).count());
            let start_ms = attack.start * MINUTE_MS;
            let mut reports = alerts.iter().filter(of_rule);
            let first = reports.find(|(ms, alert)| {
                *ms >= start_ms && alert.finding.subject.to_string() == attack.subject
            });
            row.delays
                .push(first.map(|(ms, _)| (ms - start_ms) / MINUTE_MS));
        }
    }
    println!(
        "Each list has a number for each of the seeds {SEEDS:?}. Thresholds were fixed on the first."
    );
    println!("rule · subject | minutes until the alert | false alarms a day");
    for (
        (rule, subject),
        Row {
            false_alarms,
            delays,
        },
    ) in &table
    {
        let minutes: Vec<_> = delays.iter().flatten().collect();
        println!("{rule} · {subject} | {minutes:?} | {false_alarms:?}");
        let is_late = |delay: &Option<u64>| delay.is_none_or(|delay| delay > MAX_DELAY);
        assert!(!delays.iter().any(is_late), "{rule}, {subject}: {delays:?}");
    }
}

#[test]
fn every_rule_has_an_attack() {
    for rule in rules::all() {
        let name = rule.id().name();
        if rule.id() == WatchRule::DormantCredential {
            // No day is long enough for it.
            continue;
        }
        assert!(ATTACKS.iter().any(|attack| attack.rule == name), "{name}");
    }
}

/// A denied request from a source.
fn denied(source: u32, reason: Reason) -> Observation {
    let [a, b, c, d] = source.to_be_bytes();
    let mut seen = Observation {
        source: Some(address([a, b, c], d)),
        ..Observation::default()
    };
    deny(&mut seen, reason);
    seen
}

#[test]
fn a_flood_of_one_alert_does_not_silence_another() {
    let mut monitor = Monitor::default();
    let mut show = |seen: &Observation| monitor.observe(seen, Time::from_s(10), UNIX_EPOCH);
    let mut counts = [0_u32; 2];
    for source in 0..100_000 {
        let mut seen = denied(source, Reason::NotAnInferenceRoute);
        seen.management = Some("Triton");
        for alert in show(&seen) {
            assert_eq!(alert.rule, "management");
            counts = [counts[0] + 1, counts[1] + u32::from(alert.is_logged)];
        }
    }
    // Each source with state of its own has an alert, and the others have one together.
    assert_eq!(counts, [8_193, 20], "counted and logged");
    let mut seen = denied(u32::MAX, Reason::NotAnInferenceRoute);
    seen.management = Some("Triton");
    seen.client = Some("web".to_owned());
    let of_client = show(&seen);
    let logged =
        |alert: &Alert| alert.is_logged && alert.finding.subject.to_string() == "client web";
    assert!(of_client.iter().all(logged) && of_client.len() == 1);
    let reasons = Reason::ALL.iter().skip(10).cycle().take(24);
    let alerts: Vec<_> = reasons
        .flat_map(|reason| show(&denied(u32::MAX, *reason)))
        .collect();
    let rules: Vec<_> = alerts.iter().map(|alert| alert.rule).collect();
    assert_eq!(
        rules,
        ["probing"],
        "its source shares state, and is reported"
    );
    assert!(alerts.iter().all(|alert| alert.is_logged));
}

#[test]
fn a_flood_of_alerts_of_one_rule_hides_no_attack_from_the_others() {
    const FLOODED: &str = "management";
    let seed = SEEDS[0];
    let mut requests = attacks::add_all(day::busy(seed), seed);
    // From an hour before the first attack on, another source every two seconds.
    requests.extend((0..18_000_u32).map(|number| {
        let mut seen = denied(0xc612_0000 + number, Reason::NotAnInferenceRoute);
        seen.management = Some("Triton");
        let ms = 540 * MINUTE_MS + u64::from(number) * 2_000;
        Request { ms, seen }
    }));
    requests.sort_by_key(|request| request.ms);
    let alerts = replay(&requests);
    let is_counted_alone = |(_, alert): &&(u64, Alert)| alert.rule == FLOODED && !alert.is_logged;
    assert!(alerts.iter().filter(is_counted_alone).count() > 15_000);
    for attack in ATTACKS.iter().filter(|attack| attack.rule != FLOODED) {
        let start_ms = attack.start * MINUTE_MS;
        let is_reported = alerts.iter().any(|(ms, alert)| {
            *ms >= start_ms
                && alert.rule == attack.rule
                && alert.is_logged
                && alert.finding.subject.to_string() == attack.subject
        });
        assert!(is_reported, "{}, {}", attack.rule, attack.subject);
    }
}

#[test]
fn a_flood_of_sources_is_bounded_and_a_client_is_still_watched() {
    let mut monitor = Monitor::default();
    let mut random = Random(7);
    let mut reported = Vec::new();
    for minute in 0..60_u64 {
        let per_minute = if minute < 40 { 20 } else { 400 };
        for number in 0..per_minute {
            let now = Time::from_ms(minute * MINUTE_MS + number);
            for source in 0..20 {
                let seen = denied(random.draw() as u32 ^ source, Reason::Unauthenticated);
                monitor.observe(&seen, now, UNIX_EPOCH);
            }
            let mut seen = inference("web", "resnet", &mut random);
            seen.source = Some(address([10, 0, 1], 1));
            let alerts = monitor.observe(&seen, now, UNIX_EPOCH).into_iter();
            reported.extend(alerts.map(|alert| alert.rule));
        }
    }
    assert_eq!(reported, ["volume"]);
    assert!(monitor.shared_uses() > 0, "they are counted");
}

#[test]
fn the_number_of_clients_with_state_is_bounded() {
    let mut monitor = Monitor::default();
    let mut random = Random(7);
    let mut shared_uses = |client: u32| {
        let mut seen = inference(&format!("client-{client}"), "ranker", &mut random);
        seen.source = Some(address([10, 0, 1], 1));
        monitor.observe(&seen, Time::from_s(1), UNIX_EPOCH);
        monitor.shared_uses()
    };
    assert!((0..4_096).all(|client| shared_uses(client) == 0));
    assert!(shared_uses(4_096) >= 5, "in each rule with state by client");
}

#[test]
fn times_that_jump_stop_nothing() {
    let mut monitor = Monitor::default();
    let mut random = Random(7);
    let mut show = |s: u64, clock: SystemTime| {
        let mut seen = inference("web", "resnet", &mut random);
        seen.source = Some(address([10, 0, 1], 1));
        monitor.observe(&seen, Time::from_s(s), clock).len()
    };
    let clocks = [UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(1 << 33)];
    for (s, clock) in (0..7_200).zip(clocks.into_iter().cycle()) {
        assert_eq!(show(s, clock), 0, "the time of day is only for texts");
    }
    for s in [0, u64::MAX / 2, 1, u64::MAX / 2] {
        assert_eq!(show(s, UNIX_EPOCH), 0);
    }
}

#[test]
fn what_was_learned_survives_a_restart_and_damage_does_not() {
    let mut monitor = Monitor::default();
    let mut random = Random(7);
    let mut web = |host: u8| {
        let mut seen = inference("web", "resnet", &mut random);
        seen.source = Some(address([10, 0, host], 1));
        seen
    };
    monitor.observe(&web(1), Time::from_s(0), UNIX_EPOCH);
    let learning = monitor.learning();
    assert!(learning.contains(&"volume"));
    let restarted = Monitor::load(&monitor.save()).unwrap();
    assert_eq!(restarted.learning(), learning, "after a minute");
    // Networks are learned for an hour.
    for s in 0..=3_600 {
        assert!(
            monitor
                .observe(&web(1), Time::from_s(s), UNIX_EPOCH)
                .is_empty()
        );
    }
    let saved = monitor.save();
    for length in 0..saved.len() {
        let cut_off = saved.get(..length).unwrap();
        // Without its last rules it is complete, and those learn anew.
        if let Some(mut monitor) = Monitor::load(cut_off) {
            monitor.observe(&web(1), Time::from_s(4_000), UNIX_EPOCH);
        }
    }
    let mut restarted = Monitor::load(&saved).unwrap();
    assert_eq!(restarted.latest(), Time::from_s(3_600));
    let mut rules = |monitor: &mut Monitor, host| {
        let alerts = monitor.observe(&web(host), Time::from_s(4_000), UNIX_EPOCH);
        alerts.iter().map(|alert| alert.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules(&mut restarted, 1), [""; 0]);
    assert_eq!(rules(&mut restarted, 2), ["new-source"]);
    assert_eq!(rules(&mut Monitor::default(), 2), [""; 0], "without it");
}

/// The parts of rules in what was saved, by name.
fn blocks(mut saved: &[u8]) -> Vec<(&str, &[u8])> {
    let input = &mut saved;
    Time::load(input).unwrap();
    let block =
        || load_block(input).map(|(name, block)| (std::str::from_utf8(name).unwrap(), block));
    std::iter::from_fn(block).collect()
}

#[test]
fn a_rule_whose_form_has_changed_learns_anew_alone() {
    let (mut monitor, mut random) = (Monitor::default(), Random(7));
    for minute in 0..70 {
        let seen = inference("web", "resnet", &mut random);
        monitor.observe(&seen, Time::from_s(60 * minute), UNIX_EPOCH);
    }
    let saved = monitor.save();
    let mut changed = Vec::new();
    monitor.latest().save(&mut changed);
    for (name, block) in blocks(&saved) {
        let added: &[u8] = if name == "volume" { &[0] } else { &[] };
        save_block(name, &[block, added].concat(), &mut changed);
    }
    let learning = |saved: &[u8]| Monitor::load(saved).unwrap().learning();
    assert!(!learning(&saved).contains(&"volume"));
    let expected = [vec!["volume"], learning(&saved)].concat();
    assert_eq!(learning(&changed), expected);
}

#[test]
fn a_changed_form_of_learned_state_is_noticed() {
    let mut monitor = Monitor::default();
    let seen = Observation {
        source: Some(address([10, 0, 0], 1)),
        near_bounds: Some(NearBounds::default()),
        ..inference("web", "resnet", &mut Random(7))
    };
    monitor.observe(&seen, Time::from_s(0), UNIX_EPOCH);
    let saved = monitor.save();
    let lengths = blocks(&saved).into_iter();
    let lengths: Vec<_> = lengths.map(|(name, block)| (name, block.len())).collect();
    // A rule whose part has another length learns anew after an update, which the changelog says.
    // If only the order or the meaning of fields changes, the number in `learned_file` must rise.
    let expected = [
        ("volume", 274),
        ("rejections", 266),
        ("server-errors", 48),
        ("latency", 462),
        ("new-source", 92),
        ("new-credential", 60),
        ("dormant-credential", 54),
        ("spraying-clients", 47),
        ("spraying-sources", 45),
        ("credential-guessing", 45),
        ("probing", 0),
        ("management", 0),
        ("handler-faults", 0),
        ("near-bounds", 296),
        ("confidence", 0),
        ("class-dominance", 48),
        ("prediction-drift", 777),
    ];
    assert_eq!(lengths, expected);
}

#[test]
fn a_rotation_of_many_keys_hides_no_alarm() {
    const ROTATED: u8 = 30;
    // The last client has no new key in the policy.
    let policy = |rotated: u8| {
        let key = |client: u8| {
            let number = client + if client < rotated { 101 } else { 1 };
            json!({"api_keys": [{"sha256": format!("{number:02x}").repeat(32)}]})
        };
        let clients: Map<_, _> = (0..=ROTATED)
            .map(|it| (format!("client-{it}"), key(it)))
            .collect();
        let document = json!({"version": 1, "clients": clients});
        validate(&serde_json::from_value(document).unwrap())
            .unwrap()
            .0
    };
    let before = WatchSettings::from_policy(&policy(0), "host-1");
    let after = before.replaced_by(&policy(ROTATED), "g2", UNIX_EPOCH);
    let mut monitor = Monitor::default();
    monitor.set_settings(&Arc::new(after));
    let mut alert = |client: u8, key: u8, s| {
        let seen = Observation {
            client: Some(format!("client-{client}")),
            credential: Some(format!("key:{}", format!("{key:02x}").repeat(8))),
            source: Some(address([10, 0, client], 1)),
            ..Observation::default()
        };
        let alerts = monitor.observe(&seen, Time::from_s(s), UNIX_EPOCH);
        let mut alerts = alerts.into_iter();
        alerts.find(|alert| alert.rule == "new-credential")
    };
    for (s, requests) in [(0, 101), (3_600, 1)] {
        for client in 0..=ROTATED {
            for _ in 0..requests {
                assert_eq!(alert(client, client + 1, s), None);
            }
        }
    }
    for client in 0..ROTATED {
        let note = alert(client, client + 101, 3_700).unwrap();
        assert_eq!(note.context.severity, AlertSeverity::Info);
    }
    let alarm = alert(ROTATED, 200, 3_700).unwrap();
    assert!(alarm.is_logged && alarm.context.severity == AlertSeverity::Warning);
}

#[test]
fn a_rule_that_is_off_reports_nothing() {
    let mut monitor = Monitor::default();
    let mut seen = denied(0x0a00_0001, Reason::NotAnInferenceRoute);
    seen.management = Some("Triton");
    let running = |rules| Arc::new(WatchSettings::running(RuleSet(rules)));
    monitor.set_settings(&running(0));
    assert!(
        monitor
            .observe(&seen, Time::from_s(1), UNIX_EPOCH)
            .is_empty()
    );
    monitor.set_settings(&running(u64::MAX));
    assert_eq!(monitor.observe(&seen, Time::from_s(2), UNIX_EPOCH).len(), 1);
}

/// A rule with a fault in it.
struct Faulty;

impl Rule for Faulty {
    fn id(&self) -> WatchRule {
        WatchRule::Volume
    }

    fn observe(&mut self, _: &Observation, _: Time) -> Option<Finding> {
        panic!("a fault in a rule")
    }
}

#[test]
fn a_rule_that_panics_is_switched_off_and_the_others_go_on() {
    let mut rules = rules::all();
    rules.insert(0, Box::new(Faulty));
    let mut monitor = Monitor::new(rules);
    for source in 1..=2 {
        let mut seen = denied(source, Reason::NotAnInferenceRoute);
        seen.management = Some("Triton");
        let alerts = monitor.observe(&seen, Time::from_s(1), UNIX_EPOCH);
        assert_eq!(alerts.len(), 1);
    }
    assert_eq!(
        monitor.take_failed(),
        [WatchRule::Volume],
        "it is called once"
    );
    assert!(monitor.take_failed().is_empty());
}

#[test]
fn an_alert_says_who_what_how_far_since_when_and_what_to_do() {
    let mut monitor = Monitor::default();
    let mut seen = denied(0x0a00_0001, Reason::NotAnInferenceRoute);
    seen.management = Some("Triton");
    let clock = UNIX_EPOCH + Duration::from_secs(1_795_000_000);
    let alerts = monitor.observe(&seen, Time::from_s(1), clock);
    let [alert] = alerts.as_slice() else {
        unreachable!("one alert: {alerts:?}")
    };
    assert_eq!(
        alert.to_string(),
        "source 10.0.0.1 requested the management of Triton, and was rejected: 1 request, \
         usually 0, since 2026-11-18T11:06:40.000000Z. A tool that needs it must reach \
         the server directly. Otherwise block the source, or revoke the credential of the client."
    );
    let answered = Alert {
        response: Some("blocked until noon".to_owned()),
        ..alert.clone()
    };
    let text = answered.to_string();
    assert!(
        text.ends_with("of the client. The client is blocked until noon."),
        "{text}"
    );
}
