//! The six calls of the Open Inference Protocol, for the loaded models.
//!
//! At most [`Limits::compute`] inferences run at once, on threads other than those of the
//! connections. At most [`Limits::queue`] requests wait, and further ones are rejected. Callers get
//! the faults of their requests; the causes of internal errors go to the log only.

use std::sync::Arc;

use tensorgate_wire::proto::grpc_inference_service_server::GrpcInferenceService;
use tensorgate_wire::proto::model_metadata_response::TensorMetadata;
use tensorgate_wire::proto::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse,
    ModelStreamInferResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest,
    ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
};
use tokio::sync::Semaphore;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::infer::{self, DATATYPE, Job};
use crate::model::{Model, Port, RunError};
use crate::repository::Repository;

/// The runtime's name, as OIP's `platform`.
const PLATFORM: &str = "rten_onnx";

/// The limits of the service.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most bytes of a message in either direction.
    pub message_bytes: usize,
    /// The most inferences that run concurrently.
    pub compute: usize,
    /// The most requests in the queue.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Twice the body that the gate lets through by default.
            message_bytes: 16 << 20,
            compute: std::thread::available_parallelism().map_or(1, usize::from),
            // Equal to the policy's default for a backend.
            queue: 128,
        }
    }
}

/// The gRPC service.
#[derive(Debug)]
pub struct Service {
    repository: Repository,
    /// Permits of requests that run or are queued.
    admitted: Arc<Semaphore>,
    computing: Arc<Semaphore>,
}

impl Service {
    /// A service of the loaded models.
    pub fn new(repository: Repository, limits: Limits) -> Self {
        let compute = limits.compute.clamp(1, Semaphore::MAX_PERMITS);
        let admitted = limits
            .queue
            .saturating_add(compute)
            .min(Semaphore::MAX_PERMITS);
        Self {
            repository,
            admitted: Arc::new(Semaphore::new(admitted)),
            computing: Arc::new(Semaphore::new(compute)),
        }
    }

    /// The model and version that a request names.
    fn find(&self, name: &str, version: &str) -> Result<(u64, &Arc<Model>), Status> {
        self.repository
            .find(name, version)
            .ok_or_else(|| Status::not_found("no such model or version"))
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    type ModelStreamInferStream = BoxStream<ModelStreamInferResponse>;

    async fn model_stream_infer(
        &self,
        _: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        Err(Status::unimplemented("streaming is not supported"))
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
        // Always ready: models are loaded before the first connection.
        Ok(Response::new(ServerReadyResponse { ready: true }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        self.find(&name, &version)?;
        Ok(Response::new(ModelReadyResponse { ready: true }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: Vec::new(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let (_, model) = self.find(&name, &version)?;
        Ok(Response::new(ModelMetadataResponse {
            versions: self
                .repository
                .versions(&name)
                .map(|version| version.to_string())
                .collect(),
            name,
            platform: PLATFORM.to_owned(),
            inputs: model.inputs().iter().map(metadata).collect(),
            outputs: model.outputs().iter().map(metadata).collect(),
        }))
    }

    async fn model_statistics(
        &self,
        _: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        Err(Status::unimplemented("statistics are not supported"))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let request = request.into_inner();
        let (version, model) = self.find(&request.model_name, &request.model_version)?;
        let admitted = self
            .admitted
            .clone()
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("the queue is full"))?;
        let (name, id) = (request.model_name.clone(), request.id.clone());
        let job = infer::job(model, request)
            .map_err(|refused| Status::invalid_argument(refused.to_string()))?;
        let computing = self
            .computing
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Status::unavailable("stopping"))?;
        let model = Arc::clone(model);
        let done = tokio::task::spawn_blocking(move || {
            // Held until the work is done, even if the caller is gone, because it limits the work.
            let _held = (admitted, computing);
            let Job { inputs, wanted } = job;
            model
                .run(inputs, &wanted)
                .map(|results| infer::answer(&model, &wanted, results))
        });
        let outcome = done
            .await
            .unwrap_or_else(|died| Err(RunError::Runtime(died.to_string())));
        match outcome {
            Ok(answer) => Ok(Response::new(ModelInferResponse {
                model_name: name,
                model_version: version.to_string(),
                id,
                ..answer
            })),
            Err(cause) => {
                tracing::error!(model = name, version, %cause, "a model failed");
                Err(Status::internal("the model failed"))
            }
        }
    }
}

/// A tensor of a signature in OIP's format: -1 for a dynamic dimension.
fn metadata(port: &Port) -> TensorMetadata {
    let shape = port.shape.iter().map(|dim| match dim {
        Ok(size) => i64::try_from(*size).unwrap_or(i64::MAX),
        Err(_) => -1,
    });
    TensorMetadata {
        name: port.name.clone(),
        datatype: DATATYPE.to_owned(),
        shape: shape.collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use tensorgate_wire::proto::InferTensorContents;
    use tensorgate_wire::proto::model_infer_request::InferInputTensor;
    use tonic::Code;

    use super::*;

    fn service(compute: usize, queue: usize) -> Service {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        Service::new(
            Repository::load(&models).unwrap(),
            Limits {
                compute,
                queue,
                ..Limits::default()
            },
        )
    }

    fn request() -> Request<ModelInferRequest> {
        let contents = InferTensorContents {
            fp32_contents: vec![0.0; 64],
            ..Default::default()
        };
        let image = InferInputTensor {
            name: "image".into(),
            datatype: DATATYPE.into(),
            shape: vec![1, 1, 8, 8],
            contents: Some(contents),
            ..Default::default()
        };
        Request::new(ModelInferRequest {
            model_name: "digits".into(),
            inputs: vec![image],
            ..Default::default()
        })
    }

    #[tokio::test]
    async fn what_finds_no_place_to_wait_is_refused_at_once() {
        let service = service(1, 1);
        let places = service
            .admitted
            .clone()
            .acquire_many_owned(2)
            .await
            .unwrap();
        let refused = service.model_infer(request()).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        drop(places);
        service.model_infer(request()).await.unwrap();
    }

    #[tokio::test]
    async fn a_request_waits_until_another_has_computed() {
        let service = service(1, 1);
        let other = service.computing.clone().acquire_owned().await.unwrap();
        let mut waiting = service.model_infer(request());
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(waiting.as_mut().poll(context).is_ready())
        })
        .await;
        assert!(!polled, "it did not wait");
        assert_eq!(
            service.admitted.available_permits(),
            1,
            "it holds no place while it waits"
        );
        drop(other);
        waiting.await.unwrap();
        assert_eq!(
            (
                service.admitted.available_permits(),
                service.computing.available_permits()
            ),
            (2, 1)
        );
    }

    #[tokio::test]
    async fn a_refused_request_keeps_no_place() {
        let service = service(1, 0);
        for _ in 0..3 {
            let mut bad = request();
            bad.get_mut().inputs.clear();
            assert_eq!(
                service.model_infer(bad).await.unwrap_err().code(),
                Code::InvalidArgument
            );
        }
        service.model_infer(request()).await.unwrap();
    }
}
