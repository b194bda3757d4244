//! Contract of OpenAI API requests and their cost. Members without a rule are rejected. Accepted
//! documents are rewritten for the backend, with the limits that the caller omitted.
//!
//! As for tensors, the whole document is checked. With several faults, the first one in
//! [`Reason`]'s order is reported.

mod chat;
pub mod constraints;
mod history;
mod ignored;
mod members;
mod parameter;
mod picture;
mod picture_links;
mod rebuild;
mod schema;
mod screening;
pub mod special_tokens;
mod text_length;
mod tokens;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::json::{Members, Value};

use super::media::MediaRule;
use super::url::UrlRule;
use super::{OnValueFault, ParameterRules, RequestCost, parameters, quote};
use crate::denial::{Denial, Reason};
use crate::request::Api;

use constraints::Constraints;
pub use history::MAX_CALL_WORD_BYTES;
pub use ignored::{IgnoredMembers, Owner};
use parameter::ParameterCheck;
pub use picture_links::{EmittedMark, LinkScanner, PictureLink};
pub use rebuild::{Rebuilt, rebuild};
pub use schema::SchemaLimits;
pub use screening::CallRule;
pub use screening::{AnswerLinks, OfferedCalls, Screening};
pub use special_tokens::may_start_token;
use special_tokens::{SpecialTokens, TextForm};
use text_length::longest;
use tokens::Contents;
pub use tokens::MAX_CALLS;

/// The member with the caller's own pairs of texts.
pub const METADATA: &str = "metadata";
/// JSON Pointer of the functions' schemas, with `*` for every element of a list.
const SCHEMAS: &str = "/tools/*/function/parameters";

/// Allowed kinds of requests; at least one of the three.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenAi {
    pub chat: Option<Chat>,
    pub completions: Option<Completions>,
    pub embeddings: Option<Embeddings>,
    pub parameters: ParameterRules,
    /// Members that are allowed and that the backend never gets.
    pub ignored: Vec<String>,
    /// As `ignored`, for members of objects in the request.
    pub ignored_members: IgnoredMembers,
    /// Length of the model's context at the server, if known: it bounds costs, and no request is
    /// rejected by it.
    pub context_tokens: Option<u64>,
    /// Minimum size of prompts, of texts to embed, and of messages of users and the system. An
    /// empty message of the system passes beside a user's.
    pub min_bytes: usize,
    pub special_tokens: SpecialTokens,
    /// Maximum response size.
    pub max_answer_bytes: usize,
    pub screening: Screening,
}

/// Chat completions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chat {
    pub max_messages: usize,
    pub max_message_bytes: usize,
    pub max_prompt_bytes: usize,
    pub roles: Vec<String>,
    pub generation: Generation,
    pub tools: Option<Tools>,
    pub formats: Vec<String>,
    pub max_schema_bytes: usize,
    /// Limits of schemas that the server compiles.
    pub schemas: SchemaLimits,
    pub images: Option<Images>,
}

/// Completions of a prompt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Completions {
    pub max_prompts: usize,
    pub max_prompt_bytes: usize,
    pub best_of: u64,
    pub generation: Generation,
}

/// Embeddings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Embeddings {
    pub max_items: usize,
    pub max_item_bytes: usize,
}

/// Limits of generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Generation {
    pub max_tokens: u64,
    pub n: u64,
    pub stop: usize,
    /// Whether responses may be streamed.
    pub stream: bool,
    /// Maximum number of alternative tokens with log probabilities; `None`: no log probabilities.
    pub logprobs: Option<u64>,
    /// Allowed output constraints besides a format, and patterns in schemas; `None`: none.
    pub constraints: Option<Constraints>,
}

/// Functions that a model may call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tools {
    pub max: usize,
    pub max_bytes: usize,
    /// Whether the server compiles the schema of each.
    pub compiled: bool,
}

/// Images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Images {
    pub max: usize,
    pub max_bytes: usize,
    /// Tokens per image.
    pub max_tokens: u64,
    /// Rules of images inside the request.
    pub media: MediaRule,
    /// Allowed URLs of images that the server fetches; `None`: no URLs.
    pub url: Option<UrlRule>,
}

impl OpenAi {
    /// Whether requests of this kind are allowed.
    pub const fn takes(&self, api: Api) -> bool {
        match api {
            Api::Chat => self.chat.is_some(),
            Api::Completions => self.completions.is_some(),
            Api::Embeddings => self.embeddings.is_some(),
        }
    }

    /// Whether any response may be streamed.
    pub fn streams(&self) -> bool {
        let chat = self.chat.as_ref().map(|rule| &rule.generation);
        let completions = self.completions.as_ref().map(|rule| &rule.generation);
        chat.into_iter()
            .chain(completions)
            .any(|generation| generation.stream)
    }

    /// Maximum response size, in bytes.
    pub const fn max_answer_bytes(&self) -> usize {
        self.max_answer_bytes
    }

    /// Rules of links to pictures, function calls and the server's cache.
    pub const fn screening(&self) -> &Screening {
        &self.screening
    }

    /// Validates a document and returns its cost. Value faults may pass by `on_value_fault`.
    pub(crate) fn check(
        &self,
        api: Api,
        document: &Members<'_>,
        on_value_fault: &mut OnValueFault<'_>,
    ) -> Result<RequestCost, Denial> {
        let mut faults = Faults::default();
        let faults_of = &mut faults;
        // Some tokenizers end a text there, so the server would judge another text than the gate.
        for (name, value) in document {
            if name.contains('\0') || value.any_text(&mut |text: &str| text.contains('\0')) {
                faults_of.add(Reason::Malformed, || quote(name), "a text has U+0000");
            }
        }
        let context = self.context_tokens;
        let cost = match api {
            Api::Chat => self.chat.as_ref().map(|rule| {
                let contents = rule.check(self, document, faults_of);
                rule.cost(contents, document, context)
            }),
            Api::Completions => self.completions.as_ref().map(|rule| {
                let contents = rule.check(self, document, faults_of);
                rule.cost(contents, document, context)
            }),
            Api::Embeddings => self.embeddings.as_ref().map(|rule| {
                let contents = rule.check(self, document, faults_of);
                rule.cost(contents, context)
            }),
        };
        self.screening.check_request(document, &mut faults);
        let Faults { first, value } = faults;
        let earlier = |value: &Denial| {
            first
                .as_ref()
                .is_none_or(|first| value.reason < first.reason)
        };
        if let Some(value) = value.filter(earlier) {
            on_value_fault(value)?;
        }
        match (first, cost) {
            (Some(denial), _) => Err(denial),
            (None, Some(cost)) => Ok(cost),
            (None, None) => Err(Denial::new(
                Reason::NotGranted,
                "the model takes none of it",
            )),
        }
    }

    /// Whether the member is allowed, and dropped before the backend gets the document. A member
    /// with a rule is not.
    fn ignores(&self, name: &str) -> bool {
        parameters::is_dropped(&self.parameters, &self.ignored, name)
    }

    /// Removes the members that are ignored, and the keywords that no server gets of schemas that
    /// only describe. Returns the members' names, and pointers to those of objects.
    pub(crate) fn drop_ignored(&self, document: &mut Members<'_>) -> Vec<String> {
        let mut dropped = Vec::new();
        document.retain(|(name, _)| {
            let ignored = self.ignores(name);
            if ignored {
                dropped.push(String::from(&**name));
            }
            !ignored
        });
        self.ignored_members.drop_from(document, &mut dropped);
        let chat = self.chat.as_ref();
        if chat.is_some_and(|chat| chat.drop_keywords(document)) {
            dropped.push(String::from(SCHEMAS));
        }
        dropped
    }

    /// Checks a text's minimum size. Empty prompts have stopped servers (CVE-2024-8768).
    fn not_too_short(&self, bytes: usize, field: impl FnOnce() -> String, faults: &mut Faults) {
        let least = self.min_bytes;
        if bytes < least {
            let cause = format!("{bytes} bytes, at least {least} are required");
            faults.add_expecting(Reason::OutOfRange, field, &cause, || {
                format!("at least {least} bytes")
            });
        }
    }

    /// A text of its own, for example a prompt. Returns its maximum size at the server. A text of
    /// more than `max_bytes` is not examined, because the caller refuses it.
    fn text(
        &self,
        text: &str,
        max_bytes: usize,
        field: &dyn Fn() -> String,
        faults: &mut Faults,
    ) -> usize {
        self.not_too_short(text.len(), field, faults);
        let bytes = longest(text);
        if bytes > max_bytes {
            return bytes;
        }
        let added = self.special_tokens.added_bytes(text, TextForm::Plain);
        let added = added.unwrap_or_else(|cause| {
            faults.add(Reason::Parameter, field, cause);
            0
        });
        bytes.saturating_add(added)
    }

    /// A member that only the model's parameters can allow. One that says nothing needs no rule,
    /// because the backend does not get it. Returns the bytes of texts in objects.
    fn parameter(&self, name: &str, value: &Value<'_>, faults: &mut Faults) -> usize {
        if members::is_absent(name, value) {
            return 0;
        }
        let field = || format!("parameter {}", quote(name));
        let Some((_, bound)) = self.parameters.iter().find(|(known, _)| known == name) else {
            if !self.ignores(name) {
                faults.add(Reason::Parameter, field, "the contract has no such member");
            }
            return 0;
        };
        if name == METADATA {
            members::metadata(value, bound, faults);
            return 0;
        }
        let mut check = ParameterCheck::new(&self.special_tokens, faults);
        check.value(bound, value, &field);
        check.text_bytes
    }
}

impl Completions {
    fn check(&self, model: &OpenAi, document: &Members<'_>, faults: &mut Faults) -> Contents {
        let (mut prompts, mut constraints) = (None, 0_usize);
        for (name, value) in document {
            match name.as_ref() {
                name if self.generation.constrains(name) => {
                    let bytes = self.generation.constraint(name, value, document, faults);
                    constraints = constraints.saturating_add(bytes);
                }
                "prompt" => {
                    let bounds = (self.max_prompts, self.max_prompt_bytes);
                    prompts = Some(members::texts("prompt", value, bounds, model, faults));
                }
                "logprobs" => members::likely("logprobs", value, &self.generation, faults),
                "best_of" => members::count("best_of", value, 1, self.best_of, faults),
                name if self.generation.knows(name) => {
                    self.generation.check(name, value, document, model, faults);
                }
                // A prompt has no template, which could write the texts.
                name => {
                    model.parameter(name, value, faults);
                }
            }
        }
        let number = |name| match tensorgate_values::json::member(document, name) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        };
        if number("best_of").is_some_and(|best_of| best_of < number("n").unwrap_or(1)) {
            let field = || "parameter \"best_of\"".into();
            faults.add(Reason::Parameter, field, "fewer than n");
        }
        Contents {
            schemas: constraints,
            ..prompts.unwrap_or_else(|| missing("prompt", faults))
        }
    }
}

impl Embeddings {
    fn check(&self, model: &OpenAi, document: &Members<'_>, faults: &mut Faults) -> Contents {
        let mut items = None;
        for (name, value) in document {
            match name.as_ref() {
                "input" => {
                    let bounds = (self.max_items, self.max_item_bytes);
                    items = Some(members::texts("input", value, bounds, model, faults));
                }
                "encoding_format" => {
                    let is_known = matches!(value.as_str(), Some("float" | "base64"));
                    if !is_known && *value != Value::Null {
                        let field = || "parameter \"encoding_format\"".into();
                        faults.add(Reason::Parameter, field, "neither float nor base64");
                    }
                }
                name => {
                    model.parameter(name, value, faults);
                }
            }
        }
        items.unwrap_or_else(|| missing("input", faults))
    }
}

fn missing(name: &str, faults: &mut Faults) -> Contents {
    faults.add(Reason::MissingInput, || name.into(), "is missing");
    Contents::default()
}

/// The fault to report: the first one of the earliest reason.
#[derive(Debug, Default)]
struct Faults {
    first: Option<Denial>,
    /// The first value fault, which a grant's shadow mode may let pass.
    value: Option<Denial>,
}

impl Faults {
    fn add(&mut self, reason: Reason, field: impl FnOnce() -> String, cause: &str) {
        self.insert(reason, cause, || (field(), None));
    }

    /// Adds a fault of a field of which the contract has an expectation.
    fn add_expecting(
        &mut self,
        reason: Reason,
        field: impl FnOnce() -> String,
        cause: &str,
        expected: impl FnOnce() -> String,
    ) {
        self.insert(reason, cause, || (field(), Some(expected())));
    }

    fn insert(
        &mut self,
        reason: Reason,
        cause: &str,
        field: impl FnOnce() -> (String, Option<String>),
    ) {
        let slot = if reason == Reason::OutOfRange {
            &mut self.value
        } else {
            &mut self.first
        };
        if slot.as_ref().is_none_or(|first| reason < first.reason) {
            let (field, expected) = field();
            let cause = format!("{field}: {cause}");
            *slot = Some(Denial::with_field(reason, field, cause).expecting(expected));
        }
    }
}

#[cfg(test)]
mod tests;
