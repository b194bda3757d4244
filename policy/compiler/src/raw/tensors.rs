//! Rules of input and output tensors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ByteSize, Dim, ParameterRule, RoundDecimals, Scalar, TopK};

/// Rules of one input tensor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Input {
    /// Its name.
    pub name: Option<String>,
    /// OIP name of the element type.
    pub datatype: Option<String>,
    /// Its dimensions; each is bounded.
    pub shape: Option<Vec<Dim>>,
    /// `[minimum, maximum]` of every element, both included. Any datatype but `BYTES`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<(f64, f64)>,
    /// Maximum magnitude of an element: short for `range: [-N, N]`; with both, the narrower
    /// applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_abs: Option<f64>,
    /// A range for each channel, along one axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_ranges: Option<ChannelRanges>,
    /// The only allowed values: numbers, or texts for `BYTES`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<Scalar>>,
    /// Minimum number of distinct values in the tensor: 2 rejects a constant one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_distinct: Option<u64>,
    /// Maximum fraction of zeros, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_zero_fraction: Option<f64>,
    /// Floats: reject NaN and infinities. On by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finite: Option<bool>,
    /// Whether it may be omitted.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub optional: bool,
    /// `BYTES`: maximum length of an element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_item_bytes: Option<ByteSize>,
    /// `BYTES`: minimum length of an element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_item_bytes: Option<ByteSize>,
    /// `BYTES`: every element is UTF-8.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub utf8: bool,
    /// `BYTES`: pattern that every element matches as a whole; elements are then UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// `BYTES`: every element is a file of these types and sizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<Media>,
    /// `BYTES`: every element is a URL that these rules allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// Allowed parameters of the input, by name, such as MLServer's `content_type`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterRule>,
}

/// A range for each channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChannelRanges {
    /// Index of the axis, from 0; the dimension must have a fixed size.
    pub axis: Option<u64>,
    /// `[minimum, maximum]` of each channel along the axis.
    pub ranges: Vec<(f64, f64)>,
}

/// Rules of one output tensor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Output {
    /// Its name.
    pub name: Option<String>,
    /// OIP name of the element type.
    pub datatype: Option<String>,
    /// Its dimensions; each is bounded.
    pub shape: Option<Vec<Dim>>,
    /// Floats: NaN or infinity in a response is a fault of the backend or handler. On by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finite: Option<bool>,
    /// `BYTES`: maximum length of an element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_item_bytes: Option<ByteSize>,
    /// Meaning of its values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Floats: decimals for clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_decimals: Option<RoundDecimals>,
    /// Class scores: how many per row, along the last dimension, clients get; the others are 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<TopK>,
}

/// Meaning of an output's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Role {
    /// A score per class along the last dimension, 0 or more; the largest is the most likely.
    ClassScores,
    /// Scores before normalization, of either sign.
    Logits,
    /// A vector in a feature space.
    Embedding,
}

/// Files, checked by their headers before decoding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Media {
    /// `png`, `jpeg`, `gif`, `webp`, `tiff`, `wav`.
    pub types: Vec<String>,
    /// Images: minimum width in pixels; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_width: Option<u64>,
    /// Images: minimum height in pixels; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_height: Option<u64>,
    /// Images: width in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_width: Option<u64>,
    /// Images: height in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_height: Option<u64>,
    /// Images: pixels of one frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pixels: Option<u64>,
    /// Frames of an animation or pages of a document; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_frames: Option<u64>,
    /// Recordings: duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_duration_ms: Option<u64>,
}

/// Allowed URLs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Url {
    /// Host names; `*.example.com` allows every subdomain of `example.com`.
    pub hosts: Vec<String>,
    /// `https`, `http`, `s3`, `gs`; `https` by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemes: Vec<String>,
    /// Ports of `https` and `http`; 443 by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u64>,
}
