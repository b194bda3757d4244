//! What Envoy answers by itself, in the words of the gate. The filter's own replies say so in their response code details
//! and pass as they are; every reply of Envoy has other details, and is mapped to the reason it comes closest to. The words
//! and statuses are `wire`'s: this only says which reply of Envoy's is which reason.

use tensorgate_policy::{Denial, Protocol, Reason};
use tensorgate_wire::Answer;

use crate::render::node::{Node, map};

/// Where Envoy puts the request's id.
const REQUEST_ID: &str = "%REQ(X-REQUEST-ID)%";
/// A gRPC request, which Envoy answers with trailers only.
const IS_GRPC: &str = "request.headers['content-type'].startsWith('application/grpc')";

/// Refused before Envoy has given the request an id of ours: `x-request-id` is then the client's own, or none.
const NAMELESS: &str = "(response.code_details.startsWith('http1.') || response.code_details.startsWith('http2.') || \
    response.code_details in ['path_normalization_failed', 'missing_host_header', 'low_version', 'absolute_path_rejected', \
    'request_header_timeout'])";

/// Which replies of Envoy are which reason; the first that matches counts. The last takes whatever is left: a trapped VM,
/// a full Envoy, and what later versions may think of.
const REASONS: [(Reason, &str); 8] = [
    (
        Reason::HeaderTooLarge,
        "response.code_details in ['http1.headers_too_large', 'http1.too_many_headers']",
    ),
    (
        Reason::BodyTooLarge,
        "response.code_details == 'request_payload_too_large'",
    ),
    (
        Reason::BackendTimeout,
        "response.code_details in ['response_timeout', 'upstream_per_try_timeout']",
    ),
    // A request that does not arrive in time is not a whole one.
    (
        Reason::Malformed,
        "response.code_details in ['stream_idle_timeout', 'request_header_timeout', 'request_overall_timeout', 'max_duration_timeout']",
    ),
    (
        Reason::BackendUnavailable,
        "response.code_details.startsWith('upstream') || response.code_details in ['no_healthy_upstream', 'cluster_not_found']",
    ),
    (
        Reason::NotAnInferenceRoute,
        "response.code_details in ['route_not_found', 'absolute_path_rejected']",
    ),
    // Framing, hosts, paths and header names that two readers could take in two ways; upgrades; HTTP/1.0.
    (
        Reason::AmbiguousRequest,
        "!(response.code_details in ['', 'tensorgate']) && (response.code < 500 || response.code == 501)",
    ),
    (
        Reason::Overloaded,
        "!(response.code_details in ['', 'tensorgate'])",
    ),
];

/// The `local_reply_config`.
pub fn config() -> Node {
    let mappers = REASONS.iter().flat_map(|(reason, matches)| {
        [
            mapper(&format!("({matches}) && {IS_GRPC}"), grpc(*reason)),
            mapper(&format!("({matches}) && {NAMELESS}"), rest(*reason, false)),
            mapper(matches, rest(*reason, true)),
        ]
    });
    map! {"mappers" => mappers.collect::<Vec<_>>()}
}

/// A reply: status, body format and header fields.
struct Reply {
    status: u16,
    format: Node,
    headers: Vec<Node>,
}

/// Problem details; Envoy escapes the id, whoever chose it, and it is left out where it is not ours.
fn rest(reason: Reason, named: bool) -> Reply {
    let (status, headers, body) =
        match Answer::to_denial(&Denial::new(reason, ""), Protocol::OipRest, REQUEST_ID) {
            Answer::Rest {
                status,
                headers,
                body,
            } => (status, headers, body),
            // Not what REST is answered with.
            Answer::Grpc { headers, .. } => (reason.http_status(), headers, Vec::new()),
        };
    let mut problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    if let Some(members) = problem.as_object_mut().filter(|_| !named) {
        members.remove("instance");
    }
    let content_type = headers
        .iter()
        .find(|(name, _)| *name == "content-type")
        .map_or("", |(_, value)| value.as_str());
    Reply {
        status,
        format: map! {"json_format" => &problem, "content_type" => content_type},
        headers: added(&headers),
    }
}

/// Trailers only; the text becomes `grpc-message`.
fn grpc(reason: Reason) -> Reply {
    let (status, mut headers, message) =
        match Answer::to_denial(&Denial::new(reason, ""), Protocol::OipGrpc, REQUEST_ID) {
            Answer::Grpc {
                status,
                message,
                headers,
            } => (status, headers, message),
            // Not what gRPC is answered with.
            Answer::Rest { headers, .. } => {
                (reason.grpc_status(), headers, reason.title().to_owned())
            }
        };
    headers.push(("grpc-status", (status as u8).to_string()));
    let format = map! {"text_format_source" => map! {"inline_string" => message}, "content_type" => "application/grpc"};
    Reply {
        status: reason.http_status(),
        format,
        headers: added(&headers),
    }
}

fn mapper(matches: &str, reply: Reply) -> Node {
    map! {
        "filter" => map! {
            "extension_filter" => map! {
                "name" => "envoy.access_loggers.extension_filters.cel",
                "typed_config" => map! {
                    "@type" => "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                    "expression" => matches,
                },
            },
        },
        "status_code" => u32::from(reply.status),
        "body_format_override" => reply.format,
        "headers_to_add" => reply.headers,
    }
}

/// The answer's header fields but for those that Envoy sets itself.
fn added(headers: &[(&'static str, String)]) -> Vec<Node> {
    headers
        .iter()
        .filter(|(name, _)| !matches!(*name, "content-type" | "x-request-id"))
        .map(|(name, value)| {
            map! {
                "header" => map! {"key" => *name, "value" => value.as_str()},
                "append_action" => "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        })
        .collect()
}
