//! APIs that clients of language models speak and the gate does not serve. Their callers learn what
//! to use instead.

use crate::percent::without_query;

/// An API that is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnservedApi {
    /// OpenAI's Responses API.
    Responses,
    /// Anthropic's Messages API.
    Messages,
    /// OpenAI's API at the paths of Azure, and of KServe's server.
    BelowOpenAi,
}

impl UnservedApi {
    /// The API of a path, which may have a query.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let path = without_query(path);
        let is_at = |start: &str| {
            let rest = path.strip_prefix(start);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if is_at("/v1/responses") {
            Some(Self::Responses)
        } else if is_at("/v1/messages") {
            Some(Self::Messages)
        } else if is_at("/openai") {
            Some(Self::BelowOpenAi)
        } else {
            None
        }
    }

    /// What a caller may use instead.
    pub(crate) const fn advice(self) -> &'static str {
        match self {
            Self::Responses => {
                "the Responses API is not served here, use POST /v1/chat/completions"
            }
            Self::Messages => {
                "the Messages API is not served here, use OpenAI's POST /v1/chat/completions"
            }
            Self::BelowOpenAi => {
                "paths below /openai are not served here, use OpenAI's client with a base URL that \
                 ends in /v1, and name the deployment as model"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_those_below_it_belong_to_an_api() {
        for (path, expected) in [
            ("/v1/responses", Some(UnservedApi::Responses)),
            ("/v1/responses/resp_1/cancel", Some(UnservedApi::Responses)),
            ("/v1/messages?beta=true", Some(UnservedApi::Messages)),
            ("/v1/messages/count_tokens", Some(UnservedApi::Messages)),
            (
                "/openai/deployments/assistant/chat/completions?api-version=2024-10-21",
                Some(UnservedApi::BelowOpenAi),
            ),
            ("/openai/v1/models", Some(UnservedApi::BelowOpenAi)),
            ("/v1/responses2", None),
            ("/v1/files", None),
            ("/openaiv1", None),
            ("/x?/v1/messages", None),
        ] {
            assert_eq!(UnservedApi::of_path(path), expected, "{path}");
        }
    }
}
