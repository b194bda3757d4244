//! When the verdict on a body falls, and how bodies can be irregular: chunks, ends, trailers,
//! sizes, a client that disconnects.

use crate::support;

use support::{
    BODY_BYTES, NOW, close, field, grpc, grpc_frame, grpc_message, head, json_body, play, proxy,
    rest,
};
use tensorgate_in_memory_proxy::{Request, RequestOutcome};
use tensorgate_policy::Reason;

#[test]
fn a_body_passes_however_it_is_cut_in_two() {
    for request in [rest("m"), grpc("m")] {
        let body = request.body.concat();
        for cut in 0..=body.len() {
            let pieces = vec![body[..cut].to_vec(), body[cut..].to_vec()];
            let played = play(
                &mut proxy(),
                &Request {
                    body: pieces,
                    ..request.clone()
                },
            );
            let Some(RequestOutcome::Forwarded { body: sent, .. }) = &played.outcome else {
                panic!("cut at {cut}: {:?}", played.record)
            };
            assert_eq!(*sent, body, "cut at {cut}");
            assert_eq!(
                played.logged.body_bytes_read,
                body.len(),
                "each byte is copied once"
            );
        }
    }
}

#[test]
fn a_lent_body_is_not_copied_unless_it_has_a_fault() {
    let message = grpc_message("m");
    // The last element becomes 9, which is out of range.
    let mut wrong = message.clone();
    let end = wrong.len() - 4..;
    wrong[end].copy_from_slice(&9_f32.to_le_bytes());
    for bytes in 1..=message.len() {
        for (message, reason) in [(&message, None), (&wrong, Some(Reason::OutOfRange))] {
            let body = grpc_frame(message);
            let mut proxy = proxy();
            proxy.lend_bodies(Some(bytes));
            let played = play(
                &mut proxy,
                &Request {
                    body: vec![body.clone()],
                    ..grpc("m")
                },
            );
            assert_eq!(played.reason(), reason, "{:?}", played.record);
            let copied = reason.map_or(0, |_| body.len());
            assert_eq!(played.logged.body_bytes_read, copied, "pieces of {bytes}");
        }
    }
}

#[test]
fn a_body_passes_byte_by_byte_and_with_empty_pieces() {
    let body = json_body();
    let single: Vec<_> = body.iter().map(|byte| vec![*byte]).collect();
    let padded: Vec<_> = body
        .iter()
        .flat_map(|byte| [vec![], vec![*byte], vec![]])
        .collect();
    for pieces in [single, padded] {
        let played = play(
            &mut proxy(),
            &Request {
                body: pieces,
                ..rest("m")
            },
        );
        assert!(played.allowed(), "{:?}", played.record);
        assert_eq!(played.logged.body_bytes_read, body.len());
    }
}

#[test]
fn a_bad_body_is_refused_however_it_is_cut_in_two() {
    let bad = String::from_utf8(json_body())
        .unwrap()
        .replace("1.0", "1.5")
        .into_bytes();
    for cut in 0..=bad.len() {
        let pieces = vec![bad[..cut].to_vec(), bad[cut..].to_vec()];
        let played = play(
            &mut proxy(),
            &Request {
                body: pieces,
                ..rest("m")
            },
        );
        assert_eq!(played.reason(), Some(Reason::OutOfRange), "cut at {cut}");
    }
}

#[test]
fn bytes_behind_trailers_are_judged_too() {
    let trailers = Some(vec![
        field("x-tensorgate-context", "v1.forged"),
        field("grpc-status", "0"),
    ]);
    let check = |request: Request, expected: Option<Reason>| {
        let played = play(
            &mut proxy(),
            &Request {
                trailers: trailers.clone(),
                ..request.clone()
            },
        );
        assert_eq!(played.reason(), expected, "{request:?}");
    };
    check(rest("m"), None);
    check(grpc("m"), None);
    let bad = String::from_utf8(json_body())
        .unwrap()
        .replace("1.0", "-1.0")
        .into_bytes();
    check(
        Request {
            body: vec![bad.clone()],
            ..rest("m")
        },
        Some(Reason::OutOfRange),
    );
    check(
        Request {
            body: vec![json_body(), bad],
            ..rest("m")
        },
        Some(Reason::Malformed),
    );
    check(
        Request {
            body: vec![grpc_frame(b"\xff")],
            ..grpc("m")
        },
        Some(Reason::Malformed),
    );
    check(
        Request {
            body: vec![],
            ..rest("m")
        },
        Some(Reason::Malformed),
    );
    check(
        Request {
            body: vec![vec![]],
            ..grpc("m")
        },
        Some(Reason::Malformed),
    );
}

#[test]
fn an_inference_without_a_body_is_malformed_wherever_it_ends() {
    for request in [rest("m"), grpc("m")] {
        for body in [vec![], vec![vec![]], vec![vec![], vec![]]] {
            let played = play(
                &mut proxy(),
                &Request {
                    body: body.clone(),
                    ..request.clone()
                },
            );
            assert_eq!(played.reason(), Some(Reason::Malformed), "{body:?}");
        }
    }
}

#[test]
fn a_question_without_a_body_passes_wherever_it_ends_and_with_one_never() {
    for path in [
        "/v2/models/m",
        "/v2/models/m/ready",
        "/v2",
        "/v2/health/live",
    ] {
        let request = |body: &[&[u8]], trailers: bool| Request {
            headers: head("GET", path),
            body: body.iter().map(|piece| piece.to_vec()).collect(),
            trailers: trailers.then(Vec::new),
        };
        for (body, trailers) in [
            (&[][..], false),
            (&[&b""[..]][..], false),
            (&[][..], true),
            (&[&b""[..]][..], true),
        ] {
            let played = play(&mut proxy(), &request(body, trailers));
            assert!(
                played.allowed(),
                "{path} {body:?} {trailers}: {:?}",
                played.record
            );
        }
        for (body, trailers) in [
            (&[&b"x"[..]][..], false),
            (&[&b"x"[..]][..], true),
            (&[&b""[..], &b"x"[..]][..], false),
        ] {
            let played = play(&mut proxy(), &request(body, trailers));
            assert_eq!(
                played.reason(),
                Some(Reason::Malformed),
                "{path} {body:?} {trailers}"
            );
        }
    }
}

#[test]
fn a_grpc_health_check_passes_with_its_frame_and_not_with_a_large_one() {
    let check = |body: Vec<u8>, expected: Option<Reason>| {
        let mut headers = head("POST", "/grpc.health.v1.Health/Check");
        headers.push(field("content-type", "application/grpc"));
        let played = play(
            &mut proxy(),
            &Request {
                headers,
                body: vec![body],
                trailers: None,
            },
        );
        assert_eq!(played.reason(), expected);
    };
    check(grpc_frame(b""), None);
    check(grpc_frame(b"\x0a\x01x"), None);
    check(vec![0; 1025], Some(Reason::BodyTooLarge));
}

#[test]
fn a_body_over_the_limit_is_refused_at_the_first_byte_over_it() {
    let mut stream_proxy = proxy();
    let mut stream = stream_proxy.open(NOW);
    stream.send_headers(&rest("m").headers, false);
    stream.send_body(&vec![b' '; BODY_BYTES], false);
    stream.send_body(b"", false);
    stream.send_body(b" ", false);
    let refused_early = close(stream);
    assert_eq!(
        (refused_early.reason(), refused_early.status()),
        (Some(Reason::BodyTooLarge), Some(413))
    );
    assert_eq!(
        refused_early.logged.body_bytes_read, 0,
        "what is refused for its size is not read"
    );
}

#[test]
fn a_body_of_exactly_the_limit_is_read() {
    let mut body = json_body();
    body.resize(BODY_BYTES, b' ');
    assert!(
        play(
            &mut proxy(),
            &Request {
                body: vec![body.clone()],
                ..rest("m")
            }
        )
        .allowed()
    );
    body.push(b' ');
    assert_eq!(
        play(
            &mut proxy(),
            &Request {
                body: vec![body],
                ..rest("m")
            }
        )
        .reason(),
        Some(Reason::BodyTooLarge)
    );
}

#[test]
fn a_declared_length_over_the_limit_is_refused_before_a_byte_comes() {
    let mut request = rest("m");
    request
        .headers
        .push(field("content-length", (BODY_BYTES + 1).to_string()));
    let mut proxy = proxy();
    let mut stream = proxy.open(NOW);
    stream.send_headers(&request.headers, false);
    assert_eq!(close(stream).reason(), Some(Reason::BodyTooLarge));
}

#[test]
fn a_raw_body_crosses_unread_and_bounded() {
    let request = |bytes: usize| {
        let mut headers = head("POST", "/v2/models/png/infer");
        headers.push(field("content-type", "Image/PNG"));
        Request {
            headers,
            body: vec![vec![0xff; bytes]],
            trailers: None,
        }
    };
    let played = play(&mut proxy(), &request(1024));
    assert!(played.allowed(), "{:?}", played.record);
    assert_eq!(played.logged.body_bytes_read, 0);
    assert!(
        played
            .upstream()
            .contains(&("content-type".into(), "image/png".into()))
    );
    assert_eq!(
        play(&mut proxy(), &request(1025)).reason(),
        Some(Reason::BodyTooLarge)
    );
}

#[test]
fn a_client_that_goes_away_leaves_an_aborted_request_and_nothing_else() {
    let request = rest("m");
    let body = request.body.concat();
    for cut in 0..body.len() {
        let mut proxy = proxy();
        let mut stream = proxy.open(NOW);
        stream.send_headers(&request.headers, false);
        stream.send_body(&body[..cut], false);
        let played = close(stream);
        assert_eq!(
            (played.outcome.is_none(), played.reason()),
            (true, None),
            "cut at {cut}"
        );
        assert_eq!(played.record.client.as_deref(), Some("scorer"));
        assert!(
            play(&mut proxy, &request).allowed(),
            "the next request is not disturbed"
        );
    }
}

#[test]
fn once_refused_nothing_that_follows_is_let_through() {
    let mut refused = rest("m");
    refused.headers.retain(|(name, _)| name != b"x-api-key");
    let mut proxy = proxy();
    let mut stream = proxy.open(NOW);
    stream.send_headers(&refused.headers, false);
    // A proxy that continues to deliver after the response, headers included, gets no second
    // decision.
    stream.send_headers(&rest("m").headers, true);
    stream.force_body(&json_body(), true);
    stream.force_trailers(&[]);
    assert_eq!(close(stream).reason(), Some(Reason::Unauthenticated));
}

#[test]
fn two_streams_of_one_worker_do_not_mix() {
    let (good, bad) = (
        rest("m"),
        Request {
            body: vec![b"{}".to_vec()],
            ..rest("m")
        },
    );
    let mut proxy = proxy();
    let (mut first, mut second) = (proxy.open(NOW), proxy.open(NOW));
    first.send_headers(&good.headers, false);
    second.send_headers(&bad.headers, false);
    second.send_body(&bad.body[0], true);
    first.send_body(&good.body[0], true);
    assert!(close(first).allowed());
    assert!(!close(second).allowed());
}

#[test]
fn a_slow_body_is_signed_with_the_time_of_its_verdict() {
    let mut proxy = proxy();
    let mut stream = proxy.open(NOW);
    let request = rest("m");
    stream.send_headers(&request.headers, false);
    let later = tensorgate_policy::Now {
        unix_s: NOW.unix_s + 59,
        ..NOW
    };
    stream.set_now(later);
    stream.send_body(&request.body[0], true);
    let played = close(stream);
    let (_, value) = played
        .upstream()
        .into_iter()
        .find(|(name, _)| name == "x-tensorgate-context")
        .unwrap();
    let key = tensorgate_wire::context::Key::from_hex(support::CONTEXT_KEY).unwrap();
    let context = tensorgate_wire::context::Context::verify(
        &value,
        &key,
        "POST",
        "/v2/models/m/infer",
        later.unix_s,
        5,
    )
    .unwrap();
    assert_eq!(context.issued_unix_s, later.unix_s);
}
