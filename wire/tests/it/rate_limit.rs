//! Envoy's rate limit protocol: requests match Envoy's own definitions, responses are bounded,
//! and a contradictory response is ignored.

use tensorgate_policy::ChargeOutcome;
use tensorgate_policy::policy::Wait;
use tensorgate_wire::rate_limit::{
    Code, Descriptor, LimitOverride, MAX_DESCRIPTORS, MAX_ENTRIES, RateLimitRequest,
    RateLimitResponse, Status, TimeUnit, is_reservation,
};

fn descriptor() -> Descriptor {
    Descriptor {
        entries: vec![
            ("limit".into(), "scoring".into()),
            ("client".into(), "ocr".into()),
        ],
        limit: LimitOverride::of(100, 30),
        hits: Some(7),
    }
}

fn question() -> RateLimitRequest {
    RateLimitRequest {
        domain: "d".into(),
        descriptors: vec![descriptor()],
        hits: 7,
    }
}

fn status(code: Code) -> Status {
    Status {
        code,
        limit: LimitOverride::of(100, 60),
        left: 3,
        reset_ns: Some(1_500_000_000),
    }
}

#[test]
fn requests_match_envoys_definitions() {
    let entries = b"\x0a\x10\x0a\x05limit\x12\x07scoring\x0a\x0d\x0a\x06client\x12\x03ocr";
    let limit = b"\x12\x08\x08\x64\x10\x01\x1a\x02\x08\x1e";
    let hits = b"\x1a\x02\x08\x07";
    let descriptor = [&entries[..], limit, hits].concat();
    let length = [u8::try_from(descriptor.len()).unwrap()];
    let expected = [&b"\x0a\x01d\x12"[..], &length, &descriptor, b"\x18\x07"].concat();
    assert_eq!(question().to_bytes(), expected);
    assert_eq!(RateLimitRequest::from_bytes(&expected), Ok(question()));
}

#[test]
fn responses_match_envoys_definitions() {
    let answer = RateLimitResponse {
        code: Code::OverLimit,
        statuses: vec![status(Code::OverLimit)],
    };
    let limit = b"\x12\x04\x08\x64\x10\x02";
    let reset = b"\x22\x08\x08\x01\x10\x80\xca\xb5\xee\x01";
    let status = [&b"\x08\x02"[..], limit, b"\x18\x03", reset].concat();
    let length = [u8::try_from(status.len()).unwrap()];
    let expected = [&b"\x08\x02\x12"[..], &length, &status].concat();
    assert_eq!(answer.to_bytes(), expected);
    assert_eq!(RateLimitResponse::from_bytes(&expected), Ok(answer));
}

#[test]
fn oversized_or_malformed_messages_are_rejected() {
    let many = |count| RateLimitRequest {
        descriptors: vec![descriptor(); count],
        ..question()
    };
    assert!(RateLimitRequest::from_bytes(&many(MAX_DESCRIPTORS).to_bytes()).is_ok());
    assert!(RateLimitRequest::from_bytes(&many(MAX_DESCRIPTORS + 1).to_bytes()).is_err());
    let mut wide = question();
    wide.descriptors[0].entries = vec![("k".into(), "v".into()); MAX_ENTRIES + 1];
    assert!(RateLimitRequest::from_bytes(&wide.to_bytes()).is_err());
    wide.descriptors[0].entries = vec![("k".into(), "v".repeat(257))];
    assert!(RateLimitRequest::from_bytes(&wide.to_bytes()).is_err());
    let encoded = question().to_bytes();
    for end in 1..encoded.len() {
        // A prefix that ends between two fields is a valid message.
        if let Ok(part) = RateLimitRequest::from_bytes(&encoded[..end]) {
            assert_ne!(part, question(), "cut at {end}");
        }
    }
    for (bytes, what) in [
        (&b"\x0a\xff\x01d"[..], "a length past the end"),
        (b"\x08\x01", "a domain that is a number"),
        (b"\x0a\x01\xff", "a domain that is no text"),
        (b"\x0a\x01a\x0a\x01b", "two domains"),
        (b"\x12\x02\x20\x01", "a refund"),
        (b"\x18\xff\xff\xff\xff\x7f", "more than 32 bits"),
    ] {
        assert!(RateLimitRequest::from_bytes(bytes).is_err(), "{what}");
    }
    for (bytes, what) in [
        (
            &b"\x12\x0d\x22\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..],
            "a time that is past",
        ),
        (
            b"\x12\x06\x18\xff\xff\xff\xff\x1f",
            "more left than there can be",
        ),
        (b"\x08\x01\x08\x02", "two verdicts"),
    ] {
        assert!(RateLimitResponse::from_bytes(bytes).is_err(), "{what}");
    }
    // Fields that later versions add.
    assert_eq!(
        RateLimitResponse::from_bytes(b"\x08\x01\x2a\x03abc\xfa\x3f\x01x").map(|it| it.code),
        Ok(Code::Ok)
    );
    let large = vec![0x2a_u8; 20_000];
    assert!(RateLimitResponse::from_bytes(&large).is_err());
}

#[test]
fn a_charge_names_limit_and_client_and_a_reservation_can_be_part_of_a_key() {
    let request = RateLimitRequest::of("d", &support::charge());
    let entries = request.descriptors.iter().map(|it| {
        let entries = it.entries.iter();
        entries
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
    });
    assert_eq!(
        entries.collect::<Vec<_>>(),
        [
            ["limit=chat:bytes", "client=ocr"],
            ["limit=chat:tokens", "client=ocr"],
        ]
    );
    for (name, expected) in [
        ("0b7e4c2a-58c5-4ff1-9a55-000000000001", true),
        ("", false),
        ("a:b", false),
        ("a}b", false),
        ("\u{e4}", false),
        (&"a".repeat(64), true),
        (&"a".repeat(65), false),
    ] {
        assert_eq!(is_reservation(name), expected, "{name:?}");
    }
}

#[test]
fn windows_are_sent_if_the_protocol_can_express_them() {
    let limit = |unit, multiplier| {
        Some(LimitOverride {
            quota: 9,
            unit,
            multiplier,
        })
    };
    for (window_s, expected) in [
        (1, limit(TimeUnit::Second, 1)),
        (30, limit(TimeUnit::Second, 30)),
        (60, limit(TimeUnit::Minute, 1)),
        (90, limit(TimeUnit::Second, 90)),
        (7_200, limit(TimeUnit::Hour, 2)),
        (2_678_400, limit(TimeUnit::Day, 31)),
    ] {
        assert_eq!(LimitOverride::of(9, window_s), expected);
    }
    assert_eq!(LimitOverride::of(1 << 32, 60), None);
}

#[test]
fn contradictory_answers_are_ignored() {
    use Code::{Ok as Passes, OverLimit, Unknown};
    let limit_charges = support::limit_charges();
    let outcome = |code, statuses: &[Status]| {
        RateLimitResponse {
            code,
            statuses: statuses.to_vec(),
        }
        .outcome(&limit_charges)
    };
    let (ok, over) = (status(Passes), status(OverLimit));
    // The second limit is per day.
    let day = |status: Status| Status {
        limit: LimitOverride::of(1_000, 86_400),
        ..status
    };
    let Ok(ChargeOutcome::Charged(quotas)) = outcome(Passes, &[ok, day(ok)]) else {
        panic!("it passes")
    };
    assert_eq!(
        (quotas[0].left, quotas[0].full_after_ns),
        (3, 1_500_000_000)
    );
    let Ok(ChargeOutcome::Exceeded(quotas)) = outcome(OverLimit, &[ok, day(over)]) else {
        panic!("it is refused")
    };
    assert_eq!(quotas[0].wait, Wait::None);
    assert_eq!(quotas[1].wait, Wait::Ns(1_500_000_000));
    // Servers that send no statuses.
    let Ok(ChargeOutcome::Exceeded(quotas)) = outcome(OverLimit, &[]) else {
        panic!("it is refused")
    };
    assert!(quotas.len() == 2 && quotas.iter().all(|it| it.wait != Wait::None));
    // More remaining quota than the limit allows is not shown to a caller.
    let rich = Status {
        left: u32::MAX,
        ..ok
    };
    let Ok(ChargeOutcome::Charged(quotas)) = outcome(Passes, &[rich, day(rich)]) else {
        panic!("it passes")
    };
    assert_eq!(quotas[0].left, limit_charges[0].allowance.quota());
    let unlimited = Status { limit: None, ..ok };
    for (code, statuses) in [
        (Unknown, &[][..]),
        (Unknown, &[ok, day(ok)]),
        (Passes, &[]),
        (Passes, &[ok, day(over)]),
        (OverLimit, &[ok, day(ok)]),
        (Passes, &[ok]),
        (Passes, &[ok, day(ok), day(ok)]),
        (Passes, &[ok, unlimited]),
    ] {
        assert!(outcome(code, statuses).is_err(), "{code:?} {statuses:?}");
    }
}

#[test]
fn an_answer_based_on_a_looser_limit_is_ignored() {
    let limit_charges = support::limit_charges();
    let unit = |quota, unit, multiplier| {
        Some(LimitOverride {
            quota,
            unit,
            multiplier,
        })
    };
    // A hundred in 60 s.
    for (limit, expected) in [
        (unit(100, TimeUnit::Minute, 1), true),
        (unit(100, TimeUnit::Second, 60), true),
        (unit(100, TimeUnit::Day, 1), true),
        (unit(1, TimeUnit::Second, 1), true),
        (unit(0, TimeUnit::Second, 1), true),
        // The multiplier was not read.
        (unit(100, TimeUnit::Second, 1), false),
        (unit(100, TimeUnit::Second, 0), false),
        (unit(100, TimeUnit::Second, 59), false),
        (unit(101, TimeUnit::Minute, 1), false),
        // The same rate with a larger burst.
        (unit(6_000, TimeUnit::Hour, 1), false),
        (unit(2, TimeUnit::Second, 1), false),
        (unit(u32::MAX, TimeUnit::Day, u32::MAX), false),
        (unit(1, TimeUnit::Unknown, 1), false),
        (None, false),
    ] {
        for code in [Code::Ok, Code::OverLimit] {
            let one = Status {
                limit,
                ..status(code)
            };
            let answer = RateLimitResponse {
                code,
                statuses: vec![one],
            };
            let believed = answer.outcome(&limit_charges[..1]).is_ok();
            assert_eq!(believed, expected, "{limit:?} {code:?}");
        }
    }
}

#[test]
fn answers_of_our_own_service_are_read_back() {
    let limit_charges = support::limit_charges();
    let quota = |left, wait| tensorgate_policy::policy::RemainingQuota {
        left,
        full_after_ns: 5_000_000_001,
        wait,
    };
    for outcome in [
        ChargeOutcome::Charged(vec![quota(3, Wait::None), quota(0, Wait::None)]),
        ChargeOutcome::Exceeded(vec![
            quota(3, Wait::None),
            quota(0, Wait::Ns(5_000_000_001)),
        ]),
    ] {
        let bytes = RateLimitResponse::of(&limit_charges, &outcome)
            .unwrap()
            .to_bytes();
        let read = RateLimitResponse::from_bytes(&bytes).unwrap();
        assert_eq!(read.outcome(&limit_charges), Ok(outcome));
    }
    assert_eq!(
        RateLimitResponse::of(&limit_charges, &ChargeOutcome::Failed),
        None
    );
    assert_eq!(
        RateLimitResponse::of(&limit_charges, &ChargeOutcome::Charged(vec![])),
        None
    );
}

mod support {
    //! Two limits of a small policy.

    use serde_json::json;
    use tensorgate_policy::decision::LimitCharge;
    use tensorgate_policy::values::Scope;
    use tensorgate_policy::{Charge, Policy};
    use tensorgate_policy_compiler::validate::validate;

    /// Seven bytes and eight tokens.
    pub fn charge() -> Charge {
        let policy = policy();
        let allowances = policy.grants()[1].per_content().zip(7..);
        Charge {
            scope: Scope::Global,
            grant: "chat".into(),
            client: "ocr".into(),
            limit_charges: allowances
                .map(|(allowance, amount)| LimitCharge { allowance, amount })
                .collect(),
            ..Charge::default()
        }
    }

    pub fn limit_charges() -> Vec<LimitCharge> {
        policy().grants()[0]
            .per_request()
            .map(|allowance| LimitCharge {
                allowance,
                amount: 1,
            })
            .collect()
    }

    fn policy() -> Policy {
        let tensor = json!({"name": "x", "datatype": "FP32", "shape": [1]});
        let policy = json!({
            "version": 1,
            "clients": {"ocr": {"api_keys": [{"sha256": "01".repeat(32)}]}},
            "backends": {
                "gpu": {"kind": "embedded", "models": "models/"},
                "llm": {"kind": "openai", "endpoints": ["http://127.0.0.1:8000"]}
            },
            "models": {
                "m": {"backend": "gpu", "versions": ["1"], "protocols": ["oip-rest"], "inputs": [tensor], "outputs": [tensor]},
                "llama": {"backend": "llm", "versions": ["1"], "protocols": ["openai"], "openai": {
                    "chat": {"max_messages": 1, "max_message_bytes": 8, "max_prompt_bytes": 8, "max_tokens": 16}
                }}
            },
            "rate_limit_service": {"redis": {"url": "redis://127.0.0.1"}},
            "grants": [{
                "name": "scoring", "clients": ["ocr"], "models": ["m"], "operations": ["infer"],
                "rate": {"quota": 100, "window_s": 60, "scope": "global"},
                "budget": {"requests": 1000, "per": "day", "scope": "global"},
                "cost": {"elements": 100, "window_s": 60}
            }, {
                "name": "chat", "clients": ["ocr"], "models": ["llama"], "operations": ["infer"],
                "cost": {"bytes": 1_000_000, "tokens": 1_000, "window_s": 60, "scope": "global"}
            }]
        });
        validate(&serde_json::from_value(policy).unwrap())
            .unwrap()
            .0
    }
}
