//! Concurrency limits.

use super::*;

#[test]
fn a_concurrency_limit_must_be_reachable() {
    let places = [
        ("/clients/scorer/concurrency", "clients.scorer.concurrency"),
        ("/grants/0/concurrency", "grants[0].concurrency"),
    ];
    for (at, path) in places {
        check(
            at,
            json!(0),
            path,
            "0 requests is below the minimum (at least 1)",
        );
        check(at, json!(1_000_001), path, "at most 1000000");
        accept(at, json!(1));
        accept(at, json!(1_000_000));
    }
    let model = |limits: Value, path: &str, text: &str| {
        let path = format!("models.digits.limits.{path}");
        check("/models/digits/limits", limits, &path, text);
    };
    model(
        json!({"concurrency": 0}),
        "concurrency",
        "below the minimum",
    );
    model(
        json!({"in_flight_bytes": 0}),
        "in_flight_bytes",
        "below the minimum",
    );
    model(
        json!({"in_flight_bytes": (1_u64 << 40) + 1}),
        "in_flight_bytes",
        "above the maximum",
    );
    accept("/models/digits/limits", json!({}));
    accept(
        "/models/digits/limits",
        json!({"concurrency": 32, "in_flight_bytes": "2GiB"}),
    );
}

#[test]
fn bytes_in_flight_that_no_large_body_fits_are_warned_of() {
    let path = "models.digits.limits.in_flight_bytes";
    let limits = json!({"in_flight_bytes": "512KiB"});
    warn(
        "/models/digits/limits",
        limits,
        path,
        "a body of more than 524288 bytes is always rejected",
    );
}

#[test]
fn a_limit_that_one_body_in_pieces_can_fill_is_warned_of() {
    let check = |hold: Value, limits: Value, path: Option<&str>| {
        let mut document = document();
        document["listen"]["limits"]["hold_bytes"] = hold;
        document["models"]["digits"]["limits"] = limits.clone();
        let warnings = faults(document);
        let told: Vec<&str> = warnings
            .iter()
            .filter(|warning| {
                warning
                    .message
                    .contains("one streamed body can use all of it")
            })
            .map(|warning| warning.path.as_str())
            .collect();
        let expected: Vec<String> = path
            .iter()
            .map(|path| format!("models.digits.limits.{path}"))
            .collect();
        assert_eq!(told, expected, "{limits}");
    };
    // The largest body has 1 MiB.
    let some_pass = json!("64KiB");
    let requests = |limit: u64| json!({"concurrency": limit});
    check(some_pass.clone(), requests(1), Some("concurrency"));
    check(some_pass.clone(), requests(2), None);
    let bytes = |limit: &str| json!({"in_flight_bytes": limit});
    check(some_pass.clone(), bytes("1MiB"), Some("in_flight_bytes"));
    check(some_pass.clone(), bytes("2047KiB"), Some("in_flight_bytes"));
    check(some_pass, bytes("2MiB"), None);
    check(json!("1MiB"), requests(1), None);
}
