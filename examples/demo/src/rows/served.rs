//! Requests that are served: real digits in every protocol, and metadata of the server and the
//! model.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::read::{
    best_of_grpc, best_of_json, best_of_results, best_of_rows, best_of_value, configuration,
    count_of_json, each_of_json, input_name, label_of_json, label_of_value, state,
};
use super::{Keys, Row, serve};
use crate::request::{
    Request, compressed, grpc_infer, http, image, infer_path, named_images, posted_file,
    prediction, recognise, rest, rows as instances,
};
use crate::split::Split;

/// Real held-out digits.
const IMAGES: &str = "examples/images";

/// The rows of this group.
pub fn rows(keys: &Keys, split: &Split) -> Result<Vec<Row>> {
    let digit = |index| format!("digit {}", split.label(index));
    let get = |path: &str, pairs: &[(&str, &str)]| http("GET", path, pairs, Vec::new());
    let file = |name: &str| -> Result<Vec<u8>> {
        let path = Path::new(IMAGES).join(name);
        std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
    };
    let png = |key: &str, name: &str| -> Result<Request> {
        let body = file(name)?;
        let fields = [("x-api-key", key), ("content-type", "image/png")];
        Ok(http("POST", &infer_path("digits-png"), &fields, body))
    };
    let body = |first, count| json!({"inputs": [image(&split.pixels(first, count))]});
    let both = format!("{0}, {0}", digit(3));
    Ok(vec![
        serve(
            "liveness, without a credential",
            "200",
            |reply| Some(reply.status.to_string()),
            get("/v2/health/live", &[]),
        ),
        serve(
            "the model's signature, from its contract",
            "image FP32",
            input_name,
            get("/v2/models/digits", &[("x-api-key", &keys.scorer)]),
        ),
        serve(
            "the same in Triton's form, as perf_analyzer asks for it",
            "image TYPE_FP32, batches of 32",
            configuration,
            get("/v2/models/digits/config", &[("x-api-key", &keys.scorer)]),
        ),
        serve(
            "a digit as a JSON tensor",
            digit(0),
            best_of_json,
            rest(&keys.scorer, "digits", &body(0, 1)),
        ),
        serve(
            "a digit as JSON in gzip",
            digit(0),
            best_of_json,
            compressed(&keys.scorer, "digits", &body(0, 1)),
        ),
        serve(
            "a batch of 32 digits",
            "32 digits",
            count_of_json,
            rest(&keys.scorer, "digits", &body(0, 32)),
        ),
        serve(
            "a digit over gRPC, raw contents",
            digit(1),
            best_of_grpc,
            grpc_infer(&keys.scorer, "digits", &split.pixels(1, 1), true),
        ),
        serve(
            "a digit over gRPC, typed contents",
            digit(2),
            best_of_grpc,
            grpc_infer(&keys.scorer, "digits", &split.pixels(2, 1), false),
        ),
        serve(
            "a digit as a TF Serving client sends it",
            digit(0),
            best_of_rows,
            instances(&keys.scorer, "digits", &split.pixels(0, 1)),
        ),
        serve(
            "the model's status in TF Serving's format",
            "AVAILABLE",
            state,
            get("/v1/models/digits", &[("x-api-key", &keys.scorer)]),
        ),
        serve(
            "a digit as a TorchServe client sends it",
            digit(0),
            best_of_value,
            prediction(
                &keys.scorer,
                "digits",
                json!({"data": image(&split.pixels(0, 1)).get("data").and_then(serde_json::Value::as_array).map(|pixels| {
                    json!([[pixels.chunks(8).collect::<Vec<_>>()]])
                })})
                .to_string(),
            ),
        ),
        serve(
            "digits in the model's own JSON format",
            digit(0),
            best_of_results,
            recognise(&keys.scorer, &named_images(&split.pixels(0, 2))),
        ),
        serve(
            "a PNG as curl's -F posts it to TorchServe",
            "digit 3",
            label_of_value,
            posted_file(
                &keys.scorer,
                "digits-png",
                "image/png",
                &file("digit-3-4.png")?,
            ),
        ),
        serve(
            "a PNG through two sandboxed handlers",
            "digit 3",
            label_of_json,
            png(&keys.scorer, "digit-3-4.png")?,
        ),
        serve(
            "a 64x64 PNG through the same",
            "digit 5",
            label_of_json,
            png(&keys.scorer, "digit-5-1-64x64.png")?,
        ),
        serve(
            "a PNG under a grant with handlers of its own: scores",
            "digit 3",
            best_of_json,
            png(&keys.batch, "digit-3-4.png")?,
        ),
        serve(
            "an ensemble: two models answer one request",
            both,
            each_of_json,
            rest(&keys.scorer, "digits-twice", &body(3, 1)),
        ),
    ])
}
