//! One call as it is kept: all that it depends on, bit for bit, and what came of it. Guests have no clock and no source of chance, so that input,
//! configuration, bounds and what was brought are all of it. Fuel is the checksum: a call that burns as much as it did has taken the same way.
//!
//! What is read here was authenticated, but not by whom one may trust: every part is checked before anything is made of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tensorgate_policy::contract::check_structure;
use tensorgate_policy::{Datatype, Tensor};

/// The version of these fields.
pub const FORMAT: u64 = 1;
/// Things that were brought for one call: more is never asked for.
const MAX_BROUGHT: usize = 16;
/// Tensors of one call.
const MAX_TENSORS: usize = 256;
/// Bytes of one value of a column: whether there is one, and its bits.
pub const VALUE_BYTES: usize = 9;

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Captured {
    /// [`FORMAT`].
    pub format: u64,
    /// What ran it, with its version.
    pub engine: String,
    /// When, Unix milliseconds.
    pub at_unix_ms: u64,
    /// The request's id.
    pub request_id: String,
    /// Whose.
    pub client: String,
    /// To which model.
    pub model: String,
    /// The handler.
    pub handler: HandlerFacts,
    /// What came in.
    pub input: Input,
    /// What was brought, and in answer to what.
    pub brought: Vec<Came>,
    /// What came of it.
    pub outcome: Outcome,
    /// Whether it answered what the contract does not allow.
    pub broke: bool,
}

/// The handler of a call, as its policy had it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandlerFacts {
    /// Its name.
    pub name: String,
    /// `preprocess` or `postprocess`.
    pub role: String,
    /// SHA-256 of its component, hex.
    pub sha256: String,
    /// Fuel a call.
    pub fuel: u64,
    /// Linear memory, bytes.
    pub memory_bytes: u64,
    /// A call, milliseconds.
    pub timeout_ms: u64,
    /// What `config` answered.
    pub config: BTreeMap<String, String>,
    /// Files that a call might ask for; nothing if it was granted none.
    pub files: Option<u64>,
    /// How often a call might ask for each lookup.
    pub lookups: BTreeMap<String, u64>,
}

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Input {
    /// Tensors.
    Tensors(Vec<Named>),
    /// A body.
    Raw {
        /// Its type.
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
    /// Its datatype, as OIP spells it.
    pub datatype: String,
    /// Its dims.
    pub shape: Vec<i64>,
    /// Its elements in raw form.
    pub data: Blob,
}

impl Named {
    /// The tensor itself, borrowed.
    pub fn tensor(&self) -> Tensor<'_> {
        // An unknown datatype stays what it is, and is refused with a reason.
        let known = Datatype::from_name(&self.datatype).map(Datatype::name);
        Tensor {
            name: Cow::Borrowed(&self.name),
            datatype: known.map_or(Cow::Borrowed(&self.datatype), Cow::Borrowed),
            shape: self.shape.clone(),
            parameters: Vec::new(),
            data: Ok(Cow::Borrowed(&self.data.0)),
        }
    }
}

/// Something that was brought, or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Came {
    /// A file.
    File {
        /// Of which URL.
        url: String,
        /// Why there is none, if there is none.
        missing: Option<String>,
        /// Its type.
        content_type: String,
        /// Its bytes.
        data: Blob,
    },
    /// Columns.
    Columns {
        /// Of which lookup.
        lookup: String,
        /// Of which features.
        features: Vec<String>,
        /// Of which keys.
        keys: Vec<String>,
        /// Why there are none, if there are none.
        missing: Option<String>,
        /// The values of each feature, nine bytes each: 1 and the bits of a value, little-endian, or zeros where there is none.
        values: Vec<Blob>,
    },
}

/// What came of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// `answered`, `rejected`, or the fault's cause.
    pub what: String,
    /// Of an answer: SHA-256 over its tensors, hex. Of a rejection: SHA-256 over its text.
    pub sha256: Option<String>,
    /// Fuel that it burnt.
    pub fuel_used: u64,
}

/// Bytes, in base64.
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

/// Why a text is no call.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not what is written here.
    #[error("not a captured call: {0}")]
    Text(#[from] serde_json::Error),
    /// It is of another version.
    #[error("of format {0}, which is not known here")]
    Format(u64),
    /// No call can be so.
    #[error("not a call that can have been: {0}")]
    Impossible(String),
}

impl Captured {
    /// The text that is sealed.
    ///
    /// # Errors
    /// None that this type can have.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`RecordError`]; what is read has tensors that are some, and columns of as many values as there were keys.
    pub fn decode(text: &[u8]) -> Result<Self, RecordError> {
        let call: Self = serde_json::from_slice(text)?;
        if call.format != FORMAT {
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
        if self.brought.len() > MAX_BROUGHT {
            return Err(format!("{} things were brought", self.brought.len()));
        }
        self.brought.iter().try_for_each(Came::check)
    }
}

impl Came {
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
        let whole = |column: &Blob| {
            let (values, rest) = column.0.as_chunks::<VALUE_BYTES>();
            let there =
                |value: &[u8; VALUE_BYTES]| value.first() == Some(&1) || *value == [0; VALUE_BYTES];
            rest.is_empty() && column.0.len() == bytes && values.iter().all(there)
        };
        let columns = if missing.is_some() { 0 } else { features.len() };
        if values.len() == columns && values.iter().all(whole) {
            return Ok(());
        }
        Err("a lookup brought other values than it was asked for".to_owned())
    }
}

/// A column's values as they are kept.
pub fn packed(values: &[Option<f64>]) -> Blob {
    let value = |value: &Option<f64>| {
        let [a, b, c, d, e, f, g, h] = value.unwrap_or_default().to_bits().to_le_bytes();
        [u8::from(value.is_some()), a, b, c, d, e, f, g, h]
    };
    Blob(values.iter().flat_map(value).collect())
}

/// A kept column's values.
pub fn unpacked(column: &Blob) -> Vec<Option<f64>> {
    let (values, _) = column.0.as_chunks::<VALUE_BYTES>();
    let value = |[there, bits @ ..]: &[u8; VALUE_BYTES]| {
        (*there == 1).then(|| f64::from_bits(u64::from_le_bytes(*bits)))
    };
    values.iter().map(value).collect()
}
