//! How often a model was run and how long that took, in the words of Triton's statistics extension: counts and times of one version of one model, and
//! nothing of anything else.

use core::fmt::Write as _;

use tensorgate_policy::request::Protocol;

use super::small_frame;
use crate::json_text::{member, string};
use crate::protobuf::Message;

/// So many times, and so long together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How often.
    pub count: u64,
    /// Nanoseconds.
    pub ns: u64,
}

/// Parts of an inference, in the order in which [`Statistics::parts`] has them: Triton's names.
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

/// Of one version of one model, since counting began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// When it was last asked to infer, milliseconds since 1970; 0 for never.
    pub last_inference_ms: u64,
    /// Inferences that were answered.
    pub inference_count: u64,
    /// Runs of the model.
    pub execution_count: u64,
    /// Of each of [`PARTS`].
    pub parts: [Spent; 8],
}

/// The answer for one version of one model, in OIP's protocols. No other has the question.
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
    for (field, spent) in (1..).zip(&statistics.parts) {
        inference = inference.message(field, duration(*spent));
    }
    Message::default()
        .bytes(1, model)
        .bytes(2, version)
        .varint(3, statistics.last_inference_ms)
        .varint(4, statistics.inference_count)
        .varint(5, statistics.execution_count)
        .message(6, inference)
}

fn duration(spent: Spent) -> Message {
    Message::default()
        .varint(1, spent.count)
        .varint(2, spent.ns)
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
    // Nobody here puts requests into batches.
    json.push_str("},\"batch_stats\":[]}]}");
    json
}

fn parts<'s>(json: &mut String, parts: impl Iterator<Item = (&'s &'s str, &'s Spent)>) {
    for (index, (name, spent)) in parts.enumerate() {
        if index > 0 {
            json.push(',');
        }
        string(json, name);
        let _ = write!(json, ":{{\"count\":{},\"ns\":{}}}", spent.count, spent.ns);
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
        let spent = |number: u64| Spent {
            count: number,
            ns: number * 1_000,
        };
        Statistics {
            last_inference_ms: 1_780_000_000_000,
            inference_count: 70,
            execution_count: 10,
            parts: [1, 2, 3, 4, 5, 6, 7, 0].map(spent),
        }
    }

    #[test]
    fn it_reads_as_tritons_own() {
        let json = model_statistics(Protocol::OipRest, "m\"", "1", &statistics());
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let told = &json["model_stats"][0];
        assert_eq!(json["model_stats"].as_array().unwrap().len(), 1);
        assert_eq!(told["name"], "m\"");
        assert_eq!(told["version"], "1");
        assert_eq!(told["last_inference"], 1_780_000_000_000_u64);
        assert_eq!(told["inference_stats"]["fail"]["ns"], 2_000);
        assert_eq!(told["inference_stats"]["cache_miss"]["count"], 0);
        assert_eq!(told["batch_stats"], serde_json::json!([]));
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn its_message_is_what_prost_reads() {
        use prost::Message as _;
        let frame = model_statistics(Protocol::OipGrpc, "m", "1", &statistics());
        let read = crate::proto::ModelStatisticsResponse::decode(&frame[5..]).unwrap();
        let told = &read.model_stats[0];
        assert_eq!((told.name.as_str(), told.version.as_str()), ("m", "1"));
        assert_eq!(told.inference_count, 70);
        let parts = told.inference_stats.as_ref().unwrap();
        assert_eq!(parts.cache_hit.unwrap().ns, 7_000);
        assert_eq!(parts.cache_miss.unwrap().count, 0);
    }
}
