//! `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`: one question, one answer. A question that is not answered is an error of gRPC's,
//! never a verdict: what holds then is for whoever asks to decide.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Body;
use tensorgate_policy::ChargeOutcome;
use tensorgate_policy::decision::Debit;
use tensorgate_wire::rate_limit::{Answer, Code, MAX_MESSAGE_BYTES, MessageFault, Question};

use super::counter::CounterFault;
use super::index::{AskFault, Asked, Limits};
use super::redis::RedisFault;
use crate::metrics::{LimitLabels, Metrics, SettlementLabels};

/// The one method.
pub const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
/// A gRPC frame's head: a flag and the length.
const FRAME_HEAD_BYTES: usize = 5;

/// What the service needs.
pub struct Service {
    /// The shared limits of every policy that is held, the newest first.
    pub limits: Box<dyn Fn() -> Vec<Arc<Limits>> + Send + Sync>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// When the log was last told of limits that nobody has: gates that have another policy ask for them as often as they are asked.
    pub(super) told: Mutex<Option<Instant>>,
}

/// Between two such lines.
const TELL: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("no such method")]
    Method,
    #[error("a message that is compressed, or more than one, or none")]
    Frame,
    #[error("a message of more than {MAX_MESSAGE_BYTES} bytes")]
    TooLong,
    #[error("the stream broke")]
    Broken,
    #[error("{0}")]
    Message(#[from] MessageFault),
    #[error(transparent)]
    Ask(#[from] AskFault),
    #[error("a settlement: {0}")]
    Settlement(CounterFault),
    #[error("a settlement of what is not reserved, or settled already")]
    Settled,
}

/// What a question came to.
enum Answered {
    /// A charge.
    Charged(ChargeOutcome, Vec<u8>),
    /// Reservations were settled.
    Settled,
}

impl Fault {
    /// The code by gRPC's own rules.
    const fn code(&self) -> &'static str {
        match self {
            Self::Method => "12",
            Self::Frame
            | Self::TooLong
            | Self::Broken
            | Self::Message(_)
            | Self::Ask(AskFault::Form(_)) => "3",
            Self::Ask(AskFault::Unknown) | Self::Settled => "5",
            Self::Ask(AskFault::Counter(fault)) | Self::Settlement(fault) => match fault {
                CounterFault::Redis(RedisFault::Late) => "4",
                CounterFault::Redis(RedisFault::Busy) => "8",
                CounterFault::Redis(_) => "14",
                _ => "13",
            },
        }
    }

    /// Whether the log is told each time: what a Redis that is down comes to is told once by whoever waits for it.
    const fn is_news(&self) -> bool {
        !matches!(
            self,
            Self::Broken
                | Self::Settled
                | Self::Ask(AskFault::Counter(CounterFault::Redis(
                    RedisFault::Down | RedisFault::Late | RedisFault::Busy
                )))
                | Self::Settlement(CounterFault::Redis(
                    RedisFault::Down | RedisFault::Late | RedisFault::Busy
                ))
        )
    }
}

impl Service {
    /// Answers one call.
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
            Ok(Answered::Charged(_, answer)) => message(&answer),
            Ok(Answered::Settled) => message(&settled()),
            Err(fault) => {
                if fault.is_news() && self.tells(&fault) {
                    tracing::error!(cause = fault.to_string(), "a question about a limit");
                }
                error(fault.code())
            }
        })
    }

    fn count(&self, answered: &Result<Answered, Fault>) {
        let settled = match answered {
            Ok(Answered::Settled) => Some("settled"),
            Err(Fault::Settled) => Some("unknown"),
            Err(Fault::Settlement(_)) => Some("failed"),
            _ => None,
        };
        if let Some(outcome) = settled {
            let labels = SettlementLabels { outcome };
            self.metrics.limit_settlements.get_or_create(&labels).inc();
            return;
        }
        let outcome = match answered {
            Ok(Answered::Charged(ChargeOutcome::Spent(_), _)) => "ok",
            Ok(_) => "over-limit",
            Err(_) => "failed",
        };
        let labels = LimitLabels { outcome };
        self.metrics.limit_questions.get_or_create(&labels).inc();
    }

    /// Whether the log is told of a fault now.
    fn tells(&self, fault: &Fault) -> bool {
        if !matches!(fault, Fault::Ask(AskFault::Unknown)) {
            return true;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let tells = told.is_none_or(|told| told.elapsed() >= TELL);
        if tells {
            *told = Some(Instant::now());
        }
        tells
    }

    async fn answer<B>(&self, request: Request<B>) -> Result<Answered, Fault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if request.method() != Method::POST || request.uri().path() != PATH {
            return Err(Fault::Method);
        }
        let question = Question::from_bytes(&take(request.into_body()).await?)?;
        for limits in (self.limits)() {
            let lines = match limits.find(&question)? {
                None => continue,
                Some(Asked::Settle(reserved)) => {
                    let settled = limits.counter().settle(&reserved).await;
                    return match settled.map_err(Fault::Settlement)? {
                        0 => Err(Fault::Settled),
                        _ => Ok(Answered::Settled),
                    };
                }
                Some(Asked::Charge(lines)) => lines,
            };
            let charged = limits.counter().charge(&lines).await;
            let outcome = charged.map_err(AskFault::Counter)?;
            let debits: Vec<Debit> = lines.iter().map(|line| line.debit).collect();
            let answer = Answer::of(&debits, &outcome);
            let answer = answer.ok_or(AskFault::Counter(CounterFault::Beyond))?;
            return Ok(Answered::Charged(outcome, answer.to_bytes()));
        }
        Err(AskFault::Unknown.into())
    }
}

/// That reservations are settled: there is no verdict on any limit.
fn settled() -> Vec<u8> {
    let answer = Answer {
        code: Code::Ok,
        statuses: Vec::new(),
    };
    answer.to_bytes()
}

/// The one message of a body.
async fn take<B>(mut body: B) -> Result<Bytes, Fault>
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

fn head() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    response
}

/// An answer with a message, and the status behind it.
fn message(bytes: &[u8]) -> Response<BoxBody<Bytes, Infallible>> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    let frame = Bytes::from([&[0][..], &length, bytes].concat());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let trailers = std::future::ready(Some(Ok(trailers)));
    head().map(|()| Full::new(frame).with_trailers(trailers).boxed())
}

/// An answer that is a status alone.
fn error(grpc_status: &'static str) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = head().map(|()| Empty::new().boxed());
    let status = HeaderValue::from_static(grpc_status);
    response.headers_mut().insert("grpc-status", status);
    response
}
