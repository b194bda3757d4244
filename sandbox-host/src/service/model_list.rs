//! The model list of the OpenAI API, limited to the models that the caller may ask about.

use http::StatusCode;
use tensorgate_judge::request::Caller;
use tensorgate_policy::request::Proofs;
use tensorgate_policy::{Operation, Policy, Protocol};

use crate::pipeline::reply;
use crate::pipeline::reply::Reply;

pub(super) fn answer(policy: &Policy, caller: &Caller, proofs: Proofs) -> Reply {
    let client = caller.client.as_deref().unwrap_or_default();
    let names = policy.models_of(client, proofs, Protocol::OpenAi, Operation::Metadata);
    let body = tensorgate_wire::openai::models(names);
    reply::success(Protocol::OpenAi, StatusCode::OK, body, &caller.request_id)
}
