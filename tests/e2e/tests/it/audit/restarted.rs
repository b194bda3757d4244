//! The host and Envoy are killed under a light load, and `up` starts them again.

use std::time::Instant;

use super::*;

/// The longest time from the line of `up` to the next answer with a result.
const SERVES_WITHIN: Duration = Duration::from_secs(1);

/// What a client got: when it asked, and the answer.
struct Answer {
    at: Instant,
    status: Option<u16>,
    id: String,
    reason: Option<String>,
}

/// Sends one request after another until it is stopped.
async fn client(gate: std::net::SocketAddr, stop: Arc<AtomicBool>) -> Vec<Answer> {
    let mut all = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let at = Instant::now();
        all.push(match ask::good(gate, &[]).await {
            Ok(reply) => Answer {
                at,
                status: Some(reply.status),
                id: reply.header("x-request-id").unwrap_or_default(),
                reason: reply.reason(),
            },
            Err(_) => Answer {
                at,
                status: None,
                id: String::new(),
                reason: None,
            },
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_processes_serve_again_at_once_and_no_answer_lacks_its_line() {
    let mut stack = Stack::start("audit-restarts", policy::vectors_policy("main.json")).await;
    let gate = stack.gate;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|_| tokio::spawn(client(gate, Arc::clone(&stop))))
        .collect();
    let mut restarts = Vec::new();
    for process in ["host", "Envoy"] {
        let decided = stack.audit_lines_of("decision").len();
        met("requests are answered", || {
            stack.audit_lines_of("decision").len() >= decided + BEFORE_AND_AFTER
        })
        .await;
        let killed = Instant::now();
        let line = stack.crash(process).await;
        assert!(line["took_ms"].is_u64(), "{line}");
        restarts.push((process, killed, Instant::now()));
    }
    let decided = stack.audit_lines_of("decision").len();
    met("requests are answered again", || {
        stack.audit_lines_of("decision").len() >= decided + BEFORE_AND_AFTER
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.unwrap());
    }
    for (process, killed, again) in &restarts {
        let first = all
            .iter()
            .filter(|it| it.at >= *again && it.status == Some(200));
        let first = first.map(|it| it.at.duration_since(*again)).min();
        let first = first.unwrap_or(PATIENCE);
        assert!(
            first < SERVES_WITHIN,
            "{process}: {first:?} after its restart"
        );
        // The table of the page about `up` as a service.
        for it in all.iter().filter(|it| it.at >= *killed && it.at < *again) {
            let is_unavailable =
                it.status == Some(503) && it.reason.as_deref() == Some("backend-unavailable");
            let expected = it.status == Some(200)
                || match *process {
                    "host" => is_unavailable,
                    _ => it.status.is_none(),
                };
            assert!(expected, "{process}: {:?} {:?}", it.status, it.reason);
        }
    }
    let lines = || {
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        for line in stack.audit_lines_of("decision") {
            if let Some(id) = line["request_id"].as_str() {
                *lines.entry(id.to_owned()).or_default() += 1;
            }
        }
        lines
    };
    let answered: Vec<_> = all.iter().filter(|it| it.status == Some(200)).collect();
    met("each answer has one line", || {
        let lines = lines();
        answered.iter().all(|it| lines.get(&it.id) == Some(&1))
    })
    .await;
    let (code, printed) = verified(&stack).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(stack.stop().await.success());
}
