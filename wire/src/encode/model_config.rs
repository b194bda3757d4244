//! A model's configuration in the form of Triton's extension, from its contract. It has what
//! `perf_analyzer` and Triton's clients read, and nothing of the server behind the gate.

use core::fmt::Write as _;

use tensorgate_policy::Datatype;
use tensorgate_policy::contract::{DimRule, TensorRule, max_batch};
use tensorgate_policy::request::Protocol;

use super::{NAME, dims_of, small_frame};
use crate::grpc::writer::Message;
use crate::json_text::{list, member, string};

/// The response for one model, in OIP's protocols. Others have no such request.
///
/// Triton separates a batch dimension from the others, as `max_batch_size`. Here a model has one if
/// every tensor begins with a variable dimension of one name.
pub fn model_config(
    protocol: Protocol,
    model: &str,
    inputs: &[TensorRule],
    outputs: &[TensorRule],
    decoupled: bool,
) -> Vec<u8> {
    let batch = max_batch(inputs, outputs);
    // Triton's field has 32 bits.
    let max_batch_size = batch.map_or(0, |most| most.min(u64::from(i32::MAX.unsigned_abs())));
    // The batch dimension is not among `dims`.
    let skipped = usize::from(batch.is_some());
    let config = Config {
        model,
        max_batch_size,
        skipped,
        inputs,
        outputs,
        decoupled,
    };
    if protocol.is_grpc() {
        small_frame(Message::default().message(1, config.message()))
    } else {
        config.json().into_bytes()
    }
}

/// The parts of a configuration.
struct Config<'c> {
    model: &'c str,
    /// 0: no batch dimension.
    max_batch_size: u64,
    /// Leading dimensions that `dims` does not show.
    skipped: usize,
    inputs: &'c [TensorRule],
    outputs: &'c [TensorRule],
    decoupled: bool,
}

impl Config<'_> {
    fn dims<'r>(&self, rule: &'r TensorRule) -> impl Iterator<Item = i64> + use<'r> {
        let shape: &'r [DimRule] = rule.shape().get(self.skipped..).unwrap_or_default();
        dims_of(shape)
    }

    fn message(&self) -> Message {
        let mut config = Message::default()
            .bytes(1, self.model)
            .bytes(2, NAME)
            .varint(4, self.max_batch_size);
        for rule in self.inputs {
            let input = Message::default()
                .bytes(1, rule.name())
                .varint(2, data_type(rule.datatype()).1)
                .packed(4, self.dims(rule).map(i64::cast_unsigned))
                .varint(8, u64::from(rule.optional()));
            config = config.message(5, input);
        }
        for rule in self.outputs {
            let output = Message::default()
                .bytes(1, rule.name())
                .varint(2, data_type(rule.datatype()).1)
                .packed(3, self.dims(rule).map(i64::cast_unsigned));
            config = config.message(6, output);
        }
        if self.decoupled {
            config = config.message(19, Message::default().varint(1, 1));
        }
        config
    }

    fn json(&self) -> String {
        let mut json = String::from("{");
        member(&mut json, "name", self.model);
        json.push(',');
        member(&mut json, "platform", NAME);
        json.push_str(",\"backend\":\"\"");
        // Writing to a String does not fail.
        let _ = write!(json, ",\"max_batch_size\":{}", self.max_batch_size);
        for (key, rules) in [("input", self.inputs), ("output", self.outputs)] {
            json.push(',');
            string(&mut json, key);
            json.push(':');
            list(&mut json, rules, |json, rule| {
                json.push('{');
                member(json, "name", rule.name());
                json.push(',');
                member(json, "data_type", data_type(rule.datatype()).0);
                json.push_str(",\"dims\":");
                list(json, self.dims(rule), |json, dim| {
                    json.push_str(&dim.to_string());
                });
                json.push_str(",\"is_shape_tensor\":false");
                if key == "input" {
                    let _ = write!(
                        json,
                        ",\"format\":\"FORMAT_NONE\",\"allow_ragged_batch\":false,\"optional\":{}",
                        rule.optional()
                    );
                }
                json.push('}');
            });
        }
        let _ = write!(
            json,
            ",\"model_transaction_policy\":{{\"decoupled\":{}}}}}",
            self.decoupled
        );
        json
    }
}

/// Name and number of a datatype in Triton's `DataType`.
const fn data_type(datatype: Datatype) -> (&'static str, u64) {
    match datatype {
        Datatype::Bool => ("TYPE_BOOL", 1),
        Datatype::Uint8 => ("TYPE_UINT8", 2),
        Datatype::Uint16 => ("TYPE_UINT16", 3),
        Datatype::Uint32 => ("TYPE_UINT32", 4),
        Datatype::Uint64 => ("TYPE_UINT64", 5),
        Datatype::Int8 => ("TYPE_INT8", 6),
        Datatype::Int16 => ("TYPE_INT16", 7),
        Datatype::Int32 => ("TYPE_INT32", 8),
        Datatype::Int64 => ("TYPE_INT64", 9),
        Datatype::Fp16 => ("TYPE_FP16", 10),
        Datatype::Fp32 => ("TYPE_FP32", 11),
        Datatype::Fp64 => ("TYPE_FP64", 12),
        Datatype::Bytes => ("TYPE_STRING", 13),
        Datatype::Bf16 => ("TYPE_BF16", 14),
    }
}

#[cfg(test)]
mod tests;
