//! A compiled policy is loaded as it was, and damaged bytes are refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests"
)]

extern crate std;

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use std::path::Path;

use serde_reflection::{Registry, Samples, Tracer, TracerConfig};

use super::*;
use crate::contract::openai::OpenAi;
use crate::fixture;
use crate::fixture::RawPolicy;
use crate::policy::{ClientId, GrantId, Granted, Model, ModelId, ModelSigner, RoleId};
use crate::request::Operation;
use crate::values::FNV_OFFSET;

fn compiled(raw: &RawPolicy) -> Compiled {
    let (policy, warnings) = fixture::validate(raw).unwrap();
    Compiled {
        generation: "0123456789abcdef".into(),
        headers: HeaderMode::Hold,
        filter: Some("gate".into()),
        host: true,
        warnings,
        policy,
    }
}

/// The policies of the decision vectors, and one with every section.
fn policies() -> Vec<(String, RawPolicy)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/policies");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        (
            format!("{}", path.display()),
            serde_json::from_str(&text).unwrap(),
        )
    });
    let every_section = fixture::raw(fixture::document());
    files
        .chain([("every section".into(), every_section)])
        .collect()
}

#[test]
fn every_policy_is_loaded_as_it_was_compiled() {
    for (name, raw) in policies() {
        let before = compiled(&raw);
        let bytes = before.to_bytes();
        assert_eq!(
            bytes,
            compiled(&raw).to_bytes(),
            "{name}: the same bytes again"
        );
        let loaded = Compiled::load(&bytes).unwrap_or_else(|fault| panic!("{name} {fault}"));
        assert_eq!(format!("{before:?}"), format!("{loaded:?}"), "{name}");
        assert_eq!(loaded.to_bytes(), bytes, "{name}");
    }
}

#[test]
fn shared_contents_are_shared_again() {
    let mut document = fixture::document();
    let digits = document["models"]["digits"].clone();
    for number in 0..100 {
        document["models"][format!("copy{number:03}")] = digits.clone();
    }
    let mut raw = fixture::raw(document);
    let first = raw.models["digits"].clone();
    let copies = raw
        .models
        .iter_mut()
        .filter(|(name, _)| name.starts_with("copy"));
    copies.for_each(|(_, model)| *model = first.clone());
    let bytes = compiled(&raw).to_bytes();
    let loaded = Compiled::load(&bytes).unwrap();
    let addresses = |policy: &Policy| {
        let models = policy.models.iter();
        let copies = models.filter(|model| model.name().starts_with("copy"));
        copies.map(|model| model.rules.as_ptr()).collect::<Vec<_>>()
    };
    let addresses = addresses(&loaded.policy);
    assert_eq!(addresses.len(), 100);
    assert!(addresses.iter().all(|address| *address == addresses[0]));
}

#[test]
fn bytes_of_another_form_or_release_are_named_so() {
    let bytes = compiled(&fixture::raw(fixture::document())).to_bytes();
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
    let mut longer = bytes;
    longer.push(0);
    let expected = LoadFault::Damaged("bytes follow its end");
    assert_eq!(Compiled::load(&longer).unwrap_err(), expected);
}

#[test]
fn truncated_bytes_are_rejected() {
    let bytes = compiled(&fixture::raw(fixture::document())).to_bytes();
    for length in MAGIC.len()..bytes.len() {
        let fault = Compiled::load(&bytes[..length]).unwrap_err();
        assert!(matches!(fault, LoadFault::Damaged(_)), "{length}: {fault}");
    }
}

#[test]
fn no_count_is_trusted() {
    let header = [MAGIC, FORMAT.to_be_bytes()].concat();
    // At the length of each text and sequence of an otherwise empty policy, among other places.
    for at in 0..64 {
        for count in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xc0, 0x84, 0x3d]] {
            let bytes = [&header, &vec![0; at][..], count].concat();
            assert!(Compiled::load(&bytes).is_err(), "{at}");
        }
    }
}

/// The policy with every section, changed.
fn changed(change: impl FnOnce(&mut Policy)) -> Result<Compiled, LoadFault> {
    let mut compiled = compiled(&fixture::raw(fixture::document()));
    change(&mut compiled.policy);
    Compiled::load(&compiled.to_bytes())
}

#[test]
fn what_a_policy_refers_to_is_there() {
    type Change = fn(&mut Policy);
    let faults: [(&str, Change); 9] = [
        ("names are not in order", |policy| policy.clients.reverse()),
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
    let part = policy.clone().filter_part();
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
    let samples = Samples::new();
    let mut enums: Vec<String> = Vec::new();
    loop {
        let config = TracerConfig::default().is_human_readable(false);
        // Some numbers are never zero.
        let mut tracer = Tracer::new(config.default_u64_value(1));
        // Each pass shows one more variant of each enum, first by name, then by index.
        for _ in 0..100 {
            for name in &enums {
                tracer.check_incomplete_enum(name);
            }
            tracer.trace_type_once::<Compiled>(&samples).unwrap();
            // What is only in later variants of other enums.
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
