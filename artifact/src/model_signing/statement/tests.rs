//! Statements that differ from a valid one in one thing.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::model_signing::FileClass;

/// SHA-256 of `y`, `hello` and `x`.
const Y: &str = "a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa";
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const X: &str = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";

/// A statement in the form of `model-signing` 1.1.1, with the root digest of `resources`.
fn statement(resources: &[(&str, &str)], serialization: &str) -> String {
    let root: Vec<u8> = resources
        .iter()
        .flat_map(|(_, digest)| unhex::<32>(digest.as_bytes()).unwrap())
        .collect();
    let root = hex(&<sha2::Sha256 as sha2::Digest>::digest(root));
    let resources: Vec<String> = resources
        .iter()
        .map(|(name, digest)| {
            format!(r#"{{"digest": "{digest}", "name": "{name}", "algorithm": "sha256"}}"#)
        })
        .collect();
    let resources = resources.join(", ");
    format!(
        r#"{{"_type": "https://in-toto.io/Statement/v1",
            "subject": [{{"name": "model", "digest": {{"sha256": "{root}"}}}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {{"resources": [{resources}], "serialization": {serialization}}}}}"#
    )
}

const RULES: &str = r#"{"method": "files", "hash_type": "sha256", "allow_symlinks": false,
    "ignore_paths": [".git", "model.sig"]}"#;

fn valid() -> String {
    statement(&[("a/b", Y), ("a-b", HELLO), ("sub/w", X)], RULES)
}

#[test]
fn a_statement_of_the_reference_is_read() {
    let manifest = read_statement(valid().as_bytes()).unwrap();
    assert_eq!(manifest.name, "model");
    assert_eq!(manifest.rules().pieces, Pieces::Files);
    assert!(!manifest.rules().follow_links);
    assert_eq!(manifest.resources().len(), 3);
    assert_eq!(manifest.classify("a-b"), FileClass::Signed);
    assert_eq!(manifest.classify("model.sig"), FileClass::Excluded);
}

#[test]
fn what_is_written_is_read_again() {
    let manifest = read_statement(valid().as_bytes()).unwrap();
    let written = write_statement(&manifest).unwrap();
    let again = read_statement(&written).unwrap();
    assert_eq!(again.resources(), manifest.resources());
    // All paths that are left out are recorded, the default ones, too.
    let text = String::from_utf8(written).unwrap();
    let ignored = r#""ignore_paths":[".git",".gitattributes",".github",".gitignore","model.sig"]"#;
    assert!(text.contains(ignored), "{text}");
    // Sorted by name, as the specification says.
    assert!(text.find("a-b") < text.find("a/b"), "{text}");
}

#[test]
fn no_more_paths_are_left_out_than_are_read_again() {
    let paths = |count: usize| (0..count).map(|number| number.to_string());
    // Four are those of git. A path that is named twice counts once.
    let most = paths(9_996).chain(paths(1));
    let rules = Rules {
        pieces: Pieces::Files,
        follow_links: false,
        exclusions: Exclusions::new(most).unwrap(),
    };
    let resources = vec![Resource::file("weights".to_owned(), [7; 32])];
    let manifest = Manifest::new("model".to_owned(), rules, resources).unwrap();
    let again = read_statement(&write_statement(&manifest).unwrap()).unwrap();
    assert_eq!(again, manifest);
    let fault = Exclusions::new(paths(9_997)).unwrap_err();
    assert_eq!(fault, ("9996".to_owned(), PathFault::TooMany));
}

#[test]
fn shards_of_the_reference_are_read() {
    let shards = r#"{"shard_size": 2.0, "method": "shards", "hash_type": "sha256",
        "allow_symlinks": true}"#;
    let text = statement(&[("w:0:2", Y), ("w:2:3", X)], shards);
    let text = text.replace(
        r#""algorithm": "sha256""#,
        r#""algorithm": "sha256-sharded-2""#,
    );
    let manifest = read_statement(text.as_bytes()).unwrap();
    assert_eq!(manifest.sharded_bytes("w"), Some(3));
    assert!(manifest.rules().follow_links);
    let again = read_statement(&write_statement(&manifest).unwrap()).unwrap();
    assert_eq!(again.resources(), manifest.resources());
    for size in ["0", "-1", "2.5", "1e300", "\"2\"", "null"] {
        let text = text.replace("2.0", size);
        assert!(read_statement(text.as_bytes()).is_err(), "{size}");
    }
    let other = text.replace("sha256-sharded-2", "sha256-sharded-3");
    assert!(matches!(
        read_statement(other.as_bytes()),
        Err(StatementFault::Hash(_))
    ));
}

#[test]
fn members_without_meaning_are_ignored() {
    let text = valid()
        .replace(
            r#""name": "a/b""#,
            r#""name": "a/b", "uri": "x", "annotations": {"k": [1]}"#,
        )
        .replace(
            r#""name": "model""#,
            r#""name": "model", "annotations": {}"#,
        );
    read_statement(text.as_bytes()).unwrap();
}

/// Replaces a part of the valid statement, reads it, and expects this text in the fault.
#[track_caller]
fn rejected(part: &str, replacement: &str, expected: &str) {
    let text = valid();
    assert!(text.contains(part), "{part}");
    let fault = read_statement(text.replacen(part, replacement, 1).as_bytes()).unwrap_err();
    assert!(fault.to_string().contains(expected), "{part}: {fault}");
}

#[test]
fn another_statement_is_rejected() {
    rejected(
        "in-toto.io/Statement/v1",
        "in-toto.io/Statement/v0.1",
        "not an in-toto",
    );
    rejected("signature/v1.0", "Digests/v0.1", "sign the model again");
    rejected(
        "https://model_signing/signature/v1.0",
        "https://example.com/x",
        "example.com",
    );
    rejected(r#""predicate":"#, r#""more": 1, "predicate":"#, "more");
    rejected(r#""resources":"#, r#""more": 1, "resources":"#, "more");
    rejected(r#""method":"#, r#""more": 1, "method":"#, "more");
    rejected(r#""allow_symlinks": false,"#, "", "allow_symlinks");
    rejected(
        r#""allow_symlinks": false"#,
        r#""allow_symlinks": "false""#,
        "boolean",
    );
}

#[test]
fn other_subjects_are_rejected() {
    let subject = r#"{"name": "model", "digest": {"sha256": ""#;
    rejected(r#""name": "model""#, r#""name": """#, "has no name");
    rejected(
        subject,
        &format!(r#"{{"name": "x", "digest": {{"sha256": "{X}"}}}}, {subject}"#),
        "one subject",
    );
    rejected(r#""digest": {"sha256""#, r#""digest": {"sha512""#, "sha256");
    let many = format!(r#"{{"name": "x", "digest": {{"sha256": "{X}"}}}}, "#).repeat(100_000);
    rejected(subject, &format!("{many}{subject}"), "more than 2");
    let root = valid()
        .split(subject)
        .nth(1)
        .unwrap()
        .get(..64)
        .unwrap()
        .to_owned();
    rejected(&root, X, "the root digest is");
    rejected(&root, &root.to_uppercase(), "64 lower-case hex digits");
}

#[test]
fn other_resources_are_rejected() {
    rejected(r#""name": "a-b""#, r#""name": "sub/w""#, "there twice");
    rejected(r#""name": "a/b""#, r#""name": "z""#, "not sorted");
    rejected(r#""name": "a/b""#, r#""name": "../b""#, "leads out");
    rejected(
        r#""name": "a/b""#,
        r#""name": "a/b", "name": "a/b""#,
        "there twice",
    );
    rejected(r#""name": "a/b", "#, "", "name");
    rejected(Y, &Y.to_uppercase(), "64 lower-case hex digits");
    rejected(Y, "a1fce4", "64 lower-case hex digits");
    rejected(
        r#""algorithm": "sha256""#,
        r#""algorithm": "blake3""#,
        "blake3",
    );
    let empty = statement(&[], RULES);
    let fault = read_statement(empty.as_bytes()).unwrap_err();
    assert_eq!(fault, StatementFault::Manifest(ManifestFault::Empty));
    let resources: Vec<(&str, &str)> = vec![("x", X); MAX_RESOURCES.saturating_add(1)];
    let fault = read_statement(statement(&resources, RULES).as_bytes()).unwrap_err();
    assert!(fault.to_string().contains("more than 200000"), "{fault}");
}

#[test]
fn other_rules_are_rejected() {
    rejected(
        r#""hash_type": "sha256""#,
        r#""hash_type": "blake2b""#,
        "blake2b",
    );
    rejected(r#""method": "files""#, r#""method": "shards""#, "shards");
    rejected(r#""method": "files""#, r#""method": "tree""#, "tree");
    rejected(
        r#""method": "files""#,
        r#""method": "files", "shard_size": 8"#,
        "size of shards",
    );
    rejected(r#"".git""#, r#""*.bin""#, "patterns");
    rejected(r#"".git""#, r#""../x""#, "leads out");
    rejected(r#"".git""#, r#""""#, "is empty");
}

#[test]
fn the_time_of_a_signature_has_one_form() {
    let manifest = read_statement(valid().as_bytes()).unwrap();
    assert_eq!(manifest.signed_at_s, None);
    let signed = manifest.signed_at(1_780_000_000);
    let written = write_statement(&signed).unwrap();
    let text = String::from_utf8(written).unwrap();
    let annotation = r#""annotations":{"tensorgate.signed_at":"2026-05-28T20:26:40Z"}"#;
    assert!(text.contains(annotation), "{text}");
    assert_eq!(read_statement(text.as_bytes()), Ok(signed));
    let with = |time: &str| {
        let named = r#""name": "model""#;
        let annotations = format!(r#"{named}, "annotations": {{"tensorgate.signed_at": {time}}}"#);
        read_statement(valid().replace(named, &annotations).as_bytes())
    };
    assert_eq!(
        with("\"2026-05-28T20:26:40Z\"").unwrap().signed_at_s,
        Some(1_780_000_000)
    );
    for time in [
        "\"\"",
        "\"2026-05-28\"",
        "\"2026-05-28T20:26:40.5Z\"",
        "\"2026-05-28T20:26:40+00:00\"",
        "\"1969-12-31T23:59:59Z\"",
        "1780000000",
        "[]",
    ] {
        assert!(with(time).is_err(), "{time}");
    }
}
