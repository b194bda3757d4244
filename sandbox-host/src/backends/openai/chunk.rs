//! One chunk of an answer in pieces, read as untrusted input and written anew, as [`super::answer`] does with a whole one.

use serde::{Deserialize, Serialize};
use tensorgate_policy::request::Api;

use super::answer::{
    Assistant, ChatLogprobs, Function, MAX_NUMBER, MAX_WORD_BYTES, TextLogprobs, Usage, counted,
    fault, held, left_out, parse,
};
use crate::backends::BackendError;
use crate::document::Document;

#[derive(Deserialize)]
struct Chunk<C> {
    #[serde(default, deserialize_with = "left_out")]
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
struct ChatPiece {
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
    tool_calls: Option<Vec<CallPiece>>,
}

#[derive(Deserialize, Serialize)]
struct CallPiece {
    index: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r#type: Option<Function>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<CalledPiece>,
}

#[derive(Deserialize, Serialize)]
struct CalledPiece {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arguments: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct TextPiece {
    index: u64,
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    logprobs: Option<TextLogprobs>,
    #[serde(default)]
    finish_reason: Option<String>,
}

/// A choice's piece of either kind.
trait Piece {
    /// Which choice, and every word of it that is bounded.
    fn words(&self) -> (u64, Vec<&str>);
    /// Leaves what was asked for.
    fn hold(&mut self, asked: &Document) -> Result<(), BackendError>;
}

impl Piece for ChatPiece {
    fn words(&self) -> (u64, Vec<&str>) {
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

    fn hold(&mut self, asked: &Document) -> Result<(), BackendError> {
        held(&mut self.logprobs, asked)
    }
}

impl Piece for TextPiece {
    fn words(&self) -> (u64, Vec<&str>) {
        (
            self.index,
            self.finish_reason.iter().map(String::as_str).collect(),
        )
    }

    fn hold(&mut self, asked: &Document) -> Result<(), BackendError> {
        held(&mut self.logprobs, asked)
    }
}

/// Checks the chunks of one answer.
#[derive(Debug)]
pub(super) struct Chunks {
    asked: Document,
    /// The name that the caller used.
    model: String,
    id: String,
    /// Tokens that were used in all, once they are counted.
    tokens: Option<u64>,
}

impl Chunks {
    pub(super) fn new(asked: Document, model: &str, request_id: &str) -> Self {
        let prefix = match asked.api {
            Api::Chat => "chatcmpl",
            Api::Completions | Api::Embeddings => "cmpl",
        };
        Self {
            asked,
            model: model.to_owned(),
            id: format!("{prefix}-{request_id}"),
            tokens: None,
        }
    }

    /// Tokens that were used in all, as far as that was told.
    pub(super) const fn tokens(&self) -> Option<u64> {
        self.tokens
    }

    /// A chunk as the caller gets it; `None` for one that only counts, where the caller did not ask for counts.
    pub(super) fn check(&mut self, data: &str) -> Result<Option<Vec<u8>>, BackendError> {
        match self.asked.api {
            Api::Chat => self.chunk::<ChatPiece>(parse(data.as_bytes())?, "chat.completion.chunk"),
            Api::Completions => self.chunk::<TextPiece>(parse(data.as_bytes())?, "text_completion"),
            Api::Embeddings => fault("embeddings do not come in pieces"),
        }
    }

    fn chunk<C: Piece + Serialize>(
        &mut self,
        chunk: Chunk<C>,
        object: &'static str,
    ) -> Result<Option<Vec<u8>>, BackendError> {
        let Chunk {
            created,
            mut choices,
            usage,
        } = chunk;
        let most = u64::try_from(self.asked.choices).unwrap_or(u64::MAX);
        for choice in &mut choices {
            choice.hold(&self.asked)?;
            let (index, words) = choice.words();
            if index >= most {
                return fault("a choice that nobody asked for");
            }
            if words.iter().any(|word| word.len() > MAX_WORD_BYTES) {
                return fault("a word of the answer is too long");
            }
        }
        self.tokens = counted(&self.asked, usage.as_ref())?.or(self.tokens);
        let usage = usage.filter(|_| self.asked.include_usage);
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
