//! What a request of OpenAI's API must look like, and what it may cost. Everything that no rule names is refused; what passes is written
//! anew for the backend, with the bounds in it that the caller left out.
//!
//! Like tensors, a whole document is looked through, and of several faults the one that comes first in [`Reason`]'s order is told.

mod chat;
pub(crate) mod constraints;
mod grammar;
mod members;
mod normal;
mod picture;
mod rebuild;
mod schema;
mod tokens;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::media::MediaRule;
use super::url::UrlRule;
use super::{Carried, ParameterBound, Unkept, parameters, quote};
use crate::denial::{Denial, Reason};
use crate::json::{Members, Value};
use crate::request::Api;
use crate::tensor::ParameterValue;

use constraints::{Bytes, Constraints};
pub use rebuild::rebuild;
use tokens::Held;

/// What a model takes of OpenAI's API: at least one of the three.
#[derive(Clone, Debug)]
pub struct OpenAi {
    pub(crate) chat: Option<Chat>,
    pub(crate) completions: Option<Completions>,
    pub(crate) embeddings: Option<Embeddings>,
    pub(crate) parameters: Vec<(String, ParameterBound)>,
    /// The longest answer that is read.
    pub(crate) max_answer_bytes: usize,
}

/// Chat completions.
#[derive(Clone, Debug)]
pub struct Chat {
    pub(crate) max_messages: usize,
    pub(crate) max_message_bytes: usize,
    pub(crate) max_prompt_bytes: usize,
    pub(crate) roles: Vec<String>,
    pub(crate) generation: Generation,
    pub(crate) tools: Option<Tools>,
    pub(crate) formats: Vec<String>,
    pub(crate) max_schema_bytes: usize,
    pub(crate) images: Option<Images>,
}

/// Completions of a prompt.
#[derive(Clone, Debug)]
pub struct Completions {
    pub(crate) max_prompts: usize,
    pub(crate) max_prompt_bytes: usize,
    pub(crate) best_of: u64,
    pub(crate) generation: Generation,
}

/// Embeddings.
#[derive(Clone, Debug)]
pub struct Embeddings {
    pub(crate) max_items: usize,
    pub(crate) max_item_bytes: usize,
}

/// How much may be generated.
#[derive(Clone, Debug)]
pub struct Generation {
    pub(crate) max_tokens: u64,
    pub(crate) n: u64,
    pub(crate) stop: usize,
    /// Whether answers may come in pieces.
    pub(crate) stream: bool,
    /// Likely tokens that are told beside each; `None`: none, not even their number.
    pub(crate) logprobs: Option<u64>,
    /// What an answer may be held to beside a format; `None`: nothing, and schemas have no patterns.
    pub(crate) constraints: Option<Constraints>,
}

/// Functions that a model may call.
#[derive(Clone, Debug)]
pub struct Tools {
    pub(crate) max: usize,
    pub(crate) max_bytes: usize,
}

/// Pictures.
#[derive(Clone, Debug)]
pub struct Images {
    pub(crate) max: usize,
    pub(crate) max_bytes: usize,
    /// Tokens that the model makes of one.
    pub(crate) max_tokens: u64,
    /// What each inside the request may be.
    pub(crate) media: MediaRule,
    /// Where the URLs of others lead, which the server fetches itself; none else are taken.
    pub(crate) url: Option<UrlRule>,
}

impl OpenAi {
    /// Whether requests of this kind are taken.
    pub const fn takes(&self, api: Api) -> bool {
        match api {
            Api::Chat => self.chat.is_some(),
            Api::Completions => self.completions.is_some(),
            Api::Embeddings => self.embeddings.is_some(),
        }
    }

    /// Whether any answer may come in pieces.
    pub(crate) fn streams(&self) -> bool {
        let chat = self.chat.as_ref().map(|rule| &rule.generation);
        let completions = self.completions.as_ref().map(|rule| &rule.generation);
        chat.into_iter()
            .chain(completions)
            .any(|generation| generation.stream)
    }

    /// The longest answer that is read, bytes.
    pub const fn max_answer_bytes(&self) -> usize {
        self.max_answer_bytes
    }

    /// Checks a document, and says what it carries. What `unkept` lets pass of values passes.
    pub(crate) fn check(
        &self,
        api: Api,
        document: &Members<'_>,
        unkept: &mut Unkept<'_>,
    ) -> Result<Carried, Denial> {
        let mut faults = Faults::default();
        let faults_of = &mut faults;
        let carried = match api {
            Api::Chat => self.chat.as_ref().map(|rule| {
                let held = rule.check(self, document, faults_of);
                rule.carried(held, document)
            }),
            Api::Completions => self.completions.as_ref().map(|rule| {
                let held = rule.check(self, document, faults_of);
                rule.carried(held, document)
            }),
            Api::Embeddings => self.embeddings.as_ref().map(|rule| {
                let held = rule.check(self, document, faults_of);
                rule.carried(held)
            }),
        };
        let Faults { first, value } = faults;
        let earlier = |value: &Denial| {
            first
                .as_ref()
                .is_none_or(|first| value.reason < first.reason)
        };
        if let Some(value) = value.filter(earlier) {
            unkept(value)?;
        }
        match (first, carried) {
            (Some(denial), _) => Err(denial),
            (None, Some(carried)) => Ok(carried),
            (None, None) => Err(Denial::new(
                Reason::NotGranted,
                "the model takes none of it",
            )),
        }
    }

    /// A member that only the model's parameters can allow: a scalar within its bounds. `null` leaves it out.
    fn parameter(&self, name: &str, value: &Value<'_>, faults: &mut Faults) {
        let field = || format!("parameter {}", quote(name));
        let Some((_, bound)) = self.parameters.iter().find(|(known, _)| known == name) else {
            faults.add(Reason::Parameter, field, "the contract has no such member");
            return;
        };
        let allowed = match value {
            Value::Null => true,
            Value::Bool(value) => parameters::allows(bound, &ParameterValue::Bool(*value)),
            Value::Int(value) => parameters::allows(bound, &ParameterValue::Int64(*value)),
            Value::Float(value) => parameters::allows(bound, &ParameterValue::Double(*value)),
            Value::String(value) => {
                parameters::allows(bound, &ParameterValue::String(value.as_ref().into()))
            }
            Value::Array(_) | Value::Object(_) => false,
        };
        if !allowed {
            faults.add(
                Reason::Parameter,
                field,
                "the value is not of the contract's type or out of its bounds",
            );
        }
    }
}

impl Completions {
    fn check(&self, model: &OpenAi, document: &Members<'_>, faults: &mut Faults) -> Held {
        let (mut prompts, mut constraints) = (None, Bytes::default());
        for (name, value) in document {
            match name.as_ref() {
                name if self.generation.constrains(name) => {
                    constraints.add(self.generation.constraint(name, value, document, faults));
                }
                "prompt" => {
                    prompts = Some(members::texts(
                        "prompt",
                        value,
                        (self.max_prompts, self.max_prompt_bytes),
                        faults,
                    ));
                }
                "logprobs" => members::likely("logprobs", value, &self.generation, faults),
                "best_of" => members::count("best_of", value, 1, self.best_of, faults),
                name if self.generation.knows(name) => {
                    self.generation.check(name, value, document, faults);
                }
                name => model.parameter(name, value, faults),
            }
        }
        let number = |name| match crate::json::member(document, name) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        };
        if number("best_of").is_some_and(|best_of| best_of < number("n").unwrap_or(1)) {
            let field = || "parameter \"best_of\"".into();
            faults.add(Reason::Parameter, field, "fewer than n");
        }
        // No template is around a prompt: of a schema, too, it is told nothing.
        Held {
            constraints: constraints.schema.saturating_add(constraints.other),
            ..prompts.unwrap_or_else(|| missing("prompt", faults))
        }
    }
}

impl Embeddings {
    fn check(&self, model: &OpenAi, document: &Members<'_>, faults: &mut Faults) -> Held {
        let mut items = None;
        for (name, value) in document {
            match name.as_ref() {
                "input" => {
                    items = Some(members::texts(
                        "input",
                        value,
                        (self.max_items, self.max_item_bytes),
                        faults,
                    ));
                }
                "encoding_format" => {
                    if !matches!(value.as_str(), Some("float" | "base64")) {
                        let field = || "parameter \"encoding_format\"".into();
                        faults.add(Reason::Parameter, field, "neither float nor base64");
                    }
                }
                name => model.parameter(name, value, faults),
            }
        }
        items.unwrap_or_else(|| missing("input", faults))
    }
}

fn missing(name: &str, faults: &mut Faults) -> Held {
    faults.add(Reason::MissingInput, || name.into(), "is missing");
    Held::default()
}

/// The fault that is to be told: the first of the earliest reason.
#[derive(Debug, Default)]
struct Faults {
    first: Option<Denial>,
    /// The first one of a value, which a grant's mode may let pass.
    value: Option<Denial>,
}

impl Faults {
    fn add(&mut self, reason: Reason, field: impl FnOnce() -> String, cause: &str) {
        let slot = match reason {
            Reason::OutOfRange => &mut self.value,
            _ => &mut self.first,
        };
        if slot.as_ref().is_none_or(|first| reason < first.reason) {
            let field = field();
            let cause = format!("{field}: {cause}");
            *slot = Some(Denial::with_field(reason, field, cause));
        }
    }
}

#[cfg(test)]
mod tests;
