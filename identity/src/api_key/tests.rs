//! Which client an API key belongs to.
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

use tensorgate_policy::policy::{ApiKey, ClientId};
use tensorgate_policy::request::Identity;
use tensorgate_policy::{Policy, SmolStr};
use tensorgate_policy_compiler::raw;
use tensorgate_policy_compiler::validate::validate;

use super::{KeyFormat, KeyRing, digest, format_key};

extern crate std;

std::thread_local! {
    static COMPARISONS: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
}

/// Called for every comparison of two digests on this thread.
pub(super) fn compared() {
    COMPARISONS.with(|count| count.set(count.get() + 1));
}

/// The end of `2027-01-31`.
const EXPIRES: u64 = 1_801_440_000;

fn hex(key: &str) -> String {
    tensorgate_policy::hex(&digest(key))
}

/// `old` is valid until 2027-01-31, `new` has no expiry; both belong to `alpha`. `other` belongs
/// to `beta`.
fn policy() -> (Policy, [String; 3]) {
    let keys = [
        format_key(&[1; 20]),
        format_key(&[2; 20]),
        format_key(&[3; 20]),
    ];
    let key = |index: usize, not_after: Option<&str>| raw::ApiKey {
        sha256: keys.get(index).map(|key| hex(key)),
        not_after: not_after.map(Into::into),
        ..raw::ApiKey::default()
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
fn malformed_keys_belong_to_no_client() {
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
            malformed(text),
            "{text:.80}"
        );
    }
    assert_eq!(
        KeyRing::default().identify(&old, 0).identity,
        Identity::Refused("unknown api key")
    );
}

/// A digest is of the key's own text. A well-formed key that no client lists is unknown. A
/// malformed key is not looked up, even if its digest is listed.
#[test]
fn a_listed_digest_of_a_malformed_key_is_rejected() {
    let raw = raw::Policy {
        version: Some(1),
        clients: [(
            "alpha".into(),
            raw::Client {
                api_keys: vec![raw::ApiKey {
                    sha256: Some(hex("password")),
                    ..raw::ApiKey::default()
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
        malformed("password")
    );
}

#[test]
fn a_revoked_key_belongs_to_no_client_even_if_listed() {
    let key = format_key(&[1; 20]);
    let raw = raw::Policy {
        version: Some(1),
        clients: [(
            "alpha".into(),
            raw::Client {
                api_keys: vec![raw::ApiKey {
                    sha256: Some(hex(&key)),
                    ..raw::ApiKey::default()
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
    assert_eq!(identified.revoked_client.as_deref(), Some("alpha"));
}

#[test]
fn a_log_names_a_key_by_the_start_of_its_digest() {
    let (policy, [old, ..]) = policy();
    let ring = KeyRing::new(&policy);
    let named = |digits: &str| Some(["key:", &digits[..16]].concat().into());
    assert_eq!(ring.identify(&old, 0).credential, named(&hex(&old)));
    let unknown = format_key(&[9; 20]);
    assert_eq!(ring.identify(&unknown, 0).credential, named(&hex(&unknown)));
    assert_eq!(ring.identify("password", 0).credential, None);
}

#[test]
fn a_lookup_among_a_hundred_thousand_keys_needs_few_comparisons() {
    let most = |count: u32| {
        let mut ring = KeyRing::default();
        ring.keys.extend((0..count).map(|number| ApiKey {
            sha256: digest(&format!("{number}")),
            expires_unix_s: None,
            client: ClientId(0),
            format: KeyFormat::Tensorgate,
        }));
        ring.keys.sort_unstable_by_key(|key| key.sha256);
        // Known and unknown keys alike.
        let cost = |seed: u8| {
            COMPARISONS.with(|count| count.set(0));
            let _ = ring.identify(&format_key(&[seed; 20]), 0);
            COMPARISONS.with(core::cell::Cell::get)
        };
        (0..=255).map(cost).max().unwrap()
    };
    let (few, many) = (most(10), most(100_000));
    // In addition to one SHA-256, which costs about a hundred comparisons.
    assert!(
        few >= 1 && many <= 64,
        "{few} among 10, {many} among 100,000"
    );
}

#[test]
fn wrong_and_valid_keys_need_equally_many_comparisons() {
    // Every fifth key is of another system. Of these, the even ones are listed without their
    // format.
    let keys: Vec<_> = (0..100)
        .map(|seed| match seed % 5 {
            0 => format!("sk-live-{seed:024}"),
            _ => format_key(&[seed; 20]),
        })
        .collect();
    let listed = |key: &String| raw::ApiKey {
        sha256: Some(hex(key)),
        not_after: Some("2027-01-31".into()),
        format: if key.ends_with('5') {
            KeyFormat::Any
        } else {
            KeyFormat::Tensorgate
        },
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
    let unknown = unknown.chain((100..=255).map(|seed| format!("sk-live-{seed:024}")));
    for key in keys.iter().cloned().chain(unknown) {
        for now in [0, EXPIRES] {
            let (cause, count) = cost(&key, now);
            costs.entry(cause).or_default().insert(count);
        }
    }
    assert_eq!(costs.len(), 5, "{costs:?}");
    let all: std::collections::BTreeSet<_> = costs.values().flatten().collect();
    assert_eq!(all.len(), 1, "{costs:?}");
}

/// A policy whose only client has these keys, each with its format.
fn ring(keys: &[(&str, KeyFormat)]) -> KeyRing {
    let key = |(text, format): &(&str, KeyFormat)| raw::ApiKey {
        sha256: Some(hex(text)),
        format: *format,
        ..raw::ApiKey::default()
    };
    let client = raw::Client {
        api_keys: keys.iter().map(key).collect(),
        ..raw::Client::default()
    };
    let raw = raw::Policy {
        version: Some(1),
        clients: [("alpha".into(), client)].into(),
        ..raw::Policy::default()
    };
    let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    KeyRing::new(&policy)
}

/// Why a text that cannot be a key is refused: one of ours is damaged, any other is a stranger's.
fn malformed(text: &str) -> Identity {
    Identity::Refused(match text.starts_with("tg_") {
        true => "api key is malformed",
        false => "neither a key of this gate nor a token",
    })
}

const FOREIGN: &str = "sk-live-4f9aK2mQx7Lw0Zr8Vb3Nd6Tc";
const UNNAMED: &str = "sk-live-9Zr8Vb3Nd6Tc4f9aK2mQx7Lw";

#[test]
fn a_foreign_key_is_accepted_only_with_format_any() {
    let ours = format_key(&[1; 20]);
    let ring = ring(&[
        (FOREIGN, KeyFormat::Any),
        (UNNAMED, KeyFormat::Tensorgate),
        (&ours, KeyFormat::Any),
    ]);
    let named = |text: &str| Some(SmolStr::from(format!("key:{}", &hex(text)[..16])));
    let of_another = "api key is not of tensorgate's format, which its entry requires";
    for (text, expected, credential) in [
        (FOREIGN, Identity::Client("alpha".into()), named(FOREIGN)),
        (&*ours, Identity::Client("alpha".into()), named(&ours)),
        (UNNAMED, Identity::Refused(of_another), named(UNNAMED)),
        // It may be a secret of another system: no part of its digest is logged.
        (
            "sk-live-0000000000000000unknown0",
            Identity::Refused("unknown api key"),
            None,
        ),
        ("password", malformed("password"), None),
    ] {
        let identified = ring.identify(text, 0);
        assert_eq!(identified.identity, expected, "{text}");
        assert_eq!(identified.credential, credential, "{text}");
    }
}

#[test]
fn a_policy_without_keys_of_other_systems_hashes_none() {
    let own = ring(&[(FOREIGN, KeyFormat::Tensorgate)]);
    let any = ring(&[(FOREIGN, KeyFormat::Any)]);
    let comparisons = |ring: &KeyRing| {
        COMPARISONS.with(|count| count.set(0));
        let _ = ring.identify(FOREIGN, 0);
        COMPARISONS.with(core::cell::Cell::get)
    };
    assert_eq!(comparisons(&own), 0);
    assert!(comparisons(&any) > 0);
}

#[test]
fn a_listed_digest_of_a_text_that_cannot_be_a_key_is_rejected() {
    let long = "x".repeat(513);
    for text in [
        "a-key-with-19-chars",
        &long,
        "sk-live-4f9aK2mQ x7Lw0Zr8Vb3N",
        "sk-live-4f9aK2mQ,x7Lw0Zr8Vb3N",
        "sk-live-4f9aK2mQ\tx7Lw0Zr8Vb3N",
        "sk-live-4f9aK2mQ\u{e9}x7Lw0Zr8Vb3N",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",
        "tg_4f9aK2mQx7Lw0Zr8Vb3Nd6Tc1Hd6Jf8L0",
    ] {
        let identity = ring(&[(text, KeyFormat::Any)]).identify(text, 0).identity;
        assert_eq!(identity, malformed(text), "{text}");
    }
}

/// A policy may have a hundred thousand keys, in every worker.
#[test]
fn a_key_takes_no_more_room_for_its_format() {
    assert_eq!(size_of::<ApiKey>(), 48);
    assert_eq!(size_of::<raw::ApiKey>(), 2 * size_of::<String>());
}
