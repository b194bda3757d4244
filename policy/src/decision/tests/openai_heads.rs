//! A token without a required scope gets no access to the OpenAI API, whatever its client's
//! grants allow. The path of a model's card names the model.

extern crate std;

use std::path::Path;

use tensorgate_values::tensor::InferRequest;

use super::{Decision, Step};
use crate::decision::{Addressee, BodyFormat};
use crate::denial::Reason;
use crate::fixture;
use crate::request::{
    Api, CallerDigests, ContentType, Encoding, Head, Identity, Operation, Operations, Proofs,
    Protocol, RequestHash, Route, ServerQuery,
};

const BODY_BYTES: usize = 100;

#[test]
fn operations_outside_a_tokens_scope_are_not_granted() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/policies/openai.json");
    let text = std::fs::read_to_string(path).unwrap();
    let policy = fixture::policy(serde_json::from_str(&text).unwrap());
    let chat = Route::OpenAi { api: Api::Chat };
    let embeddings = Route::OpenAi {
        api: Api::Embeddings,
    };
    let models = Route::Server {
        protocol: Protocol::OpenAi,
        question: ServerQuery::Models,
    };
    let body = |streams| Some((BODY_BYTES, streams));
    for (route, body, withheld, refused) in [
        (&chat, body(false), &[][..], false),
        (&chat, body(true), &[], false),
        (&chat, None, &[Operation::Infer], false),
        (&chat, body(false), &[Operation::Infer], true),
        (&chat, body(true), &[Operation::Infer], false),
        (&chat, None, &[Operation::Stream], false),
        (&chat, body(false), &[Operation::Stream], false),
        (&chat, body(true), &[Operation::Stream], true),
        (&chat, None, &[Operation::Infer, Operation::Stream], true),
        (&chat, body(true), &[Operation::Metadata], false),
        (&embeddings, None, &[Operation::Infer], true),
        (&embeddings, None, &[Operation::Stream], false),
        (&models, None, &[], false),
        (&models, None, &[Operation::Metadata], true),
        (&models, None, &[Operation::Infer, Operation::Stream], false),
    ] {
        let head = Head {
            header_bytes: 100,
            header_count: 4,
            ambiguous: None,
            identity: Identity::Client("scorer".into()),
            proofs: Proofs::NONE,
            withheld: withheld.iter().copied().collect::<Operations>(),
            caller: CallerDigests::default(),
            request_hash: RequestHash::default(),
            route: route.clone(),
            query: None,
            chunked: false,
            content_type: ContentType::Json,
            encoding: Encoding::Identity,
            json_length: None,
            content_length: None,
            end_of_stream: false,
        };
        let (mut decision, mut step) = Decision::begin(&policy, &head);
        if let Some((bytes, streams)) = body {
            let addressee = Addressee {
                model: "llama".into(),
                version: None,
                streams,
            };
            step = decision.body(&policy, bytes, Some(addressee));
        }
        let denied = match step {
            Step::Deny(denial) => Some(denial.reason),
            _ => None,
        };
        let expected = refused.then_some(Reason::NotGranted);
        assert_eq!(denied, expected, "{route:?} {body:?} without {withheld:?}");
    }
}

#[test]
fn a_card_names_its_model_in_the_path_and_has_no_body() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/policies/openai.json");
    let text = std::fs::read_to_string(path).unwrap();
    let policy = fixture::policy(serde_json::from_str(&text).unwrap());
    let head = Head {
        header_bytes: 100,
        header_count: 4,
        ambiguous: None,
        identity: Identity::Client("scorer".into()),
        proofs: Proofs::NONE,
        withheld: Operations::default(),
        caller: CallerDigests::default(),
        request_hash: RequestHash::default(),
        route: Route::Model {
            protocol: Protocol::OpenAi,
            operation: Operation::Metadata,
            model: Some("llama".into()),
            version: None,
        },
        content_type: ContentType::Absent,
        encoding: Encoding::Identity,
        json_length: None,
        query: None,
        chunked: false,
        content_length: None,
        end_of_stream: true,
    };
    let (mut decision, step) = Decision::begin(&policy, &head);
    assert!(matches!(step, Step::ReadBody(plan) if plan.format == BodyFormat::Empty));
    assert!(matches!(decision.body(&policy, 0, None), Step::Decode));
    let request = InferRequest::default();
    assert!(matches!(decision.message(&policy, &request), Step::Check));
    assert!(matches!(decision.check(&policy, &request), Step::Forward));
    assert_eq!(decision.version(&policy), Some("1"));
}
