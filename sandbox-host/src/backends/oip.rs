//! The Open Inference Protocol over gRPC: Triton and its like, and the embedded CPU server.
//!
//! Requests are built field by field from validated values; nothing of the client's message is copied. HTTP/2 keepalive pings
//! stay off: gRPC C-core servers (Triton) answer them with GOAWAY `too_many_pings` once a call is silent for longer than
//! a few of them. The prober's regular calls find dead connections instead, and replace them ([`Endpoint::reconnect`]).

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use tensorgate_policy::tensor::{Parameter, ParameterValue};
use tensorgate_wire::proto;
use tensorgate_wire::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use tensorgate_wire::proto::infer_parameter::ParameterChoice;
use tensorgate_wire::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use tensorgate_wire::upstream::open_inference;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Request, Status};

use super::channel::{Channel, Origin};
use super::http_json::HttpJson;
use super::link::{Connector, DialError, Dialer, Fate};
use super::openai::Upstream;
use super::question::Dialect;
use super::tls::Tls;
use super::unary::Weighed;
use super::written::Pieces;
use super::{BackendError, Call};
use crate::grpc_timeout;

/// A backend's own error text, characters kept for the log.
pub(super) const MAX_MESSAGE_CHARS: usize = 2_048;

/// An address that no endpoint can have.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Neither `http://host:port`, nor `https://host:port` and TLS, nor `unix:/path`.
    #[error(
        "endpoint {0:?} is neither http://host:port, nor https://host:port with tls, nor unix:/path"
    )]
    Scheme(String),
    /// Not a URI.
    #[error("endpoint {uri:?}: {cause}")]
    Uri {
        /// The text.
        uri: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// One server's address, and the line to it.
#[derive(Debug)]
pub struct Endpoint {
    uri: String,
    origin: Origin,
    dialer: Dialer,
    line: RwLock<Arc<Line>>,
    /// Where it is spoken to in OpenAI's API, and over no connection of these.
    openai: Option<Upstream>,
    /// The same in JSON of its own.
    json: Option<HttpJson>,
}

impl Endpoint {
    /// An endpoint at `http://host:port`, `unix:/path` or, with TLS, `https://host:port`.
    pub fn new(uri: &str, tls: Option<Arc<Tls>>) -> Result<Self, EndpointError> {
        let dialer = Dialer::new(uri, tls).ok_or_else(|| EndpointError::Scheme(uri.to_owned()))?;
        let origin = Origin::of(uri).map_err(|cause| EndpointError::Uri {
            uri: uri.to_owned(),
            cause,
        })?;
        let line = RwLock::new(Arc::new(Line::new(
            &origin,
            &dialer,
            Dialect::OpenInference,
            0,
        )));
        Ok(Self {
            uri: uri.to_owned(),
            origin,
            dialer,
            line,
            openai: None,
            json: None,
        })
    }

    /// The same for a server that speaks another protocol over gRPC.
    pub fn speaking(
        dialect: Dialect,
        uri: &str,
        tls: Option<Arc<Tls>>,
    ) -> Result<Self, EndpointError> {
        let endpoint = Self::new(uri, tls)?;
        let line = Line::new(&endpoint.origin, &endpoint.dialer, dialect, 0);
        Ok(Self {
            line: RwLock::new(Arc::new(line)),
            ..endpoint
        })
    }

    /// The same for a server that speaks OpenAI's API.
    pub fn of_openai(uri: &str, tls: Option<Arc<Tls>>) -> Result<Self, EndpointError> {
        let endpoint = Self::new(uri, tls)?;
        let upstream = Upstream::new(uri, &endpoint.dialer)
            .ok_or_else(|| EndpointError::Scheme(uri.to_owned()))?;
        Ok(Self {
            openai: Some(upstream),
            ..endpoint
        })
    }

    /// The same for a server that speaks JSON of its own; `ready`: the path that says whether it is ready.
    pub fn of_json(
        uri: &str,
        tls: Option<Arc<Tls>>,
        ready: Option<&str>,
    ) -> Result<Self, EndpointError> {
        let endpoint = Self::new(uri, tls)?;
        let upstream = Upstream::new(uri, &endpoint.dialer)
            .ok_or_else(|| EndpointError::Scheme(uri.to_owned()))?;
        Ok(Self {
            json: Some(HttpJson::new(upstream, ready.map(str::to_owned))),
            ..endpoint
        })
    }

    /// Whether its calls go over its line, all of them over one connection. Otherwise each has a connection of its own.
    pub const fn has_line(&self) -> bool {
        self.json.is_none() && self.openai.is_none()
    }

    /// How it is spoken to in JSON of its own, if it is.
    pub const fn json(&self) -> Option<&HttpJson> {
        self.json.as_ref()
    }

    /// How it is spoken to in OpenAI's API, if it is.
    pub const fn openai(&self) -> Option<&Upstream> {
        self.openai.as_ref()
    }

    /// Its address, for the log.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The line that is in use.
    pub fn line(&self) -> Arc<Line> {
        // A poisoned lock holds a line all the same.
        let line = self.line.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&line)
    }

    /// A line that has not lost its connection: another, if the one in use has.
    pub fn fresh(&self) -> Arc<Line> {
        let line = self.line();
        if line.is_lost() {
            self.reconnect()
        } else {
            line
        }
    }

    /// Gives up the connection: later calls go over another line. Calls on the old one keep it until they end.
    pub fn reconnect(&self) -> Arc<Line> {
        let mut line = self.line.write().unwrap_or_else(PoisonError::into_inner);
        let number = line.number.saturating_add(1);
        let dialect = line.dialect;
        *line = Arc::new(Line::new(&self.origin, &self.dialer, dialect, number));
        Arc::clone(&line)
    }
}

/// At most one connection to a server, made when first used. Once it is lost nothing more is sent over this: what was learnt of the server over it
/// holds for every call over it.
#[derive(Debug)]
pub struct Line {
    number: u64,
    dialect: Dialect,
    channel: Channel,
    fate: Arc<Fate>,
}

impl Line {
    fn new(origin: &Origin, dialer: &Dialer, dialect: Dialect, number: u64) -> Self {
        let fate = Arc::new(Fate::default());
        let connector = Connector {
            dialer: dialer.clone(),
            fate: Arc::clone(&fate),
        };
        Self {
            number,
            dialect,
            channel: Channel::new(origin.clone(), connector),
            fate,
        }
    }

    /// Tells it from the endpoint's other lines.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Whether its connection was made and is there no more.
    pub fn is_lost(&self) -> bool {
        self.fate.is_lost()
    }

    /// What calls go over.
    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// What is spoken over it.
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn client(&self, max_answer_bytes: usize) -> GrpcInferenceServiceClient<Channel> {
        GrpcInferenceServiceClient::new(self.channel())
            .max_decoding_message_size(max_answer_bytes)
            // What we send was bounded when it was read.
            .max_encoding_message_size(usize::MAX)
    }

    /// One inference. `claims` go along as metadata. The answer's messages are bounded by `max_answer_bytes`; what they say is not yet checked.
    pub async fn infer(
        &self,
        message: Pieces,
        claims: &http::HeaderMap,
        max_answer_bytes: usize,
        deadline: Instant,
    ) -> Result<proto::ModelInferResponse, BackendError> {
        let (fields, _, ()) = timed((), deadline).into_parts();
        let mut fields = fields.into_headers();
        fields.extend(claims.clone());
        let reader = Weighed::reader(open_inference::answer_bytes, max_answer_bytes);
        let asked = (open_inference::INFER, fields, Body::new(message));
        let answer = self.channel.unary(asked, reader, max_answer_bytes);
        within(deadline, answer).await
    }

    /// Whether the server says that it is ready.
    pub async fn server_ready(&self, deadline: Instant) -> Result<bool, BackendError> {
        let request = timed(proto::ServerReadyRequest {}, deadline);
        let mut client = self.client(MAX_PROBE_ANSWER_BYTES);
        Ok(within(deadline, client.server_ready(request)).await?.ready)
    }

    /// Whether the server says that a model's version is ready.
    pub async fn model_ready(
        &self,
        model: &str,
        version: &str,
        deadline: Instant,
    ) -> Result<bool, BackendError> {
        let request = timed(
            proto::ModelReadyRequest {
                name: model.to_owned(),
                version: version.to_owned(),
            },
            deadline,
        );
        let mut client = self.client(MAX_PROBE_ANSWER_BYTES);
        Ok(within(deadline, client.model_ready(request)).await?.ready)
    }

    /// What the server says of a model's inputs and outputs; none if it does not implement the question.
    pub async fn model_metadata(
        &self,
        model: &str,
        version: &str,
        deadline: Instant,
    ) -> Result<Option<proto::ModelMetadataResponse>, BackendError> {
        let request = timed(
            proto::ModelMetadataRequest {
                name: model.to_owned(),
                version: version.to_owned(),
            },
            deadline,
        );
        let mut client = self.client(MAX_METADATA_BYTES);
        let answer = async {
            match client.model_metadata(request).await {
                Err(status) if status.code() == Code::Unimplemented => {
                    Ok(tonic::Response::new(None))
                }
                answer => answer.map(|response| response.map(Some)),
            }
        };
        within(deadline, answer).await
    }
}

/// A readiness answer is one boolean.
const MAX_PROBE_ANSWER_BYTES: usize = 1 << 10;
/// A signature, bytes: a thousand tensors with long names.
pub(super) const MAX_METADATA_BYTES: usize = 256 << 10;

/// A request that carries its deadline to the server as `grpc-timeout`.
pub(super) fn timed<T>(message: T, deadline: Instant) -> Request<T> {
    let mut request = Request::new(message);
    let left = deadline.saturating_duration_since(Instant::now());
    let fields = request.metadata_mut().as_mut();
    fields.insert(grpc_timeout::NAME, grpc_timeout::field(left));
    request
}

/// Awaits an answer until the deadline and sorts out failures.
pub(super) async fn within<T>(
    deadline: Instant,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, BackendError> {
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(sort(&status, Instant::now() >= deadline)),
        Err(_) => Err(BackendError::Timeout(
            "no answer within the deadline".to_owned(),
        )),
    }
}

/// What a status means. One with a source was made on our side of the connection; one without came from the server.
pub(super) fn sort(status: &Status, late: bool) -> BackendError {
    let cause = format!("{:?}: {}", status.code(), describe(status));
    match status.code() {
        _ if late => BackendError::Timeout(cause),
        Code::DeadlineExceeded => BackendError::Timeout(cause),
        _ if caused_by(status, is_spent) => BackendError::Unsent(cause),
        // It answers, over a connection that stands, and this call is all that it gave up.
        _ if caused_by(status, is_reset) => BackendError::Busy(cause),
        _ if status.source().is_some() => BackendError::Unavailable(cause),
        Code::Unavailable => BackendError::Busy(cause),
        _ => BackendError::Fault(cause),
    }
}

/// Whether some cause of an error is one of these.
fn caused_by(
    error: &dyn std::error::Error,
    is: impl Fn(&(dyn std::error::Error + 'static)) -> bool,
) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if is(cause) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// One stream ended before its time.
fn is_reset(error: &(dyn std::error::Error + 'static)) -> bool {
    let error: Option<&h2::Error> = error.downcast_ref();
    error.is_some_and(h2::Error::is_reset)
}

/// A line without its connection takes no call.
fn is_spent(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(DialError::Spent))
}

/// An error with all of its causes, within a bound: a server chooses part of it.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.chars().take(MAX_MESSAGE_CHARS).collect()
}

/// An inference's message, made afresh. Copies of it share the tensors' bytes.
pub fn request(call: Call<'_>) -> Result<proto::ModelInferRequest, BackendError> {
    let Call {
        contract: _,
        id,
        model,
        version,
        parameters,
        inputs,
        outputs,
        claims: _,
        kept: _,
    } = call;
    let mut described = Vec::with_capacity(inputs.len());
    let mut raw_input_contents = Vec::with_capacity(inputs.len());
    for input in inputs {
        let data = input.data.map_err(|fault| {
            BackendError::Fault(format!("input {:?} was never checked: {fault}", input.name))
        })?;
        described.push(InferInputTensor {
            name: input.name.into_owned(),
            datatype: input.datatype.into_owned(),
            shape: input.shape,
            parameters: HashMap::new(),
            contents: None,
        });
        raw_input_contents.push(Bytes::from(data.into_owned()));
    }
    Ok(proto::ModelInferRequest {
        model_name: model.to_owned(),
        model_version: version.to_owned(),
        id: id.to_owned(),
        parameters: parameters.into_iter().map(parameter).collect(),
        inputs: described,
        outputs: outputs
            .iter()
            .map(|rule| InferRequestedOutputTensor {
                name: rule.name().to_owned(),
                parameters: HashMap::new(),
            })
            .collect(),
        raw_input_contents,
    })
}

fn parameter(parameter: Parameter<'static>) -> (String, proto::InferParameter) {
    let choice = match parameter.value {
        ParameterValue::Bool(value) => ParameterChoice::BoolParam(value),
        ParameterValue::Int64(value) => ParameterChoice::Int64Param(value),
        ParameterValue::Uint64(value) => ParameterChoice::Uint64Param(value),
        ParameterValue::Double(value) => ParameterChoice::DoubleParam(value),
        ParameterValue::String(value) => ParameterChoice::StringParam(value.into_owned()),
    };
    (
        parameter.name.into_owned(),
        proto::InferParameter {
            parameter_choice: Some(choice),
        },
    )
}

#[cfg(test)]
#[path = "oip_tests.rs"]
mod tests;
