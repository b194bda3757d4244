//! Backends with a JSON format of their own over HTTP/1.1, such as BentoML and Ray Serve. Requests
//! and responses are converted with the model's template. Each request has a connection of its own
//! while it lasts, as with the OpenAI API.

use bytes::Bytes;
use http::{HeaderMap, Request};
use tensorgate_base::client_key::ClientKey;
use tensorgate_base::guard::offload;
use tensorgate_policy::Tensor;
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::Template;
use tensorgate_policy::values::Shared;
use tensorgate_wire::template;
use tokio::time::Instant;

use super::openai::{Inference, Upstream};
use super::rejection::ServerKind;
use super::{BackendError, Call};

/// The most bytes of a readiness response.
const MAX_READY_BYTES: usize = 64 << 10;

/// An encoded inference request, reused for retries.
#[derive(Debug)]
pub struct TemplateRequest {
    template: Shared<Template>,
    body: Bytes,
    id: String,
    claims: HeaderMap,
    max_answer_bytes: usize,
}

impl TemplateRequest {
    /// Encodes a request, on a separate thread if it is large.
    pub async fn new(call: Call<'_>, template: &Shared<Template>) -> Result<Self, BackendError> {
        let Call {
            contract: _,
            id,
            model: _,
            version: _,
            // The JSON format has no place for parameters, so no rule can allow one.
            parameters: _,
            inputs,
            outputs,
            claims,
            sent_message: _,
        } = call;
        let writer = template.clone();
        let bytes = template::most_request_bytes(template, &inputs);
        let body = offload(bytes, move || template::request(&writer, &inputs))
            .await
            .flatten()
            .ok_or_else(|| {
                BackendError::Fault("the inputs cannot be encoded in its JSON template".to_owned())
            })?;
        Ok(Self {
            template: template.clone(),
            body: body.into(),
            id: id.to_owned(),
            claims: claims.clone(),
            max_answer_bytes: template::most_answer_bytes(template, outputs),
        })
    }

    /// Decodes a response, on a separate thread if it is large. The pipeline checks whether the
    /// tensors fit the contract.
    pub async fn decode_response(
        &self,
        outputs: &[TensorRule],
        answer: Bytes,
    ) -> Result<Vec<Tensor<'static>>, BackendError> {
        let (template, rules) = (self.template.clone(), outputs.to_vec());
        let read = move || template::answer(&template, &rules, &answer);
        offload(self.max_answer_bytes, read)
            .await
            .unwrap_or_else(|| Err("it could not be read".to_owned()))
            .map_err(|cause| BackendError::Fault(format!("its answer: {cause}")))
    }
}

impl Upstream {
    /// Sends an inference request and reads its response before the deadline. Dropping the future
    /// closes the connection.
    pub async fn infer(
        &self,
        question: &TemplateRequest,
        client_key: ClientKey,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        let mut request = Request::post(question.template.route())
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .header("x-request-id", &question.id);
        if let Some(fields) = request.headers_mut() {
            fields.extend(question.claims.clone());
        }
        let body = question.body.clone();
        let inference = Inference {
            server: ServerKind::HttpJson,
            client_key,
        };
        let max_bytes = question.max_answer_bytes;
        self.exchange(request, body, Some(inference), max_bytes, deadline)
            .await
    }

    /// Checks whether the server is ready. Without a readiness path it is ready if it accepts
    /// connections.
    pub async fn check_ready(
        &self,
        path: Option<&str>,
        deadline: Instant,
    ) -> Result<(), BackendError> {
        let Some(path) = path else {
            return self.connects(deadline).await;
        };
        let request = Request::get(path);
        self.exchange(request, Bytes::new(), None, MAX_READY_BYTES, deadline)
            .await
            .map(drop)
    }
}
