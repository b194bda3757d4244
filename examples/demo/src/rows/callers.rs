//! Requests that are rejected for their credentials: unknown ones, or more than one.

use serde_json::json;

use super::{Keys, Row, deny};
use crate::request::{http, image, infer_path};
use crate::split::Split;

/// A well-formed key that no policy contains.
const UNKNOWN_KEY: &str = include_str!("../../../policies/digits/keys/unknown.key");

/// The rows of this group.
pub fn rows(keys: &Keys, split: &Split) -> Vec<Row> {
    let body = json!({"inputs": [image(&split.pixels(0, 1))]})
        .to_string()
        .into_bytes();
    let with = |pairs: &[(&str, &str)]| {
        let fields = [pairs, &[("content-type", "application/json")]].concat();
        http("POST", &infer_path("digits"), &fields, body.clone())
    };
    let bearer = format!("Bearer {}", keys.scorer);
    let key = ("x-api-key", keys.scorer.as_str());
    vec![
        deny("no credential", "unauthenticated", with(&[])),
        deny(
            "an unknown key",
            "unauthenticated",
            with(&[("x-api-key", UNKNOWN_KEY.trim())]),
        ),
        deny(
            "two credentials",
            "ambiguous-request",
            with(&[key, ("authorization", &bearer)]),
        ),
        deny(
            "a forged identity header",
            "ambiguous-request",
            with(&[key, ("x-tensorgate-client", "admin")]),
        ),
        deny(
            "a forged context header",
            "ambiguous-request",
            with(&[("x-tensorgate-context", "v1.e30.AAAA")]),
        ),
        deny(
            "one header of 20 KiB",
            "header-too-large",
            with(&[key, ("x-note", &"n".repeat(20 << 10))]),
        ),
    ]
}
