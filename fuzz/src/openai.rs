//! Fuzz target: a document of OpenAI's API, compared with serde_json. serde_json must read the same
//! values from what the gate accepts. A document that satisfies the contract must still do so after
//! it is rewritten for the backend. The early search for the model must agree with the decoder.

use std::sync::OnceLock;

use serde_json::Value as Json;
use tensorgate_policy::contract::openai::rebuild;
use tensorgate_policy::decision::{BodyFormat, decide_body, decide_head, decide_message};
use tensorgate_policy::json::Value;
use tensorgate_policy::policy::Accepts;
use tensorgate_policy::request::{
    Api, CallerDigests, ContentType, Encoding, Head, Identity, Operations, Proofs, Route,
};
use tensorgate_policy::{ChargeOutcome, Policy, RequestHash, Step};
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_wire::openai::{to_json, tree_bytes};
use tensorgate_wire::{addressee, decode};

use crate::support::check_body_denial;

const POLICY: &str = include_str!("../../policy/vectors/policies/openai.json");

fn policy() -> &'static Policy {
    static POLICY_ONCE: OnceLock<Policy> = OnceLock::new();
    POLICY_ONCE.get_or_init(|| {
        let raw: raw::Policy = serde_json::from_str(POLICY).expect("a policy");
        validate::validate(&raw).expect("a valid one").0
    })
}

/// Runs one input: a byte that selects one of the three requests, and a body.
pub fn run(data: &[u8]) {
    let Some((which, body)) = data.split_first() else {
        return;
    };
    let api = Api::ALL[usize::from(*which) % Api::ALL.len()];
    let format = BodyFormat::OpenAi(api);
    let named = addressee(format, body);
    let mut request = match (&named, decode(format, body, &[])) {
        (_, Ok(request)) => request,
        (Ok(_), Err(denial)) => return check_body_denial(&denial),
        (Err(early), Err(denial)) => {
            check_body_denial(early);
            return check_body_denial(&denial);
        }
    };
    // A body that decodes has a model that the early search finds.
    let named = named.expect("what decodes can be looked through");
    let model = named.as_ref().map(|named| &*named.model);
    assert_eq!(model, request.model.as_deref());
    let streams = named.is_some_and(|named| named.streams);
    assert!(request.model.is_none() || streams == request.streams());
    let theirs: Json =
        serde_json::from_slice(body).expect("serde_json rejects what the gate accepts");
    let members = theirs.as_object().expect("an object");
    let model = usize::from(request.model.is_some());
    assert_eq!(request.document.len() + model, members.len());
    for (name, value) in &request.document {
        same(value, &members[name.as_ref()]);
    }
    if !allowed(api, body) {
        return;
    }
    let id = policy().model_id(request.model.as_deref().expect("it was granted"));
    let model = id.and_then(|id| policy().model(id)).expect("it is there");
    let Accepts::OpenAi(rules) = model.accepts() else {
        panic!("a model of another kind was granted");
    };
    let streams = request.streams().then_some(Value::Bool(true));
    model.drop_ignored(&mut request);
    let built = rebuild(rules, api, model.name(), request.document).document;
    let text = to_json(&built);
    assert!(text.len() <= built.text_bytes());
    assert!(text.len() <= tree_bytes(body));
    assert!(allowed(api, text.as_bytes()), "{text}");
    let mut again = decode(format, text.as_bytes(), &[]).expect("it is allowed");
    let dropped = model.drop_ignored(&mut again);
    assert!(dropped.is_empty(), "{dropped:?} of {text}");
    assert_eq!(built.get("max_tokens").is_some(), api != Api::Embeddings);
    assert_eq!(built.get("stream"), streams.as_ref());
}

/// Whether the gate allows a body.
fn allowed(api: Api, body: &[u8]) -> bool {
    let head = Head {
        header_bytes: 100,
        header_count: 4,
        ambiguous: None,
        identity: Identity::Client("scorer".into()),
        proofs: Proofs::NONE,
        withheld: Operations::default(),
        caller: CallerDigests::default(),
        request_hash: RequestHash::default(),
        route: Route::OpenAi { api },
        query: None,
        chunked: false,
        content_type: ContentType::Json,
        encoding: Encoding::Identity,
        json_length: None,
        content_length: None,
        end_of_stream: false,
    };
    let spent = |_: &_| ChargeOutcome::CHARGED;
    let (mut decision, step) = decide_head(policy(), &head, spent);
    let Step::ReadBody(plan) = step else {
        panic!("{step:?}");
    };
    let Ok(named) = addressee(plan.format, body) else {
        return false;
    };
    let step = decide_body(&mut decision, policy(), body.len(), named, spent);
    let Step::Decode = step else {
        return false;
    };
    let Ok(request) = decode(plan.format, body, &[]) else {
        return false;
    };
    decide_message(&mut decision, policy(), &request, spent) == Step::Forward
}

fn same(ours: &Value<'_>, theirs: &Json) {
    match (ours, theirs) {
        (Value::Null, Json::Null) => {}
        (Value::Bool(ours), Json::Bool(theirs)) => assert_eq!(ours, theirs),
        (Value::Int(ours), Json::Number(theirs)) => assert_eq!(Some(*ours), theirs.as_i64()),
        (Value::Float(ours), Json::Number(theirs)) => {
            // serde_json does not always round to the nearest float.
            let theirs = theirs.as_f64().expect("a float");
            let near = (ours - theirs).abs() <= ours.abs() * 1e-12 + f64::MIN_POSITIVE;
            assert!(near, "{ours} and {theirs}");
        }
        (Value::String(ours), Json::String(theirs)) => assert_eq!(ours, theirs),
        (Value::Array(ours), Json::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len());
            ours.iter().zip(theirs).for_each(|(a, b)| same(a, b));
        }
        (Value::Object(ours), Json::Object(theirs)) => {
            assert_eq!(ours.len(), theirs.len());
            ours.iter()
                .for_each(|(name, value)| same(value, &theirs[name.as_ref()]));
        }
        _ => panic!("{ours:?} and {theirs:?}"),
    }
}
