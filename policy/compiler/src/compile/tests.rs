//! The same policy has the same bytes, and is loaded as it was compiled.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
use std::path::Path;

use super::*;
use crate::fixture;

/// The policies of the decision vectors, and one with every section.
fn policies() -> Vec<(String, raw::Policy)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/policies");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let raw = serde_json::from_str(&text).unwrap();
        (path.display().to_string(), raw)
    });
    let every_section = fixture::raw(fixture::document());
    files
        .chain([("every section".into(), every_section)])
        .collect()
}

#[test]
fn every_policy_is_loaded_as_it_was_compiled() {
    for (name, raw) in policies() {
        let compile = || Version::new(raw.clone()).unwrap().for_host();
        let before = compile();
        let bytes = before.to_bytes();
        assert_eq!(bytes, compile().to_bytes(), "{name}: the same bytes again");
        let loaded = Compiled::load(&bytes).unwrap_or_else(|fault| panic!("{name} {fault}"));
        assert_eq!(format!("{before:?}"), format!("{loaded:?}"), "{name}");
        assert_eq!(loaded.to_bytes(), bytes, "{name}");
    }
}

/// With an alias, the copies of a model are one value.
#[test]
fn equal_contents_are_written_once_with_or_without_an_alias() {
    let written = |with_aliases: bool| {
        let mut document = fixture::document();
        let digits = document["models"]["digits"].clone();
        for number in 0..100 {
            document["models"][format!("copy{number:03}")] = digits.clone();
        }
        let mut raw = fixture::raw(document);
        if with_aliases {
            let first = raw.models["digits"].clone();
            let models = raw.models.iter_mut();
            let copies = models.filter(|(name, _)| name.starts_with("copy"));
            copies.for_each(|(_, model)| *model = first.clone());
        }
        Version::new(raw).unwrap().for_host().to_bytes()
    };
    let bytes = written(true);
    assert_eq!(bytes, written(false));
    let loaded = Compiled::load(&bytes).unwrap();
    let models = loaded.policy.models().iter();
    let copies = models.filter(|model| model.name().starts_with("copy"));
    let addresses: Vec<_> = copies.map(|model| model.rules.as_ptr()).collect();
    assert_eq!(addresses.len(), 100);
    assert!(addresses.windows(2).all(|pair| pair[0] == pair[1]));
}
