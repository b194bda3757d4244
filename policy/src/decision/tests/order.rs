//! Which of two causes is reported. A decision never changes its verdict.

use super::*;

/// A cause in a head, with its reason.
type Cause = (Reason, &'static str, fn(&mut Head<'static>));

/// Everything that can be wrong with one REST head, each in its own field.
const CAUSES: [Cause; 11] = [
    (Reason::HeaderTooLarge, "bytes", |head| {
        head.header_bytes = 1025
    }),
    (Reason::HeaderTooLarge, "fields", |head| {
        head.header_count = 17
    }),
    (Reason::AmbiguousRequest, "ambiguous", |head| {
        head.ambiguous = Some("two credentials")
    }),
    (Reason::Unauthenticated, "missing", |head| {
        head.identity = Identity::Missing
    }),
    (Reason::Unauthenticated, "refused", |head| {
        head.identity = Identity::Refused("unknown api key")
    }),
    (Reason::Unauthenticated, "gone", |head| {
        head.identity = Identity::Client("revoked".into())
    }),
    (Reason::NotAnInferenceRoute, "route", |head| {
        head.route = Route::Unknown {
            protocol: Protocol::OipRest,
        }
    }),
    (Reason::MethodNotAllowed, "method", |head| {
        head.route = Route::WrongMethod {
            protocol: Protocol::OipRest,
            allow: "POST",
        };
    }),
    (Reason::UnsupportedMediaType, "type", |head| {
        head.content_type = ContentType::Malformed
    }),
    (Reason::UnsupportedEncoding, "encoding", |head| {
        head.encoding = Encoding::Unknown
    }),
    (Reason::NotGranted, "grant", |head| {
        head.route = Route::Model {
            protocol: Protocol::OipRest,
            operation: Operation::Infer,
            model: Some("hidden".into()),
            version: None,
        };
    }),
];

/// The field that a cause sets: two causes of one field exclude each other.
fn field(name: &str) -> &str {
    match name {
        "missing" | "refused" | "gone" => "identity",
        "route" | "method" | "grant" => "route",
        other => other,
    }
}

/// The head with its declared length within or beyond the limit, the result of a charge, and the
/// resulting step.
fn outcome(head: &Head<'static>, charge: ChargeOutcome) -> Option<Reason> {
    reason(&decide_head(&policy(), head, |_| charge.clone()).1)
}

#[test]
fn each_cause_alone_has_its_reason() {
    assert_eq!(outcome(&rest("digits"), ChargeOutcome::CHARGED), None);
    for (reason, name, cause) in CAUSES {
        let mut head = rest("digits");
        cause(&mut head);
        assert_eq!(
            outcome(&head, ChargeOutcome::CHARGED),
            Some(reason),
            "{name}"
        );
    }
}

#[test]
fn of_two_causes_in_a_head_the_earlier_reason_is_given() {
    let mut pairs = 0;
    for (first, first_name, one) in CAUSES {
        for (second, second_name, two) in CAUSES {
            if field(first_name) == field(second_name) {
                continue;
            }
            let mut head = rest("digits");
            one(&mut head);
            two(&mut head);
            assert_eq!(
                outcome(&head, ChargeOutcome::CHARGED),
                Some(first.min(second)),
                "{first_name} {second_name}"
            );
            pairs += 1;
        }
    }
    assert!(pairs > 80, "{pairs}");
}

#[test]
fn every_cause_in_a_head_comes_before_rate_and_size() {
    let refused = ChargeOutcome::Exceeded(vec![quota(Wait::Ns(1))]);
    for (reason, name, cause) in CAUSES {
        let mut head = Head {
            content_length: Some(u64::MAX),
            ..rest("digits")
        };
        cause(&mut head);
        assert_eq!(outcome(&head, refused.clone()), Some(reason), "{name}");
    }
    let large = Head {
        content_length: Some(u64::MAX),
        ..rest("digits")
    };
    assert_eq!(outcome(&large, refused), Some(Reason::RateLimited));
    assert_eq!(
        outcome(&large, ChargeOutcome::CHARGED),
        Some(Reason::BodyTooLarge)
    );
}

#[test]
fn nothing_is_charged_for_what_is_refused_before() {
    for (_, name, cause) in CAUSES {
        let mut head = rest("digits");
        cause(&mut head);
        let mut charges = 0;
        decide_head(&policy(), &head, |_| {
            charges += 1;
            ChargeOutcome::CHARGED
        });
        assert_eq!(charges, 0, "{name}");
    }
}

#[test]
fn an_unknown_caller_gets_one_answer_on_every_route() {
    let routes = [
        Route::Unknown {
            protocol: Protocol::OipRest,
        },
        Route::WrongMethod {
            protocol: Protocol::OipRest,
            allow: "GET",
        },
        Route::Server {
            protocol: Protocol::OipRest,
            question: ServerQuery::Metadata,
        },
        rest("digits").route,
        rest("hidden").route,
        rest("nowhere").route,
        grpc(Operation::Infer).route,
    ];
    let denials: Vec<String> = routes
        .into_iter()
        .map(|route| {
            match head_step(&Head {
                route,
                identity: Identity::Missing,
                ..rest("")
            }) {
                Step::Deny(denial) => format!("{denial:?}"),
                step => panic!("{step:?}"),
            }
        })
        .collect();
    assert!(
        denials.windows(2).all(|pair| pair[0] == pair[1]),
        "{denials:#?}"
    );
}

#[test]
fn every_kind_of_missing_grant_gets_the_same_response() {
    let shown = |head: &Head<'static>| match head_step(head) {
        Step::Deny(Denial {
            reason,
            field,
            expected,
            cause,
            rates,
            retry_after_s,
            server_status: _,
            allow,
            codings,
            overload: _,
            limit: _,
        }) => (
            (
                reason,
                field,
                expected,
                rates,
                retry_after_s,
                allow,
                codings,
            ),
            cause,
        ),
        step => panic!("{step:?}"),
    };
    let ways = [
        asked(Operation::Infer, "nowhere", None),
        asked(Operation::Infer, "hidden", None),
        asked(Operation::Infer, "digits", Some("9")),
        asked(Operation::Infer, "twice", None),
        as_client("reader", asked(Operation::Infer, "digits", None)),
    ];
    let (answers, mut causes): (Vec<_>, Vec<_>) = ways.iter().map(shown).unzip();
    assert!(
        answers
            .iter()
            .all(|answer| *answer == (Reason::NotGranted, None, None, vec![], None, None, None)),
        "{answers:?}"
    );
    causes.sort();
    causes.dedup();
    assert_eq!(
        causes.len(),
        ways.len(),
        "the log tells them apart: {causes:#?}"
    );
}

#[test]
fn once_denied_always_denied() {
    let policy = policy();
    let (mut decision, first) = Decision::begin(
        &policy,
        &Head {
            ambiguous: Some("two types"),
            ..rest("digits")
        },
    );
    assert_eq!(reason(&first), Some(Reason::AmbiguousRequest));
    assert_eq!(decision.charged(&policy, ChargeOutcome::CHARGED), first);
    assert_eq!(decision.message(&policy, &message(None, None)), first);
    assert_eq!(decision.check(&policy, &message(None, None)), first);
    assert_eq!(
        decision.refuse(&policy, Denial::new(Reason::HeaderTooLarge, "later")),
        first
    );
    assert_eq!(
        decision.denial().map(|denial| denial.reason),
        Some(Reason::AmbiguousRequest)
    );

    let mut decision = held(&policy, &rest("digits"));
    let refused = decision.refuse(&policy, Denial::new(Reason::TooDeep, "200 quotas"));
    assert_eq!(reason(&refused), Some(Reason::TooDeep));
    assert_eq!(
        decide_message(&mut decision, &policy, &message(None, None), spent),
        refused
    );
}

#[test]
fn a_forwarded_request_can_still_be_refused_but_never_forwarded_again() {
    let policy = policy();
    let mut decision = held(&policy, &rest("digits"));
    assert_eq!(
        decide_message(&mut decision, &policy, &message(None, None), spent),
        Step::Forward
    );
    let mut again = decision.clone();
    assert_eq!(
        reason(&again.check(&policy, &message(None, None))),
        Some(Reason::Overloaded)
    );
    assert_eq!(
        reason(&decision.refuse(&policy, Denial::new(Reason::HandlerFault, "fuel"))),
        Some(Reason::HandlerFault)
    );
}

/// A call that a driver can make.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Charged,
    Acquired,
    Body,
    Message,
    Check,
}

#[test]
fn a_call_out_of_order_denies() {
    use Call::{Acquired, Body, Charged, Check, Message};
    let mut document = unpriced();
    document["grants"][0]["concurrency"] = 1.into();
    document["models"]["digits"]["limits"] = serde_json::json!({"concurrency": 1});
    let policy = fixture::policy(document);
    let request = message(None, None);
    let play = |calls: &[Call]| {
        let (mut decision, mut step) = Decision::begin(&policy, &rest("digits"));
        for call in calls {
            step = match call {
                Charged => decision.charged(&policy, ChargeOutcome::CHARGED),
                Acquired => decision.acquired(&policy, &AcquireOutcome::Acquired),
                Body => decision.body(&policy, 100, None),
                Message => decision.message(&policy, &request),
                Check => decision.check(&policy, &request),
            };
        }
        step
    };
    let order = [Charged, Acquired, Body, Acquired, Message, Check];
    assert_eq!(play(&order), Step::Forward);
    // Every sequence of up to six calls that differs from the only correct order is rejected, and
    // none ends in a forward.
    let mut sequences: Vec<Vec<Call>> = vec![vec![]];
    for _ in 0..6 {
        sequences = sequences
            .iter()
            .flat_map(|calls| {
                [Charged, Acquired, Body, Message, Check]
                    .map(|call| [calls.as_slice(), &[call]].concat())
                    .into_iter()
                    .chain([calls.clone()])
            })
            .collect();
    }
    for calls in sequences {
        let right = order.starts_with(&calls);
        let step = play(&calls);
        assert_eq!(
            reason(&step),
            if right {
                None
            } else {
                Some(Reason::Overloaded)
            },
            "{calls:?}"
        );
        assert_eq!(step == Step::Forward, calls == order, "{calls:?}");
    }
}

#[test]
fn a_decision_of_another_policy_denies() {
    let policy = policy();
    let other = fixture::policy(serde_json::json!({"version": 1}));
    let (mut decision, _) = Decision::begin(&policy, &rest("digits"));
    let refused = decision.charged(&other, ChargeOutcome::Exceeded(vec![quota(Wait::Forever)]));
    assert_eq!(reason(&refused), Some(Reason::Overloaded));
    let mut decision = held(&policy, &rest("digits"));
    assert_eq!(
        reason(&decide_message(
            &mut decision,
            &other,
            &message(None, None),
            spent
        )),
        Some(Reason::Overloaded)
    );
    let mut decision = held(&policy, &grpc(Operation::Infer));
    assert_eq!(
        reason(&decide_message(
            &mut decision,
            &other,
            &message(Some("digits"), None),
            spent
        )),
        Some(Reason::NotGranted)
    );
}
