//! Every step, and which requests reach it.

use super::*;

#[test]
fn a_rest_inference_is_charged_before_its_body_is_read() {
    let policy = policy();
    let (mut decision, step) = Decision::begin(&policy, &rest("digits"));
    let Step::Charge(charge) = step else {
        panic!("{step:?}")
    };
    assert_eq!(
        (charge.grant.as_str(), charge.client.as_str()),
        ("scoring", "scorer")
    );
    assert_eq!(amounts(&charge), [("rate:7:scoring:scorer".to_owned(), 1)]);
    assert_eq!(charge.limit_charges[0].allowance.most(), 3);
    assert_eq!(
        decision.charged(&policy, ChargeOutcome::CHARGED),
        read(BODY_BYTES, BodyFormat::OipJson)
    );
    whole(&policy, &mut decision);
    assert_eq!(decision.message(&policy, &message(None, None)), Step::Check);
    assert_eq!(decision.check(&policy, &message(None, None)), Step::Forward);
    assert_eq!(decision.version(&policy), Some("1"));
    assert_eq!(decision.operation(), Some(Operation::Infer));
    assert_eq!(decision.protocol(), Protocol::OipRest);
    let names = (
        decision
            .client()
            .and_then(|id| policy.client(id))
            .map(|client| client.name()),
        decision
            .grant()
            .and_then(|id| policy.grant(id))
            .map(|grant| grant.name()),
        decision
            .model()
            .and_then(|id| policy.model(id))
            .map(|model| model.name()),
    );
    assert_eq!(names, (Some("scorer"), Some("scoring"), Some("digits")));
    assert_eq!(decision.denial(), None);
}

#[test]
fn a_grpc_inference_is_charged_once_its_message_names_the_model() {
    let policy = policy();
    let (mut decision, step) = Decision::begin(&policy, &grpc(Operation::Infer));
    assert_eq!(step, read(BODY_BYTES, BodyFormat::OipGrpcInfer));
    assert_eq!((decision.model(), decision.grant()), (None, None));
    whole(&policy, &mut decision);
    let request = message(Some("twice"), Some("2"));
    assert!(matches!(
        decision.message(&policy, &request),
        Step::Charge(_)
    ));
    assert_eq!(
        decision.charged(&policy, ChargeOutcome::CHARGED),
        Step::Check
    );
    assert_eq!(decision.check(&policy, &request), Step::Forward);
    assert_eq!(decision.version(&policy), Some("2"));
}

#[test]
fn metadata_and_readiness_read_no_tensors() {
    let policy = policy();
    for operation in [Operation::Metadata, Operation::Ready] {
        let mut decision = held(&policy, &asked(operation, "digits", None));
        assert_eq!(
            decision.message(&policy, &InferRequest::default()),
            Step::Check
        );
        assert_eq!(
            decision.check(&policy, &InferRequest::default()),
            Step::Forward
        );

        let (mut decision, step) = Decision::begin(&policy, &grpc(operation));
        assert_eq!(step, read(BODY_BYTES, BodyFormat::OipGrpcModel));
        whole(&policy, &mut decision);
        assert_eq!(
            decide_message(&mut decision, &policy, &naming("digits", None), spent),
            Step::Forward
        );
        assert_eq!(decision.operation(), Some(operation));

        // Content that no contract checks is rejected.
        let mut decision = held(&policy, &grpc(operation));
        let step = decide_message(
            &mut decision,
            &policy,
            &message(Some("digits"), None),
            spent,
        );
        assert_eq!(reason(&step), Some(Reason::Malformed));
        let mut decision = held(&policy, &grpc(operation));
        let parameter = Parameter {
            name: "x".into(),
            value: ParameterValue::Bool(true),
        };
        let request = InferRequest {
            parameters: vec![parameter],
            ..naming("digits", None)
        };
        assert_eq!(
            reason(&decide_message(&mut decision, &policy, &request, spent)),
            Some(Reason::Malformed)
        );
    }
}

#[test]
fn statistics_without_a_grant_are_not_found() {
    let mut document = unpriced();
    document["grants"][0]["operations"] = serde_json::json!(["infer", "statistics"]);
    let counted = fixture::policy(document);
    let check = |policy: &Policy, head: Head<'static>, expected: Option<Reason>| {
        let (_, step) = Decision::begin(policy, &head);
        assert_eq!(reason(&step), expected, "{head:?}");
    };
    let asks = |model, version| asked(Operation::Statistics, model, version);
    let nowhere = Some(Reason::NotAnInferenceRoute);
    // The response is the same whether no client, another client, or this client for another model
    // has the operation.
    check(&policy(), asks("digits", None), nowhere);
    check(&policy(), grpc(Operation::Statistics), nowhere);
    check(&counted, as_client("reader", asks("digits", None)), nowhere);
    check(
        &counted,
        as_client("reader", grpc(Operation::Statistics)),
        nowhere,
    );
    check(&counted, asks("hidden", None), nowhere);
    check(&counted, asks("nothing", None), nowhere);
    check(&counted, asks("digits", Some("9")), nowhere);
    check(&counted, asks("digits", None), None);
    for (model, expected) in [("hidden", nowhere), ("nothing", nowhere), ("digits", None)] {
        let mut decision = held(&counted, &grpc(Operation::Statistics));
        let step = decide_message(&mut decision, &counted, &naming(model, None), spent);
        assert_eq!(reason(&step), expected, "{model}");
    }
}

#[test]
fn a_grant_without_a_rate_is_not_charged() {
    let policy = policy();
    let (_, step) = Decision::begin(
        &policy,
        &as_client("reader", asked(Operation::Ready, "digits", Some("1"))),
    );
    assert_eq!(step, read(BODY_BYTES, BodyFormat::Empty));
    let (mut decision, _) = Decision::begin(&policy, &as_client("reader", grpc(Operation::Ready)));
    whole(&policy, &mut decision);
    assert_eq!(
        decision.message(&policy, &naming("digits", None)),
        Step::Check
    );
}

#[test]
fn a_raw_body_is_read_up_to_its_own_bound() {
    let picture = |content_type: &'static str| Head {
        content_type: ContentType::Other(content_type.into()),
        ..rest("picture")
    };
    assert_eq!(
        head_step(&picture("image/png")),
        read(64 << 10, BodyFormat::Raw)
    );
    let over = Head {
        content_length: Some((64 << 10) + 1),
        ..picture("image/png")
    };
    assert_eq!(reason(&head_step(&over)), Some(Reason::BodyTooLarge));
    let policy = policy();
    let mut decision = held(&policy, &picture("image/png"));
    assert_eq!(
        decide_message(&mut decision, &policy, &InferRequest::default(), spent),
        Step::Forward
    );
    let mut decision = held(&policy, &picture("image/png"));
    assert_eq!(
        reason(&decide_message(
            &mut decision,
            &policy,
            &message(None, None),
            spent
        )),
        Some(Reason::Malformed)
    );
}

#[test]
fn a_content_type_is_accepted_where_a_model_takes_it() {
    let check =
        |model: &'static str, content_type: ContentType<'static>, expected: Option<Reason>| {
            let head = Head {
                content_type,
                ..rest(model)
            };
            assert_eq!(reason(&head_step(&head)), expected, "{head:?}");
        };
    let refused = Some(Reason::UnsupportedMediaType);
    check("digits", ContentType::Json, None);
    check("digits", ContentType::Absent, None);
    check("digits", ContentType::Grpc, refused);
    check("digits", ContentType::Malformed, refused);
    check("digits", ContentType::Other("text/plain".into()), refused);
    // Another model accepts it; this model does not.
    check("digits", ContentType::Other("image/png".into()), refused);
    check("picture", ContentType::Other("image/jpeg".into()), refused);
    check("picture", ContentType::Json, refused);
    // The protocol of a body without a content type is unknown.
    check("picture", ContentType::Absent, refused);
    let head = Head {
        content_type: ContentType::Json,
        ..rest("picture")
    };
    let Step::Deny(denial) = head_step(&head) else {
        panic!("{head:?} is accepted")
    };
    assert!(denial.cause.contains("it accepts image/png"), "{denial:?}");
    // The response for a model without a grant does not reveal what the model accepts.
    check(
        "hidden",
        ContentType::Other("image/png".into()),
        Some(Reason::NotGranted),
    );
    for content_type in [
        ContentType::Absent,
        ContentType::Json,
        ContentType::Malformed,
        ContentType::Other("image/png".into()),
    ] {
        let head = Head {
            content_type,
            ..grpc(Operation::Infer)
        };
        assert_eq!(reason(&head_step(&head)), refused, "{head:?}");
    }
    let get = Head {
        content_type: ContentType::Other("text/plain".into()),
        ..asked(Operation::Ready, "digits", None)
    };
    assert_eq!(reason(&head_step(&get)), None);
}

#[test]
fn a_request_without_a_body_may_declare_none() {
    let get = |content_length| Head {
        content_length,
        ..asked(Operation::Metadata, "digits", None)
    };
    assert_eq!(head_step(&get(None)), read(BODY_BYTES, BodyFormat::Empty));
    assert_eq!(
        head_step(&get(Some(0))),
        read(BODY_BYTES, BodyFormat::Empty)
    );
    assert_eq!(reason(&head_step(&get(Some(1)))), Some(Reason::Malformed));
    assert_eq!(
        reason(&head_step(&get(Some(u64::MAX)))),
        Some(Reason::BodyTooLarge)
    );
    let health = |content_length| Head {
        content_length,
        ..server(Protocol::OipRest, ServerQuery::Live)
    };
    assert_eq!(
        reason(&head_step(&health(Some(1)))),
        Some(Reason::Malformed)
    );
    assert_eq!(
        head_step(&health(Some(0))),
        Step::Answer(Protocol::OipRest, ServerQuery::Live)
    );
}

#[test]
fn a_body_in_chunks_is_refused_where_none_may_come() {
    for head in [
        asked(Operation::Ready, "digits", None),
        server(Protocol::OipRest, ServerQuery::Live),
    ] {
        let chunked = Head {
            chunked: true,
            ..head
        };
        assert_eq!(reason(&head_step(&chunked)), Some(Reason::Malformed));
    }
    let inference = Head {
        chunked: true,
        content_length: None,
        ..rest("digits")
    };
    assert!(matches!(head_step(&inference), Step::ReadBody(_)));
}

#[test]
fn a_rejection_names_what_the_caller_has_to_change() {
    let field = |head: &Head<'static>| match head_step(head) {
        Step::Deny(denial) => denial.field,
        step => panic!("{step:?}"),
    };
    let unknown = |query| Head {
        route: Route::Unknown {
            protocol: Protocol::OipRest,
        },
        query,
        ..rest("digits")
    };
    assert_eq!(field(&unknown(None)), None);
    for (query, expected) in [
        ("trace", "an inference takes no query: leave out \"trace\""),
        ("", "an inference takes no query"),
    ] {
        assert_eq!(field(&unknown(Some(query))).as_deref(), Some(expected));
    }
    let form = Head {
        route: Route::OpenAi {
            api: crate::request::Api::Chat,
        },
        content_type: ContentType::Other("application/x-www-form-urlencoded".into()),
        ..rest("")
    };
    assert_eq!(
        field(&form).as_deref(),
        Some("this route takes application/json")
    );
}

#[test]
fn a_declared_length_is_refused_only_beyond_the_bound() {
    let limit = u64::try_from(BODY_BYTES).unwrap();
    for head in [rest("digits"), grpc(Operation::Infer)] {
        let with = |content_length| Head {
            content_length: Some(content_length),
            ..head.clone()
        };
        assert!(matches!(head_step(&with(limit)), Step::ReadBody(_)));
        assert_eq!(
            reason(&head_step(&with(limit + 1))),
            Some(Reason::BodyTooLarge)
        );
        assert_eq!(
            reason(&head_step(&with(u64::MAX))),
            Some(Reason::BodyTooLarge)
        );
    }
}

#[test]
fn an_unverifiable_credential_is_not_the_callers_fault() {
    let policy = policy();
    let head = Head {
        identity: Identity::Unverifiable("the library is gone"),
        ..server(Protocol::OipRest, ServerQuery::Metadata)
    };
    let (decision, step) = Decision::begin(&policy, &head);
    assert_eq!(reason(&step), Some(Reason::Overloaded));
    assert_eq!(decision.client(), None);
}

#[test]
fn server_level_requests_are_answered_by_the_gate() {
    use ServerQuery::{Health, Live, Metadata, Ready};
    let mut public = unpriced();
    public["listen"]["health"] = "public".into();
    let (public, closed) = (fixture::policy(public), policy());
    let known = Identity::Client("reader".into());
    for protocol in [Protocol::OipRest, Protocol::OipGrpc] {
        for (policy, identity, question, answered) in [
            (&public, Identity::Missing, Live, true),
            (&public, Identity::Missing, Ready, true),
            (&public, Identity::Missing, Health, true),
            (&public, Identity::Missing, Metadata, false),
            // A request that needs no credential is also allowed with a wrong one.
            (&public, Identity::Refused("unknown api key"), Live, true),
            (&public, Identity::Unverifiable("no verifier"), Live, true),
            (&public, known.clone(), Metadata, true),
            (&closed, Identity::Missing, Live, false),
            (&closed, Identity::Missing, Ready, false),
            (&closed, Identity::Missing, Health, false),
            (&closed, Identity::Missing, Metadata, false),
            (&closed, known.clone(), Live, true),
            (&closed, known.clone(), Ready, true),
            (&closed, known.clone(), Metadata, true),
        ] {
            let head = Head {
                identity,
                ..server(protocol, question)
            };
            let (decision, step) = Decision::begin(policy, &head);
            let expected = if answered {
                None
            } else {
                Some(Reason::Unauthenticated)
            };
            assert_eq!(reason(&step), expected, "{head:?}");
            if answered {
                assert_eq!(step, Step::Answer(protocol, question));
                assert_eq!(
                    decision.client().is_some(),
                    matches!(head.identity, Identity::Client(_))
                );
            }
        }
    }
}

#[test]
fn only_what_is_granted_passes() {
    let check = |head: Head<'static>, granted: bool| {
        let step = head_step(&head);
        assert_eq!(
            reason(&step),
            (!granted).then_some(Reason::NotGranted),
            "{head:?}"
        );
    };
    use Operation::{Infer, Metadata, Ready};
    check(asked(Infer, "digits", None), true);
    check(asked(Infer, "digits", Some("1")), true);
    check(asked(Infer, "digits", Some("2")), false);
    check(asked(Infer, "digits", Some("")), false);
    check(asked(Infer, "digits", Some("01")), false);
    check(asked(Infer, "twice", Some("2")), true);
    // Two versions, and the request names none.
    check(asked(Infer, "twice", None), false);
    check(asked(Ready, "hidden", None), false);
    check(asked(Infer, "nowhere", None), false);
    check(asked(Infer, "", None), false);
    check(asked(Infer, "Digits", None), false);
    check(as_client("reader", asked(Metadata, "digits", None)), true);
    check(as_client("reader", asked(Infer, "digits", None)), false);
    check(
        as_client("reader", asked(Metadata, "twice", Some("1"))),
        false,
    );
    check(as_client("stranger", asked(Ready, "hidden", None)), true);
    check(
        as_client("stranger", asked(Metadata, "hidden", None)),
        false,
    );
}

#[test]
fn models_named_by_message_and_by_path_need_the_same_grant() {
    let policy = policy();
    let check = |request: &InferRequest<'static>, expected: Option<Reason>| {
        let mut decision = held(&policy, &grpc(Operation::Infer));
        let step = decide_message(&mut decision, &policy, request, spent);
        assert_eq!(reason(&step), expected, "{request:?}");
    };
    check(&message(Some("digits"), None), None);
    check(&message(Some("digits"), Some("1")), None);
    for (model, version) in [
        (None, None),
        (Some(""), None),
        (Some("hidden"), None),
        (Some("twice"), None),
        (Some("digits"), Some("9")),
    ] {
        check(&message(model, version), Some(Reason::NotGranted));
    }
    // Raw bodies exist over REST only.
    check(&message(Some("picture"), None), Some(Reason::NotGranted));
}

#[test]
fn a_route_and_a_message_never_name_two_models() {
    let policy = policy();
    let mut decision = held(&policy, &rest("digits"));
    let again = decision.message(&policy, &message(Some("digits"), None));
    assert_ne!(reason(&again), Some(Reason::Malformed), "it is the same");
    for request in [message(Some("hidden"), None), message(None, Some("9"))] {
        let mut decision = held(&policy, &rest("digits"));
        assert_eq!(
            reason(&decision.message(&policy, &request)),
            Some(Reason::Malformed)
        );
    }
    let route =
        |protocol, model: Option<&'static str>, version: Option<&'static str>| Route::Model {
            protocol,
            operation: Operation::Infer,
            model: model.map(Into::into),
            version: version.map(Into::into),
        };
    for head in [
        Head {
            route: route(Protocol::OipRest, None, None),
            ..rest("")
        },
        Head {
            route: route(Protocol::OipGrpc, Some("digits"), None),
            ..grpc(Operation::Infer)
        },
        Head {
            route: route(Protocol::OipGrpc, None, Some("1")),
            ..grpc(Operation::Infer)
        },
    ] {
        assert_eq!(
            reason(&head_step(&head)),
            Some(Reason::NotGranted),
            "{head:?}"
        );
    }
}

#[test]
fn a_wrong_method_is_answered_with_the_allowed_one() {
    let head = Head {
        route: Route::WrongMethod {
            protocol: Protocol::OipRest,
            allow: "POST",
        },
        ..rest("")
    };
    let Step::Deny(denial) = head_step(&head) else {
        panic!("denied")
    };
    assert_eq!(
        (denial.reason, denial.allow),
        (Reason::MethodNotAllowed, Some("POST"))
    );
}

#[test]
fn a_rejected_content_encoding_is_answered_with_the_accepted_ones() {
    use crate::request::Coding::{Deflate, Gzip};
    let mut document = unpriced();
    document["models"]["digits"]["encodings"] = serde_json::json!(["gzip"]);
    document["models"]["hidden"]["encodings"] = serde_json::json!(["gzip", "deflate"]);
    let policy = fixture::policy(document);
    let coded = |head: Head<'static>, encoding| {
        let head = Head { encoding, ..head };
        match decide_head(&policy, &head, spent).1 {
            Step::Deny(denial) => (denial.reason, denial.codings),
            other => panic!("{other:?}"),
        }
    };
    let question = || Head {
        route: Route::Server {
            protocol: Protocol::OipRest,
            question: ServerQuery::Metadata,
        },
        ..rest("")
    };
    let refused = |codings: &[_]| {
        let codings = codings.iter().copied().collect();
        (Reason::UnsupportedEncoding, Some(codings))
    };
    // As far as known when it is rejected: what some model accepts, what this model accepts, or
    // nothing where no body is read.
    let unknown = coded(rest("digits"), Encoding::Unknown);
    assert_eq!(unknown, refused(&[Gzip, Deflate]));
    let digits = coded(rest("digits"), Encoding::Coded(Deflate));
    assert_eq!(digits, refused(&[Gzip]));
    assert_eq!(coded(question(), Encoding::Coded(Gzip)), refused(&[]));
}

#[test]
fn a_client_that_asks_for_16_bit_floats_in_json_reads_how_to_ask_for_binary_output() {
    let mut document = unpriced();
    document["models"]["digits"]["outputs"][0]["datatype"] = "FP16".into();
    let policy = fixture::policy(document);
    let mut decision = held(&policy, &rest("digits"));
    let step = decide_message(&mut decision, &policy, &message(None, None), spent);
    let Step::Deny(denial) = step else {
        panic!("{step:?}")
    };
    assert_eq!(denial.reason, Reason::Malformed);
    let expected = "binary_data_output: expected true, because output \"probabilities\" is FP16, \
                    which JSON cannot represent: ask for binary output with \
                    \"parameters\": {\"binary_data_output\": true}";
    assert_eq!(denial.described_field().unwrap(), expected);
    let binary = InferRequest {
        binary_data_output: true,
        ..message(None, None)
    };
    let mut decision = held(&policy, &rest("digits"));
    let step = decide_message(&mut decision, &policy, &binary, spent);
    assert_eq!(step, Step::Forward);
}
