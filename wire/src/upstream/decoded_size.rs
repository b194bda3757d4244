//! Size check of an Open Inference Protocol response before it is decoded to generated messages:
//! two bytes can become three hundred in memory.

use tensorgate_policy::contract::MAX_RANK;

use crate::fault::BodyFault;
use crate::grpc::protobuf::{FieldRef, Value, read};
use crate::limits::{MAX_OUTPUTS, MAX_PARAMETERS};

/// Unary inference.
pub const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
/// Streamed inference.
pub const INFER_STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// Overhead of an element of bytes in memory.
const ITEM_BYTES: usize = 32;

/// Memory for strings and elements of a decoded `ModelInferResponse`; the error is for the log.
/// Other contents are limited here: [`MAX_OUTPUTS`], [`MAX_PARAMETERS`] for each and for the whole,
/// and [`MAX_RANK`].
pub fn answer_bytes(message: &[u8]) -> Result<usize, String> {
    let mut weight = Weight::default();
    weight.answer(message).map_err(|fault| fault.to_string())?;
    Ok(weight.bytes)
}

/// The same for a `ModelStreamInferResponse`.
pub fn streamed_bytes(message: &[u8]) -> Result<usize, String> {
    let mut weight = Weight::default();
    let streamed = read("ModelStreamInferResponse", message, |field, value| {
        match field.number {
            1 => weight.add(field.bytes(value)?.len()),
            // A repeated message is merged.
            2 => weight.answer(field.bytes(value)?)?,
            _ => {}
        }
        Ok(())
    });
    streamed.map_err(|fault| fault.to_string())?;
    Ok(weight.bytes)
}

#[derive(Debug, Default)]
struct Weight {
    outputs: usize,
    raws: usize,
    parameters: usize,
    bytes: usize,
}

impl Weight {
    fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn answer(&mut self, message: &[u8]) -> Result<(), BodyFault> {
        read("ModelInferResponse", message, |field, value| {
            match field.number {
                1..=3 => self.add(field.bytes(value)?.len()),
                4 => {
                    count(&mut self.parameters, MAX_PARAMETERS, field)?;
                    self.add(field.bytes(value)?.len());
                }
                5 => {
                    count(&mut self.outputs, MAX_OUTPUTS, field)?;
                    self.output(field.bytes(value)?)?;
                }
                6 => {
                    count(&mut self.raws, MAX_OUTPUTS, field)?;
                    self.add(field.bytes(value)?.len());
                }
                _ => {}
            }
            Ok(())
        })
    }

    fn output(&mut self, message: &[u8]) -> Result<(), BodyFault> {
        let (mut rank, mut parameters) = (0, 0);
        read("InferOutputTensor", message, |field, value| {
            match field.number {
                1 | 2 => self.add(field.bytes(value)?.len()),
                3 => {
                    rank = varints(value).saturating_add(rank);
                    if rank > MAX_RANK {
                        return Err(field.wrong("has too many entries"));
                    }
                }
                4 => {
                    count(&mut parameters, MAX_PARAMETERS, field)?;
                    self.add(field.bytes(value)?.len());
                }
                // A repeated message is merged.
                5 => self.contents(field.bytes(value)?)?,
                _ => {}
            }
            Ok(())
        })
    }

    fn contents(&mut self, message: &[u8]) -> Result<(), BodyFault> {
        read("InferTensorContents", message, |field, value| {
            let bytes = match field.number {
                1 => varints(value),
                2 | 4 => varints(value).saturating_mul(4),
                3 | 5 => varints(value).saturating_mul(8),
                // Fixed width: the same size in memory as in the message.
                6 | 7 => match value {
                    Value::Bytes(run) => run.len(),
                    Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => 8,
                },
                8 => field.bytes(value)?.len().saturating_add(ITEM_BYTES),
                _ => 0,
            };
            self.add(bytes);
            Ok(())
        })
    }
}

/// Number of varints in a packed run, or one for a single value.
fn varints(value: Value<'_>) -> usize {
    match value {
        // The last byte of each varint has no continuation bit.
        Value::Bytes(run) => run.iter().filter(|byte| **byte < 0x80).count(),
        Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => 1,
    }
}

fn count(so_far: &mut usize, most: usize, field: FieldRef) -> Result<(), BodyFault> {
    *so_far = so_far.saturating_add(1);
    if *so_far > most {
        return Err(field.wrong("comes too often"));
    }
    Ok(())
}

#[cfg(all(test, feature = "grpc"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use prost::Message as _;

    use super::*;
    use crate::proto::model_infer_response::InferOutputTensor;
    use crate::proto::{InferTensorContents, ModelInferResponse, ModelStreamInferResponse};

    fn output(contents: InferTensorContents) -> ModelInferResponse {
        ModelInferResponse {
            outputs: vec![InferOutputTensor {
                contents: Some(contents),
                ..InferOutputTensor::default()
            }],
            ..ModelInferResponse::default()
        }
    }

    #[test]
    fn elements_are_counted_by_their_size_in_memory() {
        let contents = InferTensorContents::default;
        for (contents, bytes) in [
            (
                InferTensorContents {
                    int64_contents: vec![0, -1, 300],
                    ..contents()
                },
                24,
            ),
            (
                InferTensorContents {
                    bool_contents: vec![true; 5],
                    fp32_contents: vec![0.0; 3],
                    ..contents()
                },
                17,
            ),
            (
                InferTensorContents {
                    bytes_contents: vec![Vec::new().into(); 4],
                    ..contents()
                },
                4 * ITEM_BYTES,
            ),
        ] {
            let answer = output(contents);
            assert_eq!(answer_bytes(&answer.encode_to_vec()), Ok(bytes));
            let streamed = ModelStreamInferResponse {
                error_message: String::new(),
                infer_response: Some(answer),
            };
            assert_eq!(streamed_bytes(&streamed.encode_to_vec()), Ok(bytes));
        }
    }

    #[test]
    fn expanding_fields_are_limited_in_number() {
        // An output, raw contents, a parameter: each empty, and the message twice in a stream.
        for (field, most) in [(5_u8, MAX_OUTPUTS), (6, MAX_OUTPUTS), (4, MAX_PARAMETERS)] {
            let empty = [field << 3 | 2, 0];
            assert_eq!(answer_bytes(&empty.repeat(most)), Ok(0));
            assert!(answer_bytes(&empty.repeat(most + 1)).is_err(), "{field}");
            let half = empty.repeat(most / 2 + 1);
            let length = u16::try_from(half.len()).unwrap();
            let [low, high] = ((length & 0x7f) | (length >> 7 << 8)).to_le_bytes();
            let length = match high {
                0 => vec![low],
                high => vec![low | 0x80, high],
            };
            let part = [[2 << 3 | 2].as_slice(), length.as_slice(), half.as_slice()].concat();
            assert!(streamed_bytes(&part.repeat(2)).is_err(), "{field}");
        }
        let output = InferOutputTensor {
            shape: vec![1; MAX_RANK + 1],
            ..InferOutputTensor::default()
        };
        let answer = ModelInferResponse {
            outputs: vec![output],
            ..ModelInferResponse::default()
        };
        assert!(answer_bytes(&answer.encode_to_vec()).is_err());
    }
}
