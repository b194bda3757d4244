//! What a request is once it is prepared: what the backend gets of it, and what becomes of an answer.

use http::HeaderMap;
use tensorgate_policy::policy::{GrantId, Model, ModelId};
use tensorgate_policy::tensor::Parameter;
use tensorgate_policy::{Protocol, Tensor};
use tensorgate_wire::encode::AnswerForm;

use crate::backends::Call;
use crate::sandbox::Behalf;

/// What a backend gets.
pub(super) struct Sent {
    pub(super) parameters: Vec<Parameter<'static>>,
    pub(super) inputs: Vec<Tensor<'static>>,
}

impl Sent {
    pub(super) fn call<'a>(self, model: &'a Model, wanted: &'a Wanted) -> Call<'a> {
        let Self { parameters, inputs } = self;
        Call {
            contract: model,
            id: &wanted.request_id,
            model: model.backend_model(),
            version: &wanted.version,
            parameters,
            inputs,
            outputs: model.backend_outputs(),
            claims: &wanted.claims,
            kept: None,
        }
    }
}

/// Whose request it is, and what the caller gets of an answer.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) request_id: String,
    /// Whom its handlers are asked for.
    pub(super) behalf: Behalf,
    pub(super) protocol: Protocol,
    pub(super) model: ModelId,
    pub(super) grant: GrantId,
    pub(super) version: String,
    pub(super) id: Option<String>,
    pub(super) outputs: Vec<String>,
    pub(super) form: AnswerForm,
    pub(super) claims: HeaderMap,
}
