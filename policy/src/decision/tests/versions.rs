//! Which version a request without a version gets.

use alloc::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

/// `twice` with these versions, which `scorer` may call by `scoring`, as limited by `granted`.
fn shared(versions: Value, sticky: bool, granted: Value) -> Policy {
    let mut document = unpriced();
    document["models"]["twice"]["versions"] = versions;
    if sticky {
        document["models"]["twice"]["sticky"] = "client".into();
    }
    document["grants"][0]["models"] = granted;
    document["grants"][0]["rate"] = Value::Null;
    let grant = document["grants"][0].as_object_mut();
    grant.map(|grant| grant.remove("rate"));
    fixture::policy(document)
}

fn drawn(head: Head<'static>, number: u32) -> Head<'static> {
    Head {
        request_hash: RequestHash::from_request_id(&format!("request {number}")),
        ..head
    }
}

/// The version that a head continues with, or the reason for its rejection.
fn version(policy: &Policy, head: &Head<'static>) -> Result<String, Reason> {
    let (decision, step) = decide_head(policy, head, spent);
    match reason(&step) {
        Some(reason) => Err(reason),
        None => Ok(decision.version(policy).unwrap_or("none").into()),
    }
}

/// How many of a thousand requests get each version.
fn shares(policy: &Policy, client: &'static str) -> BTreeMap<String, u32> {
    let mut shares = BTreeMap::new();
    for number in 0..1000 {
        let head = drawn(as_client(client, rest("twice")), number);
        let got = version(policy, &head).unwrap_or_else(|reason| reason.name().into());
        let share: &mut u32 = shares.entry(got).or_default();
        *share = share.saturating_add(1);
    }
    shares
}

fn canary() -> Value {
    json!({"1": {"weight": 9}, "2": {"weight": 1}, "3": {"shadow": true}, "4": {"weight": 0}})
}

#[test]
fn requests_are_shared_by_weight_and_each_gets_the_same_again() {
    let policy = shared(canary(), false, json!(["twice"]));
    let shares = shares(&policy, "scorer");
    assert_eq!(shares.values().sum::<u32>(), 1000);
    assert_eq!(shares.len(), 2, "{shares:?}");
    assert!((60..140).contains(&shares["2"]), "{shares:?}");
    for number in 0..100 {
        let head = drawn(rest("twice"), number);
        let mut by_grpc = held(&policy, &drawn(grpc(Operation::Infer), number));
        let step = decide_message(&mut by_grpc, &policy, &message(Some("twice"), None), spent);
        assert_eq!(step, Step::Forward);
        let (rest, grpc) = (version(&policy, &head), by_grpc.version(&policy));
        assert_eq!(rest.ok().as_deref(), grpc, "{number}");
    }
}

#[test]
fn a_named_version_is_used_whatever_its_weight() {
    let policy = shared(canary(), false, json!(["twice"]));
    let ask = |version: &'static str| asked(Operation::Infer, "twice", Some(version));
    for named in ["1", "2", "4"] {
        assert_eq!(version(&policy, &ask(named)).as_deref(), Ok(named));
    }
    for named in ["3", "5"] {
        assert_eq!(
            version(&policy, &ask(named)),
            Err(Reason::NotGranted),
            "{named}"
        );
    }
}

#[test]
fn a_client_gets_only_granted_versions() {
    for (granted, expected) in [
        (json!(["twice@1"]), "1"),
        (json!(["twice@2"]), "2"),
        (json!(["twice@2", "twice@4"]), "2"),
        (json!(["twice@4"]), "not-granted"),
    ] {
        let policy = shared(canary(), false, granted.clone());
        let shares = shares(&policy, "scorer");
        assert_eq!(
            shares,
            BTreeMap::from([(expected.into(), 1000)]),
            "{granted}"
        );
    }
}

#[test]
fn a_sticky_client_always_gets_the_same_version() {
    let mut all = BTreeMap::new();
    for clients in 0..30_u8 {
        let mut document = unpriced();
        let client = format!("client-{clients}");
        document["models"]["twice"]["versions"] = json!({"1": {"weight": 1}, "2": {"weight": 1}});
        document["models"]["twice"]["sticky"] = "client".into();
        let keys = document["clients"]["scorer"].clone();
        let map = document["clients"].as_object_mut().unwrap();
        map.insert(client.clone(), keys);
        map.remove("scorer");
        document["grants"][0]["clients"] = json!([client]);
        let policy = fixture::policy(document);
        let got: alloc::collections::BTreeSet<_> = (0..20)
            .map(|number| {
                let head = Head {
                    identity: Identity::Client(client.as_str().into()),
                    ..drawn(rest("twice"), number)
                };
                version(&policy, &head).unwrap()
            })
            .collect();
        assert_eq!(got.len(), 1, "{client}: {got:?}");
        for version in got {
            *all.entry(version).or_insert(0_u32) += 1;
        }
    }
    assert!(
        all.values().all(|count| *count > 5),
        "both are used: {all:?}"
    );
}

#[test]
fn metadata_requests_get_the_version_with_the_most_weight() {
    let mut document = unpriced();
    document["models"]["twice"]["versions"] = json!({"1": {"weight": 1}, "2": {"weight": 9}});
    let policy = fixture::policy(document);
    for number in 0..100 {
        for operation in [Operation::Metadata, Operation::Ready] {
            let head = drawn(asked(operation, "twice", None), number);
            assert_eq!(version(&policy, &head).as_deref(), Ok("2"));
        }
    }
}

#[test]
fn a_stream_keeps_its_version() {
    let mut document = unpriced();
    document["models"]["twice"]["versions"] = json!({"1": {"weight": 1}, "2": {"weight": 1}});
    document["grants"][0]["operations"] = json!(["stream"]);
    let policy = fixture::policy(document);
    let mut seen = BTreeMap::new();
    for number in 0..20 {
        let head = drawn(grpc(Operation::Stream), number);
        let (stream, step) = decide_head(&policy, &head, spent);
        assert!(matches!(step, Step::ReadMessages(_)), "{step:?}");
        let mut versions: Vec<String> = (0..5)
            .map(|_| {
                let mut message = stream.of_message();
                whole(&policy, &mut message);
                let request = super::message(Some("twice"), None);
                decide_message(&mut message, &policy, &request, spent);
                message.version(&policy).unwrap().to_owned()
            })
            .collect();
        versions.dedup();
        assert_eq!(versions.len(), 1, "{versions:?}");
        *seen.entry(versions.remove(0)).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}
