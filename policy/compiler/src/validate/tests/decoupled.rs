//! Models that send several responses.

use tensorgate_policy::contract::ParameterBound;
use tensorgate_policy::policy::{Accepts, Decoupled, EMPTY_FINAL_RESPONSE};

use super::*;

/// The document with `digits` decoupled in this way, granted for streams only.
fn decoupled(rule: Value) -> Value {
    let mut document = document();
    document["backends"]["cpu"] =
        json!({"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"]});
    put(&mut document, "/models/digits/decoupled", rule);
    document["models"]["digits"]["protocols"] = json!(["oip-grpc"]);
    document["grants"][0]["models"] = json!(["digits"]);
    document["grants"][0]["operations"] = json!(["stream", "metadata", "ready"]);
    document
}

fn good() -> Value {
    json!({"max_answers": 64, "max_bytes": "1MiB"})
}

#[test]
fn several_answers_are_bounded_in_number_bytes_and_time() {
    let expected = |gap_ms, max_ms| Decoupled {
        max_answers: 64,
        max_bytes: 1 << 20,
        gap_ms,
        max_ms,
    };
    let mut timed = good();
    timed["gap_ms"] = json!(100);
    timed["max_ms"] = json!(60_000);
    for (rule, expected) in [
        (good(), expected(5_000, 5_000)),
        (timed, expected(100, 60_000)),
    ] {
        let policy = policy(decoupled(rule));
        let digits = |model: &&Model| model.name() == "digits";
        let model = policy.models().iter().find(digits).unwrap();
        assert_eq!(model.decoupled(), Some(&expected));
        let Accepts::Tensors(contract) = model.accepts() else {
            panic!("it takes tensors")
        };
        let asks = (String::from(EMPTY_FINAL_RESPONSE), ParameterBound::Bool);
        assert!(contract.parameters.contains(&asks));
        let others = policy.models().iter().filter(|model| !digits(model));
        assert!(others.map(Model::decoupled).all(|it| it.is_none()));
    }
}

#[test]
fn unsupported_settings_of_decoupled_models_are_reported() {
    let check = |at: &str, value: Value, expected: &str| {
        let mut document = decoupled(good());
        put(&mut document, at, value);
        let errors = errors(document);
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{errors:#?}"
        );
    };
    let rule = |name: &str| format!("/models/digits/decoupled/{name}");
    for name in ["max_answers", "max_bytes"] {
        check(&rule(name), Value::Null, "is missing");
    }
    for name in ["max_answers", "max_bytes", "gap_ms", "max_ms"] {
        check(&rule(name), json!(0), "below the minimum");
        check(&rule(name), json!(1_u64 << 41), "above the maximum");
    }
    check(&rule("gap_ms"), json!(5_001), "at most 5000");
    check(&rule("max_ms"), json!(60_001), "at most 60000");
    check(
        "/models/digits/protocols",
        json!(["oip-grpc", "oip-rest"]),
        "can only be called over streams",
    );
    check(
        "/grants/0/operations",
        json!(["stream", "infer"]),
        "can only be called with operation stream",
    );
    check(
        "/models/digits/parameters/triton_enable_empty_final_response",
        json!({"bool": true}),
        "is always allowed",
    );
    check(
        "/backends/cpu",
        json!({"kind": "embedded", "models": "models/"}),
        "needs a server that can answer several times",
    );
}
