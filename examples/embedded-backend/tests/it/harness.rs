//! A running server, a client of it, and the held-out split.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tensorgate_embedded::{Address, Limits, Listener, Repository, serve};
use tensorgate_wire::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use tensorgate_wire::proto::model_infer_request::InferInputTensor;
use tensorgate_wire::proto::{InferTensorContents, ModelInferRequest, ModelInferResponse};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

pub type Client = GrpcInferenceServiceClient<Channel>;

/// Pixels of an image.
pub const PIXELS: usize = 64;
/// Classes of the model.
pub const CLASSES: usize = 10;

/// A client of a server at `unix:/path` or `http://address:port`.
pub async fn connect(uri: String) -> Client {
    Client::new(Endpoint::from_shared(uri).unwrap().connect().await.unwrap())
}

/// The folder of models that the repository ships.
pub fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

/// A server of the shipped models in this process, on a socket of its own.
pub struct Server {
    pub client: Client,
    pub folder: TempDir,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), tensorgate_embedded::ServeError>>,
}

impl Server {
    pub async fn start(limits: Limits) -> Self {
        let folder = TempDir::new().unwrap();
        let address = Address::Unix(folder.path().join("cpu.sock"));
        let listener = Listener::bind(&address).await.unwrap();
        let uri = listener.address().unwrap().to_string();
        let repository = Repository::load(&models()).unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, repository, limits, async {
            let _ = stopped.await;
        }));
        let client = connect(uri).await;
        Self {
            client,
            folder,
            stop,
            served,
        }
    }

    /// Shuts it down and waits for its end.
    pub async fn stop(self) {
        let Self {
            client,
            folder,
            stop,
            served,
        } = self;
        drop(client);
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
        assert!(
            !folder.path().join("cpu.sock").exists(),
            "the socket is left behind"
        );
    }
}

/// The held-out split as `examples/models/digits/train.py` documents it.
pub struct Split {
    images: Vec<u8>,
    pub labels: Vec<u8>,
    answers: Vec<f32>,
}

impl Split {
    pub fn load() -> Self {
        let bytes = std::fs::read(models().join("digits/heldout.bin")).unwrap();
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(&bytes[..8], b"TGSPLIT1");
        let (count, pixels, classes) = (number(8), number(12), number(16));
        assert_eq!((pixels, classes), (PIXELS, CLASSES));
        let (images, rest) = bytes[20..].split_at(count * PIXELS);
        let (labels, answers) = rest.split_at(count);
        assert_eq!(answers.len(), count * CLASSES * 4);
        Self {
            images: images.to_vec(),
            labels: labels.to_vec(),
            answers: answers
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
                .collect(),
        }
    }

    pub fn pixels(&self, first: usize, count: usize) -> Vec<f32> {
        self.images[first * PIXELS..][..count * PIXELS]
            .iter()
            .map(|pixel| f32::from(*pixel))
            .collect()
    }

    pub fn answers(&self, first: usize, count: usize) -> &[f32] {
        &self.answers[first * CLASSES..][..count * CLASSES]
    }
}

/// A request for digits, raw contents.
pub fn raw(pixels: &[f32]) -> ModelInferRequest {
    let mut request = typed(pixels);
    request.inputs[0].contents = None;
    let bytes: Vec<u8> = pixels
        .iter()
        .flat_map(|pixel| pixel.to_le_bytes())
        .collect();
    request.raw_input_contents = vec![bytes.into()];
    request
}

/// The same with typed contents.
pub fn typed(pixels: &[f32]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "digits".into(),
        model_version: "1".into(),
        inputs: vec![InferInputTensor {
            name: "image".into(),
            datatype: "FP32".into(),
            shape: vec![(pixels.len() / PIXELS) as i64, 1, 8, 8],
            contents: Some(InferTensorContents {
                fp32_contents: pixels.to_vec(),
                ..Default::default()
            }),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// An answer's probabilities.
pub fn probabilities(response: &ModelInferResponse) -> Vec<f32> {
    let [output] = response.outputs.as_slice() else {
        panic!("{response:?}")
    };
    let [raw] = response.raw_output_contents.as_slice() else {
        panic!("{response:?}")
    };
    assert_eq!(
        (output.name.as_str(), output.datatype.as_str()),
        ("probabilities", "FP32")
    );
    assert_eq!(
        output.shape,
        [(raw.len() / CLASSES / 4) as i64, CLASSES as i64]
    );
    assert!(output.contents.is_none());
    raw.chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}
