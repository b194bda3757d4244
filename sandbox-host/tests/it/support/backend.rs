//! A model server whose faults are chosen by the test. It answers `y = x` and `z = how many`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tensorgate_wire::encode::FINAL_RESPONSE;
use tensorgate_wire::proto::grpc_inference_service_server::{
    GrpcInferenceService, GrpcInferenceServiceServer,
};
use tensorgate_wire::proto::infer_parameter::ParameterChoice;
use tensorgate_wire::proto::model_infer_response::InferOutputTensor;
use tensorgate_wire::proto::model_metadata_response::TensorMetadata;
use tensorgate_wire::proto::{self, ModelInferRequest, ModelInferResponse, ModelMetadataResponse};
use tokio::sync::Semaphore;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

/// How the server answers an inference.
pub enum Act {
    /// Answers.
    Answer,
    /// Answers with a changed message.
    Change(Box<dyn Fn(&mut ModelInferResponse) + Send + Sync>),
    /// Answers once the test gives a permit. Of several answers, the first needs none.
    Hold(Arc<Semaphore>),
    /// Never answers.
    Never,
    /// Answers with an error status.
    Refuse(tonic::Code),
    /// Answers after this time.
    Slow(Duration),
    /// Does this for inferences of a version, and answers those of others normally.
    For(&'static str, Box<Self>),
    /// Does the first for inferences of a version, and the second for those of others.
    Either(&'static str, Box<Self>, Box<Self>),
}

/// The answers to one message of a stream.
const MOST_ANSWERS: usize = 100;
/// The same of a server that waits for permits.
const PERMITTED_ANSWERS: usize = 3;

#[derive(Default)]
pub struct Seen {
    /// Inferences received so far.
    pub begun: AtomicUsize,
    /// Inferences in progress.
    pub inside: AtomicUsize,
    /// Metadata requests in progress, and the most that ever were.
    pub asking: AtomicUsize,
    pub asked_at_once: AtomicUsize,
    /// How many times its model's metadata was requested.
    pub looked: AtomicUsize,
    /// How long it takes to report whether a model is ready.
    pub thinks: Mutex<Option<Duration>>,
    /// It never answers readiness requests for models with this prefix.
    pub mute_of: Mutex<Option<&'static str>>,
    /// Its answer about its model; `None` is the truth.
    pub says: Mutex<Option<Result<ModelMetadataResponse, tonic::Code>>>,
    /// The last request, and its `grpc-timeout`.
    pub last: Mutex<Option<(ModelInferRequest, Option<String>)>>,
    /// The `traceparent` of the last request.
    pub traceparent: Mutex<Option<String>>,
}

pub struct Backend {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    act: Arc<Mutex<Arc<Act>>>,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Service {
    act: Arc<Mutex<Arc<Act>>>,
    seen: Arc<Seen>,
}

impl Backend {
    /// Starts one on threads of its own, so that it can die with all its connections.
    pub fn start(act: Act) -> Self {
        Self::start_at(act, "127.0.0.1:0".parse().unwrap())
    }

    pub fn start_at(act: Act, address: SocketAddr) -> Self {
        Self::start_saying(act, address, Ok(truth()))
    }

    /// Starts one that describes its model in this way from its first answer on.
    pub fn start_saying(
        act: Act,
        address: SocketAddr,
        said: Result<ModelMetadataResponse, tonic::Code>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let seen = Arc::new(Seen {
            says: Mutex::new(Some(said)),
            ..Seen::default()
        });
        let act = Arc::new(Mutex::new(Arc::new(act)));
        let service = Service {
            act: Arc::clone(&act),
            seen: Arc::clone(&seen),
        };
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let incoming =
                TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
            let service = GrpcInferenceServiceServer::new(service);
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self {
            address,
            seen,
            act,
            runtime: Some(runtime),
        }
    }

    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes how it answers from now on.
    pub fn set(&self, act: Act) {
        *self.act.lock().unwrap() = Arc::new(act);
    }

    /// Changes its answer about its model from now on.
    pub fn says(&self, said: Result<ModelMetadataResponse, tonic::Code>) {
        *self.seen.says.lock().unwrap() = Some(said);
    }

    /// Inferences received so far.
    pub fn begun(&self) -> usize {
        self.seen.begun.load(Ordering::SeqCst)
    }

    /// Inferences in progress.
    pub fn inside(&self) -> usize {
        self.seen.inside.load(Ordering::SeqCst)
    }

    /// How many times a prober has checked it.
    pub fn looked(&self) -> usize {
        self.seen.looked.load(Ordering::SeqCst)
    }

    /// Dies as a process dies: every connection breaks.
    pub fn die(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.die();
    }
}

/// Decrements a counter when dropped, whether answered or cancelled.
struct Inside<'a>(&'a AtomicUsize);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub fn output(name: &str, datatype: &str, shape: &[i64]) -> InferOutputTensor {
    InferOutputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..InferOutputTensor::default()
    }
}

/// One tensor of a description.
pub fn described(name: &str, datatype: &str, shape: &[i64]) -> TensorMetadata {
    TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
    }
}

/// The true description of the model.
pub fn truth() -> ModelMetadataResponse {
    ModelMetadataResponse {
        name: "vec-at-backend".to_owned(),
        versions: vec!["6".to_owned(), "7".to_owned()],
        platform: "stand-in".to_owned(),
        inputs: vec![described("x", "FP32", &[-1])],
        outputs: vec![
            described("y", "FP32", &[-1]),
            described("z", "INT64", &[1]),
            described("unasked", "BYTES", &[-1]),
        ],
    }
}

fn good(request: &ModelInferRequest) -> ModelInferResponse {
    let x = request.raw_input_contents[0].clone();
    let count = i64::try_from(x.len() / 4).unwrap();
    ModelInferResponse {
        model_name: request.model_name.clone(),
        model_version: request.model_version.clone(),
        id: request.id.clone(),
        outputs: vec![output("y", "FP32", &[count]), output("z", "INT64", &[1])],
        raw_output_contents: vec![x, Bytes::copy_from_slice(&count.to_le_bytes())],
        ..ModelInferResponse::default()
    }
}

/// Several answers. Each but the first needs a permit, and each says whether it is the last.
fn answers_on_permits(
    answer: proto::ModelStreamInferResponse,
    permits: Arc<Semaphore>,
) -> BoxStream<proto::ModelStreamInferResponse> {
    let answers = tokio_stream::iter(1..=PERMITTED_ANSWERS).then(move |number| {
        let (mut answer, permits) = (answer.clone(), Arc::clone(&permits));
        async move {
            if number > 1 {
                permits.acquire().await.unwrap().forget();
            }
            let is_last = ParameterChoice::BoolParam(number == PERMITTED_ANSWERS);
            let parameter = proto::InferParameter {
                parameter_choice: Some(is_last),
            };
            if let Some(response) = &mut answer.infer_response {
                let name = FINAL_RESPONSE.to_owned();
                response.parameters.insert(name, parameter);
            }
            Ok::<_, Status>(answer)
        }
    });
    Box::pin(answers)
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    type ModelStreamInferStream = BoxStream<proto::ModelStreamInferResponse>;

    /// Answers one message several times. A server that waits for permits marks the last answer.
    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let message = request.into_inner().message().await?;
        let answer = proto::ModelStreamInferResponse {
            error_message: String::new(),
            infer_response: message.as_ref().map(good),
        };
        let act = Arc::clone(&self.act.lock().unwrap());
        let answers: Self::ModelStreamInferStream = match &*act {
            Act::Hold(permits) => answers_on_permits(answer, Arc::clone(permits)),
            _ => {
                let answers = std::iter::repeat_n(answer, MOST_ANSWERS).map(Ok);
                Box::pin(tokio_stream::iter(answers))
            }
        };
        Ok(Response::new(answers))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        self.seen.inside.fetch_add(1, Ordering::SeqCst);
        let _inside = Inside(&self.seen.inside);
        let field = |name: &str| {
            let value = request.metadata().get(name);
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        let timeout = field("grpc-timeout");
        *self.seen.traceparent.lock().unwrap() = field("traceparent");
        let request = request.into_inner();
        *self.seen.last.lock().unwrap() = Some((request.clone(), timeout));
        self.seen.begun.fetch_add(1, Ordering::SeqCst);
        let mut answer = good(&request);
        let act = Arc::clone(&self.act.lock().unwrap());
        let act = match &*act {
            Act::For(version, act) if *version == request.model_version => act,
            Act::For(..) => &Act::Answer,
            Act::Either(version, act, _) if *version == request.model_version => act,
            Act::Either(_, _, other) => other,
            act => act,
        };
        match act {
            Act::For(..) | Act::Either(..) => panic!("one version's act within another's"),
            Act::Answer => {}
            Act::Slow(time) => tokio::time::sleep(*time).await,
            Act::Change(change) => change(&mut answer),
            Act::Hold(permits) => permits.acquire().await.unwrap().forget(),
            Act::Never => std::future::pending().await,
            Act::Refuse(code) => return Err(Status::new(*code, "secret: /models/vec.onnx")),
        }
        Ok(Response::new(answer))
    }

    async fn server_live(
        &self,
        _: Request<proto::ServerLiveRequest>,
    ) -> Result<Response<proto::ServerLiveResponse>, Status> {
        Ok(Response::new(proto::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<proto::ServerReadyRequest>,
    ) -> Result<Response<proto::ServerReadyResponse>, Status> {
        Ok(Response::new(proto::ServerReadyResponse { ready: true }))
    }

    async fn model_ready(
        &self,
        request: Request<proto::ModelReadyRequest>,
    ) -> Result<Response<proto::ModelReadyResponse>, Status> {
        let asking = self.seen.asking.fetch_add(1, Ordering::SeqCst) + 1;
        self.seen.asked_at_once.fetch_max(asking, Ordering::SeqCst);
        let _asking = Inside(&self.seen.asking);
        let thinks = *self.seen.thinks.lock().unwrap();
        if let Some(time) = thinks {
            tokio::time::sleep(time).await;
        }
        let request = request.into_inner();
        let mute_of = *self.seen.mute_of.lock().unwrap();
        if mute_of.is_some_and(|names| request.name.starts_with(names)) {
            std::future::pending::<()>().await;
        }
        let ready =
            request.name.starts_with("vec-at-backend") && ["6", "7"].contains(&&*request.version);
        Ok(Response::new(proto::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<proto::ServerMetadataRequest>,
    ) -> Result<Response<proto::ServerMetadataResponse>, Status> {
        Err(Status::internal("not used in these tests"))
    }

    async fn model_metadata(
        &self,
        _: Request<proto::ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        self.seen.looked.fetch_add(1, Ordering::SeqCst);
        match self.seen.says.lock().unwrap().clone() {
            Some(Ok(said)) => Ok(Response::new(said)),
            Some(Err(code)) => Err(Status::new(code, "secret: /models/vec.onnx")),
            None => Ok(Response::new(truth())),
        }
    }

    async fn model_statistics(
        &self,
        _: Request<proto::ModelStatisticsRequest>,
    ) -> Result<Response<proto::ModelStatisticsResponse>, Status> {
        Err(Status::internal("not used in these tests"))
    }
}
