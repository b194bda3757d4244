//! One call as it is kept: all that it depends on, bit for bit, and what came of it. Fuel is the checksum: a call that burns as much as it did has taken
//! the same way.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use tensorgate_policy::{Datatype, Tensor, hex};

use crate::sandbox::{Ask, Brought, Called, Column, File, HandlerError, Missing, Payload, Role};

/// The version of these fields.
pub const FORMAT: u64 = 1;

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Captured {
    /// [`FORMAT`].
    pub format: u64,
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
    name: String,
    datatype: String,
    shape: Vec<i64>,
    data: Blob,
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
        /// The columns' values, the bits of each.
        values: Vec<Vec<Option<u64>>>,
    },
}

/// What came of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// `answered`, `rejected`, or the fault's cause.
    pub what: String,
    /// Of an answer: SHA-256 over its tensors, hex.
    pub outputs_sha256: Option<String>,
    /// Fuel that it burnt; unknown of a rejection.
    pub fuel_used: Option<u64>,
}

/// Bytes, in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Bytes);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(&*text).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes.into()))
    }
}

impl Input {
    /// Of a call's payload; nothing of one that no checked request has.
    pub fn of(payload: &Payload) -> Option<Self> {
        Some(match payload {
            Payload::Raw { content_type, data } => Self::Raw {
                content_type: content_type.clone(),
                data: Blob(data.clone()),
            },
            Payload::Tensors(tensors) => {
                Self::Tensors(tensors.iter().map(named).collect::<Option<_>>()?)
            }
        })
    }

    /// The payload again.
    ///
    /// # Errors
    /// If it is of no datatype that there is.
    pub fn payload(&self) -> Result<Payload, String> {
        Ok(match self {
            Self::Raw { content_type, data } => Payload::Raw {
                content_type: content_type.clone(),
                data: data.0.clone(),
            },
            Self::Tensors(tensors) => {
                Payload::Tensors(tensors.iter().map(tensor).collect::<Result<_, _>>()?)
            }
        })
    }
}

fn named(tensor: &Tensor<'_>) -> Option<Named> {
    let data = tensor.data.as_ref().ok()?;
    Some(Named {
        name: tensor.name.clone().into_owned(),
        datatype: tensor.datatype.clone().into_owned(),
        shape: tensor.shape.clone(),
        data: Blob(Bytes::copy_from_slice(data)),
    })
}

fn tensor(named: &Named) -> Result<Tensor<'static>, String> {
    let datatype = Datatype::from_name(&named.datatype)
        .ok_or_else(|| format!("unknown datatype {:?}", named.datatype))?;
    Ok(Tensor {
        name: Cow::Owned(named.name.clone()),
        datatype: Cow::Borrowed(datatype.name()),
        shape: named.shape.clone(),
        parameters: Vec::new(),
        data: Ok(Cow::Owned(named.data.0.to_vec())),
    })
}

impl Came {
    /// Of an ask and its answer.
    pub fn of((ask, brought): (&Ask, &Brought)) -> Option<Self> {
        Some(match (ask, brought) {
            (Ask::File(url), Brought::File(file)) => {
                let found = file.as_ref().ok();
                Self::File {
                    url: url.clone(),
                    missing: file.as_ref().err().map(|why| why.name().to_owned()),
                    content_type: found
                        .map(|file| file.content_type.clone())
                        .unwrap_or_default(),
                    data: Blob(found.map(|file| file.data.clone()).unwrap_or_default()),
                }
            }
            (
                Ask::Columns {
                    lookup,
                    features,
                    keys,
                },
                Brought::Columns(columns),
            ) => Self::Columns {
                lookup: lookup.clone(),
                features: features.clone(),
                keys: keys.clone(),
                missing: columns.as_ref().err().map(|why| why.name().to_owned()),
                values: columns.iter().flatten().map(bits).collect(),
            },
            _ => return None,
        })
    }

    /// The ask and its answer again.
    ///
    /// # Errors
    /// If nothing is missing for such a reason.
    pub fn again(&self) -> Result<(Ask, Brought), String> {
        let missing = |name: &str| {
            let known = Missing::ALL.into_iter().find(|why| why.name() == name);
            known.ok_or_else(|| format!("nothing is missing as {name:?}"))
        };
        Ok(match self {
            Self::File {
                url,
                missing: why,
                content_type,
                data,
            } => {
                let file = match why {
                    Some(name) => Err(missing(name)?),
                    None => Ok(File {
                        content_type: content_type.clone(),
                        data: data.0.clone(),
                    }),
                };
                (Ask::File(url.clone()), Brought::File(file))
            }
            Self::Columns {
                lookup,
                features,
                keys,
                missing: why,
                values,
            } => {
                let columns = || {
                    let columns = features.iter().zip(values);
                    columns.map(|(feature, values)| Column {
                        feature: feature.clone(),
                        values: values.iter().map(|bits| bits.map(f64::from_bits)).collect(),
                    })
                };
                let ask = Ask::Columns {
                    lookup: lookup.clone(),
                    features: features.clone(),
                    keys: keys.clone(),
                };
                let columns = match why {
                    Some(name) => Err(missing(name)?),
                    None => Ok(columns().collect()),
                };
                (ask, Brought::Columns(columns))
            }
        })
    }
}

fn bits(column: &Column) -> Vec<Option<u64>> {
    let values = column.values.iter();
    values.map(|value| value.map(f64::to_bits)).collect()
}

impl Outcome {
    /// Of a call; nothing of one that never ran.
    pub fn of(called: &Result<Called, HandlerError>) -> Option<Self> {
        Some(match called {
            Ok(called) => Self {
                what: "answered".to_owned(),
                outputs_sha256: Some(digest(&called.tensors)),
                fuel_used: Some(called.fuel_used),
            },
            Err(HandlerError::Rejected(_)) => Self {
                what: "rejected".to_owned(),
                ..Self::default()
            },
            Err(HandlerError::Fault {
                cause, fuel_used, ..
            }) => Self {
                what: cause.name().to_owned(),
                outputs_sha256: None,
                fuel_used: Some(*fuel_used),
            },
            Err(HandlerError::Overloaded) => return None,
        })
    }
}

/// SHA-256 over everything that tensors are, each part with its length before it.
fn digest(tensors: &[Tensor<'_>]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(bytes);
    };
    for tensor in tensors {
        part(tensor.name.as_bytes());
        part(tensor.datatype.as_bytes());
        let dims = tensor.shape.iter().flat_map(|dim| dim.to_le_bytes());
        part(&dims.collect::<Vec<_>>());
        part(tensor.data.as_deref().unwrap_or_default());
    }
    hex(&hash.finalize())
}

/// A role by its name.
///
/// # Errors
/// If it is none.
pub fn role(name: &str) -> Result<Role, String> {
    [Role::Preprocess, Role::Postprocess]
        .into_iter()
        .find(|role| role.export() == name)
        .ok_or_else(|| format!("no role is called {name:?}"))
}
