//! What a captured call could read about its request.

use serde::{Deserialize, Serialize};

use super::{Blob, MAX_TENSORS};

/// The most parameters that a policy shows to a handler.
const MAX_PARAMETERS: usize = 64;
/// The most bytes that handlers of a request carry to later ones.
pub const MAX_CARRY_BYTES: usize = 64 << 10;

/// What a call could read about its request, apart from the ID, the client and the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapturedRequest {
    /// The version of the model.
    pub version: String,
    /// The name of the operation.
    pub operation: String,
    /// The time of the request in Unix milliseconds.
    pub time_unix_ms: u64,
    /// The parameters that the policy shows to the handler.
    pub parameters: Vec<(String, CapturedParameter)>,
    /// The names and dimensions of the input tensors of the request.
    pub tensors: Vec<(String, Vec<u64>)>,
    /// The media type of a raw body.
    pub media_type: Option<String>,
    /// The size of the raw body, or of the data of all tensors, in bytes.
    pub media_bytes: u64,
    /// The bytes that earlier handlers have carried.
    pub carry: Blob,
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CapturedParameter {
    /// A truth value.
    Bool(bool),
    /// A signed whole number.
    Int64(i64),
    /// An unsigned whole number.
    Uint64(u64),
    /// The bits of a number.
    Double(u64),
    /// A text.
    Text(String),
}

impl CapturedRequest {
    pub(super) fn check(&self) -> Result<(), String> {
        for (count, most, what) in [
            (self.parameters.len(), MAX_PARAMETERS, "parameters"),
            (self.tensors.len(), MAX_TENSORS, "tensors of the request"),
            (self.carry.0.len(), MAX_CARRY_BYTES, "carried bytes"),
        ] {
            if count > most {
                return Err(format!("{count} {what}"));
            }
        }
        Ok(())
    }
}
