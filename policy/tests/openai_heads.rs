//! A token that lacks a scope opens nothing of OpenAI's API that its client's grants would.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use tensorgate_policy::request::{
    Api, ContentType, Encoding, Identity, Operations, Proofs, ServerQuestion,
};
use tensorgate_policy::validate::validate;
use tensorgate_policy::{Decision, Head, Operation, Protocol, Reason, Route, Step, raw};

#[test]
fn what_a_token_does_not_extend_to_is_not_granted() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/policies/openai.json");
    let text = std::fs::read_to_string(path).unwrap();
    let policy: raw::Policy = serde_json::from_str(&text).unwrap();
    let (policy, _) = validate(&policy).unwrap();
    let chat = Route::OpenAi { api: Api::Chat };
    let models = Route::Server {
        protocol: Protocol::OpenAi,
        question: ServerQuestion::Models,
    };
    for (route, withheld, refused) in [
        (chat.clone(), None, false),
        (chat.clone(), Some(Operation::Infer), true),
        (chat, Some(Operation::Metadata), false),
        (models.clone(), None, false),
        (models.clone(), Some(Operation::Metadata), true),
        (models, Some(Operation::Infer), false),
    ] {
        let head = Head {
            header_bytes: 100,
            header_count: 4,
            ambiguous: None,
            identity: Identity::Client("scorer".to_owned()),
            proofs: Proofs::NONE,
            withheld: withheld.into_iter().collect::<Operations>(),
            route: route.clone(),
            content_type: ContentType::Json,
            encoding: Encoding::Identity,
            json_length: None,
            content_length: None,
            end_of_stream: false,
        };
        let (_, step) = Decision::begin(&policy, &head);
        let denied = match step {
            Step::Deny(denial) => Some(denial.reason),
            _ => None,
        };
        let expected = refused.then_some(Reason::NotGranted);
        assert_eq!(denied, expected, "{route:?} without {withheld:?}");
    }
}
