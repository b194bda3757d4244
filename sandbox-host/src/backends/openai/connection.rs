//! One HTTP/1.1 connection for one request. It ends with this, whatever is still to come over it.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;

use crate::backends::BackendError;
use crate::backends::link::Dialer;

/// Header fields of an answer; servers send a dozen.
const MAX_HEADERS: usize = 64;
/// What is read ahead of an answer's head, bytes: its header fields fit in.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// The connection.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Connection {
    /// Connects to a server.
    pub(super) async fn open(dialer: &Dialer) -> Result<Self, BackendError> {
        let none =
            |error: &dyn std::fmt::Display| BackendError::Unsent(format!("no connection: {error}"));
        let stream = dialer.dial().await.map_err(|error| none(&error))?;
        let (sender, connection) = Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| none(&error))?;
        let task = tokio::spawn(async move {
            // What broke is told to whoever waits for the answer.
            let _ = connection.await;
        });
        Ok(Self { sender, task })
    }

    /// Sends the one request.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, BackendError> {
        self.sender
            .send_request(request)
            .await
            .map_err(|error| BackendError::Unavailable(format!("no answer: {error}")))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}
