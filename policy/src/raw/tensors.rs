//! What a tensor may be: the rules of one input, and of one output.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Dim, Scalar};

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
    /// The greatest magnitude of an element: short for `range: [-N, N]`, and of both the narrower one counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_abs: Option<f64>,
    /// A range for each channel, along one axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_ranges: Option<ChannelRanges>,
    /// The only values that an element may have: numbers, or of `BYTES` texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<Scalar>>,
    /// How many values of the whole tensor must differ: 2 refuses a constant one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_distinct: Option<u64>,
    /// The part of all elements that may be zero, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_zero_fraction: Option<f64>,
    /// Floats: refuse NaN and infinities. On unless switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finite: Option<bool>,
    /// May be left out.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub optional: bool,
    /// `BYTES`: length of one element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_item_bytes: Option<ByteSize>,
    /// `BYTES`: the same, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_item_bytes: Option<ByteSize>,
    /// `BYTES`: every element is UTF-8.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub utf8: bool,
    /// `BYTES`: what every element matches from its first character to its last; it is UTF-8 then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// `BYTES`: every element is a file of these kinds and sizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<Media>,
    /// `BYTES`: every element is a URL that leads there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
}

/// A range for each channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChannelRanges {
    /// The dim along which they lie, from 0; it must have one size.
    pub axis: Option<u64>,
    /// `[least, greatest]` of each, as many as that dim says.
    pub ranges: Vec<(f64, f64)>,
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
    /// What its values mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Floats: decimals that a client gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_decimals: Option<u64>,
    /// Class scores: how many of each row, along the last dim, a client gets; the others are 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u64>,
}

/// What an output's values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Role {
    /// A score for each class along the last dim, 0 or more, the greatest for the likeliest.
    ClassScores,
    /// The same before it was made a score: of either sign.
    Logits,
    /// A place in a space of features.
    Embedding,
}

/// Files by their headers: what is said before anybody decodes them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Media {
    /// `png`, `jpeg`, `gif`, `webp`, `tiff`, `wav`.
    pub types: Vec<String>,
    /// Pictures: pixels across.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_width: Option<u64>,
    /// Pictures: pixels down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_height: Option<u64>,
    /// Pictures: pixels of one frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pixels: Option<u64>,
    /// Frames of an animation, pages of a document; 1 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_frames: Option<u64>,
    /// Recordings: how long they last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_duration_ms: Option<u64>,
}

/// Where a URL may lead.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Url {
    /// Host names; `*.example.com` is every name below `example.com`.
    pub hosts: Vec<String>,
    /// `https`, `http`, `s3`, `gs`; `https` unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemes: Vec<String>,
    /// Ports of `https` and `http`; 443 unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u64>,
}
