//! A gRPC call that is open in both directions. The caller decides what is sent when, and may look
//! at what has come back so far.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{HeaderValue, Request};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::grpc::{list, map, send_piece};
use crate::{ClientError, EXCHANGE_LIMIT, Fields, Reply};

/// An open call on a connection of its own. The connection ends with it.
pub struct Open {
    stream: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    /// What has come back.
    reply: Reply,
    driver: JoinHandle<Result<(), h2::Error>>,
}

impl Open {
    /// Opens a call. `content-type: application/grpc` and `te: trailers` are added.
    pub async fn new(gate: SocketAddr, path: &str, fields: &Fields) -> Result<Self, ClientError> {
        let (client, connection) = h2::client::handshake(TcpStream::connect(gate).await?).await?;
        let driver = tokio::spawn(connection);
        let mut request = Request::post(format!("http://{gate}{path}")).body(())?;
        *request.headers_mut() = map(fields)?;
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        let (response, stream) = client.ready().await?.send_request(request, false)?;
        Ok(Self {
            stream,
            response: Some(response),
            body: None,
            reply: Reply::default(),
            driver,
        })
    }

    /// Sends a piece as flow control allows; false when the other side wants no more.
    pub async fn send(&mut self, piece: &[u8], end: bool) -> bool {
        let sent = send_piece(&mut self.stream, piece, end);
        matches!(
            tokio::time::timeout(EXCHANGE_LIMIT, sent).await,
            Ok(Some(()))
        )
    }

    /// Ends the stream with trailers.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn end_in_trailers(&mut self, fields: &Fields) -> Result<(), ClientError> {
        Ok(self.stream.send_trailers(map(fields)?)?)
    }

    /// Resets the stream.
    pub fn reset(&mut self) {
        self.stream.send_reset(h2::Reason::CANCEL);
    }

    /// What has come back so far.
    pub const fn reply(&self) -> &Reply {
        &self.reply
    }

    /// Reads until a condition holds or the reply ends; true if the condition held.
    pub async fn until(&mut self, enough: impl Fn(&Reply) -> bool) -> Result<bool, ClientError> {
        let read = async {
            while !enough(&self.reply) {
                if !self.more().await? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        tokio::time::timeout(EXCHANGE_LIMIT, read)
            .await
            .map_err(|_| ClientError::Hung)?
    }

    /// Reads to the end.
    pub async fn ended(&mut self) -> Result<Reply, ClientError> {
        self.until(|_| false).await?;
        Ok(self.reply.clone())
    }

    /// Reads the next part of the reply; false at its end.
    async fn more(&mut self) -> Result<bool, ClientError> {
        if let Some(response) = &mut self.response {
            let (head, body) = response.await?.into_parts();
            self.reply.status = head.status.as_u16();
            self.reply.headers = list(&head.headers);
            (self.response, self.body) = (None, Some(body));
            return Ok(true);
        }
        let Some(body) = &mut self.body else {
            return Ok(false);
        };
        if let Some(data) = body.data().await {
            let data = data?;
            self.reply.body.extend_from_slice(&data);
            body.flow_control().release_capacity(data.len())?;
            return Ok(true);
        }
        if let Some(trailers) = body.trailers().await? {
            self.reply.trailers = list(&trailers);
        }
        self.body = None;
        Ok(false)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
