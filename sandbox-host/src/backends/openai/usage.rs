//! The token counts of a response. They decide what its request costs, so counts that cannot be
//! right never make it cheaper, and never throw the answer away.

use serde::{Deserialize, Serialize};
use tensorgate_judge::document::Document;
use tensorgate_policy::request::Api;
use tensorgate_telemetry::timings::TokenCounts;

use super::fault;
use super::lenient::{MAX_NUMBER, Scalar, count, object_or_default};
use crate::backends::BackendError;

/// The tokens of a choice that a server may count beyond the requested ones. The end of a text is
/// one.
const EXTRA_TOKENS: u64 = 1;

/// The counts as a server writes them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ReportedUsage {
    prompt_tokens: Scalar,
    completion_tokens: Scalar,
    total_tokens: Scalar,
    /// As SGLang writes it.
    #[serde(deserialize_with = "count")]
    reasoning_tokens: Option<u64>,
    #[serde(deserialize_with = "object_or_default")]
    prompt_tokens_details: PromptDetails,
    #[serde(deserialize_with = "object_or_default")]
    completion_tokens_details: CompletionDetails,
}

/// The counts for the caller. The total is the charged number.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    prompt_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens: Option<u64>,
    total_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
}

/// What the read tokens were.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
struct PromptDetails {
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<u64>,
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    audio_tokens: Option<u64>,
}

/// What the generated tokens were.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
struct CompletionDetails {
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    reasoning_tokens: Option<u64>,
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    audio_tokens: Option<u64>,
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    accepted_prediction_tokens: Option<u64>,
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    rejected_prediction_tokens: Option<u64>,
}

/// The details, if there are any.
fn unless_empty<T: Default + PartialEq>(details: T) -> Option<T> {
    (details != T::default()).then_some(details)
}

/// A count that is no number, or too few counts to say what a response cost.
struct Unreadable;

impl ReportedUsage {
    /// The read, the generated and all tokens. `None` if no count is reported.
    fn counts(&self, api: Api) -> Result<Option<(u64, Option<u64>, u64)>, Unreadable> {
        let number = |count: &Scalar| match count {
            Scalar::Absent => Ok(None),
            Scalar::Number(number) => Ok(Some(*number)),
            Scalar::Text(_) | Scalar::Other => Err(Unreadable),
        };
        let prompt = number(&self.prompt_tokens)?;
        let completion = number(&self.completion_tokens)?;
        let total = number(&self.total_tokens)?;
        Ok(Some(match (prompt, completion, total) {
            (None, None, None) => return Ok(None),
            (Some(prompt), Some(completion), total) => {
                let sum = prompt.saturating_add(completion);
                (prompt, Some(completion), total.unwrap_or(sum))
            }
            (Some(prompt), None, Some(total)) => (prompt, None, total),
            // Embeddings generate nothing.
            (Some(prompt), None, None) if api == Api::Embeddings => (prompt, None, prompt),
            (None, completion, Some(total)) => {
                let prompt = total.saturating_sub(completion.unwrap_or(0));
                (prompt, completion, total)
            }
            (Some(_), None, None) | (None, Some(_), None) => return Err(Unreadable),
        }))
    }

    /// The counts for the caller, with the details that are possible.
    fn written(self, prompt_tokens: u64, completion_tokens: Option<u64>, charged: u64) -> Usage {
        let possible = |count: Option<u64>| count.filter(|count| *count <= charged);
        let prompt = self.prompt_tokens_details;
        let completion = self.completion_tokens_details;
        let reasoning_tokens = completion.reasoning_tokens.or(self.reasoning_tokens);
        Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: charged,
            prompt_tokens_details: unless_empty(PromptDetails {
                cached_tokens: possible(prompt.cached_tokens),
                audio_tokens: possible(prompt.audio_tokens),
            }),
            completion_tokens_details: unless_empty(CompletionDetails {
                reasoning_tokens: possible(reasoning_tokens),
                audio_tokens: possible(completion.audio_tokens),
                accepted_prediction_tokens: possible(completion.accepted_prediction_tokens),
                rejected_prediction_tokens: possible(completion.rejected_prediction_tokens),
            }),
        }
    }
}

/// What the counts of one response add up to. A stream may report them several times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UsageTally {
    /// The largest total.
    largest: Option<u64>,
    /// The counts with that total.
    counts: Option<TokenCounts>,
    /// Whether counts could not be read. Then it is not known what the response cost.
    is_unreadable: bool,
    /// Whether a reported total differs from the sum of its parts.
    has_mismatch: bool,
}

impl UsageTally {
    /// The charged number of tokens. `None` if it is not known: the whole reservation stays.
    pub(super) fn tokens(self) -> Option<u64> {
        self.largest.filter(|_| !self.is_unreadable)
    }

    /// The counts for the audit log. `None` if they are not known.
    pub(super) fn counts(self) -> Option<TokenCounts> {
        self.counts.filter(|_| !self.is_unreadable)
    }

    /// Whether the server reported counts that cannot be right.
    pub(super) const fn is_faulty(self) -> bool {
        self.is_unreadable || self.has_mismatch
    }

    /// Adds a report, and returns the counts for the caller. Of a sum and a total that differ, the
    /// larger counts.
    ///
    /// # Errors
    /// Returns an error if the server generated more tokens than requested.
    pub(super) fn add(
        &mut self,
        request_document: &Document,
        reported: Option<ReportedUsage>,
    ) -> Result<Option<Usage>, BackendError> {
        let Some(reported) = reported else {
            return Ok(None);
        };
        let (prompt, completion, total) = match reported.counts(request_document.api) {
            Ok(None) => return Ok(None),
            Ok(Some(counts)) => counts,
            Err(Unreadable) => {
                self.is_unreadable = true;
                return Ok(None);
            }
        };
        if completion.is_some_and(|completion| completion > most_generated(request_document)) {
            self.is_unreadable = true;
            return fault("more tokens than requested");
        }
        let sum = prompt.saturating_add(completion.unwrap_or(0));
        let charged = sum.max(total);
        if charged > MAX_NUMBER {
            self.is_unreadable = true;
            return Ok(None);
        }
        // Without a count of generated tokens, the rest of the total are the generated ones.
        let differs = sum > total || (completion.is_some() && sum < total);
        self.has_mismatch |= differs;
        let generates = request_document.api != Api::Embeddings;
        let rest = charged.saturating_sub(prompt);
        let completion = completion.or(generates.then_some(rest));
        if self.largest <= Some(charged) {
            self.counts = Some(TokenCounts { prompt, completion });
        }
        self.largest = self.largest.max(Some(charged));
        Ok(Some(reported.written(prompt, completion, charged)))
    }
}

/// The most tokens that the request lets a server generate.
fn most_generated(request_document: &Document) -> u64 {
    let generated = u64::try_from(request_document.generated).unwrap_or(u64::MAX);
    request_document.max_tokens.map_or(u64::MAX, |tokens| {
        let each = tokens.saturating_add(EXTRA_TOKENS);
        each.saturating_mul(generated)
    })
}
