//! What a tensor may be: the rules of one input, and of one output.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Dim};

/// One input tensor's rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Input {
    /// Its name.
    pub name: Option<String>,
    /// OIP's name of its element type.
    pub datatype: Option<String>,
    /// Its dims; every one is bounded.
    pub shape: Option<Vec<Dim>>,
    /// `[least, greatest]` of every element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<(f64, f64)>,
    /// Floats: refuse NaN and infinities. On unless switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finite: Option<bool>,
    /// May be left out.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub optional: bool,
    /// `BYTES`: length of one element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_item_bytes: Option<ByteSize>,
}

/// One output tensor's rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Output {
    /// Its name.
    pub name: Option<String>,
    /// OIP's name of its element type.
    pub datatype: Option<String>,
    /// Its dims; every one is bounded.
    pub shape: Option<Vec<Dim>>,
    /// Floats: an answer with NaN or an infinity is a backend's or a handler's fault. On unless switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finite: Option<bool>,
    /// `BYTES`: length of one element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_item_bytes: Option<ByteSize>,
}
