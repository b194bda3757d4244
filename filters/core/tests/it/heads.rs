//! What a request head may contain, and which fields are forwarded.

use crate::support;

use support::{
    CONTEXT_KEY, NOW, credential_name, field, grpc, head, key, play, proxy, rest, stranger_key,
};
use tensorgate_filter_core::host::Field;
use tensorgate_in_memory_proxy::Request;
use tensorgate_policy::Reason;
use tensorgate_policy::decision::FilterWork;
use tensorgate_policy::denial::GrpcStatus;
use tensorgate_policy::request::{CallerDigest, CallerDigests, Proof, Proofs};
use tensorgate_wire::Answer;
use tensorgate_wire::context::{Context, Key};

/// Plays an inference after `change` to the usual fields.
fn check(change: impl FnOnce(&mut Vec<Field>), expected: Option<Reason>) {
    let mut request = rest("m");
    change(&mut request.headers);
    let played = play(&mut proxy(), &request);
    assert_eq!(
        played.reason(),
        expected,
        "{:?}: {:?}",
        request.headers,
        played.record
    );
}

#[test]
fn bytes_that_are_not_text_never_stop_the_worker() {
    let add = |name: &str, value: &[u8]| {
        let field = (name.as_bytes().to_vec(), value.to_vec());
        move |headers: &mut Vec<Field>| headers.push(field)
    };
    check(add("x-anything", b"\xff\xfe"), None);
    check(add("cookie", b"\xc3"), None);
    check(
        add("authorization", b"Bearer \xff"),
        Some(Reason::AmbiguousRequest),
    );
    check(
        add("content-encoding", b"\xff"),
        Some(Reason::AmbiguousRequest),
    );
    check(
        |headers| headers.push((b"\xff".to_vec(), b"1".to_vec())),
        Some(Reason::AmbiguousRequest),
    );
    check(
        |headers| headers[1].1 = b"/v2/models/\xff/infer".to_vec(),
        Some(Reason::AmbiguousRequest),
    );
    check(
        |headers| headers[0].1 = b"\xff".to_vec(),
        Some(Reason::AmbiguousRequest),
    );
    check(
        |headers| headers[4].1 = b"tg_\xff".to_vec(),
        Some(Reason::AmbiguousRequest),
    );
}

#[test]
fn what_comes_twice_is_refused() {
    for name in [
        ":method",
        ":path",
        ":authority",
        ":scheme",
        "x-api-key",
        "content-type",
    ] {
        check(
            |headers| {
                let twice = headers
                    .iter()
                    .find(|(known, _)| known == name.as_bytes())
                    .unwrap()
                    .clone();
                headers.push(twice);
            },
            Some(Reason::AmbiguousRequest),
        );
    }
    check(
        |headers| headers.push(field("authorization", format!("Bearer {}", key()))),
        Some(Reason::AmbiguousRequest),
    );
    check(
        |headers| headers.extend([field("content-length", "82"), field("content-length", "83")]),
        Some(Reason::AmbiguousRequest),
    );
}

#[test]
fn a_head_without_a_method_or_a_path_is_refused() {
    check(
        |headers| headers.retain(|(name, _)| name != b":method"),
        Some(Reason::AmbiguousRequest),
    );
    check(
        |headers| headers.retain(|(name, _)| name != b":path"),
        Some(Reason::AmbiguousRequest),
    );
    check(Vec::clear, Some(Reason::AmbiguousRequest));
}

#[test]
fn a_header_in_our_own_name_is_refused() {
    for name in [
        "x-tensorgate-context",
        "X-Tensorgate-Client",
        "x-tensorgate-",
    ] {
        check(
            |headers| headers.push(field(name, "v1")),
            Some(Reason::AmbiguousRequest),
        );
    }
}

#[test]
fn a_request_without_a_valid_key_is_unauthenticated() {
    check(
        |headers| headers.retain(|(name, _)| name != b"x-api-key"),
        Some(Reason::Unauthenticated),
    );
    check(
        |headers| headers[4].1 = stranger_key().into_bytes(),
        Some(Reason::Unauthenticated),
    );
    check(
        |headers| headers[4].1 = Vec::new(),
        Some(Reason::Unauthenticated),
    );
}

#[test]
fn headers_over_the_limit_are_refused() {
    check(
        |headers| headers.push(field("x-large", vec![b'a'; 17 << 10])),
        Some(Reason::HeaderTooLarge),
    );
    check(
        |headers| headers.extend((0..64).map(|at| field(&format!("x-{at}"), ""))),
        Some(Reason::HeaderTooLarge),
    );
}

#[test]
fn the_upstream_sees_our_fields_and_no_other() {
    let cross = |request: &mut Request| {
        request.headers.extend([
            field("x-request-id", "chosen-by-the-client"),
            field("cookie", "a=b"),
            field("x-forwarded-for", "10.0.0.1"),
            field("x-envoy-upstream-rq-timeout-ms", "1"),
            field("accept", "*/*"),
            field("X-Custom", "1"),
            field("content-length", request.body.concat().len().to_string()),
        ]);
        let played = play(&mut proxy(), request);
        let mut seen = played.upstream();
        let position = seen
            .iter()
            .position(|(name, _)| name == "x-tensorgate-context")
            .expect("signed");
        let (_, context) = seen.remove(position);
        seen.sort();
        (seen, context)
    };
    let length = |request: &Request| request.body.concat().len().to_string();
    let expect = |seen: Vec<(String, String)>, expected: &[(&str, &str)]| {
        let seen: Vec<_> = seen
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(seen, expected);
    };
    let id = "00000000-0000-4000-8000-000000000001";

    let mut request = rest("m");
    let (seen, context) = cross(&mut request);
    let expected = [
        (":authority", "gate.example"),
        (":method", "POST"),
        (":path", "/v2/models/m/infer"),
        (":scheme", "http"),
        ("content-length", &length(&request)),
        ("content-type", "application/json"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", id),
    ];
    expect(seen, &expected);
    let context_key = Key::from_hex(CONTEXT_KEY).unwrap();
    let unread = support::context(id);
    let expected = Context {
        credential: Some(credential_name(&key())),
        proofs: Proofs::NONE.with(Proof::ApiKey),
        work: FilterWork {
            buffered: true,
            max_body_bytes: 4_096,
            ..unread.work
        },
        caller: CallerDigests {
            user: CallerDigest::NotLimited,
            source: CallerDigest::NotLimited,
        },
        ..unread
    };
    assert_eq!(
        Context::verify(
            &context,
            &context_key,
            "POST",
            "/v2/models/m/infer",
            NOW.unix_s,
            5
        ),
        Ok(expected)
    );

    let mut request = grpc("m");
    let (seen, _) = cross(&mut request);
    let expected = [
        (":authority", "gate.example"),
        (":method", "POST"),
        (":path", "/inference.GRPCInferenceService/ModelInfer"),
        (":scheme", "http"),
        ("content-length", &length(&request)),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "250m"),
        ("te", "trailers"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", id),
    ];
    expect(seen, &expected);
}

#[test]
fn a_public_question_crosses_without_a_client() {
    let mut headers = head("GET", "/v2/health/ready");
    headers.retain(|(name, _)| name != b"x-api-key");
    let played = play(
        &mut proxy(),
        &Request {
            headers,
            ..Request::default()
        },
    );
    let (_, value) = played
        .upstream()
        .into_iter()
        .find(|(name, _)| name == "x-tensorgate-context")
        .unwrap();
    let key = Key::from_hex(CONTEXT_KEY).unwrap();
    let context = Context::verify(&value, &key, "GET", "/v2/health/ready", NOW.unix_s, 5).unwrap();
    assert_eq!(context.client, None);
}

#[test]
fn a_refusal_speaks_the_callers_protocol() {
    let mut request = grpc("m");
    request.headers.retain(|(name, _)| name != b"x-api-key");
    let Some(tensorgate_in_memory_proxy::RequestOutcome::Denied(Answer::Grpc { status, .. })) =
        play(&mut proxy(), &request).outcome
    else {
        panic!("a gRPC answer")
    };
    assert_eq!(status, GrpcStatus::Unauthenticated);
    let mut request = rest("m");
    request.headers.retain(|(name, _)| name != b"x-api-key");
    assert_eq!(play(&mut proxy(), &request).status(), Some(401));
    // On a REST route a gRPC type is rejected as gRPC, because Envoy would convert the response.
    request.headers.retain(|(name, _)| name != b"content-type");
    request
        .headers
        .push(field("content-type", "application/grpc"));
    let answer = play(&mut proxy(), &request).outcome;
    assert!(
        matches!(
            answer,
            Some(tensorgate_in_memory_proxy::RequestOutcome::Denied(
                Answer::Grpc { .. }
            ))
        ),
        "{answer:?}"
    );
}

#[test]
fn a_record_names_who_and_what_as_far_as_it_is_known() {
    let check =
        |request: Request, client: Option<&str>, model: Option<&str>, rule: Option<&str>| {
            let record = play(&mut proxy(), &request).record;
            assert_eq!(
                (
                    record.client.as_deref(),
                    record.model.as_deref(),
                    record.rule.as_deref()
                ),
                (client, model, rule),
                "{record:?}"
            );
        };
    check(rest("m"), Some("scorer"), Some("m"), Some("open"));
    check(grpc("m"), Some("scorer"), Some("m"), Some("open"));
    check(
        rest("limited"),
        Some("scorer"),
        Some("limited"),
        Some("metered"),
    );
    check(rest("unknown"), Some("scorer"), None, None);
    check(
        Request {
            headers: vec![],
            ..rest("m")
        },
        None,
        None,
        None,
    );
}

#[test]
fn no_credential_is_ever_written_down() {
    let secrets = [
        key(),
        stranger_key(),
        format!("{}x", key()),
        "hunter2".into(),
    ];
    for secret in &secrets {
        for name in ["x-api-key", "authorization", "cookie"] {
            for value in [
                secret.clone(),
                format!("Bearer {secret}"),
                format!("Basic {secret}"),
                format!("{secret}\u{1}"),
            ] {
                for twice in [false, true] {
                    let mut request = rest("m");
                    request.headers.retain(|(name, _)| name != b"x-api-key");
                    request
                        .headers
                        .extend((0..=usize::from(twice)).map(|_| field(name, &value)));
                    let played = play(&mut proxy(), &request);
                    let written = format!(
                        "{:?} {:?} {:?}",
                        played.outcome, played.record, played.logged
                    );
                    assert!(
                        !written.contains(secret.as_str()),
                        "{name}: {value}: {written}"
                    );
                    assert!(!written.contains(CONTEXT_KEY));
                }
            }
        }
    }
}

#[test]
fn ungranted_statistics_are_answered_like_an_unknown_path() {
    const CALL: &str = "/inference.GRPCInferenceService/Model";
    let rest = ("/v2/models/m/stats", "/v2/models/m/none");
    let versioned = (
        "/v2/models/m/versions/1/stats",
        "/v2/models/m/versions/1/none",
    );
    let call = (format!("{CALL}Statistics"), format!("{CALL}None"));
    let call = (call.0.as_str(), call.1.as_str());
    let ways = [
        vec![],
        vec![field("content-type", "application/json")],
        vec![field("content-type", "application/grpc")],
        vec![field("content-type", "nothing")],
        vec![field("content-encoding", "gzip")],
        vec![field("content-encoding", "unheard-of")],
        vec![field("inference-header-content-length", "1")],
        vec![field("content-length", "0")],
        vec![field("accept-encoding", "gzip")],
    ];
    for (known, unknown) in [rest, versioned, call] {
        for method in [
            "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get",
        ] {
            for (way, caller) in ways.iter().flat_map(|way| [(way, true), (way, false)]) {
                let answer = |path: &str| {
                    let mut headers = head(method, path);
                    if !caller {
                        headers.retain(|(name, _)| name != b"x-api-key");
                    }
                    headers.extend(way.clone());
                    let mut stream = proxy().open(NOW);
                    stream.send_headers(&headers, true);
                    stream.close().0.map(|outcome| format!("{outcome:?}"))
                };
                assert_eq!(
                    answer(known),
                    answer(unknown),
                    "{method} {known} {way:?} {caller}"
                );
            }
        }
    }
}
