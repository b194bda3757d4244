//! Tests of the counters of a host.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use serde_json::{Value, json};
use tensorgate_policy::policy::{Holder, RemainingQuota, Unit, Wait};
use tensorgate_policy::request::{CallerDigest, HolderDigest};
use tensorgate_policy::values::Scope;
use tensorgate_policy_compiler::validate::validate;

use super::*;

const SECOND_NS: u64 = 1_000_000_000;
/// A window long enough that no unit refills during a test.
const MONTH_S: u64 = 2_678_400;
/// 12,800 seconds before midnight, UTC.
const NOW: Now = Now {
    unix_s: 1_780_000_000,
    monotonic_ns: 5 * SECOND_NS,
};

fn at(seconds: u64) -> Now {
    Now {
        unix_s: NOW.unix_s + seconds,
        monotonic_ns: NOW.monotonic_ns + seconds * SECOND_NS,
    }
}

/// The limits on content of a grant with these members.
fn limits(members: Value) -> Vec<Allowance> {
    let tensor = json!({"name": "x", "datatype": "FP32", "shape": [1]});
    let mut policy = json!({
        "version": 1,
        "clients": {"ocr": {"api_keys": [{"sha256": "01".repeat(32)}]}},
        "backends": {"gpu": {"kind": "embedded", "models": "models/"}},
        "models": {"m": {
            "backend": "gpu", "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": [tensor], "outputs": [tensor]
        }},
        "grants": [{"name": "g", "clients": ["ocr"], "models": ["m"], "operations": ["infer"]}]
    });
    for (name, value) in members.as_object().unwrap() {
        policy["grants"][0][name] = value.clone();
    }
    let (policy, _) = validate(&serde_json::from_value(policy).unwrap()).unwrap();
    policy.grants()[0].per_content().collect()
}

/// A limit on tokens, which only models of OpenAI's API have in a policy.
fn tokens(members: Value) -> Vec<Allowance> {
    let mut limits = limits(members);
    for limit in &mut limits {
        limit.unit = Unit::Tokens;
    }
    limits
}

fn charge_of(client: &str, amounts: &[(Allowance, u64)]) -> Charge {
    let limit_charge = |(allowance, amount): &(Allowance, u64)| LimitCharge {
        allowance: *allowance,
        amount: *amount,
    };
    Charge {
        scope: Scope::Local,
        grant: "g".into(),
        client: client.into(),
        limit_charges: amounts.iter().map(limit_charge).collect(),
        ..Charge::default()
    }
}

fn charge(limits: &LocalLimits, allowances: &[Allowance], amount: u64, now: Now) -> ChargeOutcome {
    let amounts: Vec<_> = allowances.iter().map(|it| (*it, amount)).collect();
    limits.charge(&charge_of("ocr", &amounts), now).0
}

fn left(outcome: &ChargeOutcome) -> Vec<u64> {
    let (ChargeOutcome::Charged(quotas) | ChargeOutcome::Exceeded(quotas)) = outcome else {
        panic!("{outcome:?}")
    };
    quotas.iter().map(|quota| quota.left).collect()
}

/// The number of states.
fn states(limits: &LocalLimits) -> usize {
    let state = limits.lock();
    state.parts.iter().map(|part| part.slots.len()).sum()
}

/// What is saved and read back.
fn saved(limits: &LocalLimits) -> Vec<SavedLimit> {
    let mut bytes = Vec::new();
    assert_eq!(limits.append_saved(NOW, 0, &mut bytes), 0);
    saved_limits::decode(&bytes).unwrap().1
}

fn is_charged(outcome: &ChargeOutcome) -> bool {
    matches!(outcome, ChargeOutcome::Charged(_))
}

#[test]
fn of_several_limits_one_that_has_not_enough_leaves_the_others_as_they_are() {
    let allowances = limits(json!({
        "cost": {"elements": 200, "window_s": MONTH_S},
        "budget": {"elements": 100, "per": "day"}
    }));
    let counted = LocalLimits::new(Spent::Known, NOW);
    let first = charge(&counted, &allowances, 60, NOW);
    assert_eq!((is_charged(&first), left(&first)), (true, vec![140, 40]));
    for _ in 0..3 {
        let next = charge(&counted, &allowances, 60, NOW);
        assert_eq!((is_charged(&next), left(&next)), (false, vec![140, 40]));
    }
    let last = charge(&counted, &allowances, 40, NOW);
    assert_eq!((is_charged(&last), left(&last)), (true, vec![100, 0]));
    // The day begins anew.
    let tomorrow = charge(&counted, &allowances, 60, at(12_800));
    assert_eq!(left(&tomorrow)[1], 40);
}

#[test]
fn each_client_and_grant_has_its_own_quota() {
    let allowances = limits(json!({"budget": {"bytes": 9, "per": "day"}}));
    let counted = LocalLimits::new(Spent::Known, NOW);
    let of = |client: &str, grant: &str| {
        let mut charge = charge_of(client, &[(allowances[0], 9)]);
        charge.grant = grant.into();
        is_charged(&counted.charge(&charge, NOW).0)
    };
    assert!(of("a", "g") && of("b", "g") && of("a", "h"));
    assert!(!of("a", "g") && !of("b", "g") && !of("a", "h"));
}

#[test]
fn threads_spend_amounts_exactly() {
    let allowances = limits(json!({
        "cost": {"elements": 128, "window_s": MONTH_S}, "budget": {"bytes": 520, "per": "day"}
    }));
    let counted = LocalLimits::new(Spent::Known, NOW);
    let amounts: Vec<_> = allowances.iter().map(|it| (*it, 2)).collect();
    let charge = charge_of("ocr", &amounts);
    let passed: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let outcomes = (0..40).map(|_| counted.charge(&charge, NOW).0);
                    outcomes.filter(is_charged).count()
                })
            })
            .collect();
        workers.into_iter().map(|it| it.join().unwrap()).sum()
    });
    assert_eq!(passed, 64, "128 elements in pairs");
}

#[test]
fn unused_tokens_come_back_and_additional_ones_are_charged() {
    for members in [
        json!({"cost": {"elements": 100, "window_s": MONTH_S}}),
        json!({"budget": {"elements": 100, "per": "day"}}),
    ] {
        let allowances = tokens(members);
        let counted = LocalLimits::new(Spent::Known, NOW);
        let reserve = |amount| {
            let charge = charge_of("ocr", &[(allowances[0], amount)]);
            counted.charge(&charge, NOW)
        };
        let (outcome, reserved) = reserve(80);
        assert!(is_charged(&outcome) && reserved.len() == 1);
        assert!(!is_charged(&reserve(21).0));
        counted.settle(reserved, 10, NOW);
        assert_eq!(left(&reserve(90).0), [0]);
        assert!(!is_charged(&reserve(1).0));

        let counted = LocalLimits::new(Spent::Known, NOW);
        let charge = charge_of("ocr", &[(allowances[0], 10)]);
        let (_, reserved) = counted.charge(&charge, NOW);
        counted.settle(reserved, 30, NOW);
        let next = counted.charge(&charge_of("ocr", &[(allowances[0], 70)]), NOW);
        assert_eq!(left(&next.0), [0]);
    }
}

#[test]
fn an_unknown_past_counts_as_half_spent_and_refills() {
    let long = limits(json!({"cost": {"elements": 100, "window_s": 100}}));
    let short = limits(json!({"cost": {"elements": 100, "window_s": 60}}));
    let day = limits(json!({"budget": {"elements": 101, "per": "day"}}));
    for (allowances, passes, later) in [(&long, 50, 100), (&short, 100, 100), (&day, 50, 50)] {
        let counted = LocalLimits::new(Spent::Half, NOW);
        assert!(!is_charged(&charge(&counted, allowances, passes + 1, NOW)));
        assert!(is_charged(&charge(&counted, allowances, passes, NOW)));
        // A limit that is used for the first time has refilled since the start.
        let counted = LocalLimits::new(Spent::Half, NOW);
        let outcome = charge(&counted, allowances, later, at(100));
        assert!(is_charged(&outcome), "{outcome:?}");
    }
}

#[test]
fn long_windows_survive_a_restart_and_time_that_passed_counts() {
    let bucket = limits(json!({"cost": {"elements": 100, "window_s": 100}}));
    let day = limits(json!({"budget": {"elements": 100, "per": "day"}}));
    let short = limits(json!({"cost": {"bytes": 100, "window_s": 60}}));
    let counted = LocalLimits::new(Spent::Known, NOW);
    for allowances in [&bucket, &day, &short] {
        assert!(is_charged(&charge(&counted, allowances, 80, NOW)));
    }
    assert!(counted.take_changed() && !counted.take_changed());
    let saved = saved(&counted);
    assert_eq!(saved.len(), 2);
    // Another boot: the monotonic clock is behind, and ten seconds have passed.
    let now = Now {
        unix_s: NOW.unix_s + 10,
        monotonic_ns: 1,
    };
    let restored = LocalLimits::new(Spent::Known, now);
    let broken = SavedLimit {
        key: "cost:elements:1:g:other".to_owned(),
        form: StateForm::Window,
        state: vec![0; 7],
    };
    let all = saved.into_iter().chain([broken]).collect();
    assert_eq!(restored.restore(all, 10 * SECOND_NS, now), 1);
    let levels = |allowances: &[Allowance]| {
        let outcome = charge(&restored, allowances, 1, now);
        left(&outcome)
    };
    assert_eq!(levels(&bucket), [29], "10 of 80 have refilled");
    assert_eq!(levels(&day), [19]);
    assert_eq!(levels(&short), [99]);
}

#[test]
fn states_of_unused_limits_are_removed() {
    let allowances = limits(json!({"cost": {"elements": 10, "window_s": 10}}));
    for spent in [Spent::Known, Spent::Half] {
        let counted = LocalLimits::new(spent, NOW);
        for number in 0..5 * PARTS * MIN_SWEEP {
            let seconds = u64::try_from(number).unwrap();
            let charge = charge_of(&format!("client-{number}"), &[(allowances[0], 1)]);
            assert!(is_charged(&counted.charge(&charge, at(seconds)).0));
        }
        assert!(states(&counted) <= PARTS * MIN_SWEEP);
    }
}

#[test]
fn an_amount_over_the_limit_never_passes() {
    let allowances = limits(json!({"budget": {"elements": 5, "per": "day"}}));
    let counted = LocalLimits::new(Spent::Known, NOW);
    let ChargeOutcome::Exceeded(quotas) = charge(&counted, &allowances, 6, NOW) else {
        panic!("it passes")
    };
    let [RemainingQuota { left: 5, wait, .. }] = quotas[..] else {
        panic!("{quotas:?}")
    };
    assert_eq!(wait, Wait::Forever);
}

const SLOTS: u32 = 256;

/// The limits, of each user.
fn of_users(limits: Vec<Allowance>) -> Vec<Allowance> {
    let holder = Holder::User { slots: SLOTS };
    let of_user = |allowance| Allowance {
        holder,
        ..allowance
    };
    limits.into_iter().map(of_user).collect()
}

/// A charge for the user in the middle of a slot.
fn charge_of_user(slot: u64, amounts: &[(Allowance, u64)]) -> Charge {
    let mut charge = charge_of("ocr", amounts);
    charge.caller.user = CallerDigest::Known(HolderDigest::new((slot << 56) | (1 << 55)));
    charge
}

#[test]
fn users_that_change_with_each_request_get_no_more_than_all_slots() {
    let allowances = of_users(limits(
        json!({"cost": {"elements": 3, "window_s": MONTH_S}}),
    ));
    let counted = LocalLimits::new(Spent::Known, NOW);
    let mut allowed = 0;
    for number in 0..10_000_u64 {
        let mut charge = charge_of("ocr", &[(allowances[0], 1)]);
        // The odd factor gives each number another digest.
        charge.caller.user = CallerDigest::Known(HolderDigest::new(
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ));
        allowed += u32::from(is_charged(&counted.charge(&charge, NOW).0));
    }
    assert_eq!(allowed, 3 * SLOTS);
    assert_eq!(states(&counted), 256);
}

#[test]
fn unused_tokens_come_back_to_the_slot_that_was_charged() {
    let allowances = of_users(tokens(json!({"budget": {"elements": 100, "per": "day"}})));
    let counted = LocalLimits::new(Spent::Known, NOW);
    let amounts = [(allowances[0], 60)];
    let (first, reserved) = counted.charge(&charge_of_user(1, &amounts), NOW);
    let (second, _) = counted.charge(&charge_of_user(2, &amounts), NOW);
    assert_eq!((left(&first), left(&second)), (vec![40], vec![40]));
    counted.settle(reserved, 10, NOW);
    let level = |slot| {
        left(
            &counted
                .charge(&charge_of_user(slot, &[(allowances[0], 1)]), NOW)
                .0,
        )
    };
    assert_eq!((level(1), level(2)), (vec![89], vec![39]));
}

#[test]
fn a_restart_keeps_the_day_of_each_slot() {
    let allowances = of_users(limits(json!({"budget": {"elements": 100, "per": "day"}})));
    let counted = LocalLimits::new(Spent::Known, NOW);
    for slot in 0..u64::from(SLOTS) {
        let charge = charge_of_user(slot, &[(allowances[0], slot % 90 + 1)]);
        assert!(is_charged(&counted.charge(&charge, NOW).0));
    }
    let saved = saved(&counted);
    assert_eq!(saved.len(), 256);
    let restored = LocalLimits::new(Spent::Known, NOW);
    assert_eq!(restored.restore(saved, SECOND_NS, NOW), 0);
    for slot in 0..u64::from(SLOTS) {
        let outcome = restored
            .charge(&charge_of_user(slot, &[(allowances[0], 1)]), NOW)
            .0;
        assert_eq!(left(&outcome), [98 - slot % 90], "{slot}");
    }
}

#[test]
fn too_many_slots_leave_out_no_client() {
    let day = limits(json!({"budget": {"elements": 100, "per": "day"}}))[0];
    let counted = LocalLimits::new(Spent::Known, NOW);
    let used = day.consume(&day.fresh(), NOW, 1).unwrap().after.unwrap().1;
    for slot in 0..MAX_SAVED_SLOTS + 7 {
        let key = format!("{SLOT_PREFIX}{slot}");
        counted.lock().store(key, &day, used.to_vec(), NOW);
    }
    let clients = ["a", "b", "c"].map(|client| day.key("g", client));
    for key in &clients {
        counted.lock().store(key.clone(), &day, used.to_vec(), NOW);
    }
    let mut bytes = Vec::new();
    assert_eq!(counted.append_saved(NOW, 0, &mut bytes), 7);
    let saved = saved_limits::decode(&bytes).unwrap().1;
    assert_eq!(saved.len(), MAX_SAVED_SLOTS + clients.len());
    let is_saved = |key: &String| saved.iter().any(|it| it.key == *key);
    assert!(clients.iter().all(is_saved));
}
