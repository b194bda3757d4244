//! Envoy's local replies, with the gate's status codes and bodies.
//!
//! The filter's own replies are recognised by their response code details and stay unchanged. Every
//! other local reply is mapped to the closest reason. Bodies and statuses come from `wire`; this
//! module only maps replies to reasons.

use tensorgate_audit::envoy_reply::{CODECS, Details, NAMELESS, OURS, ROWS, Row};
use tensorgate_policy::{Denial, Protocol};
use tensorgate_wire::Answer;

use crate::render::node::{Node, map};

/// The request id, in Envoy's format.
const REQUEST_ID: &str = "%REQ(X-REQUEST-ID)%";
/// Matches gRPC requests, which Envoy answers with trailers only.
const IS_GRPC: &str = "request.headers['content-type'].startsWith('application/grpc')";

/// Matches requests that were rejected before Envoy generated a request id. Their `x-request-id` is
/// the client's or missing, so it is left out of the reply.
fn nameless() -> String {
    let codecs = CODECS.map(|codec| format!("response.code_details.startsWith('{codec}')"));
    format!("({} || {})", codecs.join(" || "), one_of(&NAMELESS))
}

fn one_of(details: &[&str]) -> String {
    let quoted: Vec<String> = details.iter().map(|it| format!("'{it}'")).collect();
    format!("response.code_details in [{}]", quoted.join(", "))
}

/// A row of the table as an expression. It matches neither the filter's own replies nor replies
/// without details.
fn expression(details: Details) -> String {
    let not_ours = format!("!(response.code_details in ['', '{OURS}'])");
    match details {
        Details::Are(all) => one_of(all),
        Details::Begin(start, all) => {
            format!(
                "response.code_details.startsWith('{start}') || {}",
                one_of(all)
            )
        }
        Details::Of(start) => format!("response.code_details.startsWith('{start}')"),
        Details::NoConfiguration => {
            "response.code_details == '' && response.code == 500".to_owned()
        }
        Details::OfTheClient => {
            format!("{not_ours} && (response.code < 500 || response.code == 501)")
        }
        Details::Any => not_ours,
    }
}

/// The `local_reply_config`.
pub fn config() -> Node {
    let nameless = nameless();
    let mappers = ROWS.iter().flat_map(|row| {
        let matches = &expression(row.details);
        let is_grpc = |matches: &str| format!("{matches} && {IS_GRPC}");
        if row.details.are_nameless() {
            return vec![
                mapper(&is_grpc(&format!("({matches})")), grpc(row, "")),
                mapper(matches, rest(row, "")),
            ];
        }
        let mut mappers = Vec::new();
        if row.details.may_be_nameless() {
            let without_id = format!("({matches}) && {nameless}");
            mappers.push(mapper(&is_grpc(&without_id), grpc(row, "")));
            mappers.push(mapper(&without_id, rest(row, "")));
        }
        mappers.push(mapper(
            &is_grpc(&format!("({matches})")),
            grpc(row, REQUEST_ID),
        ));
        mappers.push(mapper(matches, rest(row, REQUEST_ID)));
        mappers
    });
    map! {"mappers" => mappers.collect::<Vec<_>>()}
}

/// A reply: status, body format and header fields.
struct Reply {
    status: u16,
    format: Node,
    headers: Vec<Node>,
}

/// The rejection that a row stands for.
fn denial(row: &Row) -> Denial {
    match row.advice {
        Some(advice) => Denial::with_field(row.reason, advice, ""),
        None => Denial::new(row.reason, ""),
    }
}

/// Problem details; an empty id is omitted.
fn rest(row: &Row, id: &str) -> Reply {
    let (status, headers, body) = match Answer::to_denial(&denial(row), Protocol::OipRest, id) {
        Answer::Rest {
            status,
            headers,
            body,
        } => (status, headers, body),
        // Not reached: REST requests get REST answers.
        Answer::Grpc { headers, .. } => (row.reason.http_status(), headers, Vec::new()),
    };
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
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

/// A trailers-only reply; the text becomes `grpc-message`.
fn grpc(row: &Row, id: &str) -> Reply {
    let reason = row.reason;
    let (status, mut headers, message) =
        match Answer::to_denial(&denial(row), Protocol::OipGrpc, id) {
            Answer::Grpc {
                status,
                message,
                headers,
            } => (status, headers, message),
            // Not reached: gRPC requests get gRPC answers.
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

/// The answer's header fields, without the content type, which Envoy sets itself.
fn added(headers: &[(&'static str, String)]) -> Vec<Node> {
    headers
        .iter()
        .filter(|(name, _)| *name != "content-type")
        .map(|(name, value)| {
            map! {
                "header" => map! {"key" => *name, "value" => value.as_str()},
                "append_action" => "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_reply_has_advice_where_a_cure_is_known() {
        let config = serde_json::to_value(config()).unwrap();
        let mappers = config["mappers"].as_array().unwrap();
        let texts: Vec<_> = mappers
            .iter()
            .filter_map(|mapper| mapper["body_format_override"]["json_format"]["error"].as_str())
            .collect();
        let advice: Vec<_> = ROWS.iter().filter_map(|row| row.advice).collect();
        assert!(!advice.is_empty());
        for advice in advice {
            let is_advised = texts.iter().any(|text| text.ends_with(advice));
            assert!(is_advised, "{advice}: {texts:?}");
        }
        // A filter without a configuration: 500 without a body by default.
        let unconfigured = mappers.iter().filter(|mapper| {
            let expression = &mapper["filter"]["extension_filter"]["typed_config"]["expression"];
            let expression = expression.as_str().unwrap();
            mapper["status_code"] == 503 && expression.contains("response.code_details == ''")
        });
        assert!(unconfigured.count() > 0);
        let old = mappers.iter().filter(|mapper| mapper["status_code"] == 426);
        assert_eq!(old.count(), 2, "one for gRPC, and none with an id");
    }

    #[test]
    fn every_503_has_retry_after() {
        let config = serde_json::to_value(config()).unwrap();
        let mappers = config["mappers"].as_array().unwrap().iter();
        let unavailable = mappers.filter(|mapper| mapper["status_code"] == 503);
        let waits: Vec<_> = unavailable
            .map(|mapper| {
                let headers = mapper["headers_to_add"].as_array().unwrap();
                let wait = headers
                    .iter()
                    .find(|it| it["header"]["key"] == "retry-after");
                wait.map(|wait| wait["header"]["value"].clone())
            })
            .collect();
        assert!(!waits.is_empty());
        assert!(
            waits.iter().all(|wait| *wait == Some("1".into())),
            "{waits:?}"
        );
    }
}
