//! A complete response, read as untrusted input and encoded anew: known members, as many choices as
//! requested, and possible numbers. IDs, names and other members of the server are dropped.

use serde::{Deserialize, Deserializer, Serialize};
use tensorgate_judge::document::Document;
use tensorgate_policy::request::Api;

use super::call_names::unoffered;
use super::fault;
use super::picture_links::ChoiceTexts;
use super::response_memory::max_encoded_bytes;
use super::vector::{TokenProbabilities, Vector};
use crate::backends::BackendError;

/// The longest finish reason, tool call ID or function name in bytes.
pub(super) const MAX_WORD_BYTES: usize = 128;
/// The largest integer that every JSON parser reads exactly.
pub(super) const MAX_NUMBER: u64 = (1 << 53) - 1;
/// The tokens of a choice that a server may count beyond the requested ones. The end of a text is
/// one.
const EXTRA_TOKENS: u64 = 1;
/// The likely tokens of a completion beyond the requested ones. The chosen token is always
/// reported.
const EXTRA_LIKELY_TOKENS: usize = 1;

/// A chat completion or a text completion.
#[derive(Deserialize)]
struct Completion<C> {
    #[serde(default, deserialize_with = "default_if_null")]
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
        deserialize_with = "default_if_null",
        skip_serializing_if = "Vec::is_empty"
    )]
    tool_calls: Vec<ToolCall>,
}

/// The only role of a response.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Assistant {
    Assistant,
}

#[derive(Deserialize, Serialize)]
struct ToolCall {
    id: String,
    r#type: Function,
    function: CalledFunction,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Function {
    Function,
}

#[derive(Deserialize, Serialize)]
struct CalledFunction {
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
    #[serde(default, deserialize_with = "default_if_null")]
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
    top_logprobs: Option<Vec<Option<TokenProbabilities>>>,
    text_offset: Vec<u64>,
}

#[derive(Deserialize)]
struct EmbeddingList {
    data: Vec<Embedding>,
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct EmbeddingListOut {
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

/// Reads `null` as the default value.
pub(super) fn default_if_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Log probabilities of chat or text completions.
pub(super) trait Logprobs {
    /// Keeps at most this many likely tokens at each position.
    fn keep_requested(&mut self, most: usize) -> Result<(), BackendError>;
}

impl Logprobs for ChatLogprobs {
    fn keep_requested(&mut self, most: usize) -> Result<(), BackendError> {
        for token in self.content.iter_mut().flatten() {
            token.top_logprobs.truncate(most);
        }
        Ok(())
    }
}

impl Logprobs for TextLogprobs {
    fn keep_requested(&mut self, most: usize) -> Result<(), BackendError> {
        let most = most.saturating_add(EXTRA_LIKELY_TOKENS);
        // It is not known which token was chosen, and so which one to drop.
        let mut likely = self.top_logprobs.iter().flatten().flatten();
        if likely.any(|likely| likely.len() > most) {
            return fault("more top_logprobs than requested");
        }
        Ok(())
    }
}

/// Keeps only the requested log probabilities.
pub(super) fn keep_requested_logprobs<L: Logprobs>(
    logprobs: &mut Option<L>,
    request_document: &Document,
) -> Result<(), BackendError> {
    match (request_document.likely, logprobs.as_mut()) {
        (Some(most), Some(told)) => told.keep_requested(most),
        (Some(_), None) => Ok(()),
        (None, _) => {
            *logprobs = None;
            Ok(())
        }
    }
}

/// A response for the caller.
#[derive(Debug)]
pub struct CheckedResponse {
    /// The encoded body.
    pub body: Vec<u8>,
    /// The total number of tokens, if the server reports it.
    pub tokens: Option<u64>,
}

/// A choice of a chat or text completion.
trait Choice {
    fn index(&self) -> u64;
    fn finish_reason(&self) -> Option<&str>;
    fn fits(&self) -> bool {
        true
    }
    /// Keeps only what was requested.
    fn hold(&mut self, request_document: &Document) -> Result<(), BackendError>;
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

    fn hold(&mut self, request_document: &Document) -> Result<(), BackendError> {
        let message = &mut self.message;
        let calls = message.tool_calls.iter();
        check_calls(request_document, calls.map(|call| &*call.function.name))?;
        if let Some(rule) = request_document.answer_links {
            let texts = [
                &mut message.content,
                &mut message.refusal,
                &mut message.reasoning_content,
            ];
            ChoiceTexts::default().apply(rule, texts, true)?;
        }
        keep_requested_logprobs(&mut self.logprobs, request_document)
    }
}

impl Choice for TextChoice {
    fn index(&self) -> u64 {
        self.index
    }

    fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    fn hold(&mut self, request_document: &Document) -> Result<(), BackendError> {
        if let Some(rule) = request_document.answer_links {
            ChoiceTexts::default().apply_text(rule, &mut self.text, true)?;
        }
        keep_requested_logprobs(&mut self.logprobs, request_document)
    }
}

/// Checks a response to a document and encodes it anew. `model` is the name that the caller used.
pub fn check(
    request_document: &Document,
    answer: &[u8],
    model: &str,
    request_id: &str,
) -> Result<CheckedResponse, BackendError> {
    let longest = max_encoded_bytes(answer);
    match request_document.api {
        Api::Chat => {
            let answer: Completion<ChatChoice> = parse(answer)?;
            let around = ("chatcmpl", "chat.completion");
            completion(request_document, answer, model, request_id, around, longest)
        }
        Api::Completions => {
            let answer: Completion<TextChoice> = parse(answer)?;
            let around = ("cmpl", "text_completion");
            completion(request_document, answer, model, request_id, around, longest)
        }
        Api::Embeddings => embeddings(request_document, parse(answer)?, model, longest),
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, BackendError> {
    serde_json::from_slice(answer).map_err(|error| BackendError::Fault(format!("answer: {error}")))
}

fn completion<C: Choice + Serialize>(
    request_document: &Document,
    answer: Completion<C>,
    model: &str,
    request_id: &str,
    (prefix, object): (&str, &'static str),
    longest: usize,
) -> Result<CheckedResponse, BackendError> {
    let Completion {
        created,
        mut choices,
        usage,
    } = answer;
    check_indexes(request_document, choices.iter().map(Choice::index))?;
    let short = |choice: &C| {
        let reason = choice.finish_reason();
        reason.is_none_or(|reason| reason.len() <= MAX_WORD_BYTES) && choice.fits()
    };
    if !choices.iter().all(short) {
        return fault("a short field is too long");
    }
    choices
        .iter_mut()
        .try_for_each(|choice| choice.hold(request_document))?;
    let tokens = check_usage(request_document, usage.as_ref())?;
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
    request_document: &Document,
    answer: EmbeddingList,
    model: &str,
    longest: usize,
) -> Result<CheckedResponse, BackendError> {
    let EmbeddingList { data, usage } = answer;
    check_indexes(
        request_document,
        data.iter().map(|embedding| embedding.index),
    )?;
    if data.len() != request_document.choices {
        return fault("it does not have one embedding per text");
    }
    if !data.iter().all(|embedding| embedding.embedding.is_valid()) {
        return fault("an embedding is invalid");
    }
    let tokens = check_usage(request_document, usage.as_ref())?;
    let answer = EmbeddingListOut {
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

/// Checks that the indexes are unique, at least one, and at most as many as requested.
fn check_indexes(
    request_document: &Document,
    indexes: impl Iterator<Item = u64>,
) -> Result<(), BackendError> {
    let most = u64::try_from(request_document.choices).unwrap_or(u64::MAX);
    let mut seen = std::collections::BTreeSet::new();
    for index in indexes {
        if index >= most || !seen.insert(index) {
            return fault("a choice that was not requested");
        }
    }
    if seen.is_empty() {
        return fault("it has no choices");
    }
    Ok(())
}

/// Checks that the response calls only functions that its request offered.
fn check_calls<'n>(
    request_document: &Document,
    mut names: impl Iterator<Item = &'n str>,
) -> Result<(), BackendError> {
    if names.all(|name| request_document.offered_calls.allow(name)) {
        return Ok(());
    }
    unoffered()
}

/// Checks that the token counts add up and do not exceed the requested maximum. Returns the total.
pub(super) fn check_usage(
    request_document: &Document,
    usage: Option<&Usage>,
) -> Result<Option<u64>, BackendError> {
    let Some(usage) = usage else {
        return Ok(None);
    };
    let completion = usage.completion_tokens.unwrap_or(0);
    let sum = usage.prompt_tokens.checked_add(completion);
    if sum != Some(usage.total_tokens) || usage.total_tokens > MAX_NUMBER {
        return fault("its usage is inconsistent");
    }
    let generated = u64::try_from(request_document.generated).unwrap_or(u64::MAX);
    let most = request_document.max_tokens.map(|tokens| {
        let each = tokens.saturating_add(EXTRA_TOKENS);
        each.saturating_mul(generated)
    });
    if most.is_some_and(|most| completion > most) {
        return fault("more tokens than requested");
    }
    Ok(Some(usage.total_tokens))
}

fn write(
    answer: &impl Serialize,
    tokens: Option<u64>,
    longest: usize,
) -> Result<CheckedResponse, BackendError> {
    let mut body = Vec::with_capacity(longest);
    serde_json::to_writer(&mut body, answer)
        .map_err(|error| BackendError::Fault(format!("answer: {error}")))?;
    body.shrink_to_fit();
    Ok(CheckedResponse { body, tokens })
}
