//! A stream of inferences as the filter passes it on: the frames of its client.

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request};
use prost::Message as _;
use serde_json::Value;
use tensorgate_client::grpc::frame;
use tensorgate_wire::context::{Context, HEADER};
use tensorgate_wire::proto::infer_parameter::ParameterChoice;
use tensorgate_wire::proto::model_infer_request::InferInputTensor;
use tensorgate_wire::proto::{ModelInferRequest, ModelStreamInferResponse};

use super::{PATIENCE, Running, context, key};

const PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// The `traceparent` of every stream.
pub const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// The flag and the length of a frame.
const FRAME_HEADER_BYTES: usize = 5;

/// The context of a stream of `scorer` or `other`. Each stream of a test has another number, which
/// is the end of its ID.
pub fn stream_context(client: &str, number: u64) -> Context {
    let key_digits = if client == "other" { "04" } else { "03" };
    Context {
        client: Some(client.to_owned()),
        credential: Some(format!("key:{}", key_digits.repeat(8))),
        request_id: format!("8f1a2b3c-0000-4000-8000-{number:012}"),
        ..context("POST", PATH)
    }
}

/// A valid message for a model, in its frame.
pub fn message(model: &str, x: &[f32]) -> Vec<u8> {
    let message = ModelInferRequest {
        model_name: model.to_owned(),
        id: "mine".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![i64::try_from(x.len()).unwrap()],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![x.iter().flat_map(|x| x.to_le_bytes()).collect()],
        ..ModelInferRequest::default()
    };
    frame(&message.encode_to_vec())
}

/// The lines about messages in a host's audit log.
pub fn message_lines(running: &Running) -> Vec<Value> {
    let lines = running.audited().into_iter();
    let lines = lines.filter(|line| line["type"] == "decision" && !line["stream"].is_null());
    lines.collect()
}

/// A stream of which the client may send more.
pub struct OpenStream {
    response: Option<ResponseFuture>,
    /// What the client sends.
    pub body: SendStream<Bytes>,
}

impl OpenStream {
    /// Opens a stream, or another gRPC request for the path of the context.
    pub async fn new(running: &Running, context: &Context) -> Self {
        let (sender, connection) = h2::client::handshake(running.gate.connect().await)
            .await
            .unwrap();
        tokio::spawn(connection);
        let head = Request::post(format!("http://tensorgate{}", context.path))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-request-id", &context.request_id)
            .header("traceparent", TRACE)
            .header(HEADER, context.sign(&key()))
            .body(())
            .unwrap();
        let (response, body) = sender
            .ready()
            .await
            .unwrap()
            .send_request(head, false)
            .unwrap();
        Self {
            response: Some(response),
            body,
        }
    }

    /// The same, with its answers.
    pub async fn with_answers(running: &Running, context: &Context) -> (Self, StreamAnswers) {
        let mut stream = Self::new(running, context).await;
        let answers = stream.answers().await;
        (stream, answers)
    }

    /// Sends bytes. Returns whether they were taken.
    pub fn send(&mut self, bytes: impl Into<Bytes>) -> bool {
        self.body.send_data(bytes.into(), false).is_ok()
    }

    /// Ends the client's half.
    pub fn end(&mut self) {
        self.body.send_data(Bytes::new(), true).unwrap();
    }

    /// Ends the client's half. Nothing more is answered, and the stream ends well.
    pub async fn finish(mut self, answers: StreamAnswers) {
        self.end();
        answers.check_end("0").await;
    }

    /// The answers, once their head has arrived. They arrive once.
    pub async fn answers(&mut self) -> StreamAnswers {
        self.response().await.1
    }

    /// The gRPC status of a request with at most one answer.
    pub async fn status(&mut self) -> HeaderValue {
        let (head, answers) = self.response().await;
        match head.get("grpc-status") {
            Some(status) => status.clone(),
            None => answers.rest().await.1["grpc-status"].clone(),
        }
    }

    async fn response(&mut self) -> (HeaderMap, StreamAnswers) {
        let response = tokio::time::timeout(PATIENCE, self.response.take().unwrap());
        let (head, body) = response.await.unwrap().unwrap().into_parts();
        let answers = StreamAnswers {
            body,
            received: Vec::new(),
        };
        (head.headers, answers)
    }
}

/// The answers of a stream.
pub struct StreamAnswers {
    body: RecvStream,
    /// The bytes of answers that were not returned yet.
    received: Vec<u8>,
}

impl StreamAnswers {
    /// The next answer.
    pub async fn next(&mut self) -> ModelStreamInferResponse {
        let reading = async {
            loop {
                if let Some(answer) = self.take() {
                    return answer;
                }
                assert!(self.read().await, "the stream has ended");
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap()
    }

    /// The reason for which the next message was denied. It is empty for an answer of the model.
    pub async fn next_reason(&mut self) -> String {
        let answer = self.next().await;
        let response = answer.infer_response.as_ref().unwrap();
        let parameter = response.parameters.get("tensorgate_reason");
        let reason = match parameter.and_then(|parameter| parameter.parameter_choice.as_ref()) {
            Some(ParameterChoice::StringParam(reason)) => reason.clone(),
            _ => String::new(),
        };
        assert_eq!(
            reason.is_empty(),
            answer.error_message.is_empty(),
            "{answer:?}"
        );
        reason
    }

    /// Reads to the end: the bytes of all further answers, and the trailers.
    pub async fn rest(mut self) -> (Vec<u8>, HeaderMap) {
        let reading = async {
            while self.read().await {}
            self.body.trailers().await.unwrap().unwrap()
        };
        let trailers = tokio::time::timeout(PATIENCE, reading).await.unwrap();
        (self.received, trailers)
    }

    /// Checks that nothing more is answered, and that the stream ends with this gRPC status.
    pub async fn check_end(self, status: &str) {
        let (bytes, trailers) = self.rest().await;
        assert_eq!(trailers["grpc-status"], status, "{trailers:?}");
        assert!(bytes.is_empty(), "{}", bytes.escape_ascii());
    }

    /// Whether more has arrived.
    async fn read(&mut self) -> bool {
        let Some(data) = self.body.data().await else {
            return false;
        };
        let data = data.unwrap();
        let flow_control = self.body.flow_control();
        flow_control.release_capacity(data.len()).unwrap();
        self.received.extend_from_slice(&data);
        true
    }

    /// An answer that has arrived.
    fn take(&mut self) -> Option<ModelStreamInferResponse> {
        let length = self.received.get(1..FRAME_HEADER_BYTES)?;
        let length = u32::from_be_bytes(length.try_into().unwrap());
        let end = FRAME_HEADER_BYTES + usize::try_from(length).unwrap();
        let message = self.received.get(FRAME_HEADER_BYTES..end)?;
        let answer = ModelStreamInferResponse::decode(message).unwrap();
        self.received.drain(..end);
        Some(answer)
    }
}
