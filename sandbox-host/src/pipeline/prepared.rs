//! A prepared request: its inputs for the backend, and what is needed for the response.

use http::HeaderMap;
use tensorgate_policy::policy::{GrantId, Model, ModelId};
use tensorgate_policy::tensor::Parameter;
use tensorgate_policy::{Protocol, Tensor};
use tensorgate_sandbox::CallContext;
use tensorgate_wire::encode::AnswerForm;

use crate::backends::Call;

/// The inputs for a backend.
pub(super) struct BackendInputs {
    pub(super) parameters: Vec<Parameter<'static>>,
    pub(super) inputs: Vec<Tensor<'static>>,
}

impl BackendInputs {
    pub(super) fn call<'a>(self, model: &'a Model, wanted: &'a ResponseContext) -> Call<'a> {
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
            sent_message: None,
        }
    }
}

/// The request's identity, and the requested response.
#[derive(Debug)]
pub(super) struct ResponseContext {
    pub(super) request_id: String,
    /// The context of its handler calls.
    pub(super) behalf: CallContext,
    pub(super) protocol: Protocol,
    pub(super) model: ModelId,
    pub(super) grant: GrantId,
    pub(super) version: String,
    pub(super) id: Option<String>,
    pub(super) outputs: Vec<String>,
    pub(super) form: AnswerForm,
    pub(super) claims: HeaderMap,
}
