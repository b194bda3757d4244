//! The Open Inference Protocol over gRPC: Triton and similar servers, and the embedded CPU server.
//!
//! Requests are built field by field from validated values. Nothing of the client's message is
//! copied. HTTP/2 keepalive pings are disabled: gRPC C-core servers (Triton) reject several pings
//! during a silent call with GOAWAY `too_many_pings`. The prober detects and replaces dead
//! connections instead ([`GrpcClient::reconnect`]).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tensorgate_base::{grpc_timeout, owned};
use tensorgate_judge::protocol_adapter::ProtocolAdapter;
use tensorgate_net::dialer::Dialer;
use tensorgate_net::http1::Observe;
use tensorgate_net::http2::channel::{Http2Channel, Origin};
use tensorgate_net::http2::connection::{ConnectionState, Connector};
use tensorgate_net::tls::Tls;
use tensorgate_policy::tensor::{Parameter, ParameterValue};
use tensorgate_policy::values::ConnectionSharing;
use tensorgate_wire::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use tensorgate_wire::proto::infer_parameter::ParameterChoice;
use tensorgate_wire::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use tensorgate_wire::{proto, upstream};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Request};

use super::codec::SizeCheckedCodec;
use super::grpc_status::{infer_within, within};
use super::http1;
use super::message_chunks::MessageChunks;
use super::openai::Upstream;
use super::{BackendError, Call};

/// An invalid endpoint address.
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
        /// The error.
        cause: String,
    },
}

/// The address of one server, and the client for it.
#[derive(Debug)]
pub struct Endpoint {
    uri: String,
    dialer: Dialer,
    client: Client,
}

/// A client for one server.
#[derive(Debug)]
pub enum Client {
    /// gRPC. Calls share the connection of a channel.
    Grpc(GrpcClient),
    /// HTTP/1.1. Each call has a connection of its own while it lasts.
    Http1(Upstream, Http1Health),
}

/// How a server with HTTP/1.1 says that it is ready.
#[derive(Debug)]
pub enum Http1Health {
    /// By its list of models, as in the OpenAI API.
    Models,
    /// By its answer at this path. Without one, it is ready if it accepts connections.
    Path(Option<String>),
}

impl Endpoint {
    /// Creates an endpoint at `http://host:port`, `unix:/path` or, with TLS, `https://host:port`.
    pub fn new(uri: &str, tls: Option<Arc<Tls>>) -> Result<Self, EndpointError> {
        Self::with_protocol(ProtocolAdapter::OpenInference, uri, tls)
    }

    /// Creates an endpoint for a gRPC protocol.
    pub fn with_protocol(
        dialect: ProtocolAdapter,
        uri: &str,
        tls: Option<Arc<Tls>>,
    ) -> Result<Self, EndpointError> {
        let client = GrpcClient::new(dialect, uri, tls)?;
        Ok(Self {
            uri: uri.to_owned(),
            dialer: client.dialer.clone(),
            client: Client::Grpc(client),
        })
    }

    /// Creates an endpoint for HTTP/1.1.
    pub fn with_http1(
        uri: &str,
        tls: Option<Arc<Tls>>,
        health: Http1Health,
        sharing: ConnectionSharing,
        observer: Arc<dyn Observe>,
    ) -> Result<Self, EndpointError> {
        let scheme = || EndpointError::Scheme(uri.to_owned());
        let dialer = Dialer::new(uri, tls).ok_or_else(scheme)?;
        let upstream = Upstream::new(uri, &dialer, sharing, observer).ok_or_else(scheme)?;
        Ok(Self {
            uri: uri.to_owned(),
            dialer,
            client: Client::Http1(upstream, health),
        })
    }

    /// The client.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The current channel. `None` if each call has a connection of its own.
    pub fn channel(&self) -> Option<Arc<Channel>> {
        match &self.client {
            Client::Grpc(client) => Some(client.channel()),
            Client::Http1(..) => None,
        }
    }

    /// The client for HTTP/1.1.
    ///
    /// # Errors
    /// Returns an error if the server speaks gRPC.
    pub fn http1(&self) -> Result<&Upstream, BackendError> {
        match &self.client {
            Client::Http1(upstream, _) => Ok(upstream),
            Client::Grpc(_) => Err(BackendError::other_protocol()),
        }
    }

    /// Closes idle connections, if calls have their own: the endpoint has failed.
    pub fn close_idle(&self) {
        if let Client::Http1(upstream, _) = &self.client {
            upstream.close_idle();
        }
    }

    /// The address, for the log.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Whether the server answers HTTP/1.1, over a connection of its own.
    pub async fn speaks_http1(&self) -> bool {
        http1::answers(&self.dialer).await
    }

    /// Whether no process of this machine or pod listens at the address. Never of another machine.
    pub async fn is_refused_locally(&self) -> bool {
        self.dialer.is_refused_locally().await
    }
}

/// The channel to a server, which is replaced once its connection is lost.
#[derive(Debug)]
pub struct GrpcClient {
    origin: Origin,
    dialer: Dialer,
    channel: RwLock<Arc<Channel>>,
}

impl GrpcClient {
    /// Creates a client for `http://host:port`, `unix:/path` or, with TLS, `https://host:port`.
    pub fn new(
        dialect: ProtocolAdapter,
        uri: &str,
        tls: Option<Arc<Tls>>,
    ) -> Result<Self, EndpointError> {
        let dialer = Dialer::new(uri, tls).ok_or_else(|| EndpointError::Scheme(uri.to_owned()))?;
        let origin = Origin::parse(uri).map_err(|cause| EndpointError::Uri {
            uri: uri.to_owned(),
            cause,
        })?;
        let line = Channel::new(&origin, &dialer, dialect, 0);
        Ok(Self {
            origin,
            dialer,
            channel: RwLock::new(Arc::new(line)),
        })
    }

    /// The current channel.
    pub fn channel(&self) -> Arc<Channel> {
        // A poisoned lock still has a valid channel.
        let line = self.channel.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&line)
    }

    /// The current channel, or a new one if its connection is lost.
    pub fn connected_channel(&self) -> Arc<Channel> {
        let line = self.channel();
        if line.is_lost() {
            self.reconnect()
        } else {
            line
        }
    }

    /// Replaces the channel, so that later calls open a new connection. Running calls keep the old
    /// one.
    pub fn reconnect(&self) -> Arc<Channel> {
        let mut line = self.channel.write().unwrap_or_else(PoisonError::into_inner);
        let number = line.number.saturating_add(1);
        let dialect = line.dialect;
        *line = Arc::new(Channel::new(&self.origin, &self.dialer, dialect, number));
        Arc::clone(&line)
    }
}

/// At most one connection to a server, opened on first use. After it is lost, the channel sends
/// nothing more. So probe results over this channel are valid for every call over it.
#[derive(Debug)]
pub struct Channel {
    number: u64,
    dialect: ProtocolAdapter,
    http2: Http2Channel,
    state: Arc<ConnectionState>,
}

impl Channel {
    fn new(origin: &Origin, dialer: &Dialer, dialect: ProtocolAdapter, number: u64) -> Self {
        let connection_state = Arc::new(ConnectionState::default());
        let connector = Connector {
            dialer: Arc::new(dialer.clone()),
            state: Arc::clone(&connection_state),
        };
        Self {
            number,
            dialect,
            http2: Http2Channel::new(origin.clone(), connector),
            state: connection_state,
        }
    }

    /// The number that distinguishes the endpoint's channels.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Whether the connection was opened and is gone.
    pub fn is_lost(&self) -> bool {
        self.state.is_lost()
    }

    /// Whether the connection was opened, and the server has sent nothing or no HTTP/2.
    pub fn is_without_http2(&self) -> bool {
        self.state.is_without_http2()
    }

    /// The HTTP/2 channel for calls.
    pub(super) fn http2(&self) -> Http2Channel {
        self.http2.clone()
    }

    /// The protocol of the server.
    pub const fn dialect(&self) -> ProtocolAdapter {
        self.dialect
    }

    fn client(&self, max_answer_bytes: usize) -> GrpcInferenceServiceClient<Http2Channel> {
        GrpcInferenceServiceClient::new(self.http2())
            .max_decoding_message_size(max_answer_bytes)
            // Requests were bounded when they were read.
            .max_encoding_message_size(usize::MAX)
    }

    /// Sends one inference request. `claims` are sent as metadata. The response has at most
    /// `max_answer_bytes` and is not checked yet.
    pub async fn infer(
        &self,
        message: MessageChunks,
        claims: &http::HeaderMap,
        max_answer_bytes: usize,
        deadline: Instant,
    ) -> Result<proto::ModelInferResponse, BackendError> {
        let (fields, _, ()) = with_deadline((), deadline).into_parts();
        let mut fields = fields.into_headers();
        fields.extend(claims.clone());
        let reader = SizeCheckedCodec::reader(upstream::answer_bytes, max_answer_bytes);
        let asked = (upstream::INFER, fields, Body::new(message));
        let answer = self.http2.unary(asked, reader, max_answer_bytes);
        infer_within(self.dialect, deadline, answer).await
    }

    /// Whether the server reports that it is ready.
    pub async fn server_ready(&self, deadline: Instant) -> Result<bool, BackendError> {
        let request = with_deadline(proto::ServerReadyRequest {}, deadline);
        let mut client = self.client(MAX_PROBE_ANSWER_BYTES);
        Ok(within(deadline, client.server_ready(request)).await?.ready)
    }

    /// Whether the server reports that a model's version is ready.
    pub async fn model_ready(
        &self,
        model: &str,
        version: &str,
        deadline: Instant,
    ) -> Result<bool, BackendError> {
        let request = with_deadline(
            proto::ModelReadyRequest {
                name: model.to_owned(),
                version: version.to_owned(),
            },
            deadline,
        );
        let mut client = self.client(MAX_PROBE_ANSWER_BYTES);
        Ok(within(deadline, client.model_ready(request)).await?.ready)
    }

    /// The server's description of a model's inputs and outputs. `None` if the server does not
    /// implement the method.
    pub async fn model_metadata(
        &self,
        model: &str,
        version: &str,
        deadline: Instant,
    ) -> Result<Option<proto::ModelMetadataResponse>, BackendError> {
        let request = with_deadline(
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

/// The size of a readiness response, which is one boolean.
const MAX_PROBE_ANSWER_BYTES: usize = 1 << 10;
/// The size of a model description in bytes: a thousand tensors with long names.
pub(super) const MAX_METADATA_BYTES: usize = 256 << 10;

/// Builds a request with its deadline in `grpc-timeout`.
pub(super) fn with_deadline<T>(message: T, deadline: Instant) -> Request<T> {
    let mut request = Request::new(message);
    let left = deadline.saturating_duration_since(Instant::now());
    let fields = request.metadata_mut().as_mut();
    fields.insert(grpc_timeout::NAME, grpc_timeout::header(left));
    request
}

/// Builds an inference message. Clones share the tensors' bytes.
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
        sent_message: _,
    } = call;
    let mut described = Vec::with_capacity(inputs.len());
    let mut raw_input_contents = Vec::with_capacity(inputs.len());
    for input in inputs {
        let data = input.data.map_err(|fault| {
            BackendError::Fault(format!("input {:?} was not checked: {fault}", input.name))
        })?;
        described.push(InferInputTensor {
            name: input.name.into_owned(),
            datatype: input.datatype.into_owned(),
            shape: input.shape,
            parameters: input.parameters.into_iter().map(parameter).collect(),
            contents: None,
        });
        raw_input_contents.push(owned::bytes(data));
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
mod tests;
