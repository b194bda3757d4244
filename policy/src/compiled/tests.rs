//! A compiled policy is loaded as it was, and damaged bytes are refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests"
)]

extern crate std;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use serde_reflection::{Registry, Samples, Tracer, TracerConfig};
use tensorgate_values::{FNV_OFFSET, Scope};

use super::*;
use crate::contract::Pattern;
use crate::contract::openai::OpenAi;
use crate::fixture;
use crate::policy::{
    Allowance, ApiKey, CallerLimits, Client, ClientId, GrantId, Granted, Holder, Limit, Model,
    ModelId, ModelSigner, RoleId, Unit, filter_part,
};
use crate::request::Operation;

fn compiled() -> Compiled {
    fixture::compiled(fixture::document())
}

#[test]
fn bytes_of_another_form_or_release_are_named_so() {
    let bytes = compiled().to_bytes();
    for text in [&b""[..], b"{}", b"tgpolic", b"version: 1"] {
        assert_eq!(Compiled::load(text).unwrap_err(), LoadFault::NotCompiled);
    }
    let mut other = bytes.clone();
    other[15] ^= 1;
    let found = FORMAT ^ 1;
    assert_eq!(
        Compiled::load(&other).unwrap_err(),
        LoadFault::Format { found }
    );
    let longer = with_header(&[&bytes[HEADER_BYTES..], &[0]].concat());
    let expected = LoadFault::Damaged("bytes follow its end");
    assert_eq!(Compiled::load(&longer).unwrap_err(), expected);
}

#[test]
fn changed_bytes_are_rejected() {
    let bytes = compiled().to_bytes();
    let expected = LoadFault::Damaged("bytes are missing or changed");
    for at in MAGIC.len() + 8..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert_eq!(Compiled::load(&changed).unwrap_err(), expected, "{at}");
    }
}

#[test]
fn a_filter_and_a_host_load_their_own_only() {
    let filter = FilterTarget {
        name: Some("auth".into()),
        headers: HeaderMode::Hold,
        host: false,
        policy_id: "ml/gate".into(),
    };
    let host = HostTarget {
        tightens: Some("fedcba9876543210".into()),
        hold: Some(vec!["digits".into(), "twice".into()]),
    };
    let loaded = |target| {
        let compiled = Compiled {
            target,
            ..compiled()
        };
        Compiled::load(&compiled.to_bytes()).unwrap().target
    };
    let for_filter = loaded(Target::Filter(filter.clone()));
    assert_eq!(for_filter.clone().host(), Err(LoadFault::ForFilter));
    assert_eq!(for_filter.filter(), Ok(filter));
    let for_host = loaded(Target::Host(host.clone()));
    assert_eq!(for_host.clone().filter(), Err(LoadFault::ForHost));
    assert_eq!(for_host.host(), Ok(host));
}

#[test]
fn truncated_bytes_are_rejected() {
    let bytes = compiled().to_bytes();
    for length in MAGIC.len()..HEADER_BYTES {
        let fault = Compiled::load(&bytes[..length]).unwrap_err();
        assert_eq!(fault, LoadFault::Damaged("it ends too early"), "{length}");
    }
    // With a checksum of what is left.
    let fields = &bytes[HEADER_BYTES..];
    for length in 0..fields.len() {
        let fault = Compiled::load(&with_header(&fields[..length])).unwrap_err();
        assert_eq!(fault, LoadFault::Damaged("it ends too early"), "{length}");
    }
}

#[test]
fn no_count_is_trusted() {
    // At the length of each text and sequence of an otherwise empty policy, among other places.
    for at in 0..64 {
        for count in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xc0, 0x84, 0x3d]] {
            let bytes = with_header(&[&vec![0; at][..], count].concat());
            assert!(Compiled::load(&bytes).is_err(), "{at}");
        }
    }
}

#[test]
fn clients_and_keys_take_exactly_the_memory_that_they_need() {
    let mut compiled = compiled();
    let policy = &mut compiled.policy;
    let (client, key) = (policy.clients[0].clone(), policy.api_keys[0]);
    // More than a vector without a hint reserves, and no power of two.
    let many = 20_000;
    *policy.clients = (0..many)
        .map(|index| Client {
            name: format!("client-{index:05}"),
            ..client.clone()
        })
        .collect();
    *policy.api_keys = (0..many)
        .map(|index: u32| {
            let mut sha256 = key.sha256;
            sha256[..4].copy_from_slice(&index.to_be_bytes());
            ApiKey { sha256, ..key }
        })
        .collect();
    policy.granted.roles = vec![RoleId(0); policy.clients.len()];
    let bytes = compiled.to_bytes();
    let loaded = Compiled::load(&bytes).unwrap().policy;
    for capacity in [loaded.clients.capacity(), loaded.api_keys.capacity()] {
        assert_eq!(capacity, usize::try_from(many).unwrap());
    }
}

/// The policy with every section, changed.
fn changed(change: impl FnOnce(&mut Policy)) -> Result<Compiled, LoadFault> {
    let mut compiled = compiled();
    change(&mut compiled.policy);
    Compiled::load(&compiled.to_bytes())
}

#[test]
fn what_a_policy_refers_to_is_there() {
    type Change = fn(&mut Policy);
    let faults: [(&str, Change); 15] = [
        ("two grants have one name", |policy| {
            policy.grants[1].name = policy.grants[0].name.clone();
        }),
        ("no connection is allowed", |policy| {
            policy.listen.limits.connections = 0;
        }),
        ("users and sources have too many counters", |policy| {
            let each_user = Allowance {
                unit: Unit::Requests,
                limit: Limit::Day(1),
                scope: Scope::Local,
                holder: Holder::User { slots: u32::MAX },
            };
            policy.grants[0].callers = Some(Box::new(CallerLimits {
                per_user: vec![each_user],
                per_source: vec![],
            }));
        }),
        ("names are not in order", |policy| policy.clients.reverse()),
        ("digests of keys are not in order", |policy| {
            policy.api_keys.reverse();
        }),
        ("digests of keys are not in order", |policy| {
            policy.revoked.keys = vec![[1; 32], [1; 32]];
        }),
        ("a key belongs to no client", |policy| {
            policy.api_keys[0].client = ClientId(9);
        }),
        ("names are not in order", |policy| {
            let again = policy.models[0].clone();
            policy.models.insert(0, again);
        }),
        ("a client has no role", |policy| {
            policy.granted.roles.pop();
        }),
        ("a model refers to what is not there", |policy| {
            policy.backends.clear();
        }),
        ("a model refers to what is not there", |policy| {
            policy.handlers.clear();
        }),
        ("a grant refers to what is not there", |policy| {
            policy.grants[0].clients.push(ClientId(9));
        }),
        ("a permission refers to what is not there", |policy| {
            policy.grants.pop();
        }),
        ("a permission refers to what is not there", |policy| {
            let version = (RoleId(0), ModelId(0), 9, Operation::Infer);
            policy.granted.by_role.insert(version, GrantId(0));
        }),
        ("a permission refers to what is not there", |policy| {
            let model = (RoleId(0), ModelId(9), 0, Operation::Infer);
            policy.granted.by_role.insert(model, GrantId(0));
        }),
    ];
    for (fault, change) in faults {
        assert_eq!(changed(change).unwrap_err(), LoadFault::Damaged(fault));
    }
    assert!(changed(|_| {}).is_ok());
}

#[test]
fn rights_of_many_models_are_written_once() {
    let with_models = |count: u32| {
        changed(|policy| {
            let (first, role) = (policy.models[0].clone(), RoleId(7));
            for number in 0..count {
                let name = format!("z{number:06}");
                policy.models.push(Model {
                    name,
                    ..first.clone()
                });
                let id = u32::try_from(policy.models.len() - 1).unwrap();
                for operation in [Operation::Infer, Operation::Ready] {
                    let permission = (role, ModelId(id), 0, operation);
                    policy.granted.by_role.insert(permission, GrantId(0));
                }
            }
        })
    };
    let (few, many) = (with_models(1).unwrap(), with_models(1000).unwrap());
    let more = many.to_bytes().len() - few.to_bytes().len();
    // A length, a name of seven bytes, an index, no ensemble and no budget.
    assert!(more <= 999 * 11 + 8, "{more}");
    let granted = |compiled: &Compiled| compiled.policy.granted.by_role.len();
    assert_eq!(granted(&many) - granted(&few), 999 * 2);
}

#[test]
fn a_malformed_automaton_is_not_loaded() {
    let pattern = fixture::pattern();
    let written = postcard::to_allocvec(&pattern).unwrap();
    let loaded = postcard::from_bytes::<Pattern>(&written).unwrap();
    assert_eq!(loaded, pattern);
    let (text, automaton): (String, Vec<u8>) = postcard::from_bytes(&written).unwrap();
    let is_loaded = |automaton: &[u8]| {
        let written = postcard::to_allocvec(&(&text, automaton)).unwrap();
        postcard::from_bytes::<Pattern>(&written).is_ok()
    };
    assert!(is_loaded(&automaton));
    assert!(!is_loaded(&[&automaton[..], &[0]].concat()));
    for length in 0..automaton.len() {
        assert!(!is_loaded(&automaton[..length]), "{length}");
    }
    // Any bytes are refused or searched without a panic.
    for at in 0..automaton.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = automaton.clone();
            changed[at] ^= change;
            let written = postcard::to_allocvec(&(&text, &changed)).unwrap();
            if let Ok(pattern) = postcard::from_bytes::<Pattern>(&written) {
                for text in ["", "ab", "A", "é"] {
                    pattern.matches(text);
                }
            }
        }
    }
}

#[test]
fn no_more_permissions_are_loaded_than_a_policy_may_have() {
    for (count, is_loaded) in [(1_000_000, true), (1_000_001, false), (u32::MAX, false)] {
        for (rights, is_empty) in [(vec![(0_u32, 0_u32, 0_u32)], false), (vec![], true)] {
            // Operations are written as the numbers of their variants.
            let stored = (
                vec![0_u32],
                (vec![rights], vec![(0_u32, 0_u32, count, 0_u32)]),
            );
            let bytes = postcard::to_allocvec(&stored).unwrap();
            let granted = postcard::from_bytes::<Granted>(&bytes);
            assert_eq!(granted.is_ok(), is_loaded, "{count} {is_empty}");
        }
    }
}

#[test]
fn a_filter_gets_its_part_in_numbers_that_it_can_hold() {
    let mut document = fixture::document();
    document["listen"]["limits"]["buffered_bytes"] = "8GiB".into();
    document["audit"] = serde_json::json!({"path": "secret-folder/audit.jsonl"});
    let policy = fixture::policy(document);
    let part = filter_part(policy.clone());
    let limit = |policy: &Policy| u64::try_from(policy.listen.limits.buffered_bytes).unwrap();
    assert_eq!((limit(&policy), limit(&part)), (8 << 30, u32::MAX.into()));
    let part = format!("{part:?}");
    for text in ["secret-folder", "png.wasm", "models/", "labels"] {
        assert!(
            format!("{policy:?}").contains(text) && !part.contains(text),
            "{text}"
        );
    }
}

/// Names, fields and types of everything that a compiled policy consists of.
fn layout() -> Registry {
    let mut samples = Samples::new();
    let pattern = fixture::pattern();
    let mut enums: Vec<String> = Vec::new();
    loop {
        let config = TracerConfig::default().is_human_readable(false);
        // Some numbers are never zero.
        let mut tracer = Tracer::new(config.default_u64_value(1));
        // An automaton is checked while it is read, so an example is needed.
        tracer.trace_value(&mut samples, &pattern).unwrap();
        // Each pass shows one more variant of each enum, first by name, then by index.
        for _ in 0..100 {
            for name in &enums {
                tracer.check_incomplete_enum(name);
            }
            tracer.trace_type_once::<Compiled>(&samples).unwrap();
            // What is only in later variants of other enums.
            tracer.trace_type_once::<Target>(&samples).unwrap();
            tracer.trace_type_once::<OpenAi>(&samples).unwrap();
            tracer.trace_type_once::<ModelSigner>(&samples).unwrap();
        }
        match tracer.registry() {
            Ok(layout) => return layout,
            Err(serde_reflection::Error::MissingVariants(more)) => {
                assert!(more.iter().any(|name| !enums.contains(name)), "{more:?}");
                enums.extend(more);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn the_recorded_digest_is_that_of_the_layout() {
    let layout = layout();
    for name in ["Grant", "TensorRule", "OnToken", "ModelSigner"] {
        assert!(layout.contains_key(name), "{name}");
    }
    let digest = fnv1a(FNV_OFFSET, format!("{layout:?}").as_bytes());
    assert_eq!(
        LAYOUT, digest,
        "the types have another layout: set LAYOUT to {digest:#018x}"
    );
    assert_ne!(FORMAT, LAYOUT, "another release has another format");
}
