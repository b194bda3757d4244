//! Tests of rejections in the protocols of callers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use super::*;

fn rest(denial: &Denial) -> (u16, Vec<(&'static str, String)>, serde_json::Value) {
    let Answer::Rest {
        status,
        headers,
        body,
    } = Answer::to_denial(denial, Protocol::OipRest, "0f3c")
    else {
        panic!("REST")
    };
    (status, headers, serde_json::from_slice(&body).unwrap())
}

fn header<'a>(headers: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.as_str())
}

#[test]
fn a_grpc_message_is_percent_encoded() {
    for (message, expected) in [
        ("not granted", "not granted"),
        ("50 %", "50 %25"),
        ("é\n", "%C3%A9%0A"),
        ("", ""),
    ] {
        assert_eq!(percent_encoded(message), expected);
    }
}

#[test]
fn a_rest_answer_is_a_problem_with_an_error() {
    let denial = Denial::with_field(
        Reason::Shape,
        "input \"ima\\\"ge\": dim 2",
        "input image has 9 where [1, 8] may be",
    );
    let (status, headers, body) = rest(&denial);
    assert_eq!(status, 400);
    assert_eq!(
        body,
        serde_json::json!({
            "type": "urn:tensorgate:shape", "title": "an input has the wrong shape", "status": 400, "instance": "0f3c",
            "error": "an input has the wrong shape: input \"ima\\\"ge\": dim 2",
        })
    );
    let expected = [
        ("content-type", "application/problem+json"),
        ("cache-control", "no-store"),
        ("x-request-id", "0f3c"),
    ];
    assert_eq!(
        headers,
        expected.map(|(name, value)| (name, value.to_owned()))
    );
}

#[test]
fn a_servers_client_error_has_its_status_and_openais_code() {
    use tensorgate_policy::denial::ClientErrorStatus as Status;
    let invalid = "invalid_request_error";
    for (reason, server_status, (expected, kind, code)) in [
        (
            Reason::BackendTooLong,
            Status::BadRequest,
            (400_u16, invalid, "context_length_exceeded"),
        ),
        (
            Reason::BackendTooLong,
            Status::ContentTooLarge,
            (413, invalid, "context_length_exceeded"),
        ),
        (
            Reason::BackendRejected,
            Status::UnprocessableContent,
            (422, invalid, "backend-rejected"),
        ),
        (
            Reason::BackendUnknownModel,
            Status::NotFound,
            (404, invalid, "model_not_found"),
        ),
        (
            Reason::BackendBusy,
            Status::TooManyRequests,
            (429, "rate_limit_error", "rate_limit_exceeded"),
        ),
    ] {
        let denial = Denial {
            server_status: Some(server_status),
            ..Denial::new(reason, "CAUSE")
        };
        let Answer::Rest { status, body, .. } =
            Answer::to_denial(&denial, Protocol::OpenAi, "0f3c")
        else {
            panic!("REST")
        };
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body.get("error"),
            Some(&serde_json::json!({
                "message": reason.title(), "type": kind, "param": null, "code": code,
            }))
        );
        assert_eq!(status, expected, "{reason}");
        assert_eq!(body.get("status"), Some(&serde_json::json!(expected)));
        let Answer::Grpc { status, .. } = Answer::to_denial(&denial, Protocol::OipGrpc, "0f3c")
        else {
            panic!("gRPC")
        };
        assert_eq!(status, server_status.grpc());
    }
}

#[test]
fn an_api_that_is_not_served_has_its_own_form_of_error() {
    let json = |reason, path| {
        let denial = Denial::new(reason, "CAUSE");
        match Answer::to_denial_of_path(&denial, Protocol::OpenAi, "0f3c", path) {
            Answer::Rest { status, body, .. } => {
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                (status, body)
            }
            Answer::Grpc { .. } => panic!("REST"),
        }
    };
    let unknown = Reason::NotAnInferenceRoute;
    let (status, body) = json(unknown, "/v1/messages?beta=true");
    assert_eq!(status, 404);
    assert_eq!(
        body,
        serde_json::json!({
            "type": "error", "title": "no such route", "status": 404, "instance": "0f3c",
            "error": {
                "type": "not_found_error", "param": null, "code": "not-an-inference-route",
                "message": "no such route: the Messages API is not served here, use OpenAI's \
                            POST /v1/chat/completions",
            },
        })
    );
    let (_, body) = json(unknown, "/v1/responses");
    assert_eq!(body["type"], "urn:tensorgate:not-an-inference-route");
    assert_eq!(body["error"]["type"], "invalid_request_error");
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("/v1/chat/completions")
    );
    // Others learn nothing more than before.
    for (reason, path) in [
        (unknown, "/v1/files"),
        (Reason::Unauthenticated, "/v1/messages"),
        (Reason::NotGranted, "/v1/responses"),
    ] {
        let (_, body) = json(reason, path);
        assert_eq!(body["error"]["message"], reason.title(), "{path}");
    }
}

#[test]
fn an_answer_that_the_policy_ends_names_the_limit_and_not_the_model() {
    use tensorgate_policy::denial::AnswerLimit;
    let denial = Denial::new(Reason::BackendFault, "CAUSE").limited_by(AnswerLimit::Answers);
    let text = "there are more answers than the policy allows: max_answers";
    let (status, _, body) = rest(&denial);
    assert_eq!((status, &body["title"]), (502, &text.into()));
    assert_eq!(body["type"], "urn:tensorgate:backend-fault");
    let Answer::Grpc {
        status, message, ..
    } = Answer::to_denial(&denial, Protocol::OipGrpc, "")
    else {
        panic!("gRPC")
    };
    assert_eq!((status, message.as_str()), (GrpcStatus::Internal, text));
}

#[test]
fn no_rejection_contains_its_cause_and_only_faults_of_the_request_name_a_field() {
    for reason in Reason::ALL {
        let expected = || Some("SHAPE".to_owned());
        let denial = Denial::with_field(reason, "FIELD", "CAUSE").expecting(expected());
        let (status, _, body) = rest(&denial);
        let of_the_head = [
            Reason::HeaderTooLarge,
            Reason::AmbiguousRequest,
            Reason::HttpVersion,
            Reason::NotAnInferenceRoute,
            Reason::UnsupportedMediaType,
            Reason::BodyTooLarge,
        ];
        let names_field = (Reason::Malformed..=Reason::UrlBlocked).contains(&reason)
            || of_the_head.contains(&reason)
            // The handler's own text.
            || reason == Reason::HandlerRejected;
        assert_eq!(status, reason.http_status());
        assert!(!body.to_string().contains("CAUSE"), "{reason}");
        let described = body.to_string().contains("FIELD: expected SHAPE");
        assert_eq!(described, names_field, "{reason}");
        let (_, _, unnamed) = rest(&Denial::new(reason, "CAUSE").expecting(expected()));
        assert!(!unnamed.to_string().contains("SHAPE"), "{reason}");
        let Answer::Grpc {
            status,
            message,
            headers,
        } = Answer::to_denial(&denial, Protocol::OipGrpc, "0f3c")
        else {
            panic!("gRPC")
        };
        assert_eq!(status, reason.grpc_status());
        assert_eq!(message.contains("FIELD"), names_field, "{reason}");
        let details = STANDARD_NO_PAD
            .decode(header(&headers, "grpc-status-details-bin").unwrap())
            .unwrap();
        let holds = |text: &[u8]| details.windows(text.len()).any(|window| window == text);
        assert!(
            holds(reason.public_reason().name().as_bytes())
                && holds(b"tensorgate")
                && !holds(b"CAUSE"),
            "{reason}"
        );
        assert_eq!(header(&headers, "x-request-id"), Some("0f3c"));
    }
}

#[test]
fn rejections_have_the_headers_of_their_status() {
    let (_, headers, _) = rest(&Denial::new(Reason::Unauthenticated, "no credential"));
    assert_eq!(
        header(&headers, "www-authenticate"),
        Some("Bearer realm=\"tensorgate\"")
    );
    let (_, headers, _) = rest(&Denial {
        allow: Some("POST"),
        ..Denial::new(Reason::MethodNotAllowed, "GET")
    });
    assert_eq!(header(&headers, "allow"), Some("POST"));
    assert_eq!(header(&headers, "www-authenticate"), None);
}

#[test]
fn a_rejected_content_encoding_lists_the_accepted_ones() {
    let refused = |codings: &[Coding]| Denial {
        codings: Some(codings.iter().copied().collect()),
        ..Denial::new(Reason::UnsupportedEncoding, "br")
    };
    for (codings, expected) in [
        (&[][..], "identity"),
        (&[Coding::Gzip], "identity, gzip"),
        (&Coding::ALL, "identity, gzip, deflate"),
    ] {
        let (status, headers, _) = rest(&refused(codings));
        assert_eq!(status, 415);
        assert_eq!(header(&headers, "accept-encoding"), Some(expected));
        let answer = Answer::to_denial(&refused(codings), Protocol::OipGrpc, "");
        let Answer::Grpc { headers, .. } = answer else {
            panic!("gRPC")
        };
        assert_eq!(header(&headers, "grpc-accept-encoding"), Some(expected));
    }
    let (_, headers, _) = rest(&Denial::new(Reason::UnsupportedEncoding, "binary data"));
    assert_eq!(header(&headers, "accept-encoding"), None);
}

fn note(policy: &str, unit: Unit, left: u64, reset_s: Option<u64>) -> RateNote {
    RateNote {
        policy: policy.into(),
        unit,
        quota: 100,
        window_s: 60,
        left,
        reset_s,
    }
}

#[test]
fn a_rate_rejection_has_retry_after_if_waiting_helps() {
    for (wait, limit, retry) in [
        (Some(7), "\"a\\\"b\\\\?\";r=0;t=7", Some("7")),
        (None, "\"a\\\"b\\\\?\";r=0", None),
    ] {
        let denial = Denial {
            rates: vec![note("a\"b\\é", Unit::Requests, 0, wait)],
            retry_after_s: wait,
            ..Denial::new(Reason::RateLimited, "spent")
        };
        let (status, headers, _) = rest(&denial);
        assert_eq!(status, 429);
        assert_eq!(
            header(&headers, "ratelimit-policy"),
            Some("\"a\\\"b\\\\?\";q=100;w=60")
        );
        assert_eq!(header(&headers, "ratelimit"), Some(limit));
        assert_eq!(header(&headers, "retry-after"), retry);
        let details = details(&denial, "m");
        assert_eq!(
            details.windows(9).any(|window| window == b"RetryInfo"),
            retry.is_some()
        );
    }
    let denial = Denial {
        retry_after_s: Some(7),
        ..Denial::new(Reason::RateLimited, "spent")
    };
    let expected = [
        &b"\x08\x08\x12\x01m"[..],
        b"\x1a\x46\x0a\x28type.googleapis.com/google.rpc.ErrorInfo\x12\x1a\x0a\x0crate-limited\x12\x0atensorgate",
        b"\x1a\x30\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x07",
    ]
    .concat();
    assert_eq!(details(&denial, "m"), expected);
}

#[test]
fn every_unavailable_answer_has_retry_after() {
    for reason in Reason::ALL {
        let denial = Denial::new(reason, "cause");
        let is_unavailable = reason.http_status() == 503;
        let (_, headers, _) = rest(&denial);
        let expected = is_unavailable.then_some("1");
        assert_eq!(header(&headers, "retry-after"), expected, "{reason}");
        let details = details(&denial, "m");
        let has_info = details.windows(9).any(|window| window == b"RetryInfo");
        assert_eq!(has_info, is_unavailable, "{reason}");
        // What is known goes before.
        let known = Denial {
            retry_after_s: Some(30),
            ..denial
        };
        assert_eq!(header(&rest(&known).1, "retry-after"), Some("30"));
    }
}

#[test]
fn every_limit_is_in_both_ratelimit_fields() {
    assert_eq!(rate_fields(&[]), []);
    let notes = [
        note("g", Unit::Requests, 3, Some(0)),
        note("g:elements", Unit::Elements, 1, Some(5)),
        RateNote {
            quota: u64::MAX,
            window_s: 86_400,
            ..note("g:bytes:day", Unit::Bytes, u64::MAX, Some(u64::MAX))
        },
    ];
    assert_eq!(
        rate_fields(&notes),
        [
            (
                "ratelimit-policy",
                "\"g\";q=100;w=60, \"g:elements\";q=100;qu=\"tensor-elements\";w=60, \
                 \"g:bytes:day\";q=999999999999999;qu=\"tensor-bytes\";w=86400"
                    .to_owned()
            ),
            (
                "ratelimit",
                "\"g\";r=3;t=0, \"g:elements\";r=1;t=5, \"g:bytes:day\";r=999999999999999;t=999999999999999"
                    .to_owned()
            ),
        ]
    );
}

#[test]
fn an_id_that_is_no_header_value_stays_in_the_body() {
    let denial = Denial::new(Reason::Malformed, "cause");
    for id in ["", "a b", "a\r\nset-cookie: x", "é"] {
        let Answer::Rest { headers, body, .. } = Answer::to_denial(&denial, Protocol::OipRest, id)
        else {
            panic!("REST")
        };
        assert_eq!(header(&headers, "x-request-id"), None, "{id:?}");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body.get("instance").and_then(|id| id.as_str()),
            Some(id).filter(|id| !id.is_empty())
        );
    }
}
