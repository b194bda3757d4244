//! A captured handler call: all that it depends on, bit for bit, and its outcome. This is
//! the input, the config, the limits, the resolved resources, and the time and the seed of a guest
//! that uses WASI. Fuel is the checksum: a replay with the same fuel has taken the same path.
//!
//! A record that is read was authenticated, but its author need not be trusted. So every part is
//! checked before it is used.

mod header;
mod request;

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tensorgate_policy::contract::check_structure;
use tensorgate_policy::{Datatype, Tensor};

pub use header::{Envelope, HEAD_BYTES, ID_BYTES, MAGIC, NONCE_BYTES, SALT_BYTES, TAG_BYTES, head};
pub use request::{CapturedParameter, CapturedRequest, MAX_CARRY_BYTES};

/// The version of the fields. Calls have `wasi` since version 2.
pub const FORMAT: u64 = 2;
/// The oldest version that is read. No guest used WASI then.
const OLDEST_FORMAT: u64 = 1;
/// The bytes of a seed.
const SEED_BYTES: usize = 32;
/// The most resolved resources of one call, which is also the most that a call may request.
const MAX_RESOURCES: usize = 16;
/// The most tensors of one call.
const MAX_TENSORS: usize = 512;
/// The bytes of one value of a column: whether there is one, and its bits.
pub const VALUE_BYTES: usize = 9;

/// A captured call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Captured {
    /// [`FORMAT`].
    pub format: u64,
    /// The engine that ran it, with its version.
    pub engine: String,
    /// The time in Unix milliseconds.
    pub at_unix_ms: u64,
    /// The request's ID.
    pub request_id: String,
    /// The client.
    pub client: String,
    /// The model.
    pub model: String,
    /// The handler.
    pub handler: HandlerFacts,
    /// What it could read about its request. `None` if its component reads none of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<CapturedRequest>,
    /// The input.
    pub input: Input,
    /// The resolved resources with their requests.
    #[serde(rename = "brought")]
    pub resources: Vec<CapturedResource>,
    /// What the handler got from WASI. `None` if it used none.
    #[serde(default)]
    pub wasi: Option<CapturedWasi>,
    /// The outcome.
    pub outcome: CapturedOutcome,
    /// Whether its output broke the contract.
    pub broke: bool,
}

/// The time and the seed of a call that used WASI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapturedWasi {
    /// The time at which its clocks stood, in Unix milliseconds.
    pub unix_ms: u64,
    /// The seed of its random numbers, 32 bytes.
    pub seed: Blob,
}

/// The handler of a call, as its policy defined it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandlerFacts {
    /// Its name.
    pub name: String,
    /// `preprocess` or `postprocess`.
    pub role: String,
    /// The SHA-256 digest of its component, in hex.
    pub sha256: String,
    /// The fuel limit of a call.
    pub fuel: u64,
    /// The limit of linear memory in bytes.
    pub memory_bytes: u64,
    /// The timeout of a call in milliseconds.
    pub timeout_ms: u64,
    /// The config.
    pub config: BTreeMap<String, String>,
    /// The most files that a call might request. `None` without a grant.
    pub files: Option<u64>,
    /// The most requests of each lookup in a call.
    pub lookups: BTreeMap<String, u64>,
    /// The parameters of requests that it sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
}

/// The input of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Input {
    /// Tensors.
    Tensors(Vec<Named>),
    /// A body.
    Raw {
        /// Its media type.
        content_type: String,
        /// Its bytes.
        data: Blob,
    },
}

/// A tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its datatype, with OIP's name.
    pub datatype: String,
    /// Its dimensions.
    pub shape: Vec<i64>,
    /// Its elements in raw form.
    pub data: Blob,
}

impl Named {
    /// The tensor itself, borrowed.
    pub fn tensor(&self) -> Tensor<'_> {
        // An unknown datatype is kept, and rejected with a reason.
        let known = Datatype::from_name(&self.datatype).map(Datatype::name);
        Tensor {
            name: Cow::Borrowed(&self.name),
            datatype: known.map_or(Cow::Borrowed(&self.datatype), Cow::Borrowed),
            shape: self.shape.clone(),
            parameters: Vec::new(),
            data: Ok(self.data.0.as_slice().into()),
        }
    }
}

/// A resolved resource, or why it is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum CapturedResource {
    /// A file.
    File {
        /// Its URL.
        url: String,
        /// Why it is missing, if it is.
        missing: Option<String>,
        /// Its media type.
        content_type: String,
        /// Its bytes.
        data: Blob,
    },
    /// Columns.
    Columns {
        /// The lookup.
        lookup: String,
        /// The features.
        features: Vec<String>,
        /// The keys.
        keys: Vec<String>,
        /// Why they are missing, if they are.
        missing: Option<String>,
        /// The values of each feature, nine bytes each: 1 and the bits of a value, little-endian,
        /// or zeros for none.
        values: Vec<Blob>,
    },
}

/// The outcome of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapturedOutcome {
    /// `answered`, `rejected`, or the cause of the fault.
    pub what: String,
    /// The SHA-256 digest in hex: of the output tensors, or of a rejection's text.
    pub sha256: Option<String>,
    /// The fuel that was used.
    pub fuel_used: u64,
}

/// Bytes, encoded in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(&*text).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// Why a text is not a captured call.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It has another format.
    #[error("not a captured call: {0}")]
    Text(#[from] serde_json::Error),
    /// It has another version.
    #[error("of format {0}, which is not known here")]
    Format(u64),
    /// No call can have these values.
    #[error("not a call that can have been: {0}")]
    Impossible(String),
}

impl Captured {
    /// Encodes the text to be sealed.
    ///
    /// # Errors
    /// This type always encodes.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Decodes the text. The result has well-formed tensors, and columns with as many values as
    /// keys.
    ///
    /// # Errors
    /// Returns a [`RecordError`].
    pub fn decode(text: &[u8]) -> Result<Self, RecordError> {
        let call: Self = serde_json::from_slice(text)?;
        if !(OLDEST_FORMAT..=FORMAT).contains(&call.format) {
            return Err(RecordError::Format(call.format));
        }
        call.check().map_err(RecordError::Impossible)?;
        Ok(call)
    }

    fn check(&self) -> Result<(), String> {
        if let Input::Tensors(tensors) = &self.input {
            if tensors.len() > MAX_TENSORS {
                return Err(format!("{} tensors", tensors.len()));
            }
            let tensors: Vec<_> = tensors.iter().map(Named::tensor).collect();
            check_structure(&tensors).map_err(|denial| denial.cause)?;
        }
        if let Some(request) = &self.request {
            request.check()?;
        }
        if self.resources.len() > MAX_RESOURCES {
            return Err(format!("{} things were brought", self.resources.len()));
        }
        if let Some(wasi) = &self.wasi
            && wasi.seed.0.len() != SEED_BYTES
        {
            return Err(format!("a seed of {} bytes", wasi.seed.0.len()));
        }
        self.resources.iter().try_for_each(CapturedResource::check)
    }
}

impl CapturedResource {
    fn check(&self) -> Result<(), String> {
        let Self::Columns {
            features,
            keys,
            missing,
            values,
            ..
        } = self
        else {
            return Ok(());
        };
        let bytes = keys.len().saturating_mul(VALUE_BYTES);
        let complete = |column: &Blob| {
            let (values, rest) = column.0.as_chunks::<VALUE_BYTES>();
            let there =
                |value: &[u8; VALUE_BYTES]| value.first() == Some(&1) || *value == [0; VALUE_BYTES];
            rest.is_empty() && column.0.len() == bytes && values.iter().all(there)
        };
        let columns = if missing.is_some() { 0 } else { features.len() };
        if values.len() == columns && values.iter().all(complete) {
            return Ok(());
        }
        Err("a lookup brought other values than it was asked for".to_owned())
    }
}

/// Encodes a column's values.
pub fn packed(values: &[Option<f64>]) -> Blob {
    let value = |value: &Option<f64>| {
        let [a, b, c, d, e, f, g, h] = value.unwrap_or_default().to_bits().to_le_bytes();
        [u8::from(value.is_some()), a, b, c, d, e, f, g, h]
    };
    Blob(values.iter().flat_map(value).collect())
}

/// Decodes a column's values.
pub fn unpacked(column: &Blob) -> Vec<Option<f64>> {
    let (values, _) = column.0.as_chunks::<VALUE_BYTES>();
    let value = |[there, bits @ ..]: &[u8; VALUE_BYTES]| {
        (*there == 1).then(|| f64::from_bits(u64::from_le_bytes(*bits)))
    };
    values.iter().map(value).collect()
}
