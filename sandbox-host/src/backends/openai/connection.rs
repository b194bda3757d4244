//! An HTTP/1.1 connection for one request. Dropping it closes the connection.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tensorgate_net::dialer::Dialer;
use tokio::task::JoinHandle;

use super::super::BackendError;

/// The most header fields of a response. Servers send a dozen.
const MAX_HEADERS: usize = 64;
/// The read buffer in bytes, which must hold the header fields.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// A connection.
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
            // The pending response reports a failure.
            let _ = connection.await;
        });
        Ok(Self { sender, task })
    }

    /// Sends the request.
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
