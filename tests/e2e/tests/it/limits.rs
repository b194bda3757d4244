//! How limits are reported to callers, and what a grant's mode allows, on a real Envoy: in answers,
//! in the audit log, in the counters.

use std::time::Instant;

use serde_json::Value;
use tensorgate_client::Reply;
use tensorgate_client::grpc;
use tensorgate_client::http1::{self, Framing};
use tensorgate_policy_compiler::raw::{Budget, ByteSize, Period, Rate};
use tensorgate_tests::ask::{self, PATH, VALID};
use tensorgate_tests::backend::Mode;
use tensorgate_tests::stack::OWN_PATH;
use tensorgate_tests::{Lease, Setup, Stack, policy};

/// The gate, and its parts in a chain.
const CHAINS: [&str; 2] = ["gate", "auth,rate-limit,tensor-guard"];
/// A window so long that no unit comes back within a test: one takes days.
const MONTH_S: u64 = 2_678_400;

async fn rest(stack: &Stack, key: &str, body: &str) -> Reply {
    let fields = ask::fields(&policy::key(key));
    http1::send(
        stack.gate,
        "POST",
        PATH,
        &fields,
        body.as_bytes(),
        Framing::Length,
    )
    .await
    .unwrap()
}

async fn grpc(stack: &Stack, key: &str) -> Reply {
    let call = grpc::Call {
        path: "/inference.GRPCInferenceService/ModelInfer".into(),
        fields: vec![(b"x-api-key".to_vec(), policy::key(key).into_bytes())],
        pieces: vec![grpc::frame(&ask::message("x"))],
        trailers: None,
    };
    grpc::send(stack.gate, &call).await.unwrap()
}

/// `name;r=…;t=…` of each item of `RateLimit`.
fn left(reply: &Reply) -> Vec<(String, u64, u64)> {
    let field = reply.header("ratelimit").unwrap_or_default();
    let items = field.split(", ").filter(|item| !item.is_empty());
    items
        .map(|item| {
            let mut parts = item.split(';');
            let name = parts.next().unwrap().trim_matches('"').to_owned();
            let number = |part: Option<&str>, of: &str| -> u64 {
                part.unwrap().strip_prefix(of).unwrap().parse().unwrap()
            };
            (name, number(parts.next(), "r="), number(parts.next(), "t="))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_reports_the_remaining_quota_of_each_limit() {
    for chain in CHAINS {
        let mut limited = policy::vectors_policy("rates.json");
        limited.grants[0].rate = Some(Rate {
            quota: Some(5.into()),
            window_s: Some(MONTH_S.into()),
            burst: None,
            ..Rate::default()
        });
        limited.grants[0].budget = Some(Budget {
            bytes: Some(ByteSize(1_000)),
            per: Some(Period::Day),
            ..Budget::default()
        });
        let started = Instant::now();
        let stack = Lease::with_chain(limited, chain).await;
        let key = "rate-1";
        // A filter that forwards the head before the body names the model reports no charge for it.
        let is_reported = Setup::default().has_own_listener();
        for asked in 1..=6_u64 {
            let reply = if asked % 2 == 0 && is_reported {
                grpc(&stack, key).await
            } else {
                rest(&stack, key, VALID).await
            };
            if asked == 6 {
                assert_eq!(reply.reason().as_deref(), Some("rate-limited"));
                assert_eq!(left(&reply)[0].1, 0, "{reply:?}");
                continue;
            }
            assert!(
                reply.status == 200 && matches!(reply.grpc_status(), None | Some(0)),
                "{chain} {asked}: {reply:?}"
            );
            let policies = reply.header("ratelimit-policy").unwrap_or_default();
            assert_eq!(
                policies,
                format!(
                    "\"three\";q=5;w={MONTH_S}, \"three:bytes:day\";q=1000;qu=\"tensor-bytes\";w=86400"
                ),
                "{chain} {asked}"
            );
            let [(rate, rate_left, full_s), (day, day_left, midnight_s)] = &left(&reply)[..] else {
                panic!("{reply:?}")
            };
            assert_eq!((rate.as_str(), day.as_str()), ("three", "three:bytes:day"));
            // Two floats each. A budget's day may end during the test.
            assert_eq!(*rate_left, 5 - asked, "{chain}");
            assert!((1_000 - asked * 8..=992).contains(day_left), "{day_left}");
            let since = asked * (MONTH_S / 5) - full_s;
            assert!(since <= started.elapsed().as_secs() + 1, "{full_s}");
            assert!(*midnight_s <= 86_400);
        }
        // A client without limits gets no such header.
        let unlimited = rest(&stack, "unknown", VALID).await;
        assert_eq!(unlimited.header("ratelimit"), None);
    }
}

fn shadow(line: &Value) -> Vec<(String, String)> {
    let listed = line["shadow"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    listed
        .iter()
        .map(|it| (text(&it["reason"]), text(&it["detail"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shadow_denials_are_in_the_audit_log_and_counted() {
    for chain in CHAINS {
        let policy = policy::vectors_policy("shadow.json");
        let stack = Lease::with_chain(policy, chain).await;
        let bad = VALID.replace("[1, 2]", "[1, 2000]");
        // A rate of two in shadow mode; then an invalid value, after the enforced rate.
        for _ in 0..3 {
            assert_eq!(rest(&stack, "cost-2", VALID).await.status, 200);
        }
        let refused = rest(&stack, "cost-2", &bad).await;
        assert_eq!(refused.reason().as_deref(), Some("out-of-range"));
        // Every kind at once: a rate of one is spent.
        for _ in 0..2 {
            let passed = rest(&stack, "cost-7", &bad).await;
            assert_eq!(passed.status, 200, "{passed:?}");
            assert_eq!(
                passed.header("ratelimit"),
                None,
                "a shadow limit rejects no request"
            );
        }
        // The backend's answer, in shadow mode and enforced.
        stack.backend.set(Mode::NotFinite);
        assert_eq!(grpc(&stack, "cost-10").await.grpc_status(), Some(0));
        let unsayable = rest(&stack, "cost-10", VALID).await;
        // JSON cannot express this value, but another encoding could.
        assert_eq!(unsayable.reason().as_deref(), Some("malformed"));
        let refused = rest(&stack, "cost-1", VALID).await;
        assert_eq!(refused.reason().as_deref(), Some("backend-fault"));

        let is_of_client = |line: &Value| line["type"] == "decision" && line["path"] != OWN_PATH;
        let lines = stack.met_request_lines(9, is_of_client).await;
        assert_eq!(lines.len(), 9, "{lines:#?}");
        let of = |client: &str| -> Vec<&Value> {
            let asked = lines.iter().filter(|line| line["client"] == client);
            asked.collect()
        };
        let rate = of("cost-2");
        let spent = "grant \"rate\" has 0 of 2 requests in 2678400 s left, and 1 is asked for";
        let spent = vec![("rate-limited".to_owned(), spent.to_owned())];
        assert_eq!(
            rate.iter().map(|line| shadow(line)).collect::<Vec<_>>(),
            [vec![], vec![], spent.clone(), spent],
            "{chain}"
        );
        assert_eq!(
            (&rate[2]["by"], &rate[2]["verdict"]),
            (&"host".into(), &"allow".into())
        );
        assert_eq!(
            (&rate[3]["by"], &rate[3]["verdict"]),
            (&"gate".into(), &"deny".into())
        );
        let all = of("cost-7");
        let reasons: Vec<_> = shadow(all[1])
            .into_iter()
            .map(|(reason, _)| reason)
            .collect();
        assert_eq!(reasons, ["rate-limited", "out-of-range"], "{chain}");
        let outputs = of("cost-10");
        assert_eq!(shadow(outputs[0])[0].0, "backend-fault");
        assert_eq!(outputs[1]["verdict"], "deny");
        assert!(shadow(of("cost-1")[0]).is_empty());

        let counted = stack.envoy_stats("tensorgate_shadowed").await;
        let wanted = [
            ("rate-limited", 3),
            ("out-of-range", 2),
            ("cost-exceeded", 0),
        ];
        for (reason, count) in wanted {
            let line = counted
                .lines()
                .find(|line| line.contains(&format!("reason={reason};")));
            let line = line.unwrap_or_else(|| panic!("{reason}: {counted}"));
            assert!(line.ends_with(&format!(": {count}")), "{chain} {counted}");
        }
    }
}
