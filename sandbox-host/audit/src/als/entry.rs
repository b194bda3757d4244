//! Converts an entry of Envoy's access log to a request's outcome. Its values are trusted only as
//! far as possible. The gate's outcome and its request ID are filter state, which no client can
//! set. The ID in the request's header may be a client's.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message as _;
use serde::Deserialize;
use tensorgate_policy::denial::{MAX_SHADOWED, Shadowed};
use tensorgate_policy::request::Api;
use tensorgate_policy::values::safe_text::printable_prefix;
use tensorgate_policy::{Protocol, Reason};
use tensorgate_telemetry::metrics::micros;
use tensorgate_wire::request_id::is_uuid;
use tensorgate_wire::trace_context::{CLIENT_TRACEPARENT, ENVOY_TRACE, TRACEPARENT, TraceParent};

use super::messages::{Any, Common, HttpEntry, HttpRequest, HttpResponse, Span, TcpEntry, Wrapped};
use crate::envoy_reply::{self, OURS};
use crate::record::{
    By, Decision, MAX_CLIENT_ID_BYTES, MAX_DETAIL_BYTES, MAX_ID_BYTES, MAX_METHOD_BYTES,
    MAX_NAME_BYTES, Verdict, clean_shadowed, path,
};
use crate::sequence;

/// The filter state of a request's outcome. The names are those of `tensorgate_filter_core`, as
/// Envoy shows them.
pub const PROPERTIES: [&str; 3] = ["wasm.tg_outcome", "wasm.tg_forwarded", "wasm.tg_entry"];
/// The largest outcome in bytes: a cause of 1 KiB in which each byte is escaped, and names. A
/// longer one is ignored.
const MAX_OUTCOME_BYTES: usize = 16 << 10;
/// The request headers that Envoy logs.
pub const REQUEST_HEADERS: [&str; 3] = [":method", "content-type", TRACEPARENT];
/// The request headers that Envoy logs in addition if it traces.
pub const TRACE_HEADERS: [&str; 2] = [CLIENT_TRACEPARENT, ENVOY_TRACE];
/// The response headers and trailers that Envoy logs.
pub const RESPONSE_HEADERS: [&str; 1] = ["grpc-status"];
/// The response headers that Envoy logs for a control plane that cannot log filter state. The ID of
/// a reply of ours is then only in its header.
pub const RESPONSE_HEADERS_WITHOUT_STATE: [&str; 2] = ["grpc-status", REQUEST_ID];
const REQUEST_ID: &str = "x-request-id";
/// The details of a response from the host.
const FROM_THE_HOST: &str = "via_upstream";
/// The path prefixes of gRPC, with their protocols.
const GRPC_PATHS: [(&str, Protocol); 4] = [
    ("/inference.", Protocol::OipGrpc),
    ("/grpc.", Protocol::OipGrpc),
    ("/tensorflow.", Protocol::TfGrpc),
    ("/org.pytorch.serve.grpc.", Protocol::TorchGrpc),
];

/// A request, as Envoy reports it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The time when it started.
    pub time: SystemTime,
    /// Its outcome.
    pub decision: Decision,
    /// Whether the gate forwarded at least its head. The host may have seen it.
    pub forwarded: bool,
    /// Whether the host answered it and the response arrived.
    pub from_host: bool,
}

/// Parses an entry. Returns `None` for an intermediate entry of a running request.
pub fn http(bytes: &[u8]) -> Result<Option<Entry>, prost::DecodeError> {
    let HttpEntry {
        common_properties,
        protocol_version,
        request,
        response,
    } = HttpEntry::decode(bytes)?;
    let common = common_properties.unwrap_or_default();
    if common.intermediate_log_entry {
        return Ok(None);
    }
    let (request, response) = (request.unwrap_or_default(), response.unwrap_or_default());
    let details = text(&response.response_code_details, MAX_NAME_BYTES);
    let gate_state = GateState::from_state(&common.filter_state_objects);
    let status = response.response_code.map_or(0, |code| code.value);
    let status = u16::try_from(status).unwrap_or_default();
    let flags = common
        .response_flags
        .map(|it| it.names())
        .unwrap_or_default();
    let is_unconfigured = details.is_empty()
        && (flags.iter()).any(|flag| *flag == envoy_reply::NO_CONFIGURATION_FLAG);
    let reply = if is_unconfigured {
        envoy_reply::NO_CONFIGURATION
    } else {
        details.as_str()
    };
    let outcome = EntryOutcome::from_state(&gate_state, reply, status, &flags);
    let client_request_id = text(&request.request_id, MAX_CLIENT_ID_BYTES);
    let reply_id = gate_state
        .is_empty()
        .then(|| reply_id(&request, &response, &details));
    let reply_id = reply_id.flatten();
    // Without filter state the host may have seen the head of a request that the gate answers.
    let forwarded =
        gate_state.outcome.verdict == "allow" || gate_state.is_forwarded || reply_id.is_some();
    let from_host = forwarded && details == FROM_THE_HOST;
    let known = gate_state.outcome;
    // The host, or the filter, knows the cause of what they have seen.
    let is_envoys = outcome.by == By::Envoy && outcome.verdict == Verdict::Deny;
    let cause = (is_envoys && !forwarded && !reply.is_empty() && reply != FROM_THE_HOST)
        .then(|| envoy_reply::cause(reply, status));
    let (traceparent, trace_id) = traces(&request.request_headers);
    let decision = Decision {
        request_id: known.request_id.or(gate_state.forwarded_id).or(reply_id),
        client_request_id: Some(client_request_id).filter(|id| !id.is_empty()),
        traceparent,
        trace_id,
        by: outcome.by,
        verdict: outcome.verdict,
        reason: outcome.reason,
        client: known.client,
        credential: known.credential,
        source: source(&common),
        http: version(protocol_version),
        protocol: protocol(&request),
        method: header(&request.request_headers, ":method", MAX_METHOD_BYTES),
        path: Some(path(&String::from_utf8_lossy(&request.path))).filter(|it| !it.is_empty()),
        model: known.model,
        operation: known.operation,
        rule: known.rule,
        detail: known.detail.or(cause),
        shadow: known.shadow,
        status,
        grpc_status: grpc_status(&response),
        request_bytes: request.request_body_bytes,
        response_bytes: response.response_body_bytes,
        total_us: micros(took(&common)),
        flags,
        envoy: Some(details).filter(|details| !details.is_empty() && details != OURS),
        entry: gate_state.entry,
        ..Decision::default()
    };
    Ok(Some(Entry {
        time: time(&common),
        decision,
        forwarded,
        from_host,
    }))
}

/// Parses an entry of a connection without a request: a failed TLS handshake.
pub fn tcp(bytes: &[u8]) -> Result<Option<Entry>, prost::DecodeError> {
    let common = TcpEntry::decode(bytes)?
        .common_properties
        .unwrap_or_default();
    let cause = text(
        &common.downstream_transport_failure_reason,
        MAX_DETAIL_BYTES,
    );
    if common.intermediate_log_entry || cause.is_empty() {
        return Ok(None);
    }
    let decision = Decision {
        by: By::Envoy,
        verdict: Verdict::Deny,
        reason: Reason::Unauthenticated.name().to_owned(),
        source: source(&common),
        detail: Some(cause),
        total_us: micros(took(&common)),
        ..Decision::default()
    };
    Ok(Some(Entry {
        time: time(&common),
        decision,
        forwarded: false,
        from_host: false,
    }))
}

/// The filter state of a request.
#[derive(Default)]
struct GateState {
    outcome: GateOutcome,
    /// Whether the head was forwarded before the verdict.
    is_forwarded: bool,
    /// The request's ID, as a filter that has forwarded the head names it. An older one does not.
    forwarded_id: Option<String>,
    entry: Option<String>,
}

/// The gate's outcome of a request. Texts are empty if there is none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct GateOutcome {
    verdict: String,
    reason: String,
    request_id: Option<String>,
    client: Option<String>,
    credential: Option<String>,
    model: Option<String>,
    operation: Option<String>,
    rule: Option<String>,
    detail: Option<String>,
    shadow: Vec<Shadowed>,
}

impl GateState {
    /// Whether Envoy logged no filter state.
    fn is_empty(&self) -> bool {
        self.outcome.verdict.is_empty() && !self.is_forwarded && self.entry.is_none()
    }

    fn from_state(state: &HashMap<String, Any>) -> Self {
        let read = |name: &str| {
            Wrapped::decode(state.get(name)?.value.as_slice())
                .ok()
                .map(|wrapped| wrapped.value)
                .filter(|value| !value.is_empty())
        };
        let [outcome, forwarded, entry] = PROPERTIES.map(read);
        let outcome = outcome
            .filter(|json| json.len() <= MAX_OUTCOME_BYTES)
            .and_then(|json| serde_json::from_slice::<GateOutcome>(&json).ok());
        Self {
            outcome: outcome.unwrap_or_default().cleaned(),
            is_forwarded: forwarded.is_some(),
            forwarded_id: forwarded
                .map(|id| text(&id, MAX_ID_BYTES))
                .filter(|id| is_uuid(id)),
            entry: entry
                .map(|entry| text(&entry, MAX_NAME_BYTES))
                .filter(|entry| sequence::read(entry).is_some()),
        }
    }
}

impl GateOutcome {
    fn cleaned(self) -> Self {
        let bounded = |text: Option<String>, max_bytes: usize| {
            text.map(|text| printable_prefix(&text, max_bytes))
                .filter(|text| !text.is_empty())
        };
        let name = |text| bounded(text, MAX_NAME_BYTES);
        Self {
            verdict: printable_prefix(&self.verdict, MAX_NAME_BYTES),
            reason: printable_prefix(&self.reason, MAX_NAME_BYTES),
            request_id: bounded(self.request_id, MAX_ID_BYTES),
            client: name(self.client),
            credential: name(self.credential),
            model: name(self.model),
            operation: name(self.operation),
            rule: name(self.rule),
            detail: bounded(self.detail, MAX_DETAIL_BYTES),
            shadow: self
                .shadow
                .iter()
                .take(MAX_SHADOWED)
                .map(clean_shadowed)
                .collect(),
        }
    }
}

struct EntryOutcome {
    by: By,
    verdict: Verdict,
    reason: String,
}

impl EntryOutcome {
    fn from_state(gate_state: &GateState, details: &str, status: u16, flags: &[String]) -> Self {
        let is = |by, verdict, reason: &str| Self {
            by,
            verdict,
            reason: reason.to_owned(),
        };
        if gate_state.outcome.verdict == "deny" {
            return is(By::Gate, Verdict::Deny, &gate_state.outcome.reason);
        }
        if details == OURS && gate_state.outcome.verdict.is_empty() {
            // Some control planes cannot log filter state.
            let reason = envoy_reply::only_reason(status);
            return is(
                By::Gate,
                Verdict::Deny,
                reason.map_or("unknown", Reason::name),
            );
        }
        // The client was not there any more.
        let left = details.starts_with("downstream_remote_disconnect")
            || flags
                .iter()
                .any(|flag| matches!(flag.as_str(), "DC" | "DR"));
        if left || (status == 0 && !details.starts_with("http")) {
            return is(By::Envoy, Verdict::Aborted, "incomplete");
        }
        if gate_state.outcome.verdict == "allow" && details == FROM_THE_HOST {
            // Usually joined with the host's report. Used alone only if that is lost.
            return if status < 400 {
                is(By::Envoy, Verdict::Allow, "ok")
            } else {
                is(By::Envoy, Verdict::Deny, "unknown")
            };
        }
        is(
            By::Envoy,
            Verdict::Deny,
            envoy_reply::reason(details, status).name(),
        )
    }
}

/// The ID that a reply of the gate names. Replies of others, and responses of servers, have none
/// that counts. A filter without a configuration only repeats the ID that arrived, which may be the
/// client's choice.
fn reply_id(request: &HttpRequest, response: &HttpResponse, details: &str) -> Option<String> {
    let id = header(&response.response_headers, REQUEST_ID, MAX_ID_BYTES)?;
    let is_repeated = id.as_bytes() == request.request_id.as_slice();
    (details == OURS && is_uuid(&id) && !is_repeated).then_some(id)
}

fn text(bytes: &[u8], max_bytes: usize) -> String {
    printable_prefix(&String::from_utf8_lossy(bytes), max_bytes)
}

fn header(headers: &HashMap<String, Vec<u8>>, name: &str, max_bytes: usize) -> Option<String> {
    Some(text(headers.get(name)?, max_bytes))
}

/// The `traceparent` of a client, and the ID of the trace that Envoy has begun. A `traceparent`
/// that is not valid is a text of a client's.
fn traces(headers: &HashMap<String, Vec<u8>>) -> (Option<String>, Option<String>) {
    let read = |name: &str| {
        let text = std::str::from_utf8(headers.get(name)?).ok()?;
        TraceParent::read(text).map(|parent| (text.to_owned(), parent.trace_id.to_owned()))
    };
    let (client, envoy) = if headers.contains_key(ENVOY_TRACE) {
        (read(CLIENT_TRACEPARENT), read(TRACEPARENT))
    } else {
        (read(TRACEPARENT).or_else(|| read(CLIENT_TRACEPARENT)), None)
    };
    let client = client.map(|(text, _)| text);
    (client, envoy.map(|(_, trace_id)| trace_id))
}

/// The protocol of a rejected request, by its path as far as possible.
fn protocol(request: &HttpRequest) -> Option<String> {
    let path = String::from_utf8_lossy(&request.path);
    let typed = request
        .request_headers
        .get("content-type")
        .is_some_and(|value| value.starts_with(b"application/grpc"));
    let by_path = GRPC_PATHS.iter().find(|(start, _)| path.starts_with(start));
    let protocol = match by_path {
        Some((_, protocol)) => *protocol,
        None if typed => Protocol::OipGrpc,
        None if path.is_empty() => return None,
        None if path.starts_with("/v1/models/") => Protocol::TfRest,
        None if path == "/ping" || path.starts_with("/predictions/") => Protocol::TorchRest,
        None if path == "/v1/models" || Api::ALL.iter().any(|api| api.path() == path) => {
            Protocol::OpenAi
        }
        None => Protocol::OipRest,
    };
    Some(protocol.name().to_owned())
}

/// `HTTPVersion`, in the format of Envoy's `%PROTOCOL%`.
fn version(number: i32) -> Option<String> {
    let name = match number {
        1 => "HTTP/1.0",
        2 => "HTTP/1.1",
        3 => "HTTP/2",
        4 => "HTTP/3",
        _ => return None,
    };
    Some(name.to_owned())
}

fn grpc_status(response: &HttpResponse) -> Option<u8> {
    let value = response
        .response_trailers
        .get("grpc-status")
        .or_else(|| response.response_headers.get("grpc-status"))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn source(common: &Common) -> Option<String> {
    let address = common.downstream_remote_address.as_ref()?;
    let address = printable_prefix(&address.socket_address.as_ref()?.address, MAX_ID_BYTES);
    Some(address).filter(|address| !address.is_empty())
}

fn took(common: &Common) -> Duration {
    let span = common.duration.or(common.time_to_last_downstream_tx_byte);
    span.map_or(Duration::ZERO, duration)
}

fn duration(span: Span) -> Duration {
    let seconds = u64::try_from(span.seconds).unwrap_or_default();
    let nanos = u32::try_from(span.nanos).unwrap_or_default();
    Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into()))
}

fn time(common: &Common) -> SystemTime {
    let Some(start) = common.start_time else {
        return SystemTime::now();
    };
    let since = duration(Span {
        seconds: start.seconds,
        nanos: start.nanos,
    });
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
