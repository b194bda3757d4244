//! One chunk of a streamed response, read as untrusted input and encoded anew, as in
//! [`super::answer`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tensorgate_judge::document::Document;
use tensorgate_policy::contract::openai::{AnswerLinks, OfferedCalls};
use tensorgate_policy::request::Api;

use super::answer::{
    Assistant, ChatLogprobs, Function, MAX_NUMBER, MAX_WORD_BYTES, TextLogprobs, Usage,
    check_usage, default_if_null, keep_requested_logprobs, parse,
};
use super::call_names::CallNames;
use super::fault;
use super::picture_links::ChoiceTexts;
use crate::backends::BackendError;

#[derive(Deserialize)]
struct Chunk<C> {
    #[serde(default, deserialize_with = "default_if_null")]
    created: u64,
    choices: Vec<C>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct ChunkOut<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<C>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Deserialize, Serialize)]
struct ChatChunk {
    index: u64,
    delta: Delta,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    logprobs: Option<ChatLogprobs>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Delta {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<Assistant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<ToolCallChunk>>,
}

#[derive(Deserialize, Serialize)]
struct ToolCallChunk {
    index: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r#type: Option<Function>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<FunctionChunk>,
}

#[derive(Deserialize, Serialize)]
struct FunctionChunk {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arguments: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct TextChunk {
    index: u64,
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    logprobs: Option<TextLogprobs>,
    #[serde(default)]
    finish_reason: Option<String>,
}

/// The part of a choice in a chunk.
trait ChoiceChunk {
    /// The index of the choice, and its words of limited length.
    fn bounded_words(&self) -> (u64, Vec<&str>);
    /// Keeps only what was requested.
    fn hold(&mut self, request_document: &Document) -> Result<(), BackendError>;
    /// Checks its calls, of which `names` has the names so far.
    fn check_calls(
        &self,
        _offered: &OfferedCalls,
        _names: &mut CallNames,
    ) -> Result<(), BackendError> {
        Ok(())
    }
    /// Applies a rule for links to the choice, of which `texts` is the part so far.
    fn screen(&mut self, rule: AnswerLinks, texts: &mut ChoiceTexts) -> Result<(), BackendError>;
}

impl ChoiceChunk for ChatChunk {
    fn bounded_words(&self) -> (u64, Vec<&str>) {
        let calls = self.delta.tool_calls.iter().flatten().flat_map(|call| {
            let name = call
                .function
                .as_ref()
                .and_then(|called| called.name.as_deref());
            [call.id.as_deref(), name]
        });
        let words = calls.chain([self.finish_reason.as_deref()]);
        (self.index, words.flatten().collect())
    }

    fn hold(&mut self, request_document: &Document) -> Result<(), BackendError> {
        keep_requested_logprobs(&mut self.logprobs, request_document)
    }

    fn check_calls(
        &self,
        offered: &OfferedCalls,
        names: &mut CallNames,
    ) -> Result<(), BackendError> {
        for call in self.delta.tool_calls.iter().flatten() {
            let function = call.function.as_ref();
            // Some servers send an empty name with each further part of the arguments.
            let name = function.and_then(|function| function.name.as_deref());
            let arguments = function.and_then(|function| function.arguments.as_deref());
            let has_arguments = arguments.is_some_and(|arguments| !arguments.is_empty());
            names.add(offered, call.index, name.unwrap_or_default(), has_arguments)?;
        }
        if ends(self.finish_reason.as_deref()) {
            names.check_end(offered)?;
        }
        Ok(())
    }

    fn screen(&mut self, rule: AnswerLinks, texts: &mut ChoiceTexts) -> Result<(), BackendError> {
        let ends = ends(self.finish_reason.as_deref());
        let Delta {
            content,
            refusal,
            reasoning_content,
            ..
        } = &mut self.delta;
        texts.apply(rule, [content, refusal, reasoning_content], ends)
    }
}

impl ChoiceChunk for TextChunk {
    fn bounded_words(&self) -> (u64, Vec<&str>) {
        (
            self.index,
            self.finish_reason.iter().map(String::as_str).collect(),
        )
    }

    fn hold(&mut self, request_document: &Document) -> Result<(), BackendError> {
        keep_requested_logprobs(&mut self.logprobs, request_document)
    }

    fn screen(&mut self, rule: AnswerLinks, texts: &mut ChoiceTexts) -> Result<(), BackendError> {
        let ends = ends(self.finish_reason.as_deref());
        texts.apply_text(rule, &mut self.text, ends)
    }
}

/// Whether a chunk is the last one of its choice. Some servers send an empty reason before.
fn ends(finish_reason: Option<&str>) -> bool {
    finish_reason.is_some_and(|reason| !reason.is_empty())
}

/// Checks the chunks of one response.
#[derive(Debug)]
pub(super) struct ChunkChecker {
    request_document: Document,
    /// The name that the caller used.
    model: String,
    id: String,
    /// The total number of tokens, once it is reported.
    tokens: Option<u64>,
    /// The texts of each choice, if a rule applies to links.
    texts: BTreeMap<u64, ChoiceTexts>,
    /// The called functions of each choice.
    calls: BTreeMap<u64, CallNames>,
}

impl ChunkChecker {
    pub(super) fn new(request_document: Document, model: &str, request_id: &str) -> Self {
        let prefix = match request_document.api {
            Api::Chat => "chatcmpl",
            Api::Completions | Api::Embeddings => "cmpl",
        };
        Self {
            request_document,
            model: model.to_owned(),
            id: format!("{prefix}-{request_id}"),
            tokens: None,
            texts: BTreeMap::new(),
            calls: BTreeMap::new(),
        }
    }

    /// The total number of tokens, if it was reported.
    pub(super) const fn tokens(&self) -> Option<u64> {
        self.tokens
    }

    /// Checks at the end that no text and no name is incomplete: what is held back is sent with the
    /// end of its choice.
    pub(super) fn check_end(&self) -> Result<(), BackendError> {
        if self.texts.values().any(ChoiceTexts::is_holding) {
            return fault("a choice without a finish_reason");
        }
        let offered = &self.request_document.offered_calls;
        let mut names = self.calls.values();
        names.try_for_each(|names| names.check_end(offered))
    }

    /// Encodes a chunk for the caller. Returns `None` for a usage chunk that the caller did not
    /// request.
    pub(super) fn check(&mut self, data: &str) -> Result<Option<Vec<u8>>, BackendError> {
        match self.request_document.api {
            Api::Chat => self.chunk::<ChatChunk>(parse(data.as_bytes())?, "chat.completion.chunk"),
            Api::Completions => self.chunk::<TextChunk>(parse(data.as_bytes())?, "text_completion"),
            Api::Embeddings => fault("embeddings cannot be streamed"),
        }
    }

    fn chunk<C: ChoiceChunk + Serialize>(
        &mut self,
        chunk: Chunk<C>,
        object: &'static str,
    ) -> Result<Option<Vec<u8>>, BackendError> {
        let Chunk {
            created,
            mut choices,
            usage,
        } = chunk;
        let most = u64::try_from(self.request_document.choices).unwrap_or(u64::MAX);
        for choice in &mut choices {
            choice.hold(&self.request_document)?;
            let (index, words) = choice.bounded_words();
            if index >= most {
                return fault("a choice that was not requested");
            }
            if words.iter().any(|word| word.len() > MAX_WORD_BYTES) {
                return fault("a short field is too long");
            }
            let offered = &self.request_document.offered_calls;
            choice.check_calls(offered, self.calls.entry(index).or_default())?;
            if let Some(rule) = self.request_document.answer_links {
                choice.screen(rule, self.texts.entry(index).or_default())?;
            }
        }
        self.tokens = check_usage(&self.request_document, usage.as_ref())?.or(self.tokens);
        let usage = usage.filter(|_| self.request_document.include_usage);
        if choices.is_empty() && usage.is_none() {
            return Ok(None);
        }
        let chunk = ChunkOut {
            id: &self.id,
            object,
            created: created.min(MAX_NUMBER),
            model: &self.model,
            choices,
            usage,
        };
        let mut event = b"data: ".to_vec();
        serde_json::to_writer(&mut event, &chunk)
            .map_err(|error| BackendError::Fault(format!("answer: {error}")))?;
        event.extend_from_slice(b"\n\n");
        Ok(Some(event))
    }
}
