//! Requests in flight: a client with a limit of one gets no second request until the first is done.

use anyhow::Result;
use serde_json::json;

use super::read::best_of_json;
use super::tokens::{claims, es256};
use super::{Row, deny, serve};
use crate::request::{Request, infer_text};
use crate::secured::{Key, Secured};
use crate::split::Split;

/// The rows of this group.
pub fn rows(secured: &Secured, split: &Split) -> Result<Vec<Row>> {
    let token = secured
        .tokens
        .token(&es256(&json!({})), &claims("svc-narrow")?, Key::Es256);
    let bearer = format!("authorization: Bearer {token}\r\n");
    let slow = format!("{bearer}expect: 100-continue\r\n");
    Ok(vec![
        deny(
            "a second concurrent request at a limit of one",
            "concurrency",
            Request::Beside {
                caller: secured.anonymous.clone(),
                held: infer_text(&slow, split, 2),
                bytes: infer_text(&bearer, split, 2),
            },
        ),
        serve(
            "the same, once the first is served",
            format!("digit {}", split.label(2)),
            best_of_json,
            Request::Tls {
                caller: secured.anonymous.clone(),
                bytes: infer_text(&bearer, split, 2),
            },
        ),
    ])
}
