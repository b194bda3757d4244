//! Models that are not granted, and management routes of inference servers. All of them are
//! rejected for every client.

use serde_json::json;

use super::{Keys, Row, deny};
use crate::request::{grpc_call, http, image, rest};
use crate::split::Split;

/// A file for the model repository, as Triton accepts one in a load request. It would be executed.
const FILE_OVERRIDE: &[u8] =
    br#"{"parameters":{"config":"{\"backend\":\"python\"}","file:1/model.py":"aW1wb3J0IG9z"}}"#;

/// Management routes, each with the server that implements it: method, path and body.
const MANAGEMENT: [(&str, &str, &str, &[u8]); 18] = [
    (
        "repository load, REST",
        "POST",
        "/v2/repository/models/digits/load",
        b"{}",
    ),
    (
        "repository load with an uploaded file",
        "POST",
        "/v2/repository/models/digits/load",
        FILE_OVERRIDE,
    ),
    (
        "the same behind dot segments",
        "POST",
        "/v2/models/../repository/models/digits/load",
        b"{}",
    ),
    (
        "log settings: a file to write",
        "POST",
        "/v2/logging",
        br#"{"log_file":"/etc/cron.d/x"}"#,
    ),
    (
        "trace settings",
        "POST",
        "/v2/trace/setting",
        br#"{"trace_file":"/etc/cron.d/x"}"#,
    ),
    (
        "shared memory registration",
        "POST",
        "/v2/systemsharedmemory/region/x/register",
        br#"{"key":"/triton_python_backend_shm","byte_size":64}"#,
    ),
    ("SageMaker's route", "POST", "/invocations", b"{}"),
    (
        "TorchServe: a model from a URL",
        "POST",
        "/models?url=http://example.com/x.mar",
        b"",
    ),
    (
        "Ray: a job",
        "POST",
        "/api/jobs/",
        br#"{"entrypoint":"id"}"#,
    ),
    (
        "vLLM: an adapter from a path",
        "POST",
        "/v1/load_lora_adapter",
        br#"{"lora_name":"x","lora_path":"/"}"#,
    ),
    (
        "MLServer: a model repository's index",
        "POST",
        "/v2/repository/index",
        b"{}",
    ),
    (
        "MLServer: an environment archive to unpack",
        "POST",
        "/v2/repository/models/digits/load",
        br#"{"parameters":{"environment_tarball":"/tmp/x.tar.gz"}}"#,
    ),
    (
        "unload of a path outside the repository",
        "POST",
        "/v2/repository/models/..%2f..%2fetc/unload",
        b"{}",
    ),
    ("Vertex AI's route", "POST", "/predict", b"{}"),
    (
        "OpenAI's Responses API",
        "POST",
        "/v1/responses",
        br#"{"model":"x","input":"hi"}"#,
    ),
    (
        "Anthropic's Messages API",
        "POST",
        "/v1/messages",
        br#"{"model":"x","max_tokens":8,"messages":[]}"#,
    ),
    (
        "TF Serving's route in capitals",
        "POST",
        "/V1/MODELS/digits:predict",
        b"{}",
    ),
    (
        "a percent-encoded model name",
        "POST",
        "/v2/models/%64igits/infer",
        b"{}",
    ),
];

/// Routes of language-model servers: path and body.
const LANGUAGE: [(&str, &str, &[u8]); 2] = [
    (
        "vLLM: a tensor to unpickle",
        "/v1/completions",
        br#"{"model":"x","prompt_embeds":"gAQu"}"#,
    ),
    (
        "an LLM: a million answers",
        "/v1/chat/completions",
        br#"{"model":"x","n":1000000,"max_tokens":1000000}"#,
    ),
];

/// The rows of this group.
pub fn rows(keys: &Keys, split: &Split) -> Vec<Row> {
    let body = json!({"inputs": [image(&split.pixels(0, 1))]});
    let mut rows = vec![
        deny(
            "a model without a grant",
            "not-granted",
            rest(&keys.scorer, "private", &body),
        ),
        deny(
            "a model that does not exist",
            "not-granted",
            rest(&keys.scorer, "nothing", &body),
        ),
    ];
    let credential = [("x-api-key", &*keys.scorer)];
    rows.extend(MANAGEMENT.map(|(title, method, path, body)| {
        let request = http(method, path, &credential, body.to_vec());
        deny(title, "not-an-inference-route", request)
    }));
    // Known routes, to which this policy maps no model.
    let [key] = credential;
    let json = [key, ("content-type", "application/json")];
    rows.extend(LANGUAGE.map(|(title, path, body)| {
        let request = http("POST", path, &json, body.to_vec());
        deny(title, "not-granted", request)
    }));
    rows.push(deny(
        "repository load, gRPC",
        "not-an-inference-route",
        grpc_call(
            &keys.scorer,
            "/inference.GRPCInferenceService/RepositoryModelLoad",
            b"\x12\x06digits",
        ),
    ));
    rows
}
