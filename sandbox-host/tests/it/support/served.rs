//! Servers of TF Serving's and TorchServe's protocols whose faults the test chooses. Each answers
//! `y = x` and `z = how many`. Their messages are declared here, independently of the host's code.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use prost::Message;
use serde_json::json;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Request, Response, Status};

pub use super::served_messages::*;

/// `DT_FLOAT` and `DT_INT64`.
pub const FLOAT: i32 = 1;
pub const INT64: i32 = 9;

/// How a server answers an inference.
pub enum Act {
    Answer,
    /// Changes TF Serving's answer.
    Predicted(Box<dyn Fn(&mut PredictResponse) + Send + Sync>),
    /// Replaces TorchServe's answer.
    Prediction(Vec<u8>),
    Never,
    Refuse(Code),
    Slow(Duration),
}

#[derive(Default)]
pub struct Seen {
    begun: AtomicUsize,
    inside: AtomicUsize,
    looked: AtomicUsize,
    pub predict: Mutex<Option<PredictRequest>>,
    pub predictions: Mutex<Option<PredictionsRequest>>,
    /// The field names of the last inference's head.
    pub fields: Mutex<Vec<String>>,
    /// Its answer about its model; `None` is the truth.
    pub signature: Mutex<Option<SignatureDef>>,
    /// Whether it reports that it is unhealthy.
    pub unwell: Mutex<bool>,
}

#[derive(Clone)]
struct State {
    act: Arc<Mutex<Arc<Act>>>,
    seen: Arc<Seen>,
}

/// One server; both protocols are spoken at its address.
pub struct Served {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    state: State,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Served {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    pub fn start_at(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let seen = Arc::new(Seen::default());
        let state = State {
            act: Arc::new(Mutex::new(Arc::new(Act::Answer))),
            seen: Arc::clone(&seen),
        };
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (predicting, models, torch) = (
            Predicting(state.clone()),
            Models(state.clone()),
            Torch(state.clone()),
        );
        runtime.spawn(async move {
            let incoming =
                TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
            tonic::transport::Server::builder()
                .add_service(predicting)
                .add_service(models)
                .add_service(torch)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self {
            address,
            seen,
            state,
            runtime: Some(runtime),
        }
    }

    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, act: Act) {
        *self.state.act.lock().unwrap() = Arc::new(act);
    }

    pub fn inside(&self) -> usize {
        self.seen.inside.load(Ordering::SeqCst)
    }

    pub fn begun(&self) -> usize {
        self.seen.begun.load(Ordering::SeqCst)
    }

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

impl Drop for Served {
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

/// TF Serving's true description of the model.
pub fn truth() -> SignatureDef {
    let info = |name: &str, dtype: i32, shape: &[i64]| TensorInfo {
        name: format!("serving_default_{name}:0"),
        dtype,
        tensor_shape: Some(TensorShape::of(shape)),
    };
    let outputs = [("y", FLOAT, -1), ("z", INT64, 1)];
    SignatureDef {
        inputs: HashMap::from([("x".to_owned(), info("x", FLOAT, &[-1]))]),
        outputs: outputs
            .map(|(name, dtype, size)| (name.to_owned(), info(name, dtype, &[size])))
            .into(),
        method_name: "tensorflow/serving/predict".to_owned(),
    }
}

fn spec_of(model_spec: Option<ModelSpec>) -> Result<ModelSpec, Status> {
    let spec = model_spec.unwrap_or_default();
    let version = spec.version.as_ref().map(|version| version.value);
    if spec.name != "vec-at-backend" || version != Some(7) {
        return Err(Status::not_found("secret: /models/vec"));
    }
    Ok(spec)
}

impl State {
    /// The part of an inference that both protocols have in common.
    async fn begin(&self, act: &Act) -> Result<(), Status> {
        match act {
            Act::Slow(time) => tokio::time::sleep(*time).await,
            Act::Never => std::future::pending().await,
            Act::Refuse(code) => return Err(Status::new(*code, "secret: /models/vec.onnx")),
            Act::Answer | Act::Predicted(_) | Act::Prediction(_) => {}
        }
        Ok(())
    }

    fn head<T>(&self, request: &Request<T>) {
        let fields = request.metadata().keys().map(|key| match key {
            tonic::metadata::KeyRef::Ascii(key) => key.as_str().to_owned(),
            tonic::metadata::KeyRef::Binary(key) => key.as_str().to_owned(),
        });
        *self.seen.fields.lock().unwrap() = fields.collect();
    }

    async fn predict(
        self,
        request: Request<PredictRequest>,
    ) -> Result<Response<PredictResponse>, Status> {
        self.seen.begun.fetch_add(1, Ordering::SeqCst);
        self.seen.inside.fetch_add(1, Ordering::SeqCst);
        let _inside = Inside(&self.seen.inside);
        self.head(&request);
        let request = request.into_inner();
        *self.seen.predict.lock().unwrap() = Some(request.clone());
        let act = Arc::clone(&self.act.lock().unwrap());
        self.begin(&act).await?;
        let model_spec = spec_of(request.model_spec)?;
        let x = request.inputs["x"].tensor_content.clone();
        let count = i64::try_from(x.len() / 4).unwrap();
        let proto = |dtype, size| TensorProto {
            dtype,
            tensor_shape: Some(TensorShape::of(&[size])),
            ..TensorProto::default()
        };
        // As TF Serving does by default: in typed lists.
        let floats = x
            .chunks(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        let y = TensorProto {
            float_val: floats.collect(),
            ..proto(FLOAT, count)
        };
        let z = TensorProto {
            int64_val: vec![count],
            ..proto(INT64, 1)
        };
        let mut answer = PredictResponse {
            outputs: HashMap::from([("y".to_owned(), y), ("z".to_owned(), z)]),
            model_spec: Some(model_spec),
        };
        if let Act::Predicted(change) = &*act {
            change(&mut answer);
        }
        Ok(Response::new(answer))
    }

    async fn predictions(
        self,
        request: Request<PredictionsRequest>,
    ) -> Result<Response<PredictionResponse>, Status> {
        self.seen.begun.fetch_add(1, Ordering::SeqCst);
        self.seen.inside.fetch_add(1, Ordering::SeqCst);
        let _inside = Inside(&self.seen.inside);
        self.head(&request);
        let request = request.into_inner();
        *self.seen.predictions.lock().unwrap() = Some(request.clone());
        let act = Arc::clone(&self.act.lock().unwrap());
        self.begin(&act).await?;
        if (request.model_name.as_str(), request.model_version.as_str()) != ("vec-at-backend", "7")
        {
            return Err(Status::not_found("secret: /models/vec"));
        }
        let x: serde_json::Value = serde_json::from_slice(&request.input["x"]).unwrap();
        let count = x.as_array().unwrap().len();
        let prediction = match &*act {
            Act::Prediction(bytes) => bytes.clone(),
            _ => json!({"y": x, "z": [count]}).to_string().into_bytes(),
        };
        Ok(Response::new(PredictionResponse { prediction }))
    }

    async fn metadata(
        self,
        request: Request<Question>,
    ) -> Result<Response<MetadataResponse>, Status> {
        self.seen.looked.fetch_add(1, Ordering::SeqCst);
        let request = request.into_inner();
        assert_eq!(request.metadata_field, ["signature_def"]);
        let spec = spec_of(request.model_spec)?;
        let signature = self.seen.signature.lock().unwrap().clone();
        let signatures = SignatureDefMap {
            signature_def: HashMap::from([(
                "serving_default".to_owned(),
                signature.unwrap_or_else(truth),
            )]),
        };
        let any = Any {
            type_url: "type.googleapis.com/tensorflow.serving.SignatureDefMap".to_owned(),
            value: signatures.encode_to_vec(),
        };
        Ok(Response::new(MetadataResponse {
            model_spec: Some(spec),
            metadata: HashMap::from([("signature_def".to_owned(), any)]),
        }))
    }

    async fn status(self, request: Request<Question>) -> Result<Response<StatusResponse>, Status> {
        spec_of(request.into_inner().model_spec)?;
        let status = |version, state| VersionStatus { version, state };
        Ok(Response::new(StatusResponse {
            model_version_status: vec![status(7, 30)],
        }))
    }

    async fn ping(self, _: Request<Empty>) -> Result<Response<Health>, Status> {
        self.seen.looked.fetch_add(1, Ordering::SeqCst);
        let unwell = *self.seen.unwell.lock().unwrap();
        let health = if unwell { "Unhealthy" } else { "Healthy" };
        Ok(Response::new(Health {
            health: format!("{{\n  \"status\": \"{health}\"\n}}\n"),
        }))
    }
}

/// Messages of two types.
struct Messages<A, B>(PhantomData<(A, B)>);

impl<A: Message + Default + 'static, B: Message + Default + 'static> Codec for Messages<A, B> {
    type Encode = A;
    type Decode = B;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<A: Message, B> Encoder for Messages<A, B> {
    type Item = A;
    type Error = Status;

    fn encode(&mut self, message: A, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(into).unwrap();
        Ok(())
    }
}

impl<A, B: Message + Default> Decoder for Messages<A, B> {
    type Item = B;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<B>, Status> {
        Ok(Some(B::decode(from).unwrap()))
    }
}

type Answering<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A method.
struct Method<F>(F);

impl<A, B, F, R> Service<Request<A>> for Method<F>
where
    F: FnMut(Request<A>) -> R,
    R: Future<Output = Result<Response<B>, Status>> + Send + 'static,
{
    type Response = Response<B>;
    type Error = Status;
    type Future = Answering<Result<Response<B>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        Box::pin((self.0)(request))
    }
}

/// Answers one call of a method.
async fn unary<A, B, F, R>(method: F, request: http::Request<Body>) -> http::Response<Body>
where
    A: Message + Default + 'static,
    B: Message + Default + 'static,
    F: FnMut(Request<A>) -> R,
    R: Future<Output = Result<Response<B>, Status>> + Send + 'static,
{
    let codec = Messages::<B, A>(PhantomData);
    Grpc::new(codec).unary(Method(method), request).await
}

macro_rules! service {
    ($kind:ident, $name:literal, $($method:literal => $answer:ident),*) => {
        #[derive(Clone)]
        struct $kind(State);

        impl NamedService for $kind {
            const NAME: &'static str = $name;
        }

        impl Service<http::Request<Body>> for $kind {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = Answering<Result<http::Response<Body>, Infallible>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<Body>) -> Self::Future {
                let state = self.0.clone();
                Box::pin(async move {
                    let path = request.uri().path().to_owned();
                    $(if path == concat!("/", $name, "/", $method) {
                        return Ok(unary(|asked| state.clone().$answer(asked), request).await);
                    })*
                    Ok(Status::unimplemented("not used in these tests").into_http())
                })
            }
        }
    };
}

service!(Predicting, "tensorflow.serving.PredictionService", "Predict" => predict, "GetModelMetadata" => metadata);
service!(Models, "tensorflow.serving.ModelService", "GetModelStatus" => status);
service!(Torch, "org.pytorch.serve.grpc.inference.InferenceAPIsService", "Predictions" => predictions, "Ping" => ping);
