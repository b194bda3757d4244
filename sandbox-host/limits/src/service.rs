//! Implements `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`. A query that cannot be
//! answered fails with a gRPC error and never has a verdict. The gate decides what to do then.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Body;
use tensorgate_policy::ChargeOutcome;
use tensorgate_policy::decision::LimitCharge;
use tensorgate_telemetry::labels::LimitLabels;
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_wire::rate_limit::{
    MAX_MESSAGE_BYTES, MessageFault, RateLimitRequest, RateLimitResponse,
};

use super::counter::CounterFault;
use super::redis::RedisFault;
use super::shared_limits::{QueryFault, SharedLimits};

/// The path of the only method.
pub const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
/// The prefix of a gRPC frame: a flag and the length.
const FRAME_HEAD_BYTES: usize = 5;

/// The state of the service.
pub struct Service {
    /// The shared limits of every loaded policy, the newest first.
    pub limits: Box<dyn Fn() -> Vec<Arc<SharedLimits>> + Send + Sync>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// When unknown limits were last logged. A gate with another policy asks for them with each
    /// request.
    pub last_logged: Mutex<Option<Instant>>,
}

/// The interval of those log lines.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("no such method")]
    Method,
    #[error("not exactly one uncompressed message")]
    Frame,
    #[error("a message of more than {MAX_MESSAGE_BYTES} bytes")]
    TooLong,
    #[error("the stream ended early")]
    Broken,
    #[error("{0}")]
    Message(#[from] MessageFault),
    #[error(transparent)]
    Ask(#[from] QueryFault),
}

impl Fault {
    /// The gRPC status code.
    const fn code(&self) -> &'static str {
        match self {
            Self::Method => "12",
            Self::Frame
            | Self::TooLong
            | Self::Broken
            | Self::Message(_)
            | Self::Ask(QueryFault::Form(_)) => "3",
            Self::Ask(QueryFault::Unknown) => "5",
            Self::Ask(QueryFault::Counter(fault)) => match fault {
                CounterFault::Redis(RedisFault::Late) => "4",
                CounterFault::Redis(RedisFault::Busy) => "8",
                CounterFault::Redis(_) => "14",
                _ => "13",
            },
        }
    }

    /// Whether each occurrence is logged. An unavailable Redis is logged once by its client.
    const fn is_logged(&self) -> bool {
        !matches!(
            self,
            Self::Broken
                | Self::Ask(QueryFault::Counter(CounterFault::Redis(
                    RedisFault::Down | RedisFault::Late | RedisFault::Busy
                )))
        )
    }
}

impl Service {
    /// Handles one call.
    pub async fn serve<B>(
        self: Arc<Self>,
        request: Request<B>,
    ) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let answered = self.answer(request).await;
        self.count(&answered);
        Ok(match answered {
            Ok((_, answer)) => message(&answer),
            Err(fault) => {
                if fault.is_logged() && self.should_log(&fault) {
                    tracing::error!(cause = fault.to_string(), "limit request failed");
                }
                error(fault.code())
            }
        })
    }

    fn count(&self, answered: &Result<(ChargeOutcome, Vec<u8>), Fault>) {
        let outcome = match answered {
            Ok((ChargeOutcome::Charged(_), _)) => "ok",
            Ok(_) => "over-limit",
            Err(Fault::Ask(QueryFault::Unknown)) => "unknown",
            Err(Fault::Ask(QueryFault::Counter(_))) => "failed",
            Err(_) => "malformed",
        };
        let labels = LimitLabels { outcome };
        self.metrics.limit_questions.get_or_create(&labels).inc();
    }

    /// Whether this fault is logged now.
    fn should_log(&self, fault: &Fault) -> bool {
        if !matches!(fault, Fault::Ask(QueryFault::Unknown)) {
            return true;
        }
        let mut told = self
            .last_logged
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let tells = told.is_none_or(|told| told.elapsed() >= LOG_INTERVAL);
        if tells {
            *told = Some(Instant::now());
        }
        tells
    }

    /// The outcome of a charge, and the message that says it.
    async fn answer<B>(&self, request: Request<B>) -> Result<(ChargeOutcome, Vec<u8>), Fault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if request.method() != Method::POST || request.uri().path() != PATH {
            return Err(Fault::Method);
        }
        let question = RateLimitRequest::from_bytes(&read_message(request.into_body()).await?)?;
        for limits in (self.limits)() {
            let Some(lines) = limits.resolve(&question)? else {
                continue;
            };
            let charged = limits.counter().charge(&lines).await;
            let outcome = charged.map_err(QueryFault::Counter)?;
            let debits: Vec<LimitCharge> = lines.iter().map(|line| line.debit).collect();
            let answer = RateLimitResponse::of(&debits, &outcome);
            let answer = answer.ok_or(QueryFault::Counter(CounterFault::OutOfRange))?;
            return Ok((outcome, answer.to_bytes()));
        }
        Err(QueryFault::Unknown.into())
    }
}

/// Reads the single message of a body.
async fn read_message<B>(mut body: B) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes> + Unpin,
{
    let most = MAX_MESSAGE_BYTES.saturating_add(FRAME_HEAD_BYTES);
    let mut buffer = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Fault::Broken)?.into_data() else {
            continue;
        };
        if buffer.len().saturating_add(data.len()) > most {
            return Err(Fault::TooLong);
        }
        buffer.extend_from_slice(&data);
    }
    let (head, message) = buffer
        .split_first_chunk::<FRAME_HEAD_BYTES>()
        .ok_or(Fault::Frame)?;
    let [flag, length @ ..] = *head;
    if flag != 0 || usize::try_from(u32::from_be_bytes(length)) != Ok(message.len()) {
        return Err(Fault::Frame);
    }
    Ok(buffer.freeze().slice(FRAME_HEAD_BYTES..))
}

/// A gRPC frame with an uncompressed message.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    Bytes::from([&[0][..], &length.to_be_bytes(), message].concat())
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    response
}

/// A response with a message, and its status in trailers.
fn message(bytes: &[u8]) -> Response<BoxBody<Bytes, Infallible>> {
    let frame = frame(bytes);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let trailers = std::future::ready(Some(Ok(trailers)));
    head().map(|()| Full::new(frame).with_trailers(trailers).boxed())
}

/// A response with only a status.
fn error(grpc_status: &'static str) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = head().map(|()| Empty::new().boxed());
    let status = HeaderValue::from_static(grpc_status);
    response.headers_mut().insert("grpc-status", status);
    response
}
