//! The format of `tokenizer.json`. Unsupported parts are rejected by name, because nearly right IDs
//! are wrong. Parts that do not affect IDs are parsed too, so that the whole file is valid JSON.

use core::fmt;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The most tokens. No vocabulary has more.
pub const MAX_TOKENS: usize = 1 << 20;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(rename = "version")]
    _version: Option<String>,
    pub truncation: Option<Truncation>,
    pub padding: Option<Padding>,
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    pub normalizer: Option<Normalizer>,
    pub pre_tokenizer: Option<PreTokenizer>,
    pub post_processor: Option<PostProcessor>,
    #[serde(rename = "decoder")]
    _decoder: Option<Value>,
    pub model: Model,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
pub enum Direction {
    Left,
    #[default]
    Right,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truncation {
    #[serde(default)]
    pub direction: Direction,
    pub max_length: usize,
    #[serde(default, rename = "strategy")]
    _strategy: Value,
    #[serde(default, rename = "stride")]
    _stride: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Padding {
    pub strategy: Strategy,
    pub direction: Direction,
    pub pad_to_multiple_of: Option<usize>,
    pub pad_id: u32,
    pub pad_type_id: u32,
    #[serde(rename = "pad_token")]
    _pad_token: String,
}

#[derive(Clone, Copy, Deserialize)]
pub enum Strategy {
    BatchLongest,
    Fixed(usize),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the format's own five switches"
)]
pub struct AddedToken {
    pub id: u32,
    pub content: String,
    pub single_word: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    pub normalized: bool,
    pub special: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
#[expect(clippy::enum_variant_names, reason = "as the file names them")]
pub enum Normalizer {
    Sequence {
        normalizers: Vec<Self>,
    },
    BertNormalizer {
        clean_text: bool,
        handle_chinese_chars: bool,
        strip_accents: Option<bool>,
        lowercase: bool,
    },
    Lowercase,
    #[serde(rename = "NFC")]
    Nfc,
    #[serde(rename = "NFD")]
    Nfd,
    #[serde(rename = "NFKC")]
    Nfkc,
    #[serde(rename = "NFKD")]
    Nfkd,
    StripAccents,
    Strip {
        strip_left: bool,
        strip_right: bool,
    },
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
#[expect(clippy::enum_variant_names, reason = "as the file names them")]
pub enum PreTokenizer {
    Sequence {
        pretokenizers: Vec<Self>,
    },
    BertPreTokenizer,
    Whitespace,
    WhitespaceSplit,
    Punctuation {
        #[serde(default, rename = "behavior")]
        _behavior: Behavior,
    },
    Digits {
        individual_digits: bool,
    },
    ByteLevel {
        add_prefix_space: bool,
        #[serde(default, rename = "trim_offsets")]
        _trim_offsets: Value,
        #[serde(default = "yes")]
        use_regex: bool,
    },
}

#[derive(Default, Deserialize)]
pub enum Behavior {
    #[default]
    Isolated,
}

const fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum PostProcessor {
    Sequence {
        processors: Vec<Self>,
    },
    TemplateProcessing {
        single: Vec<Part>,
        #[serde(default, rename = "pair")]
        _pair: Value,
        special_tokens: BTreeMap<String, SpecialToken>,
    },
    BertProcessing {
        sep: (String, u32),
        cls: (String, u32),
    },
    RobertaProcessing {
        sep: (String, u32),
        cls: (String, u32),
        #[serde(default, rename = "trim_offsets")]
        _trim_offsets: Value,
        #[serde(default, rename = "add_prefix_space")]
        _add_prefix_space: Value,
    },
    ByteLevel {
        #[serde(default, rename = "add_prefix_space")]
        _add_prefix_space: Value,
        #[serde(default, rename = "trim_offsets")]
        _trim_offsets: Value,
        #[serde(default, rename = "use_regex")]
        _use_regex: Value,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Part {
    Sequence { id: String, type_id: u32 },
    SpecialToken { id: String, type_id: u32 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialToken {
    #[serde(rename = "id")]
    _id: String,
    pub ids: Vec<u32>,
    pub tokens: Vec<String>,
}

/// Supported names; others are rejected by name.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
pub enum ModelKind {
    WordPiece,
    #[serde(rename = "BPE")]
    Bpe,
}

/// A model of either kind: older files do not name it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    #[serde(rename = "type")]
    pub kind: Option<ModelKind>,
    pub vocab: Vocabulary,
    pub unk_token: Option<String>,
    pub continuing_subword_prefix: Option<String>,
    pub max_input_chars_per_word: Option<usize>,
    pub merges: Option<Merges>,
    pub dropout: Option<f64>,
    pub end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub fuse_unk: bool,
    #[serde(default)]
    pub byte_fallback: bool,
    #[serde(default)]
    pub ignore_merges: bool,
}

/// Tokens and their IDs, each token once.
pub struct Vocabulary(pub BTreeMap<String, u32>);

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = Vocabulary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens with their ids: Unigram's list of scores is not supported")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
                let mut tokens = BTreeMap::new();
                while let Some((token, id)) = map.next_entry::<String, u32>()? {
                    if tokens.len() >= MAX_TOKENS {
                        return Err(A::Error::custom(format!("more than {MAX_TOKENS} tokens")));
                    }
                    if let Some(other) = tokens.insert(token, id) {
                        return Err(A::Error::custom(format!(
                            "a token stands twice, as {other} and as {id}"
                        )));
                    }
                }
                Ok(Vocabulary(tokens))
            }
        }
        deserializer.deserialize_map(Tokens)
    }
}

/// Merges, in the order of their rank.
pub struct Merges(pub Vec<(String, String)>);

/// One merge, in the newer or the older format.
#[derive(Deserialize)]
#[serde(untagged)]
enum Spelled {
    Pair((String, String)),
    Text(String),
}

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Merges;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of merges")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merges, A::Error> {
                let mut merges = Vec::new();
                while let Some(merge) = list.next_element()? {
                    if merges.len() >= MAX_TOKENS {
                        return Err(A::Error::custom(format!("more than {MAX_TOKENS} merges")));
                    }
                    merges.push(match merge {
                        Spelled::Pair(pair) => pair,
                        Spelled::Text(text) => match text.split_once(' ') {
                            Some((left, right)) if !right.contains(' ') => {
                                (left.to_owned(), right.to_owned())
                            }
                            _ => return Err(A::Error::custom("a merge is not of two")),
                        },
                    });
                }
                Ok(Merges(merges))
            }
        }
        deserializer.deserialize_seq(Pairs)
    }
}
