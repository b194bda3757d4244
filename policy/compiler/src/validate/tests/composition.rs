//! Chains of handlers, and versions that share requests or get copies.

use super::*;

const VERSIONS: &str = "/models/twice/versions";

#[test]
fn a_chain_is_a_name_or_a_list_of_them() {
    let at = "/models/picture/preprocess";
    let links = |value: Value| model(with(at, value), "picture").preprocess().to_vec();
    assert_eq!(links(json!("png")), ["png"]);
    assert_eq!(links(json!(["png"])), ["png"]);
    assert_eq!(
        links(json!(["png", "labels", "png"])),
        ["png", "labels", "png"]
    );
    accept(at, json!(vec!["png"; 8]));
    let path = "models.picture.preprocess";
    check(at, json!([]), path, "is empty (the name of a handler)");
    check(
        at,
        json!(vec!["png"; 9]),
        path,
        "9 handlers in a row are too many (at most 8)",
    );
    check(at, json!("pgn"), path, "there is no handler \"pgn\"");
    let second = "models.picture.preprocess[1]";
    check(
        at,
        json!(["png", "lables"]),
        second,
        "there is no handler \"lables\"",
    );
    let after = "/models/picture/postprocess";
    check(
        after,
        json!(["labels", "x"]),
        "models.picture.postprocess[1]",
        "there is no handler",
    );
}

#[test]
fn a_chain_of_one_is_written_as_its_name() {
    for (written, canonical) in [
        (json!(["png"]), json!("png")),
        (json!("png"), json!("png")),
        (json!(["png", "labels"]), json!(["png", "labels"])),
    ] {
        let raw = raw(with("/models/picture/preprocess", written));
        let value = serde_json::to_value(&raw).unwrap();
        assert_eq!(value["models"]["picture"]["preprocess"], canonical);
    }
}

#[test]
fn every_link_of_a_chain_counts_as_used() {
    let document = with("/models/picture/preprocess", json!(["png", "labels"]));
    let errors = errors(document.clone());
    assert!(errors.is_empty(), "{errors:#?}");
    assert_eq!(warnings(document), Vec::<String>::new());
}

#[test]
fn versions_share_by_weight_and_shadows_are_none_of_them() {
    let twice = model(
        with(
            VERSIONS,
            json!({"1": {"weight": 95}, "2": {"weight": 5}, "3": {"shadow": true, "percent": 10, "tolerance": 0.5}}),
        ),
        "twice",
    );
    assert_eq!(twice.versions(), ["1", "2"]);
    assert_eq!(twice.routing().weights, [95, 5]);
    let [shadow] = twice.routing().shadows() else {
        panic!("{:?}", twice.routing())
    };
    assert_eq!((shadow.version(), shadow.percent), ("3", 10));
    assert!((shadow.tolerance() - 0.5).abs() < 1e-12);
    let plain = model(with(VERSIONS, json!({"1": {}, "2": {}})), "twice");
    assert!(!plain.routing().has_weights());
    let sticky = |value: Value| {
        let mut document = with(VERSIONS, json!({"1": {"weight": 1}}));
        put(&mut document, "/models/twice/sticky", value);
        errors(document)
    };
    assert_eq!(sticky(json!("client")), Vec::<String>::new());
}

#[test]
fn unreachable_versions_are_faults() {
    let versions = |value: Value, path: &str, text: &str| {
        check(VERSIONS, value, &format!("models.twice.{path}"), text);
    };
    versions(json!({}), "versions", "no version answers clients");
    versions(
        json!({"3": {"shadow": true}}),
        "versions",
        "no version answers clients",
    );
    versions(
        json!({"1": {"weight": 0}}),
        "versions",
        "no version has a weight above 0",
    );
    versions(
        json!({"1": {"weight": 1}, "2": {}}),
        "versions.2.weight",
        "is missing: other versions have a weight (weight: 0",
    );
    versions(
        json!({"1": {"weight": 100_001}}),
        "versions.1.weight",
        "above the maximum",
    );
    versions(json!({"1/2": {}}), "versions.1/2", "which is not allowed");
    versions(
        json!({"1": {}, "3": {"shadow": true, "weight": 1}}),
        "versions.3.weight",
        "never answers clients (remove it)",
    );
    versions(
        json!({"1": {"percent": 5}}),
        "versions.1.percent",
        "is only for a version with shadow: true",
    );
    versions(
        json!({"1": {}, "3": {"shadow": true, "percent": 0}}),
        "versions.3.percent",
        "below the minimum",
    );
    versions(
        json!({"1": {}, "3": {"shadow": true, "tolerance": -1}}),
        "versions.3.tolerance",
        "is not a distance",
    );
    let many: serde_json::Map<_, _> = (2..7)
        .map(|version| (version.to_string(), json!({"shadow": true})))
        .chain([("1".to_owned(), json!({}))])
        .collect();
    versions(
        many.into(),
        "versions",
        "more than 4 versions with shadow: true",
    );
    check(
        "/models/twice/sticky",
        json!("client"),
        "models.twice.sticky",
        "no version has a weight",
    );
}

#[test]
fn a_shadow_version_cannot_be_granted() {
    let mut document = with(VERSIONS, json!({"1": {"weight": 1}, "3": {"shadow": true}}));
    accept(VERSIONS, json!({"1": {"weight": 1}, "3": {"shadow": true}}));
    put(
        &mut document,
        "/grants/0/models",
        json!(["digits", "twice@3", "picture"]),
    );
    let [error] = &*errors(document) else {
        panic!("one fault")
    };
    assert_eq!(
        error,
        "grants[0].models[1]: version \"3\" of model \"twice\" has shadow: true, so that clients cannot call it (remove it)"
    );
}

#[test]
fn a_sequence_stays_with_one_version() {
    let document = |versions: Value, sticky: Value| {
        let mut document = with(VERSIONS, versions);
        put(&mut document, "/models/twice/sticky", sticky);
        put(
            &mut document,
            "/models/twice/parameters",
            json!({"sequence_id": {"int": [0, 10]}}),
        );
        errors(document)
    };
    let both = json!({"1": {"weight": 1}, "2": {"weight": 1}});
    let [error] = &*document(both.clone(), Value::Null) else {
        panic!("one fault")
    };
    assert!(
        error.ends_with("sequence_id is allowed (sticky: client)"),
        "{error}"
    );
    assert_eq!(document(both, json!("client")), Vec::<String>::new());
    let one = json!({"1": {"weight": 1}, "2": {"weight": 0}});
    assert_eq!(document(one, Value::Null), Vec::<String>::new());
    let shadow = json!({"1": {}, "3": {"shadow": true}});
    let [error] = &*document(shadow, Value::Null) else {
        panic!("one fault")
    };
    assert!(
        error.contains("copies to a shadow version may be dropped"),
        "{error}"
    );
}

#[test]
fn versions_must_be_expressible_in_the_models_protocols() {
    let mut document = with(VERSIONS, json!({"1": {"weight": 1}, "007": {"weight": 1}}));
    put(
        &mut document,
        "/models/twice/protocols",
        json!(["oip-rest", "tf-serving-grpc"]),
    );
    let [error] = &*errors(document) else {
        panic!("one fault")
    };
    assert!(
        error.starts_with("models.twice.versions.007: tf-serving-grpc cannot name"),
        "{error}"
    );
}
