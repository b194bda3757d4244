//! What a model takes of OpenAI's API, as users write it.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Media, Url};

/// A model that is called by `openai`: at least one of the three kinds of request. Scalars of a request that none of them names are allowed by the model's
/// `parameters` (`temperature: {float: [0, 2]}`); whatever is named nowhere is refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OpenAi {
    /// `/v1/chat/completions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat>,
    /// `/v1/completions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completions: Option<Completions>,
    /// `/v1/embeddings`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<Embeddings>,
    /// The longest answer that is read from the backend; 8 MiB unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_answer_bytes: Option<ByteSize>,
}

/// Chat completions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Chat {
    /// Messages of a request.
    pub max_messages: Option<u64>,
    /// CompiledTexts of one message.
    pub max_message_bytes: Option<ByteSize>,
    /// CompiledTexts of all messages together.
    pub max_prompt_bytes: Option<ByteSize>,
    /// Who may be quoted: of `system`, `developer`, `user`, `assistant`, `tool`; `[system, user, assistant]` unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Tokens of one choice; the backend is told this where a request gives no bound.
    pub max_tokens: Option<u64>,
    /// Choices of one request; 1 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// Stop sequences; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<u64>,
    /// Answers in pieces (`stream: true`), as server-sent events.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub stream: bool,
    /// Likely tokens told beside each (`top_logprobs`); no log probabilities at all unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u64>,
    /// Functions that the model may call; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Tools>,
    /// Forms of the answer: of `text`, `json_object`, `json_schema`; none may be asked for unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response_format: Vec<String>,
    /// With `json_schema`: its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_schema_bytes: Option<ByteSize>,
    /// What an answer may be held to beside its format, and patterns in schemas; nothing, and none, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Constraints>,
    /// Pictures; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Images>,
}

/// What callers may send for a server to compile. A request has one constraint at most, and none beside tools.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Constraints {
    /// Members that the server knows: of `structured_outputs`, `guided_json`, `guided_regex`, `guided_choice`, `guided_grammar` (vLLM), `regex`, `ebnf`
    /// (SGLang), `grammar`, `json_schema` (llama.cpp). None unless given; each needs the rule for what it holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Patterns: those of members, and those in schemas of tools and formats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patterns: Option<CompiledTexts>,
    /// Answers to choose from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choices: Option<CompiledTexts>,
    /// Grammars, without rules that reach themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grammars: Option<Grammars>,
    /// A schema that comes in one of the members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_schema_bytes: Option<ByteSize>,
}

/// CompiledTexts of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CompiledTexts {
    /// How many.
    pub max: Option<u64>,
    /// Each of them.
    pub max_bytes: Option<ByteSize>,
}

/// Grammars.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Grammars {
    /// The whole grammar.
    pub max_bytes: Option<ByteSize>,
    /// Rules of it.
    pub max_rules: Option<u64>,
}

/// Functions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tools {
    /// How many.
    pub max: Option<u64>,
    /// All of them together, as JSON.
    pub max_bytes: Option<ByteSize>,
}

/// Pictures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Images {
    /// How many.
    pub max: Option<u64>,
    /// Each of them, in base64.
    pub max_bytes: Option<ByteSize>,
    /// Tokens that the model makes of one, at most: for costs and budgets of tokens.
    pub max_tokens: Option<u64>,
    /// What they may be: `png`, `jpeg`, `gif`, `webp`, and how many pixels.
    pub media: Option<Media>,
    /// Pictures that the server fetches itself, and where from; unless given only those inside the request (`data:` URLs) are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
}

/// Completions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Completions {
    /// Prompts of one request; 1 unless given. They are texts, never numbers of tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_prompts: Option<u64>,
    /// Each of them.
    pub max_prompt_bytes: Option<ByteSize>,
    /// Tokens of one choice; the backend is told this where a request gives no bound.
    pub max_tokens: Option<u64>,
    /// Choices for one prompt; 1 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// Choices to choose from; 1 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_of: Option<u64>,
    /// Stop sequences; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<u64>,
    /// Answers in pieces (`stream: true`), as server-sent events.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub stream: bool,
    /// Likely tokens told beside each; no log probabilities at all unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u64>,
    /// What an answer may be held to; nothing unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Constraints>,
}

/// Embeddings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Embeddings {
    /// CompiledTexts of one request; 1 unless given. They are texts, never numbers of tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u64>,
    /// Each of them.
    pub max_item_bytes: Option<ByteSize>,
}
