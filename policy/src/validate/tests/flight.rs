//! Limits on what is in flight.

use super::*;

#[test]
fn a_limit_on_what_is_in_flight_is_a_number_somebody_can_reach() {
    let places = [
        ("/clients/scorer/concurrency", "clients.scorer.concurrency"),
        ("/grants/0/concurrency", "grants[0].concurrency"),
    ];
    for (at, path) in places {
        check(at, json!(0), path, "0 requests is too little (at least 1)");
        check(at, json!(1_000_001), path, "at most 1000000");
        accept(at, json!(1));
        accept(at, json!(1_000_000));
    }
    let model = |limits: Value, path: &str, text: &str| {
        let path = format!("models.digits.limits.{path}");
        check("/models/digits/limits", limits, &path, text);
    };
    model(json!({"concurrency": 0}), "concurrency", "too little");
    model(
        json!({"in_flight_bytes": 0}),
        "in_flight_bytes",
        "too little",
    );
    model(
        json!({"in_flight_bytes": (1_u64 << 40) + 1}),
        "in_flight_bytes",
        "too much",
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
        "a body of more than 524288 bytes is refused",
    );
}
