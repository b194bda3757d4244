//! Grants and rates.

use std::collections::BTreeSet;

use tensorgate_policy::limits::gcra::Bucket;
use tensorgate_policy::request::Operation;

use super::*;

#[test]
fn a_grants_names_resolve() {
    let first = |field: &str, value: Value, path: &str, text: &str| {
        check(
            &format!("/grants/0/{field}"),
            value,
            &format!("grants[0].{path}"),
            text,
        );
    };
    first("name", Value::Null, "name", "is missing");
    first("name", json!("a b"), "name", "which is not allowed");
    check(
        "/grants/1/name",
        json!("scoring"),
        "grants[1].name",
        "is the name of another grant",
    );
    first("clients", json!([]), "clients", "is empty");
    first(
        "clients",
        json!(["scorre"]),
        "clients[0]",
        "there is no client \"scorre\" (scorer)",
    );
    first(
        "clients",
        json!(["group:unknown"]),
        "clients[0]",
        "there is no group \"unknown\"",
    );
    first(
        "clients",
        json!(["scorer", "scorer"]),
        "clients[1]",
        "listed twice",
    );
    check(
        "/grants/1/clients/0",
        json!("readers"),
        "grants[1].clients[0]",
        "is a group (group:readers)",
    );
    first("models", json!([]), "models", "is empty");
    first(
        "models/0",
        json!("digit"),
        "models[0]",
        "there is no model \"digit\" (digits)",
    );
    first(
        "models/0",
        json!("digits@9"),
        "models[0]",
        "model \"digits\" has no version \"9\"",
    );
    first(
        "models/0",
        json!("nowhere@1"),
        "models[0]",
        "there is no model \"nowhere\"",
    );
    first(
        "models/0",
        json!("risk/*"),
        "models[0]",
        "no model's name begins with \"risk/\"",
    );
    first(
        "models/0",
        json!("*"),
        "models[0]",
        "there is no model \"*\"",
    );
    first("operations", json!([]), "operations", "is empty");
    first(
        "operations",
        json!(["infers"]),
        "operations[0]",
        "there is no operation \"infers\" (infer; known are infer, stream, metadata, ready, statistics)",
    );
    first(
        "operations",
        json!(["predict"]),
        "operations[0]",
        "there is no operation \"predict\" (one of infer, stream, metadata, ready, statistics)",
    );
    first(
        "operations",
        json!(["infer", "infer"]),
        "operations[1]",
        "listed twice",
    );
}

#[test]
fn grants_have_one_entry_per_combination() {
    let mut document = document();
    document["models"]["risk/fraud"] = document["models"]["digits"].clone();
    document["grants"][2]["models"] = json!(["hidden", "risk/*"]);
    document["grants"][2]["clients"] = json!(["group:strangers", "stranger"]);
    let policy = policy(document);
    let entry = |client: &str, model: &str, version: u32, operation: Operation| {
        let client = policy.client_id(client).unwrap();
        let model = policy.model_id(model).unwrap();
        policy
            .grant_for(client, model, version, operation)
            .and_then(|id| policy.grant(id))
            .map(|grant| grant.name())
    };
    assert_eq!(
        entry("scorer", "twice", 0, Operation::Infer),
        Some("scoring")
    );
    assert_eq!(
        entry("scorer", "twice", 1, Operation::Ready),
        Some("scoring")
    );
    assert_eq!(entry("scorer", "twice", 2, Operation::Ready), None);
    assert_eq!(
        entry("reader", "digits", 0, Operation::Metadata),
        Some("reading")
    );
    assert_eq!(entry("reader", "digits", 0, Operation::Infer), None);
    assert_eq!(
        entry("stranger", "risk/fraud", 0, Operation::Ready),
        Some("hidden")
    );
    assert_eq!(policy.granted().count(), 3 * 4 + 2 + 2);
    let buckets: Vec<_> = policy
        .allowances()
        .map(|(grant, client, _)| (grant.name(), client.name()))
        .collect();
    assert_eq!(buckets, [("scoring", "scorer"); 2], "its rate and its cost");
}

#[test]
fn two_grants_over_one_combination_are_a_fault_that_names_both() {
    let mut document = document();
    document["grants"][1]["clients"] = json!(["group:readers", "scorer"]);
    let errors = errors(document);
    let expected = "grants[1]: grants \"scoring\" and \"reading\" overlap: both let client \"scorer\" metadata model \"digits\", version \"1\" (remove the client, the model or the operation from one of the two)";
    assert_eq!(errors, [expected]);
}

#[test]
fn overlapping_grants_are_reported_once_per_pair_with_the_first_client() {
    let mut document = document();
    document["grants"][0]["clients"] = json!(["scorer", "reader", "stranger"]);
    document["grants"][1]["clients"] = json!(["scorer", "group:readers"]);
    document["grants"][2]["name"] = json!("a b");
    let paths: Vec<_> = faults(document)
        .into_iter()
        .filter(|fault| fault.severity == Severity::Error)
        .map(|fault| (fault.path, fault.message.contains("client \"reader\"")))
        .collect();
    let expected = [("grants[1]", true), ("grants[2].name", false)];
    assert_eq!(paths, expected.map(|(path, by)| (path.to_owned(), by)));
}

#[test]
fn clients_with_the_same_grants_are_entered_once() {
    let (mut document, names) = (document(), ["reader", "scorer", "stranger"]);
    let grants = [
        ("infer", "digits"),
        ("metadata", "twice"),
        ("ready", "digits"),
    ];
    document["grants"] = grants
        .iter()
        .map(|(operation, model)| json!({"name": model, "models": [model], "operations": [operation]}))
        .collect();
    // Every assignment of three grants to three clients in which each grant has a client.
    for ways in 0..512_usize {
        let mut expected = BTreeSet::new();
        for (at, (operation, model)) in grants.into_iter().enumerate() {
            let has = |client: &usize| ways >> (at * 3 + client) & 1 == 1;
            let clients: Vec<_> = (0..3).filter(has).map(|client| names[client]).collect();
            let versions = if model == "twice" { 2 } else { 1 };
            for (client, version) in clients
                .iter()
                .flat_map(|client| (0..versions).map(move |version| (*client, version)))
            {
                expected.insert((client, model, version, operation, format!("g{at}")));
            }
            document["grants"][at]["name"] = json!(format!("g{at}"));
            document["grants"][at]["clients"] = json!(clients);
        }
        if (0..3).any(|at| ways >> (at * 3) & 7 == 0) {
            continue;
        }
        let policy = policy(document.clone());
        let granted: BTreeSet<_> = policy
            .granted()
            .map(|(client, model, version, operation, grant)| {
                assert_eq!(
                    policy.grant_for(client, model, version, operation),
                    Some(grant)
                );
                let (client, model) = (
                    policy.client(client).unwrap().name(),
                    policy.model(model).unwrap().name(),
                );
                let grant = policy.grant(grant).unwrap().name().to_owned();
                (client, model, version, operation.name(), grant)
            })
            .collect();
        assert_eq!(granted, expected, "{ways:o}");
        let of: BTreeSet<Vec<bool>> = (0..3)
            .map(|client| {
                (0..3)
                    .map(|at| ways >> (at * 3 + client) & 1 == 1)
                    .collect()
            })
            .collect();
        let roles: BTreeSet<_> = policy.granted.roles.iter().collect();
        assert_eq!(roles.len(), of.len(), "{ways:o}");
    }
}

#[test]
fn a_rate_rounds_against_the_caller() {
    let bucket = |rate: Value| {
        let policy = policy(with("/grants/0/rate", rate));
        let rate = *policy.grants()[0].rate().unwrap();
        (rate.bucket(), rate.quota(), rate.window_s())
    };
    assert_eq!(
        bucket(json!({"quota": 100, "window_s": 60, "burst": 20})),
        (
            Bucket {
                interval_ns: 600_000_000,
                per: 1,
                burst: 20
            },
            100,
            60
        )
    );
    assert_eq!(
        bucket(json!({"quota": 3, "window_s": 1})).0,
        Bucket {
            interval_ns: 333_333_334,
            per: 1,
            burst: 3
        }
    );
    assert_eq!(
        bucket(json!({"quota": 1_000_000_000, "window_s": 1})).0,
        Bucket {
            interval_ns: 1,
            per: 1,
            burst: 1_000_000
        }
    );
    let rate = |value: Value, path: &str, text: &str| {
        check(
            "/grants/0/rate",
            value,
            &format!("grants[0].rate.{path}"),
            text,
        )
    };
    rate(json!({"window_s": 1}), "quota", "is missing");
    rate(json!({"quota": 1}), "window_s", "is missing");
    rate(
        json!({"quota": 0, "window_s": 1}),
        "quota",
        "below the minimum",
    );
    rate(
        json!({"quota": 1, "window_s": 0}),
        "window_s",
        "below the minimum",
    );
    rate(
        json!({"quota": 1, "window_s": 1, "burst": 0}),
        "burst",
        "below the minimum",
    );
    rate(
        json!({"quota": u64::MAX, "window_s": 1}),
        "quota",
        "above the maximum",
    );
    rate(
        json!({"quota": 1, "window_s": u64::MAX}),
        "window_s",
        "above the maximum",
    );
    rate(
        json!({"quota": 1, "window_s": 1, "burst": u64::MAX}),
        "burst",
        "above the maximum",
    );
    rate(
        json!({"quota": 1, "window_s": 2_678_400, "burst": 1_000_000}),
        "burst",
        "centuries",
    );
    warn(
        "/grants/0/rate/burst",
        json!(121),
        "grants[0].rate.burst",
        "allows more requests at once than the 120 of a window",
    );
}

#[test]
fn a_grant_of_unreachable_statistics_gives_a_warning() {
    let told = |protocols: Value| {
        let mut document = with("/grants/0/operations", json!(["infer", "statistics"]));
        put(&mut document, "/models/digits/protocols", protocols);
        let warnings = warnings(document);
        warnings.iter().any(|it| {
            it.starts_with(
                "grants[0].operations: the protocols of \"digits\" have no request for statistics",
            )
        })
    };
    assert!(told(json!(["tf-serving-rest", "tf-serving-grpc"])));
    assert!(!told(json!(["tf-serving-rest", "oip-grpc"])));
}

#[test]
fn weak_settings_of_grants_give_warnings() {
    warn(
        "/grants/0/rate",
        Value::Null,
        "grants[0]",
        "inference is allowed without a rate limit",
    );
    warn(
        "/grants/0/cost",
        Value::Null,
        "grants[0]",
        "inference is allowed without a cost limit (cost: {bytes: 64MiB, window_s: 60})",
    );
    warn(
        "/clients/idle",
        json!({"api_keys": [{"sha256": digest(9)}]}),
        "clients.idle",
        "is in no grant",
    );
    warn(
        "/grants/2/models",
        json!(["digits"]),
        "models.hidden",
        "is in no grant",
    );
}
