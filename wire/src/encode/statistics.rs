//! Statistics of one version of one model in the form of Triton's extension: counts and times.

use core::fmt::Write as _;

use tensorgate_policy::request::Protocol;

use super::{member, small_frame, string};
use crate::grpc::writer::Message;

/// A count and a total time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Count.
    pub count: u64,
    /// Nanoseconds.
    pub ns: u64,
}

/// Parts of an inference with Triton's names, in the order of [`Statistics::parts`].
pub const PARTS: [&str; 8] = [
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
];

/// Statistics of one version of one model, since counting began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Time of the last inference request, in Unix milliseconds; 0 for never.
    pub last_inference_ms: u64,
    /// Answered inferences.
    pub inference_count: u64,
    /// Runs of the model.
    pub execution_count: u64,
    /// Of each of [`PARTS`].
    pub parts: [Timing; 8],
}

/// The response for one version of one model, in OIP's protocols. Others have no such request.
pub fn model_statistics(
    protocol: Protocol,
    model: &str,
    version: &str,
    statistics: &Statistics,
) -> Vec<u8> {
    if protocol.is_grpc() {
        small_frame(Message::default().message(1, message(model, version, statistics)))
    } else {
        json(model, version, statistics).into_bytes()
    }
}

fn message(model: &str, version: &str, statistics: &Statistics) -> Message {
    let mut inference = Message::default();
    for (field, timing) in (1..).zip(&statistics.parts) {
        inference = inference.message(field, duration(*timing));
    }
    Message::default()
        .bytes(1, model)
        .bytes(2, version)
        .varint(3, statistics.last_inference_ms)
        .varint(4, statistics.inference_count)
        .varint(5, statistics.execution_count)
        .message(6, inference)
}

fn duration(timing: Timing) -> Message {
    Message::default()
        .varint(1, timing.count)
        .varint(2, timing.ns)
}

fn json(model: &str, version: &str, statistics: &Statistics) -> String {
    let mut json = String::from("{\"model_stats\":[{");
    member(&mut json, "name", model);
    json.push(',');
    member(&mut json, "version", version);
    let numbers = [
        ("last_inference", statistics.last_inference_ms),
        ("inference_count", statistics.inference_count),
        ("execution_count", statistics.execution_count),
    ];
    for (name, number) in numbers {
        // Writing to a String does not fail.
        let _ = write!(json, ",\"{name}\":{number}");
    }
    json.push_str(",\"inference_stats\":{");
    parts(&mut json, PARTS.iter().zip(&statistics.parts));
    // There is no batching here.
    json.push_str("},\"batch_stats\":[]}]}");
    json
}

fn parts<'s>(json: &mut String, parts: impl Iterator<Item = (&'s &'s str, &'s Timing)>) {
    for (index, (name, timing)) in parts.enumerate() {
        if index > 0 {
            json.push(',');
        }
        string(json, name);
        let _ = write!(json, ":{{\"count\":{},\"ns\":{}}}", timing.count, timing.ns);
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]

    use super::*;

    fn statistics() -> Statistics {
        let timing = |number: u64| Timing {
            count: number,
            ns: number * 1_000,
        };
        Statistics {
            last_inference_ms: 1_780_000_000_000,
            inference_count: 70,
            execution_count: 10,
            parts: [1, 2, 3, 4, 5, 6, 7, 0].map(timing),
        }
    }

    #[test]
    fn statistics_have_tritons_format() {
        let json = model_statistics(Protocol::OipRest, "m\"", "1", &statistics());
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let model = &json["model_stats"][0];
        assert_eq!(json["model_stats"].as_array().unwrap().len(), 1);
        assert_eq!(model["name"], "m\"");
        assert_eq!(model["version"], "1");
        assert_eq!(model["last_inference"], 1_780_000_000_000_u64);
        assert_eq!(model["inference_stats"]["fail"]["ns"], 2_000);
        assert_eq!(model["inference_stats"]["cache_miss"]["count"], 0);
        assert_eq!(model["batch_stats"], serde_json::json!([]));
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn the_statistics_message_is_read_by_prost() {
        use prost::Message as _;
        let frame = model_statistics(Protocol::OipGrpc, "m", "1", &statistics());
        let read = crate::proto::ModelStatisticsResponse::decode(&frame[5..]).unwrap();
        let model = &read.model_stats[0];
        assert_eq!((model.name.as_str(), model.version.as_str()), ("m", "1"));
        assert_eq!(model.inference_count, 70);
        let parts = model.inference_stats.as_ref().unwrap();
        assert_eq!(parts.cache_hit.unwrap().ns, 7_000);
        assert_eq!(parts.cache_miss.unwrap().count, 0);
    }
}
