//! OpenAI API rules in the policy document.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use tensorgate_policy::contract::openai::SchemaLimits;

use super::number::{
    Bytes, Choices, Definitions, Items, Levels, Number, Repetitions, Texts, Tokens, Values, Weight,
    Within,
};
use super::{ByteSize, Media, Url};

const COMPILED: SchemaLimits = SchemaLimits::COMPILED;
/// Maximum depth of a constraint: what a schema of a tool may nest.
const MAX_DEPTH: u64 = 64;

/// Members of a list; the API's own limit for embeddings.
pub type MaxItems = Within<1, 2_048, Items>;
/// Tokens of one choice; more than any context.
pub type MaxTokens = Within<1, 100_000_000, Tokens>;
/// Stop sequences: the API's limit is 4, servers allow more.
pub type MaxStop = Within<0, 64, Texts>;
/// Alternative tokens; the API's own limit.
pub type MaxLogprobs = Within<0, 20, Tokens>;
/// Choices of a request, whose limit is the API's own, or candidates for them.
pub type MaxChoices = Number<1, 128, 1, Choices>;

/// A model that is called by `openai`: at least one of the three kinds of requests. Other members
/// are allowed by the model's `parameters` (`temperature: {float: [0, 2]}`), and dropped by its
/// `ignored`; all others are rejected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OpenAi {
    /// `sdk`: the usual members of OpenAI's SDKs are allowed within bounds. Rules of the policy and
    /// its `ignored` take precedence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// `/v1/chat/completions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat>,
    /// `/v1/completions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completions: Option<Completions>,
    /// `/v1/embeddings`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<Embeddings>,
    /// Special tokens in texts of callers, for example `<|im_end|>`; `escape` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub special_tokens: Option<SpecialTokens>,
    /// Special tokens of the model that no other model has. Those of common models, and all of the
    /// shape `<|word|>`, are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_special_tokens: Vec<String>,
    /// All special tokens of the model, as `tensorgate init --tokenizer` writes them: no others are
    /// looked for. `{n}` stands for a number, as in `<unused{n}>`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_special_tokens: Vec<String>,
    /// Length of the model's context at the server, which bounds what a request can cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<MaxTokens>,
    /// Minimum size of prompts, of texts to embed, and of messages of users and the system; 1 by
    /// default. An empty message of the system passes beside a user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_bytes: Option<ByteSize>,
    /// Maximum response size of the backend; 8 MiB by default.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub max_answer_bytes: Number<1, { 1 << 30 }, { 8 << 20 }, Bytes>,
    /// Links to pictures in texts (Markdown, and HTML in answers); they pass by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_links: Option<ImageLinks>,
    /// Function calls of an answer that its request did not offer: `refuse` or `allow`. By default
    /// they are refused only if the request offered no function at all (no `tools`, or
    /// `tool_choice: none`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unoffered_calls: Option<UnofferedCalls>,
    /// `per-client`: the backend gets a `cache_salt` for each client (vLLM), so that clients
    /// share no prefix cache. Off by default. A client's own salt is never accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_salt: Option<CacheSalt>,
}

/// A named set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Profile {
    /// Members that OpenAI's SDKs and agents send.
    Sdk,
}

/// Links to pictures. A page that shows an answer fetches them without a click.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ImageLinks {
    /// In answers: `escape` (shown as text) or `refuse` (502).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswerLinks>,
    /// In requests: `refuse` (`url-blocked`), for servers that fetch them (TGI, CVE-2026-0599).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestLinks>,
}

/// Effect of a link in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum AnswerLinks {
    /// Its marks are escaped.
    Escape,
    /// The answer is a fault of the backend.
    Refuse,
}

/// Effect of a link in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RequestLinks {
    /// The request is rejected.
    Refuse,
}

/// Effect of a function call that was not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum UnofferedCalls {
    /// It passes.
    Allow,
    /// The answer is a fault of the backend.
    Refuse,
}

/// Who shares a server's prefix cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CacheSalt {
    /// The requests of one client.
    PerClient,
}

/// What a special token in a text leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SpecialTokens {
    /// The backend gets it as it is: callers can write messages of every role.
    Allow,
    /// The backend gets it with a blank inside (`< |im_end|>`), which is no token.
    #[default]
    Escape,
    /// The request is rejected.
    Refuse,
}

/// Chat completions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Chat {
    /// Maximum messages of a request.
    pub max_messages: Option<MaxItems>,
    /// Maximum text of one message.
    pub max_message_bytes: Option<ByteSize>,
    /// Maximum text of all messages together.
    pub max_prompt_bytes: Option<ByteSize>,
    /// Allowed roles: of `system`, `developer`, `user`, `assistant`, `tool`; `[system, user,
    /// assistant]` by default. `system` includes `developer`, and `tools` include `tool`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Maximum tokens of one choice; sent to the backend if a request has no limit.
    pub max_tokens: Option<MaxTokens>,
    /// Maximum choices of one request; 1 by default.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub n: MaxChoices,
    /// Maximum stop sequences; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<MaxStop>,
    /// Whether streamed responses (`stream: true`) as server-sent events are allowed.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub stream: bool,
    /// Maximum alternative tokens (`top_logprobs`); no log probabilities by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<MaxLogprobs>,
    /// Functions that the model may call; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Tools>,
    /// Allowed response formats: of `text`, `json_object`, `json_schema`; none by default, and all
    /// with the profile `sdk`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response_format: Vec<String>,
    /// With `json_schema`: its maximum size; 8 KiB if only the profile `sdk` allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_schema_bytes: Option<ByteSize>,
    /// Limits of schemas that the server compiles: of `json_schema`, of strict functions, of those
    /// that `tool_choice` makes the model call, and of all functions with `tools.compiled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schemas: Option<Schemas>,
    /// Output constraints beside the format, and patterns in schemas; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Constraints>,
    /// Images; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Images>,
}

/// Output constraints and patterns that the server compiles. Their content is not analysed. A
/// request has at most one constraint, and none beside tools.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Constraints {
    /// Allowed members: of `structured_outputs`, `guided_json`, `guided_regex`, `guided_choice`,
    /// `guided_grammar`, `structural_tag` (vLLM), `regex`, `ebnf` (SGLang), `grammar`,
    /// `json_schema` (llama.cpp). `pattern` and `patternProperties` allow these keywords in schemas
    /// of tools and formats; without them, functions that need not be called lose such keywords,
    /// and schemas that the server compiles are rejected. None by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Maximum size: of a member as JSON text, of a pattern as its own text; 4 KiB by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteSize>,
    /// Maximum depth of lists and objects in each; 0 allows texts only, 8 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<Number<0, MAX_DEPTH, 8, Levels>>,
    // Keys of earlier versions. They are read so that `check` can say what to write instead.
    #[serde(skip_serializing)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub(crate) patterns: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub(crate) choices: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub(crate) grammars: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub(crate) max_schema_bytes: Option<IgnoredAny>,
}

/// Limits of JSON schemas that the server compiles. Other schemas only describe functions, and are
/// bounded by `tools.max_bytes` and more loosely by these limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Schemas {
    /// Maximum of a count, such as `maxItems` or `maxLength`; 1,024 by default.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub max_repetitions: Number<1, 1_000_000, { COMPILED.max_repetitions }, Repetitions>,
    /// Maximum values of an `enum`; 256 by default.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub max_choices: Number<1, 65_536, { COMPILED.max_choices as u64 }, Values>,
    /// Maximum definitions; 64 by default.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub max_definitions: Number<0, 4_096, { COMPILED.max_definitions as u64 }, Definitions>,
    /// Maximum schemas and characters, after references and repetitions are expanded; 16,384 by
    /// default.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub max_weight: Number<1, 10_000_000, { COMPILED.max_weight }, Weight>,
}

/// Functions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tools {
    /// Maximum number.
    pub max: Option<Within<1, 128, Items>>,
    /// Maximum size of all as JSON.
    pub max_bytes: Option<ByteSize>,
    /// Whether the server compiles the schema of every function, called or not, as llama.cpp and
    /// TGI do. Then all have the limits of compiled schemas.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub compiled: bool,
}

/// Images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Images {
    /// Maximum number.
    pub max: Option<Within<1, 64, Items>>,
    /// Maximum size of each in base64.
    pub max_bytes: Option<ByteSize>,
    /// Maximum tokens of one image, for costs and budgets.
    pub max_tokens: Option<MaxTokens>,
    /// Allowed types (`png`, `jpeg`, `gif`, `webp`) and sizes.
    pub media: Option<Media>,
    /// Allowed URLs of images that the server fetches; by default only `data:` URLs are accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
}

/// Completions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Completions {
    /// Maximum prompts of one request; 1 by default. Prompts are texts, never token numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_prompts: Option<MaxItems>,
    /// Maximum size of each.
    pub max_prompt_bytes: Option<ByteSize>,
    /// Maximum tokens of one choice; sent to the backend if a request has no limit.
    pub max_tokens: Option<MaxTokens>,
    /// Maximum choices per prompt; 1 by default.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub n: MaxChoices,
    /// Maximum candidates (`best_of`); 1 by default.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub best_of: MaxChoices,
    /// Maximum stop sequences; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<MaxStop>,
    /// Whether streamed responses (`stream: true`) as server-sent events are allowed.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub stream: bool,
    /// Maximum alternative tokens; no log probabilities by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<MaxLogprobs>,
    /// Output constraints; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Constraints>,
}

/// Embeddings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Embeddings {
    /// Maximum texts of one request; 1 by default. They are texts, never token numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_items: Option<MaxItems>,
    /// Maximum size of each.
    pub max_item_bytes: Option<ByteSize>,
}
