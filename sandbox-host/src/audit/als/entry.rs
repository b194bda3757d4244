//! Converts an entry of Envoy's access log to a request's outcome. Its values are trusted only as
//! far as possible. The gate's outcome is filter state, which no client can set. A request ID
//! counts only if the gate created it.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message as _;
use serde::Deserialize;
use tensorgate_policy::denial::{MAX_SHADOWED, Shadowed};
use tensorgate_policy::request::Api;
use tensorgate_policy::{Protocol, Reason};

use super::service;
use crate::audit::envoy_reply::{self, OURS};
use crate::audit::record::{
    By, Decision, MAX_DETAIL_BYTES, MAX_ID_BYTES, MAX_METHOD_BYTES, MAX_NAME_BYTES, Verdict, clean,
    clean_shadowed, path,
};
use crate::telemetry::metrics::micros;

/// The filter state of a request's outcome. The names are those of `tensorgate_filter_core`, as
/// Envoy shows them.
pub const PROPERTIES: [&str; 3] = ["wasm.tg_outcome", "wasm.tg_forwarded", "wasm.tg_entry"];
/// The largest outcome in bytes: a cause of 1 KiB in which each byte is escaped, and names. A
/// longer one is ignored.
const MAX_OUTCOME_BYTES: usize = 16 << 10;
/// The request headers that Envoy logs.
pub const REQUEST_HEADERS: [&str; 2] = [":method", "content-type"];
/// The response headers and trailers that Envoy logs.
pub const RESPONSE_HEADERS: [&str; 1] = ["grpc-status"];
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
    /// Whether the gate forwarded at least its head. The host may have seen it, and its ID is the
    /// gate's.
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
    let said = GateState::from_state(&common.filter_state_objects);
    let status = response.response_code.map_or(0, |code| code.value);
    let status = u16::try_from(status).unwrap_or_default();
    let flags = common
        .response_flags
        .map(|it| it.names())
        .unwrap_or_default();
    let outcome = Outcome::from_state(&said, &details, status, &flags);
    let named = !said.outcome.verdict.is_empty() || !envoy_reply::nameless(&details);
    let id = text(&request.request_id, MAX_ID_BYTES);
    let forwarded = said.outcome.verdict == "allow" || said.forwarded;
    let from_host = forwarded && details == FROM_THE_HOST;
    let decision = Decision {
        request_id: Some(id).filter(|id| named && !id.is_empty()),
        by: outcome.by,
        verdict: outcome.verdict,
        reason: outcome.reason,
        client: said.outcome.client,
        credential: said.outcome.credential,
        source: source(&common),
        http: version(protocol_version),
        protocol: protocol(&request),
        method: header(&request.request_headers, ":method", MAX_METHOD_BYTES),
        path: Some(path(&String::from_utf8_lossy(&request.path))).filter(|it| !it.is_empty()),
        model: said.outcome.model,
        rule: said.outcome.rule,
        detail: said.outcome.detail,
        shadow: said.outcome.shadow,
        status,
        grpc_status: grpc_status(&response),
        request_bytes: request.request_body_bytes,
        response_bytes: response.response_body_bytes,
        total_us: micros(took(&common)),
        flags,
        envoy: Some(details).filter(|details| !details.is_empty() && details != OURS),
        entry: said.entry,
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
    forwarded: bool,
    entry: Option<String>,
}

/// The gate's outcome of a request. Texts are empty if there is none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct GateOutcome {
    verdict: String,
    reason: String,
    client: Option<String>,
    credential: Option<String>,
    model: Option<String>,
    rule: Option<String>,
    detail: Option<String>,
    shadow: Vec<Shadowed>,
}

impl GateState {
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
            forwarded: forwarded.is_some(),
            entry: entry
                .map(|entry| text(&entry, MAX_NAME_BYTES))
                .filter(|entry| service::read(entry).is_some()),
        }
    }
}

impl GateOutcome {
    fn cleaned(self) -> Self {
        let bounded = |text: Option<String>, max_bytes: usize| {
            text.map(|text| clean(&text, max_bytes))
                .filter(|text| !text.is_empty())
        };
        let name = |text| bounded(text, MAX_NAME_BYTES);
        Self {
            verdict: clean(&self.verdict, MAX_NAME_BYTES),
            reason: clean(&self.reason, MAX_NAME_BYTES),
            client: name(self.client),
            credential: name(self.credential),
            model: name(self.model),
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

struct Outcome {
    by: By,
    verdict: Verdict,
    reason: String,
}

impl Outcome {
    fn from_state(said: &GateState, details: &str, status: u16, flags: &[String]) -> Self {
        let is = |by, verdict, reason: &str| Self {
            by,
            verdict,
            reason: reason.to_owned(),
        };
        if said.outcome.verdict == "deny" {
            return is(By::Gate, Verdict::Deny, &said.outcome.reason);
        }
        // The client was not there any more.
        let left = details.starts_with("downstream_remote_disconnect")
            || flags
                .iter()
                .any(|flag| matches!(flag.as_str(), "DC" | "DR"));
        if left || (status == 0 && !details.starts_with("http")) {
            return is(By::Envoy, Verdict::Aborted, "incomplete");
        }
        if said.outcome.verdict == "allow" && details == FROM_THE_HOST {
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

fn text(bytes: &[u8], max_bytes: usize) -> String {
    clean(&String::from_utf8_lossy(bytes), max_bytes)
}

fn header(headers: &HashMap<String, Vec<u8>>, name: &str, max_bytes: usize) -> Option<String> {
    Some(text(headers.get(name)?, max_bytes))
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
    let address = clean(&address.socket_address.as_ref()?.address, MAX_ID_BYTES);
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

// The messages of Envoy's access log (`envoy.service.accesslog.v3` and `envoy.data.accesslog.v3`),
// with the fields that are used here. Other fields are skipped. Strings that a client can
// influence are bytes here, whatever Envoy declares: invalid UTF-8 must not lose the entry, and a
// malformed entry must not lose its neighbours.

/// `StreamAccessLogsMessage`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(message, optional, tag = "2")]
    pub(super) http_logs: Option<HttpLogs>,
    #[prost(message, optional, tag = "3")]
    pub(super) tcp_logs: Option<TcpLogs>,
}

/// `HTTPAccessLogEntries`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpLogs {
    /// [`HttpEntry`] messages, each decoded separately.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) log_entry: Vec<Vec<u8>>,
}

/// `TCPAccessLogEntries`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TcpLogs {
    /// [`TcpEntry`] messages, each decoded separately.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) log_entry: Vec<Vec<u8>>,
}

/// `TCPAccessLogEntry`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TcpEntry {
    #[prost(message, optional, tag = "1")]
    pub(super) common_properties: Option<Common>,
}

/// `HTTPAccessLogEntry`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpEntry {
    #[prost(message, optional, tag = "1")]
    pub(super) common_properties: Option<Common>,
    #[prost(int32, tag = "2")]
    pub(super) protocol_version: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) request: Option<HttpRequest>,
    #[prost(message, optional, tag = "4")]
    pub(super) response: Option<HttpResponse>,
}

/// `AccessLogCommon`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Common {
    #[prost(message, optional, tag = "2")]
    pub(super) downstream_remote_address: Option<Address>,
    #[prost(message, optional, tag = "5")]
    pub(super) start_time: Option<Timestamp>,
    #[prost(message, optional, tag = "12")]
    pub(super) time_to_last_downstream_tx_byte: Option<Span>,
    #[prost(message, optional, tag = "16")]
    pub(super) response_flags: Option<Flags>,
    #[prost(map = "string, message", tag = "21")]
    pub(super) filter_state_objects: HashMap<String, Any>,
    #[prost(message, optional, tag = "23")]
    pub(super) duration: Option<Span>,
    #[prost(bytes = "vec", tag = "25")]
    pub(super) connection_termination_details: Vec<u8>,
    #[prost(bool, tag = "27")]
    pub(super) intermediate_log_entry: bool,
    #[prost(bytes = "vec", tag = "28")]
    pub(super) downstream_transport_failure_reason: Vec<u8>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Span {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// `envoy.config.core.v3.Address`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Address {
    #[prost(message, optional, tag = "1")]
    pub(super) socket_address: Option<SocketAddress>,
}

/// `envoy.config.core.v3.SocketAddress`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SocketAddress {
    #[prost(string, tag = "2")]
    pub(super) address: String,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `google.protobuf.BytesValue`, and `StringValue` as well.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Wrapped {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) value: Vec<u8>,
}

/// `HTTPRequestProperties`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpRequest {
    #[prost(bytes = "vec", tag = "5")]
    pub(super) path: Vec<u8>,
    #[prost(bytes = "vec", tag = "9")]
    pub(super) request_id: Vec<u8>,
    #[prost(uint64, tag = "12")]
    pub(super) request_body_bytes: u64,
    #[prost(map = "string, bytes", tag = "13")]
    pub(super) request_headers: HashMap<String, Vec<u8>>,
}

/// `HTTPResponseProperties`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) response_code: Option<Number>,
    #[prost(uint64, tag = "3")]
    pub(super) response_body_bytes: u64,
    #[prost(map = "string, bytes", tag = "4")]
    pub(super) response_headers: HashMap<String, Vec<u8>>,
    #[prost(map = "string, bytes", tag = "5")]
    pub(super) response_trailers: HashMap<String, Vec<u8>>,
    #[prost(bytes = "vec", tag = "6")]
    pub(super) response_code_details: Vec<u8>,
}

/// `google.protobuf.UInt32Value`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Number {
    #[prost(uint32, tag = "1")]
    pub(super) value: u32,
}

/// `ResponseFlags`, with a name for each in [`Flags::names`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Flags {
    #[prost(bool, tag = "1")]
    pub(super) failed_local_healthcheck: bool,
    #[prost(bool, tag = "2")]
    pub(super) no_healthy_upstream: bool,
    #[prost(bool, tag = "3")]
    pub(super) upstream_request_timeout: bool,
    #[prost(bool, tag = "4")]
    pub(super) local_reset: bool,
    #[prost(bool, tag = "5")]
    pub(super) upstream_remote_reset: bool,
    #[prost(bool, tag = "6")]
    pub(super) upstream_connection_failure: bool,
    #[prost(bool, tag = "7")]
    pub(super) upstream_connection_termination: bool,
    #[prost(bool, tag = "8")]
    pub(super) upstream_overflow: bool,
    #[prost(bool, tag = "9")]
    pub(super) no_route_found: bool,
    #[prost(bool, tag = "15")]
    pub(super) downstream_connection_termination: bool,
    #[prost(bool, tag = "16")]
    pub(super) upstream_retry_limit_exceeded: bool,
    #[prost(bool, tag = "17")]
    pub(super) stream_idle_timeout: bool,
    #[prost(bool, tag = "19")]
    pub(super) downstream_protocol_error: bool,
    #[prost(bool, tag = "20")]
    pub(super) upstream_max_stream_duration_reached: bool,
    #[prost(bool, tag = "22")]
    pub(super) no_filter_config_found: bool,
    #[prost(bool, tag = "23")]
    pub(super) duration_timeout: bool,
    #[prost(bool, tag = "24")]
    pub(super) upstream_protocol_error: bool,
    #[prost(bool, tag = "25")]
    pub(super) no_cluster_found: bool,
    #[prost(bool, tag = "26")]
    pub(super) overload_manager: bool,
    #[prost(bool, tag = "28")]
    pub(super) downstream_remote_reset: bool,
}

impl Flags {
    /// The names of the flags that are set, in Envoy's abbreviations.
    pub(super) fn names(&self) -> Vec<String> {
        let flags = [
            (self.failed_local_healthcheck, "LH"),
            (self.no_healthy_upstream, "UH"),
            (self.upstream_request_timeout, "UT"),
            (self.local_reset, "LR"),
            (self.upstream_remote_reset, "UR"),
            (self.upstream_connection_failure, "UF"),
            (self.upstream_connection_termination, "UC"),
            (self.upstream_overflow, "UO"),
            (self.no_route_found, "NR"),
            (self.downstream_connection_termination, "DC"),
            (self.upstream_retry_limit_exceeded, "URX"),
            (self.stream_idle_timeout, "SI"),
            (self.downstream_protocol_error, "DPE"),
            (self.upstream_max_stream_duration_reached, "UMSDR"),
            (self.no_filter_config_found, "NFCF"),
            (self.duration_timeout, "DT"),
            (self.upstream_protocol_error, "UPE"),
            (self.no_cluster_found, "NC"),
            (self.overload_manager, "OM"),
            (self.downstream_remote_reset, "DR"),
        ];
        let set = flags.into_iter().filter(|(set, _)| *set);
        set.map(|(_, name)| name.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests;
