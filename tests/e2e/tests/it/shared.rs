//! What workers share, on a real Envoy with two or four of them, and what the host behind them
//! counts. Limits and permits are exact to one, whatever the connections do.

use std::time::{Duration, Instant, UNIX_EPOCH};

use tensorgate_client::http1::{self, Framing};
use tensorgate_policy_compiler::raw::{Budget, ByteSize, Cost, ModelLimits, Period, Policy, Rate};
use tensorgate_tests::ask::{PATH, PATIENCE, VALID, fields, outcome};
use tensorgate_tests::backend::Mode;
use tensorgate_tests::held::exact;
use tensorgate_tests::stack::OWN_PATH;
use tensorgate_tests::stack::threads::until_active;
use tensorgate_tests::{Lease, Stack, policy};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The gate, and its parts in a chain.
const CHAINS: [&str; 2] = ["gate", "auth,rate-limit,tensor-guard"];
/// The client.
const OWN: &str = "rate-1";

/// The vectors' policy about rates, without its rate.
fn policy_with(change: impl Fn(&mut Policy)) -> Policy {
    let mut policy = policy::vectors_policy("rates.json");
    policy.grants[0].rate = None;
    change(&mut policy);
    policy
}

/// A connection that has sent its request's headers and half of its body.
async fn half(stack: &Stack) -> TcpStream {
    let key = policy::key(OWN);
    let mut stream = TcpStream::connect(stack.gate).await.unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: gate\r\ncontent-type: application/json\r\nx-api-key: {key}\r\ncontent-length: {}\r\n\r\n",
        VALID.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&VALID.as_bytes()[..20]).await.unwrap();
    stream
}

/// Requests at once.
const REQUESTS: usize = 200;

/// Sends many requests at once, each on a connection of its own, so that every worker gets some.
/// Returns how many exceed no limit, whatever happens behind the gate.
async fn passes(policy: Policy, chain: &str, workers: u16) -> usize {
    let stack = Lease::with_workers(policy, chain, workers).await;
    let fields = fields(&policy::key(OWN));
    let mut asked = JoinSet::new();
    for _ in 0..REQUESTS {
        let (gate, fields) = (stack.gate, fields.clone());
        asked.spawn(async move {
            let body = VALID.as_bytes();
            http1::send(gate, "POST", PATH, &fields, body, Framing::Length)
                .await
                .unwrap()
                .status
        });
    }
    let answers = asked.join_all().await;
    answers.iter().filter(|status| **status != 429).count()
}

/// Checks that exactly so many of them pass, in any order.
async fn spends_exactly(name: &str, policy: Policy, chain: &str, workers: u16, wanted: usize) {
    let day = || UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    // A budget's day may end during the test.
    let seen = loop {
        let today = day();
        let seen = passes(policy.clone(), chain, workers).await;
        if today == day() {
            break seen;
        }
    };
    assert_eq!(seen, wanted, "{name}, {chain}");
}

/// A window so long that no unit comes back within a test: one takes hours.
const MONTH_S: u64 = 2_678_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_a_bucket_exactly() {
    let policy = policy_with(|policy| {
        policy.grants[0].rate = Some(Rate {
            quota: Some(37.into()),
            window_s: Some(MONTH_S.into()),
            burst: Some(37.into()),
            ..Rate::default()
        });
    });
    for chain in CHAINS {
        spends_exactly("shared-rate", policy.clone(), chain, 2, 37).await;
    }
}

/// Each request has two elements of eight bytes in all. More passes than the limit, or fewer, would
/// mean that a worker, or the host, lost a charge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_workers_share_rates_costs_and_budgets_exactly() {
    let rate = policy_with(|policy| {
        policy.grants[0].rate = Some(Rate {
            quota: Some(60.into()),
            window_s: Some(MONTH_S.into()),
            burst: Some(60.into()),
            ..Rate::default()
        });
    });
    spends_exactly("shared-rate", rate, "gate", 4, 60).await;
    let cost = policy_with(|policy| {
        policy.grants[0].cost = Some(Cost {
            elements: Some(121),
            tokens: None,
            bytes: Some(ByteSize(4_000)),
            window_s: Some(MONTH_S.into()),
            ..Cost::default()
        });
    });
    for chain in CHAINS {
        spends_exactly("shared-cost", cost.clone(), chain, 4, 60).await;
    }
    let budget = policy_with(|policy| {
        policy.grants[0].budget = Some(Budget {
            requests: None,
            elements: None,
            tokens: None,
            bytes: Some(ByteSize(483)),
            per: Some(Period::Day),
            ..Budget::default()
        });
    });
    spends_exactly("shared-budget", budget, "gate", 4, 60).await;
}

/// Waits until Envoy has seen the end of everything that was dropped. A connection may still wait
/// to be accepted, and then hold a permit for a moment. Later complete requests show that both
/// workers have gone on.
async fn settled(stack: &Stack) {
    for _ in 0..50 {
        outcome(stack.gate, OWN, &[]).await.unwrap();
    }
    until_active(stack, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reset_streams_return_every_permit() {
    const PLACES: usize = 8;
    let policy = policy_with(|policy| {
        policy.clients.get_mut(OWN).unwrap().concurrency = Some(8.into());
        policy.grants[0].concurrency = Some(8.into());
        policy.models.get_mut("vec").unwrap().limits = Some(ModelLimits {
            concurrency: Some(8.into()),
            in_flight_bytes: Some(65_536.into()),
        });
    });
    for chain in CHAINS {
        let stack = Lease::with_chain(policy.clone(), chain).await;
        for round in 0..125 {
            let mut held = Vec::new();
            for _ in 0..PLACES {
                held.push(half(&stack).await);
            }
            // The connections are dropped at any point, and no permit is lost.
            drop(held);
            if round % 25 == 24 {
                settled(&stack).await;
                exact(stack.gate, OWN, PLACES, chain).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_never_answers_holds_no_permit() {
    let policy = policy_with(|policy| {
        policy.models.get_mut("vec").unwrap().limits = Some(ModelLimits {
            concurrency: Some(1.into()),
            in_flight_bytes: None,
        });
        policy.backends.get_mut("backend").unwrap().timeout_ms = 1_500.into();
    });
    for chain in CHAINS {
        let stack = Lease::with_chain(policy.clone(), chain).await;
        stack.backend.set(Mode::Hangs);
        for _ in 0..3 {
            assert_eq!(
                outcome(stack.gate, OWN, &[]).await.unwrap(),
                "backend-timeout",
                "{chain}"
            );
        }
        stack.backend.set(Mode::Zeros);
        assert_eq!(
            outcome(stack.gate, OWN, &[]).await.unwrap(),
            "ok",
            "{chain}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_logs_and_counts_one_outcome_per_request() {
    let policy = policy_with(|policy| policy.grants[0].concurrency = Some(8.into()));
    let chain = "auth,rate-limit,tensor-guard";
    let stack = Lease::with_chain(policy, chain).await;
    assert_eq!(outcome(stack.gate, OWN, &[]).await.unwrap(), "ok");
    let spoiled = http1::send(
        stack.gate,
        "POST",
        PATH,
        &fields(&policy::key(OWN)),
        b"{",
        Framing::Length,
    )
    .await
    .unwrap();
    assert_eq!(spoiled.reason().as_deref(), Some("malformed"));
    let stranger = http1::send(
        stack.gate,
        "POST",
        PATH,
        &fields("tg_unknown"),
        VALID.as_bytes(),
        Framing::Length,
    )
    .await
    .unwrap();
    assert_eq!(stranger.reason().as_deref(), Some("unauthenticated"));
    drop(half(&stack).await);
    let wanted = [
        ("allow", "ok"),
        ("deny", "malformed"),
        ("deny", "unauthenticated"),
        ("aborted", "incomplete"),
    ];
    let end = Instant::now() + PATIENCE;
    loop {
        let decisions = stack.audit_lines_of("decision");
        let mut seen: Vec<(String, String)> = decisions
            .iter()
            .map(|line| {
                let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
                (text("verdict"), text("reason"))
            })
            .collect();
        seen.retain(|(verdict, _)| !verdict.is_empty());
        let all = wanted
            .iter()
            .all(|(verdict, reason)| seen.contains(&((*verdict).into(), (*reason).into())));
        if all && seen.len() == wanted.len() {
            break;
        }
        assert!(Instant::now() < end, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let counted = stack.envoy_stats("tensorgate_requests").await;
    for (verdict, reason) in wanted {
        let lines: Vec<_> = counted
            .lines()
            .filter(|line| {
                line.contains(&format!("verdict={verdict};"))
                    && line.contains(&format!("reason={reason};"))
            })
            .collect();
        assert_eq!(lines.len(), 1, "{counted}");
        // Requests that `up` sent itself are counted like any other.
        let own = stack.audit_lines(|line| {
            let same_reason = verdict == "allow" || line["reason"] == reason;
            line["path"] == OWN_PATH && line["verdict"] == verdict && same_reason
        });
        let expected = 1 + own.len();
        assert!(lines[0].ends_with(&format!(": {expected}")), "{counted}");
    }
}
