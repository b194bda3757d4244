//! The use of a connection by one request, and the body of its answer. The end of the use keeps or
//! closes the connection ([`super::connection`] decides).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use tokio::sync::OwnedSemaphorePermit;

use super::connection::{CloseCause, Connection};
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

    /// A permit to read the rest of the answer, if the connection can be kept then.
    fn drain_permit(&self) -> Option<OwnedSemaphorePermit> {
        let is_sent = self.connection.as_ref()?.progress.facts().is_sent;
        if !is_sent || !matches!(self.after, AfterAnswer::Keep(_)) {
            return None;
        }
        let drains = Arc::clone(&self.idle.upgrade()?.drains);
        drains.try_acquire_owned().ok()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        match (connection.keep(self.after), self.idle.upgrade()) {
            (Ok(()), Some(idle)) => idle.put(connection),
            (Ok(()), None) => connection.close(CloseCause::Surplus),
            (Err(cause), _) => connection.close(cause),
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
            let (body, mut has_waited) = (&mut self.body, false);
            let frame = poll_fn(|context| {
                let polled = Pin::new(&mut *body).poll_frame(context);
                has_waited |= polled.is_pending();
                polled
            });
            let frame = frame.await;
            if has_waited {
                self.progress.set_arrived();
            }
            match frame {
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

    /// Reads what is left in another task, so that the connection may be kept. For answers whose
    /// end is near: an error's text, or the last chunk behind `[DONE]`. An endpoint has few such
    /// tasks, because they are in no request's bounds.
    pub fn drain(mut self, lease: Lease, max_bytes: usize, time: Duration) {
        let most = u64::try_from(max_bytes).unwrap_or(u64::MAX);
        if self.body.size_hint().lower() > most {
            return;
        }
        let Some(permit) = lease.drain_permit() else {
            return;
        };
        tokio::spawn(async move {
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
            drop((lease, permit));
        });
    }
}
