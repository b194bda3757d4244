//! Bodies that are ambiguous, that expand when decompressed, or that contain more than tensors.

use serde_json::{Value, json};

use super::{Keys, Row, deny};
use crate::request::{GZIP, gzip, http, image, infer_path, rest, rest_text};
use crate::split::Split;

/// The rows of this group.
pub fn rows(keys: &Keys, split: &Split) -> Vec<Row> {
    let input = image(&split.pixels(0, 1));
    let good = json!({"inputs": [input]}).to_string();
    let text = |text: String| rest_text(&keys.scorer, "digits", text);
    let send = |body: Value| rest(&keys.scorer, "digits", &body);
    let typed = |content_type: &str, coding: &[(&str, &str)], body: &[u8]| {
        let head = [("x-api-key", &*keys.scorer), ("content-type", content_type)];
        let fields = [&head[..], coding].concat();
        http("POST", &infer_path("digits"), &fields, body.to_vec())
    };
    let mut shared = input.clone();
    if let Some(shared) = shared.as_object_mut() {
        shared.remove("data");
        shared.insert(
            "parameters".into(),
            json!({"shared_memory_region": "///", "shared_memory_byte_size": 256}),
        );
    }
    vec![
        deny(
            "JSON 120 levels deep",
            "too-deep",
            text(format!(
                "{{\"inputs\":{}{}}}",
                "[".repeat(120),
                "]".repeat(120)
            )),
        ),
        deny(
            "a duplicate key",
            "duplicate-key",
            text(good.replacen("{\"data\"", "{\"name\":\"image\",\"data\"", 1)),
        ),
        deny(
            "a byte order mark before the document",
            "malformed",
            text(format!("\u{feff}{good}")),
        ),
        deny(
            "bytes after the document",
            "malformed",
            text(format!("{good}{{}}")),
        ),
        deny(
            "NaN, which is not JSON",
            "malformed",
            text(good.replacen("\"data\":[", "\"data\":[NaN,", 1)),
        ),
        deny(
            "a lone surrogate as a name",
            "malformed",
            text(good.replacen("\"image\"", "\"\\ud800\"", 1)),
        ),
        deny(
            "classification of an output",
            "parameter",
            send(json!({"inputs": [input], "outputs": [
                {"name": "probabilities", "parameters": {"classification": 3}}]})),
        ),
        deny(
            "an input in shared memory",
            "parameter",
            send(json!({"inputs": [shared]})),
        ),
        deny(
            "a sequence parameter",
            "parameter",
            send(
                json!({"inputs": [input], "parameters": {"sequence_id": 7, "sequence_start": true}}),
            ),
        ),
        deny(
            "a priority parameter",
            "parameter",
            send(json!({"inputs": [input], "parameters": {"priority": 1}})),
        ),
        deny(
            "an output requested twice",
            "output-not-allowed",
            send(json!({"inputs": [input], "outputs": [
                {"name": "probabilities"}, {"name": "probabilities"}]})),
        ),
        deny(
            "a pickle",
            "unsupported-media-type",
            typed("application/x-pickle", &[], b"\x80\x04cos\nsystem\n."),
        ),
        deny(
            "a gzip bomb: a megabyte in a kilobyte",
            "body-too-large",
            typed(
                "application/json",
                GZIP,
                &gzip(format!("{good}{}", " ".repeat(1 << 20)).as_bytes()),
            ),
        ),
        deny(
            "a second gzip member after the first",
            "malformed",
            typed("application/json", GZIP, &gzip(good.as_bytes()).repeat(2)),
        ),
        deny(
            "an unsupported content encoding",
            "unsupported-encoding",
            typed("application/json", &[("content-encoding", "br")], b"\x0b"),
        ),
    ]
}
