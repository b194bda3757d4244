//! A stand-in for an inference server. It answers every inference with zeros in the shapes of the
//! policy's outputs, so that allowed requests complete. It checks nothing, and records every
//! request for tests.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::several::{Answers, Several};
use bytes::Bytes;
use tensorgate_client::stand_in::openai::OpenAi;
use tensorgate_policy::datatype::Datatype;
use tensorgate_policy_compiler::raw::{Dim, Input, Policy};
use tensorgate_wire::proto::grpc_inference_service_server::{
    GrpcInferenceService, GrpcInferenceServiceServer,
};
use tensorgate_wire::proto::model_infer_response::InferOutputTensor;
use tensorgate_wire::proto::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse,
    ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse,
};
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::{Request, Response, Status, Streaming};

/// An inference as the backend received it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The message.
    pub message: ModelInferRequest,
    /// Header fields, names and values as text.
    pub fields: Vec<(String, String)>,
}

/// How the stand-in answers an inference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Answers with zeros.
    #[default]
    Zeros,
    /// Fails with a text that no caller may see.
    Fails,
    /// Answers one element too many.
    BreaksTheContract,
    /// Answers values that are not finite.
    NotFinite,
    /// Never answers.
    Hangs,
    /// Answers with zeros after this time.
    Late(Duration),
    /// Answers a message of a stream in this way, and a single inference with zeros.
    Several(Several),
}

/// What a failing backend says.
pub const SECRET: &str = "shared memory key 0x51f1 of triton_python_backend";

/// A running stand-in; stops when dropped.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    mode: Arc<Mutex<Mode>>,
    open: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
    /// The stand-in for models of OpenAI's API.
    pub openai: OpenAi,
}

impl Backend {
    /// Starts a stand-in that answers as this policy's models must.
    pub async fn start(policy: Policy) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), policy).await
    }

    /// Starts a stand-in at another address. Models of OpenAI's API stay at loopback.
    pub async fn start_at(address: IpAddr, policy: Policy) -> Self {
        let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let openai = OpenAi::start(policy.models.keys().cloned()).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mode = Arc::new(Mutex::new(Mode::default()));
        let open = Arc::new(AtomicUsize::new(0));
        let service = GrpcInferenceServiceServer::new(StandIn {
            policy,
            open: Arc::clone(&open),
            seen: Arc::clone(&seen),
            mode: Arc::clone(&mode),
        })
        // The policy bounds the size of a message.
        .max_decoding_message_size(usize::MAX);
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap()
        });
        Self {
            address,
            seen,
            mode,
            open,
            server,
            openai,
        }
    }

    /// Every inference so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Discards what it has recorded; returns how many inferences that were.
    pub fn forget(&self) -> usize {
        std::mem::take(&mut *self.seen.lock().unwrap()).len()
    }

    /// How many streams of several answers are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Changes how it answers from now on.
    pub fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct StandIn {
    policy: Policy,
    open: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Seen>>>,
    mode: Arc<Mutex<Mode>>,
}

impl StandIn {
    fn answer(&self, request: &ModelInferRequest) -> Option<ModelInferResponse> {
        let named =
            |(name, model): &(
                &String,
                &tensorgate_policy::values::Shared<tensorgate_policy_compiler::raw::Model>,
            )| { model.backend_model.as_ref().unwrap_or(name) == &request.model_name };
        let (_, model) = self.policy.models.iter().find(named)?;
        let mut answer = ModelInferResponse {
            model_name: request.model_name.clone(),
            model_version: request.model_version.clone(),
            id: request.id.clone(),
            ..Default::default()
        };
        for output in &model.outputs {
            let name = output.name.clone()?;
            if !request.outputs.is_empty()
                && !request.outputs.iter().any(|asked| asked.name == name)
            {
                continue;
            }
            let shape = output
                .shape
                .as_ref()?
                .iter()
                .map(|dim| size(dim, &model.inputs, request))
                .collect::<Option<Vec<_>>>()?;
            let elements: i64 = shape.iter().product();
            let datatype = output.datatype.clone()?;
            // An element of BYTES is its length prefix, here zero.
            let width = Datatype::from_name(&datatype)?.size_bytes().unwrap_or(4);
            answer.raw_output_contents.push(Bytes::from(vec![
                0;
                usize::try_from(elements).ok()?
                    * width
            ]));
            answer.outputs.push(InferOutputTensor {
                name,
                datatype,
                shape,
                ..Default::default()
            });
        }
        Some(answer)
    }
}

/// The size of an answer's dim: as the contract fixes it, else the size of the request's dim of the
/// same name, else the smallest that is allowed.
fn size(dim: &Dim, inputs: &[Input], request: &ModelInferRequest) -> Option<i64> {
    let (name, least) = match dim {
        Dim::Fixed(size) => return i64::try_from(*size).ok(),
        Dim::Same(name) => (Some(name), 1),
        Dim::Bounded { name, min, .. } => (name.as_ref(), min.unwrap_or(1)),
    };
    let same = |dim: &Dim| match dim {
        Dim::Same(other) => Some(other) == name,
        Dim::Bounded { name: other, .. } => other.is_some() && other.as_ref() == name,
        Dim::Fixed(_) => false,
    };
    let sent = inputs.iter().find_map(|input| {
        let axis = input.shape.as_ref()?.iter().position(same)?;
        request
            .inputs
            .iter()
            .find(|sent| Some(&sent.name) == input.name.as_ref())?
            .shape
            .get(axis)
            .copied()
    });
    sent.or_else(|| i64::try_from(least).ok())
}

fn fields(metadata: &MetadataMap) -> Vec<(String, String)> {
    metadata
        .iter()
        .map(|field| match field {
            KeyAndValueRef::Ascii(name, value) => (
                name.to_string(),
                value.to_str().unwrap_or_default().to_owned(),
            ),
            KeyAndValueRef::Binary(name, value) => (name.to_string(), format!("{value:?}")),
        })
        .collect()
}

#[tonic::async_trait]
impl GrpcInferenceService for StandIn {
    type ModelStreamInferStream = Answers;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let fields = fields(request.metadata());
        let mut messages = request.into_inner();
        let message = messages.message().await?;
        let message = message.ok_or_else(|| Status::invalid_argument("no message"))?;
        if messages.message().await?.is_some() {
            return Err(Status::invalid_argument("the gate sends one message"));
        }
        let answer = self
            .answer(&message)
            .ok_or_else(|| Status::not_found(SECRET))?;
        self.seen.lock().unwrap().push(Seen { message, fields });
        let mode = *self.mode.lock().unwrap();
        let several = match mode {
            Mode::Several(several) => several,
            Mode::Hangs => Several::Stalls(0),
            _ => Several::default(),
        };
        Ok(Response::new(Answers::new(several, answer, &self.open)))
    }

    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: true }))
    }

    async fn model_ready(
        &self,
        _: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        Ok(Response::new(ModelReadyResponse { ready: true }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Err(Status::unimplemented("the tests request no metadata"))
    }

    async fn model_metadata(
        &self,
        _: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        Err(Status::unimplemented("the tests request no metadata"))
    }

    async fn model_statistics(
        &self,
        _: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        Err(Status::unimplemented("it counts nothing"))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let fields = fields(request.metadata());
        let message = request.into_inner();
        let mut answer = self
            .answer(&message)
            .ok_or_else(|| Status::not_found(SECRET))?;
        self.seen.lock().unwrap().push(Seen { message, fields });
        let mode = *self.mode.lock().unwrap();
        match mode {
            Mode::Zeros | Mode::Several(_) => Ok(Response::new(answer)),
            Mode::Fails => Err(Status::internal(SECRET)),
            Mode::BreaksTheContract => {
                for (output, raw) in answer
                    .outputs
                    .iter_mut()
                    .zip(&mut answer.raw_output_contents)
                {
                    output.shape[0] += 1;
                    *raw = Bytes::from(vec![0; raw.len() * 2]);
                }
                Ok(Response::new(answer))
            }
            Mode::NotFinite => {
                for raw in &mut answer.raw_output_contents {
                    // All bits set: a NaN in every float datatype, and -1 in every integer
                    // datatype.
                    *raw = Bytes::from(vec![0xff; raw.len()]);
                }
                Ok(Response::new(answer))
            }
            Mode::Hangs => std::future::pending().await,
            Mode::Late(time) => {
                tokio::time::sleep(time).await;
                Ok(Response::new(answer))
            }
        }
    }
}
