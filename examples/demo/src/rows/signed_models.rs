//! Models that must be signed: the gate sends requests only to one that is as it was signed.

use super::read::best_of_json;
use super::{Row, deny, serve};
use crate::request::{Request, infer_text_of};
use crate::secured::Secured;
use crate::signed_models::{
    FOREIGN_CODE, HOSTILE_TEMPLATE, RENAMED_PICKLE, SIGNED, TAMPERED, UNSIGNED,
};
use crate::split::Split;

/// The rows of this group.
pub fn rows(secured: &Secured, split: &Split) -> Vec<Row> {
    let ask = |model: &str| Request::Tls {
        caller: secured.engine.clone(),
        bytes: infer_text_of(model, "", split, 1),
    };
    let rejected = |title, model| deny(title, "backend-unavailable", ask(model));
    vec![
        serve(
            "a signed model",
            format!("digit {}", split.label(1)),
            best_of_json,
            ask(SIGNED),
        ),
        rejected("a model with a byte changed after it was signed", TAMPERED),
        rejected("a model without a signature", UNSIGNED),
        rejected(
            "a signed model with a pickle named .safetensors",
            RENAMED_PICKLE,
        ),
        rejected(
            "a signed model with a hostile chat template",
            HOSTILE_TEMPLATE,
        ),
        rejected("a signed model that names code elsewhere", FOREIGN_CODE),
    ]
}
