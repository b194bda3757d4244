//! A client of another server of Envoy's rate-limit protocol. It has one HTTP/2 connection without
//! TLS. A connection that is lost, or on which no call is answered, is replaced.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::Full;
use tensorgate_net::dialer::Dialer;
use tensorgate_net::http2::channel::{Http2Channel, Origin};
use tensorgate_net::http2::connection::{ConnectionState, Connector, DialError};
use tensorgate_net::http2::raw_codec::RawCodec;
use tensorgate_wire::rate_limit::{
    MAX_MESSAGE_BYTES, MessageFault, RateLimitRequest, RateLimitResponse,
};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::service::{PATH, frame};

/// The most calls in flight. Further calls fail.
pub(super) const MAX_IN_FLIGHT: usize = 1_024;
/// The number of calls in a row without an answer after which a connection is replaced.
const MAX_LATE_CALLS: u32 = 5;
/// The header field with the deadline of a gRPC call.
const TIMEOUT_FIELD: &str = "grpc-timeout";

/// A client of one server.
pub(super) struct RemoteLimits {
    origin: Origin,
    dialer: Dialer,
    connection: Mutex<Connection>,
    in_flight: Semaphore,
}

/// A connection, opened on first use.
struct Connection {
    channel: Http2Channel,
    state: Arc<ConnectionState>,
    /// The number of calls since the last answer.
    late_calls: u32,
}

/// Why a server has not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum RemoteFault {
    /// It does not have the limit.
    #[error("it does not have the limit")]
    UnknownLimit,
    /// There are too many calls.
    #[error("too many calls are in flight")]
    Busy,
    /// The call has timed out.
    #[error("it did not answer in time")]
    Late,
    /// It has failed, or there is no connection.
    #[error("no answer: {0:?}")]
    NoAnswer(Code),
    /// Its answer is malformed.
    #[error(transparent)]
    Message(#[from] MessageFault),
}

impl RemoteLimits {
    /// A client of the server at a host and a port. `None` if they are not an address.
    pub(super) fn new(host: &str, port: u16) -> Option<Self> {
        // A URI has IPv6 addresses in brackets, a policy does not.
        let uri = if host.contains(':') {
            format!("http://[{host}]:{port}")
        } else {
            format!("http://{host}:{port}")
        };
        let origin = Origin::parse(&uri).ok()?;
        let dialer = Dialer::new(&uri, None)?;
        Some(Self {
            connection: Mutex::new(Connection::new(&origin, &dialer)),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            origin,
            dialer,
        })
    }

    /// Calls the server.
    ///
    /// # Errors
    /// Returns an error if the server does not answer in time, or does not answer the request.
    pub(super) async fn ask(
        &self,
        question: &RateLimitRequest,
        within: Duration,
    ) -> Result<RateLimitResponse, RemoteFault> {
        let _permit = self
            .in_flight
            .try_acquire()
            .map_err(|_| RemoteFault::Busy)?;
        let message = frame(&question.to_bytes());
        let called = timeout(within, self.call(message, within)).await;
        let is_late = called.is_err();
        self.note_answer(is_late);
        let answer = called.map_err(|_| RemoteFault::Late)?;
        let bytes = answer.map_err(|status| match status.code() {
            Code::NotFound => RemoteFault::UnknownLimit,
            code => RemoteFault::NoAnswer(code),
        })?;
        Ok(RateLimitResponse::from_bytes(&bytes)?)
    }

    /// Sends a framed message. If the connection ended before that, it is sent over a new one.
    async fn call(&self, message: Bytes, within: Duration) -> Result<Bytes, Status> {
        match self.send(message.clone(), within).await {
            Err(status) if is_unsent(&status) => self.send(message, within).await,
            answer => answer,
        }
    }

    async fn send(&self, message: Bytes, within: Duration) -> Result<Bytes, Status> {
        let mut fields = HeaderMap::new();
        if let Ok(milliseconds) = HeaderValue::from_str(&format!("{}m", within.as_millis())) {
            fields.insert(TIMEOUT_FIELD, milliseconds);
        }
        let call = (PATH, fields, Body::new(Full::new(message)));
        let channel = self.channel();
        let answer = channel.unary(call, RawCodec, MAX_MESSAGE_BYTES).await?;
        Ok(answer.into_inner())
    }

    /// The channel for a call: a new one after the connection was lost.
    fn channel(&self) -> Http2Channel {
        let mut connection = self.connection();
        if connection.state.is_lost() {
            *connection = Connection::new(&self.origin, &self.dialer);
        }
        connection.channel.clone()
    }

    /// Replaces a connection on which several calls in a row were late: its server may be gone
    /// without having closed it.
    fn note_answer(&self, is_late: bool) {
        let mut connection = self.connection();
        if !is_late {
            connection.late_calls = 0;
            return;
        }
        connection.late_calls = connection.late_calls.saturating_add(1);
        if connection.late_calls >= MAX_LATE_CALLS {
            *connection = Connection::new(&self.origin, &self.dialer);
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn new(origin: &Origin, dialer: &Dialer) -> Self {
        let state = Arc::<ConnectionState>::default();
        let connector = Connector {
            dialer: Arc::new(dialer.clone()),
            state: Arc::clone(&state),
        };
        Self {
            channel: Http2Channel::new(origin.clone(), connector),
            state,
            late_calls: 0,
        }
    }
}

/// Whether nothing of a call was sent, because the connection had ended.
fn is_unsent(status: &Status) -> bool {
    let fault = status
        .source()
        .and_then(|source| source.downcast_ref::<DialError>());
    matches!(fault, Some(DialError::Closed))
}
