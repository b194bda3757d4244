//! The HTTP/2 connection of a channel, over which gRPC calls go. A call writes its frames directly
//! to the connection's queues and is woken by frames for its stream. There is no task and no queue
//! in between, which would add latency to each request.
//!
//! Each channel has one connection, opened on first use. A call that finds the connection closed
//! fails as not sent (`DialError::Closed`).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::SendRequest;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use tokio::sync::OnceCell;
use tonic::body::Body;
use tonic::codec::Decoder;
use tonic::codegen::Service;
use tonic::{Code, Status, Streaming};

use super::call::{Exchange, Incoming};
use super::connection::{CONNECT_TIMEOUT, Connector, DialError};

/// The user agent of the host.
const USER_AGENT: HeaderValue = HeaderValue::from_static("tensorgate");
/// The most bytes of header fields in a response. A gRPC server sends a handful.
const MAX_ANSWER_HEADER_BYTES: u32 = 16 << 10;
/// The flow-control windows in bytes: for one response, and for all of a connection.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 5 << 20;
/// The most open calls before the server has sent its own limit.
const FIRST_STREAMS: usize = 100;
/// The most streams that may be reset because of server errors. Beyond it the connection is closed
/// (CVE-2025-8671).
const MAX_RESET_STREAMS: usize = 1_024;
/// Header fields that gRPC uses in responses. No claim of a caller may set them.
const OWN_FIELDS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-message-type"];
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// The header field for message compression. The client accepts none.
const ENCODING: &str = "grpc-encoding";
/// The authority of a server behind a Unix socket.
const LOCAL: &str = "localhost";

/// The scheme and authority of calls.
#[derive(Clone, Debug)]
pub struct Origin {
    scheme: Scheme,
    authority: Authority,
}

impl Origin {
    /// Parses `http://host:port`, `https://host:port` or `unix:/path`.
    ///
    /// # Errors
    /// Returns what is wrong with the URI.
    pub fn parse(uri: &str) -> Result<Self, String> {
        if uri.starts_with("unix:") {
            return Ok(Self {
                scheme: Scheme::HTTP,
                authority: Authority::from_static(LOCAL),
            });
        }
        let parts = Uri::try_from(uri)
            .map_err(|error| error.to_string())?
            .into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err("it has no host".to_owned());
        };
        Ok(Self { scheme, authority })
    }

    /// The full URI of a method's path.
    fn address(&self, method: Uri) -> Result<Uri, Status> {
        let mut parts = method.into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        Uri::from_parts(parts).map_err(|error| Status::internal(error.to_string()))
    }
}

/// A channel for gRPC calls.
#[derive(Clone, Debug)]
pub struct Http2Channel {
    shared: Arc<ChannelState>,
}

#[derive(Debug)]
struct ChannelState {
    origin: Origin,
    connector: Connector,
    requests: OnceCell<SendRequest<Bytes>>,
}

impl Http2Channel {
    /// Creates a channel. Its connection is opened on first use.
    pub fn new(origin: Origin, connector: Connector) -> Self {
        Self {
            shared: Arc::new(ChannelState {
                origin,
                connector,
                requests: OnceCell::new(),
            }),
        }
    }

    /// Calls a method with an encoded message and these header fields. The response has at most
    /// `max_answer_bytes`.
    ///
    /// # Errors
    /// Returns the server's status, or why there is no response.
    pub async fn unary<D>(
        &self,
        (method, mut fields, message): (&'static str, HeaderMap, Body),
        reader: D,
        max_answer_bytes: usize,
    ) -> Result<tonic::Response<D::Item>, Status>
    where
        D: Decoder<Error = Status> + Send + 'static,
    {
        for own in OWN_FIELDS {
            fields.remove(own);
        }
        fields.insert(http::header::TE, TRAILERS);
        fields.insert(http::header::CONTENT_TYPE, GRPC);
        let mut request = Request::new(message);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(method);
        *request.headers_mut() = fields;
        let (head, body) = self.clone().send(request).await?.into_parts();
        if let Some(encoding) = head.headers.get(ENCODING)
            && encoding != "identity"
        {
            let cause = format!("an answer in encoding {encoding:?}");
            return Err(Status::unimplemented(cause));
        }
        let mut answers = match Status::from_header_map(&head.headers) {
            None => {
                Streaming::new_response(reader, body, head.status, None, Some(max_answer_bytes))
            }
            Some(status) if status.code() == Code::Ok => Streaming::new_empty(reader, body),
            Some(status) => return Err(status),
        };
        let answer = answers.message().await?;
        let answer = answer.ok_or_else(|| Status::internal("an answer without a message"))?;
        // The trailers have the status.
        answers.trailers().await?;
        Ok(tonic::Response::new(answer))
    }

    async fn send(self, request: Request<Body>) -> Result<Response<Incoming>, Status> {
        let shared = &*self.shared;
        let requests = shared.requests.get_or_try_init(|| shared.open()).await;
        let mut requests = requests.map_err(not_sent_status)?.clone();
        let (mut head, body) = request.into_parts();
        head.uri = shared.origin.address(head.uri)?;
        head.headers.insert(http::header::USER_AGENT, USER_AGENT);
        // A closed connection is reported here, or when the head is sent.
        let ready = poll_fn(|context| requests.poll_ready(context)).await;
        if ready.is_err() {
            return Err(shared.closed());
        }
        match requests.send_request(Request::from_parts(head, ()), false) {
            Ok((response, stream)) => Exchange::new(response, stream, body).await,
            Err(error) if error.is_io() || error.is_go_away() => Err(shared.closed()),
            // The head is invalid, and no server is to blame.
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }
}

impl ChannelState {
    /// Opens the connection. A task serves it as long as it or one of its calls lives.
    async fn open(&self) -> Result<SendRequest<Bytes>, DialError> {
        let connection = self.connector.connect().await?;
        let handshake = h2::client::Builder::new()
            .initial_max_send_streams(FIRST_STREAMS)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(MAX_ANSWER_HEADER_BYTES)
            .max_local_error_reset_streams(Some(MAX_RESET_STREAMS))
            .enable_push(false)
            .handshake(connection);
        let shaken = tokio::time::timeout(CONNECT_TIMEOUT, handshake).await;
        let (requests, connection) = shaken
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
            .map_err(std::io::Error::other)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(cause = error.to_string(), "connection to a backend failed");
            }
        });
        Ok(requests)
    }

    /// The connection accepts no more calls, and this call was not sent.
    fn closed(&self) -> Status {
        // Recorded before the connection is dropped, because calls may still use it.
        self.connector.state.mark_lost();
        not_sent_status(DialError::Closed)
    }
}

impl Service<Request<Body>> for Http2Channel {
    type Response = Response<Incoming>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

/// There was no connection.
fn not_sent_status(error: DialError) -> Status {
    let mut status = Status::unavailable(error.to_string());
    status.set_source(Arc::new(error));
    status
}

#[cfg(test)]
mod tests;
