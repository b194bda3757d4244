//! Modes of grants.

use super::*;

#[test]
fn a_mode_is_one_word_or_one_for_each_kind_that_the_grant_has() {
    let at = |mode: Value, path: &str, text: &str| warn("/grants/0/mode", mode, path, text);
    at(
        json!({"values": "shadow", "cost": "shadow"}),
        "grants[0].mode",
        "cost, values do not reject while they are in shadow",
    );
    at(
        json!("shadow"),
        "grants[0].mode",
        "rate, cost, values, outputs do not reject while they are in shadow",
    );
    let looks_only = |mode: Value, path: &str, text: &str| {
        check(
            "/grants/1/mode",
            mode,
            &format!("grants[1].mode.{path}"),
            text,
        );
    };
    for (kind, text) in [
        ("rate", "has no effect: the grant has no limit of requests"),
        ("cost", "has no effect: the grant has no limit of cost"),
        (
            "values",
            "has no effect: the grant does not allow inference",
        ),
        (
            "outputs",
            "has no effect: the grant does not allow inference",
        ),
    ] {
        looks_only(json!({kind: "shadow"}), kind, text);
        looks_only(json!({kind: "enforce"}), kind, text);
    }
}

#[test]
fn unknown_modes_are_rejected() {
    for mode in [
        json!("Shadow"),
        json!("off"),
        json!(true),
        json!([]),
        json!({"rates": "shadow"}),
        json!({"rate": "off"}),
        json!({"identity": "shadow"}),
        json!({"concurrency": "shadow"}),
    ] {
        let document = with("/grants/0/mode", mode.clone());
        let read = serde_json::from_value::<crate::raw::Policy>(document);
        assert!(read.is_err(), "{mode}");
    }
}

#[test]
fn shadow_mode_needs_an_explicit_setting_and_a_limit() {
    use tensorgate_policy::policy::Shadow;
    let of = |mode: Value| {
        let mut document = with("/grants/0/mode", mode.clone());
        put(&mut document, "/grants/1/mode", mode);
        let policy = policy(document);
        let names = |shadow: Shadow| shadow.names().collect::<Vec<_>>();
        (
            names(policy.grants()[0].shadow()),
            names(policy.grants()[1].shadow()),
        )
    };
    let nothing = Vec::<&str>::new;
    let all = vec!["rate", "cost", "values", "outputs"];
    assert_eq!(of(Value::Null), (nothing(), nothing()));
    assert_eq!(of(json!("enforce")), (nothing(), nothing()));
    assert_eq!(of(json!("shadow")), (all, nothing()));
    assert_eq!(of(json!({})), (nothing(), nothing()));
    assert_eq!(of(json!({"default": "enforce"})), (nothing(), nothing()));
}
