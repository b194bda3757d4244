//! Keys, and handlers that must be signed.

use super::*;

/// The fixture with two keys, and a handler that must be signed with one of them.
fn signed() -> Value {
    let mut document = document();
    document["keys"] = json!({"release": {"ed25519": digest(7)}, "old": {"ed25519": digest(8)}});
    document["handlers"]["png"]["signed_by"] = json!(["release", "old"]);
    document["handlers"]["png"]["signed_as"] = json!("team/png@1.4.0");
    document
}

fn changed(at: &str, value: Value) -> Value {
    let mut document = signed();
    let (parent, name) = at.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[name] = value;
    document
}

#[test]
fn a_handler_names_its_keys_and_what_it_is_signed_as() {
    let policy = policy(signed());
    let asked = policy.handlers()["png"].signed_by().unwrap();
    let keys: Vec<_> = asked.keys().iter().collect();
    assert_eq!(
        keys,
        [(&"old".into(), &[8; 32]), (&"release".into(), &[7; 32])]
    );
    let signed_as = asked.signed_as().unwrap();
    assert_eq!(
        (signed_as.name(), signed_as.version()),
        ("team/png", "1.4.0")
    );
    assert!(policy.handlers()["labels"].signed_by().is_none());
    // The other handler's component needs no signature. The warning says so.
    let warnings = warnings(signed());
    assert!(
        warnings
            .iter()
            .any(|text| text.starts_with("handlers.labels: ")
                && text.contains("this handler's signature is not checked")),
        "{warnings:#?}"
    );
}

#[test]
fn invalid_signing_settings_are_faults() {
    for (at, value, path, text) in [
        (
            "/handlers/png/signed_by",
            json!([]),
            "handlers.png.signed_by",
            "is empty",
        ),
        (
            "/handlers/png/signed_by",
            json!(["relaese"]),
            "handlers.png.signed_by[0]",
            "there is no key",
        ),
        (
            "/handlers/png/signed_by",
            json!(["old", "old"]),
            "handlers.png.signed_by[1]",
            "listed twice",
        ),
        (
            "/handlers/png/signed_by",
            Value::Null,
            "handlers.png.signed_as",
            "has no effect without signed_by",
        ),
        (
            "/handlers/png/signed_as",
            json!("png"),
            "handlers.png.signed_as",
            "name and version",
        ),
        (
            "/handlers/png/signed_as",
            json!("../png@1"),
            "handlers.png.signed_as",
            "name and version",
        ),
        (
            "/handlers/png/signed_as",
            json!("png@1@2"),
            "handlers.png.signed_as",
            "name and version",
        ),
        (
            "/keys/old",
            json!({"ed25519": digest(7)}),
            "keys.release.ed25519",
            "is the same key as",
        ),
        ("/keys/old", json!({}), "keys.old.ed25519", "is missing"),
        (
            "/keys/old",
            json!({"ed25519": "AB".repeat(32)}),
            "keys.old.ed25519",
            "is not an Ed25519",
        ),
        (
            "/keys/old",
            json!({"ed25519": "ab".repeat(31)}),
            "keys.old.ed25519",
            "is not an Ed25519",
        ),
    ] {
        let errors = errors(changed(at, value.clone()));
        let [error] = errors.as_slice() else {
            panic!("{at} = {value}: {errors:#?}")
        };
        assert!(
            error.starts_with(&format!("{path}: ")) && error.contains(text),
            "{at} = {value}: {error}"
        );
    }
    let many: Vec<_> = (0..17_u8).map(|number| format!("k{number}")).collect();
    let mut document = signed();
    for (number, name) in (100_u8..).zip(&many) {
        document["keys"][name] = json!({"ed25519": digest(number)});
    }
    document["handlers"]["png"]["signed_by"] = json!(many);
    assert!(
        errors(document)
            .iter()
            .any(|error| error.contains("too many"))
    );
    let idle = changed("/keys/idle", json!({"ed25519": digest(9)}));
    assert!(
        warnings(idle)
            .iter()
            .any(|text| text.starts_with("keys.idle: "))
    );
}
