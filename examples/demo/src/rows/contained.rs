//! What is held in bounds while the neighbours are served: a greedy client, a handler that loops.

use serde_json::json;

use super::read::best_of_json;
use super::{Keys, Row, deny, serve};
use crate::request::{image, rest};
use crate::split::Split;

/// Its rows.
pub fn rows(keys: &Keys, split: &Split) -> Vec<Row> {
    let body = json!({"inputs": [image(&split.pixels(0, 1))]});
    let over = Row {
        times: 6,
        ..deny(
            "the sixth request of five a minute",
            "rate-limited",
            rest(&keys.burst, "digits", &body),
        )
    };
    vec![
        over,
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
