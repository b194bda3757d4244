//! A vector's request over a real socket: HTTP/1.1 written by hand for REST, HTTP/2 for gRPC.

use std::net::SocketAddr;

use tensorgate_client::http1::Framing;
use tensorgate_client::{ClientError, Reply, grpc, http1};
use tensorgate_policy::Protocol;
use tensorgate_vectors::RawRequest;

/// Sends it on a connection of its own.
pub async fn send(gate: SocketAddr, request: &RawRequest) -> Result<Reply, ClientError> {
    match request.protocol {
        Protocol::OipRest => {
            let declared = request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"content-length"));
            let framing = match request.chunk_bytes {
                Some(bytes) => Framing::Chunked(bytes),
                None if declared => Framing::AsIs,
                None => Framing::Length,
            };
            http1::send(gate, &request.method, &request.path, &request.headers, &request.body, framing).await
        }
        Protocol::OipGrpc => {
            let mut message = http::Request::builder().method(request.method.as_str()).uri(format!("http://{gate}{}", request.path)).body(())?;
            *message.headers_mut() = grpc::map(&request.headers)?;
            grpc::send_as_is(gate, message, &request.pieces(), None).await
        }
    }
}

/// A REST request with a key, its body declared.
pub async fn rest(gate: SocketAddr, method: &str, path: &str, key: Option<&str>, body: &str) -> Result<Reply, ClientError> {
    let mut fields = vec![("content-type", "application/json")];
    fields.extend(key.map(|key| ("x-api-key", key)));
    http1::send(gate, method, path, &fields, body.as_bytes(), Framing::Length).await
}
