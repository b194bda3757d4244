//! JSON of a server's own over HTTP/1.1: BentoML, Ray Serve and home-made ones. Requests are written from validated tensors by the model's template,
//! and answers read by it; connections are OpenAI's way, one a request.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use tensorgate_policy::Tensor;
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::Template;
use tensorgate_wire::template;
use tokio::time::Instant;

use super::openai::Upstream;
use super::{BackendError, Call};
use crate::guard::offload;

/// What a server may say to the question whether it is ready, bytes.
const MAX_READY_BYTES: usize = 64 << 10;

/// One server.
#[derive(Debug)]
pub struct HttpJson {
    upstream: Upstream,
    /// The path that says whether it is ready.
    ready: Option<String>,
}

/// One inference, as it is sent; as often as it is sent again.
#[derive(Debug)]
pub struct Question {
    template: Arc<Template>,
    body: Bytes,
    id: String,
    claims: HeaderMap,
    max_answer_bytes: usize,
}

impl Question {
    /// Writes one, on a thread of its own if it is long.
    pub async fn new(call: Call<'_>, template: &Arc<Template>) -> Result<Self, BackendError> {
        let Call {
            contract: _,
            id,
            model: _,
            version: _,
            // None can have a rule: they have no place in JSON of a model's own.
            parameters: _,
            inputs,
            outputs,
            claims,
            kept: _,
        } = call;
        let writer = Arc::clone(template);
        let bytes = template::most_request_bytes(template, &inputs);
        let body = offload(bytes, move || template::request(&writer, &inputs))
            .await
            .flatten()
            .ok_or_else(|| {
                BackendError::Fault("the inputs cannot be said in JSON of its own".to_owned())
            })?;
        Ok(Self {
            template: Arc::clone(template),
            body: body.into(),
            id: id.to_owned(),
            claims: claims.clone(),
            max_answer_bytes: template::most_answer_bytes(template, outputs),
        })
    }

    /// Reads its answer, on a thread of its own if it is long. Whether the tensors fit the contract is the pipeline's to check.
    pub async fn answered(
        &self,
        outputs: &[TensorRule],
        answer: Bytes,
    ) -> Result<Vec<Tensor<'static>>, BackendError> {
        let (template, rules) = (Arc::clone(&self.template), outputs.to_vec());
        let read = move || template::answer(&template, &rules, &answer);
        offload(self.max_answer_bytes, read)
            .await
            .unwrap_or_else(|| Err("it could not be read".to_owned()))
            .map_err(|cause| BackendError::Fault(format!("its answer: {cause}")))
    }
}

impl HttpJson {
    /// A server at an address, which is asked at a path whether it is ready.
    pub(super) const fn new(upstream: Upstream, ready: Option<String>) -> Self {
        Self { upstream, ready }
    }

    /// Sends an inference and reads the bytes of its answer, all before the deadline. Dropping this drops the connection.
    pub async fn infer(
        &self,
        question: &Question,
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
        self.upstream
            .exchange(request, body, question.max_answer_bytes, deadline)
            .await
    }

    /// Whether it is ready. One that has no path for this is once it takes connections.
    pub async fn is_ready(&self, deadline: Instant) -> Result<(), BackendError> {
        let Some(path) = &self.ready else {
            return self.upstream.connects(deadline).await;
        };
        let request = Request::get(path.as_str());
        self.upstream
            .exchange(request, Bytes::new(), MAX_READY_BYTES, deadline)
            .await
            .map(drop)
    }
}
