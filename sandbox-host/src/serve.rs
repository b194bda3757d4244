//! One request from its head to its answer: reads, judges, runs, answers. Judging (`request`) meets no clock, budget or log; what does begins here.

mod models;
mod stream;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Body;
use tensorgate_policy::raw::AuditFailure;
use tensorgate_policy::request::ServerQuestion;
use tensorgate_policy::{Denial, Operation, Protocol, Reason};
use tensorgate_wire::encode;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admission::{Admission, Entered, HELD_BYTES};
use crate::audit::Outcomes;
use crate::audit::record::SOURCE_HEADER;
use crate::body::{self, BodyFault};
use crate::budget::{Budget, Held};
use crate::dispatch::{Latest, Whose};
use crate::document::Document;
use crate::generations::{Generation, Generations};
use crate::grpc_timeout;
use crate::guard::{caught, offload};
use crate::metrics::Metrics;
use crate::record::Record;
use crate::reply::{self, ReplyBody, Settling};
use crate::request::{Admitted, Begun, ModelRequest, Refused};
use crate::room::{hold_decoded, hold_expanded, hold_read};

/// What every request shares.
pub struct App {
    /// The policies that it judges by, and where requests go under each.
    pub generations: Generations,
    /// Where outcomes are told.
    pub outcomes: Arc<Outcomes>,
    /// How many may come in at once.
    pub admission: Arc<Admission>,
    /// Bytes that all of them may hold.
    pub budget: Arc<Budget>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Set once the host ends: it is no longer ready.
    pub draining: watch::Sender<bool>,
}

impl App {
    /// Whether the host takes requests and every backend is ready.
    pub fn ready(&self) -> bool {
        let told = !self.must_be_told() || !self.outcomes.audit().failing();
        !*self.draining.borrow() && told && self.generations.newest().pipeline.ready()
    }

    /// Whether an answer whose audit record cannot be written is refused.
    fn must_be_told(&self) -> bool {
        self.generations.newest().policy().audit().on_failure() == AuditFailure::Refuse
    }

    /// Why not, a line each: for operators, never for callers.
    pub fn unready(&self) -> Vec<String> {
        let draining = *self.draining.borrow();
        let ending = draining.then(|| "the host is ending".to_owned());
        let untold = self.must_be_told() && self.outcomes.audit().failing();
        let untold = untold.then(|| "the audit log cannot be written".to_owned());
        ending
            .into_iter()
            .chain(untold)
            .chain(self.generations.newest().pipeline.unready())
            .collect()
    }
}

/// Why a request is not answered with what it asked for.
enum Failure {
    /// The judge refused it.
    Refused(Box<Refused>),
    /// Something that only the host can see.
    Denied(Denial),
    /// Its body broke off.
    BrokenOff(Denial),
}

impl From<Box<Refused>> for Failure {
    fn from(refused: Box<Refused>) -> Self {
        Self::Refused(refused)
    }
}

impl From<Denial> for Failure {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

/// Answers one request, whatever happens: a panic is a `handler-fault` and one line in the log.
pub async fn serve<B>(app: Arc<App>, request: Request<B>) -> Result<Response<ReplyBody>, Infallible>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: std::fmt::Display,
{
    let mut record = Record::new(&app.metrics, &app.outcomes, &request);
    let response = match caught(handle(&app, request, &mut record)).await {
        Ok(Ok(response)) => told(&app, record, response).await,
        Ok(Err(Failure::Refused(refused))) => {
            record.refused(&refused).await;
            let (denial, caller) = (&refused.denial, &refused.caller);
            refusal(denial, refused.protocol, &caller.request_id, &record)
        }
        Ok(Err(Failure::Denied(denial))) => {
            record.denied(&denial).await;
            refusal_of(&denial, &record)
        }
        Ok(Err(Failure::BrokenOff(denial))) => {
            record.broken_off(&denial);
            refusal_of(&denial, &record)
        }
        Err(panic) => {
            app.metrics.panics.inc();
            let request_id = record.caller.request_id.as_str();
            tracing::error!(request_id, cause = panic.as_str(), "a request panicked");
            let denial = Denial::new(Reason::HandlerFault, panic);
            record.denied(&denial).await;
            refusal_of(&denial, &record)
        }
    };
    Ok(response)
}

/// A refusal of what was found here. It was paid for all the same, and tells what the caller's limits have left.
fn refusal_of(denial: &Denial, record: &Record) -> Response<ReplyBody> {
    refusal(denial, record.protocol, &record.caller.request_id, record)
}

fn refusal(
    denial: &Denial,
    protocol: Protocol,
    request_id: &str,
    record: &Record,
) -> Response<ReplyBody> {
    let mut response = reply::refusal(denial, protocol, request_id);
    if denial.rates.is_empty() {
        reply::tell_rates(&mut response, &record.rates);
    }
    response
}

/// An answer leaves once its audit record is written. If that cannot be, the policy says whether it leaves at all; what asks
/// about the server as a whole is answered in any case: a gate whose disk is full is alive.
async fn told(
    app: &App,
    mut record: Record,
    mut response: Response<ReplyBody>,
) -> Response<ReplyBody> {
    reply::tell_rates(&mut response, &record.rates);
    let (status, bytes) = (response.status().as_u16(), response.body().len());
    let written = record.audit_answer(status, bytes).await;
    let Err(why) = written else {
        response.body_mut().tell(|| record.ending(status));
        record.allowed(status, bytes);
        return response;
    };
    if record.for_a_model() && app.must_be_told() {
        let denial = Denial::new(Reason::Overloaded, why.to_string());
        record.untold(&denial, why);
        return refusal_of(&denial, &record);
    }
    response.body_mut().tell(|| record.ending(status));
    record.let_go(status, bytes, why);
    response
}

async fn handle<B>(
    app: &Arc<App>,
    request: Request<B>,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Failure>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: std::fmt::Display,
{
    let arrived = Instant::now();
    let (parts, body) = request.into_parts();
    // The policy that the gate judged by is this request's to its end, whatever is loaded meanwhile.
    let (generation, begun) =
        app.generations
            .begin(&fields(&parts), body.is_end_stream(), now_unix_s())?;
    let limits = *generation.policy().listen().limits();
    let admitted = match begun {
        Begun::Server {
            caller,
            proofs,
            protocol,
            question,
        } => {
            record.caller = caller;
            record.protocol = protocol;
            if question == ServerQuestion::Models {
                return Ok(models::answer(generation.policy(), &record.caller, proofs));
            }
            return Ok(server_answer(
                app,
                protocol,
                question,
                &record.caller.request_id,
            ));
        }
        Begun::Stream(opened) => {
            let opened = stream::open(app, generation, *opened, &parts, body, arrived, record);
            return Ok(opened);
        }
        Begun::Model(admitted) => *admitted,
    };
    record.caller.clone_from(admitted.caller());
    record.protocol = admitted.protocol();
    record.rates = admitted.rates(generation.policy());

    let whose = Whose::of(admitted.caller().client.as_deref());
    // What lies ready at the gate comes as fast as it is taken; who sends at its own pace keeps nobody waiting.
    let mut entered = match admitted.held_by_the_gate() {
        true => Some(enter(app, whose, arrived)?),
        false => None,
    };
    let mut held = app.budget.hold_for(whose);
    let max_bytes = admitted.plan().max_bytes;
    let framed = admitted.protocol().is_grpc();
    let body = match body::read(
        body,
        (max_bytes, framed),
        Duration::from_millis(limits.stream_ms),
        &mut held,
        |bytes| {
            if bytes > HELD_BYTES {
                entered = None;
            }
        },
    )
    .await
    {
        Ok(body) => body,
        Err(BodyFault::TooLarge(max_bytes)) => {
            return Err(generation.judge.too_large(admitted, max_bytes).into());
        }
        Err(fault @ BodyFault::NoRoom) => {
            return Err(Denial::new(Reason::Overloaded, fault.to_string()).into());
        }
        Err(fault @ BodyFault::TimedOut) => {
            return Err(Denial::new(Reason::Malformed, fault.to_string()).into());
        }
        Err(fault @ BodyFault::Broken(_)) => {
            let denial = Denial::new(Reason::Malformed, fault.to_string());
            return Err(Failure::BrokenOff(denial));
        }
    };
    record.request_bytes = body.len();
    let read = Instant::now();
    let whole = Duration::from_millis(limits.timeout_ms);
    // The client's own patience began when it sent its head.
    let theirs = if admitted.protocol().is_grpc() {
        grpc_timeout::of(&parts.headers)
    } else {
        None
    };
    let theirs = theirs.and_then(|timeout| arrived.checked_add(timeout));
    let latest = Latest::of(whose, read, whole, theirs);

    let request = judged(&generation, admitted, body, &mut held, entered, record).await?;
    let (protocol, request_id) = (request.protocol, request.caller.request_id.clone());
    match request.operation {
        Operation::Metadata => Ok(reply::success(
            protocol,
            StatusCode::OK,
            generation.pipeline.metadata(&request)?,
            &request_id,
        )),
        Operation::Ready => {
            let (ready, body) = generation.pipeline.model_ready(&request)?;
            Ok(reply::success(
                protocol,
                model_readiness(protocol, ready),
                body,
                &request_id,
            ))
        }
        Operation::Statistics => Ok(reply::success(
            protocol,
            StatusCode::OK,
            generation.pipeline.statistics(&request)?,
            &request_id,
        )),
        Operation::Infer | Operation::Stream => {
            infer(&generation, request, held, latest, record).await
        }
    }
}

/// Comes in, if as many are in as may be.
fn enter(app: &App, whose: Whose, arrived: Instant) -> Result<Entered, Denial> {
    app.admission.enter(whose, arrived).ok_or_else(|| {
        app.metrics.admission_refused.inc();
        Denial::new(
            Reason::Overloaded,
            "as many requests come in already as are finished in good time",
        )
    })
}

/// Judges a body that is in memory, and takes room for what it becomes.
async fn judged(
    generation: &Generation,
    admitted: Admitted,
    body: Bytes,
    held: &mut Held,
    entered: Option<Entered>,
    record: &mut Record,
) -> Result<ModelRequest, Failure> {
    let becomes = hold_expanded(held, &admitted.plan(), body.len())?;
    hold_read(held, &admitted.plan(), &body)?;
    let judge = Arc::clone(&generation.judge);
    let judged = offload(body.len().max(becomes), move || judge.body(admitted, body)).await;
    if let Some(entered) = entered {
        entered.judged(Instant::now());
    }
    let request =
        judged.ok_or_else(|| Denial::new(Reason::HandlerFault, "judging the body failed"))??;
    record.asks(generation.policy(), &request);
    let document = request.document.as_ref();
    hold_decoded(held, record.request_bytes, &request.payload, document)?;
    Ok(request)
}

async fn infer(
    generation: &Generation,
    mut request: ModelRequest,
    mut held: Held,
    latest: Latest,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Failure> {
    let (protocol, request_id) = (request.protocol, request.caller.request_id.clone());
    if let Some(document) = request.document.take() {
        return complete(generation, request, document, held, latest, record).await;
    }
    let audit = record.audit().clone();
    let answer = generation
        .pipeline
        .infer(
            request,
            &mut held,
            latest,
            &mut record.timings,
            &mut record.shadow,
            &audit,
        )
        .await?;
    let mut response = reply::success(protocol, StatusCode::OK, answer.body, &request_id);
    if let Some(json_bytes) = answer.json_bytes {
        reply::mark_binary(&mut response, json_bytes);
    }
    response.body_mut().hold(held);
    Ok(response)
}

/// An inference of OpenAI's API, in one piece or in several. What it used of the tokens that the gate has reserved is told to the gate.
async fn complete(
    generation: &Generation,
    request: ModelRequest,
    document: Document,
    mut held: Held,
    latest: Latest,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Failure> {
    let (protocol, request_id) = (request.protocol, request.caller.request_id.clone());
    let settling = Settling::new(&generation.judge, &request_id);
    let settling = request.reserved.then_some(settling);
    let (pipeline, timings) = (&generation.pipeline, &mut record.timings);
    let (mut response, tokens) = if document.stream {
        let streamed = pipeline
            .stream(request, document, held, latest, timings)
            .await?;
        (reply::events(streamed, &request_id), None)
    } else {
        let answer = pipeline
            .complete(request, document, &mut held, latest, timings)
            .await?;
        let mut response = reply::success(protocol, StatusCode::OK, answer.body, &request_id);
        response.body_mut().hold(held);
        (response, answer.tokens)
    };
    if let Some(settling) = settling {
        response.body_mut().settle(settling, tokens);
    }
    Ok(response)
}

fn server_answer(
    app: &App,
    protocol: Protocol,
    question: ServerQuestion,
    request_id: &str,
) -> Response<ReplyBody> {
    let yes = match question {
        ServerQuestion::Live | ServerQuestion::Metadata | ServerQuestion::Models => true,
        ServerQuestion::Ready | ServerQuestion::Health => app.ready(),
    };
    reply::success(
        protocol,
        readiness(yes),
        encode::server_answer(protocol, question, yes),
        request_id,
    )
}

/// What REST answers to a question about a model: TF Serving's clients read the state in the answer.
const fn model_readiness(protocol: Protocol, ready: bool) -> StatusCode {
    match protocol {
        Protocol::TfRest => StatusCode::OK,
        _ => readiness(ready),
    }
}

/// What REST answers: clients of the protocol look at the status alone.
const fn readiness(ready: bool) -> StatusCode {
    if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// A head as header fields, pseudo-headers first, as a proxy shows it. HTTP/1.1's `host` is `:authority`; a head with both,
/// or with several, keeps them all, so that the judge can see it.
fn fields(parts: &Parts) -> Vec<(&[u8], &[u8])> {
    const fn field<'a>(name: &'a str, value: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        (name.as_bytes(), value)
    }
    let path = parts
        .uri
        .path_and_query()
        .map_or("", http::uri::PathAndQuery::as_str);
    // Beside them what a proxy shows of the first line: four at most.
    let mut fields = Vec::with_capacity(parts.headers.len().saturating_add(4));
    fields.extend([
        field(":method", parts.method.as_str().as_bytes()),
        field(":path", path.as_bytes()),
    ]);
    let mut hosts = parts.headers.get_all(http::header::HOST).iter();
    let host = match (parts.uri.authority(), hosts.next(), hosts.next()) {
        (Some(authority), ..) => {
            fields.push(field(":authority", authority.as_str().as_bytes()));
            false
        }
        (None, Some(host), None) => {
            fields.push(field(":authority", host.as_bytes()));
            true
        }
        (None, ..) => false,
    };
    if let Some(scheme) = parts.uri.scheme_str() {
        fields.push(field(":scheme", scheme.as_bytes()));
    }
    let rest = parts
        .headers
        .iter()
        // What the proxy adds for the audit record is no part of the request: by the gate's own names it would be a forgery.
        .filter(|(name, _)| name.as_str() != SOURCE_HEADER)
        .filter(|(name, _)| !host || *name != http::header::HOST);
    fields.extend(rest.map(|(name, value)| field(name.as_str(), value.as_bytes())));
    fields
}

/// The wall clock. One before 1970 reads as 1970: every context is then from the future, and refused.
fn now_unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
