//! The use of a connection by one request, and the body of its answer. The end of the use keeps or
//! closes the connection ([`super::connection`] decides).

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::connection::{Connection, ConnectionEvent};
use super::framing::AfterAnswer;
use super::idle::IdleConnections;
use super::progress::Progress;

/// The use of a connection by one request. Dropping it keeps or closes the connection.
#[derive(Debug)]
pub struct Lease {
    connection: Option<Connection>,
    after: AfterAnswer,
    /// Where it goes. Gone once the endpoint is.
    idle: Weak<IdleConnections>,
}

impl Lease {
    pub(super) fn new(
        connection: Connection,
        after: AfterAnswer,
        idle: Weak<IdleConnections>,
    ) -> Self {
        Self {
            connection: Some(connection),
            after,
            idle,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(mut connection), Some(idle)) = (self.connection.take(), self.idle.upgrade())
        else {
            return;
        };
        match connection.keep(self.after) {
            Ok(()) => idle.put(connection),
            Err(cause) => idle.observe(ConnectionEvent::Closed(cause)),
        }
    }
}

/// The body of an answer. Its lease knows when it was read to the end.
#[derive(Debug)]
pub struct AnswerBody {
    body: Incoming,
    progress: Arc<Progress>,
}

impl AnswerBody {
    pub(super) fn new(body: Incoming, progress: Arc<Progress>) -> Self {
        Self { body, progress }
    }

    /// The next bytes, `None` after the end. Trailers are ignored.
    pub async fn data(&mut self) -> Option<hyper::Result<Bytes>> {
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    self.progress.set_answer_read();
                    return None;
                }
            }
        }
    }

    /// Reads a body of at most `max_bytes`.
    ///
    /// # Errors
    /// Returns an error if it is longer, or does not end as its head declares.
    pub async fn read(&mut self, max_bytes: usize) -> io::Result<Bytes> {
        let mut read = BytesMut::new();
        while let Some(data) = self.data().await {
            let data = data.map_err(io::Error::other)?;
            if read.len().saturating_add(data.len()) > max_bytes {
                return Err(io::Error::other(format!(
                    "an answer of more than {max_bytes} bytes"
                )));
            }
            read.extend_from_slice(&data);
        }
        Ok(read.freeze())
    }

    /// Reads what is left, within bounds, so that the connection may be kept. For answers whose
    /// end is near: an error's text, or the last chunk behind `[DONE]`.
    pub async fn drain(mut self, lease: Lease, max_bytes: usize, time: Duration) {
        let read = async {
            let mut left = max_bytes;
            while let Some(Ok(data)) = self.data().await {
                let Some(rest) = left.checked_sub(data.len()) else {
                    return;
                };
                left = rest;
            }
        };
        let _ = tokio::time::timeout(time, read).await;
        drop(lease);
    }
}
