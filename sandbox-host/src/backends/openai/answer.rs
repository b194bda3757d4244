//! A backend's answer, read as untrusted input and written anew: members that the API has, as many choices as were asked for, numbers that can be. Ids,
//! names and whatever else a server adds are left behind.

use serde::{Deserialize, Deserializer, Serialize};
use tensorgate_policy::request::Api;

use super::room::longest;
use super::vector::{Likely, Vector};
use crate::backends::BackendError;
use crate::document::Document;

/// Why a choice ended, and what called things are named: short words.
pub(super) const MAX_WORD_BYTES: usize = 128;
/// The largest whole number that every JSON parser reads alike.
pub(super) const MAX_NUMBER: u64 = (1 << 53) - 1;
/// Tokens of a choice beyond what was asked for that a server may count: the end of a text is one.
const TOKENS_BESIDE: u64 = 1;
/// Likely tokens of a completion beyond those asked for: the token that was picked is told whether it is among them or not.
const LIKELY_BESIDE: usize = 1;

/// A chat completion, or a completion.
#[derive(Deserialize)]
struct Completion<C> {
    #[serde(default, deserialize_with = "left_out")]
    created: u64,
    choices: Vec<C>,
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct CompletionOut<C> {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<C>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct Usage {
    prompt_tokens: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    completion_tokens: Option<u64>,
    total_tokens: u64,
}

#[derive(Deserialize, Serialize)]
struct ChatChoice {
    index: u64,
    message: Message,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Message {
    role: Assistant,
    content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(
        default,
        deserialize_with = "left_out",
        skip_serializing_if = "Vec::is_empty"
    )]
    tool_calls: Vec<ToolCall>,
}

/// Nobody else answers.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Assistant {
    Assistant,
}

#[derive(Deserialize, Serialize)]
struct ToolCall {
    id: String,
    r#type: Function,
    function: Called,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Function {
    Function,
}

#[derive(Deserialize, Serialize)]
struct Called {
    name: String,
    arguments: String,
}

#[derive(Deserialize, Serialize)]
pub(super) struct ChatLogprobs {
    content: Option<Vec<TokenLogprob>>,
}

#[derive(Deserialize, Serialize)]
struct TokenLogprob {
    token: String,
    logprob: f64,
    #[serde(default)]
    bytes: Option<Vec<u8>>,
    #[serde(default, deserialize_with = "left_out")]
    top_logprobs: Vec<TopLogprob>,
}

#[derive(Deserialize, Serialize)]
struct TopLogprob {
    token: String,
    logprob: f64,
    #[serde(default)]
    bytes: Option<Vec<u8>>,
}

#[derive(Deserialize, Serialize)]
struct TextChoice {
    index: u64,
    text: String,
    #[serde(default)]
    logprobs: Option<TextLogprobs>,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct TextLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f64>>,
    top_logprobs: Option<Vec<Option<Likely>>>,
    text_offset: Vec<u64>,
}

#[derive(Deserialize)]
struct Embedded {
    data: Vec<Embedding>,
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct EmbeddedOut {
    object: &'static str,
    data: Vec<EmbeddingOut>,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Embedding {
    index: u64,
    embedding: Vector,
}

#[derive(Serialize)]
struct EmbeddingOut {
    object: &'static str,
    index: u64,
    embedding: Vector,
}

/// `null` is as left out.
pub(super) fn left_out<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Log probabilities of either kind.
pub(super) trait Logprobs {
    /// Leaves at most so many likely tokens beside each.
    fn hold(&mut self, most: usize) -> Result<(), BackendError>;
}

impl Logprobs for ChatLogprobs {
    fn hold(&mut self, most: usize) -> Result<(), BackendError> {
        for token in self.content.iter_mut().flatten() {
            token.top_logprobs.truncate(most);
        }
        Ok(())
    }
}

impl Logprobs for TextLogprobs {
    fn hold(&mut self, most: usize) -> Result<(), BackendError> {
        let most = most.saturating_add(LIKELY_BESIDE);
        // By their names nobody can tell which was picked, and so which may go.
        let mut likely = self.top_logprobs.iter().flatten().flatten();
        if likely.any(|likely| likely.len() > most) {
            return fault("more likely tokens than were asked for");
        }
        Ok(())
    }
}

/// Leaves of log probabilities what was asked for: nothing, where none were.
pub(super) fn held<L: Logprobs>(
    logprobs: &mut Option<L>,
    asked: &Document,
) -> Result<(), BackendError> {
    match (asked.likely, logprobs.as_mut()) {
        (Some(most), Some(told)) => told.hold(most),
        (Some(_), None) => Ok(()),
        (None, _) => {
            *logprobs = None;
            Ok(())
        }
    }
}

/// An answer as the caller gets it.
#[derive(Debug)]
pub struct Answered {
    /// Written anew.
    pub body: Vec<u8>,
    /// Tokens that were used in all, if the server counts them.
    pub tokens: Option<u64>,
}

/// A choice of either kind.
trait Choice {
    fn index(&self) -> u64;
    fn finish_reason(&self) -> Option<&str>;
    fn fits(&self) -> bool {
        true
    }
    /// Leaves what was asked for.
    fn hold(&mut self, asked: &Document) -> Result<(), BackendError>;
}

impl Choice for ChatChoice {
    fn index(&self) -> u64 {
        self.index
    }

    fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    fn fits(&self) -> bool {
        self.message.tool_calls.iter().all(|call| {
            call.id.len() <= MAX_WORD_BYTES && call.function.name.len() <= MAX_WORD_BYTES
        })
    }

    fn hold(&mut self, asked: &Document) -> Result<(), BackendError> {
        held(&mut self.logprobs, asked)
    }
}

impl Choice for TextChoice {
    fn index(&self) -> u64 {
        self.index
    }

    fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    fn hold(&mut self, asked: &Document) -> Result<(), BackendError> {
        held(&mut self.logprobs, asked)
    }
}

/// Checks an answer to a document and writes it anew. `model` is the name that the caller used.
pub fn check(
    asked: &Document,
    answer: &[u8],
    model: &str,
    request_id: &str,
) -> Result<Answered, BackendError> {
    let longest = longest(answer);
    match asked.api {
        Api::Chat => {
            let answer: Completion<ChatChoice> = parse(answer)?;
            let around = ("chatcmpl", "chat.completion");
            completion(asked, answer, model, request_id, around, longest)
        }
        Api::Completions => {
            let answer: Completion<TextChoice> = parse(answer)?;
            let around = ("cmpl", "text_completion");
            completion(asked, answer, model, request_id, around, longest)
        }
        Api::Embeddings => embeddings(asked, parse(answer)?, model, longest),
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, BackendError> {
    serde_json::from_slice(answer).map_err(|error| BackendError::Fault(format!("answer: {error}")))
}

fn completion<C: Choice + Serialize>(
    asked: &Document,
    answer: Completion<C>,
    model: &str,
    request_id: &str,
    (prefix, object): (&str, &'static str),
    longest: usize,
) -> Result<Answered, BackendError> {
    let Completion {
        created,
        mut choices,
        usage,
    } = answer;
    indexes(asked, choices.iter().map(Choice::index))?;
    let short = |choice: &C| {
        let reason = choice.finish_reason();
        reason.is_none_or(|reason| reason.len() <= MAX_WORD_BYTES) && choice.fits()
    };
    if !choices.iter().all(short) {
        return fault("a word of the answer is too long");
    }
    choices
        .iter_mut()
        .try_for_each(|choice| choice.hold(asked))?;
    let tokens = counted(asked, usage.as_ref())?;
    let answer = CompletionOut {
        id: format!("{prefix}-{request_id}"),
        object,
        created: created.min(MAX_NUMBER),
        model: model.to_owned(),
        choices,
        usage,
    };
    write(&answer, tokens, longest)
}

fn embeddings(
    asked: &Document,
    answer: Embedded,
    model: &str,
    longest: usize,
) -> Result<Answered, BackendError> {
    let Embedded { data, usage } = answer;
    indexes(asked, data.iter().map(|embedding| embedding.index))?;
    if data.len() != asked.choices {
        return fault("not as many embeddings as texts");
    }
    if !data.iter().all(|embedding| embedding.embedding.is_one()) {
        return fault("an embedding that is none");
    }
    let tokens = counted(asked, usage.as_ref())?;
    let answer = EmbeddedOut {
        object: "list",
        data: data
            .into_iter()
            .map(|Embedding { index, embedding }| EmbeddingOut {
                object: "embedding",
                index,
                embedding,
            })
            .collect(),
        model: model.to_owned(),
        usage,
    };
    write(&answer, tokens, longest)
}

/// At least one, at most as many as were asked for, each once.
fn indexes(asked: &Document, indexes: impl Iterator<Item = u64>) -> Result<(), BackendError> {
    let most = u64::try_from(asked.choices).unwrap_or(u64::MAX);
    let mut seen = std::collections::BTreeSet::new();
    for index in indexes {
        if index >= most || !seen.insert(index) {
            return fault("a choice that nobody asked for");
        }
    }
    if seen.is_empty() {
        return fault("no choice");
    }
    Ok(())
}

/// Counts that can be: whole numbers that add up, and no more tokens than may have been generated. How many it is in all.
pub(super) fn counted(
    asked: &Document,
    usage: Option<&Usage>,
) -> Result<Option<u64>, BackendError> {
    let Some(usage) = usage else {
        return Ok(None);
    };
    let completion = usage.completion_tokens.unwrap_or(0);
    let sum = usage.prompt_tokens.checked_add(completion);
    if sum != Some(usage.total_tokens) || usage.total_tokens > MAX_NUMBER {
        return fault("its usage does not add up");
    }
    let generated = u64::try_from(asked.generated).unwrap_or(u64::MAX);
    let most = asked.max_tokens.map(|tokens| {
        let each = tokens.saturating_add(TOKENS_BESIDE);
        each.saturating_mul(generated)
    });
    if most.is_some_and(|most| completion > most) {
        return fault("more tokens than were asked for");
    }
    Ok(Some(usage.total_tokens))
}

fn write(
    answer: &impl Serialize,
    tokens: Option<u64>,
    longest: usize,
) -> Result<Answered, BackendError> {
    let mut body = Vec::with_capacity(longest);
    serde_json::to_writer(&mut body, answer)
        .map_err(|error| BackendError::Fault(format!("answer: {error}")))?;
    body.shrink_to_fit();
    Ok(Answered { body, tokens })
}

pub(super) fn fault<T>(what: &str) -> Result<T, BackendError> {
    Err(BackendError::Fault(what.to_owned()))
}
