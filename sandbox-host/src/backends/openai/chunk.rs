//! One chunk of a streamed response, read as untrusted input and encoded anew, as in
//! [`super::answer`]. What OpenAI writes only in the first chunk of a choice or a call, the gate
//! writes there, because clients join the texts of all chunks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tensorgate_judge::document::Document;
use tensorgate_policy::contract::openai::{AnswerLinks, OfferedCalls};
use tensorgate_policy::request::Api;

use super::answer::{CallType, ChatLogprobs, Role, TextLogprobs, keep_requested_logprobs, parse};
use super::arguments;
use super::call_names::{CallNames, MAX_WORD_BYTES, WrittenPiece, generated_id};
use super::fault;
use super::lenient::{self, default_if_null};
use super::picture_links::ChoiceTexts;
use super::usage::{ReportedUsage, Usage, UsageTally};
use crate::backends::BackendError;

#[derive(Deserialize)]
#[serde(bound(deserialize = "C: Deserialize<'de>"))]
struct Chunk<C> {
    #[serde(default, deserialize_with = "lenient::seconds")]
    created: u64,
    /// Some servers leave it out where they only report usage.
    #[serde(default, deserialize_with = "lenient::choices")]
    choices: Option<Vec<C>>,
    usage: Option<ReportedUsage>,
    /// What an event is that is no chunk.
    #[serde(default, deserialize_with = "lenient::text")]
    r#type: Option<String>,
}

/// Types of events that only keep the connection alive.
const KEEP_ALIVES: [&str; 2] = ["ping", "keepalive"];

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
    /// Known once the chunk was checked.
    #[serde(default, deserialize_with = "lenient::index")]
    index: Option<u64>,
    #[serde(default, deserialize_with = "default_if_null")]
    delta: Delta,
    #[serde(
        default,
        deserialize_with = "lenient::object",
        skip_serializing_if = "Option::is_none"
    )]
    logprobs: Option<ChatLogprobs>,
    #[serde(default, deserialize_with = "lenient::word")]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Delta {
    /// Written in the first chunk of a choice.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    #[serde(
        deserialize_with = "lenient::content",
        skip_serializing_if = "Option::is_none"
    )]
    content: Option<String>,
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    refusal: Option<String>,
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    reasoning: Option<String>,
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    reasoning_content: Option<String>,
    #[serde(
        deserialize_with = "lenient::calls",
        skip_serializing_if = "Vec::is_empty"
    )]
    tool_calls: Vec<ToolCallChunk>,
}

#[derive(Deserialize, Serialize)]
struct ToolCallChunk {
    /// Known once the call was checked.
    #[serde(default, deserialize_with = "lenient::index")]
    index: Option<u64>,
    #[serde(
        default,
        deserialize_with = "lenient::call_word",
        skip_serializing_if = "Option::is_none"
    )]
    id: Option<String>,
    /// Written in the first piece of a call.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    r#type: Option<CallType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<FunctionChunk>,
}

#[derive(Deserialize, Serialize)]
struct FunctionChunk {
    // Some servers write an empty name with each further piece of the arguments.
    #[serde(
        default,
        deserialize_with = "lenient::call_word",
        skip_serializing_if = "Option::is_none"
    )]
    name: Option<String>,
    #[serde(
        default,
        deserialize_with = "arguments::text",
        skip_serializing_if = "Option::is_none"
    )]
    arguments: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct TextChunk {
    /// Known once the chunk was checked.
    #[serde(default, deserialize_with = "lenient::index")]
    index: Option<u64>,
    #[serde(default, deserialize_with = "default_if_null")]
    text: String,
    #[serde(
        default,
        deserialize_with = "lenient::object",
        skip_serializing_if = "Option::is_none"
    )]
    logprobs: Option<Box<TextLogprobs>>,
    #[serde(default, deserialize_with = "lenient::word")]
    finish_reason: Option<String>,
}

/// The part of a choice in a chunk.
trait ChoiceChunk {
    /// The index of the choice, which a server may leave out.
    fn index_mut(&mut self) -> &mut Option<u64>;
    fn finish_reason(&self) -> Option<&str>;
    fn fits(&self) -> bool {
        true
    }
    /// Whether the chunk is the last one of its choice.
    fn ends(&self) -> bool {
        self.finish_reason().is_some()
    }
    /// Keeps only what was requested.
    fn hold(&mut self, request_document: &Document) -> Result<(), BackendError>;
    /// Adds what only the first chunk of a choice has.
    fn begin(&mut self) {}
    /// Whether the chunk has a content, another text or a call.
    fn has_contents(&self) -> bool {
        true
    }
    /// Adds an empty content to the last chunk of a choice that has had no contents. Without it, a
    /// client could not send the message back.
    fn add_empty_content(&mut self) {}
    /// Checks and numbers its calls, of which `names` has the pieces so far. Leaves out what the
    /// server repeats. `new_id` is the ID of a call that has none.
    fn check_calls(
        &mut self,
        _offered: &OfferedCalls,
        _names: &mut CallNames,
        _new_id: &dyn Fn(u64) -> String,
    ) -> Result<(), BackendError> {
        Ok(())
    }
    /// Applies a rule for links to the choice, of which `texts` is the part so far.
    fn screen(&mut self, rule: AnswerLinks, texts: &mut ChoiceTexts) -> Result<(), BackendError>;
}

impl ChoiceChunk for ChatChunk {
    fn index_mut(&mut self) -> &mut Option<u64> {
        &mut self.index
    }

    fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    fn fits(&self) -> bool {
        let functions = self.delta.tool_calls.iter().flat_map(|call| &call.function);
        let mut names = functions.flat_map(|function| &function.name);
        names.all(|name| name.len() <= MAX_WORD_BYTES)
    }

    fn hold(&mut self, request_document: &Document) -> Result<(), BackendError> {
        keep_requested_logprobs(&mut self.logprobs, request_document)
    }

    fn begin(&mut self) {
        self.delta.role = Some(Role::Assistant);
    }

    fn has_contents(&self) -> bool {
        let Delta {
            content,
            refusal,
            reasoning,
            reasoning_content,
            tool_calls,
            ..
        } = &self.delta;
        let mut texts = [refusal, reasoning, reasoning_content].into_iter();
        content.is_some()
            || !tool_calls.is_empty()
            || texts.any(|text| text.as_deref().is_some_and(|text| !text.is_empty()))
    }

    fn add_empty_content(&mut self) {
        self.delta.content = Some(String::new());
    }

    fn check_calls(
        &mut self,
        offered: &OfferedCalls,
        names: &mut CallNames,
        new_id: &dyn Fn(u64) -> String,
    ) -> Result<(), BackendError> {
        for call in &mut self.delta.tool_calls {
            let function = call.function.as_ref();
            let name = function.and_then(|function| function.name.as_deref());
            let arguments = function.and_then(|function| function.arguments.as_deref());
            let written = WrittenPiece {
                index: call.index,
                id: call.id.as_deref(),
                name: name.unwrap_or_default(),
                has_arguments: arguments.is_some_and(|arguments| !arguments.is_empty()),
            };
            let sent = names.add(offered, written)?;
            let id = call.id.take().filter(|id| id.len() <= MAX_WORD_BYTES);
            call.id = sent
                .sends_id
                .then(|| id.unwrap_or_else(|| new_id(sent.index)));
            if let Some(function) = &mut call.function
                && !sent.sends_name
            {
                function.name = None;
            }
            let begins = sent.is_first || sent.sends_id;
            call.r#type = begins.then_some(CallType::Function);
            call.index = Some(sent.index);
        }
        if self.ends() {
            names.check_end(offered)?;
        }
        Ok(())
    }

    fn screen(&mut self, rule: AnswerLinks, texts: &mut ChoiceTexts) -> Result<(), BackendError> {
        let ends = self.ends();
        let Delta {
            content,
            refusal,
            reasoning,
            reasoning_content,
            ..
        } = &mut self.delta;
        texts.apply(rule, [content, refusal, reasoning, reasoning_content], ends)
    }
}

impl ChoiceChunk for TextChunk {
    fn index_mut(&mut self) -> &mut Option<u64> {
        &mut self.index
    }

    fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    fn hold(&mut self, request_document: &Document) -> Result<(), BackendError> {
        keep_requested_logprobs(&mut self.logprobs, request_document)
    }

    fn screen(&mut self, rule: AnswerLinks, texts: &mut ChoiceTexts) -> Result<(), BackendError> {
        let ends = self.ends();
        texts.apply_text(rule, &mut self.text, ends)
    }
}

/// What the chunks of one choice say so far.
#[derive(Debug, Default)]
struct ChoiceState {
    is_started: bool,
    has_contents: bool,
    /// Whether the choice has its finish reason.
    has_ended: bool,
    /// The texts, if a rule applies to links.
    texts: Option<Box<ChoiceTexts>>,
    /// The called functions.
    calls: CallNames,
}

/// Checks the chunks of one response.
#[derive(Debug)]
pub(super) struct ChunkChecker {
    request_document: Document,
    /// The name that the caller used.
    model: String,
    request_id: String,
    id: String,
    /// The reported numbers of tokens.
    tally: UsageTally,
    /// The choices so far, at most as many as requested.
    choices: BTreeMap<u64, ChoiceState>,
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
            request_id: request_id.to_owned(),
            id: format!("{prefix}-{request_id}"),
            tally: UsageTally::default(),
            choices: BTreeMap::new(),
        }
    }

    /// The reported numbers of tokens.
    pub(super) const fn tally(&self) -> UsageTally {
        self.tally
    }

    /// Whether each requested choice has its finish reason. Only usage may follow.
    pub(super) fn is_complete(&self) -> bool {
        self.choices.len() == self.request_document.choices
            && self.choices.values().all(|choice| choice.has_ended)
    }

    /// Checks at the end that no text and no name is incomplete: what is held back is sent with the
    /// end of its choice.
    pub(super) fn check_end(&self) -> Result<(), BackendError> {
        let mut texts = self.choices.values().flat_map(|choice| &choice.texts);
        if texts.any(|texts| texts.is_holding()) {
            return fault("a choice without a finish_reason");
        }
        let offered = &self.request_document.offered_calls;
        let mut choices = self.choices.values();
        choices.try_for_each(|choice| choice.calls.check_end(offered))
    }

    /// Encodes a chunk for the caller. Returns `None` if there is nothing in it for the caller,
    /// such as usage that was not requested.
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
            choices,
            usage,
            r#type,
        } = chunk;
        if choices.is_none() && usage.is_none() {
            if r#type.is_some_and(|r#type| KEEP_ALIVES.contains(&r#type.as_str())) {
                return Ok(None);
            }
            return fault("an event that is no chunk");
        }
        let mut choices = choices.unwrap_or_default();
        choices
            .iter_mut()
            .try_for_each(|choice| self.check_choice(choice))?;
        let usage = self.tally.add(&self.request_document, usage)?;
        let usage = usage.filter(|_| self.request_document.include_usage);
        if choices.is_empty() && usage.is_none() {
            return Ok(None);
        }
        let chunk = ChunkOut {
            id: &self.id,
            object,
            created,
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

    fn check_choice(&mut self, choice: &mut impl ChoiceChunk) -> Result<(), BackendError> {
        let request_document = &self.request_document;
        choice.hold(request_document)?;
        // Of a single choice the index is known.
        let default = (request_document.choices == 1).then_some(0);
        let index = choice.index_mut();
        *index = index.or(default);
        let most = u64::try_from(request_document.choices).unwrap_or(u64::MAX);
        let Some(index) = index.filter(|index| *index < most) else {
            return fault("a choice that was not requested");
        };
        let reason = choice.finish_reason();
        if reason.is_some_and(|reason| reason.len() > MAX_WORD_BYTES) || !choice.fits() {
            return fault("a short field is too long");
        }
        let state = self.choices.entry(index).or_default();
        if !state.is_started {
            choice.begin();
            state.is_started = true;
        }
        state.has_contents |= choice.has_contents();
        if choice.ends() && !state.has_contents {
            choice.add_empty_content();
        }
        let new_id = |call| generated_id(&self.request_id, index, call);
        let offered = &request_document.offered_calls;
        choice.check_calls(offered, &mut state.calls, &new_id)?;
        if let Some(rule) = request_document.answer_links {
            choice.screen(rule, state.texts.get_or_insert_default())?;
        }
        state.has_ended |= choice.ends();
        Ok(())
    }
}
