//! A complete response, read as untrusted input and encoded anew: known members, as many choices as
//! requested, and possible numbers. The answer's ID, the server's name of the model, and other
//! members are dropped. Constants of the API are written by the gate, whatever the server writes in
//! their place.

use serde::{Deserialize, Serialize};
use tensorgate_judge::document::Document;
use tensorgate_policy::request::Api;
use tensorgate_telemetry::timings::TokenCounts;

use super::arguments::{self, NO_ARGUMENTS};
use super::call_names::{MAX_WORD_BYTES, generated_id, unoffered};
use super::fault;
use super::lenient::{self, default_if_null};
use super::picture_links::ChoiceTexts;
use super::response_memory::max_encoded_bytes;
use super::usage::{ReportedUsage, Usage, UsageTally};
use super::vector::{TokenProbabilities, Vector};
use crate::backends::BackendError;

/// The likely tokens of a completion beyond the requested ones. The chosen token is always
/// reported.
const EXTRA_LIKELY_TOKENS: usize = 1;

/// A chat completion or a text completion.
#[derive(Deserialize)]
struct Completion<C> {
    #[serde(default, deserialize_with = "lenient::seconds")]
    created: u64,
    choices: Vec<C>,
    usage: Option<ReportedUsage>,
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
struct ChatChoice {
    /// Known once the choices are numbered.
    #[serde(default, deserialize_with = "lenient::index")]
    index: Option<u64>,
    // On the heap, so that a list of choices that grows holds little of each.
    message: Box<Message>,
    #[serde(
        default,
        deserialize_with = "lenient::object",
        skip_serializing_if = "Option::is_none"
    )]
    logprobs: Option<ChatLogprobs>,
    #[serde(default, deserialize_with = "lenient::word")]
    finish_reason: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Message {
    #[serde(skip_deserializing)]
    role: Role,
    #[serde(default, deserialize_with = "lenient::content")]
    content: Option<String>,
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    refusal: Option<String>,
    /// The reasoning, as vLLM names it since 0.16.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    reasoning: Option<String>,
    /// The reasoning, as other servers name it.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    reasoning_content: Option<String>,
    #[serde(
        default,
        deserialize_with = "lenient::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    tool_calls: Vec<ToolCall>,
}

impl Message {
    /// Whether the message has neither a text nor a call.
    fn is_empty(&self) -> bool {
        let texts = [
            &self.content,
            &self.refusal,
            &self.reasoning,
            &self.reasoning_content,
        ];
        self.tool_calls.is_empty()
            && texts
                .into_iter()
                .all(|text| text.as_deref().is_none_or(str::is_empty))
    }
}

/// The only role of a response.
#[derive(Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    #[default]
    Assistant,
}

#[derive(Deserialize, Serialize)]
struct ToolCall {
    /// Known once the call was checked.
    #[serde(default, deserialize_with = "lenient::call_word")]
    id: Option<String>,
    #[serde(skip_deserializing)]
    r#type: CallType,
    function: CalledFunction,
}

/// The only type of a call.
#[derive(Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CallType {
    #[default]
    Function,
}

#[derive(Deserialize, Serialize)]
struct CalledFunction {
    #[serde(deserialize_with = "lenient::call_name")]
    name: String,
    /// Known once the call was checked.
    #[serde(default, deserialize_with = "arguments::text")]
    arguments: Option<String>,
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
    /// Known once the choices are numbered.
    #[serde(default, deserialize_with = "lenient::index")]
    index: Option<u64>,
    #[serde(deserialize_with = "default_if_null")]
    text: String,
    #[serde(default, deserialize_with = "lenient::object")]
    logprobs: Option<Box<TextLogprobs>>,
    #[serde(default, deserialize_with = "lenient::word")]
    finish_reason: Option<String>,
}

// llama.cpp writes the log probabilities of a chat in their place, which has none of these members.
#[derive(Deserialize, Serialize)]
pub(super) struct TextLogprobs {
    #[serde(default, deserialize_with = "default_if_null")]
    tokens: Vec<String>,
    #[serde(default, deserialize_with = "default_if_null")]
    token_logprobs: Vec<Option<f64>>,
    top_logprobs: Option<Vec<Option<TokenProbabilities>>>,
    #[serde(default, deserialize_with = "default_if_null")]
    text_offset: Vec<u64>,
}

#[derive(Deserialize)]
struct EmbeddingList {
    data: Vec<Embedding>,
    usage: Option<ReportedUsage>,
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
    #[serde(default, deserialize_with = "lenient::index")]
    index: Option<u64>,
    embedding: Vector,
}

#[derive(Serialize)]
struct EmbeddingOut {
    object: &'static str,
    index: u64,
    embedding: Vector,
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

impl Logprobs for Box<TextLogprobs> {
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
    /// Its parts, for the audit log.
    pub counts: Option<TokenCounts>,
    /// Whether the server reports counts that cannot be right.
    pub has_faulty_usage: bool,
}

/// A choice of a chat or text completion.
trait Choice {
    /// The index, which a server may leave out.
    fn index_mut(&mut self) -> &mut Option<u64>;
    fn finish_reason(&self) -> Option<&str>;
    fn fits(&self) -> bool {
        true
    }
    /// Keeps only what was requested, and adds what the server left out.
    fn hold(&mut self, request_document: &Document, request_id: &str) -> Result<(), BackendError>;
}

impl Choice for ChatChoice {
    fn index_mut(&mut self) -> &mut Option<u64> {
        &mut self.index
    }

    fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    fn fits(&self) -> bool {
        let mut calls = self.message.tool_calls.iter();
        calls.all(|call| call.function.name.len() <= MAX_WORD_BYTES)
    }

    fn hold(&mut self, request_document: &Document, request_id: &str) -> Result<(), BackendError> {
        let message = &mut *self.message;
        let calls = message.tool_calls.iter();
        check_calls(request_document, calls.map(|call| &*call.function.name))?;
        let choice = self.index.unwrap_or_default();
        for (index, call) in (0..).zip(&mut message.tool_calls) {
            // LiteLLM puts the signature of a thought into an ID, which the next request could not
            // carry.
            call.id = call.id.take().filter(|id| id.len() <= MAX_WORD_BYTES);
            call.id
                .get_or_insert_with(|| generated_id(request_id, choice, index));
            call.function
                .arguments
                .get_or_insert_with(|| NO_ARGUMENTS.to_owned());
        }
        if let Some(rule) = request_document.answer_links {
            let texts = [
                &mut message.content,
                &mut message.refusal,
                &mut message.reasoning,
                &mut message.reasoning_content,
            ];
            ChoiceTexts::default().apply(rule, texts, true)?;
        }
        if message.is_empty() {
            // Without a content, a client could not send the message back.
            message.content = Some(String::new());
        }
        keep_requested_logprobs(&mut self.logprobs, request_document)
    }
}

impl Choice for TextChoice {
    fn index_mut(&mut self) -> &mut Option<u64> {
        &mut self.index
    }

    fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    fn hold(&mut self, request_document: &Document, _: &str) -> Result<(), BackendError> {
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
    let longest = max_encoded_bytes(request_document.api, answer);
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
    number(request_document, choices.iter_mut().map(C::index_mut))?;
    let short = |choice: &C| {
        let reason = choice.finish_reason();
        reason.is_none_or(|reason| reason.len() <= MAX_WORD_BYTES) && choice.fits()
    };
    if !choices.iter().all(short) {
        return fault("a short field is too long");
    }
    choices
        .iter_mut()
        .try_for_each(|choice| choice.hold(request_document, request_id))?;
    let mut tally = UsageTally::default();
    let usage = tally.add(request_document, usage)?;
    let answer = CompletionOut {
        id: format!("{prefix}-{request_id}"),
        object,
        created,
        model: model.to_owned(),
        choices,
        usage,
    };
    write(&answer, tally, longest)
}

fn embeddings(
    request_document: &Document,
    answer: EmbeddingList,
    model: &str,
    longest: usize,
) -> Result<CheckedResponse, BackendError> {
    let EmbeddingList { mut data, usage } = answer;
    let indexes = data.iter_mut().map(|embedding| &mut embedding.index);
    number(request_document, indexes)?;
    if data.len() != request_document.choices {
        return fault("it does not have one embedding per text");
    }
    if !data.iter().all(|embedding| embedding.embedding.is_valid()) {
        return fault("an embedding is invalid");
    }
    let mut tally = UsageTally::default();
    let usage = tally.add(request_document, usage)?;
    let answer = EmbeddingListOut {
        object: "list",
        data: data
            .into_iter()
            .map(|Embedding { index, embedding }| EmbeddingOut {
                object: "embedding",
                index: index.unwrap_or_default(),
                embedding,
            })
            .collect(),
        model: model.to_owned(),
        usage,
    };
    write(&answer, tally, longest)
}

/// Checks that the indexes are unique, at least one, and at most as many as requested. One that is
/// missing is the position in the list.
fn number<'i>(
    request_document: &Document,
    indexes: impl Iterator<Item = &'i mut Option<u64>>,
) -> Result<(), BackendError> {
    let most = u64::try_from(request_document.choices).unwrap_or(u64::MAX);
    let mut seen = std::collections::BTreeSet::new();
    for (position, index) in (0..).zip(indexes) {
        let index = *index.get_or_insert(position);
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

fn write(
    answer: &impl Serialize,
    tally: UsageTally,
    longest: usize,
) -> Result<CheckedResponse, BackendError> {
    let mut body = Vec::with_capacity(longest);
    serde_json::to_writer(&mut body, answer)
        .map_err(|error| BackendError::Fault(format!("answer: {error}")))?;
    body.shrink_to_fit();
    Ok(CheckedResponse {
        body,
        tokens: tally.tokens(),
        counts: tally.counts(),
        has_faulty_usage: tally.is_faulty(),
    })
}
