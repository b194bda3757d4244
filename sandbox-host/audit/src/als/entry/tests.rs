//! Tests of valid and invalid entries.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use super::super::messages::{Address, Flags, Number, SocketAddress, Timestamp};
use super::*;

/// The filter's ID, and the header of the request, which a client may have chosen.
const ID: &str = "3f4f210a-5359-8f12-a75a-c92ea0dcc6fa";
const CLIENT_ID: &str = "a_b.c=d:e/f,g";
/// The filter state of a request whose head was forwarded before the verdict.
const FORWARDED: (&str, &[u8]) = ("forwarded", ID.as_bytes());

struct Ended {
    gate_state: &'static [(&'static str, &'static [u8])],
    details: &'static str,
    status: u32,
    flags: Flags,
    path: &'static [u8],
    /// The ID that arrived with the request.
    arrived_id: &'static str,
    /// The ID in the header of the response.
    answered_id: &'static str,
}

impl Default for Ended {
    fn default() -> Self {
        Self {
            gate_state: &[],
            details: "",
            status: 200,
            flags: Flags::default(),
            path: b"/v2/models/m/infer",
            arrived_id: CLIENT_ID,
            answered_id: "",
        }
    }
}

fn bytes(ended: &Ended) -> Vec<u8> {
    let wrapped = |value: &[u8]| Any {
        type_url: "type.googleapis.com/google.protobuf.BytesValue".into(),
        value: Wrapped {
            value: value.to_vec(),
        }
        .encode_to_vec(),
    };
    let (own, outcome): (Vec<_>, Vec<_>) = ended
        .gate_state
        .iter()
        .partition(|(name, _)| ["forwarded", "entry"].contains(name));
    let mut outcome: serde_json::Map<_, _> = outcome
        .into_iter()
        .map(|(name, value)| ((*name).to_owned(), String::from_utf8_lossy(value).into()))
        .collect();
    let mut state: HashMap<String, Any> = own
        .into_iter()
        .map(|(name, value)| (format!("wasm.tg_{name}"), wrapped(value)))
        .collect();
    if !outcome.is_empty() {
        outcome.insert("request_id".into(), ID.into());
        let outcome = serde_json::Value::from(outcome).to_string();
        state.insert("wasm.tg_outcome".into(), wrapped(outcome.as_bytes()));
    }
    HttpEntry {
        common_properties: Some(Common {
            downstream_remote_address: Some(Address {
                socket_address: Some(SocketAddress {
                    address: "192.0.2.1".into(),
                }),
            }),
            start_time: Some(Timestamp {
                seconds: 1_795_172_673,
                nanos: 123_456_000,
            }),
            response_flags: Some(ended.flags),
            filter_state_objects: state,
            duration: Some(Span {
                seconds: 0,
                nanos: 1_500_000,
            }),
            ..Common::default()
        }),
        protocol_version: 2,
        request: Some(HttpRequest {
            path: ended.path.to_vec(),
            request_id: ended.arrived_id.into(),
            request_body_bytes: 7,
            request_headers: HashMap::from([(":method".to_owned(), b"POST".to_vec())]),
        }),
        response: Some(HttpResponse {
            response_code: Some(Number {
                value: ended.status,
            }),
            response_code_details: ended.details.into(),
            response_headers: HashMap::from([(
                "x-request-id".to_owned(),
                ended.answered_id.into(),
            )]),
            ..HttpResponse::default()
        }),
    }
    .encode_to_vec()
}

fn read(ended: &Ended) -> Entry {
    http(&bytes(ended)).unwrap().unwrap()
}

#[test]
fn every_end_has_its_verdict_its_reason_and_what_decided_it() {
    let left = Flags {
        downstream_connection_termination: true,
        ..Flags::default()
    };
    let check =
        |ended: Ended, by: By, verdict: Verdict, reason: &str, named: bool, forwarded: bool| {
            let entry = read(&ended);
            let decided = (
                entry.decision.by,
                entry.decision.verdict,
                entry.decision.reason.as_str(),
            );
            assert_eq!(decided, (by, verdict, reason), "{}", ended.details);
            assert_eq!(
                entry.decision.request_id.is_some(),
                named,
                "{}",
                ended.details
            );
            assert_eq!(entry.forwarded, forwarded, "{}", ended.details);
        };
    let denied: &[(&str, &[u8])] = &[("verdict", b"deny"), ("reason", b"shape"), ("client", b"c")];
    let allowed: &[(&str, &[u8])] = &[("verdict", b"allow"), ("reason", b"ok")];
    let of = |details, status| Ended {
        details,
        status,
        ..Ended::default()
    };
    let gone = |gate_state| Ended {
        gate_state,
        status: 0,
        details: "downstream_remote_disconnect",
        flags: left,
        ..Ended::default()
    };
    let envoy = |ended, reason| check(ended, By::Envoy, Verdict::Deny, reason, false, false);
    check(
        Ended {
            gate_state: denied,
            details: "tensorgate",
            status: 400,
            ..Ended::default()
        },
        By::Gate,
        Verdict::Deny,
        "shape",
        true,
        false,
    );
    // Denied after its head was forwarded. The host may have seen it.
    let passing: &[(&str, &[u8])] = &[("verdict", b"deny"), ("reason", b"not-finite"), FORWARDED];
    check(
        gone(passing),
        By::Gate,
        Verdict::Deny,
        "not-finite",
        true,
        true,
    );
    check(gone(denied), By::Gate, Verdict::Deny, "shape", true, false);
    check(
        Ended {
            gate_state: allowed,
            details: "via_upstream",
            ..Ended::default()
        },
        By::Envoy,
        Verdict::Allow,
        "ok",
        true,
        true,
    );
    check(
        Ended {
            gate_state: allowed,
            details: "via_upstream",
            status: 503,
            ..Ended::default()
        },
        By::Envoy,
        Verdict::Deny,
        "unknown",
        true,
        true,
    );
    check(
        gone(allowed),
        By::Envoy,
        Verdict::Aborted,
        "incomplete",
        true,
        true,
    );
    check(
        gone(&[]),
        By::Envoy,
        Verdict::Aborted,
        "incomplete",
        false,
        false,
    );
    let upstream = "upstream_reset_before_response_started{connection_failure}";
    check(
        Ended {
            gate_state: allowed,
            details: upstream,
            status: 503,
            ..Ended::default()
        },
        By::Envoy,
        Verdict::Deny,
        "backend-unavailable",
        true,
        true,
    );
    check(
        Ended {
            gate_state: allowed,
            details: "response_timeout",
            status: 504,
            ..Ended::default()
        },
        By::Envoy,
        Verdict::Deny,
        "backend-timeout",
        true,
        true,
    );
    envoy(of("http1.headers_too_large", 431), "header-too-large");
    envoy(of("http1.codec_error", 400), "ambiguous-request");
    envoy(
        of("http2.violation.of.messaging.rule", 0),
        "ambiguous-request",
    );
    envoy(of("missing_host_header", 400), "ambiguous-request");
    envoy(of("request_header_timeout", 400), "malformed");
    envoy(of("request_overall_timeout", 400), "malformed");
    envoy(of("request_payload_too_large", 413), "body-too-large");
    envoy(of("overload", 503), "overloaded");
    envoy(of("low_version", 426), "http-version");
    envoy(of("upgrade_failed", 403), "ambiguous-request");
}

#[test]
fn a_rejection_of_envoys_has_its_details_and_what_to_change() {
    for (details, status, expected) in [
        (
            "low_version",
            426,
            Some("low_version: HTTP/1.0 is not served (in nginx: proxy_http_version 1.1)"),
        ),
        (
            "upgrade_failed",
            400,
            Some("upgrade_failed: leave out the upgrade field: no other protocol is offered"),
        ),
        ("http1.codec_error", 400, Some("http1.codec_error")),
        ("via_upstream", 200, None),
        ("tensorgate", 403, None),
        ("downstream_remote_disconnect", 0, None),
    ] {
        let entry = read(&Ended {
            details,
            status,
            ..Ended::default()
        });
        assert_eq!(entry.decision.detail.as_deref(), expected, "{details}");
    }
}

#[test]
fn an_answer_is_the_hosts_only_where_the_gate_let_it_through_and_envoy_says_so() {
    let allowed: &[(&str, &[u8])] = &[("verdict", b"allow")];
    for (gate_state, details, expected) in [
        (allowed, "via_upstream", true),
        (&[], "via_upstream", false),
        (allowed, "response_timeout", false),
    ] {
        let entry = read(&Ended {
            gate_state,
            details,
            ..Ended::default()
        });
        assert_eq!(entry.from_host, expected, "{gate_state:?} {details}");
    }
}

#[test]
fn without_filter_state_a_rejection_by_the_gate_has_the_only_reason_of_its_status() {
    for (status, expected) in [
        (401, "unauthenticated"),
        (403, "not-granted"),
        (400, "unknown"),
        (429, "unknown"),
        (200, "unknown"),
    ] {
        let entry = read(&Ended {
            details: OURS,
            status,
            ..Ended::default()
        });
        let (by, verdict) = (entry.decision.by, entry.decision.verdict);
        assert_eq!((by, verdict), (By::Gate, Verdict::Deny), "{status}");
        assert_eq!(entry.decision.reason, expected, "{status}");
        assert!(!entry.forwarded && !entry.from_host, "{status}");
    }
}

#[test]
fn an_entry_has_the_filters_number_or_none() {
    for (gate_state, expected) in [
        (&b"00000000000000aa.7"[..], Some("00000000000000aa.7")),
        (b"00000000000000aa.0", None),
        (b"7", None),
        (b"", None),
    ] {
        let gate_state: &[(&str, &[u8])] = &[("entry", gate_state)];
        let state = gate_state.iter().map(|(name, value)| {
            let value = Wrapped {
                value: value.to_vec(),
            };
            let any = Any {
                type_url: String::new(),
                value: value.encode_to_vec(),
            };
            (format!("wasm.tg_{name}"), any)
        });
        assert_eq!(
            GateState::from_state(&state.collect()).entry.as_deref(),
            expected
        );
    }
}

#[test]
fn without_filter_state_a_reply_of_the_gate_names_its_request() {
    let check = |gate_state, details, answered_id, expected: Option<&str>| {
        let entry = read(&Ended {
            gate_state,
            details,
            answered_id,
            status: 400,
            ..Ended::default()
        });
        assert_eq!(entry.decision.request_id.as_deref(), expected, "{details}");
        // The host may have a report of the same request.
        let joins = expected == Some(ID) && gate_state.is_empty();
        assert_eq!(entry.forwarded, joins, "{details} {gate_state:?}");
    };
    check(&[], OURS, ID, Some(ID));
    check(&[], OURS, CLIENT_ID, None);
    // Replies of Envoy and responses of servers may repeat what a client has sent.
    check(&[], "http1.codec_error", ID, None);
    check(&[], "via_upstream", ID, None);
    let denied: &[(&str, &[u8])] = &[("verdict", b"deny")];
    check(
        denied,
        OURS,
        "11111111-1111-8111-9111-111111111111",
        Some(ID),
    );
}

#[test]
fn a_reply_without_a_configuration_repeats_an_id_that_is_not_ours() {
    let entry = read(&Ended {
        details: OURS,
        status: 503,
        arrived_id: ID,
        answered_id: ID,
        ..Ended::default()
    });
    // It neither changes nor hides the record of another request.
    assert_eq!(entry.decision.request_id, None);
    assert_eq!(entry.decision.client_request_id.as_deref(), Some(ID));
    assert!(!entry.forwarded);
}

#[test]
fn an_id_that_a_client_may_have_chosen_is_never_taken_for_ours() {
    let check = |gate_state, details, status, expected: Option<&str>| {
        let entry = read(&Ended {
            gate_state,
            details,
            status,
            ..Ended::default()
        });
        let ids = (entry.decision.request_id, entry.decision.client_request_id);
        let expected = (expected.map(str::to_owned), Some(CLIENT_ID.to_owned()));
        assert_eq!(ids, expected, "{details}");
    };
    check(&[], "http1.unexpected_underscore", 400, None);
    check(&[], "request_payload_too_large", 413, None);
    check(&[("verdict", b"allow")], "via_upstream", 200, Some(ID));
    check(&[("verdict", b"deny")], OURS, 400, Some(ID));
    // A filter of an earlier release sets this to 1.
    check(&[("forwarded", b"1")], "request_overall_timeout", 400, None);
    check(&[FORWARDED], "request_overall_timeout", 400, Some(ID));
}

#[test]
fn what_a_client_sent_is_bounded_cleaned_and_without_its_query() {
    for (path, expected) in [
        (
            &b"/v2/models/m/infer?api_key=tg_secret"[..],
            Some("/v2/models/m/infer"),
        ),
        (b"/a\xff\xfe", Some("/a\u{fffd}\u{fffd}")),
        (b"/a\n{\"seq\":1}", Some("/a\u{fffd}{\"seq\":1}")),
        (b"", None),
    ] {
        let entry = read(&Ended {
            path,
            ..Ended::default()
        });
        assert_eq!(entry.decision.path.as_deref(), expected);
    }
}

#[test]
fn the_rest_is_told_as_envoy_tells_it() {
    let entry = read(&Ended {
        gate_state: &[
            ("verdict", b"deny"),
            ("reason", b"rate-limited"),
            ("client", b"ocr"),
            ("credential", b"key:0123"),
            ("model", b"m"),
            ("operation", b"infer"),
            ("rule", b"scoring"),
            ("detail", b"too many"),
        ],
        details: "tensorgate",
        status: 429,
        ..Ended::default()
    });
    let expected = Decision {
        request_id: Some(ID.into()),
        client_request_id: Some(CLIENT_ID.into()),
        by: By::Gate,
        verdict: Verdict::Deny,
        reason: "rate-limited".into(),
        client: Some("ocr".into()),
        credential: Some("key:0123".into()),
        source: Some("192.0.2.1".into()),
        http: Some("HTTP/1.1".into()),
        protocol: Some("oip-rest".into()),
        method: Some("POST".into()),
        path: Some("/v2/models/m/infer".into()),
        model: Some("m".into()),
        operation: Some("infer".into()),
        rule: Some("scoring".into()),
        detail: Some("too many".into()),
        status: 429,
        request_bytes: 7,
        total_us: 1_500,
        ..Decision::default()
    };
    assert_eq!(entry.decision, expected);
    assert_eq!(
        tensorgate_base::rfc3339::rfc3339(entry.time),
        "2026-11-20T11:04:33.123456Z"
    );
}

#[test]
fn only_a_valid_trace_is_recorded() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (value, expected) in [
        (TRACE.to_owned(), Some(TRACE)),
        // As Envoy logs two fields.
        (format!("{TRACE},{TRACE}"), None),
        (format!("{TRACE}\u{1b}[2J"), None),
        (String::new(), None),
    ] {
        let headers = HashMap::from([(TRACEPARENT.to_owned(), value.clone().into_bytes())]);
        assert_eq!(traces(&headers).0.as_deref(), expected, "{value:?}");
    }
    assert_eq!(traces(&HashMap::new()), (None, None));
}

#[test]
fn a_trace_of_envoys_own_is_distinct_from_that_of_a_client() {
    const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const ENVOY: &str = "00-aa28261ee933cab6327f01de13abdba3-4b88bdf645dc79a8-01";
    let check = |fields: &[(&str, &str)], client: Option<&str>, envoy: Option<&str>| {
        let headers = fields.iter();
        let headers = headers.map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        let expected = (client.map(str::to_owned), envoy.map(str::to_owned));
        assert_eq!(traces(&headers.collect()), expected, "{fields:?}");
    };
    let id = Some("aa28261ee933cab6327f01de13abdba3");
    let (own, mark) = ((TRACEPARENT, ENVOY), (ENVOY_TRACE, "envoy"));
    let moved = (CLIENT_TRACEPARENT, CLIENT);
    check(&[own, mark, moved], Some(CLIENT), id);
    check(&[own, mark], None, id);
    check(&[moved], Some(CLIENT), None);
    check(&[own], Some(ENVOY), None);
}

#[test]
fn a_refusal_is_told_in_the_protocol_that_its_path_says() {
    for (path, expected) in [
        (&b"/v2/models/m/infer"[..], Some("oip-rest")),
        (b"/v1/models/m:predict", Some("tf-serving-rest")),
        (b"/v1/chat/completions", Some("openai")),
        (b"/v1/models", Some("openai")),
        (b"/v1/responses", Some("oip-rest")),
        (
            b"/inference.GRPCInferenceService/ModelInfer",
            Some("oip-grpc"),
        ),
        (
            b"/tensorflow.serving.PredictionService/Predict",
            Some("tf-serving-grpc"),
        ),
        (b"", None),
    ] {
        let entry = read(&Ended {
            path,
            ..Ended::default()
        });
        assert_eq!(entry.decision.protocol.as_deref(), expected, "{path:?}");
    }
}

#[test]
fn noise_is_refused_or_read_and_never_more() {
    let whole = bytes(&Ended {
        gate_state: &[("verdict", b"deny"), ("reason", b"shape")],
        details: "tensorgate",
        ..Ended::default()
    });
    for end in 0..whole.len() {
        let _ = http(&whole[..end]);
    }
    let mut seed = 1_u64;
    for _ in 0..20_000 {
        let mut bent = whole.clone();
        for _ in 0..3 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(seed >> 33).unwrap() % bent.len();
            bent[at] = seed.to_be_bytes()[0];
        }
        if let Ok(Some(entry)) = http(&bent) {
            let decision = entry.decision;
            let texts = [
                decision.path,
                decision.detail,
                decision.client,
                decision.envoy,
                Some(decision.reason),
            ];
            for text in texts.into_iter().flatten() {
                assert!(
                    text.len() <= 3 * MAX_DETAIL_BYTES && !text.contains(char::is_control),
                    "{text:?}"
                );
            }
        }
        let _ = tcp(&bent);
    }
}

#[test]
fn tls_that_failed_is_told_and_a_connection_that_just_ended_is_not() {
    let failed = TcpEntry {
        common_properties: Some(Common {
            downstream_transport_failure_reason: b"TLS_error: peer did not return a certificate"
                .to_vec(),
            ..Common::default()
        }),
    };
    let entry = tcp(&failed.encode_to_vec()).unwrap().unwrap();
    assert_eq!(
        (entry.decision.verdict, entry.decision.reason.as_str()),
        (Verdict::Deny, "unauthenticated")
    );
    assert!(entry.decision.detail.unwrap().contains("certificate"));
    assert!(
        tcp(&TcpEntry {
            common_properties: None
        }
        .encode_to_vec())
        .unwrap()
        .is_none()
    );
}

#[test]
fn a_reply_without_a_configured_filter_is_named() {
    // Of gRPC, of Envoy alone, and as `local_reply_config` changes it.
    for status in [200, 500, 503] {
        let ended = Ended {
            status,
            flags: Flags {
                no_filter_config_found: true,
                ..Flags::default()
            },
            ..Ended::default()
        };
        let decision = http(&bytes(&ended)).unwrap().unwrap().decision;
        assert_eq!(decision.by, By::Envoy, "{status}");
        assert_eq!(decision.reason, "overloaded", "{status}");
        let detail = decision.detail.unwrap_or_default();
        assert!(detail.contains("has no configuration"), "{detail}");
    }
}
