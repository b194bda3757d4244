//! Who a credential belongs to.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use tensorgate_policy::request::Identity;
use tensorgate_policy::validate::validate;
use tensorgate_policy::{Policy, raw};

use super::{KeyRing, Owner, Slot, digest, format_key};

extern crate std;

std::thread_local! {
    static COMPARISONS: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
}

/// Called for every comparison of two digests on this thread.
pub(super) fn compared() {
    COMPARISONS.with(|count| count.set(count.get() + 1));
}

/// `2027-01-31` ends so.
const EXPIRES: u64 = 1_801_440_000;

fn hex(key: &str) -> String {
    tensorgate_policy::hex(&digest(key))
}

/// `old` counts until 2027-01-31, `new` for good, both `alpha`'s; `other` is `beta`'s.
fn policy() -> (Policy, [String; 3]) {
    let keys = [
        format_key(&[1; 20]),
        format_key(&[2; 20]),
        format_key(&[3; 20]),
    ];
    let key = |index: usize, not_after: Option<&str>| raw::ApiKey {
        sha256: keys.get(index).map(|key| hex(key)),
        not_after: not_after.map(Into::into),
    };
    let raw = raw::Policy {
        version: Some(1),
        clients: [
            (
                "alpha".into(),
                raw::Client {
                    api_keys: vec![key(0, Some("2027-01-31")), key(1, None)],
                    ..raw::Client::default()
                },
            ),
            (
                "beta".into(),
                raw::Client {
                    api_keys: vec![key(2, None)],
                    ..raw::Client::default()
                },
            ),
        ]
        .into(),
        ..raw::Policy::default()
    };
    let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    (policy, keys)
}

#[test]
fn a_key_is_its_clients_until_it_expires() {
    let (policy, [old, new, other]) = policy();
    let ring = KeyRing::new(&policy);
    let check = |key: &str, now: u64, expected: Result<&str, &'static str>| {
        let expected =
            expected.map_or_else(Identity::Refused, |client| Identity::Client(client.into()));
        assert_eq!(ring.identify(key, now).identity, expected, "{key} at {now}");
    };
    check(&old, 0, Ok("alpha"));
    check(&old, EXPIRES - 1, Ok("alpha"));
    check(&old, EXPIRES, Err("api key has expired"));
    check(&old, u64::MAX, Err("api key has expired"));
    check(&new, u64::MAX, Ok("alpha"));
    check(&other, 0, Ok("beta"));
    check(&format_key(&[4; 20]), 0, Err("unknown api key"));
}

#[test]
fn what_is_no_key_is_nobodys() {
    let (policy, [old, ..]) = policy();
    let ring = KeyRing::new(&policy);
    let long = "x".repeat(1 << 16);
    for text in [
        "",
        "tg_",
        old.trim_start_matches("tg_"),
        &old.to_lowercase(),
        &format!("{old} "),
        &format!("{old}{old}"),
        &long,
        &hex(&old),
    ] {
        assert_eq!(
            ring.identify(text, 0).identity,
            Identity::Refused("api key is malformed"),
            "{text:.80}"
        );
    }
    assert_eq!(
        KeyRing::default().identify(&old, 0).identity,
        Identity::Refused("unknown api key")
    );
}

/// A digest is of the key's own text: a well-formed text whose digest is listed under no client stays unknown, and a
/// malformed one is not looked up even where its digest is listed.
#[test]
fn a_listed_digest_of_a_malformed_text_opens_nothing() {
    let raw = raw::Policy {
        version: Some(1),
        clients: [(
            "alpha".into(),
            raw::Client {
                api_keys: vec![raw::ApiKey {
                    sha256: Some(hex("password")),
                    not_after: None,
                }],
                ..raw::Client::default()
            },
        )]
        .into(),
        ..raw::Policy::default()
    };
    let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert_eq!(
        KeyRing::new(&policy).identify("password", 0).identity,
        Identity::Refused("api key is malformed")
    );
}

#[test]
fn a_revoked_key_is_nobodys_whatever_else_lists_it() {
    let key = format_key(&[1; 20]);
    let raw = raw::Policy {
        version: Some(1),
        clients: [(
            "alpha".into(),
            raw::Client {
                api_keys: vec![raw::ApiKey {
                    sha256: Some(hex(&key)),
                    not_after: None,
                }],
                ..raw::Client::default()
            },
        )]
        .into(),
        revoked: raw::Revoked {
            keys: vec![hex(&key)],
            ..raw::Revoked::default()
        },
        ..raw::Policy::default()
    };
    let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let identified = KeyRing::new(&policy).identify(&key, 0);
    assert_eq!(identified.identity, Identity::Refused("api key is revoked"));
}

#[test]
fn a_log_names_a_key_by_the_start_of_its_digest() {
    let (policy, [old, ..]) = policy();
    let ring = KeyRing::new(&policy);
    let named = |digits: &str| Some(format!("key:{}", &digits[..16]));
    assert_eq!(ring.identify(&old, 0).credential, named(&hex(&old)));
    let unknown = format_key(&[9; 20]);
    assert_eq!(ring.identify(&unknown, 0).credential, named(&hex(&unknown)));
    assert_eq!(ring.identify("password", 0).credential, None);
}

#[test]
fn a_lookup_costs_a_handful_of_comparisons_among_a_hundred_thousand_keys() {
    let most = |count: u32| {
        let mut ring = KeyRing::default();
        for number in 0..count {
            let owner = Owner {
                client: "c".into(),
                expires_unix_s: None,
            };
            ring.keys.push((Slot(digest(&format!("{number}"))), owner));
        }
        ring.keys.sort_unstable_by_key(|(slot, _)| *slot);
        // Known and unknown ones alike.
        let cost = |seed: u8| {
            COMPARISONS.with(|count| count.set(0));
            let _ = ring.identify(&format_key(&[seed; 20]), 0);
            COMPARISONS.with(core::cell::Cell::get)
        };
        (0..=255).map(cost).max().unwrap()
    };
    let (few, many) = (most(10), most(100_000));
    // Beside one SHA-256, which is some hundred times a comparison.
    assert!(
        few >= 1 && many <= 64,
        "{few} among 10, {many} among 100,000"
    );
}

#[test]
fn a_wrong_key_costs_as_many_comparisons_as_a_right_one() {
    let keys: Vec<_> = (0..100).map(|seed| format_key(&[seed; 20])).collect();
    let listed = |key: &String| raw::ApiKey {
        sha256: Some(hex(key)),
        not_after: Some("2027-01-31".into()),
    };
    let client = raw::Client {
        api_keys: keys.iter().take(8).map(listed).collect(),
        ..raw::Client::default()
    };
    let others = (8..100).map(|at: usize| {
        let client = raw::Client {
            api_keys: vec![listed(&keys[at])],
            ..raw::Client::default()
        };
        (format!("c{at}"), client)
    });
    let raw = raw::Policy {
        version: Some(1),
        clients: others.chain([("alpha".into(), client)]).collect(),
        revoked: raw::Revoked {
            keys: keys.iter().skip(50).map(|key| hex(key)).collect(),
            ..raw::Revoked::default()
        },
        ..raw::Policy::default()
    };
    let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let ring = KeyRing::new(&policy);
    let cost = |key: &str, now: u64| {
        COMPARISONS.with(|count| count.set(0));
        let identified = ring.identify(key, now);
        let cause = match identified.identity {
            Identity::Refused(cause) => cause,
            _ => "right",
        };
        (cause, COMPARISONS.with(core::cell::Cell::get))
    };
    let mut costs = alloc::collections::BTreeMap::<_, std::collections::BTreeSet<_>>::new();
    let unknown = (100..=255).map(|seed| format_key(&[seed; 20]));
    for key in keys.iter().cloned().chain(unknown) {
        for now in [0, EXPIRES] {
            let (cause, count) = cost(&key, now);
            costs.entry(cause).or_default().insert(count);
        }
    }
    assert_eq!(costs.len(), 4, "{costs:?}");
    let all: std::collections::BTreeSet<_> = costs.values().flatten().collect();
    assert_eq!(all.len(), 1, "{costs:?}");
}
