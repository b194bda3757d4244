//! An entry of Envoy's access log as what became of a request. Nothing in it is believed further than it can be: what the
//! gate said of a request comes as filter state, which no client can set; a request id only counts where it is ours.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message as _;
use serde::Deserialize;
use tensorgate_policy::denial::{MAX_SHADOWED, Shadowed};
use tensorgate_policy::request::Api;
use tensorgate_policy::{Protocol, Reason};

use super::message::{Any, Common, HttpEntry, HttpRequest, HttpResponse, Span, TcpEntry, Wrapped};
use crate::audit::envoy_reply::{self, OURS};
use crate::audit::heard;
use crate::audit::record::{
    By, Decision, MAX_DETAIL_BYTES, MAX_ID_BYTES, MAX_METHOD_BYTES, MAX_NAME_BYTES, Verdict, clean,
    in_shadow, path,
};
use crate::metrics::micros;

/// The gate's word on a request, as filter state; the names are `tensorgate_glue`'s, as Envoy shows them.
pub const PROPERTIES: [&str; 3] = ["wasm.tg_outcome", "wasm.tg_forwarded", "wasm.tg_entry"];
/// Bytes of what the gate says that a request came to; a longer one says nothing. A cause of 1 KiB in which each byte is escaped, and names.
const MAX_OUTCOME_BYTES: usize = 16 << 10;
/// Request headers that Envoy is asked to tell.
pub const REQUEST_HEADERS: [&str; 2] = [":method", "content-type"];
/// Response headers and trailers.
pub const RESPONSE_HEADERS: [&str; 1] = ["grpc-status"];
/// Details of an answer that came from the host.
const FROM_THE_HOST: &str = "via_upstream";
/// Where gRPC's paths begin, and whose they are.
const GRPC_PATHS: [(&str, Protocol); 4] = [
    ("/inference.", Protocol::OipGrpc),
    ("/grpc.", Protocol::OipGrpc),
    ("/tensorflow.", Protocol::TfGrpc),
    ("/org.pytorch.serve.grpc.", Protocol::TorchGrpc),
];

/// A request, as Envoy tells of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it began.
    pub time: SystemTime,
    /// What became of it.
    pub decision: Decision,
    /// The gate let it through, its head at least: the host may have seen it, and its id is ours.
    pub forwarded: bool,
    /// The host answered it, and the answer arrived.
    pub from_host: bool,
}

/// What an entry holds. `None`: it is none, or tells of a request that still runs.
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
    let said = Said::of(&common.filter_state_objects);
    let status = response.response_code.map_or(0, |code| code.value);
    let status = u16::try_from(status).unwrap_or_default();
    let flags = common
        .response_flags
        .map(|it| it.names())
        .unwrap_or_default();
    let outcome = Outcome::of(&said, &details, status, &flags);
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

/// What an entry of a connection without a request holds: TLS that failed.
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

/// What the gate said.
#[derive(Default)]
struct Said {
    outcome: Told,
    forwarded: bool,
    entry: Option<String>,
}

/// What the gate said that a request came to; empty texts while it said nothing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    verdict: String,
    reason: String,
    client: Option<String>,
    credential: Option<String>,
    model: Option<String>,
    rule: Option<String>,
    detail: Option<String>,
    shadow: Vec<Shadowed>,
}

impl Said {
    fn of(state: &HashMap<String, Any>) -> Self {
        let read = |name: &str| {
            Wrapped::decode(state.get(name)?.value.as_slice())
                .ok()
                .map(|wrapped| wrapped.value)
                .filter(|value| !value.is_empty())
        };
        let [outcome, forwarded, entry] = PROPERTIES.map(read);
        let outcome = outcome
            .filter(|json| json.len() <= MAX_OUTCOME_BYTES)
            .and_then(|json| serde_json::from_slice::<Told>(&json).ok());
        Self {
            outcome: outcome.unwrap_or_default().cleaned(),
            forwarded: forwarded.is_some(),
            entry: entry
                .map(|entry| text(&entry, MAX_NAME_BYTES))
                .filter(|entry| heard::read(entry).is_some()),
        }
    }
}

impl Told {
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
                .map(in_shadow)
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
    fn of(said: &Said, details: &str, status: u16, flags: &[String]) -> Self {
        let is = |by, verdict, reason: &str| Self {
            by,
            verdict,
            reason: reason.to_owned(),
        };
        if said.outcome.verdict == "deny" {
            return is(By::Gate, Verdict::Deny, &said.outcome.reason);
        }
        // Nobody was there to be answered.
        let left = details.starts_with("downstream_remote_disconnect")
            || flags
                .iter()
                .any(|flag| matches!(flag.as_str(), "DC" | "DR"));
        if left || (status == 0 && !details.starts_with("http")) {
            return is(By::Envoy, Verdict::Aborted, "incomplete");
        }
        if said.outcome.verdict == "allow" && details == FROM_THE_HOST {
            // Joined with what the host says; alone only where that is lost.
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

/// In whose protocol a request was refused: by its path, as far as that says it.
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

/// `HTTPVersion`, as Envoy's `%PROTOCOL%` says it.
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

#[cfg(test)]
mod tests;
