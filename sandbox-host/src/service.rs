//! Serves one request from its head to its response. Verification (`tensorgate_judge`) uses no
//! clock, budget or log; this module does.

pub mod admin;
pub mod ask_servers;
pub mod audit_server;
pub mod block_follower;
pub mod conditions;
pub mod install_filters;
pub mod limit_server;
mod model_list;
pub mod pod_command;
pub(crate) mod readiness;
mod readiness_probe;
pub mod reload;
mod stream;
mod stream_deadline;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Body;
use tensorgate_audit::Outcomes;
use tensorgate_audit::record::SOURCE_HEADER;
use tensorgate_base::client_key::ClientKey;
use tensorgate_base::grpc_timeout;
use tensorgate_base::guard::{catch_panic, offload};
use tensorgate_base::memory_budget::{Budget, MemoryPermit};
use tensorgate_base::unix_time::now_unix_s;
use tensorgate_console::Recorder;
use tensorgate_judge::body::{self, BodyFault};
use tensorgate_judge::document::Document;
use tensorgate_judge::request::{
    AcceptedHead, AwaitedHead, BodyJudgement, DenialOrigin, DeniedRequest, HeadProgress,
    HeadVerdict, ModelRequest, Progress,
};
use tensorgate_models::scan::supervisor::ScannerSupervisor;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::request::ServerQuery;
use tensorgate_policy::values::AuditFailure;
use tensorgate_policy::{Charge, ChargeOutcome, Denial, Operation, Protocol, Reason};
use tensorgate_sandbox::MemoryAccount;
use tensorgate_settings::admin::GATEWAY_HEADER;
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_watch::blocks::Blocks;
use tensorgate_watch::tap::Tap;
use tensorgate_watch::webhook::AlertWebhook;
use tensorgate_wire::context::{self, Context};
use tensorgate_wire::trace_context::{ENVOY_TRACE, TRACEPARENT, TRACESTATE};
use tensorgate_wire::{asks_config, encode};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admission::body_memory::{reserve_decoded, reserve_expanded, reserve_parsed};
use crate::admission::{Admission, AdmissionPermit, HELD_BYTES};
use crate::counters::{HostCounters, RequestCounters, RequestUsage};
use crate::dispatch::Deadline;
use crate::pipeline::openai;
use crate::pipeline::record::Record;
use crate::pipeline::reply;
use crate::pipeline::reply::{Failure, Finish, Reply, ReplyBody};
use crate::policy_store::policy_versions::{PolicyVersion, PolicyVersions};
use crate::policy_store::waiting_policy::WaitingPolicy;
use crate::server::peer::GatewayPeer;
use crate::traces::{self, Traces};
use conditions::GateState;
use model_list::answer;
use stream_deadline::stream_deadline;

/// The largest body of a request about the server, in bytes: a gRPC frame with a service name.
const MAX_QUERY_BODY_BYTES: usize = 1024;

/// The fields that proxies add to a request of the gate.
const ADDED_BY_PROXIES: [&str; 5] = [
    SOURCE_HEADER,
    GATEWAY_HEADER,
    ENVOY_TRACE,
    TRACEPARENT,
    TRACESTATE,
];

/// The state that all requests share.
pub struct App {
    /// The loaded policy versions, with their routes.
    pub policy_versions: PolicyVersions,
    /// A policy that would make ready models unready.
    pub(crate) waiting_policy: WaitingPolicy,
    /// Records outcomes in the audit log.
    pub outcomes: Arc<Outcomes>,
    /// Admission control.
    pub admission: Arc<Admission>,
    /// What the host counts for the limits of clients.
    pub counters: Arc<HostCounters>,
    /// The memory budget.
    pub budget: Arc<Budget>,
    /// The memory of handlers.
    pub handler_memory: Arc<MemoryAccount>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Set when the host shuts down and is no longer ready.
    pub draining: watch::Sender<bool>,
    /// Whether the host is not ready before a request has passed the filter.
    pub wait_for_filter: bool,
    /// The clients that are blocked or throttled.
    pub blocks: Arc<Blocks>,
    /// Where anomaly rules get the records of the audit log.
    pub tap: Arc<Tap>,
    /// What the console shows of the audit log's records.
    pub recorder: Arc<Recorder>,
    /// Sends alerts.
    pub webhook: Arc<AlertWebhook>,
    /// The gate's own state, for operators.
    pub gate_state: GateState,
    /// Begins the traces of requests, if the policy asks for them.
    pub(crate) traces: Option<Arc<Traces>>,
    /// Scans the files of models. `None` if its processes could not be started.
    pub scanner: Option<Arc<ScannerSupervisor>>,
}

impl App {
    /// Whether a response without an audit record is denied.
    pub(crate) fn must_audit(&self) -> bool {
        self.policy_versions.newest().policy().audit().on_failure() == AuditFailure::Refuse
    }
}

/// Serves one request. A panic becomes a `handler-fault` and a log line.
pub async fn serve<B>(app: Arc<App>, request: Request<B>) -> Result<Response<ReplyBody>, Infallible>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: std::fmt::Display,
{
    if request.uri().path() == readiness_probe::PATH {
        let (parts, _) = request.into_parts();
        return Ok(readiness_probe::answer(&app, &fields(&parts)));
    }
    let mut record = Record::new(&app.metrics, &app.outcomes, &request);
    let caught = catch_panic(handle(&app, request, &mut record)).await;
    let finish = Finish::new(record, caught);
    Ok(finish.send(|| app.must_audit()).await)
}

async fn handle<B>(
    app: &Arc<App>,
    request: Request<B>,
    record: &mut Record,
) -> Result<Reply, Failure>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: std::fmt::Display,
{
    let arrived = Instant::now();
    let (parts, body) = request.into_parts();
    // The policy of the gate applies to the end of the request, whatever is loaded meanwhile.
    let verified =
        app.policy_versions
            .verify_head(&fields(&parts), body.is_end_stream(), now_unix_s());
    if let Some(peer) = parts.extensions.get::<GatewayPeer>() {
        let caller = match &verified {
            Ok((_, head)) => head.caller(),
            Err(refused) => &refused.caller,
        };
        app.policy_versions
            .saw_gateway(peer.origin(&parts.headers), caller);
    }
    if let Err(refused) = &verified {
        note_sender(app, &parts, refused.origin, record);
    }
    let verified = verified?;
    // Only the filter can sign the context that was just verified.
    app.outcomes.saw_filter();
    if let Some(traces) = &app.traces {
        let caller = verified.1.caller();
        let client = caller.client.as_deref();
        record.timings.trace = traces.begin(&caller.request_id, client, &parts.headers);
    }
    check_block(app, &verified.1, record)?;
    let (generation, head) = verified;
    let limits = *generation.policy().listen().limits();
    let ends = stream_deadline(&limits, arrived);
    // They keep what the request acquires at its head until its body is judged.
    let counters = app.counters.for_request();
    let verdict = charge_head(&generation, head, &counters).await?;
    let admitted = match verdict {
        HeadVerdict::Server {
            caller,
            proofs,
            protocol,
            question,
        } => {
            record.caller = caller;
            record.protocol = protocol;
            if protocol.is_grpc() {
                let body = query_body(body, ends).await?;
                let judge = &generation.judge;
                judge.verify_server_query(&record.caller, (protocol, question), &body)?;
            }
            if question == ServerQuery::Models {
                return Ok(answer(generation.policy(), &record.caller, proofs));
            }
            let request_id = &record.caller.request_id;
            let answer = server_answer(app, protocol, question, request_id, &parts.method);
            return Ok(answer);
        }
        HeadVerdict::Stream(opened) => {
            let opened = (*opened, counters.take_usage());
            let opened = stream::open(app, generation, opened, &parts, body, arrived, record);
            return Ok(opened);
        }
        HeadVerdict::Model(admitted) => *admitted,
    };
    record.caller.clone_from(admitted.caller());
    record.protocol = admitted.protocol();
    record.rates = admitted.remaining_quota(generation.policy());

    let client_key = ClientKey::from_name(admitted.caller().client.as_deref());
    // A buffered body arrives as fast as it is read. A client that sends slowly does not delay
    // others. The wait for a shared charge says nothing about this host.
    let mut entered = match admitted.is_buffered_by_gate() {
        true => Some(admit(app, client_key, Instant::now())?),
        false => None,
    };
    let mut memory_permit = app.budget.permit_for(client_key);
    let max_bytes = admitted.plan().max_bytes;
    let framed = admitted.protocol().is_grpc();
    let body = match body::read(
        body,
        (max_bytes, framed),
        ends,
        &mut memory_permit,
        |bytes| {
            if bytes > HELD_BYTES {
                entered = None;
            }
        },
    )
    .await
    {
        Ok(body) => body,
        Err(BodyFault::TooLarge(_)) => return Err(generation.judge.too_large(admitted).into()),
        Err(fault) => return Err(unread(&fault)),
    };
    if entered.is_none() {
        // The body was not buffered and arrived at the client's pace, or is long. Its check is
        // admitted from now on.
        entered = Some(admit(app, client_key, Instant::now())?);
    }
    record.request_bytes = body.len();
    let read = Instant::now();
    let whole = Duration::from_millis(limits.timeout_ms);
    // The client's deadline counts from its head.
    let client_timeout = if admitted.protocol().is_grpc() {
        grpc_timeout::from_headers(&parts.headers)
    } else {
        None
    };
    let client_deadline = client_timeout.and_then(|timeout| arrived.checked_add(timeout));
    // A client that sent slowly has less time left, as with a deadline of its own.
    let client_deadline = client_deadline.map_or(ends, |deadline| deadline.min(ends));
    let request_deadline = Deadline::new(client_key, read, whole, client_deadline);

    let (request, usage) = verify_body(
        app,
        &generation,
        (admitted, &counters),
        body,
        &mut memory_permit,
        entered,
        record,
    )
    .await?;
    let (protocol, request_id) = (request.protocol, request.caller.request_id.clone());
    match request.operation {
        Operation::Metadata => {
            // The context is signed for this path.
            let body = if asks_config(parts.uri.path()) {
                generation.pipeline.config(&request)?
            } else {
                generation.pipeline.metadata(&request)?
            };
            Ok(reply::success(protocol, StatusCode::OK, body, &request_id))
        }
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
            infer(
                &generation,
                request,
                usage,
                memory_permit,
                request_deadline,
                record,
            )
            .await
        }
    }
}

/// Notes who sent a request without a context that this host accepts.
fn note_sender(app: &App, parts: &Parts, origin: DenialOrigin, record: &mut Record) {
    match origin {
        DenialOrigin::OtherRelease => {
            let peer = parts.extensions.get::<GatewayPeer>();
            let gateway = peer.map_or("", |peer| peer.origin(&parts.headers));
            record.host_release = app.policy_versions.reject_release(&parts.headers, gateway);
        }
        DenialOrigin::UnknownSender => record.claimed_request_id = claimed_request_id(parts),
        _ => {}
    }
}

/// The request ID that the context of an unknown sender names.
fn claimed_request_id(parts: &Parts) -> Option<String> {
    let value = parts.headers.get(context::HEADER)?.to_str().ok()?;
    Context::claimed_request_id(value)
}

/// Denies requests of blocked clients before they are charged.
fn check_block(app: &App, head: &AwaitedHead, record: &mut Record) -> Result<(), Denial> {
    let client = head.caller().client.as_deref();
    let denial = match head.is_stream() {
        true => app.blocks.check_stream(client),
        false => app.blocks.check_request(client),
    };
    let Some(denial) = denial else {
        return Ok(());
    };
    record.caller.clone_from(head.caller());
    record.protocol = head.protocol();
    Err(denial)
}

/// Makes the charges of this host for a head, before the body is read.
async fn charge_head(
    generation: &PolicyVersion,
    mut head: Box<AwaitedHead>,
    counters: &RequestCounters,
) -> Result<HeadVerdict, Box<DeniedRequest>> {
    loop {
        match head.advance(&generation.judge, counters)? {
            HeadProgress::Accepted(verdict) => return Ok(verdict),
            HeadProgress::Charge(rest, charge) => {
                head = rest;
                let request_id = &head.caller().request_id;
                let outcome = charge_shared(generation, counters, &charge, request_id).await;
                head.charged(&generation.judge, outcome);
            }
        }
    }
}

/// Makes a charge of limits that hosts share.
async fn charge_shared(
    generation: &PolicyVersion,
    counters: &RequestCounters,
    charge: &Charge,
    request_id: &str,
) -> ChargeOutcome {
    let (policy, limits) = (generation.policy(), generation.parts.limits.as_ref());
    counters
        .charge_shared(policy, limits, charge, request_id)
        .await
}

/// Reads the body of a request about the server, which is nearly empty. It needs none of the memory
/// that requests share, so a host without memory still answers probes.
async fn query_body<B>(body: B, deadline: Instant) -> Result<Bytes, Failure>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut memory_permit = Budget::new(MAX_QUERY_BODY_BYTES).permit();
    let limits = (MAX_QUERY_BODY_BYTES, false);
    body::read(body, limits, deadline, &mut memory_permit, |_| {})
        .await
        .map_err(|fault| unread(&fault))
}

/// Converts a body error to a failure.
fn unread(fault: &BodyFault) -> Failure {
    let cause = fault.to_string();
    match fault {
        BodyFault::TooLarge(_) => Denial::new(Reason::BodyTooLarge, cause).into(),
        BodyFault::NoRoom => {
            let denial = Denial::new(Reason::Overloaded, cause);
            denial.overloaded_by(OverloadCause::Memory).into()
        }
        BodyFault::TimedOut => Denial::new(Reason::Malformed, cause).into(),
        BodyFault::Broken(_) => Failure::BrokenOff(Denial::new(Reason::Malformed, cause)),
    }
}

/// Passes admission control, or denies the request.
fn admit(app: &App, client_key: ClientKey, arrived: Instant) -> Result<AdmissionPermit, Denial> {
    app.admission.admit(client_key, arrived).ok_or_else(|| {
        app.metrics.admission_refused.inc();
        Denial::new(
            Reason::Overloaded,
            "admission refused: the limit on requests that are being read is reached",
        )
        .overloaded_by(OverloadCause::Admission)
    })
}

/// Verifies a body in memory, makes the charges of this host, and reserves memory for the decoded
/// form. Returns what the request has reserved and acquired since its head, too.
async fn verify_body(
    app: &App,
    generation: &PolicyVersion,
    (admitted, counters): (AcceptedHead, &Arc<RequestCounters>),
    body: Bytes,
    memory_permit: &mut MemoryPermit,
    entered: Option<AdmissionPermit>,
    record: &mut Record,
) -> Result<(ModelRequest, RequestUsage), Failure> {
    let becomes = reserve_expanded(memory_permit, &admitted.plan(), &body)?;
    reserve_parsed(memory_permit, &admitted.plan(), &body, becomes)?;
    let request_id = admitted.caller().request_id.clone();
    let client_key = ClientKey::from_name(admitted.caller().client.as_deref());
    let bytes = body.len().max(becomes);
    let mut judgement = BodyJudgement::new(admitted, body);
    let mut entered = entered;
    let mut request = loop {
        let (judge, counting) = (Arc::clone(&generation.judge), Arc::clone(counters));
        let judged = offload(bytes, move || {
            let progress = judgement.run(&judge, &*counting);
            (judgement, progress)
        })
        .await;
        let (rest, progress) =
            judged.ok_or_else(|| Denial::new(Reason::HandlerFault, "judging the body failed"))?;
        judgement = rest;
        // A charge that is awaited keeps no other request from being judged. The time of a long
        // body says nothing about load, nor that before a charge for the request, when nothing is
        // decoded.
        let entered_before = entered.take();
        let is_for_request =
            matches!(&progress, Ok(Progress::Charge(charge)) if !charge.is_of_content());
        let is_measured = !is_for_request && bytes <= HELD_BYTES;
        if let Some(entered) = entered_before.filter(|_| is_measured) {
            entered.finish(Instant::now());
        }
        match progress? {
            Progress::Passed(request) => break *request,
            Progress::Charge(charge) => {
                let outcome = charge_shared(generation, counters, &charge, &request_id).await;
                let decodes = judgement.charged(&generation.judge, outcome);
                if decodes {
                    entered = Some(admit(app, client_key, Instant::now())?);
                }
            }
        }
    };
    record.set_request(generation.policy(), &request);
    traces::forward(&record.timings.trace, &mut request);
    let document = request.document.as_ref();
    reserve_decoded(
        memory_permit,
        record.request_bytes,
        &request.payload,
        document,
    )?;
    Ok((request, counters.take_usage()))
}

async fn infer(
    generation: &PolicyVersion,
    mut request: ModelRequest,
    usage: RequestUsage,
    mut memory_permit: MemoryPermit,
    request_deadline: Deadline,
    record: &mut Record,
) -> Result<Reply, Failure> {
    let (protocol, request_id) = (request.protocol, request.caller.request_id.clone());
    if let Some(document) = request.document.take() {
        return complete(
            generation,
            (request, usage),
            document,
            memory_permit,
            request_deadline,
            record,
        )
        .await;
    }
    let audit = record.audit().clone();
    let answer = generation
        .pipeline
        .infer(
            request,
            &mut memory_permit,
            request_deadline,
            &mut record.timings,
            &mut record.shadow,
            &audit,
        )
        .await?;
    let mut reply = reply::success(protocol, StatusCode::OK, answer.body, &request_id);
    if let Some(json_bytes) = answer.json_bytes {
        reply.mark_binary(json_bytes);
    }
    reply.hold(memory_permit);
    Ok(reply)
}

/// An inference of the OpenAI API, complete or streamed. Reserved tokens that it does not use are
/// given back.
async fn complete(
    generation: &PolicyVersion,
    (request, usage): (ModelRequest, RequestUsage),
    document: Document,
    mut memory_permit: MemoryPermit,
    request_deadline: Deadline,
    record: &mut Record,
) -> Result<Reply, Failure> {
    let (protocol, request_id) = (request.protocol, request.caller.request_id.clone());
    let (pipeline, timings) = (&generation.pipeline, &mut record.timings);
    if document.stream {
        let streamed = openai::stream(
            pipeline,
            request,
            document,
            memory_permit,
            request_deadline,
            timings,
        )
        .await?;
        let mut reply = reply::events(streamed, &request_id);
        reply.settle_at_end(usage);
        return Ok(reply);
    }
    let answer = openai::complete(
        pipeline,
        request,
        document,
        &mut memory_permit,
        request_deadline,
        timings,
    )
    .await?;
    if let Some((refund, tokens)) = usage.refund.zip(answer.tokens) {
        refund.used(tokens);
    }
    let mut reply = reply::success(protocol, StatusCode::OK, answer.body, &request_id);
    reply.hold(memory_permit);
    Ok(reply)
}

fn server_answer(
    app: &App,
    protocol: Protocol,
    question: ServerQuery,
    request_id: &str,
    method: &Method,
) -> Reply {
    let yes = match question {
        ServerQuery::Live | ServerQuery::Metadata | ServerQuery::Models => true,
        ServerQuery::Ready | ServerQuery::Health => app.ready(),
    };
    let body = if *method == Method::HEAD {
        Vec::new()
    } else {
        encode::server_answer(protocol, question, yes)
    };
    reply::success(protocol, readiness(yes), body, request_id)
}

/// The REST status of a model's readiness. TF Serving's clients read the state in the body.
const fn model_readiness(protocol: Protocol, ready: bool) -> StatusCode {
    match protocol {
        Protocol::TfRest => StatusCode::OK,
        _ => readiness(ready),
    }
}

/// The REST status of readiness. Clients only check the status.
const fn readiness(ready: bool) -> StatusCode {
    if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// The header fields of a head, pseudo-headers first, as a proxy shows them. The `host` of HTTP/1.1
/// is `:authority`. A head with both or several keeps them all, so that verification sees them.
fn fields(parts: &Parts) -> Vec<(&[u8], &[u8])> {
    const fn field<'a>(name: &'a str, value: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        (name.as_bytes(), value)
    }
    let path = parts
        .uri
        .path_and_query()
        .map_or("", http::uri::PathAndQuery::as_str);
    // At most four pseudo-headers are added.
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
        // Proxies add these fields for the audit record, traces and the operator. They are not part
        // of the request, and with one of the gate's own names they would be a forgery.
        .filter(|(name, _)| !ADDED_BY_PROXIES.contains(&name.as_str()))
        .filter(|(name, _)| !host || *name != http::header::HOST);
    fields.extend(rest.map(|(name, value)| field(name.as_str(), value.as_bytes())));
    fields
}

#[cfg(test)]
mod tests;
