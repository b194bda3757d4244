//! Sends a vector's request over a real socket: HTTP/1.1 written by hand for REST, HTTP/2 for gRPC.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tensorgate_client::http1::Framing;
use tensorgate_client::{ClientError, Reply, grpc, http1};
use tensorgate_vectors::RawRequest;

/// Sends the request on a connection of its own.
pub async fn send(gate: SocketAddr, request: &RawRequest) -> Result<Reply, ClientError> {
    if request.protocol.is_grpc() {
        let mut message = http::Request::builder()
            .method(request.method.as_str())
            .uri(format!("http://{gate}{}", request.path))
            .body(())?;
        *message.headers_mut() = grpc::map(&request.headers)?;
        return grpc::send_as_is(gate, message, &request.pieces(), None).await;
    }
    let declared = request
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case(b"content-length"));
    let framing = match request.chunk_bytes {
        Some(bytes) => Framing::Chunked(bytes),
        None if declared => Framing::AsIs,
        None => Framing::Length,
    };
    http1::send(
        gate,
        &request.method,
        &request.path,
        &request.headers,
        &request.body,
        framing,
    )
    .await
}

/// A valid body for the vectors' model `vec`.
pub const VALID: &str =
    r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}"#;

/// Its path.
pub const PATH: &str = "/v2/models/vec/infer";

/// Header fields of a REST request with a key.
pub fn fields(key: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    vec![
        (b"content-type".to_vec(), b"application/json".to_vec()),
        (b"x-api-key".to_vec(), key.as_bytes().to_vec()),
    ]
}

/// Sends the valid request over REST, with further header fields.
pub async fn good(gate: SocketAddr, more: &[(&[u8], &[u8])]) -> Result<Reply, ClientError> {
    let mut fields = fields(&crate::policy::key("scorer"));
    fields.extend(
        more.iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec())),
    );
    http1::send(
        gate,
        "POST",
        PATH,
        &fields,
        VALID.as_bytes(),
        Framing::Length,
    )
    .await
}

/// The outcome of a client's valid request over REST: `ok`, the rejection reason, or the status of
/// an answer without a reason.
pub async fn outcome(
    gate: SocketAddr,
    client: &str,
    more: &[(&str, &str)],
) -> Result<String, ClientError> {
    let mut fields = fields(&crate::policy::key(client));
    fields.extend(
        more.iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())),
    );
    let body = VALID.as_bytes();
    let reply = http1::send(gate, "POST", PATH, &fields, body, Framing::Length).await?;
    Ok(match reply.status {
        200 => "ok".to_owned(),
        status => reply.reason().unwrap_or_else(|| status.to_string()),
    })
}

/// How long a condition may take to come true on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Repeats the request until it has the expected outcome.
///
/// # Panics
///
/// If it never has, or no answer comes.
pub async fn until(gate: SocketAddr, client: &str, wanted: &str, what: &str) {
    let started = Instant::now();
    loop {
        let seen = outcome(gate, client, &[]).await;
        if seen.as_deref().is_ok_and(|seen| seen == wanted) {
            return;
        }
        assert!(
            seen.is_ok() && started.elapsed() < PATIENCE,
            "{what}: {seen:?} instead of {wanted}"
        );
    }
}

/// Waits until a condition holds.
///
/// # Panics
///
/// If it never does.
pub async fn met(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The interval between two checks of files that another process writes.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Sends the valid request over gRPC, in these pieces and with these trailers.
pub async fn good_grpc(
    gate: SocketAddr,
    piece_bytes: usize,
    trailers: Option<tensorgate_client::Fields>,
) -> Result<Reply, ClientError> {
    grpc_message(gate, &message("x"), piece_bytes, trailers).await
}

/// A message for `vec` whose one input has this name.
pub fn message(input: &str) -> Vec<u8> {
    use tensorgate_wire::proto::ModelInferRequest;
    use tensorgate_wire::proto::model_infer_request::InferInputTensor;
    let tensor = InferInputTensor {
        name: input.into(),
        datatype: "FP32".into(),
        shape: vec![2],
        ..Default::default()
    };
    let raw = [1_f32, 2.0].map(f32::to_le_bytes).concat();
    let request = ModelInferRequest {
        model_name: "vec".into(),
        inputs: vec![tensor],
        raw_input_contents: vec![raw.into()],
        ..Default::default()
    };
    prost::Message::encode_to_vec(&request)
}

/// Sends a message in its frame to `ModelInfer`.
pub async fn grpc_message(
    gate: SocketAddr,
    message: &[u8],
    piece_bytes: usize,
    trailers: Option<tensorgate_client::Fields>,
) -> Result<Reply, ClientError> {
    let call = grpc::Call {
        path: "/inference.GRPCInferenceService/ModelInfer".into(),
        fields: vec![(
            b"x-api-key".to_vec(),
            crate::policy::key("scorer").into_bytes(),
        )],
        pieces: grpc::frame(message)
            .chunks(piece_bytes)
            .map(<[u8]>::to_vec)
            .collect(),
        trailers,
    };
    grpc::send(gate, &call).await
}
