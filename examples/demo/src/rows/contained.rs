//! Isolation of clients: a greedy client and a looping handler, while other clients are served.

use serde_json::json;

use super::read::{best_of_json, count_of_json};
use super::{Keys, Row, deny, serve};
use crate::request::{grpc_infer, image, rest};
use crate::split::Split;

/// The rows of this group.
pub fn rows(keys: &Keys, split: &Split) -> Vec<Row> {
    let body = json!({"inputs": [image(&split.pixels(0, 1))]});
    let over = Row {
        times: 6,
        ..deny(
            "the sixth request at a limit of five a minute",
            "rate-limited",
            rest(&keys.burst, "digits", &body),
        )
    };
    let batch = json!({"inputs": [image(&split.pixels(0, 32))]});
    vec![
        over,
        serve(
            "an hour's quota of elements in one batch",
            "32 digits",
            count_of_json,
            rest(&keys.batch, "digits", &batch),
        ),
        deny(
            "a second batch in that hour",
            "cost-exceeded",
            rest(&keys.batch, "digits", &batch),
        ),
        deny(
            "the same over gRPC: one cost, one bucket",
            "cost-exceeded",
            grpc_infer(&keys.batch, "digits", &split.pixels(0, 32), true),
        ),
        deny(
            "a handler that loops",
            "handler-fault",
            rest(&keys.scorer, "digits-loop", &body),
        ),
        serve(
            "its neighbour, afterwards",
            format!("digit {}", split.label(0)),
            best_of_json,
            rest(&keys.scorer, "digits", &body),
        ),
    ]
}
