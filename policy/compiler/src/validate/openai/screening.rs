//! Rules of links to pictures, function calls and the server's cache.

use tensorgate_policy::contract::openai::{AnswerLinks, CallRule, Screening};
use tensorgate_policy::report::Path;

use crate::raw;

/// Checks that each rule has something that it applies to.
pub(super) fn rules(path: &Path, raw: &raw::OpenAi) -> Option<Screening> {
    let generates = raw.chat.is_some() || raw.completions.is_some();
    let links = raw.image_links.clone().unwrap_or_default();
    let links_path = path.field("image_links");
    let mut checked = Some(());
    if raw.image_links.is_some() && links.answers.is_none() && links.requests.is_none() {
        checked = links_path.fail_with_fix("has no rule", "{answers: escape}");
    }
    for (path, is_there, applies) in [
        (
            links_path.field("answers"),
            links.answers.is_some(),
            generates,
        ),
        (
            path.field("unoffered_calls"),
            raw.unoffered_calls.is_some(),
            raw.chat.is_some(),
        ),
        (
            path.field("cache_salt"),
            raw.cache_salt.is_some(),
            generates,
        ),
    ] {
        if is_there && !applies {
            checked = path.fail_with_fix("has no effect on these endpoints", "remove it");
        }
    }
    checked?;
    Some(Screening {
        answer_links: links.answers.map(|links| match links {
            raw::AnswerLinks::Escape => AnswerLinks::Escape,
            raw::AnswerLinks::Refuse => AnswerLinks::Refuse,
        }),
        refuses_request_links: links.requests.is_some(),
        calls: match raw.unoffered_calls {
            Some(raw::UnofferedCalls::Allow) => CallRule::Any,
            Some(raw::UnofferedCalls::Refuse) => CallRule::Offered,
            None => CallRule::default(),
        },
        salts_cache: raw.cache_salt.is_some(),
    })
}
